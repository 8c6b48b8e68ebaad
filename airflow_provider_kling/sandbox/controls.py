# SPDX-License-Identifier: Apache-2.0
"""The powers that a test has over the sandbox: witness what arrived, script trouble, end jobs."""

from __future__ import annotations

import time
from collections import Counter, deque
from threading import Condition
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_kling.sandbox.contract import ApiError, VideoRequest
from airflow_provider_kling.sandbox.faults import ROUTES, Fault, FaultBook, Route, Struck
from airflow_provider_kling.sandbox.jobs import KEY_SUFFIX_LENGTH, Job, JobBook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.sandbox.dialects import Dialect

REMEMBERED_EXCHANGES = 1000


class Controls:
    """Everything the server knows, safe to use from any thread.

    :param dialect: how answers are worded unless a fault of kind ``dialect`` says otherwise for a job.
    :param queue_seconds: how long each job waits.
    :param run_seconds: how long each job then runs.
    :param max_concurrent: jobs that one key may have open at once; None is no limit.
    """

    def __init__(
        self, *, dialect: Dialect, queue_seconds: float, run_seconds: float, max_concurrent: int | None
    ) -> None:
        self.dialect = dialect
        self.queue_seconds = queue_seconds
        self.run_seconds = run_seconds
        self.max_concurrent = max_concurrent
        self._changed = Condition()
        self._clear()

    def _clear(self) -> None:
        self._book = JobBook(self.max_concurrent)
        self._faults = FaultBook()
        self._counts: Counter[str] = Counter()
        self._seen: deque[dict[str, Any]] = deque(maxlen=REMEMBERED_EXCHANGES)

    @property
    def requests(self) -> dict[str, int]:
        """Requests seen so far, by what a fault can strike; ``accepted`` counts submits taken."""
        with self._changed:
            return {name: self._counts[name] for name in (*ROUTES, "accepted")}

    def ledger(self) -> list[dict[str, Any]]:
        """List every accepted submit in order: each one would have been paid for.

        ``answered`` is True once the answer was handed to an open connection, False if it could not be, and
        None before that.
        """
        with self._changed:
            return [job.ledger_entry() for job in self._book.jobs.values()]

    def jobs(self) -> list[dict[str, Any]]:
        """List every job with its state (``queued``, ``running``, ``completed``, ``failed``) and progress."""
        now = time.time()
        with self._changed:
            return [job.summary(now) for job in self._book.jobs.values()]

    def seen(self) -> list[dict[str, Any]]:
        """List the last 1000 requests with method, path and headers; a key shows its last characters only."""
        with self._changed:
            return [{**exchange, "headers": _without_key(exchange["headers"])} for exchange in self._seen]

    def faults(self) -> list[dict[str, Any]]:
        """List the faults that are still armed."""
        with self._changed:
            return self._faults.armed()

    def add_fault(self, fault: Fault) -> None:
        """Arm a fault."""
        with self._changed:
            self._faults.add(fault)

    def clear_faults(self) -> None:
        """Disarm all faults; what they did to jobs already accepted stays."""
        with self._changed:
            self._faults.clear()

    def finish(self, task_id: str | int) -> None:
        """End a job now, as completed, or as failed if a fault decided that.

        :raises KeyError: there is no such job.
        """
        with self._changed:
            job = self._book.jobs[str(task_id)]
            job.finished_at = min(job.ends_at, time.time())

    def reset(self) -> None:
        """Forget jobs, ledger, counters and faults."""
        with self._changed:
            self._clear()

    def wait_for(self, what: str, count: int, timeout: float = 30.0) -> None:
        """Block until ``requests[what]`` has reached ``count``.

        :raises TimeoutError: it did not within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._counts[what] >= count, timeout):
                raise TimeoutError(f"{self._counts[what]} instead of {count} {what} after {timeout} s")

    # From here on: what the server's handlers use.

    def saw(self, route: Route | Literal["unknown"], method: str, path: str, headers: Mapping[str, str]) -> None:
        with self._changed:
            self._counts[route] += 1
            self._seen.append(
                {"route": route, "method": method, "path": path, "headers": headers, "at": time.time()}
            )
            self._changed.notify_all()

    def strike(self, on: Route, text: str, job: Job | None = None) -> Struck:
        """Use up the faults that match a request and let them change its job."""
        with self._changed:
            if job is None:
                return self._faults.strike(on, text)
            struck = self._faults.strike(on, text, job.id, time.time() - job.accepted_at)
            struck.change_job(job)
            return struck

    def accept(self, request: VideoRequest, raw: Mapping[str, Any], key: str, struck: Struck) -> Job:
        """Take a checked request in.

        :raises ApiError: the key has no slot left.
        """
        job = Job(
            id="",
            key=key,
            request=request,
            raw=raw,
            accepted_at=time.time(),
            queue_seconds=self.queue_seconds,
            run_seconds=self.run_seconds,
            dialect=self.dialect,
        )
        struck.change_job(job)
        job.id = job.dialect.new_id()
        with self._changed:
            self._book.accept(job)
            self._counts["accepted"] += 1
            self._changed.notify_all()
        return job

    def find(self, task_id: str, key: str) -> Job | None:
        """Return the job, or None where this key has no such job."""
        job = self._book.jobs.get(task_id)
        return job if job is not None and job.key == key else None

    def knows(self, task_id: str) -> bool:
        """Return whether there is such a job, whoever asks."""
        return task_id in self._book.jobs

    def find_public(self, task_id: str) -> Job:
        """Return a job whatever the key.

        :raises ApiError: 404, there is no such job.
        """
        try:
            return self._book.jobs[task_id]
        except KeyError:
            raise ApiError(404, "", "file not found") from None


def _without_key(headers: Mapping[str, str]) -> dict[str, str]:
    shown = dict(headers)
    if "Authorization" in shown:
        shown["Authorization"] = f"...{shown['Authorization'][-KEY_SUFFIX_LENGTH:]}"
    return shown
