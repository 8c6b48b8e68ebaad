# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.client.rate_limiter import (
    LONGEST_PAUSE,
    LONGEST_SPACING,
    MOST_SLOWDOWN,
    RECOVERY,
    RateLimiter,
)


def departures(limiter: RateLimiter, *, now: float = 0.0, lateness: float = 0.0) -> Iterator[float]:
    """Yield when each request of an endless queue is sent, if all are woken on time."""
    while True:
        while left := limiter.acquire(now=now, lateness=lateness):
            now += left
        yield now


def test_slots_are_evenly_spaced() -> None:
    limiter = RateLimiter(per_second=10)
    times = list(islice(departures(limiter, now=100.0), 4))
    assert [round(time, 6) for time in times] == [100.0, 100.1, 100.2, 100.3]


def test_unused_slots_do_not_accumulate() -> None:
    limiter = RateLimiter(per_second=10)
    assert limiter.acquire(now=0.0) == 0.0
    assert limiter.acquire(now=1000.0) == 0.0
    assert limiter.acquire(now=1000.0) > 0.09


def test_a_slot_that_is_not_acquired_stays_free() -> None:
    limiter = RateLimiter(per_second=10)
    limiter.acquire(now=0.0)
    assert [round(limiter.acquire(now=0.05), 6) for _ in range(100)] == [0.05] * 100
    assert limiter.acquire(now=0.1) == 0.0


def test_a_slot_served_late_does_not_delay_the_next_ones_up_to_a_limit() -> None:
    limiter = RateLimiter(per_second=10)
    limiter.acquire(now=0.0)
    assert limiter.acquire(now=0.15, lateness=1.0) == 0.0
    assert round(limiter.acquire(now=0.15, lateness=1.0), 6) == 0.05
    at_once = 0
    while not limiter.acquire(now=60.0, lateness=1.0):
        at_once += 1
    assert 10 <= at_once <= 11


def test_a_429_slows_all_requests_down_and_the_rate_recovers_slowly() -> None:
    limiter = RateLimiter(per_second=10)
    limiter.refused(now=0.0, retry_after=7.0)
    assert limiter.acquire(now=0.0) == 7.0
    assert limiter.acquire(now=7.0) == 0.0
    assert round(limiter.acquire(now=7.0), 6) == 0.2
    for _ in range(500):
        limiter.accepted()
    assert limiter.slowdown == 1.0


def test_a_changed_rate_applies_from_the_next_slot_on() -> None:
    limiter = RateLimiter(per_second=10)
    limiter.acquire(now=0.0)
    limiter.per_second = 100
    assert round(limiter.acquire(now=0.0), 6) == 0.1
    limiter.acquire(now=0.1)
    assert round(limiter.acquire(now=0.1), 6) == 0.01


@given(refusals=st.integers(0, 100), asked=st.integers(2, 200))
def test_never_faster_than_allowed(refusals: int, asked: int) -> None:
    limiter = RateLimiter(per_second=50)
    for number in range(refusals):
        limiter.refused(now=float(number), retry_after=None)
    times = islice(departures(limiter, now=float(refusals), lateness=1.0), asked)
    assert all(later - sooner >= 0.02 - 1e-9 for sooner, later in pairwise(times))


@given(
    per_second=st.floats(0.1, 1000),
    refused_for=st.floats(0, 100),
    retry_after=st.none() | st.floats(0, 60),
    waiting=st.integers(1, 2000),
)
def test_a_server_that_refuses_no_more_is_soon_asked_at_full_pace_by_all_who_wait(
    per_second: float, refused_for: float, retry_after: float | None, waiting: int
) -> None:
    limiter = RateLimiter(per_second)
    times = departures(limiter)
    now = last_refusal = 0.0
    for _ in range(waiting):
        now = next(times)
        while now < refused_for:
            last_refusal = now
            limiter.refused(now=now, retry_after=retry_after)
            now = next(times)
        limiter.accepted()
    pause = 1.0 if retry_after is None else retry_after
    # Once the pause is over: one gap of the slowest kind, gaps that shrink by a constant factor, and even ones.
    recovery = (1 + 1 / (1 - RECOVERY)) * MOST_SLOWDOWN / per_second
    assert now <= last_refusal + pause + recovery + waiting / per_second


@given(
    per_second=st.floats(0.01, 1000),
    refusals=st.lists(st.none() | st.floats(0, 1e9), max_size=60),
    waiting=st.integers(1, 50),
)
def test_the_last_waiting_request_is_sent_within_a_bounded_time_after_the_last_429(
    per_second: float, refusals: list[float | None], waiting: int
) -> None:
    limiter = RateLimiter(per_second)
    times = departures(limiter)
    now = 0.0
    for retry_after in refusals:
        now = next(times)
        limiter.refused(now=now, retry_after=retry_after)
    last_refusal = now
    for _ in range(waiting):
        now = next(times)
    assert now <= last_refusal + LONGEST_PAUSE + waiting * max(1 / per_second, LONGEST_SPACING) + 1e-6


def test_a_low_rate_is_not_slowed_down_to_minutes() -> None:
    limiter = RateLimiter(per_second=0.5)
    for number in range(10):
        limiter.refused(now=number * 100.0, retry_after=1.0)
    times = list(islice(departures(limiter, now=2000.0), 3))
    assert [round(time - times[0], 6) for time in times] == [0.0, 2.0, 4.0]
