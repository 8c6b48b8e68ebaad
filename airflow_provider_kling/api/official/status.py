# SPDX-License-Identifier: Apache-2.0
"""
Read the state of jobs, in the shape of either standard.

The shapes of the platform are read directly, since a triggerer reads thousands of them. Whatever else a server
responds is read by :mod:`airflow_provider_kling.api.reading.status`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.instants import parse_instant
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.official.billing import billed
from airflow_provider_kling.api.official.envelope import client_token_in, data_of, job_id_in
from airflow_provider_kling.api.official.routes import is_one_id, not_an_id
from airflow_provider_kling.api.reading import status as any_status
from airflow_provider_kling.api.reading.errors import error_of
from airflow_provider_kling.api.reading.job_object import status_word_in
from airflow_provider_kling.api.reading.reason import Reason, body_excerpt, failure_reason
from airflow_provider_kling.api.reading.status_words import is_gone, status_of
from airflow_provider_kling.api.reading.video_url import MAX_URL, video_url
from airflow_provider_kling.exceptions import (
    KlingError,
    KlingNotFoundError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.utils.text import as_mapping, as_text, clean_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_kling.api.job import Status
    from airflow_provider_kling.api.response import Response

#: Videos of one job that are looked at.
_MAX_VIDEOS = 20


def read_status(response: Response, kling_task_ids: Sequence[str]) -> dict[str, VideoJob | KlingError]:
    """
    Return the state of each job, or the error that concerns only this job.

    :raises KlingError: if the response is an error for all of them.
    """
    data = data_of(response)
    if isinstance(data, list):
        return _read_list(data, kling_task_ids)
    if len(kling_task_ids) > 1:
        raise _error_of_several(response, kling_task_ids)
    [kling_task_id] = kling_task_ids
    if isinstance(data, dict) and job_id_in(data) == kling_task_id and status_word_in(data):
        return {kling_task_id: job_of(kling_task_id, data)}
    return {kling_task_id: any_status.read_status(response, kling_task_id)}


def _read_list(entries: list[Any], kling_task_ids: Sequence[str]) -> dict[str, VideoJob | KlingError]:
    by_id: dict[str | None, Mapping[str, Any]] = {}
    for entry in map(as_mapping, entries):
        kling_task_id = job_id_in(entry)
        if kling_task_id not in by_id or _has_failed(by_id[kling_task_id]):
            by_id[kling_task_id] = entry
    # A list of anything else than what was asked for does not show that a job is missing.
    is_what_was_asked = by_id.keys() <= set(kling_task_ids)
    found: dict[str, VideoJob | KlingError] = {}
    for kling_task_id in kling_task_ids:
        entry = by_id.get(kling_task_id, {})
        if status_word_in(entry):
            found[kling_task_id] = job_of(kling_task_id, entry)
        elif entry or (is_one_id(kling_task_id) and not is_what_was_asked):
            found[kling_task_id] = _unreadable(kling_task_id, entry or entries)
        elif is_one_id(kling_task_id):
            found[kling_task_id] = KlingNotFoundError(
                f"The server does not know Kling task {kling_task_id}",
                kling_task_id=kling_task_id,
                http_status=200,
            )
        else:
            found[kling_task_id] = not_an_id(kling_task_id)
    return found


def _has_failed(entry: Mapping[str, Any]) -> bool:
    return status_of(status_word_in(entry) or "") in (None, "failed")


def _unreadable(kling_task_id: str, content: Any) -> KlingServerError:
    return KlingServerError(
        f"The response to the status request does not show the status of Kling task {kling_task_id}",
        kling_task_id=kling_task_id,
        http_status=200,
        server_message=body_excerpt(content),
    )


def _error_of_several(response: Response, kling_task_ids: Sequence[str]) -> KlingError:
    """Return the error for a request about several jobs: it shows of none that it does not exist."""
    message = f"The server refused the status request for {len(kling_task_ids)} Kling tasks"
    error = error_of(response, message, kling_task_ids[0]).replace(kling_task_id=None)
    if isinstance(error, (KlingNotFoundError, KlingValidationError)):
        return KlingServerError(**{"message": error.message, **error.details(), "advice": None})
    return error


def job_of(kling_task_id: str, fields: Mapping[str, Any], word: str | None = None) -> VideoJob:
    """
    Return the job that an object of either standard describes.

    :param kling_task_id: Its id.
    :param fields: The object.
    :param word: The word for its status; that of the object by default.
    """
    word = clean_text(word or status_word_in(fields) or "")[:80]
    known = status_of(word)
    job = VideoJob(
        kling_task_id=kling_task_id,
        status=known or "running",
        raw_status=word,
        is_known_status=known is not None,
        model=as_text(fields.get("model_name")) or as_text(fields.get("model")),
        client_token=client_token_in(fields),
    )
    if known in ("queued", "running"):
        return job
    return _ended(job, known, fields)


def _ended(job: VideoJob, known: Status | None, fields: Mapping[str, Any]) -> VideoJob:
    """Return a job with what the platform reports at its end; one with an unknown word may have ended."""
    url, is_watermarked = (None, False) if known == "failed" else _video_in(fields, job.kling_task_id)
    if known is None:
        # Outputs come with the end, so the wait for a word that is known need not last.
        return replace(job, video_url=url, is_watermarked=is_watermarked, progress=100 if url else None)
    reason = failure_reason(fields) if known == "failed" else Reason(None, None, is_refusal=False)
    is_unexplained = (reason.message if known == "failed" else url) is None
    return replace(
        job,
        video_url=url,
        is_watermarked=is_watermarked,
        created_at=_instant(fields, "created_at", "create_time"),
        completed_at=_instant(fields, "updated_at", "update_time"),
        error=reason.message,
        error_code=reason.code,
        content_refused=reason.is_refusal,
        is_gone=is_gone(job.raw_status),
        billed=billed(fields),
        excerpt=body_excerpt(fields) if is_unexplained else None,
    )


def _video_in(fields: Mapping[str, Any], kling_task_id: str) -> tuple[str | None, bool]:
    """Return the URL of the video, and whether it is the copy with a watermark."""
    outputs = fields.get("outputs", as_mapping(fields.get("task_result")).get("videos"))
    listed = outputs[:_MAX_VIDEOS] if isinstance(outputs, list) else []
    videos = [video for video in map(as_mapping, listed) if video.get("type", "video") == "video"]
    for name in ("url", "watermark_url"):
        url = next(filter(_is_url, (video.get(name) for video in videos)), None)
        if url is not None:
            return url, name == "watermark_url"
    url = video_url(fields, kling_task_id=kling_task_id)
    return url, url is not None and url in [video.get("watermark_url") for video in videos]


def _is_url(value: Any) -> bool:
    return (
        isinstance(value, str)
        and value.startswith(("https://", "http://"))
        and len(value) <= MAX_URL
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def _instant(fields: Mapping[str, Any], *names: str) -> str | None:
    moments = (parse_instant(fields.get(name)) for name in names)
    return next((moment.isoformat(timespec="seconds") for moment in moments if moment), None)
