# SPDX-License-Identifier: Apache-2.0
"""Numbers and literals in rendered templates."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from typing import Any

#: Results of a template that found nothing, in the spelling of Python, JSON and JavaScript.
_NOTHING = ("None", "null", "undefined")


FOUND_NOTHING = "its template found nothing; check the names in it, such as the task_ids of an xcom_pull"


def is_nothing(value: Any) -> bool:
    """Return whether a value is the result of a template that found nothing."""
    return value is None or (isinstance(value, str) and value.strip() in _NOTHING)


def parse_number(value: Any) -> float | None:
    """Return a finite number from a number or its text; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e18 else None


def parse_literal(text: str) -> Any:
    """
    Return the value of a JSON or Python literal, or the text itself if it is neither.

    A template renders a list or a dict as JSON (``tojson``) or, by default, as a Python literal.
    """
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


def with_uris(value: Any) -> Any:
    """Return a value with every ``ObjectStoragePath`` in it, at any level of lists and dicts, as its URI."""
    try:
        return _with_uris(value)
    except RecursionError:
        return value  # too deep for JSON, too, so that it is refused


def _with_uris(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_uris(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_uris, value)) if type(value) in (list, tuple) else value
    # Known by its name: an import of Airflow's class would cost every DAG file time at each parse.
    return str(value) if any(kind.__name__ == "ObjectStoragePath" for kind in type(value).__mro__) else value
