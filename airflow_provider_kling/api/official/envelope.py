# SPDX-License-Identifier: Apache-2.0
"""The envelope of the platform's responses: ``{"code", "message", "request_id", "data"}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.codes import kind_of_code
from airflow_provider_kling.api.reading.job_object import task_id_in
from airflow_provider_kling.utils.text import as_mapping, as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.api.response import Response


def data_of(response: Response) -> Any:
    """Return the data of a success, None for any other response."""
    body = response.json
    if response.http_status != 200 or not isinstance(body, dict):
        return None
    code = body.get("code")
    return body.get("data") if (code == 0 and code is not False) or code == "0" else None


def error_code(response: Response) -> str | None:
    """Return the official code of an error in the platform's envelope, None for any other response."""
    body = response.json
    if not isinstance(body, dict) or not isinstance(body.get("message"), str):
        return None
    code = as_text(body.get("code"))
    is_official = code is not None and code.isdecimal() and len(code) == 4 and kind_of_code(code) is not None
    # An error has no data; beside some, it may be about a task that was made.
    return code if is_official and not body.get("data") else None


def request_id_in(response: Response) -> str | None:
    """Return the platform's id of an exchange."""
    return (as_text(as_mapping(response.json).get("request_id")) or "")[:100] or None


def job_id_in(data: Mapping[str, Any]) -> str | None:
    """Return the id of the task that an object of either standard describes."""
    return task_id_in({"task_id": data.get("task_id"), "id": data.get("id")})


def client_token_in(data: Mapping[str, Any]) -> str | None:
    """Return the client token that an object of either standard repeats."""
    return as_text(as_mapping(data.get("task_info")).get("external_task_id")) or as_text(data.get("external_id"))
