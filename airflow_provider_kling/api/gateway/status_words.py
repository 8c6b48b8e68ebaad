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
    **dict.fromkeys(("succeed", "succeeded", "success", "successful", "成功"), "completed"),
    **dict.fromkeys(("failed", "失败"), "failed"),
}
#: What may stand before such an ending: the job itself. Any other word before it (``callback``, ``query``,
#: ``submit``, ``retry``, ``not``) makes it a word about something else.
_JOB = re.compile(
    r"(?:(?:videos?|images?|text|to|2|generations?|generate|generating|gen|tasks?|jobs?|render|rendering|process"
    r"|processing|run|execution|inference|prediction|status|state|已|生成|任务|任務|视频|影片|作业|执行|运行|制作"
    r"|渲染)_?)*"
)
#: Characters of the longest word that is looked at.
MAX_WORD = 120
#: Names by which a response gives the status of a job; the last two may be those of the request.
STATUS_NAMES = (
    *("task_status", "taskStatus", "task_state", "taskState", "job_status", "jobStatus"),
    *("status", "state"),
)


def status_of(word: str) -> Status | None:
    """Return the status that a word names, in any letter case and with any separator; None for an unknown word."""
    if len(word) > MAX_WORD:
        return None
    known = _STATUS_OF_WORD.get(word.lower())
    if known is not None:
        return known
    word = _normalized(word)
    if word in _STATUS_OF_WORD:
        return _STATUS_OF_WORD[word]
    for ending, status in _STATUS_OF_ENDING.items():
        if word.endswith(ending) and _JOB.fullmatch(word.removesuffix(ending)):
            return status
    return None


def is_gone(word: str) -> bool:
    """Return whether a word means that a finished job is no longer stored."""
    return _normalized(word) in GONE


def _normalized(word: str) -> str:
    """Return a word in lower case, with underscores for spaces, hyphens, dots and humps: ``inProgress``."""
    return re.sub(r"[\s_.:-]+|(?<=[a-z])(?=[A-Z])", "_", word.strip()).lower()
