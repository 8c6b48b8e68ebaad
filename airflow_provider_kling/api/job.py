# SPDX-License-Identifier: Apache-2.0
"""One video job, in one spelling for every API."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from airflow_provider_kling.api.codes import is_content_refusal
from airflow_provider_kling.exceptions import (
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
)

WAITING = frozenset({"queued", "pending", "submitted", "not_start", "preparing", "created", "starting", "unknown"})


RUNNING = frozenset({"in_progress", "processing", "running", "generating"})


COMPLETED = frozenset({"completed", "complete", "success", "succeeded", "succeed", "finished"})


FAILED = frozenset({"failed", "failure", "fail", "error", "cancelled", "canceled", "expired"})


STATUS_OF_WORD = {
    **dict.fromkeys(WAITING, "queued"),
    **dict.fromkeys(RUNNING, "running"),
    **dict.fromkeys(COMPLETED, "completed"),
    **dict.fromkeys(FAILED, "failed"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoJob:
    """
    What a server told about one job, in one spelling.

    :param task_id: The id to ask with: the one the submit gave, whatever a status answer says of it.
    :param status: ``queued``, ``running``, ``completed`` or ``failed``.
    :param status_word: The server's own word. One that nobody knows counts as ``running``.
    :param progress: 0 to 100, or None. Never decides the outcome: failed jobs show 100 too.
    :param video_url: Where the video lies; such links expire (24 hours to 30 days, by vendor).
    :param model: The model, where told.
    :param created_at: ISO 8601 in UTC, of a job that has ended, where told.
    :param completed_at: ISO 8601 in UTC, where told.
    :param error: The reason of a failure, where told.
    :param error_code: The server's code for it, where told.
    """

    task_id: str
    status: str
    status_word: str = ""
    progress: int | None = None
    video_url: str | None = None
    model: str | None = None
    created_at: str | None = None
    completed_at: str | None = None
    error: str | None = None
    error_code: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ("completed", "failed")

    @property
    def is_known_word(self) -> bool:
        return self.status_word.lower() in STATUS_OF_WORD

    def as_dict(self) -> dict[str, Any]:
        """Return the job as a plain dict for XCom and trigger events."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def failure(self) -> KlingError:
        """Return the error that a failed job stands for; refused content would be refused again."""
        refused = is_content_refusal(self.error_code, self.error)
        kind = KlingContentRefusedError if refused else KlingGenerationFailedError
        return kind(
            f"Kling task {self.task_id} ended as {self.status_word or self.status}"
            + ("" if self.error else ", and the server gives no reason"),
            task_id=self.task_id,
            code=self.error_code,
            server_message=self.error,
        )
