# SPDX-License-Identifier: Apache-2.0
"""
The progress of a video, as Airflow's UI shows it, and the decision whose progress is written next.

Each write costs the triggerer's supervisor and the database some time, and a triggerer may have ten thousand
waiting videos. They share a few writes a second. Time is passed in; this module does not sleep, log, or do I/O.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

    from airflow_provider_kling.api.job import VideoJob

#: The XCom of a task instance that holds its :class:`Progress`.
PROGRESS_KEY = "kling_progress"
#: Minimum seconds between two writes, whichever videos they are for: at most five a second.
WRITE_INTERVAL = 0.2
#: Minimum seconds between two writes for one video: after a change, and where nothing has changed but the time.
CHANGE_INTERVAL, REFRESH_INTERVAL = 10.0, 60.0
#: Seconds without writes after a write that failed; doubled for each further one, up to the second number.
FIRST_REST, LONGEST_REST = 10.0, 600.0
#: Maximum seconds between the submit of a job and the start of a wait that still sees the making begin.
MAX_START_DELAY = 30.0

Phase = Literal["waiting_for_slot", "queued", "in_progress"]
Key = TypeVar("Key", bound="Hashable")


class Progress(TypedDict):
    """
    What was last seen of a video, as plain JSON.

    ``phase``: the video waits for a slot of the account, is queued at the vendor, or is being made. ``percent``: 0
    to 100, or None if the server reports none. The times are epoch seconds, or None if they are not known: of the
    submit, of the first check that saw the video in the making, and of the last check.
    """

    phase: Phase
    percent: int | None
    submitted_at: float | None
    making_since: float | None
    seen_at: float


def waiting_for_slot(*, now: float) -> Progress:
    """Return the progress of a video that is not submitted yet."""
    return Progress(phase="waiting_for_slot", percent=None, submitted_at=None, making_since=None, seen_at=now)


class Sight:
    """
    Turn the status checks of one job into its progress.

    :param submitted_at: When the job was submitted (epoch seconds), if known.
    :param now: When the wait starts (epoch seconds). One that starts long after the submit, for example on a
        triggerer that was restarted, cannot tell when the making of a job began that is not queued any more.
    """

    def __init__(self, *, submitted_at: float | None, now: float) -> None:
        self._submitted_at = submitted_at
        self._sees_begin = submitted_at is not None and now - submitted_at < MAX_START_DELAY
        self._making_since: float | None = None
        #: The progress after the last status check; None before the first.
        self.last: Progress | None = None

    def progress(self, job: VideoJob | None, *, now: float) -> Progress:
        """
        Return the progress after a status check.

        :param job: The job in the response; None for one that was just submitted.
        :param now: The time of the check (epoch seconds).
        """
        is_queued = job is None or job.status == "queued"
        if is_queued:
            self._sees_begin = True
        elif self._making_since is None and self._sees_begin:
            self._making_since = now
        self.last = Progress(
            phase="queued" if is_queued else "in_progress",
            percent=None if job is None else job.progress,
            submitted_at=self._submitted_at,
            making_since=self._making_since,
            seen_at=now,
        )
        return self.last


class WriteQueue(Generic[Key]):
    """
    Decide whose progress is written next, and when.

    The video whose write has been due for longest is next, with its newest progress. The first write of a video is
    due at once, a change :data:`CHANGE_INTERVAL` after the last write, and a new ``seen_at`` alone after
    :data:`REFRESH_INTERVAL`. There is one entry for each waiting video. All times are of one clock, in seconds.
    """

    def __init__(self) -> None:
        self._newest: dict[Key, Progress] = {}
        self._due: dict[Key, float] = {}
        #: Videos by the time at which their write is due. An entry that differs from ``_due`` is out of date.
        self._heap: list[tuple[float, int, Key]] = []
        self._pushed = 0
        #: What was written in the last minute, oldest first.
        self._written: dict[Key, tuple[float, Progress]] = {}
        self._next_write = 0.0
        self._rest = 0.0

    def __len__(self) -> int:
        return len(self._newest)

    def update(self, key: Key, progress: Progress, *, now: float) -> None:
        """Set the newest progress of a waiting video; it joins the queue if it is not in it."""
        self._newest[key] = progress
        due = now
        if key in self._written:
            written_at, written = self._written[key]
            is_same = {**written, "seen_at": 0.0} == {**progress, "seen_at": 0.0}
            due = max(now, written_at + (REFRESH_INTERVAL if is_same else CHANGE_INTERVAL))
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._pushed += 1
            heapq.heappush(self._heap, (due, self._pushed, key))

    def leave(self, key: Key) -> None:
        """Remove a video whose wait has ended, if it is in the queue."""
        self._newest.pop(key, None)
        self._due.pop(key, None)
        if len(self._heap) > 2 * len(self._due) + 100:
            self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
            heapq.heapify(self._heap)

    def take(self, *, now: float) -> tuple[Key, Progress] | None:
        """Return the write that is to be made now; None if none is due, or if the last one was too recent."""
        if now < self._next_write:
            return None
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != due:
                continue
            del self._due[key]
            self._remember(key, now)
            self._next_write = now + WRITE_INTERVAL
            return key, self._newest[key]
        return None

    def succeeded(self) -> None:
        """Note that the last write succeeded."""
        self._rest = 0.0

    def failed(self, *, now: float) -> None:
        """Note that the last write failed: all writes pause, since Airflow may log or repeat each of them."""
        self._rest = min(max(2 * self._rest, FIRST_REST), LONGEST_REST)
        self._next_write = now + self._rest

    def _remember(self, key: Key, now: float) -> None:
        self._written.pop(key, None)  # so that it becomes the last
        self._written[key] = now, self._newest[key]
        while now - self._written[oldest := next(iter(self._written))][0] > REFRESH_INTERVAL:
            del self._written[oldest]
