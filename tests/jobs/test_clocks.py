# SPDX-License-Identifier: Apache-2.0
"""Two machines whose clocks differ: no pause becomes longer than it was meant to be."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.exceptions import KlingNotFoundError
from airflow_provider_kling.jobs.clocks import (
    LONGEST_MINIMUM,
    SHORTEST_WAIT,
    seconds_until,
    shortest_deferral,
    wait_times,
)
from airflow_provider_kling.jobs.poll_schedule import delay_for
from airflow_provider_kling.jobs.polling import Finished, Pause, Poller

NOW = 1_800_000_000.0
HOUR = 3600.0
GRACE = Grace(visibility=60.0, url=60.0)
NOT_FOUND = KlingNotFoundError("No such task", http_status=404, kling_task_id="task_1")

#: Seconds by which the worker's clock is ahead of the triggerer's.
AHEAD = st.floats(-400 * 86400, 400 * 86400)


def poller(*, ahead: float, timeout: float = HOUR, age: float = 1.0, deferred_at: bool = True) -> Poller:
    """The poller of a triggerer that takes up a job which was submitted so many seconds before the deferral."""
    worker = NOW + ahead
    times = wait_times(
        started_at=worker - age,
        deadline=worker + timeout,
        deferred_at=worker if deferred_at else None,
        now=NOW,
    )
    return Poller(
        "task_1",
        started_at=times.started_at,
        deadline=times.deadline,
        delay=delay_for(5.0),
        visible_from=times.visible_from,
    )


def gave_up(decision: Pause | Finished) -> bool:
    """Whether a poller ends with the server's error, which gets the id of the job."""
    error = decision.error if isinstance(decision, Finished) else None
    return isinstance(error, KlingNotFoundError) and error.message == NOT_FOUND.message


@pytest.mark.parametrize(
    ("min_heartbeat_interval", "is_guarded", "seconds"),
    [
        (5.0, False, 15.0),
        (5.0, True, 7.0),
        (1.0, False, 11.0),
        (30.0, True, 32.0),
        (0.0, True, 2.0),
        (3600.0, False, LONGEST_MINIMUM),
        (3600.0, True, LONGEST_MINIMUM),
    ],
)
def test_the_shortest_deferral(min_heartbeat_interval: float, is_guarded: bool, seconds: float) -> None:
    assert shortest_deferral(min_heartbeat_interval=min_heartbeat_interval, is_guarded=is_guarded) == seconds


class TestClocksThatAgree:
    def test_change_nothing(self) -> None:
        times = wait_times(started_at=NOW - 9, deadline=NOW + HOUR, deferred_at=NOW - 2, now=NOW)
        assert times == (NOW - 9, NOW + HOUR, NOW - 7)

    def test_after_a_restart_of_the_triggerer_the_deadline_is_the_same(self) -> None:
        times = wait_times(started_at=NOW - HOUR, deadline=NOW + HOUR, deferred_at=NOW - HOUR, now=NOW)
        assert (times.started_at, times.deadline) == (NOW - HOUR, NOW + HOUR)

    def test_a_wait_taken_up_past_its_deadline_gets_a_minimum(self) -> None:
        times = wait_times(started_at=NOW - HOUR, deadline=NOW - 9, deferred_at=NOW - HOUR, now=NOW)
        assert times.deadline == NOW + SHORTEST_WAIT

    def test_a_trigger_of_an_earlier_version_keeps_its_deadline(self) -> None:
        times = wait_times(started_at=NOW - HOUR, deadline=NOW - 9, deferred_at=None, now=NOW)
        assert times == (NOW - HOUR, NOW - 9, NOW - HOUR)


class TestAWorkerWhoseClockIsAhead:
    @pytest.mark.parametrize("deferred_at", [True, False], ids=["", "a trigger of an earlier version"])
    def test_moves_all_times_back_together(self, deferred_at: bool) -> None:
        wait = poller(ahead=HOUR, timeout=1800, age=0.0, deferred_at=deferred_at)
        assert (wait.started_at, wait.deadline) == (NOW, NOW + 1800)
        assert wait.first_pause(now=NOW) == 5.0

    def test_a_job_that_is_joined_may_have_started_in_the_past_of_both(self) -> None:
        wait = poller(ahead=HOUR, timeout=1800, age=4 * HOUR)
        assert (wait.started_at, wait.deadline) == (NOW - 4 * HOUR, NOW + 1800)

    def test_a_start_that_a_third_clock_wrote_is_no_later_than_now(self) -> None:
        times = wait_times(started_at=NOW + 9 * HOUR, deadline=NOW + 60, deferred_at=NOW, now=NOW)
        assert (times.started_at, times.deadline) == (NOW, NOW + 60)

    def test_an_unknown_job_is_waited_for_no_longer_than_else(self) -> None:
        wait = poller(ahead=HOUR)
        assert isinstance(wait.on_error(NOT_FOUND, grace=GRACE, now=NOW), Pause)
        assert gave_up(wait.on_error(NOT_FOUND, grace=GRACE, now=NOW + 60))

    def test_nor_where_a_poller_alone_reads_the_start(self) -> None:
        wait = Poller("task_1", started_at=NOW + HOUR, deadline=NOW + 2 * HOUR, delay=delay_for(5.0))
        assert wait.first_pause(now=NOW) == 5.0
        assert wait.on_error(NOT_FOUND, grace=GRACE, now=NOW + 5) == Pause(5.0)
        assert gave_up(wait.on_error(NOT_FOUND, grace=GRACE, now=NOW + 60))


class TestAWorkerWhoseClockIsBehind:
    def test_lets_the_first_check_come_at_once(self) -> None:
        assert poller(ahead=-HOUR).first_pause(now=NOW) == 0.0

    def test_a_fresh_wait_does_not_time_out_at_once(self) -> None:
        assert poller(ahead=-HOUR, timeout=1800).deadline == NOW + SHORTEST_WAIT
        assert poller(ahead=-HOUR, timeout=60).deadline == NOW + 60

    def test_a_job_that_is_not_stored_yet_is_waited_for_as_long_as_else(self) -> None:
        wait = poller(ahead=-HOUR, age=10.0)
        assert isinstance(wait.on_error(NOT_FOUND, grace=GRACE, now=NOW + 49), Pause)
        assert gave_up(wait.on_error(NOT_FOUND, grace=GRACE, now=NOW + 50))

    @pytest.mark.parametrize("ahead", [-HOUR, 0.0, HOUR])
    @pytest.mark.parametrize("late", [0.0, 600.0])
    def test_keeps_the_minimum_of_a_deferral(self, ahead: float, late: float) -> None:
        worker = NOW + ahead
        assert seconds_until(worker + 15, now=NOW + late, at_most=15.0, deferred_at=worker) == 15.0

    def test_a_trigger_without_a_minimum_has_none(self) -> None:
        assert seconds_until(0.0, now=NOW, at_most=15.0, deferred_at=NOW - HOUR) == 0.0


@given(ahead=AHEAD, timeout=st.floats(1, 30 * 86400), age=st.floats(0, 30 * 86400), deferred_at=st.booleans())
@example(ahead=HOUR, timeout=1800.0, age=0.0, deferred_at=True)
def test_any_skew_delays_nothing(ahead: float, timeout: float, age: float, deferred_at: bool) -> None:
    wait = poller(ahead=ahead, timeout=timeout, age=age, deferred_at=deferred_at)
    assert 0.0 <= wait.first_pause(now=NOW) <= 5.0
    assert wait.started_at <= NOW
    if deferred_at:
        assert NOW + min(timeout, SHORTEST_WAIT) - 1e-3 <= wait.deadline <= NOW + timeout + 1e-3
        assert isinstance(wait.on_error(NOT_FOUND, grace=GRACE, now=NOW + GRACE.visibility), Finished)


@given(moment=st.floats(-1e12, 1e12), at_most=st.floats(0, 1e6))
def test_a_pause_is_never_longer_than_meant(moment: float, at_most: float) -> None:
    assert 0.0 <= seconds_until(moment, now=NOW, at_most=at_most) <= at_most


def test_an_intact_moment_is_kept() -> None:
    assert seconds_until(NOW + 7, now=NOW, at_most=15.0) == 7.0
