# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.pace import MOST_SLOWDOWN, Pace


def test_turns_are_evenly_spaced_in_the_order_asked_for() -> None:
    pace = Pace(per_second=10)
    waits = [pace.reserve(now=100.0) for _ in range(4)]
    assert [round(wait, 6) for wait in waits] == [0.0, 0.1, 0.2, 0.3]


def test_an_idle_pace_saves_nothing_up_for_a_burst() -> None:
    pace = Pace(per_second=10)
    pace.reserve(now=0.0)
    assert pace.reserve(now=1000.0) == 0.0
    assert pace.reserve(now=1000.0) > 0.09


def test_a_refusal_slows_everybody_down_and_is_forgotten_slowly() -> None:
    pace = Pace(per_second=10)
    pace.refused(now=0.0, retry_after=7.0)
    assert pace.reserve(now=0.0) == 7.0
    assert pace.reserve(now=0.0) > 7.1
    for _ in range(500):
        pace.accepted()
    assert pace.slowdown == 1.0


@given(refusals=st.integers(0, 100), asked=st.integers(1, 200))
def test_never_faster_than_allowed_and_never_stuck(refusals: int, asked: int) -> None:
    pace = Pace(per_second=50)
    for _ in range(refusals):
        pace.refused(now=0.0, retry_after=None)
    waits = [pace.reserve(now=0.0) for _ in range(asked)]
    assert all(later - sooner >= 0.02 - 1e-9 for sooner, later in pairwise(waits))
    assert waits[-1] <= 1.0 + asked * 0.02 * MOST_SLOWDOWN
