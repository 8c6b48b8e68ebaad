# SPDX-License-Identifier: Apache-2.0
"""The map index in the path of a page."""

from __future__ import annotations

from fastapi import HTTPException


def map_index_of(text: str) -> int:
    """
    Return the map index that a path names, -1 for a task that is not mapped.

    :raises HTTPException: with 404, if it is none.
    """
    # Airflow's UI leaves the placeholder as it is where a task is not mapped.
    if text == "{MAP_INDEX}":
        return -1
    try:
        index = int(text)
    except ValueError:
        index = -2
    if not -1 <= index < 2**31:
        raise HTTPException(404, "There is no such task instance.")
    return index
