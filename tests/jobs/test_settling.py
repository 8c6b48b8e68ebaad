# SPDX-License-Identifier: Apache-2.0
"""Jobs whose end shows in more than one response: no URL, an unknown word, an id of two."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.exceptions import KlingGenerationFailedError, KlingNotFoundError, KlingServerError
from airflow_provider_kling.jobs.poll_schedule import Durations, LearnedDelay, delay_for
from airflow_provider_kling.jobs.polling import Finished, Pause, Poller
from airflow_provider_kling.jobs.result import finished_video

GRACE = Grace(visibility=60.0, url=60.0, unknown_word=60.0)
START = 1_700_000_000.0
URL = "https://cdn.example.com/1.mp4"
CONTENT = "https://api.example.com/v1/videos/task_1/content"


def poller(**arguments: Any) -> Poller:
    return Poller("task_1", started_at=START, deadline=START + 3600, delay=delay_for(5.0), **arguments)


def job(status: str = "running", **facts: Any) -> VideoJob:
    return VideoJob(kling_task_id="task_1", status=status, **facts)


DREAMT = job(raw_status="dreamt", is_known_status=False, progress=100, video_url=URL)
NOT_FOUND = KlingNotFoundError("No such task", kling_task_id="task_1")


class TestACompletedJobWithoutAUrl:
    DONE = job("completed", raw_status="completed", content_url=CONTENT, excerpt="file_id 9021")

    def test_ends_with_the_content_of_the_api_after_a_while(self) -> None:
        waiting = poller()
        for second in (0, 30, 59):
            assert isinstance(waiting.on_job(self.DONE, grace=GRACE, now=START + second), Pause)
        decision = waiting.on_job(self.DONE, grace=GRACE, now=START + 60)
        assert isinstance(decision, Finished)
        assert decision.result()["video_url"] == CONTENT

    def test_takes_the_url_that_comes_meanwhile(self) -> None:
        waiting = poller()
        waiting.on_job(self.DONE, grace=GRACE, now=START)
        decision = waiting.on_job(job("completed", video_url=URL), grace=GRACE, now=START + 70)
        assert isinstance(decision, Finished)
        assert decision.result()["video_url"] == URL

    def test_is_quoted_where_the_api_serves_no_content(self) -> None:
        waiting, done = poller(), job("completed", excerpt="file_id 9021")
        waiting.on_job(done, grace=GRACE, now=START)
        decision = waiting.on_job(done, grace=GRACE, now=START + 60)
        assert isinstance(decision, Finished)
        assert type(decision.error) is KlingServerError
        assert "9021" in str(decision.error)


class TestAWordThatNobodyKnows:
    def test_with_url_and_full_progress_for_a_minute_means_completed(self) -> None:
        waiting = poller()
        for second in (0, 20, 40, 59):
            assert isinstance(waiting.on_job(DREAMT, grace=GRACE, now=START + second), Pause)
            assert waiting.is_settling
            assert not waiting.job_has_ended
        decision = waiting.on_job(DREAMT, grace=GRACE, now=START + 60)
        assert isinstance(decision, Finished)
        assert (decision.result()["video_url"], decision.result()["raw_status"]) == (URL, "dreamt")
        assert waiting.job_has_ended

    @pytest.mark.parametrize(
        "other",
        [
            job(raw_status="dreamt", is_known_status=False, progress=99, video_url=URL),
            job(raw_status="dreamt", is_known_status=False, progress=100),
            job(raw_status="processing", progress=100, video_url=URL),
            job("queued", raw_status="queued"),
        ],
    )
    def test_counts_from_anew_after_any_other_response(self, other: VideoJob) -> None:
        waiting = poller()
        waiting.on_job(DREAMT, grace=GRACE, now=START)
        waiting.on_job(other, grace=GRACE, now=START + 30)
        assert not waiting.is_settling
        assert isinstance(waiting.on_job(DREAMT, grace=GRACE, now=START + 61), Pause)
        assert isinstance(waiting.on_job(DREAMT, grace=GRACE, now=START + 120), Pause)
        assert isinstance(waiting.on_job(DREAMT, grace=GRACE, now=START + 121), Finished)

    def test_ends_nothing_else(self) -> None:
        assert finished_video(DREAMT) is None

    def test_teaches_the_schedule_nothing(self) -> None:
        durations = Durations()
        waiting = Poller("task_1", started_at=START, deadline=START + 3600, delay=LearnedDelay(durations))
        for second in (0, 60):
            waiting.on_job(DREAMT, grace=GRACE, now=START + second)
        assert waiting.job_has_ended
        assert durations._durations == {}


def test_a_job_that_is_gone_is_a_failure_while_it_is_waited_for() -> None:
    gone = job("failed", raw_status="expired", is_gone=True)
    decision = poller().on_job(gone, grace=GRACE, now=START)
    assert isinstance(decision, Finished)
    assert type(decision.error) is KlingGenerationFailedError
    assert "expired" in str(decision.error)


class TestTwoIds:
    def test_the_other_is_tried_before_not_found(self) -> None:
        waiting = poller(other_id="task_2")
        assert isinstance(waiting.on_error(NOT_FOUND, grace=GRACE, now=START + 61), Pause)
        assert waiting.kling_task_id == "task_2"
        found = VideoJob(kling_task_id="task_2", status="completed", video_url=URL)
        decision = waiting.on_job(found, grace=GRACE, now=START + 66)
        assert isinstance(decision, Finished)
        assert decision.result()["kling_task_id"] == "task_2"

    def test_both_are_tried_while_a_job_may_not_be_stored_yet(self) -> None:
        waiting, asked = poller(other_id="task_2"), []
        for second in range(0, 60, 10):
            asked.append(waiting.kling_task_id)
            assert isinstance(waiting.on_error(NOT_FOUND, grace=GRACE, now=START + second), Pause)
        assert asked == ["task_1", "task_2"] * 3

    def test_if_the_server_knows_neither_both_are_named(self) -> None:
        waiting = poller(other_id="task_2")
        assert isinstance(waiting.on_error(NOT_FOUND, grace=GRACE, now=START + 61), Pause)
        refused = "The status request for Kling task task_2 was refused"
        unknown = KlingNotFoundError(refused, kling_task_id="task_2")
        decision = waiting.on_error(unknown, grace=GRACE, now=START + 66)
        assert isinstance(decision, Finished)
        assert type(decision.error) is KlingNotFoundError
        assert "task_1" in str(decision.error)
        assert "task_2" in str(decision.error)

    def test_one_that_was_known_once_stays(self) -> None:
        waiting = poller(other_id="task_2")
        waiting.on_job(job(), grace=GRACE, now=START)
        decision = waiting.on_error(NOT_FOUND, grace=GRACE, now=START + 61)
        assert isinstance(decision, Pause)
        assert waiting.kling_task_id == "task_1"
