# SPDX-License-Identifier: Apache-2.0
"""What one task hands to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_kling.exceptions import (
    KlingValidationError,
    Problem,
)
from airflow_provider_kling.utils.coerce import FOUND_NOTHING, is_nothing, value_in
from airflow_provider_kling.utils.text import as_mapping


def task_reference(value: Any) -> tuple[str, str | None]:
    """
    Return the task id, and the video URL where it is known, from what a task hands to the next one.

    :param value: A task id, a finished video, or the text that a template renders of one.
    :raises KlingValidationError: if it is none of these.
    """
    found = value.strip() if isinstance(value, str) else value
    if isinstance(found, str) and found.startswith(("{", "[")):
        found = as_mapping(value_in(found))
    task_id, url = (found.get("task_id"), found.get("video_url")) if isinstance(found, Mapping) else (found, None)
    if isinstance(task_id, int) and not isinstance(task_id, bool):
        task_id = str(task_id)  # a template that renders to Python values makes a number of an id of digits
    if not isinstance(task_id, str) or not task_id.strip() or is_nothing(task_id):
        hint = f"; {FOUND_NOTHING}" if is_nothing(value) or isinstance(task_id, str) else ""
        problem = Problem("the Kling task", value, f"must be a task id or a finished video{hint}")
        raise KlingValidationError(str(problem), advice="Nothing was requested; correct the argument.")
    return task_id.strip(), url if isinstance(url, str) and url and not is_nothing(url) else None
