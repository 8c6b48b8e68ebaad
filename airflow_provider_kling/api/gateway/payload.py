# SPDX-License-Identifier: Apache-2.0
"""The JSON body of a submit in the gateways' API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_kling.api.request import VideoRequest

#: Fields that the API expects inside the nested ``extra_body`` object.
EXTRA_BODY_FIELDS = ("negative_prompt", "cfg_scale", "multi_prompt", "element_list", "shot_type")


def payload_of(request: VideoRequest) -> dict[str, Any]:
    """Return the JSON body to submit."""
    given = {name: value for name, value in request._asdict().items() if value is not None}
    del given["extra_body"]
    nested = {name: given.pop(name) for name in EXTRA_BODY_FIELDS if name in given}
    nested = {**request.extra_body, **nested}
    return {**given, "extra_body": nested} if nested else given
