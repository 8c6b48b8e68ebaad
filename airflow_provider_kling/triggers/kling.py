# SPDX-License-Identifier: Apache-2.0
"""Wait for a Kling job on the triggerer, without a worker."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_kling.client.redaction import Masks, redact, redact_error
from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.jobs.clocks import (
    LONGEST_MINIMUM,
    SHORTEST_WAIT,
    WaitTimes,
    seconds_until,
    wait_times,
)
from airflow_provider_kling.jobs.limits import DEFAULT_TIMEOUT, FORMAT
from airflow_provider_kling.jobs.poll_schedule import delay_for, learned_durations
from airflow_provider_kling.jobs.polling import Finished, Poller, steady_clock
from airflow_provider_kling.jobs.progress import Sight
from airflow_provider_kling.jobs.result import task_reference
from airflow_provider_kling.jobs.submit_pauses import LONGEST_SLOT_PAUSE
from airflow_provider_kling.shown_prompts import WITHHOLDING, shows_prompts
from airflow_provider_kling.triggers.progress import progress_writer
from airflow_provider_kling.triggers.slots import slot_waits
from airflow_provider_kling.version_compat import task_instance_of, triggers_write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from airflow_provider_kling.client.async_client import SharedClient


#: The thread that writes the log lines of waiting triggers. A line goes through a pipe to the triggerer's
#: supervisor, which may be slow to read. Neither the event loop nor a trigger waits for that. The loop's own
#: threads do not either, since they resolve host names for all triggers.
_LOG_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kling-scribe")


class KlingTaskTrigger(BaseTrigger):
    """
    Poll the status of one job until it is finished, and send one event.

    It only polls and never submits, since a trigger runs again after every restart of a triggerer. All its
    arguments and its event are plain JSON that may be stored and logged: no key, no prompt.

    :param kling_task_id: The Kling task to wait for.
    :param kling_conn_id: The Airflow connection, looked up on the triggerer once for all triggers.
    :param started_at: When the job was submitted or, if unknown, the wait started (epoch seconds). None is the
        moment at which the trigger first runs in a process.
    :param deadline: When to send a ``timeout`` event (epoch seconds). Wall clock, since the trigger may continue
        in another process on another machine. None is ``timeout`` after ``started_at``.
    :param timeout: Seconds to wait where no deadline is known: a DAG file that starts a sensor on the triggerer
        cannot know when that will be.
    :param poll_interval: Fixed seconds between two checks; None leaves the schedule to the provider.
    :param model: The requested model, if known: the provider learns how long its videos take.
    :param video_seconds: Length of the requested video, if known: longer ones take longer to make.
    :param not_before: The earliest time to send the event (epoch seconds). Each process that runs this trigger
        counts it from ``deferred_at``, where that is known.
    :param route: The status route that the server has, if the worker has found it.
    :param deferred_at: When the worker deferred the task (epoch seconds). These times are from the worker's clock,
        and the triggerer's may differ: see :mod:`airflow_provider_kling.jobs.clocks`.
    :param other_id: Another id from the submit response, used where the server does not know the first.
    :param submitted_at: When the job was submitted (epoch seconds), if known; for its progress only.
    :param call_latency: Seconds that the task took to its submit after it was called for a slot, if it was.
    :param version: Version of these arguments: a trigger may be older than the code that runs it.
    """

    def __init__(
        self,
        *,
        kling_task_id: str,
        kling_conn_id: str,
        started_at: float | None = None,
        deadline: float | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        poll_interval: float | None = None,
        model: str | None = None,
        video_seconds: int | None = None,
        not_before: float = 0.0,
        route: str | None = None,
        deferred_at: float | None = None,
        other_id: str | None = None,
        submitted_at: float | None = None,
        call_latency: float | None = None,
        version: int = FORMAT,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kling_task_id = kling_task_id
        self.kling_conn_id = kling_conn_id
        self.started_at = started_at
        self.deadline = deadline
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.model = model
        self.video_seconds = video_seconds
        self.not_before = not_before
        self.route = route
        self.deferred_at = deferred_at
        self.other_id = other_id
        self.submitted_at = submitted_at
        self.call_latency = call_latency

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what rebuilds this trigger in any triggerer."""
        return (
            "airflow_provider_kling.triggers.kling.KlingTaskTrigger",
            {
                "kling_task_id": self.kling_task_id,
                "kling_conn_id": self.kling_conn_id,
                "started_at": self.started_at,
                "deadline": self.deadline,
                "timeout": self.timeout,
                "poll_interval": self.poll_interval,
                "model": self.model,
                "video_seconds": self.video_seconds,
                "not_before": self.not_before,
                "route": self.route,
                "deferred_at": self.deferred_at,
                "other_id": self.other_id,
                "submitted_at": self.submitted_at,
                "call_latency": self.call_latency,
                "version": FORMAT,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Yield one event: ``version``, ``status``, ``kling_task_id``, and ``video`` or ``error``.

        It has ``progress`` too, if the job was seen before it ended, since that may not have been written.
        """
        await _client_loaded()
        from airflow_provider_kling.client.async_client import shared_client

        now = steady_clock()
        first_event = now() + seconds_until(
            self.not_before, now=now(), at_most=LONGEST_MINIMUM, deferred_at=self.deferred_at
        )
        sight = Sight(submitted_at=self.submitted_at, now=now())
        try:
            poller = self._poller(now())
        except KlingError as error:
            finished = Finished(error=error)
        else:
            async with shared_client(self.kling_conn_id) as client:
                with self._slot_taken(poller, now()):
                    if self.started_at is not None:
                        await asyncio.sleep(poller.first_pause(now=now()))
                    finished = await self._wait(client, poller, sight, now)
        await asyncio.sleep(first_event - now())
        event = finished.event()
        if sight.last is not None:
            event["progress"] = sight.last
        yield TriggerEvent(event)

    def _poller(self, now: float) -> Poller:
        kling_task_id, _ = task_reference(self.kling_task_id)
        times, slots = self._times(now), slot_waits(self.kling_conn_id)
        return Poller(
            kling_task_id,
            started_at=times.started_at,
            deadline=times.deadline,
            delay=delay_for(
                self.poll_interval,
                learned_durations(self.kling_conn_id),
                self.video_seconds,
                self.model,
                is_awaited=lambda: slots.is_awaited,
            ),
            visible_from=times.visible_from,
            other_id=self.other_id,
        )

    @contextmanager
    def _slot_taken(self, poller: Poller, now: float) -> Iterator[None]:
        """Let those who wait for a slot of the account know of the job."""
        slots = slot_waits(self.kling_conn_id)
        slots.started(
            self.kling_task_id,
            ti=task_instance_of(self),
            started_at=poller.started_at,
            now=now,
            expected=lambda: poller.delay.expected(poller.job),
            may_have_ended=self.started_at is None,
            call_latency=self.call_latency,
        )
        try:
            yield
        finally:
            slots.left(self.kling_task_id)

    def _times(self, now: float) -> WaitTimes:
        started_at = now if self.started_at is None else self.started_at
        deadline = started_at + self.timeout if self.deadline is None else self.deadline
        return wait_times(started_at=started_at, deadline=deadline, deferred_at=self.deferred_at, now=now)

    async def _wait(
        self, client: SharedClient, poller: Poller, sight: Sight, now: Callable[[], float]
    ) -> Finished:
        """Poll until the wait is over, log changes, and hand over the progress for XCom."""
        loop, slots = asyncio.get_running_loop(), slot_waits(self.kling_conn_id)
        ti, writer = task_instance_of(self) if triggers_write() else None, progress_writer()
        # A trigger does not know the prompt. Its event is stored, and Airflow logs it.
        masks = Masks() if shows_prompts() else WITHHOLDING
        logging_line: asyncio.Future[None] | None = None
        route = self.route
        try:
            while True:
                try:
                    job = await client.get_video(
                        poller.kling_task_id,
                        route=route,
                        queue_timeout=poller.check_timeout(now=now()),
                    )
                    route = job.route or route
                    decision = poller.on_job(redact(job, masks), grace=client.grace, now=(at := now()))
                except KlingError as error:
                    decision = poller.on_error(redact_error(error, masks), grace=client.grace, now=(at := now()))
                if poller.job_has_ended:
                    slots.ended(self.kling_task_id)
                if isinstance(decision, Finished):
                    return decision  # the worker that resumes the task logs the end
                if poller.job is not None and poller.last_error is None:
                    slots.seen(self.kling_task_id)
                    progress = sight.progress(poller.job, now=at)
                    if ti is not None:
                        writer.update(ti, progress)
                # While the last line is not written yet, further changes are combined into the next one.
                if (logging_line is None or logging_line.done()) and (line := poller.progress_message(now=at)):
                    logging_line = loop.run_in_executor(_LOG_THREAD, copy_context().run, self._log_line, line)
                await asyncio.sleep(decision.seconds)
        finally:
            if ti is not None:
                writer.leave(ti)
            if logging_line is not None:
                logging_line.cancel()  # Airflow closes the log of a trigger that has ended

    def _log_line(self, line: str) -> None:
        self.log.info(line)  # called here, so that the log shows this file as the source

    async def on_kill(self) -> None:
        """Log that the job continues when a user fails, clears or marks the task (Airflow 3.3 and later)."""
        self.log.warning(
            "The wait was ended from outside. Kling task %s continues at the vendor, and is billed; a later "
            "attempt of this task can join it",
            self.kling_task_id,
        )


class KlingSlotTrigger(BaseTrigger):
    """
    Wait for a slot of the account, in the queue of all tasks of the same connection in this triggerer.

    :mod:`airflow_provider_kling.jobs.slot_queue` decides who is next. The trigger only waits; the worker submits.

    :param kling_conn_id: The Airflow connection, which identifies the account.
    :param not_before: Earliest time to be called (epoch seconds), by the server's Retry-After and Airflow's
        minimum.
    :param at_latest: Latest time to send the event (epoch seconds).
    :param deferred_at: When the worker deferred the task (epoch seconds). Each process that runs this trigger
        counts the two times above from here, as durations: they are from the worker's clock, and the triggerer's
        may differ. None, in triggers of earlier versions, uses them as they are, but no further away than the
        longest pause without a Retry-After.
    :param since: When the task first waited (epoch seconds): its place in the queue. None, where the API is
        unavailable and in triggers of earlier versions, is no place: the trigger only waits until ``at_latest``.
    :param priority: The task's ``priority_weight``; higher ones are called first.
    :param refused: Whether the server refused a submit just before; if not, the task knew that others wait.
    :param model: The requested model, if known: where the server refuses one, tasks with another go first.
    :param version: Version of these arguments.
    """

    def __init__(
        self,
        *,
        kling_conn_id: str,
        not_before: float,
        at_latest: float,
        deferred_at: float | None = None,
        since: float | None = None,
        priority: float = 0.0,
        refused: bool = False,
        model: str | None = None,
        version: int = FORMAT,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kling_conn_id = kling_conn_id
        self.not_before = not_before
        self.at_latest = at_latest
        self.deferred_at = deferred_at
        self.since = since
        self.priority = priority
        self.refused = refused
        self.model = model

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what rebuilds this trigger in any triggerer."""
        return (
            "airflow_provider_kling.triggers.kling.KlingSlotTrigger",
            {
                "kling_conn_id": self.kling_conn_id,
                "not_before": self.not_before,
                "at_latest": self.at_latest,
                "deferred_at": self.deferred_at,
                "since": self.since,
                "priority": self.priority,
                "refused": self.refused,
                "model": self.model,
                "version": FORMAT,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Yield one event: ``version``, ``status``, and ``call`` if the task was called.

        The ``status`` is ``slot``, or ``no_slot`` for a task in the queue that was not called in time. ``call``
        has ``id``, ``is_free`` (False: stand by), ``waiting`` (how many other tasks wait) and ``at`` (epoch
        seconds).
        """
        now = steady_clock()
        began = now()
        first, last = self._pauses(began)
        if self.since is None:
            await asyncio.sleep(max(first, last))
            yield TriggerEvent({"version": FORMAT, "status": "slot"})
            return
        await _client_loaded()
        from airflow_provider_kling.client.async_client import shared_client

        async with shared_client(self.kling_conn_id) as client:
            slots = slot_waits(self.kling_conn_id)
            slots.queue.limit = await client.max_concurrent_jobs()
            called = await slots.wait(
                task_instance_of(self),
                since=self.since,
                priority=self.priority,
                kind=self.model,
                pause=first,
                refused_ago=self._refused_ago(began),
                timeout=last - (now() - began),
            )
        if called is None:
            yield TriggerEvent({"version": FORMAT, "status": "no_slot"})
        else:
            yield TriggerEvent(
                {"version": FORMAT, "status": "slot", "call": {**called._asdict(), "at": time.time()}}
            )

    async def on_kill(self) -> None:
        """
        Log that nothing was bought when a user fails, clears or marks the task (Airflow 3.3 and later).

        Airflow calls this also where another triggerer takes the task over.
        """
        self.log.info(
            "The wait for a slot of %s has ended on this triggerer. Nothing was bought while it lasted",
            self.kling_conn_id,
        )

    def _refused_ago(self, now: float) -> float | None:
        """Return how many seconds ago the server refused a submit, as far as clocks can tell."""
        if not self.refused or self.deferred_at is None:
            return None
        return min(max(now - self.deferred_at, 0.0), LONGEST_SLOT_PAUSE)

    def _pauses(self, now: float) -> tuple[float, float]:
        """Return the minimum and the maximum seconds until this trigger wakes."""
        if self.deferred_at is None:
            moments = (self.not_before, self.at_latest)
            first, last = (seconds_until(moment, now=now, at_most=LONGEST_SLOT_PAUSE) for moment in moments)
            return first, last
        first, last = self.not_before - self.deferred_at, self.at_latest - self.deferred_at
        if self.since is None:
            return first, last
        # Hours, which a restart of the triggerer must not start anew; but Airflow's minimum has to pass.
        return first, max(min(last, max(self.at_latest - now, SHORTEST_WAIT)), first)


#: Set once this process has completely imported the HTTP client.
_loaded = threading.Event()


async def _client_loaded() -> None:
    """Import the HTTP client in a thread: that takes long enough to block all triggers of the loop."""
    if not _loaded.is_set():
        await asyncio.to_thread(import_module, "airflow_provider_kling.client.async_client")
        _loaded.set()
