# SPDX-License-Identifier: Apache-2.0
"""
Values of XComs, which any DAG author can write: of any type and size.

Each function returns None for what does not have the expected form.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_kling.utils.signed_urls import mask_signatures
from airflow_provider_kling.utils.text import clean_text

#: Maximum length of a prompt, of another text, of a name or an id, and of a URL.
MAX_PROMPT, MAX_TEXT, MAX_NAME, MAX_URL = 5_000, 2_000, 250, 4_096
_LATEST = 32_503_680_000.0  # the year 3000
#: Characters that turn the direction of a text, or break its lines.
_UNSEEN = re.compile(r"[\x80-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def text_in(value: Any, limit: int) -> str | None:
    """Return a text without control characters and credentials, cut; None for what is no text."""
    if not isinstance(value, str):
        return None
    # Dropped rather than replaced: a character in its place would hide a signature from the masking.
    text = mask_signatures(_UNSEEN.sub("", clean_text(value[: 2 * limit]))).strip()
    return (text if len(text) <= limit else text[: limit - 1] + "…") or None


def name_in(value: Any, limit: int = MAX_NAME) -> str | None:
    """Return a text of one line that is short enough to be a name or an id; None for anything else."""
    text = text_in(value, limit) if isinstance(value, str) and len(value) <= limit else None
    return " ".join(text.split()) if text else None


def number_in(value: Any, low: float, high: float) -> float | None:
    """Return a number within limits; None for anything else. A duration may be a text of digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(value) if low <= value <= high else None


def moment_in(value: Any) -> float | None:
    return number_in(value, 1, _LATEST)


def iso_moment_in(value: Any) -> float | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        return moment_in(datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def url_in(value: Any) -> str | None:
    """Return a URL that a browser may load a video from; None for anything else."""
    if not isinstance(value, str) or len(value) > MAX_URL or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None
    except ValueError:
        return None
    return value if is_good and "\\" not in value else None
