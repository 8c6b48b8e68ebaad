# SPDX-License-Identifier: Apache-2.0
"""A submit that gives two ids, and a job that is gone: nothing is lost, and nothing bought again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import KlingNotFoundError
from airflow_provider_kling.jobs.journal import Journal
from tests.fixtures.vendor import NOW, Vendor


class TwoIds(Vendor):
    """A server whose submit gives two ids, and that knows jobs by some of them."""

    known = ("task_0", "row_0")

    def submit(
        self, request: VideoRequest, *, age: Callable[[], float], client_token: str | None = None
    ) -> VideoJob:
        job = super().submit(request, age=age)
        other = f"row_{job.kling_task_id.removeprefix('task_')}"
        self.jobs[other] = replace(job, kling_task_id=other)
        return replace(job, other_id=other)

    def look(self, task_id: str) -> VideoJob:
        if task_id not in self.known:
            raise KlingNotFoundError("no such task", kling_task_id=task_id)
        return super().look(task_id)


class TestTwoIds:
    @pytest.mark.parametrize(
        ("known", "taken"), [(("task_0", "row_0"), "task_0"), (("task_0",), "task_0"), (("row_0",), "row_0")]
    )
    def test_the_job_goes_on_under_the_id_that_the_server_knows(self, known: tuple[str, ...], taken: str) -> None:
        vendor = TwoIds()
        vendor.known = known
        assert vendor.obtain().kling_task_id == taken
        vendor.now = NOW + 600
        assert vendor.obtain().kling_task_id == taken
        assert len(vendor.bought) == 1

    def test_neither_is_lost_while_the_server_knows_none_yet(self) -> None:
        vendor = TwoIds()
        vendor.known = ()
        result = vendor.obtain()
        assert (result.kling_task_id, result.other_id) == ("task_0", "row_0")
        assert [(s.kling_task_ids, s.other_id) for s in Journal(vendor.stored).jobs()] == [(["task_0"], "row_0")]
        vendor.known, vendor.now = ("row_0",), NOW + 600
        assert vendor.obtain().kling_task_id == "row_0"
        assert len(vendor.bought) == 1

    def test_what_is_not_found_is_named_by_the_recorded_id(self) -> None:
        vendor = TwoIds()
        vendor.known = ()
        vendor.obtain()
        vendor.now = NOW + 600
        with pytest.raises(KlingNotFoundError) as caught:
            vendor.obtain()
        assert caught.value.kling_task_id == "task_0"
        assert len(vendor.bought) == 1


class TestAJobThatIsGone:
    @pytest.mark.parametrize("word", ["expired", "deleted"])
    @pytest.mark.parametrize("clears", [0, 1])
    def test_is_final_when_it_is_joined(self, word: str, clears: int) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.jobs["task_0"] = VideoJob(kling_task_id="task_0", status="failed", raw_status=word, is_gone=True)
        with pytest.raises(KlingNotFoundError) as caught:
            vendor.obtain(clears=clears)
        assert not caught.value.retryable
        assert word in str(caught.value)
        assert "set another take" in str(caught.value)
        assert "on_clear='resubmit'" in str(caught.value)
        assert len(vendor.bought) == 1

    def test_is_bought_again_on_request(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.jobs["task_0"] = VideoJob(kling_task_id="task_0", status="failed", is_gone=True)
        assert vendor.obtain(take=2).kling_task_id == "task_1"
        assert vendor.obtain(clears=1, on_clear="resubmit").kling_task_id == "task_2"

    def test_a_failed_generation_is_still_bought_again(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "failed", "out of memory")
        assert vendor.obtain().kling_task_id == "task_1"
