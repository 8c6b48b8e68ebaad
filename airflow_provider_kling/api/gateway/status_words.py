# SPDX-License-Identifier: Apache-2.0
"""The words that gateways use for the status of a job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_kling.api.job import Status

WAITING = frozenset({"queued", "pending", "submitted", "not_start", "preparing", "created", "starting", "unknown"})
RUNNING = frozenset({"in_progress", "processing", "running", "generating"})
COMPLETED = frozenset(
    {
        "completed",
        "complete",
        "success",
        "successful",
        "succeeded",
        "succeed",
        "finished",
        "finish",
        "done",
        "成功",
    }
)
#: Words for a finished job whose file is no longer stored. For a task that waits for the file, that is a failure.
GONE = frozenset({"expired", "deleted"})
FAILED = GONE | {
    "failed",
    "failure",
    "fail",
    "error",
    "cancelled",
    "canceled",
    "aborted",
    "terminated",
    "timeout",
    "timedout",
    "timed_out",
    "rejected",
    "失败",
}

_STATUS_OF_WORD: dict[str, Status] = {
    **dict.fromkeys(WAITING, "queued"),
    **dict.fromkeys(RUNNING, "running"),
    **dict.fromkeys(COMPLETED, "completed"),
    **dict.fromkeys(FAILED, "failed"),
}
#: Endings of longer words: ``video_generation_failed``.
_STATUS_OF_ENDING: dict[str, Status] = {
    **dict.fromkeys(("_succeed", "_succeeded", "_success", "_successful", "成功"), "completed"),
    **dict.fromkeys(("_failed", "失败"), "failed"),
}
#: Parts of a word that turn its ending into the opposite.
_NEGATION = re.compile(r"(?:^|_)(?:not|no|un|non|never|without|isnt|wasnt)_|[未不没非]")
#: Names of the field with the status of a job; the last two may be those of the request.
STATUS_NAMES = (
    *("task_status", "taskStatus", "task_state", "taskState", "job_status", "jobStatus"),
    *("status", "state"),
)


def status_of(word: str) -> Status | None:
    """Return the status for a word, in any letter case and with any separator; None for an unknown word."""
    known = _STATUS_OF_WORD.get(word.lower())
    if known is not None:
        return known
    word = _normalized(word)
    if word in _STATUS_OF_WORD:
        return _STATUS_OF_WORD[word]
    if _NEGATION.search(word):
        return None
    return next((status for ending, status in _STATUS_OF_ENDING.items() if word.endswith(ending)), None)


def is_gone(word: str) -> bool:
    """Return whether a word means that a finished job is no longer stored."""
    return _normalized(word) in GONE


def _normalized(word: str) -> str:
    """Return a word in lower case, with underscores for spaces, hyphens and camel case: ``inProgress``."""
    return re.sub(r"[\s_-]+|(?<=[a-z])(?=[A-Z])", "_", word.strip()).lower()
