# SPDX-License-Identifier: Apache-2.0
"""Wait for a Kling job on the triggerer, without a worker."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.jobs.clocks import SHORTEST_DEFERRAL, WaitTimes, seconds_until, wait_times
from airflow_provider_kling.jobs.poll_schedule import delay_for, learned_durations
from airflow_provider_kling.jobs.polling import (
    DEFAULT_TIMEOUT,
    FORMAT,
    Finished,
    Poller,
    steady_clock,
)
from airflow_provider_kling.jobs.result import task_reference
from airflow_provider_kling.jobs.submission import LONGEST_SLOT_PAUSE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from airflow_provider_kling.client.async_client import SharedClient


#: The thread that writes what triggers tell while they wait. A line goes through a pipe to the triggerer's
#: supervisor, which may be slow to read. Neither an event loop nor a trigger waits for that, nor do the loop's own
#: threads, which look up host names for everybody.
_LOG_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kling-scribe")


class KlingTaskTrigger(BaseTrigger):
    """
    Ask for the status of one job until it is finished, and send one event.

    It only asks; it never submits, since a trigger is run again after every restart of a triggerer. All its
    arguments and its event are plain JSON that may be stored and logged: no key, no prompt.

    :param kling_task_id: The Kling task to wait for.
    :param kling_conn_id: The Airflow connection, looked up on the triggerer once for all triggers.
    :param started_at: When the job was submitted or, if unknown, the wait began (epoch seconds). None counts from
        when the trigger first runs in a process.
    :param deadline: When to send a ``timeout`` event (epoch seconds). Wall clock, since the trigger may go on in
        another process on another machine. None is ``timeout`` after ``started_at``.
    :param timeout: Seconds to wait where no deadline is known: a DAG file that starts a sensor on the triggerer
        cannot know when that will be.
    :param poll_interval: Fixed seconds between two checks; None leaves the pace to the provider.
    :param model: The model asked for, if known: how long its videos take is learned.
    :param video_seconds: Length of the video asked for, if known: longer ones take longer to make.
    :param not_before: The earliest time to send the event (epoch seconds).
    :param route: The status route that the server has, if the worker has learned it.
    :param deferred_at: When the worker deferred the task (epoch seconds). The worker's clock wrote these times,
        and the triggerer's may differ: see :mod:`airflow_provider_kling.jobs.clocks`.
    :param other_id: Another id that the submit gave; it is asked with where the server does not know the first.
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
                "version": FORMAT,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``version``, ``status``, ``kling_task_id``, and ``video`` or ``error``."""
        await _client_loaded()
        from airflow_provider_kling.client.async_client import shared_client

        now = steady_clock()
        first_event = now() + seconds_until(self.not_before, now=now(), at_most=SHORTEST_DEFERRAL)
        try:
            poller = self._poller(now())
        except KlingError as error:
            finished = Finished(error=error)
        else:
            async with shared_client(self.kling_conn_id) as client:
                if self.started_at is not None:
                    await asyncio.sleep(poller.first_pause(now=now()))
                finished = await self._wait(client, poller, now)
        await asyncio.sleep(first_event - now())
        yield TriggerEvent(finished.event())

    def _poller(self, now: float) -> Poller:
        kling_task_id, _ = task_reference(self.kling_task_id)
        times = self._times(now)
        return Poller(
            kling_task_id,
            started_at=times.started_at,
            deadline=times.deadline,
            delay=delay_for(
                self.poll_interval, learned_durations(self.kling_conn_id), self.video_seconds, self.model
            ),
            visible_from=times.visible_from,
            other_id=self.other_id,
        )

    def _times(self, now: float) -> WaitTimes:
        started_at = now if self.started_at is None else self.started_at
        deadline = started_at + self.timeout if self.deadline is None else self.deadline
        return wait_times(started_at=started_at, deadline=deadline, deferred_at=self.deferred_at, now=now)

    async def _wait(self, client: SharedClient, poller: Poller, now: Callable[[], float]) -> Finished:
        """Ask until the wait is over, and log what changes."""
        loop = asyncio.get_running_loop()
        logging_line: asyncio.Future[None] | None = None
        try:
            while True:
                try:
                    job = await client.get_video(
                        poller.kling_task_id,
                        route=self.route,
                        queue_timeout=poller.check_timeout(now=now()),
                    )
                    decision = poller.on_job(job, grace=client.grace, now=(at := now()))
                except KlingError as error:
                    decision = poller.on_error(error, grace=client.grace, now=(at := now()))
                if isinstance(decision, Finished):
                    if poller.job_has_ended:
                        client.slots.wake_one()
                    return decision  # the worker that goes on tells the end
                # While the last line is not written yet, news wait to be told in one.
                if (logging_line is None or logging_line.done()) and (line := poller.progress_message(now=at)):
                    logging_line = loop.run_in_executor(_LOG_THREAD, copy_context().run, self._log_line, line)
                await asyncio.sleep(decision.seconds)
        finally:
            if logging_line is not None:
                logging_line.cancel()  # Airflow closes the log of a trigger that has ended

    def _log_line(self, line: str) -> None:
        self.log.info(line)  # called here, so that the log names this file as the place

    async def on_kill(self) -> None:
        """Say what goes on when a user fails, clears or marks the task (Airflow 3.3 and later)."""
        self.log.warning(
            "The wait was ended from outside. Kling task %s goes on at the vendor, and bills; a later attempt of "
            "this task can join it",
            self.kling_task_id,
        )


class KlingSlotTrigger(BaseTrigger):
    """
    Wait until the account may have a slot free for another job.

    That is when a job which this triggerer watches on the same connection finishes, or at the latest when the
    time is up. It only waits; the submit is the worker's.

    :param kling_conn_id: The Airflow connection, which stands for the account.
    :param not_before: The earliest time to wake (epoch seconds): what the server asks for, and Airflow needs.
    :param at_latest: The latest time to wake (epoch seconds).
    :param deferred_at: When the worker deferred the task (epoch seconds). The two times before count from here, as
        durations, in each process that runs this: the worker's clock wrote them, and the triggerer's may differ.
        None, in triggers of earlier versions, takes them as they are, but no further away than the longest pause
        that needs no server's wish.
    :param version: Version of these arguments.
    """

    def __init__(
        self,
        *,
        kling_conn_id: str,
        not_before: float,
        at_latest: float,
        deferred_at: float | None = None,
        version: int = FORMAT,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kling_conn_id = kling_conn_id
        self.not_before = not_before
        self.at_latest = at_latest
        self.deferred_at = deferred_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what rebuilds this trigger in any triggerer."""
        return (
            "airflow_provider_kling.triggers.kling.KlingSlotTrigger",
            {
                "kling_conn_id": self.kling_conn_id,
                "not_before": self.not_before,
                "at_latest": self.at_latest,
                "deferred_at": self.deferred_at,
                "version": FORMAT,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event, ``{"version", "status": "slot"}``."""
        now = steady_clock()
        first, last = (now() + pause for pause in self._pauses(now()))
        await _client_loaded()
        from airflow_provider_kling.client.async_client import shared_client

        async with shared_client(self.kling_conn_id) as client:
            await client.slots.wait(timeout=last - now())
            await asyncio.sleep(first - now())
        yield TriggerEvent({"version": FORMAT, "status": "slot"})

    def _pauses(self, now: float) -> tuple[float, float]:
        """Return the seconds until this may wake, and until it does."""
        if self.deferred_at is not None:
            return self.not_before - self.deferred_at, self.at_latest - self.deferred_at
        moments = (self.not_before, self.at_latest)
        first, last = (seconds_until(moment, now=now, at_most=LONGEST_SLOT_PAUSE) for moment in moments)
        return first, last


#: That this process has imported the HTTP client, whole.
_loaded = threading.Event()


async def _client_loaded() -> None:
    """Have the HTTP client imported in a thread: that takes long enough to hold up all triggers of the loop."""
    if not _loaded.is_set():
        await asyncio.to_thread(import_module, "airflow_provider_kling.client.async_client")
        _loaded.set()
