# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.jobs.poll_schedule import (
    LONGEST,
    SHORTEST,
    Durations,
    FixedDelay,
    LearnedDelay,
    Progress,
    delay_for,
    next_check,
)

MODEL = "kling-v3-std-silent"


def running(progress: int | None = None) -> VideoJob:
    return VideoJob(kling_task_id="t", status="running", raw_status="running", model=MODEL, progress=progress)


def ended() -> VideoJob:
    return VideoJob(kling_task_id="t", status="completed", raw_status="completed", model=MODEL)


def teach(delay: LearnedDelay, took: float, job: VideoJob) -> None:
    """Look at a job shortly before it ends, and then."""
    delay.next_check(took - 5, running())
    delay.ended(took, job)


def taught(median: float, sigma: float, jobs: int = 200) -> Durations:
    rng = random.Random(1)
    durations = Durations()
    for _ in range(jobs):
        durations.learn(MODEL, 5, rng.lognormvariate(math.log(median), sigma), {})
    return durations


@given(
    elapsed=st.floats(-1e6, 1e7),
    mu=st.floats(math.log(0.1), math.log(1e6)),
    sigma=st.floats(0.05, 3.0),
)
def test_every_check_comes_within_bounds(elapsed: float, mu: float, sigma: float) -> None:
    assert SHORTEST * 0.9 <= next_check(elapsed, mu, sigma) <= LONGEST * 1.1


def test_checks_are_dense_where_videos_are_likely_and_sparse_before_and_long_after() -> None:
    def gap(elapsed: float) -> float:
        return statistics.mean(next_check(elapsed, math.log(90), 0.3) for _ in range(50))

    assert gap(90) < gap(20) / 3
    assert gap(90) < gap(2000)


def test_jobs_submitted_together_are_not_checked_together() -> None:
    gaps = {round(next_check(60, math.log(90), 0.5), 2) for _ in range(1000)}
    assert len(gaps) > 50


def test_it_learns_how_long_a_model_takes() -> None:
    mu, sigma = taught(300, 0.2).expected(MODEL, 5, None)
    assert math.exp(mu) == pytest.approx(300, rel=0.1)
    assert sigma < 0.35


def test_an_unknown_length_goes_by_the_model_and_an_unknown_model_by_all() -> None:
    durations = taught(300, 0.2)
    assert math.exp(durations.expected(MODEL, 15, None)[0]) == pytest.approx(300, rel=0.1)
    assert math.exp(durations.expected("another", None, None)[0]) == pytest.approx(300, rel=0.1)


def test_progress_counts_only_once_it_has_proved_to_be_a_predictor() -> None:
    halfway = Progress(50, 40.0)
    telling, silent = taught(300, 0.5), taught(300, 0.5)
    rng = random.Random(2)
    for _ in range(100):
        took = rng.lognormvariate(math.log(300), 0.5)
        telling.learn(MODEL, 5, took, {50: took * 0.5})
        silent.learn(MODEL, 5, took, {50: rng.uniform(1, took)})
    assert math.exp(telling.expected(MODEL, 5, halfway)[0]) == pytest.approx(80, rel=0.15)
    assert math.exp(silent.expected(MODEL, 5, halfway)[0]) == pytest.approx(300, rel=0.2)


def test_uneven_progress_predicts_as_well_once_its_course_is_known() -> None:
    durations = taught(300, 0.5)
    rng = random.Random(2)
    for _ in range(100):
        took = rng.lognormvariate(math.log(300), 0.5)
        # A third of the bar in the first tenth of the time, and two thirds in the first half.
        durations.learn(MODEL, 5, took, {33: took * 0.1, 66: took * 0.5})
    assert math.exp(durations.expected(MODEL, 5, Progress(33, 20.0))[0]) == pytest.approx(200, rel=0.1)
    assert math.exp(durations.expected(MODEL, 5, Progress(66, 100.0))[0]) == pytest.approx(200, rel=0.1)


def test_the_requested_model_counts_if_the_server_does_not_report_it() -> None:
    durations = taught(300, 0.2)
    for _ in range(200):
        durations.learn("fast", 5, 20.0, {})
    silent = VideoJob(kling_task_id="t", status="completed", raw_status="completed")
    assert LearnedDelay(durations, 5, MODEL).next_check(0.0, None) > LearnedDelay(durations, 5, "fast").next_check(
        0.0, None
    )
    for _ in range(2000):
        teach(LearnedDelay(durations, 5, "fast"), 100.0, silent)
    assert math.exp(durations.expected("fast", 5, None)[0]) == pytest.approx(100, rel=0.2)


def test_before_anything_is_learned_a_fast_server_is_not_kept_waiting() -> None:
    delay = delay_for(None, Durations())
    assert delay.next_check(0.0, running()) <= SHORTEST * 1.1
    assert delay.next_check(10.0, running()) <= SHORTEST * 1.1


def test_jobs_submitted_together_are_not_checked_together_before_anything_is_learned() -> None:
    delay = delay_for(None, Durations())
    assert len({delay.next_check(20.0, running()) for _ in range(20)}) == 20


def test_an_interval_that_the_user_names_is_kept() -> None:
    delay = delay_for(7.5)
    assert isinstance(delay, FixedDelay)
    assert {delay.next_check(elapsed, running()) for elapsed in (0.0, 50.0, 5000.0)} == {7.5}


def test_a_finished_job_teaches_and_a_failed_one_does_not() -> None:
    durations = Durations()
    for _ in range(10):
        LearnedDelay(durations, 5).ended(1.0, VideoJob(kling_task_id="t", status="failed", raw_status="failed"))
    assert not durations.learned
    for _ in range(10):
        teach(LearnedDelay(durations, 5), 200.0, ended())
    assert durations.learned


def test_a_job_that_ended_between_distant_checks_teaches_nothing() -> None:
    """After an outage of hours a triggerer finds its jobs finished, at an unknown time."""
    durations = Durations()
    for _ in range(10):
        LearnedDelay(durations, 5).ended(3 * 3600.0, ended())
    assert not durations.learned


def test_jobs_that_a_busy_connection_checks_rarely_teach_all_the_same() -> None:
    durations = Durations()
    for _ in range(10):
        delay = LearnedDelay(durations, 5)
        delay.next_check(400.0, running())
        delay.ended(550.0, ended())
    assert durations.learned


def simulated(durations: Durations, jobs: int = 1500) -> tuple[float, float, float, float]:
    """Return checks per job and mean delay: ours, then those of a check every five seconds."""
    rng = random.Random(3)
    checks = delay = fixed_checks = fixed_delay = 0.0
    for _ in range(jobs):
        took = rng.lognormvariate(math.log(90), 0.25)
        schedule = LearnedDelay(durations, 5)
        elapsed = 0.0
        while elapsed < took:
            elapsed += schedule.next_check(elapsed, running())
            checks += 1
        delay += elapsed - took
        fixed_checks += math.ceil(took / 5)
        fixed_delay += math.ceil(took / 5) * 5 - took
    return checks / jobs, delay / jobs, fixed_checks / jobs, fixed_delay / jobs


def test_it_needs_far_fewer_checks_than_a_fixed_interval_for_no_more_delay() -> None:
    checks, delay, fixed_checks, fixed_delay = simulated(taught(90, 0.25))
    assert checks < 0.6 * fixed_checks
    assert delay < fixed_delay * 1.05
