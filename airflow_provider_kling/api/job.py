# SPDX-License-Identifier: Apache-2.0
"""One video job, in one spelling for every API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["queued", "running", "completed", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoJob:
    """
    What a response says of one job.

    :param kling_task_id: The id to ask with: the one that the submit returned, whatever a status response says.
    :param other_id: Another id by which the response names it; the server may know the job by that one alone.
    :param status: ``queued``, ``running``, ``completed`` or ``failed``.
    :param raw_status: The server's own word for it.
    :param is_known_status: Whether the API object knows that word. A job with an unknown one counts as running.
    :param progress: 0 to 100, or None. Never decides the outcome: failed jobs show 100 too.
    :param video_url: Where the video lies; such links expire (24 hours to 30 days, by vendor). A job whose word is
        unknown may have one, and still counts as running.
    :param content_url: Where the API serves the file of a completed job without a URL; it needs the key.
    :param model: The model, if reported.
    :param created_at: ISO 8601 in UTC, of a job that has ended, if reported.
    :param completed_at: ISO 8601 in UTC, if reported.
    :param has_id: Whether the response held the id that was asked for; one without may be about the request alone.
    :param error: The reason of a failure, if reported.
    :param error_code: The server's code for it, if reported.
    :param content_refused: Whether the reason is the content policy, so that the same request would fail again.
    :param is_gone: Whether it was finished once, and is no longer kept: its generation did not fail.
    :param excerpt: The beginning of the response where it gives no reason of a failure, or no URL of a video.
    """

    kling_task_id: str
    other_id: str | None = None
    status: Status
    raw_status: str = ""
    is_known_status: bool = True
    progress: int | None = None
    video_url: str | None = None
    content_url: str | None = None
    model: str | None = None
    created_at: str | None = None
    completed_at: str | None = None
    has_id: bool = True
    error: str | None = None
    error_code: str | None = None
    content_refused: bool = False
    is_gone: bool = False
    excerpt: str | None = None
