# SPDX-License-Identifier: Apache-2.0
"""The words by which gateways name the status of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_kling.api.job import Status

WAITING = frozenset({"queued", "pending", "submitted", "not_start", "preparing", "created", "starting", "unknown"})
RUNNING = frozenset({"in_progress", "processing", "running", "generating"})
COMPLETED = frozenset({"completed", "complete", "success", "succeeded", "succeed", "finished"})
FAILED = frozenset({"failed", "failure", "fail", "error", "cancelled", "canceled", "expired"})

_STATUS_OF_WORD: dict[str, Status] = {
    **dict.fromkeys(WAITING, "queued"),
    **dict.fromkeys(RUNNING, "running"),
    **dict.fromkeys(COMPLETED, "completed"),
    **dict.fromkeys(FAILED, "failed"),
}


def status_of(word: str) -> Status | None:
    """Return the status that a word names, in any letter case; None for an unknown word."""
    return _STATUS_OF_WORD.get(word.lower())
