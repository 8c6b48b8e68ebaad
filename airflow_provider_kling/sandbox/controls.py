# SPDX-License-Identifier: Apache-2.0
"""The controls of the sandbox for tests: list what was received, script faults, end jobs."""

from __future__ import annotations

import time
from collections import Counter, deque
from threading import Condition
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.faults import ROLES, ROUTES, Fault, FaultBook, Struck
from airflow_provider_kling.sandbox.jobs import KEY_SUFFIX_LENGTH, Job, JobBook
from airflow_provider_kling.sandbox.prompt_words import faults_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_kling.sandbox.dialects import Dialect
    from airflow_provider_kling.sandbox.faults import Role, Route
    from airflow_provider_kling.sandbox.job_file import JobFile
    from airflow_provider_kling.sandbox.jobs import JobOrder
    from airflow_provider_kling.sandbox.video import VideoRequest

REMEMBERED_EXCHANGES = 1000


class Controls:
    """
    The whole state of the server. It is thread-safe.

    :param dialect: The format of responses, unless a fault of kind ``dialect`` sets another for a job.
    :param queue_seconds: Seconds for which each job is queued.
    :param run_seconds: Seconds for which each job then runs.
    :param max_concurrent: Unfinished jobs that one account may have; None sets no limit.
    :param new_book: Makes the list of jobs.
    :param new_id: Makes the id of a new job.
    :param routes: The routes of the API.
    :param prompt_words: Whether words in a prompt make trouble.
    :param job_file: Keeps the jobs, and has those of an earlier start; None keeps nothing.
    :raises OSError: if the file can be neither read nor written.
    """

    def __init__(
        self,
        *,
        dialect: Dialect,
        queue_seconds: float,
        run_seconds: float,
        max_concurrent: int | None,
        new_book: Callable[[int | None], JobBook],
        new_id: Callable[[Job], str],
        routes: Sequence[Route] = ROUTES,
        prompt_words: bool = False,
        job_file: JobFile | None = None,
    ) -> None:
        self.dialect = dialect
        self._new_book = new_book
        self._new_id = new_id
        self._routes = tuple(routes)
        self.queue_seconds = queue_seconds
        self.run_seconds = run_seconds
        self.max_concurrent = max_concurrent
        self.prompt_words = prompt_words
        self._job_file = job_file
        self._changed = Condition()
        self._clear()
        for job in job_file.load() if job_file is not None else ():
            self._book.add(job)

    def _clear(self) -> None:
        self._book = self._new_book(self.max_concurrent)
        self._faults = FaultBook()
        self._counts: Counter[str] = Counter()
        self._seen: deque[dict[str, Any]] = deque(maxlen=REMEMBERED_EXCHANGES)

    @property
    def requests(self) -> dict[str, int]:
        """
        Number of requests so far by route (see :data:`ROUTES`); ``accepted`` is that of accepted submits.

        On Kling's own platform, ``ids`` is the number of ids in all status requests and look-ups.
        """
        with self._changed:
            ids = ("ids",) if "find" in self._routes else ()
            return {name: self._counts[name] for name in (*self._routes, "accepted", *ids)}

    def ledger(self) -> list[dict[str, Any]]:
        """
        List every accepted submit in order: the vendor would bill each of them.

        ``answered`` is True once the response was written to an open connection, False if it could not be, and
        None before that. On Kling's own platform, ``effective`` has what was made, with the vendor's defaults.
        """
        with self._changed:
            return [job.ledger_entry() for job in self._book.jobs.values()]

    def jobs(self) -> list[dict[str, Any]]:
        """List every job with its state (``queued``, ``running``, ``completed``, ``failed``) and progress."""
        now = time.time()
        with self._changed:
            return [job.summary(now) for job in self._book.jobs.values()]

    def seen(self) -> list[dict[str, Any]]:
        """List the last 1000 requests with method, path and headers; keys are cut to their last characters."""
        with self._changed:
            return [{**exchange, "headers": _without_key(exchange["headers"])} for exchange in self._seen]

    def faults(self) -> list[dict[str, Any]]:
        """List the faults that are still active."""
        with self._changed:
            return self._faults.armed()

    def add_fault(self, fault: Fault) -> None:
        """
        Add a fault.

        :raises ValueError: if the API has no such route.
        """
        if fault.on not in self._routes:
            raise ValueError(f"this API has only the routes {', '.join(self._routes)}, not {fault.on!r}")
        with self._changed:
            self._faults.add(fault)

    def clear_faults(self) -> None:
        """Remove all faults; their changes to jobs that were already accepted remain."""
        with self._changed:
            self._faults.clear()

    def finish(self, task_id: str | int) -> None:
        """
        End a job now: as failed if a fault has set that, otherwise as completed.

        :raises KeyError: if there is no such job.
        """
        with self._changed:
            job = self._book.jobs[str(task_id)]
            job.finished_at = min(job.ends_at, time.time())
            self._keep(job)

    def reset(self) -> None:
        """Delete jobs, ledger, counters and faults."""
        with self._changed:
            self._clear()
            if self._job_file is not None:
                self._job_file.clear()

    def wait_for(self, what: str, count: int, timeout: float = 30.0) -> None:
        """
        Block until ``requests[what]`` has reached ``count``.

        :raises TimeoutError: if it has not within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._counts[what] >= count, timeout):
                raise TimeoutError(f"{self._counts[what]} instead of {count} {what} after {timeout} s")

    # The methods below are for the server's handlers.

    def record_request(
        self, route: Route | Literal["unknown"], method: str, path: str, headers: Mapping[str, str], ids: int = 0
    ) -> None:
        with self._changed:
            self._counts[route] += 1
            self._counts["ids"] += ids
            self._seen.append(
                {"route": route, "method": method, "path": path, "headers": headers, "at": time.time()}
            )
            self._changed.notify_all()

    def strike(
        self,
        on: Route,
        text: str,
        job: Job | None = None,
        *,
        names: Sequence[str] = (),
        roles: Sequence[Role] = ROLES,
    ) -> Struck:
        """
        Apply the faults that match a request: count them as used, and let them change its job.

        :param names: Ids in the request, in addition to those of the job.
        :param roles: The roles of the faults that may apply.
        """
        with self._changed:
            if job is None:
                struck = self._faults.strike(on, text, names, roles=roles)
                return Struck((*struck.faults, *self._word_faults(text))) if on == "submit" else struck
            age = time.time() - job.accepted_at
            struck = self._faults.strike(on, text, (*names, *job.names), age, roles)
            if struck.faults:
                struck.change_job(job)
                self._keep(job)
            return struck

    def _word_faults(self, text: str) -> tuple[Fault, ...]:
        if not self.prompt_words:
            return ()
        last = next((job for job in reversed(self._book.jobs.values()) if job.request.text == text), None)
        return faults_of(text, self.run_seconds, lost_before=last is not None and last.answered is False)

    def accept(
        self,
        request: VideoRequest,
        raw: Mapping[str, Any],
        key: str,
        struck: Struck,
        *,
        account: str = "",
        order: JobOrder | None = None,
    ) -> Job:
        """
        Accept a checked request as a new job.

        :raises ApiError: if the account refuses it; it has no free slot, for example.
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
            account=account,
            order=order,
        )
        struck.change_job(job)
        job.id = self._new_id(job)
        with self._changed:
            self._book.accept(job)
            if self._job_file is not None:
                self._job_file.add(job)
            self._counts["accepted"] += 1
            self._changed.notify_all()
        return job

    def set_answered(self, job: Job, answered: bool) -> None:
        """Note whether the response to the submit of a job was written to an open connection."""
        with self._changed:
            if job.answered is not answered:
                job.answered = answered
                self._keep(job)

    def _keep(self, job: Job) -> None:
        # A reset may have come between.
        if self._job_file is not None and self._book.jobs.get(job.id) is job:
            self._job_file.update(job)

    def find(self, task_id: str, account: str) -> Job | None:
        """Return the job, or None if this account has no such job."""
        job = self._book.jobs.get(task_id)
        return job if job is not None and job.account == account else None

    @property
    def book(self) -> JobBook:
        """The jobs; :meth:`reset` replaces it."""
        return self._book

    def has_job(self, task_id: str) -> bool:
        """Return whether there is such a job in any account."""
        return task_id in self._book.jobs

    def find_public(self, task_id: str) -> Job:
        """
        Return a job of any account.

        :raises ApiError: with 404, if there is no such job.
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
