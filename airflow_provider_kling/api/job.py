# SPDX-License-Identifier: Apache-2.0
"""One video job, in one form for every API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Status = Literal["queued", "running", "completed", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoJob:
    """
    The data of one job in a response.

    :param kling_task_id: The id for status requests: that of the submit response, whatever a status response
        contains.
    :param other_id: Another id of the job in the response; the server may know the job only by that one.
    :param status: ``queued``, ``running``, ``completed`` or ``failed``.
    :param raw_status: The server's own word for it.
    :param is_known_status: Whether the API object knows that word. A job with an unknown one counts as running.
    :param progress: 0 to 100, or None. Never decides the outcome: failed jobs show 100 too.
    :param video_url: URL of the video; it expires (after 24 hours to 30 days, by vendor). A job with an unknown
        status word may have one, and still counts as running.
    :param content_url: URL at which the API serves the file of a completed job without a URL; it needs the key.
    :param model: The model, if reported.
    :param created_at: ISO 8601 in UTC, of a job that has ended, if reported.
    :param completed_at: ISO 8601 in UTC, if reported.
    :param has_id: Whether the response held the id that was asked for; one without may be about the request alone.
    :param error: The reason of a failure, if reported.
    :param error_code: The server's code for it, if reported.
    :param content_refused: Whether the reason is the content policy, so that the same request would fail again.
    :param is_gone: Whether the job was finished and is no longer stored: its generation did not fail.
    :param route: The status route on which the server has the job, if it is known.
    :param client_token: The client token of its submit, if the response repeats it.
    :param billed: What was deducted by unit, if reported: ``{"units": 3.0}``, or ``{"USD": 0.42}``.
    :param is_watermarked: Whether the video is to be had with the vendor's watermark only.
    :param excerpt: The beginning of a response that has no reason for a failure, or no URL of a video.
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
    route: str | None = None
    client_token: str | None = None
    billed: Mapping[str, float] | None = None
    is_watermarked: bool = False
    excerpt: str | None = None
