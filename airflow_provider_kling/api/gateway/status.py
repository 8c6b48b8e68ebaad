# SPDX-License-Identifier: Apache-2.0
"""What a status response says of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_kling.api.codes import is_content_refusal, official_code
from airflow_provider_kling.api.gateway.errors import (
    error_of,
    find_error,
    is_success_code,
)
from airflow_provider_kling.api.gateway.status_words import status_of
from airflow_provider_kling.api.instants import parse_instant
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.exceptions import (
    KlingServerError,
)
from airflow_provider_kling.utils.coerce import parse_number
from airflow_provider_kling.utils.text import as_mapping, as_text, clean_text, excerpt, innermost_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.api.response import Response

#: Characters of a video's URL, signature included.
MAX_URL = 8192


def read_status(response: Response, kling_task_id: str) -> VideoJob:
    """
    Return the state of a job, under the id it was asked by.

    :raises KlingError: what an error response means, by name.
    """
    body = accepted_body(response, kling_task_id=kling_task_id)
    word = status_word_in(body)
    if word is None:
        if (error := find_error(body)) is not None:
            raise error_of(
                response,
                f"The server refused to tell the status of Kling task {kling_task_id}",
                kling_task_id,
                body=error,
            )
        raise KlingServerError(
            f"The server's status response for Kling task {kling_task_id} holds no status",
            kling_task_id=kling_task_id,
            http_status=response.http_status,
            server_message=excerpt(response.body),
        )
    return job_from(kling_task_id, body, word)


def accepted_body(response: Response, kling_task_id: str | None) -> Mapping[str, Any]:
    """Return the JSON object of a 2xx response, unwrapped; anything else is an error by name."""
    asked = "The submit" if kling_task_id is None else f"Asking for Kling task {kling_task_id}"
    if not 200 <= response.http_status < 300:
        raise error_of(response, f"{asked} was refused", kling_task_id)
    body = response.json
    if not isinstance(body, dict):
        raise KlingServerError(
            f"{asked} was answered with something that is not a JSON object",
            kling_task_id=kling_task_id,
            http_status=response.http_status,
            server_message=excerpt(response.body),
            advice="Check that the connection's host is the API itself.",
        )
    data = body.get("data")
    if isinstance(data, dict) and (status_word_in(data) or task_id_in(data)):
        return data
    if isinstance(data, str) and data and "status" not in body and is_success_code(body.get("code")):
        return {"task_id": data}
    return body


def status_word_in(body: Mapping[str, Any]) -> str | None:
    for name in ("status", "task_status"):
        word = body.get(name)
        if word and isinstance(word, str):
            return word
    return None


def task_id_in(body: Mapping[str, Any]) -> str | None:
    for name in ("task_id", "id"):
        value = body.get(name)
        if isinstance(value, str) and clean_text(value):
            return clean_text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def job_from(kling_task_id: str, body: Mapping[str, Any], word: str) -> VideoJob:
    word = clean_text(word)[:80]
    known = status_of(word)
    status = known or "running"
    ended = status in ("completed", "failed")
    code, message = _failure_reason(body) if status == "failed" else (None, None)
    return VideoJob(
        kling_task_id=kling_task_id,
        status=status,
        raw_status=word,
        is_known_status=known is not None,
        progress=_progress(body.get("progress")),
        model=as_text(body.get("model")) or as_text(body.get("model_name")),
        # One check in many finds a job that has ended; the others need not look for what nobody reads.
        video_url=_video_url(body) if status == "completed" else None,
        created_at=_instant(body, "created_at", "submit_time") if ended else None,
        completed_at=_instant(body, "completed_at", "finish_time", "finished_at") if ended else None,
        error=message,
        error_code=code,
        content_refused=status == "failed" and is_content_refusal(code, message),
    )


def _video_url(body: Mapping[str, Any]) -> str | None:
    """Look in every place where servers of this family put the URL, the documented one first."""
    metadata, data, result = (as_mapping(body.get(name)) for name in ("metadata", "data", "task_result"))
    places = [
        body.get("video_url"),
        body.get("url"),
        metadata.get("url"),
        metadata.get("video_url"),
        body.get("output_url"),
    ]
    places += [body.get("result_url"), data.get("result_url"), data.get("video_url")]
    for holder in (result, as_mapping(data.get("task_result"))):
        videos = holder.get("videos")
        places += [as_mapping(video).get("url") for video in videos[:1]] if isinstance(videos, list) else []
    return next(
        (clean_text(place) for place in places if isinstance(place, str) and _is_web_address(clean_text(place))),
        None,
    )


def _is_web_address(text: str) -> bool:
    """Return whether a text may be the URL of a file on the web, or a path on the server itself."""
    try:
        return 0 < len(text) <= MAX_URL and urlsplit(text).scheme in ("", "http", "https")
    except ValueError:
        return False


def _failure_reason(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    error = body.get("error")
    told = as_mapping(error)
    candidates = (
        told.get("message"),
        error,
        *(body.get(n) for n in ("fail_reason", "task_status_msg", "message")),
    )
    raw = next((text for text in candidates if isinstance(text, str) and text.strip()), None)
    if raw is None:
        return as_text(told.get("code")), None
    return official_code(raw) or as_text(told.get("code")), innermost_message(raw)


def _progress(value: Any) -> int | None:
    number = parse_number(value.strip().rstrip("%") if isinstance(value, str) else value)
    return None if number is None else int(min(max(number, 0), 100))


def _instant(body: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these times that is one, as ISO 8601 in UTC."""
    moments = (parse_instant(body.get(name)) for name in names)
    return next((moment.isoformat(timespec="seconds") for moment in moments if moment), None)
