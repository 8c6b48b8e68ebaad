# SPDX-License-Identifier: Apache-2.0
"""What makes two submits the same request."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.utils.signed_urls import without_signature

if TYPE_CHECKING:
    from airflow_provider_kling.api.request import VideoRequest

#: Keys of texts for the model. A URL in one of them is text: the server downloads nothing from it.
_TEXTS = frozenset({"prompt", "negative_prompt"})


def fingerprint_of(request: VideoRequest, *, conn_id: str, base_url: str, take: int = 1) -> str:
    """
    Return what makes two submits the same purchase: the request, the server, and which take of it.

    It is of the request's own fields rather than of the JSON to send, so that another layout of the API buys
    nothing anew. The signature of a media URL is left out, since each attempt of a task may presign it again; so
    is the API key, which may be replaced. All else counts.
    """
    given = {name: value for name, value in request._asdict().items() if value is not None and value != {}}
    # By way of JSON: a copy of plain lists and dicts, with the keys that JSON makes of them.
    fields = json.loads(json.dumps(given), parse_float=_number)
    _unsign(fields)
    purchase = {"request": fields, "conn_id": conn_id, "base_url": base_url, "take": take}
    return hashlib.sha256(json.dumps(purchase, sort_keys=True).encode()).hexdigest()[:32]


def _unsign(fields: dict[str, Any]) -> None:
    """Take the signature out of every URL in these fields, however deep it is nested."""
    left: list[dict[str, Any] | list[Any]] = [fields]
    while left:
        holder: Any = left.pop()
        for key, value in holder.items() if isinstance(holder, dict) else enumerate(holder):
            if isinstance(value, (dict, list)):
                left.append(value)
            elif isinstance(value, str) and key not in _TEXTS:
                holder[key] = without_signature(value)


def _number(text: str) -> int | float:
    """Return a number in the one form that all its spellings share: 5 for 5.0."""
    number = float(text)
    return int(number) if number.is_integer() else number
