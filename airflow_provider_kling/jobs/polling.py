# SPDX-License-Identifier: Apache-2.0
"""
The polling decision: what one status check means, and when the next one is due.

The trigger, the sensor's poke and the blocking wait all drive this one state machine with different I/O
(``await`` or a plain call, ``asyncio.sleep`` or ``time.sleep``), so they cannot drift apart. Time is passed in.
This module does not sleep, log, or do I/O.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.exceptions import (
    ACCOUNT_ERRORS,
    KlingBalanceError,
    KlingError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingTimeoutError,
)
from airflow_provider_kling.jobs.limits import FORMAT, STILL_RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_kling.api.base import Grace
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.jobs.poll_schedule import Delay
    from airflow_provider_kling.jobs.result import KlingVideo

#: Consecutive failed status checks after which the wait ends. With the back-off below, that takes about a quarter
#: of an hour.
FAILURE_BUDGET = 20
#: Maximum seconds between two checks after a failed one, before the jitter. A longer Retry-After is cut to this:
#: the video may be finished meanwhile.
MAX_BACKOFF = 60.0
#: Seconds past its deadline for which a wait may queue for its last check. Jobs that were submitted together, or
#: taken up together by a triggerer that was down, reach their deadlines together.
LAST_CHECK_TIMEOUT = 60.0
#: Maximum seconds between the start of a job and that of its wait if the wait is to measure how long the job took;
#: clocks differ by less.
MAX_START_DELAY = 30.0
#: Seconds without any change after which a log line reports that the wait continues.
HEARTBEAT = 300.0
#: Seconds after a log line within which a change is logged only if it is significant: a new status word, or this
#: much more progress in percent. Some servers change their response at every check.
LINE_INTERVAL, LINE_PROGRESS = 60.0, 10
#: Maximum number of status words of one job that are logged at once.
MAX_WORDS = 8


#: Errors that say nothing of the job once the server has shown it: a replica that lags behind, a budget that is
#: topped up.
_CURED_BY_WAITING = (KlingBalanceError, KlingPermissionError, KlingNotFoundError)


class Pause(NamedTuple):
    """Not finished: the next check is due after this many seconds."""

    seconds: float


class Finished(NamedTuple):
    """The wait is over, with a finished video or with an error."""

    video: KlingVideo | None = None
    error: KlingError | None = None

    def event(self) -> dict[str, Any]:
        """Return this result as the plain JSON event that a trigger sends to a worker."""
        if self.error is not None:
            status = "timeout" if isinstance(self.error, KlingTimeoutError) else "error"
            return {
                "version": FORMAT,
                "status": status,
                "kling_task_id": self.error.kling_task_id,
                "error": self.error.to_dict(),
            }
        video = self.result()
        return {"version": FORMAT, "status": "success", "kling_task_id": video["kling_task_id"], "video": video}

    def result(self) -> KlingVideo:
        """Return the finished video, or raise the error that ended the wait."""
        if self.error is not None:
            raise self.error
        if self.video is None:
            raise ValueError("a finished wait needs a video or an error")
        return self.video


def video_from_event(event: Mapping[str, Any] | None) -> KlingVideo:
    """
    Return the finished video in an event of :meth:`Finished.event`, or raise the error in it.

    :raises KlingError: The error; or that the event is unknown, which only a foreign trigger can send.
    """
    event = event or {}
    if isinstance(event.get("error"), dict):
        raise KlingError.from_dict(event["error"])
    video = event.get("video")
    if event.get("status") != "success" or not isinstance(video, dict):
        raise KlingError(f"The trigger sent an unknown event: {dict(event)!r}")
    from airflow_provider_kling.jobs.result import complete_video

    return complete_video(video)


class Poller:
    """
    Decides after each status check of one job.

    :param kling_task_id: The Kling task to wait for.
    :param started_at: When the job was submitted or, if unknown, the wait started (epoch seconds).
    :param deadline: When the wait times out (epoch seconds). Wall clock, since it is stored in the database.
    :param delay: The schedule.
    :param visible_from: Start of the seconds for which the server may not know the job yet (epoch seconds);
        ``started_at`` by default.
    :param other_id: Another id from the submit response, used where the server does not know the first.
    """

    def __init__(
        self,
        kling_task_id: str,
        *,
        started_at: float,
        deadline: float,
        delay: Delay,
        visible_from: float | None = None,
        other_id: str | None = None,
    ) -> None:
        self.kling_task_id = kling_task_id
        self.started_at = started_at
        self.deadline = deadline
        self.delay = delay
        self.visible_from = visible_from
        self.other_id = other_id
        self._first_id = kling_task_id
        self.job: VideoJob | None = None
        self.failures = 0
        self.last_error: KlingError | None = None
        self._url_missing_since: float | None = None
        self._seems_finished_since: float | None = None
        self._unknown_ids: set[str] = set()
        self._reported: tuple[str, int | None] | None = None
        self._reported_at = started_at
        self._reported_words: set[str] = set()
        self._reported_progress = -LINE_PROGRESS
        self._is_unknown_yet = self._reported_unknown = False

    @property
    def job_has_ended(self) -> bool:
        """Whether the last response reported the end of the job, so that it occupies no slot of the account."""
        return self.job is not None and self.job.status in ("completed", "failed")

    @property
    def is_settling(self) -> bool:
        """Whether the job seems finished and the wait is only for data that lags behind: at most a minute."""
        return self._url_missing_since is not None or self._seems_finished_since is not None

    def first_pause(self, *, now: float) -> float:
        """
        Return the seconds to wait before the first check.

        A job that was submitted or checked just before the wait started has no new state yet. One that has been
        running for long, for example after a restart of the triggerer, is checked at once.
        """
        planned = self.delay.next_check(0.0, None)
        return max(0.0, min(planned - self._elapsed(now), self.deadline - now))

    def check_timeout(self, *, now: float) -> float:
        """Return the seconds to queue for a check; past the deadline only if the last check did not fail."""
        left = self.deadline - now
        return left if self.failures else max(left, LAST_CHECK_TIMEOUT)

    def on_job(self, job: VideoJob, *, grace: Grace, now: float) -> Pause | Finished:
        """Decide after a status check that the server answered."""
        from airflow_provider_kling.jobs.result import finished_video  # not needed when a DAG is parsed

        self._is_unknown_yet = False
        if self._may_be_another(job, grace, now):
            self._try_other_id(is_final=False)
            return self._pause(self.delay.next_check(self._elapsed(now), None), now)
        reported, job = job, self._judged(job, grace, now)
        self.job = job
        self.failures = 0
        self.last_error = None
        self.other_id = None  # the server knows the current id
        try:
            video = finished_video(job)
        except KlingError as error:
            return Finished(error=error)
        if video is not None:
            if job is reported and self._covers_whole_job(job):
                self.delay.ended(self._elapsed(now), job)
            return Finished(video=video)
        if job.status == "completed" and self._is_url_overdue(grace, now):
            return Finished(error=self._url_missing(job))
        return self._pause(self.delay.next_check(self._elapsed(now), job), now)

    def on_error(self, error: KlingError, *, grace: Grace, now: float) -> Pause | Finished:
        """Decide after a status check that failed."""
        elapsed = self._elapsed(now)
        if isinstance(error, KlingNotFoundError):
            unseen = elapsed if self.visible_from is None else min(elapsed, now - self.visible_from)
            is_young = unseen < grace.visibility
            self._is_unknown_yet = is_young and self.job is None
            if self._try_other_id(is_final=not is_young) or is_young:
                return self._pause(self.delay.next_check(elapsed, None), now)
            if self.other_id is not None:
                error = error.replace(kling_task_id=self.kling_task_id)
        elif self._may_know_other_id(error):
            is_untried = self._try_other_id(is_final=not error.retryable)
            if is_untried and not error.retryable:
                return self._pause(self.delay.next_check(elapsed, None), now)
        if not error.retryable and not (self.job is not None and isinstance(error, _CURED_BY_WAITING)):
            return Finished(error=self._still_running(error))
        self.failures += 1
        # A check that was not sent in time says nothing new of the server.
        if self.last_error is None or error.http_status is not None or not isinstance(error, KlingRateLimitError):
            self.last_error = error
        if self.failures >= FAILURE_BUDGET:
            return Finished(error=self._checks_exhausted(error))
        backoff = min(2.0**self.failures, MAX_BACKOFF) * random.uniform(0.75, 1.25)
        return self._pause(max(backoff, min(error.retry_after or 0.0, MAX_BACKOFF)), now)

    def progress_message(self, *, now: float) -> str | None:
        """
        Return a line for the log if something significant changed since the last one, or if that was long ago.

        For a server that changes its response at every check, there is one line a minute besides those of
        significant changes.
        """
        job = self.job
        self._reported_at = min(self._reported_at, now)
        if self.last_error is not None:
            if now - self._reported_at < HEARTBEAT:
                return None
            self._reported_at = now
            return self._line(f"The last {self.failures} checks failed: {self.last_error}")
        if job is None:
            if not self._is_unknown_yet or self._reported_unknown:
                return None
            self._reported_unknown, self._reported_at = True, now
            return self._line(f"The server does not know the task yet, {self._duration_text(now)}")
        state = (job.raw_status, job.progress)
        new_word = job.raw_status not in self._reported_words and len(self._reported_words) < MAX_WORDS
        grown = (job.progress or 0) >= self._reported_progress + LINE_PROGRESS
        quiet_for = now - self._reported_at
        changed = state != self._reported and quiet_for >= LINE_INTERVAL
        if not (new_word or grown or changed or quiet_for >= HEARTBEAT):
            return None
        self._reported, self._reported_at = state, now
        self._reported_progress = max(self._reported_progress, job.progress or 0)
        if new_word:
            self._reported_words.add(job.raw_status)
        text = f"{state_text(job)} {self._duration_text(now)}"
        if new_word and not job.is_known_status:
            text += f"; status word {job.raw_status!r} is unknown here and counts as running"
        return self._line(text[0].upper() + text[1:])

    def _line(self, text: str) -> str:
        """Return a line of the log: what is new first, since log viewers cut lines off, and the id last."""
        return f"{text} ({self.kling_task_id})"

    def _duration_text(self, now: float) -> str:
        return f"after {_duration_text(self._elapsed(now))}"

    def _elapsed(self, now: float) -> float:
        """Return the seconds since the start; a start in the future, from a clock that is ahead, becomes now."""
        self.started_at = min(self.started_at, now)
        return now - self.started_at

    def _pause(self, seconds: float, now: float) -> Pause | Finished:
        if now >= self.deadline:
            return Finished(error=self._timed_out(now))
        return Pause(min(seconds, self.deadline - now))

    def _covers_whole_job(self, job: VideoJob) -> bool:
        """Return whether this wait has lasted as long as the job, as far as the server reports its start."""
        if job.created_at is None:
            return True
        return self.started_at - datetime.fromisoformat(job.created_at).timestamp() < MAX_START_DELAY

    def _judged(self, job: VideoJob, grace: Grace, now: float) -> VideoJob:
        """Return the job with the status that follows from this response and the earlier ones."""
        if job.status == "completed" and job.video_url is None:
            if self._url_missing_since is None:
                self._url_missing_since = now
            if self._is_url_overdue(grace, now):
                # The download finds out whether the file is there.
                return replace(job, video_url=job.content_url)
        seems_finished = not job.is_known_status and job.progress == 100 and job.video_url is not None
        if not seems_finished:
            self._seems_finished_since = None
        elif self._seems_finished_since is None:
            self._seems_finished_since = now
        elif now - self._seems_finished_since >= grace.unknown_word:
            return replace(job, status="completed")
        return job

    def _is_url_overdue(self, grace: Grace, now: float) -> bool:
        return self._url_missing_since is not None and now - self._url_missing_since >= grace.url

    def _url_missing(self, job: VideoJob) -> KlingError:
        return KlingServerError(
            "The job is completed, but the response contains no video URL",
            kling_task_id=self.kling_task_id,
            server_message=job.excerpt,
            advice="The video was made and paid for. Look it up at the vendor under this id.",
        )

    def _try_other_id(self, *, is_final: bool) -> bool:
        """
        Use the other id from the submit response from now on; return whether it has not been ruled out yet.

        :param is_final: Whether "no such task" is final now, and no longer means "not stored yet".
        """
        if self.other_id is None:
            return False
        if is_final:
            self._unknown_ids.add(self.kling_task_id)
        self.kling_task_id, self.other_id = self.other_id, self.kling_task_id
        return self.kling_task_id not in self._unknown_ids

    def _may_know_other_id(self, error: KlingError) -> bool:
        """Return whether the server may know the job by its other id alone, and refuse this one for that."""
        return self.job is None and error.http_status is not None and not isinstance(error, ACCOUNT_ERRORS)

    def _may_be_another(self, job: VideoJob, grace: Grace, now: float) -> bool:
        """
        Return whether a finished job under the other id may be another account's.

        A job that was just bought has not ended yet, and its own response names the id that the submit gave first.
        """
        return (
            self.other_id is not None
            and self.kling_task_id != self._first_id
            and self._first_id not in self._unknown_ids
            and job.status in ("completed", "failed")
            and job.other_id != self._first_id
            and self._elapsed(now) < grace.visibility
        )

    def _still_running(self, error: KlingError) -> KlingError:
        """Return an error that ends the wait, with advice that the job itself continues."""
        error = error.replace(kling_task_id=error.kling_task_id or self.kling_task_id)
        if isinstance(error, KlingNotFoundError):
            return error
        return error.replace(advice=f"{error.advice} {STILL_RUNNING}".strip())

    def _checks_exhausted(self, error: KlingError) -> KlingError:
        return error.replace(
            message=f"Gave up after {self.failures} failed status checks in a row; the last: {error.message}",
            kling_task_id=self.kling_task_id,
            advice=f"{STILL_RUNNING} {error.advice}".strip(),
        )

    def _timed_out(self, now: float) -> KlingError:
        state = f"still {state_text(self.job)}" if self.job else "not seen once"
        trouble = f"; the last {self.failures} checks failed: {self.last_error}" if self.last_error else ""
        deadline = datetime.fromtimestamp(self.deadline, tz=UTC).isoformat(timespec="seconds")
        return KlingTimeoutError(
            f"The job was {state} at the deadline {deadline}, after {_duration_text(self._elapsed(now))}{trouble}",
            kling_task_id=self.kling_task_id,
            advice=STILL_RUNNING,
        )


def state_text(job: VideoJob) -> str:
    """Return the state of a job as a person reads it: ``queued at the vendor``, or ``43 % [####------]``."""
    if job.status == "queued":
        return "queued at the vendor"
    if job.status == "failed":
        return "failed"
    if job.status == "completed":
        return "finished" if job.video_url else "finished, but without a URL yet,"
    if job.progress is None:
        return "being made"
    filled = job.progress // 10
    return f"{job.progress} % [{'#' * filled}{'-' * (10 - filled)}]"


def _duration_text(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def steady_clock() -> Callable[[], float]:
    """Return a wall clock for one wait: correct at its start, and unaffected by later jumps of the system's."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
