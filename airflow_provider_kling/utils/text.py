# SPDX-License-Identifier: Apache-2.0
"""Readable text from responses of servers."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Maximum characters of an error's message that are parsed; the important part comes first.
MAX_MESSAGE = 8192
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def nested_objects(message: str) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects inside a message string; gateways put the upstream's raw body there."""
    return iter(_nested_objects(message[:MAX_MESSAGE])) if "{" in message else iter(())


@lru_cache(maxsize=4)  # one response has its message searched for its code, its words and its objects
def _nested_objects(message: str) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    end = 0
    # A hostile message must not cause quadratic work.
    characters_left = 2 * MAX_MESSAGE
    for _ in range(20):
        start = message.find("{", end)
        if start == -1 or characters_left <= 0:
            break
        try:
            value, end = json.JSONDecoder().raw_decode(message, start)
        except (ValueError, RecursionError) as error:
            characters_left -= getattr(error, "pos", len(message)) - start
            end = start + 1
        else:
            found.append(value)
    return tuple(found)


def innermost_message(message: str) -> str:
    """Return the innermost readable message: the upstream's own message rather than the JSON around it."""
    for nested in nested_objects(message):
        inner = nested.get("message") or as_mapping(nested.get("error")).get("message")
        if isinstance(inner, str) and inner.strip():
            return innermost_message(inner)
    return shorten(message)


def excerpt(body: bytes) -> str | None:
    """Return the start of a body that is not a JSON error as readable text: an HTML page without its tags."""
    text = body[:4000].decode("utf-8", errors="replace")
    # Each alternative matches, or fails at the next "<": a page that consists of "<" takes no quadratic time.
    text = re.sub(r"(?is)<(script|style)\b.*?(?:</\1>|\Z)|<[^<>]*>", " ", text)
    return shorten(text) or None


def shorten(text: str, most: int = 500) -> str:
    """Return a text for a message: on one line, without signatures, and shortened if it is long."""
    text = mask_signatures(" ".join(clean_text(text[:MAX_MESSAGE]).split()))
    return text if len(text) <= most else text[: most - 1] + "…"


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a dict unchanged; an empty mapping for any other value."""
    return value if isinstance(value, dict) else {}


def as_text(value: Any) -> str | None:
    """Return a string or an integer as clean text of at most 200 characters; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return clean_text(str(value))[:200] or None


def clean_text(text: str) -> str:
    """Return a text without the characters that logs and databases reject: lone surrogates and controls."""
    if text.isascii() and text.isprintable():
        return text.strip()
    # Dropped rather than replaced: a character in its place would hide a secret from the masking.
    return _CONTROLS.sub("", text).encode("utf-8", errors="ignore").decode().strip()
