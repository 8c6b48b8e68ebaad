# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingConnectionError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingTimeoutError,
    KlingValidationError,
)
from airflow_provider_kling.jobs.limits import to_seconds
from airflow_provider_kling.jobs.poll_schedule import Durations, delay_for
from airflow_provider_kling.jobs.polling import (
    FAILURE_BUDGET,
    HEARTBEAT,
    LAST_CHECK_TIMEOUT,
    MAX_BACKOFF,
    MAX_WORDS,
    Finished,
    Pause,
    Poller,
    state_text,
    video_from_event,
)
from airflow_provider_kling.jobs.result import finished_video, generation_error

GRACE = Grace(visibility=60.0, url=60.0)
START = 1_700_000_000.0
HOUR = 3600.0
URL = "https://cdn.example.com/output.mp4"


def poller(timeout: float = HOUR, interval: float | None = 5.0) -> Poller:
    return Poller("task_1", started_at=START, deadline=START + timeout, delay=delay_for(interval))


def job(status: str = "running", word: str = "in_progress", **facts: Any) -> VideoJob:
    return VideoJob(kling_task_id="task_1", status=status, raw_status=word, **facts)


DONE = job("completed", "completed", progress=100, video_url=URL, model="kling-v3-std-silent")
DONE_WITHOUT_URL = job("completed", "completed", progress=100)
FAILED = job("failed", "failed", progress=100, error="out of memory", error_code="5000")
TROUBLE = KlingServerError("It failed", http_status=502, kling_task_id="task_1")
NOT_FOUND = KlingNotFoundError("No such task", http_status=400, code="task_not_exist", kling_task_id="task_1")


def error_of(decision: Pause | Finished) -> KlingError:
    assert isinstance(decision, Finished)
    assert decision.error is not None
    with pytest.raises(type(decision.error)):
        decision.result()
    return decision.error


class TestTheStateOfTheJobDecides:
    @pytest.mark.parametrize(
        ("status", "word"), [("queued", "NOT_START"), ("running", "in_progress"), ("running", "x")]
    )
    def test_an_unfinished_job_is_asked_for_again_at_the_users_interval(self, status: str, word: str) -> None:
        assert poller(interval=7).on_job(job(status, word, progress=100), grace=GRACE, now=START) == Pause(7)

    def test_a_finished_video_ends_the_wait(self) -> None:
        decision = poller().on_job(DONE, grace=GRACE, now=START)
        assert isinstance(decision, Finished)
        assert decision.result() == finished_video(DONE)

    def test_a_failed_job_ends_the_wait_whatever_its_progress(self) -> None:
        error = error_of(poller().on_job(FAILED, grace=GRACE, now=START))
        assert type(error) is KlingGenerationFailedError
        assert (error.server_message, error.code, error.kling_task_id) == ("out of memory", "5000", "task_1")

    def test_refused_content_ends_the_wait_by_its_own_name(self) -> None:
        refused = job("failed", "failed", error="no", content_refused=True)
        assert type(error_of(poller().on_job(refused, grace=GRACE, now=START))) is KlingContentRefusedError

    def test_a_finished_job_counts_even_past_the_deadline(self) -> None:
        assert isinstance(poller(timeout=10).on_job(DONE, grace=GRACE, now=START + 99), Finished)
        assert poller(timeout=10).on_job(DONE, grace=GRACE, now=START + 99) == Finished(video=finished_video(DONE))

    def test_without_an_interval_the_provider_paces_itself(self) -> None:
        decision = poller(interval=None).on_job(job(), grace=GRACE, now=START + 100)
        assert isinstance(decision, Pause)
        assert 1 <= decision.seconds <= 70


class TestCompletedWithoutUrl:
    def test_the_url_may_come_a_moment_later(self) -> None:
        waiting = poller()
        assert waiting.on_job(DONE_WITHOUT_URL, grace=GRACE, now=START) == Pause(5)
        assert waiting.on_job(DONE, grace=GRACE, now=START + 5) == Finished(video=finished_video(DONE))

    def test_a_url_that_never_comes_is_an_error_that_keeps_the_id(self) -> None:
        waiting = poller()
        assert waiting.on_job(DONE_WITHOUT_URL, grace=GRACE, now=START) == Pause(5)
        assert isinstance(waiting.on_job(DONE_WITHOUT_URL, grace=GRACE, now=START + GRACE.url - 1), Pause)
        error = error_of(waiting.on_job(DONE_WITHOUT_URL, grace=GRACE, now=START + GRACE.url))
        assert type(error) is KlingServerError
        assert "The job is completed, but the response contains no video URL (Kling task task_1)" in str(error)
        assert "made and paid for" in str(error)


class TestNotVisibleYet:
    def test_no_such_task_just_after_the_submit_is_waited_out(self) -> None:
        waiting = poller()
        for second in range(0, int(GRACE.visibility), 5):
            assert waiting.on_error(NOT_FOUND, grace=GRACE, now=START + second) == Pause(5)
        assert waiting.on_job(DONE, grace=GRACE, now=START + GRACE.visibility) == Finished(
            video=finished_video(DONE)
        )

    def test_it_costs_nothing_of_the_budget_of_failures(self) -> None:
        waiting = poller(interval=1)
        for _ in range(FAILURE_BUDGET * 2):
            assert isinstance(waiting.on_error(NOT_FOUND, grace=GRACE, now=START + 1), Pause)

    def test_a_minute_later_it_ends_the_wait(self) -> None:
        error = error_of(poller().on_error(NOT_FOUND, grace=GRACE, now=START + GRACE.visibility))
        assert error.to_dict() == NOT_FOUND.to_dict() | {"kling_task_id": poller().kling_task_id}

    def test_the_deadline_ends_it_too(self) -> None:
        error = error_of(poller(timeout=10).on_error(NOT_FOUND, grace=GRACE, now=START + 10))
        assert type(error) is KlingTimeoutError
        assert "not seen once" in str(error)


class TestTransientFailures:
    @pytest.mark.parametrize(
        "error",
        [TROUBLE, KlingConnectionError("Reset"), KlingRateLimitError("Too fast", http_status=429)],
        ids=lambda error: type(error).__name__,
    )
    def test_they_are_ridden_out_with_a_growing_pause(self, error: KlingError) -> None:
        waiting = poller(timeout=100 * HOUR)
        pauses = []
        for _ in range(FAILURE_BUDGET - 1):
            decision = waiting.on_error(error, grace=GRACE, now=START)
            assert isinstance(decision, Pause)
            pauses.append(decision.seconds)
        assert all(
            0.75 * min(2**n, MAX_BACKOFF) <= p <= 1.25 * min(2**n, MAX_BACKOFF) for n, p in enumerate(pauses, 1)
        )
        assert 600 < sum(pauses) < 1500

    def test_the_last_of_the_budget_ends_the_wait_by_the_errors_own_name(self) -> None:
        waiting = poller()
        for _ in range(FAILURE_BUDGET - 1):
            assert isinstance(waiting.on_error(TROUBLE, grace=GRACE, now=START), Pause)
        error = error_of(waiting.on_error(TROUBLE, grace=GRACE, now=START))
        assert type(error) is KlingServerError
        assert error.http_status == 502
        assert f"Gave up after {FAILURE_BUDGET} failed status checks in a row" in str(error)
        assert "The job continues at the vendor, and is billed" in str(error)

    def test_one_answer_in_between_restores_the_budget(self) -> None:
        waiting = poller(timeout=100 * HOUR)
        for _ in range(3):
            for _ in range(FAILURE_BUDGET - 1):
                assert isinstance(waiting.on_error(TROUBLE, grace=GRACE, now=START), Pause)
            assert isinstance(waiting.on_job(job(), grace=GRACE, now=START), Pause)

    def test_retry_after_is_honoured_where_it_asks_for_more(self) -> None:
        asked = KlingRateLimitError("Too fast", http_status=429, retry_after=45.0)
        assert poller().on_error(asked, grace=GRACE, now=START) == Pause(45.0)

    @pytest.mark.parametrize("kind", [KlingRateLimitError, KlingServerError])
    def test_but_no_longer_than_a_finished_video_may_stay_unseen(self, kind: type[KlingError]) -> None:
        asked = kind("Busy", http_status=429, retry_after=3600.0)
        assert poller().on_error(asked, grace=GRACE, now=START) == Pause(MAX_BACKOFF)

    def test_retry_after_does_not_shorten_the_back_off(self) -> None:
        asked = KlingRateLimitError("Too fast", http_status=429, retry_after=0.0)
        decision = poller().on_error(asked, grace=GRACE, now=START)
        assert isinstance(decision, Pause)
        assert decision.seconds >= 1.5

    @pytest.mark.parametrize(
        "kind", [KlingAuthenticationError, KlingPermissionError, KlingBalanceError, KlingValidationError]
    )
    def test_what_waiting_cannot_cure_ends_the_wait_at_once(self, kind: type[KlingError]) -> None:
        error = kind("No", http_status=401, server_message="无效的令牌")
        ended_with = error_of(poller().on_error(error, grace=GRACE, now=START))
        assert type(ended_with) is kind
        assert ended_with.server_message == "无效的令牌"
        assert "The job continues at the vendor, and is billed" in str(ended_with)


class TestDeadline:
    def test_the_last_pause_ends_at_the_deadline(self) -> None:
        assert poller(timeout=10).on_job(job(), grace=GRACE, now=START + 8) == Pause(2)
        assert poller(timeout=10).on_error(
            KlingRateLimitError("x", retry_after=99), grace=GRACE, now=START + 8
        ) == Pause(2)

    def test_a_check_that_was_not_sent_in_time_does_not_hide_what_the_server_said(self) -> None:
        waiting = poller(timeout=10)
        waiting.on_error(TROUBLE, grace=GRACE, now=START + 5)
        error = error_of(waiting.on_error(KlingRateLimitError("Not sent"), grace=GRACE, now=START + 10))
        assert "the last 2 checks failed: It failed (" in str(error)
        assert "Not sent" not in str(error)

    def test_at_the_deadline_the_wait_times_out(self) -> None:
        waiting = poller(timeout=2 * HOUR)
        error = error_of(waiting.on_job(job(progress=43), grace=GRACE, now=START + 2 * HOUR))
        assert type(error) is KlingTimeoutError
        assert error.kling_task_id == "task_1"
        text = str(error)
        assert "still 43 % [####------] at the deadline 2023-11-15T00:13:20+00:00" in text
        assert "after 2 h 0 min" in text

    def test_the_message_never_invites_to_submit_again(self) -> None:
        text = str(error_of(poller(timeout=1).on_job(job(), grace=GRACE, now=START + 2)))
        assert "The job continues at the vendor, and is billed" in text
        assert "Otherwise, or if the task warned that its id is not recorded, it buys a second video" in text
        assert "try again" not in text.lower()

    def test_it_reports_failed_checks_at_the_end(self) -> None:
        waiting = poller(timeout=60)
        waiting.on_job(job(), grace=GRACE, now=START)
        waiting.on_error(TROUBLE, grace=GRACE, now=START + 30)
        error = error_of(waiting.on_error(TROUBLE, grace=GRACE, now=START + 60))
        assert type(error) is KlingTimeoutError
        assert "the last 2 checks failed: It failed" in str(error)

    def test_no_deadline_is_possible(self) -> None:
        assert poller(timeout=math.inf).on_job(job(), grace=GRACE, now=START + 10**9) == Pause(5)

    def test_a_clock_that_jumps_back_does_no_harm(self) -> None:
        waiting = poller(interval=None)
        decision = waiting.on_job(job(), grace=GRACE, now=START - HOUR)
        assert isinstance(decision, Pause)
        assert 0 < decision.seconds <= 70
        assert waiting.progress_message(now=START - HOUR)


def lines_of(response: Callable[[int], VideoJob | None], *, seconds: int, every: int) -> list[tuple[int, str]]:
    """Return the lines of a wait, each with its second; None for a response is a failed check."""
    waiting, lines = poller(timeout=100 * HOUR), []
    for second in range(0, seconds, every):
        if (seen := response(second)) is None:
            waiting.on_error(TROUBLE, grace=GRACE, now=START + second)
        else:
            waiting.on_job(seen, grace=GRACE, now=START + second)
        if line := waiting.progress_message(now=START + second):
            lines.append((second, line))
    return lines


class TestLogLines:
    def test_a_change_is_logged_once(self) -> None:
        waiting = poller()
        waiting.on_job(job(progress=10), grace=GRACE, now=START + 75)
        assert waiting.progress_message(now=START + 75) == "10 % [#---------] after 1 min 15 s (task_1)"
        waiting.on_job(job(progress=10), grace=GRACE, now=START + 80)
        assert waiting.progress_message(now=START + 80) is None
        waiting.on_job(job(progress=20), grace=GRACE, now=START + 85)
        assert waiting.progress_message(now=START + 85) is not None

    def test_a_long_wait_without_news_says_that_it_goes_on(self) -> None:
        waiting = poller()
        waiting.on_job(job(), grace=GRACE, now=START)
        assert waiting.progress_message(now=START)
        assert waiting.progress_message(now=START + HEARTBEAT - 1) is None
        assert waiting.progress_message(now=START + HEARTBEAT)
        assert waiting.progress_message(now=START + HEARTBEAT + 1) is None

    def test_before_the_first_answer_there_is_nothing_to_tell(self) -> None:
        waiting = poller()
        waiting.on_error(TROUBLE, grace=GRACE, now=START)
        assert waiting.progress_message(now=START) is None

    def test_an_unknown_word_is_warned_of_once(self) -> None:
        waiting = poller()
        lines = []
        for progress in (10, 20, 30):
            waiting.on_job(job(word="dreaming", is_known_status=False, progress=progress), grace=GRACE, now=START)
            lines.append(waiting.progress_message(now=START) or "")
        assert ["dreaming' is unknown here and counts as running" in line for line in lines] == [
            True,
            False,
            False,
        ]

    def test_small_steps_of_progress_are_logged_once_a_minute(self) -> None:
        told = lines_of(lambda second: job(progress=second // 5), seconds=150, every=5)
        assert [second for second, _ in told] == [0, 50, 100]
        assert len(lines_of(lambda second: job(progress=second // 60), seconds=600, every=5)) == 10

    @pytest.mark.parametrize(
        ("response", "at_most"),
        [
            (lambda second: job(progress=second % 100), 70 + 10),
            (lambda second: job(progress=100 * (second % 2)), 70),
            (lambda second: job(word=("queued", "processing")[second % 2]), 70),
            (lambda second: job(word=f"step {second}", is_known_status=False), 70 + MAX_WORDS),
            (lambda second: job(word=f"step {second}", progress=second % 101), 70 + MAX_WORDS + 10),
            (lambda second: None if second % 2 else job(progress=second % 100), 70 + 10),
        ],
        ids=["progress", "two numbers", "two words", "endless words", "both", "every other check fails"],
    )
    def test_a_server_that_changes_with_every_check_does_not_flood_the_log(
        self, response: Callable[[int], VideoJob | None], at_most: int
    ) -> None:
        assert 2 <= len(lines_of(response, seconds=4200, every=1)) <= at_most

    def test_a_word_known_to_mean_running_is_not_warned_of(self) -> None:
        waiting = poller()
        waiting.on_job(job(word="PROCESSING"), grace=GRACE, now=START)
        assert "unknown" not in str(waiting.progress_message(now=START))

    def test_being_queued_and_being_made_are_told_apart(self) -> None:
        waiting = poller()
        lines = []
        for second, seen in enumerate([job("queued", "queued"), job("queued", "queued"), job(), job(progress=8)]):
            waiting.on_job(seen, grace=GRACE, now=START + second)
            lines.append(waiting.progress_message(now=START + second))
        waiting.on_job(job(progress=70), grace=GRACE, now=START + 4)
        lines.append(waiting.progress_message(now=START + 4))
        assert lines == [
            "Queued at the vendor after 0 s (task_1)",
            None,
            "Being made after 2 s (task_1)",
            None,
            "70 % [#######---] after 4 s (task_1)",
        ]

    def test_an_id_that_the_server_does_not_know_yet_is_told_once(self) -> None:
        waiting = poller()
        lines = []
        for second in (1, 2, 3):
            waiting.on_error(NOT_FOUND, grace=GRACE, now=START + second)
            lines.append(waiting.progress_message(now=START + second))
        waiting.on_job(job(progress=5), grace=GRACE, now=START + 4)
        lines.append(waiting.progress_message(now=START + 4))
        assert lines == [
            "The server does not know the task yet, after 1 s (task_1)",
            None,
            None,
            "5 % [----------] after 4 s (task_1)",
        ]

    @pytest.mark.parametrize(
        ("seen", "text"),
        [
            (job(progress=0), "0 % [----------]"),
            (job(progress=23), "23 % [##--------]"),
            (job(progress=100), "100 % [##########]"),
            (job(), "being made"),
            (job("queued", "submitted", progress=0), "queued at the vendor"),
            (DONE, "finished"),
            (DONE_WITHOUT_URL, "finished, but without a URL yet,"),
            (FAILED, "failed"),
        ],
    )
    def test_a_state_as_a_person_reads_it(self, seen: VideoJob, text: str) -> None:
        assert state_text(seen) == text


class TestFromTheTriggererToAWorker:
    def test_a_finished_video_arrives_as_it_was(self) -> None:
        event = json.loads(json.dumps(Finished(video=finished_video(DONE)).event()))
        assert (event["status"], event["kling_task_id"]) == ("success", "task_1")
        assert video_from_event(event) == finished_video(DONE)

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (KlingTimeoutError("Late", kling_task_id="task_1"), "timeout"),
            (generation_error(FAILED), "error"),
            (NOT_FOUND, "error"),
            (KlingRateLimitError("x", http_status=429, retry_after=2.5, kling_task_id="task_1"), "error"),
        ],
    )
    def test_an_error_arrives_as_it_was(self, error: KlingError, status: str) -> None:
        event = json.loads(json.dumps(Finished(error=error).event()))
        assert (event["status"], event["kling_task_id"]) == (status, "task_1")
        with pytest.raises(type(error)) as caught:
            video_from_event(event)
        assert type(caught.value) is type(error)
        assert caught.value.to_dict() == error.to_dict()

    @pytest.mark.parametrize(
        "event",
        [None, {}, {"status": "success"}, {"status": "success", "video": "x"}, {"status": "error"}, {"error": 5}],
    )
    def test_a_foreign_event_raises_a_named_error(self, event: Any) -> None:
        with pytest.raises(KlingError, match="an unknown event"):
            video_from_event(event)


class TestSecondsOf:
    @pytest.mark.parametrize(
        ("value", "seconds"), [(5, 5.0), (0.5, 0.5), ("7", 7.0), (timedelta(minutes=2), 120.0)]
    )
    def test_numbers_and_timedeltas(self, value: Any, seconds: float) -> None:
        assert to_seconds("timeout", value) == seconds

    @pytest.mark.parametrize("value", [0, -1, timedelta(0), math.nan, math.inf, 1e15, "soon"])
    def test_anything_else_is_refused_before_a_video_is_paid_for(self, value: Any) -> None:
        with pytest.raises(ValueError, match="timeout|could not convert"):
            to_seconds("timeout", value)


CHECKS = st.lists(
    st.tuples(
        st.sampled_from([job(), job("queued", "queued"), job(word="dreaming"), DONE_WITHOUT_URL, DONE, FAILED])
        | st.sampled_from(
            [TROUBLE, NOT_FOUND, KlingRateLimitError("x", retry_after=3600), KlingAuthenticationError("x")]
        ),
        st.floats(0, 2),
    ),
    max_size=60,
)


@given(CHECKS, st.floats(1, 10_000), st.none() | st.floats(0.1, 600))
def test_any_course_of_events_keeps_its_promises(
    checks: list[tuple[VideoJob | KlingError, float]], timeout: float, interval: float | None
) -> None:
    waiting = poller(timeout, interval)
    now = START
    for seen, answer_time in checks:
        now += answer_time
        decision = (
            waiting.on_error(seen, grace=GRACE, now=now)
            if isinstance(seen, KlingError)
            else waiting.on_job(seen, grace=GRACE, now=now)
        )
        if isinstance(decision, Finished):
            json.dumps(decision.event())
            assert seen not in (job(), job("queued", "queued")) or now >= waiting.deadline
            return
        assert seen not in (DONE, FAILED)
        assert now < waiting.deadline
        assert 0 < decision.seconds <= max(1.25 * MAX_BACKOFF, interval or 0)
        now += decision.seconds
        assert now <= waiting.deadline + 1e-3


def test_failing_checks_are_logged_now_and_then() -> None:
    waiting = poller(timeout=HOUR)
    lines = []
    for second in range(0, 900, 60):
        waiting.on_error(KlingServerError("no answer"), grace=GRACE, now=START + second)
        lines.append(waiting.progress_message(now=START + second))
    told = [line for line in lines if line]
    assert len(told) == 2
    assert told[0].startswith("The last 6 checks failed: no answer")


class TestFirstPause:
    def test_a_job_just_submitted_has_nothing_to_tell(self) -> None:
        assert poller(interval=5.0).first_pause(now=START + 1) == pytest.approx(4.0)

    def test_a_job_that_runs_for_long_is_asked_for_at_once(self) -> None:
        assert poller(interval=5.0).first_pause(now=START + 60) == 0.0

    def test_it_ends_with_the_deadline(self) -> None:
        assert poller(timeout=3.0, interval=60.0).first_pause(now=START + 1) == pytest.approx(2.0)

    def test_past_the_deadline_one_still_asks_once(self) -> None:
        assert poller(timeout=3.0, interval=60.0).first_pause(now=START + 10) == 0.0


@pytest.mark.parametrize(("after", "learned"), [(-3.0, True), (5.0, True), (120.0, False)])
def test_a_wait_that_began_long_after_its_job_teaches_nothing(after: float, learned: bool) -> None:
    durations = Durations()
    created = datetime.fromtimestamp(START - after, tz=UTC).isoformat()
    for _ in range(10):
        wait = Poller("task_1", started_at=START, deadline=START + HOUR, delay=delay_for(None, durations))
        wait.on_job(job(), grace=GRACE, now=START + 20)
        assert isinstance(wait.on_job(replace(DONE, created_at=created), grace=GRACE, now=START + 25), Finished)
    assert durations.learned is learned


def test_patience_for_the_last_check_outlasts_the_deadline_unless_checks_fail() -> None:
    wait = poller(timeout=100)
    assert wait.check_timeout(now=START) == 100
    assert wait.check_timeout(now=START + 200) == LAST_CHECK_TIMEOUT
    wait.on_error(TROUBLE, grace=GRACE, now=START + 90)
    assert wait.check_timeout(now=START + 95) == 5
    wait.on_job(job(), grace=GRACE, now=START + 96)
    assert wait.check_timeout(now=START + 95) == LAST_CHECK_TIMEOUT
