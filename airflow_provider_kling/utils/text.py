# SPDX-License-Identifier: Apache-2.0
"""Readable text out of what servers send."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Characters of an error's message that are looked at; what a person has to know comes first.
MAX_MESSAGE = 8192


_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def nested_objects(message: str) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects that a message string carries; gateways put the upstream's raw body there."""
    message = message[:MAX_MESSAGE]
    end = 0
    for _ in range(20):  # a hostile message must not buy itself quadratic work
        start = message.find("{", end)
        if start == -1:
            return
        try:
            value, end = json.JSONDecoder().raw_decode(message, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value


def innermost_message(message: str) -> str:
    """Return the innermost readable message: the upstream's own words rather than the JSON around them."""
    for nested in nested_objects(message):
        inner = nested.get("message") or as_mapping(nested.get("error")).get("message")
        if isinstance(inner, str) and inner.strip():
            return innermost_message(inner)
    return shorten(message)


def excerpt(body: bytes) -> str | None:
    """Return the start of a body that is no JSON error, readable: an HTML page's words without its tags."""
    text = body[:4000].decode("utf-8", errors="replace")
    text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    return shorten(text) or None


def shorten(text: str, most: int = 500) -> str:
    """Return a text for a message: on one line, without signatures, and cut where it is long."""
    text = mask_signatures(" ".join(clean_text(text[:MAX_MESSAGE]).split()))
    return text if len(text) <= most else text[: most - 1] + "…"


def as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return clean_text(str(value))[:200] or None


def clean_text(text: str) -> str:
    """Return a text without what no log and no database takes: halves of a letter, and control characters."""
    if text.isascii() and text.isprintable():
        return text.strip()
    return _CONTROLS.sub("", text).encode("utf-8", errors="replace").decode().strip()
