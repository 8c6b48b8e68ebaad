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
#: Words before such an ending that make it a word about something else than the job: ``callback_failed``.
_ELSEWHERE = re.compile(
    r"(?:^|_)(?:not|no|un|non|never|without|isnt|wasnt|partial|partially|some|last|previous|prev|retry|retrying|retries"
    r"|attempt|callback|webhook|hook|notify|notification|query|fetch|get|poll|polling|request|response|upload|download"
    r"|transfer|storage|re|if|audio|sound|voice|music|watermark|cover|thumbnail|payment|pay|billing|charge|refund|auth|login|token|health)(?:_|$)"
    r"|[未不没非]|部分|重试|上次|回调|查询|获取|请求|上传|下载|支付"
)
#: The same before a word of success alone: a step on the way to the video, ``submit_success``.
_STEP = re.compile(
    r"(?:^|_)(?:submit|submitted|submission|create|created|creation|add|queue|queued|enqueue|pre|awaiting|waiting|wait"
    r"|accept|accepted|audit|moderation|check|review|validate|validation|init|start)(?:_|$)"
    r"|提交|创建|審核|审核|排队|受理|校验"
)
#: Characters of the longest word that is looked at.
MAX_WORD = 120
#: Names by which a response gives the status of a job; the last four may be those of the request.
STATUS_NAMES = (
    *("task_status", "taskStatus", "TaskStatus", "task_state", "taskState", "TaskState"),
    *("job_status", "jobStatus", "JobStatus", "status", "Status", "state", "State"),
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
        before = word.removesuffix(ending)
        if before != word and (before.endswith("_") or not before.isascii()):
            is_elsewhere = _ELSEWHERE.search(before) or (status == "completed" and _STEP.search(before))
            return None if is_elsewhere else status
    return None


def is_gone(word: str) -> bool:
    """Return whether a word means that a finished job is no longer stored."""
    return _normalized(word) in GONE


def _normalized(word: str) -> str:
    """Return a word in lower case, with underscores for spaces, hyphens, dots and humps: ``inProgress``."""
    return re.sub(r"[\s_.:-]+|(?<=[a-z])(?=[A-Z])", "_", word.strip()).lower()
