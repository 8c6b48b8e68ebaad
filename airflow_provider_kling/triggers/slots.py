# SPDX-License-Identifier: Apache-2.0
"""The queue for the slots of each account, in the event loop of a triggerer."""

from __future__ import annotations

import asyncio
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from airflow_provider_kling.jobs.polling import steady_clock
from airflow_provider_kling.jobs.slot_queue import CALL_KEY, LOOK_INTERVAL, SlotQueue, Waiter
from airflow_provider_kling.version_compat import TaskInstanceRef, in_thread, set_xcom_of, triggers_write

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine

_log = logging.getLogger(__name__)
#: Seconds between two decisions while somebody waits and nothing else happens.
_INTERVAL = 1.0
#: Seconds until the next look for ends that others hand over, for each second that the last one took.
_LOOK_SHARE = 20.0
#: The thread that tells tasks to go on: an XCom backend may do I/O, and may be slow.
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kling-slots")
#: The thread that hands ends over to other triggerers, which no task that stands by waits for.
_HANDOVER_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kling-handover")


class Called(NamedTuple):
    """
    What a task is called for.

    :param id: Identifies the call.
    :param is_free: Whether a slot is free; if not, the task stands by until XCom :data:`.CALL_KEY` is ``id``.
    :param waiting: How many other tasks wait.
    """

    id: str
    is_free: bool
    waiting: int


class SlotWaits:
    """The tasks that wait for a slot of one account in one event loop.

    :param conn_id: The connection, which identifies the account.
    """

    def __init__(self, conn_id: str) -> None:
        self.queue = SlotQueue()
        self._conn_id = conn_id
        self._now = steady_clock()
        self._called: dict[Waiter, asyncio.Future[bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._next_look = 0.0
        self._is_exchanging = False
        self._has_failed = False

    @property
    def is_awaited(self) -> bool:
        """Whether a task waits for a slot."""
        return len(self.queue) > 0

    async def wait(
        self,
        ti: TaskInstanceRef | None,
        *,
        since: float,
        priority: float,
        pause: float,
        refused_ago: float | None,
        timeout: float,  # noqa: ASYNC109 - a timeout is a result here, not an error
        kind: str | None = None,
    ) -> Called | None:
        """
        Wait to be called.

        :param ti: The task instance that waits, if known.
        :param since: When it first waited (epoch seconds).
        :param priority: Its ``priority_weight``.
        :param pause: Minimum seconds to wait.
        :param refused_ago: How many seconds ago the server refused its submit; None if it sent none.
        :param timeout: Maximum seconds to wait.
        :param kind: The model that it asks for, if known.
        :return: The call; None if there was none in time.
        """
        now, call_id = self._now(), uuid.uuid4().hex[:12]
        waiter = Waiter(ti, since=since, priority=priority, not_before=now + pause, kind=kind)
        if ti is not None and triggers_write():
            waiter.tell = lambda: self._tell(waiter, ti, call_id)
        called: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._called[waiter] = called
        self.queue.join(waiter, now=now, refused_at=None if refused_ago is None else now - refused_ago)
        self.decide_soon()
        try:
            await asyncio.wait([called], timeout=timeout)
        except asyncio.CancelledError:
            self._leave(waiter)
            raise
        finally:
            self._called.pop(waiter, None)
        if not called.done():
            self._leave(waiter)
            return None
        return Called(call_id, called.result(), self.queue.unserved)

    def decide_soon(self) -> None:
        """Decide who is called, once what happens in this turn of the loop has happened."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(0, self._decide)

    def started(
        self,
        kling_task_id: str,
        *,
        ti: TaskInstanceRef | None,
        started_at: float,
        now: float,
        expected: Callable[[], tuple[float, float]],
        may_have_ended: bool,
        call_latency: float | None,
    ) -> None:
        """Note that somebody waits for a job; see :meth:`.SlotQueue.started`."""
        if call_latency is not None:
            self.queue.learn(call_latency)
        self.queue.started(
            kling_task_id,
            task=ti,
            started_at=started_at,
            now=now,
            expected=expected,
            may_have_ended=may_have_ended,
            was_called=call_latency is not None,
        )
        self.decide_soon()

    def seen(self, kling_task_id: str) -> None:
        """Note that a job is unfinished."""
        self.queue.seen(kling_task_id)

    def left(self, kling_task_id: str) -> None:
        """Note that somebody waits for a job no longer."""
        self.queue.left(kling_task_id)

    def ended(self, kling_task_id: str) -> None:
        """Note that a job has ended, so that its slot is free."""
        self.queue.ended(kling_task_id, now=self._now())
        self.decide_soon()

    def _leave(self, waiter: Waiter) -> None:
        self.queue.leave(waiter, now=self._now())
        self.decide_soon()

    def _decide(self) -> None:
        self._timer = None
        now = self._now()
        try:
            for call in self.queue.calls(now=now):
                if call.from_stand_by:
                    if call.waiter.tell is not None:
                        call.waiter.tell()
                elif (called := self._called.get(call.waiter)) and not called.done():
                    called.set_result(call.is_free)
            if self.queue.has_other_triggerers(now) and triggers_write():
                self._exchange_ends(now)
        except Exception:  # noqa: BLE001 - a fault in one decision must not end all further ones
            if not self._has_failed:
                self._has_failed = True
                _log.exception(
                    "The queue for the slots of an account could not decide who is next; it tries again each "
                    "second. Later failures are not logged"
                )
        if self.queue.unserved:
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._decide)

    def _exchange_ends(self, now: float) -> None:
        """Hand over ends that nobody waits for here, or look for those that another triggerer has handed over."""
        if self._is_exchanging:
            return
        if ages := self.queue.hand_over(now=now):
            self._is_exchanging = True
            self._run(self._hand_over(ages))
        elif self.is_awaited and now >= self._next_look:
            self._is_exchanging = True
            self._run(self._take_over(now))

    async def _hand_over(self, ages: list[float]) -> None:
        try:
            await in_thread(_hand_over, self._conn_id, ages, executor=_HANDOVER_THREAD)
            await asyncio.sleep(_INTERVAL)  # what is seen meanwhile is handed over together
        finally:
            self._is_exchanging = False
        self.decide_soon()

    async def _take_over(self, began: float) -> None:
        ages: list[float] = []
        try:
            ages = await in_thread(_take_over, self._conn_id, executor=_HANDOVER_THREAD)
        finally:
            # A backend that is slow is asked less often.
            now = self._now()
            self._next_look = now + max(LOOK_INTERVAL, _LOOK_SHARE * (now - began))
            self._is_exchanging = False
        if ages:
            self.queue.take_over(ages, now=now)
            self.decide_soon()

    def _tell(self, waiter: Waiter, ti: TaskInstanceRef, call_id: str) -> None:
        self._run(self._write_call(waiter, ti, call_id))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        # Its own context, since that of a trigger leads to the log of one task.
        running = asyncio.get_running_loop().create_task(work, context=Context())
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _write_call(self, waiter: Waiter, ti: TaskInstanceRef, call_id: str) -> None:
        try:
            await set_xcom_of(ti, CALL_KEY, call_id, executor=_THREAD)
        except Exception as error:  # noqa: BLE001 - an XCom backend may raise anything
            _log.warning(
                "A task that stands by could not be told of a free slot: another task gets the slot, and this one "
                "returns to the queue. %s: %s",
                type(error).__name__,
                error,
            )
            # Not at once: a backend that is down would send all who wait to stand by, one after the other.
            asyncio.get_running_loop().call_later(_INTERVAL, self._leave, waiter)


def _hand_over(conn_id: str, ages: list[float]) -> None:
    # Imported in the thread: the event loop would wait for it.
    from airflow_provider_kling.triggers.handover import hand_over

    hand_over(conn_id, ages)


def _take_over(conn_id: str) -> list[float]:
    from airflow_provider_kling.triggers.handover import take_over

    return take_over(conn_id)


_waits: WeakKeyDictionary[AbstractEventLoop, dict[str, SlotWaits]] = WeakKeyDictionary()


def slot_waits(conn_id: str) -> SlotWaits:
    """Return the tasks that wait for a slot of the account of a connection, in the running event loop."""
    waits = _waits.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in waits:
        waits[conn_id] = SlotWaits(conn_id)
    return waits[conn_id]
