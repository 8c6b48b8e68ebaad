# SPDX-License-Identifier: Apache-2.0
"""The fingerprint of a request: two submits with the same fingerprint are the same request."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.images import replace_images
from airflow_provider_kling.utils.signed_urls import without_signature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.api.request import VideoRequest

#: Keys of texts for the model. A URL in such a text is not a media URL: the server does not download it.
_TEXTS = frozenset({"prompt", "negative_prompt"})


def fingerprint_of(
    request: VideoRequest,
    *,
    conn_id: str,
    base_url: str,
    take: int = 1,
    image_digests: Mapping[str, str] | None = None,
) -> str:
    """
    Return the fingerprint of a request: of its fields, the server, and the number of the take.

    It covers the request's fields rather than the JSON that is sent, so that a new layout of the API does not buy
    a video again. It leaves out the signature of a media URL, since each attempt may presign the URL again, and
    the API key, which may be replaced. An image in an object storage counts by its content: under another name it
    is the same image, and other content under the same name is another one. Everything else counts.

    :param request: The request.
    :param conn_id: The Airflow connection.
    :param base_url: The base URL of the connection.
    :param take: The number of the take.
    :param image_digests: The SHA-256 of each image in an object storage, by its URI.
    """
    digests = image_digests or {}
    request = replace_images(request, lambda _, uri: f"sha256:{digests[uri]}" if uri in digests else uri)
    given = {name: value for name, value in request._asdict().items() if value is not None and value != {}}
    # Through JSON: a copy of plain lists and dicts, whose keys are the strings that JSON makes of them.
    fields = json.loads(json.dumps(given), parse_float=_number)
    _unsign(fields)
    purchase = {"request": fields, "conn_id": conn_id, "base_url": base_url, "take": take}
    return hashlib.sha256(json.dumps(purchase, sort_keys=True).encode()).hexdigest()[:32]


def _unsign(fields: dict[str, Any]) -> None:
    """Remove the signature from every URL in these fields, at any depth."""
    pending: list[dict[str, Any] | list[Any]] = [fields]
    while pending:
        container: Any = pending.pop()
        for key, value in container.items() if isinstance(container, dict) else enumerate(container):
            if isinstance(value, (dict, list)):
                pending.append(value)
            elif isinstance(value, str) and key not in _TEXTS:
                container[key] = without_signature(value)


def _number(text: str) -> int | float:
    """Return a number in a canonical form: 5 for 5.0."""
    number = float(text)
    return int(number) if number.is_integer() else number
