# SPDX-License-Identifier: Apache-2.0
"""The result of a finished job: the video that a task passes to the next one, or the error of a failed job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_kling.exceptions import (
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingValidationError,
    Problem,
)
from airflow_provider_kling.utils.coerce import FOUND_NOTHING, is_nothing, parse_literal
from airflow_provider_kling.utils.text import as_mapping

if TYPE_CHECKING:
    from airflow_provider_kling.api.job import VideoJob


class KlingVideo(TypedDict):
    """
    A finished video, as plain JSON; the result of a task that waits for one.

    - ``kling_task_id``: Kling's id of the job.
    - ``model``: The model, if the server reports it.
    - ``status``, ``raw_status``: ``completed``, and the server's own word for it.
    - ``progress``: 0 to 100, if reported.
    - ``video_url``: The URL of the video; it expires (after 24 hours to 30 days, by vendor).
    - ``created_at``, ``completed_at``: ISO 8601 in UTC, if reported.
    - ``error``, ``error_code``: None; a failed job raises.
    - ``billed``: What was deducted by unit, if reported: ``{"units": 3.0}``, or ``{"USD": 0.42}``.
    - ``estimated_cost``, ``currency``: The estimated cost, if the task that submitted it waited and the connection
      has a price for it.
    - ``is_watermarked``: Whether the video is to be had with the vendor's watermark only.
    """

    kling_task_id: str
    model: str | None
    status: str
    raw_status: str
    progress: int | None
    video_url: str
    created_at: str | None
    completed_at: str | None
    error: str | None
    error_code: str | None
    billed: dict[str, float] | None
    estimated_cost: float | None
    currency: str | None
    is_watermarked: bool


def finished_video(job: VideoJob) -> KlingVideo | None:
    """
    Return the video of a job that is finished: completed, with a URL. None if it is not finished yet.

    :raises KlingError: if the generation failed. Content is refused again, so that error is permanent.
    """
    if job.status == "failed":
        raise generation_error(job)
    if job.status != "completed" or job.video_url is None:
        return None
    return KlingVideo(
        kling_task_id=job.kling_task_id,
        model=job.model,
        status=job.status,
        raw_status=job.raw_status,
        progress=job.progress,
        video_url=job.video_url,
        created_at=job.created_at,
        completed_at=job.completed_at,
        error=job.error,
        error_code=job.error_code,
        billed=None if job.billed is None else dict(job.billed),
        estimated_cost=None,
        currency=None,
        is_watermarked=job.is_watermarked,
    )


def generation_error(job: VideoJob) -> KlingError:
    """Return the error of a job that failed."""
    if job.is_gone:
        return KlingGenerationFailedError(
            f"Kling task {job.kling_task_id} is {job.raw_status}: the vendor no longer keeps it",
            kling_task_id=job.kling_task_id,
            code=job.error_code,
            server_message=job.error or job.excerpt,
        )
    kind = KlingContentRefusedError if job.content_refused else KlingGenerationFailedError
    return kind(
        f"Kling task {job.kling_task_id} ended as {job.raw_status or job.status}"
        + ("" if job.error else ", and the server gives no reason"),
        kling_task_id=job.kling_task_id,
        code=job.error_code,
        # Without a reason, the beginning of the whole response: a person may find the cause in it.
        server_message=job.error or job.excerpt,
    )


def task_reference(value: Any) -> tuple[str, str | None]:
    """
    Return the Kling task id, and the video URL if it is known, from the value that one task passes to the next.

    :param value: A Kling task id, a :class:`KlingVideo`, or the text of one from a rendered template.
    :raises KlingValidationError: if it is none of these.
    """
    found = value.strip() if isinstance(value, str) else value
    if isinstance(found, str) and found.startswith(("{", "[")):
        found = as_mapping(parse_literal(found))
    task, url = (
        (found.get("kling_task_id"), found.get("video_url")) if isinstance(found, Mapping) else (found, None)
    )
    if isinstance(task, int) and not isinstance(task, bool):
        task = str(task)  # a template that renders to Python values turns an id of digits into a number
    if not isinstance(task, str) or not task.strip() or is_nothing(task):
        hint = f"; {FOUND_NOTHING}" if is_nothing(value) or isinstance(task, str) else ""
        problem = Problem("the Kling task", value, f"must be a task id or a finished video{hint}")
        raise KlingValidationError(str(problem), advice="Nothing was requested; correct the argument.")
    return task.strip(), url if isinstance(url, str) and url and not is_nothing(url) else None
