# SPDX-License-Identifier: Apache-2.0
"""Numbers and literals in what templates render."""

from __future__ import annotations

import ast
import json
from typing import Any

#: What a template renders that found nothing: Python's, JSON's and JavaScript's word for it.
_NOTHING = ("None", "null", "undefined")


FOUND_NOTHING = "its template found nothing; check the names in it, such as the task_ids of an xcom_pull"


def is_nothing(value: Any) -> bool:
    """Return whether a value is what a template becomes that finds nothing."""
    return value is None or (isinstance(value, str) and value.strip() in _NOTHING)


def parse_number(value: Any) -> float | None:
    """Return a finite number from a number or its spelling."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e18 else None


def parse_literal(text: str) -> Any:
    """
    Return the value that a text spells, or the text itself.

    A template that renders a list or a dict spells it as JSON (``tojson``) or, by default, as Python.
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text
