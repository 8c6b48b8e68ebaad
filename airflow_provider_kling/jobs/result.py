# SPDX-License-Identifier: Apache-2.0
"""The result of a finished job: the video that a task passes to the next one, or the error of a failed job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict, cast

from airflow_provider_kling.exceptions import (
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingValidationError,
    Problem,
)
from airflow_provider_kling.utils.coerce import FOUND_NOTHING, is_nothing, parse_literal
from airflow_provider_kling.utils.signed_urls import mask_signatures, without_signature
from airflow_provider_kling.utils.text import as_mapping

if TYPE_CHECKING:
    from airflow_provider_kling.api.job import VideoJob

#: Maximum length of a text that is shown although it may be base64: a word is that as well.
MAX_SHOWN_BASE64 = 256
_BASE64 = re.compile(r"(?:data:[\w/+.;-]*,)?[A-Za-z0-9+/\s_-]+={0,2}\s*")
#: Fields that are prompts, under the names of all APIs. Many words without a comma look like base64.
_PROMPTS = frozenset({"prompt", "negative_prompt", "text"})


class KlingVideo(TypedDict):
    """
    A finished video, as plain JSON; the result of a task that waits for one, or stores one.

    Every key is there, and None where its value is not known.

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
    - ``request``: The request as it was sent, without signatures of URLs and without the bytes of images; with
      ``[kling] show_prompts = false`` it has the hash of each prompt.
    - ``tags``: The task's own tags.

    Known of a file that was stored, and read from the file itself:

    - ``path``: Where it was stored.
    - ``size_bytes``, ``sha256``: Its size, and the SHA-256 of its content in hexadecimal digits.
    - ``seconds``, ``width``, ``height``, ``fps``: Its length, its size in pixels, its frames per second.
    - ``video_codec``, ``has_audio``, ``audio_codec``: Its tracks, as FFmpeg names them.
    - ``last_frame_path``: Where its last frame was stored.
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
    request: dict[str, Any] | None
    tags: dict[str, Any] | None
    path: str | None
    size_bytes: int | None
    sha256: str | None
    seconds: float | None
    width: int | None
    height: int | None
    fps: float | None
    video_codec: str | None
    has_audio: bool | None
    audio_codec: str | None
    last_frame_path: str | None


def finished_video(job: VideoJob) -> KlingVideo | None:
    """
    Return the video of a job that is finished: completed, with a URL. None if it is not finished yet.

    :raises KlingError: if the generation failed. Content is refused again, so that error is permanent.
    """
    if job.status == "failed":
        raise generation_error(job)
    if job.status != "completed" or job.video_url is None:
        return None
    return video_at(job.video_url, job)


def video_at(url: str, job: VideoJob) -> KlingVideo:
    """Return the video of a job that is finished, with this URL."""
    known: dict[str, Any] = {
        "kling_task_id": job.kling_task_id,
        "model": job.model,
        "status": job.status,
        "raw_status": job.raw_status,
        "progress": job.progress,
        "video_url": url,
        "created_at": job.created_at,
        "completed_at": job.completed_at,
        "error": job.error,
        "error_code": job.error_code,
        "billed": None if job.billed is None else dict(job.billed),
        "is_watermarked": job.is_watermarked,
    }
    return complete_video(known)


def complete_video(known: Mapping[str, Any]) -> KlingVideo:
    """Return a video with every key, also if it comes from an event or a task of an earlier version."""
    return cast("KlingVideo", dict.fromkeys(KlingVideo.__annotations__) | {"is_watermarked": False} | dict(known))


def shown_request(body: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a request body as results and files may show it: without signatures and without the bytes of images.

    :param body: The JSON object that is sent.
    """
    return {name: _shown(value, is_prompt=name in _PROMPTS) for name, value in body.items()}


def _shown(value: Any, *, is_prompt: bool = False) -> Any:
    if isinstance(value, Mapping):
        return shown_request(value)
    if isinstance(value, (list, tuple)):
        return [_shown(item) for item in value]
    if not isinstance(value, str):
        return value
    if not is_prompt and len(value) > MAX_SHOWN_BASE64 and _BASE64.fullmatch(value):
        return f"(base64, {len(value)} characters)"
    return mask_signatures(without_signature(value))


def generation_error(job: VideoJob) -> KlingError:
    """Return the error of a job that failed."""
    if job.is_gone:
        return KlingGenerationFailedError(
            f"The job is {job.raw_status}: the vendor no longer keeps it",
            kling_task_id=job.kling_task_id,
            code=job.error_code,
            server_message=job.error or job.excerpt,
        )
    kind = KlingContentRefusedError if job.content_refused else KlingGenerationFailedError
    return kind(
        f"The job ended as {job.raw_status or job.status}"
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
        raise KlingValidationError(str(problem), advice="Nothing was requested. Correct the argument.")
    return task.strip(), url if isinstance(url, str) and url and not is_nothing(url) else None


def given_video(value: Any) -> Mapping[str, Any]:
    """Return the fields of a finished video that one task passes to the next; none if it passes the id alone."""
    return as_mapping(parse_literal(value) if isinstance(value, str) else value)


def prompt_of(request: Any) -> str | None:
    """Return the prompt in the ``request`` of a :class:`KlingVideo`, of the first shot where there are several."""
    found = [as_mapping(request)]
    while found:
        fields = found.pop(0)
        prompt = fields.get("text") if fields.get("type") == "prompt" else fields.get("prompt")
        if isinstance(prompt, str) and prompt.strip():
            return prompt
        for value in fields.values():
            found += [as_mapping(item) for item in (value if isinstance(value, list) else [value])]
    return None
