# SPDX-License-Identifier: Apache-2.0
"""Two triggerers, each with an event loop of its own, serve one account."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, Self, TypeVar

import pytest

from airflow_provider_kling.jobs.slot_queue import FIRST_PROBE, LONGEST_HANDOVER, LOOK_INTERVAL
from airflow_provider_kling.triggers import handover
from airflow_provider_kling.triggers.slots import Called, SlotWaits, slot_waits
from airflow_provider_kling.version_compat import triggers_write

T = TypeVar("T")
ACCOUNT = "an account"

pytestmark = pytest.mark.skipif(not triggers_write(), reason="a triggerer of this Airflow writes nothing")


@pytest.fixture
def book() -> Any:
    """The Variables."""
    return handover.Variable


class Triggerer:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.begin(work).result(timeout=30)


async def watch(job: str) -> SlotWaits:
    """Watch a job that a task has submitted which another triggerer had called."""
    slots, now = slot_waits(ACCOUNT), time.time()
    slots.started(
        job,
        ti=None,
        started_at=now,
        now=now,
        expected=lambda: (9.0, 0.1),
        may_have_ended=False,
        call_latency=2.0,
    )
    return slots


async def see_the_end(job: str) -> None:
    slot_waits(ACCOUNT).ended(job)


async def wait(timeout: float) -> Called | None:  # noqa: ASYNC109
    """Wait for a slot after a refusal, where the jobs of others are known."""
    slots = await watch("another job")
    slots.left("another job")
    return await slots.wait(None, since=1.0, priority=0.0, pause=0.0, refused_ago=0.0, timeout=timeout)


def test_an_end_seen_where_nobody_waits_calls_a_task_of_the_other(book: Any) -> None:
    with Triggerer() as one, Triggerer() as other:
        one.do(watch("job"))
        waiting = other.begin(wait(FIRST_PROBE - 2))
        time.sleep(1)
        assert not waiting.done()
        one.do(see_the_end("job"))
        called = waiting.result(timeout=LOOK_INTERVAL + 3)
        assert called is not None
        assert called.is_free
        assert handover.handover_name(ACCOUNT) not in book


def test_it_calls_one_task_only() -> None:
    with Triggerer() as one, Triggerer() as other:
        waiting = [triggerer.begin(wait(8)) for triggerer in (one, other)]
        time.sleep(1)
        handover.hand_over(ACCOUNT, [0.0])
        called = [one_of_them.result(timeout=30) for one_of_them in waiting]
        assert called.count(None) == 1


def test_an_end_before_the_refusal_calls_nobody() -> None:
    handover.hand_over(ACCOUNT, [1.0])
    with Triggerer() as one:
        assert one.do(wait(8)) is None


def test_what_is_seen_while_a_write_takes_its_time_is_handed_over_together(
    book: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[str] = []

    def write_slowly(self: Any, key: str, value: str, description: str | None = None) -> None:
        time.sleep(0.5)
        writes.append(value)
        self[key] = value

    async def see_many_ends() -> None:
        for number in range(40):
            await watch(f"job {number}")
        for number in range(40):
            await see_the_end(f"job {number}")
            await asyncio.sleep(0.02)

    monkeypatch.setattr(type(book), "set", write_slowly)
    with Triggerer() as one:
        one.do(see_many_ends())
        one.do(asyncio.sleep(4))
    assert len(writes) <= 4
    assert len(handover.take_over(ACCOUNT)) == 40


def test_a_slow_backend_is_not_asked_again_and_again(book: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[float] = []

    def read_slowly(self: Any, key: str, default: Any = None) -> Any:
        reads.append(time.monotonic())
        time.sleep(0.6)
        return default

    monkeypatch.setattr(type(book), "get", read_slowly)
    with Triggerer() as one:
        assert one.do(wait(10)) is None
    assert len(reads) == 1


def test_nobody_looks_where_nobody_waits(book: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    monkeypatch.setattr(type(book), "get", lambda self, key, default=None: reads.append(key))

    async def watch_and_leave() -> None:
        (await watch("job")).left("job")
        await asyncio.sleep(2)

    with Triggerer() as one:
        one.do(watch_and_leave())
    assert reads == []


def test_a_triggerer_that_serves_an_account_alone_neither_reads_nor_writes(
    book: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    for name in ("get", "set", "delete"):
        monkeypatch.setattr(type(book), name, lambda self, key, *_, name=name: used.append(name))

    async def serve() -> None:
        slots, now = slot_waits(ACCOUNT), time.time()
        own = {"ti": None, "started_at": now, "now": now, "expected": lambda: (9.0, 0.1)}
        slots.started("job", **own, may_have_ended=False, call_latency=None)
        waiting = asyncio.ensure_future(
            slots.wait(None, since=1.0, priority=0.0, pause=0.0, refused_ago=0.0, timeout=8.0)
        )
        await asyncio.sleep(2)
        slots.ended("job")
        assert await waiting is not None

    with Triggerer() as one:
        one.do(serve())
    assert used == []


def test_what_several_hand_over_is_taken_over_together() -> None:
    handover.hand_over(ACCOUNT, [0.0])
    handover.hand_over(ACCOUNT, [1.0, 5.0])
    assert sorted(handover.take_over(ACCOUNT)) == pytest.approx([0.0, 1.0, 5.0], abs=0.5)
    assert handover.take_over(ACCOUNT) == []


@pytest.mark.parametrize(
    "text", ["[1, 2]", "", "no JSON", "{}", '["a"]', "7", "null", "[null]", f"[{10**400}]", "[1e999, NaN]"]
)
def test_what_is_old_or_no_list_of_times_is_nothing(book: Any, text: str) -> None:
    book[handover.handover_name(ACCOUNT)] = text
    assert handover.take_over(ACCOUNT) == []
    book[handover.handover_name(ACCOUNT)] = text
    handover.hand_over(ACCOUNT, [0.0])
    assert len(handover.take_over(ACCOUNT)) == 1


def test_it_does_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for minute in range(50):
        monkeypatch.setattr(time, "time", lambda minute=minute: now + minute * (LONGEST_HANDOVER + 1))
        handover.hand_over(ACCOUNT, [0.0] * 3)
    assert len(handover.take_over(ACCOUNT)) == 3


@pytest.mark.parametrize("broken", ["get", "set", "delete"])
def test_a_backend_that_fails_fails_nothing(book: Any, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no backend")

    handover.hand_over(ACCOUNT, [0.0])
    monkeypatch.setattr(type(book), broken, fail)
    handover.hand_over(ACCOUNT, [0.0])
    assert len(handover.take_over(ACCOUNT)) == {"get": 0, "set": 1, "delete": 0}[broken]
