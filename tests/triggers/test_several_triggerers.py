# SPDX-License-Identifier: Apache-2.0
"""Two triggerers, each with an event loop of its own, serve one account."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from airflow_provider_kling.jobs.slot_queue import FIRST_PROBE, LONGEST_HANDOVER
from airflow_provider_kling.triggers import handover
from airflow_provider_kling.triggers.slots import Called, SlotWaits, slot_waits
from airflow_provider_kling.version_compat import triggers_write

T = TypeVar("T")
ACCOUNT = "an account"

pytestmark = pytest.mark.skipif(not triggers_write(), reason="a triggerer of this Airflow writes nothing")


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Variables."""
    return handover.Variable


@contextmanager
def triggerer() -> Iterator[Callable[[Coroutine[Any, Any, T]], T]]:
    """Run an event loop in a thread; yields what runs a coroutine there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(timeout=30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


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
    with triggerer() as one, triggerer() as other:
        one(watch("job"))
        one(see_the_end("job"))
        began = time.monotonic()
        called = other(wait(FIRST_PROBE - 2))
        assert called is not None
        assert called.is_free
        assert time.monotonic() - began < FIRST_PROBE / 2
        assert handover.handover_name(ACCOUNT) not in book


def test_it_calls_one_task_only() -> None:
    handover.hand_over(ACCOUNT, 1)
    with triggerer() as one, triggerer() as other:
        assert one(wait(8)) is not None
        assert other(wait(8)) is None


def test_what_several_hand_over_is_taken_over_together(book: Any) -> None:
    handover.hand_over(ACCOUNT, 1)
    handover.hand_over(ACCOUNT, 2)
    assert handover.take_over(ACCOUNT) == 3
    assert handover.take_over(ACCOUNT) == 0


@pytest.mark.parametrize("text", ["[1, 2]", "", "no JSON", "{}", '["a"]', "7", "null", "[null]"])
def test_what_is_old_or_no_list_of_times_is_nothing(book: Any, text: str) -> None:
    book[handover.handover_name(ACCOUNT)] = text
    assert handover.take_over(ACCOUNT) == 0
    book[handover.handover_name(ACCOUNT)] = text
    handover.hand_over(ACCOUNT, 1)
    assert handover.take_over(ACCOUNT) == 1


def test_it_does_not_pile_up(book: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    for minute in range(50):
        monkeypatch.setattr(time, "time", lambda minute=minute: now + minute * (LONGEST_HANDOVER + 1))
        handover.hand_over(ACCOUNT, 3)
    assert handover.take_over(ACCOUNT) == 3


def test_a_backend_that_fails_fails_nothing(book: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no backend")

    handover.hand_over(ACCOUNT, 1)
    for name in ("set", "delete"):
        monkeypatch.setattr(type(book), name, fail)
    handover.hand_over(ACCOUNT, 1)
    assert handover.take_over(ACCOUNT) == 0
