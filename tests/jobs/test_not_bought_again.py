# SPDX-License-Identifier: Apache-2.0
"""What a job that only seems to have failed costs: a second look, and no second video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.jobs.poll_schedule import delay_for
from airflow_provider_kling.jobs.polling import FAILURE_BUDGET, Finished, Pause, Poller
from tests.fixtures.vendor import NOW, Vendor

GRACE = Grace(visibility=60.0, url=60.0)
FAILED = VideoJob(kling_task_id="task_0", status="failed", raw_status="error", has_id=False)
RUNNING = VideoJob(kling_task_id="task_0", status="running", raw_status="running")


class TestAFailureWithoutTheIdOfTheJob:
    def look_twice(self, *jobs: VideoJob) -> Vendor:
        vendor = Vendor()
        vendor.obtain()
        left = list(jobs)
        look = vendor.look
        vendor.look = lambda task_id: left.pop(0) if left else look(task_id)  # type: ignore[method-assign]
        return vendor

    def test_is_asked_for_again_and_joined(self) -> None:
        vendor = self.look_twice(FAILED, RUNNING)
        assert vendor.obtain().kling_task_id == "task_0"
        assert (len(vendor.bought), vendor.slept) == (1, [5.0])

    def test_is_bought_again_if_it_is_still_said(self) -> None:
        vendor = self.look_twice(FAILED, FAILED)
        assert vendor.obtain().kling_task_id == "task_1"
        assert vendor.slept == [5.0]

    def test_with_the_id_one_look_is_enough(self) -> None:
        vendor = self.look_twice(replace(FAILED, has_id=True))
        assert vendor.obtain().kling_task_id == "task_1"
        assert vendor.slept == []


class TwoIds(Vendor):
    """A server whose submit gives two ids, and what it says under each."""

    def __init__(self, first: VideoJob | KlingError, other: VideoJob | KlingError) -> None:
        super().__init__()
        self.says = {"task_0": first, "req_0": other}

    def submit(
        self, request: VideoRequest, *, age: Callable[[], float], client_token: str | None = None
    ) -> VideoJob:
        return replace(super().submit(request, age=age), other_id="req_0")

    def look(self, task_id: str) -> VideoJob:
        said = self.says[task_id]
        if isinstance(said, KlingError):
            raise said
        return said


def other(status: str, *, names: str | None = None) -> VideoJob:
    return VideoJob(kling_task_id="req_0", other_id=names, status=status, raw_status=status)  # type: ignore[arg-type]


def error(kind: type[KlingError], http_status: int | None = 400) -> KlingError:
    return kind("no", http_status=http_status, kling_task_id="task_0")


class TestTheOtherIdOfASubmit:
    @pytest.mark.parametrize("status", ["completed", "failed"])
    def test_a_foreign_job_that_has_ended_is_not_adopted(self, status: str) -> None:
        result = TwoIds(error(KlingNotFoundError), other(status)).obtain()
        assert (result.kling_task_id, result.other_id) == ("task_0", "req_0")

    @pytest.mark.parametrize(("status", "names"), [("running", None), ("queued", None), ("completed", "task_0")])
    @pytest.mark.parametrize("kind", [KlingNotFoundError, KlingServerError, KlingValidationError])
    def test_ours_is(self, status: str, names: str | None, kind: type[KlingError]) -> None:
        result = TwoIds(error(kind), other(status, names=names)).obtain()
        assert (result.kling_task_id, result.other_id) == ("req_0", None)

    @pytest.mark.parametrize("kind", [KlingAuthenticationError, KlingBalanceError, KlingRateLimitError])
    def test_is_not_tried_on_errors_about_the_account(self, kind: type[KlingError]) -> None:
        assert TwoIds(error(kind), other("running")).obtain().kling_task_id == "task_0"

    @pytest.mark.parametrize("kind", [KlingNotFoundError, KlingServerError])
    def test_a_foreign_failure_buys_nothing(self, kind: type[KlingError]) -> None:
        vendor = TwoIds(error(kind), other("failed"))
        vendor.obtain()
        vendor.obtain()
        assert len(vendor.bought) == 1

    def test_trouble_with_the_first_id_does_not_make_a_foreign_failure_ours(self) -> None:
        vendor = TwoIds(error(KlingServerError), other("failed"))
        vendor.obtain()
        vendor.now = NOW + 600
        vendor.obtain()
        assert len(vendor.bought) == 1


def poller(other_id: str | None = None) -> Poller:
    return Poller(
        "task_0", started_at=NOW, deadline=NOW + 36000, delay=delay_for(5.0, None, 5, None), other_id=other_id
    )


class TestAWait:
    @pytest.mark.parametrize("kind", [KlingBalanceError, KlingPermissionError, KlingNotFoundError])
    def test_outlasts_what_waiting_may_cure_once_the_job_was_seen(self, kind: type[KlingError]) -> None:
        waiting = poller()
        waiting.on_job(RUNNING, grace=GRACE, now=NOW)
        for check in range(1, FAILURE_BUDGET):
            assert isinstance(waiting.on_error(error(kind), grace=GRACE, now=NOW + 100 + check), Pause)
        decision = waiting.on_error(error(kind), grace=GRACE, now=NOW + 200)
        assert isinstance(decision, Finished)
        assert type(decision.error) is kind

    @pytest.mark.parametrize("kind", [KlingBalanceError, KlingPermissionError, KlingNotFoundError])
    def test_ends_with_it_before(self, kind: type[KlingError]) -> None:
        assert isinstance(poller().on_error(error(kind), grace=GRACE, now=NOW + 100), Finished)

    def test_ends_with_a_refused_key_at_any_time(self) -> None:
        waiting = poller()
        waiting.on_job(RUNNING, grace=GRACE, now=NOW)
        assert isinstance(waiting.on_error(error(KlingAuthenticationError), grace=GRACE, now=NOW + 9), Finished)

    @pytest.mark.parametrize(
        "kind", [KlingNotFoundError, KlingServerError, KlingValidationError, KlingPermissionError]
    )
    def test_tries_the_other_id_on_any_error_of_the_first(self, kind: type[KlingError]) -> None:
        waiting = poller("req_0")
        assert isinstance(waiting.on_error(error(kind), grace=GRACE, now=NOW + 100), Pause)
        assert waiting.kling_task_id == "req_0"

    @pytest.mark.parametrize("kind", [KlingValidationError, KlingPermissionError])
    def test_ends_if_both_are_refused(self, kind: type[KlingError]) -> None:
        waiting = poller("req_0")
        waiting.on_error(error(kind), grace=GRACE, now=NOW + 100)
        assert isinstance(waiting.on_error(error(kind), grace=GRACE, now=NOW + 105), Finished)

    @pytest.mark.parametrize("kind", [KlingAuthenticationError, KlingBalanceError, KlingRateLimitError])
    def test_keeps_the_id_on_errors_about_the_account(self, kind: type[KlingError]) -> None:
        waiting = poller("req_0")
        waiting.on_error(error(kind), grace=GRACE, now=NOW + 100)
        assert waiting.kling_task_id == "task_0"

    @pytest.mark.parametrize("status", ["completed", "failed"])
    def test_takes_no_foreign_job_that_has_ended(self, status: str) -> None:
        waiting = poller("req_0")
        waiting.on_error(error(KlingNotFoundError), grace=GRACE, now=NOW + 1)
        assert isinstance(waiting.on_job(other(status), grace=GRACE, now=NOW + 6), Pause)
        assert (waiting.kling_task_id, waiting.job_has_ended) == ("task_0", False)
        waiting.on_error(error(KlingNotFoundError), grace=GRACE, now=NOW + 11)
        assert isinstance(waiting.on_job(other("failed", names="task_0"), grace=GRACE, now=NOW + 16), Finished)
