# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.sandbox.contract import ApiError, parse_request
from airflow_provider_kling.sandbox.dialects import Dialect
from airflow_provider_kling.sandbox.jobs import Failure, Job, JobBook


def job(task_id: str = "task_1", accepted_at: float = 1000.0, key: str = "sk-one", **changes: Any) -> Job:
    raw = {"model": "kling-v3-std-silent", "prompt": "a"}
    return Job(
        id=task_id,
        key=key,
        request=parse_request(raw),
        raw=raw,
        accepted_at=accepted_at,
        dialect=Dialect(),
        **{"queue_seconds": 2.0, "run_seconds": 10.0, **changes},
    )


@pytest.mark.parametrize(
    ("now", "state", "progress"),
    [
        (1000, "queued", 0),
        (1001.9, "queued", 0),
        (1002, "running", 0),
        (1007, "running", 50),
        (1012, "completed", 100),
    ],
)
def test_the_clock_drives_a_job(now: float, state: str, progress: int) -> None:
    assert job().at(now)[:2] == (state, progress)


def test_a_failed_job_shows_full_progress_too() -> None:
    assert job(failure=Failure("no")).at(1012) == ("failed", 100, 1012)


def test_a_stuck_job_stays_below_full_progress() -> None:
    assert job(stuck=True).at(10**9) == ("running", 99, 0)


def test_a_job_without_run_time_ends_with_its_queue() -> None:
    assert job(run_seconds=0.0).at(1002).state == "completed"


class TestSlots:
    def test_a_slot_is_held_until_the_job_ends(self) -> None:
        book = JobBook(max_concurrent=1)
        book.accept(job("a"))
        with pytest.raises(ApiError, match=r'"code":1303') as caught:
            book.accept(job("b", accepted_at=1011.9))
        assert caught.value.status == 429
        book.accept(job("c", accepted_at=1012.0))
        assert list(book.jobs) == ["a", "c"]

    def test_each_key_has_its_own(self) -> None:
        book = JobBook(max_concurrent=1)
        book.accept(job("a"))
        book.accept(job("b", key="sk-two"))
        assert list(book.jobs) == ["a", "b"]

    def test_a_stuck_job_holds_its_slot_until_it_is_finished(self) -> None:
        book = JobBook(max_concurrent=1)
        stuck = job("a", stuck=True)
        book.accept(stuck)
        with pytest.raises(ApiError):
            book.accept(job("b", accepted_at=10**9))
        stuck.finished_at = 10**9
        book.accept(job("c", accepted_at=10**9))
