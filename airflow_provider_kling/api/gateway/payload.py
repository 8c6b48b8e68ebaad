# SPDX-License-Identifier: Apache-2.0
"""The JSON body of a submit in the gateways' API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.models import GATEWAY_NAMES, resolve

if TYPE_CHECKING:
    from airflow_provider_kling.api.request import VideoRequest

#: Fields that the API expects inside the nested ``extra_body`` object.
EXTRA_BODY_FIELDS = ("negative_prompt", "cfg_scale", "multi_prompt", "element_list", "shot_type")
_NAMES = {meaning: name for name, meaning in GATEWAY_NAMES.items()}


def model_name(request: VideoRequest) -> str | None:
    """Return the gateways' name for the model, mode and sound of a request; None if they have none."""
    return _NAMES.get(resolve(request.model, request.mode, request.sound))


def nearest_name(request: VideoRequest) -> str:
    """Return the gateways' name for the model that is nearest to that of a request."""
    meaning = resolve(request.model, request.mode, request.sound)
    return _NAMES[meaning._replace(model="kling-v3", mode="std" if meaning.mode == "std" else "pro")]


def payload_of(request: VideoRequest) -> dict[str, Any]:
    """
    Return the JSON body to submit.

    :param request: A request of which :func:`model_name` knows the name.
    """
    given = {name: value for name, value in request._asdict().items() if value is not None}
    given["model"] = _NAMES[resolve(request.model, request.mode, request.sound)]
    for name in ("extra_body", "mode", "sound"):
        given.pop(name, None)
    nested = {name: given.pop(name) for name in EXTRA_BODY_FIELDS if name in given}
    nested = {**request.extra_body, **nested}
    return {**given, "extra_body": nested} if nested else given
