# SPDX-License-Identifier: Apache-2.0
"""The state of jobs in the shape of either standard, one at a time and twenty at once."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
    KlingServerError,
    KlingValidationError,
)
from tests.fixtures.cpu import allowed_seconds
from tests.fixtures.official import (
    TOKEN,
    VIDEO_URL,
    error,
    legacy_job,
    legacy_result,
    new_job,
    outputs,
    raised,
    response,
    success,
    with_api_key,
    with_pair,
)

RISK = "Failure to pass the risk control system"
NOT_FOUND = error(1201, "Task not found by id/external id: 8671")


def read_one(body: Any, http_status: int = 200) -> VideoJob:
    """Return the job 8671 in a response."""
    [found] = with_api_key().read_status(response(body, http_status), ("8671",)).values()
    assert isinstance(found, VideoJob)
    return found


def legacy(status: str, **fields: Any) -> VideoJob:
    return read_one(success(legacy_job(status, **fields)))


def new(status: str, **fields: Any) -> VideoJob:
    return read_one(success([new_job(status, **fields)]))


@pytest.mark.parametrize("read", [legacy, new])
@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("submitted", "queued"),
        ("processing", "running"),
        ("succeed", "completed"),
        ("succeeded", "completed"),
        ("failed", "failed"),
        ("expired", "failed"),
    ],
)
def test_the_words_of_both_standards_are_read_in_either(read: Any, word: str, status: str) -> None:
    job = read(word)
    assert (job.status, job.raw_status, job.is_known_status, job.client_token) == (status, word, True, TOKEN)
    assert job.is_gone is (word == "expired")


@pytest.mark.parametrize(
    ("job", "billed"),
    [
        (legacy("succeed", task_result=legacy_result(url=VIDEO_URL), final_unit_deduction="3.0"), {"units": 3.0}),
        (new("succeeded", outputs=outputs(url=VIDEO_URL), billing=[]), None),
    ],
)
def test_a_finished_job(job: VideoJob, billed: dict[str, float] | None) -> None:
    assert job.video_url == VIDEO_URL
    assert job.created_at == "2026-09-21T14:13:20+00:00"
    assert job.completed_at == "2026-09-21T14:15:00+00:00"
    assert job.billed == billed
    assert (job.is_watermarked, job.error, job.excerpt) == (False, None, None)


@pytest.mark.parametrize("job", [legacy("processing"), new("processing")])
def test_a_job_that_runs_has_no_end(job: VideoJob) -> None:
    assert (job.created_at, job.completed_at, job.billed) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "billed"),
    [
        ({"final_unit_deduction": "3.0"}, {"units": 3.0}),
        ({"final_unit_deduction": 0.5}, {"units": 0.5}),
        (
            {"final_unit_deduction": "0", "final_balance_deduction": "0.42", "currency": "USD"},
            {"units": 0, "USD": 0.42},
        ),
        ({"final_balance_deduction": {"amount": "0.42", "currency": "USD"}}, {"USD": 0.42}),
        ({"final_balance_deduction": "0.42"}, {"balance": 0.42}),
        ({"final_unit_deduction": "none"}, None),
    ],
)
def test_what_a_legacy_job_has_cost(fields: dict[str, Any], billed: dict[str, float] | None) -> None:
    assert legacy("succeed", **fields).billed == billed
    assert legacy("failed", **fields).billed == billed


def test_what_a_new_job_has_cost_is_summed_by_unit() -> None:
    bill = [
        {"charge_type": "unit", "amount": "2.4", "package_type": "video"},
        {"charge_type": "unit", "amount": 0.1},
        {"charge_type": "cash", "amount": "0.30", "currency": "USD"},
        {"charge_type": "cash", "amount": "0.12", "currency": "USD"},
        {"charge_type": "cash", "amount": "x", "currency": "CNY"},
        None,
    ]
    assert new("succeeded", billing=bill).billed == {"units": 2.5, "USD": 0.42}


@pytest.mark.parametrize(
    "job",
    [
        legacy("succeed", task_result=legacy_result(watermark_url=VIDEO_URL)),
        legacy("succeed", task_result=legacy_result(url="", watermark_url=VIDEO_URL)),
        new("succeeded", outputs=outputs(watermark_url=VIDEO_URL)),
        new("succeeded", outputs=outputs(url=None, watermark_url=VIDEO_URL)),
    ],
)
def test_a_copy_with_a_watermark_counts_where_there_is_no_other(job: VideoJob) -> None:
    assert (job.video_url, job.is_watermarked) == (VIDEO_URL, True)


@pytest.mark.parametrize(
    "job",
    [
        legacy("succeed", task_result=legacy_result(url=VIDEO_URL, watermark_url="https://a.example.com/w.mp4")),
        new("succeeded", outputs=outputs(watermark_url="https://a.example.com/w.mp4", url=VIDEO_URL)),
        new(
            "succeeded",
            outputs=[
                {"type": "image", "url": "https://a.example.com/cover.png"},
                {"type": "video", "watermark_url": "https://a.example.com/w.mp4", "url": VIDEO_URL},
            ],
        ),
    ],
)
def test_the_clean_copy_of_the_video_goes_first(job: VideoJob) -> None:
    assert (job.video_url, job.is_watermarked) == (VIDEO_URL, False)


@pytest.mark.parametrize("job", [legacy("succeed"), new("succeeded", outputs=outputs(url="soon"))])
def test_a_finished_job_without_a_url_shows_what_came(job: VideoJob) -> None:
    assert (job.status, job.video_url) == ("completed", None)
    assert job.excerpt is not None
    assert "8671" in job.excerpt


@pytest.mark.parametrize("job", [legacy("failed", task_status_msg=RISK), new("failed", message=RISK)])
def test_a_failure_has_the_servers_words_and_a_content_refusal_is_one(job: VideoJob) -> None:
    assert (job.status, job.error, job.content_refused, job.video_url) == ("failed", RISK, True, None)
    assert job.completed_at == "2026-09-21T14:15:00+00:00"
    assert job.excerpt is None


def test_another_failure_is_no_content_refusal() -> None:
    job = legacy("failed", task_status_msg="Internal error while rendering")
    assert (job.error, job.content_refused) == ("Internal error while rendering", False)


@pytest.mark.parametrize("job", [legacy("failed"), new("failed")])
def test_a_failure_without_a_reason_does_not_take_the_envelopes_word_for_one(job: VideoJob) -> None:
    assert job.error is None
    assert job.excerpt is not None


def test_an_unknown_word_counts_as_running_and_with_a_video_as_a_job_that_seems_finished() -> None:
    for job in (legacy("dreaming"), new("dreaming")):
        assert (job.status, job.is_known_status, job.progress, job.video_url) == ("running", False, None, None)
    job = new("dreamt", outputs=outputs(url=VIDEO_URL))
    assert (job.status, job.is_known_status, job.progress, job.video_url) == ("running", False, 100, VIDEO_URL)


def test_the_model_is_read_where_it_is_reported() -> None:
    assert legacy("succeed", model_name="kling-v3").model == "kling-v3"
    assert new("processing").model is None


def test_other_shapes_are_read_as_those_of_any_server() -> None:
    job = read_one({"id": "8671", "status": "completed", "video_url": VIDEO_URL})
    assert (job.status, job.video_url) == ("completed", VIDEO_URL)
    job = read_one(success(legacy_job("succeed", "other", task_result=legacy_result(url=VIDEO_URL))))
    assert (job.kling_task_id, job.other_id, job.has_id) == ("8671", "other", False)


class TestSeveral:
    def read(self, data: Any, *ids: str) -> dict[str, VideoJob | KlingError]:
        return dict(with_api_key().read_status(response(success(data)), ids))

    def test_ids_decide_and_not_the_order(self) -> None:
        found = self.read(
            [new_job("failed", "3"), new_job("processing", "1"), new_job("succeeded", "2")], "1", "2", "3"
        )
        assert [(name, job.status) for name, job in found.items() if isinstance(job, VideoJob)] == [
            ("1", "running"),
            ("2", "completed"),
            ("3", "failed"),
        ]

    def test_a_job_that_is_left_out_is_not_found_and_harms_no_other(self) -> None:
        found = self.read([new_job("processing", "1")], "1", "2")
        assert isinstance(found["1"], VideoJob)
        assert isinstance(found["2"], KlingNotFoundError)
        assert found["2"].kling_task_id == "2"

    def test_an_empty_list_has_none_of_them(self) -> None:
        assert all(isinstance(error, KlingNotFoundError) for error in self.read([], "1", "2").values())

    @pytest.mark.parametrize("broken", [{"id": "2"}, {"id": "2", "status": 5}, {"id": "2", "status": {}}])
    def test_an_entry_that_cannot_be_read_harms_only_itself(self, broken: Any) -> None:
        found = self.read([broken, new_job("processing", "1")], "1", "2", "3")
        assert isinstance(found["1"], VideoJob)
        assert isinstance(found["2"], KlingServerError)
        assert isinstance(found["3"], KlingNotFoundError)

    @pytest.mark.parametrize("odd", [None, 5, "x", [], {}, {"status": "failed"}, new_job("failed", "99")])
    def test_a_list_of_something_else_does_not_show_that_a_job_is_missing(self, odd: Any) -> None:
        found = self.read([odd, new_job("processing", "1")], "1", "2")
        assert isinstance(found["1"], VideoJob)
        assert isinstance(found["2"], KlingServerError)

    def test_of_two_entries_about_one_job_the_one_that_has_not_failed_counts(self) -> None:
        both = [new_job("failed", "1"), new_job("succeeded", "1")]
        for entries in (both, both[::-1]):
            [job] = self.read(entries, "1").values()
            assert isinstance(job, VideoJob)
            assert job.status == "completed"

    def test_an_id_may_be_a_number(self) -> None:
        [job] = self.read([{"id": 8671, "status": "processing"}], "8671").values()
        assert isinstance(job, VideoJob)

    @pytest.mark.parametrize("bad", ["1,2", "", "a\n", "\ud800", "x" * 500])
    def test_an_id_that_cannot_be_one_harms_no_other(self, bad: str) -> None:
        call = with_api_key().status(("1", bad, "3"))
        assert call.path == "/tasks?task_ids=1,3"
        found = self.read([new_job("processing", "1"), new_job("processing", "3")], "1", bad, "3")
        assert isinstance(found[bad], KlingValidationError)
        assert all(isinstance(found[name], VideoJob) for name in ("1", "3"))
        assert isinstance(raised(lambda: with_api_key().status((bad,))), KlingValidationError)

    @pytest.mark.parametrize(
        ("http_status", "body", "kind"),
        [
            (401, error(1002, "no"), KlingAuthenticationError),
            (429, error(1302, "too fast"), KlingRateLimitError),
            (200, error(1302, "too fast"), KlingRateLimitError),
            (500, error(5000, "oops"), KlingServerError),
            (502, b"<html>", KlingServerError),
            # About which of them is it? No paid job may be lost over it.
            (400, error(1201, "at most 20 ids are allowed"), KlingServerError),
            (400, NOT_FOUND, KlingServerError),
            (404, {"detail": "Not Found"}, KlingServerError),
            (200, success(None), KlingServerError),
            (200, success(legacy_job()), KlingServerError),
            (200, b"", KlingServerError),
        ],
    )
    def test_an_error_for_all_of_them(self, http_status: int, body: Any, kind: type[KlingError]) -> None:
        found = raised(lambda: with_api_key().read_status(response(body, http_status), ("1", "2")))
        assert type(found) is kind
        assert found.kling_task_id is None
        assert "2 Kling tasks" in found.message


@pytest.mark.parametrize(
    ("http_status", "body", "kind"),
    [
        (400, NOT_FOUND, KlingNotFoundError),
        (200, NOT_FOUND, KlingNotFoundError),
        (400, error(1201, "task_ids is invalid"), KlingValidationError),
        (401, error(1004, "expired"), KlingAuthenticationError),
        (429, error(1303, "over"), KlingRateLimitError),
        (503, error(5001, "busy"), KlingServerError),
        (404, b"<html>", KlingServerError),
        (200, success(None), KlingServerError),
        (200, b"<html>", KlingServerError),
    ],
)
def test_an_error_for_one_job_is_the_named_error_of_any_server(
    http_status: int, body: Any, kind: type[KlingError]
) -> None:
    found = raised(lambda: with_pair().read_status(response(body, http_status), ("8671",)))
    assert type(found) is kind
    assert found.kling_task_id == "8671"


def test_a_key_that_is_rejected_later_is_explained() -> None:
    rejected = response(error(1003, "not yet"), 401, clock_error=60.0)
    assert "60 seconds ahead" in str(raised(lambda: with_pair().read_status(rejected, ("8671",))))


@pytest.mark.alone
@pytest.mark.parametrize("status", ["processing", "succeeded"])
def test_a_response_about_twenty_jobs_costs_a_triggerer_little(status: str) -> None:
    fields = {"outputs": outputs(url=VIDEO_URL), "billing": [{"charge_type": "unit", "amount": "2.4"}]}
    ids = [f"867{number:015}" for number in range(20)]
    body = json.dumps(success([new_job(status, name, **fields) for name in ids])).encode()
    repeats = 20

    def once() -> float:
        started = time.process_time()
        for _ in range(repeats):
            found = with_api_key().read_status(response(body), ids)
        assert all(isinstance(job, VideoJob) for job in found.values())
        return time.process_time() - started

    assert min(once() for _ in range(5)) / repeats / len(ids) < allowed_seconds(50e-6)
