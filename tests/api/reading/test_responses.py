# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.api.codes import official_code
from airflow_provider_kling.api.gateway.api import status_path
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.reading.errors import error_of
from airflow_provider_kling.api.reading.probe import describe_probe, read_probe
from airflow_provider_kling.api.reading.refusals import BEFORE_SENDING, LOST_UPSTREAM
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.status_words import COMPLETED, FAILED, RUNNING, WAITING
from airflow_provider_kling.api.reading.submit import is_definite_refusal, read_submit
from airflow_provider_kling.api.response import MAX_RETRY_AFTER, Response, retry_after_seconds
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.jobs.result import finished_video, generation_error
from tests.fixtures.cpu import allowed_seconds

URL = "https://cdn.example.com/output.mp4"


def answer(body: Any, status: int = 200, **facts: Any) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Response(status, raw, **facts)


def status_of(**body: Any) -> VideoJob:
    return read_status(answer({"id": "task_1", "status": "completed", **body}), "task_1")


def spellings(words: frozenset[str]) -> list[str]:
    return [spell(word) for word in sorted(words) for spell in (str.lower, str.upper, str.title)]


class TestTheVendorsAnswer:
    def test_the_sample_is_read(self) -> None:
        body = {
            "id": "task_xxx",
            "task_id": "task_xxx",
            "object": "video.generation.job",
            "model": "kling-v3-pro-audio",
            "status": "completed",
            "progress": 100,
            "video_url": "https://example.com/output.mp4",
        }
        assert read_status(answer(body), "task_xxx") == VideoJob(
            kling_task_id="task_xxx",
            status="completed",
            raw_status="completed",
            progress=100,
            video_url="https://example.com/output.mp4",
            model="kling-v3-pro-audio",
        )

    def test_a_job_becomes_a_plain_dict(self) -> None:
        job = status_of(video_url=URL, progress=100, model="m")
        assert finished_video(job) == json.loads(json.dumps(finished_video(job)))
        assert finished_video(job)["video_url"] == URL


class TestStatusWords:
    @pytest.mark.parametrize(
        ("words", "status"),
        [(WAITING, "queued"), (RUNNING, "running"), (COMPLETED, "completed"), (FAILED, "failed")],
    )
    def test_every_known_word_in_any_case(self, words: frozenset[str], status: str) -> None:
        for word in spellings(words):
            job = status_of(status=word)
            assert (job.status, job.raw_status, job.is_known_status) == (status, word, True)

    def test_the_words_that_servers_of_this_kind_were_seen_to_use(self) -> None:
        seen = "queued pending submitted not_start preparing created starting unknown"
        assert set(seen.split()) <= WAITING
        assert {"in_progress", "processing", "running", "generating"} <= RUNNING
        assert {"completed", "complete", "success", "succeeded", "succeed", "finished"} <= COMPLETED
        assert {"failed", "failure", "fail", "error", "cancelled", "canceled", "expired"} <= FAILED

    @pytest.mark.parametrize("word", ["dreaming", "SUCCESSFUL?", "done!", "排队中", "x" * 10_000])
    def test_an_unknown_word_means_still_running(self, word: str) -> None:
        job = status_of(status=word, progress=100, video_url=URL)
        assert job.status == "running"
        assert not job.is_known_status
        assert len(job.raw_status) <= 80

    def test_spaces_around_a_word_do_not_hide_it(self) -> None:
        assert status_of(status=" completed\n").status == "completed"

    def test_the_official_platforms_field_is_read(self) -> None:
        body = {"code": 0, "message": "SUCCEED", "data": {"task_id": "1", "task_status": "succeed"}}
        assert read_status(answer(body), "1").status == "completed"

    @pytest.mark.parametrize("status", [None, 200, [], {}, True, ""])
    def test_no_status_at_all_is_an_error_that_waiting_may_cure(self, status: Any) -> None:
        with pytest.raises(KlingServerError, match="contains no status") as caught:
            status_of(status=status)
        assert caught.value.kling_task_id == "task_1"


@pytest.mark.parametrize(
    ("told", "read"),
    [
        (30, 30),
        ("30%", 30),
        ("30", 30),
        (" 30 % ", 30),
        (30.7, 30),
        (0, 0),
        (-5, 0),
        (250, 100),
        (None, None),
        ("half", None),
        ([30], None),
        (True, None),
        ("nan", None),
        (1e400, None),
    ],
)
def test_progress_in_every_form(told: Any, read: int | None) -> None:
    assert status_of(progress=told).progress == read


@pytest.mark.parametrize("status", ["queued", "in_progress", "failed"])
def test_progress_never_decides_the_outcome(status: str) -> None:
    assert status_of(status=status, progress=100).status != "completed"


class TestWhereTheUrlIs:
    @pytest.mark.parametrize(
        "place",
        [
            {"video_url": URL},
            {"url": URL},
            {"metadata": {"url": URL}},
            {"metadata": {"video_url": URL}},
            {"output_url": URL},
            {"data": {"result_url": URL}},
            {"result_url": URL},
            {"task_result": {"videos": [{"id": "v", "url": URL, "duration": "5"}]}},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_every_place(self, place: dict[str, Any], wrapped: bool) -> None:
        body: dict[str, Any] = {"id": "task_1", "status": "SUCCESS", **place}
        if wrapped:
            body = {"code": "success", "message": "", "data": body}
        assert read_status(answer(body), "task_1").video_url == URL

    def test_the_documented_place_goes_first(self) -> None:
        assert status_of(url="https://example.com/thumbnail.png", video_url=URL).video_url == URL

    @pytest.mark.parametrize("text", ["javascript:alert(1)", "data:video/mp4;base64,AA", "http://[", "/v" * 5000])
    def test_what_is_no_address_on_the_web_is_none(self, text: str) -> None:
        assert status_of(video_url=text).video_url is None
        assert status_of(video_url=text, url=URL).video_url == URL

    def test_a_path_on_the_server_itself_is_one(self) -> None:
        assert status_of(video_url="/files/1.mp4").video_url == "/files/1.mp4"

    @pytest.mark.parametrize(
        "nothing", [None, "", "  ", 5, [], {}, {"videos": []}, {"videos": [5]}, {"videos": {}}]
    )
    def test_nothing_usable_is_no_url(self, nothing: Any) -> None:
        names = ("video_url", "url", "metadata", "output_url", "data", "task_result", "result_url")
        assert status_of(**dict.fromkeys(names, nothing)).video_url is None


class TestIds:
    @pytest.mark.parametrize(
        ("body", "task_id"),
        [
            ({"id": "a", "task_id": "a"}, "a"),
            ({"id": "a"}, "a"),
            ({"task_id": "b", "status": "queued"}, "b"),
            ({"id": 1234567890123, "status": "queued"}, "1234567890123"),
            ({"id": 0}, "0"),
            ({"id": "upstream", "task_id": "ours"}, "ours"),
            ({"code": "success", "message": "", "data": {"task_id": "c"}}, "c"),
            ({"code": 0, "message": "ok", "data": {"task_id": "d", "task_status": "submitted"}}, "d"),
            ({"code": "success", "message": "", "data": "task_e"}, "task_e"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("http_status", [200, 201, 202, 299])
    def test_a_submit_gives_the_id_in_every_form(self, body: Any, task_id: str, http_status: int) -> None:
        assert read_submit(answer(body, http_status)).kling_task_id == task_id

    def test_a_submit_without_a_status_is_queued(self) -> None:
        assert read_submit(answer({"id": "a"})).status == "queued"

    def test_a_status_answer_keeps_the_id_it_was_asked_by(self) -> None:
        assert status_of(id="upstream_1", task_id="upstream_2").kling_task_id == "task_1"

    def test_an_id_cannot_leave_its_place_in_the_path(self) -> None:
        assert status_path("../../admin?x=1#y") == "/v1/videos/..%2F..%2Fadmin%3Fx%3D1%23y"


class TestTimes:
    @pytest.mark.parametrize(
        ("told", "read"),
        [
            (1_700_000_000, "2023-11-14T22:13:20+00:00"),
            (1_700_000_000_000, "2023-11-14T22:13:20+00:00"),
            ("1700000000", "2023-11-14T22:13:20+00:00"),
            (1_700_000_000.9, "2023-11-14T22:13:20+00:00"),
            ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20+00:00"),
            ("2023-11-15T06:13:20+08:00", "2023-11-14T22:13:20+00:00"),
            (0, None),
            (-1, None),
            (None, None),
            (True, None),
            ("yesterday", None),
            ([1_700_000_000], None),
            (1e17, None),
            (10**400, None),
            ("0001-01-01T00:00:00+14:00", None),
        ],
    )
    def test_seconds_milliseconds_and_iso(self, told: Any, read: str | None) -> None:
        job = status_of(created_at=told, completed_at=told)
        assert (job.created_at, job.completed_at) == (read, read)

    def test_the_other_names_are_read_too(self) -> None:
        job = status_of(submit_time=1_700_000_000, finish_time=1_700_000_060)
        assert job.created_at == "2023-11-14T22:13:20+00:00"
        assert job.completed_at == "2023-11-14T22:14:20+00:00"


class TestWhyAJobFailed:
    @pytest.mark.parametrize(
        "place",
        [
            {"error": {"message": "out of memory"}},
            {"error": "out of memory"},
            {"fail_reason": "out of memory"},
            {"task_status_msg": "out of memory"},
            {"message": "out of memory"},
            {"error": None, "fail_reason": "out of memory"},
            {"error": {"message": ""}, "fail_reason": "out of memory"},
            {"error": {"message": '{"code":5000,"message":"out of memory","request_id":"r"}'}},
        ],
        ids=str,
    )
    def test_the_reason_is_found_in_every_place(self, place: dict[str, Any]) -> None:
        failure = generation_error(status_of(status="failed", progress=100, **place))
        assert type(failure) is KlingGenerationFailedError
        assert failure.server_message == "out of memory"
        assert failure.kling_task_id == "task_1"

    @pytest.mark.parametrize(
        "nothing", [{}, {"error": None}, {"error": {}}, {"fail_reason": "  "}, {"error": [1]}]
    )
    def test_no_reason_is_said_to_be_none(self, nothing: dict[str, Any]) -> None:
        failure = generation_error(status_of(status="FAILURE", **nothing))
        assert failure.message == "The job ended as FAILURE, and the server gives no reason"
        assert "Kling task task_1" in str(failure)

    @pytest.mark.parametrize(
        "reason",
        [
            {"error": {"message": '{"code":1301,"message":"内容不符合社区规范"}'}},
            {"error": {"message": "refused", "code": "1301"}},
            {"error": {"message": "refused", "code": 1300}},
            {"error": {"message": "refused", "code": "content_policy_violation"}},
            {"task_status_msg": "Failure to pass the risk control system"},
            {"fail_reason": "提示词包含敏感信息"},
            {"fail_reason": "图片违规"},
        ],
        ids=str,
    )
    def test_refused_content_is_distinguished_since_it_would_be_refused_again(
        self, reason: dict[str, Any]
    ) -> None:
        failure = generation_error(status_of(status="failed", **reason))
        assert type(failure) is KlingContentRefusedError
        assert not failure.retryable

    def test_the_code_is_kept(self) -> None:
        job = status_of(status="failed", error={"message": "oops", "code": "upstream_error"})
        assert (job.error, job.error_code) == ("oops", "upstream_error")

    def test_a_job_that_did_not_fail_has_no_reason(self) -> None:
        assert status_of(message="success").error is None


def openai(code: Any = "", message: str = "no") -> dict[str, Any]:
    return {"error": {"message": message, "type": "new_api_error", "code": code}}


def flat(code: Any = "", message: str = "no") -> dict[str, Any]:
    return {"code": code, "message": message, "data": None}


def upstream(code: int, message: str = "原因") -> str:
    return json.dumps({"code": code, "message": message, "request_id": "r"}, ensure_ascii=False)


class TestTheErrorTable:
    @pytest.mark.parametrize(
        ("http_status", "code", "kind"),
        [
            (401, "", KlingAuthenticationError),
            (402, "", KlingBalanceError),
            (403, "insufficient_user_quota", KlingBalanceError),
            (403, "access_denied", KlingPermissionError),
            (403, "", KlingPermissionError),
            (503, "model_not_found", KlingServerError),
            (400, "task_not_exist", KlingNotFoundError),
            (404, "", KlingNotFoundError),
            (410, "", KlingNotFoundError),
            (400, "invalid_request", KlingValidationError),
            (400, "", KlingValidationError),
            (422, "", KlingValidationError),
            (405, "", KlingValidationError),
            (429, "", KlingRateLimitError),
            (429, "rate_limit_exceeded", KlingRateLimitError),
            (408, "", KlingServerError),
            (500, "fail_to_fetch_task", KlingServerError),
            (500, "", KlingServerError),
            (502, "", KlingServerError),
            (504, "", KlingServerError),
        ],
    )
    @pytest.mark.parametrize("envelope", [openai, flat])
    def test_by_http_status_and_code(
        self, http_status: int, code: str, kind: type[KlingError], envelope: Callable[..., dict[str, Any]]
    ) -> None:
        error = error_of(answer(envelope(code, "请稍后"), http_status), "It failed", "task_1")
        assert type(error) is kind
        assert error.server_message == "请稍后"
        assert (error.http_status, error.code, error.kling_task_id) == (http_status, code or None, "task_1")

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            *[(code, KlingAuthenticationError) for code in range(1000, 1005)],
            *[(code, KlingBalanceError) for code in range(1100, 1103)],
            (1103, KlingPermissionError),
            *[(code, KlingValidationError) for code in range(1200, 1203)],
            (1203, KlingNotFoundError),
            (1300, KlingContentRefusedError),
            (1301, KlingContentRefusedError),
            (1302, KlingRateLimitError),
            (1303, KlingRateLimitError),
            (1304, KlingPermissionError),
            (5000, KlingServerError),
            (5001, KlingServerError),
            (5002, KlingServerError),
        ],
    )
    @pytest.mark.parametrize(
        "spell",
        [
            lambda code: openai("", upstream(code)),
            lambda code: openai("fail_to_fetch_task", upstream(code)),
            lambda code: openai("fail_to_fetch_task", f"upstream error: {upstream(code)} (request id: 2024)"),
            lambda code: openai("", json.dumps({"error": {"message": "原因", "code": code}}, ensure_ascii=False)),
            lambda code: openai("", f"[{code}] 原因"),
            lambda code: openai("", f"({code}) 原因"),
            lambda code: openai("", f"（{code}）原因"),
            lambda code: openai("", f"{code}: 原因"),
            lambda code: openai("", f"任务失败, code={code}, 原因"),
            lambda code: openai("", f"错误码：{code} 原因"),
            lambda code: openai("", f'upstream said {{"code": "{code}"'),
            lambda code: openai(code, "原因"),
            lambda code: openai(str(code), "原因"),
            lambda code: flat(code, "原因"),
            lambda code: flat("fail_to_fetch_task", upstream(code)),
        ],
    )
    @pytest.mark.parametrize("http_status", [400, 429, 500])
    def test_an_official_code_outweighs_the_http_status(
        self, spell: Callable[[int], dict[str, Any]], code: int, kind: type[KlingError], http_status: int
    ) -> None:
        error = error_of(answer(spell(code), http_status), "It failed")
        assert type(error) is kind
        assert error.code == str(code)

    def test_a_429_of_an_empty_account_is_distinguished_from_a_rate_limit(self) -> None:
        assert not error_of(answer(openai("", upstream(1102)), 429), "It failed").retryable
        assert not error_of(answer(openai("", upstream(1304)), 429), "It failed").retryable
        assert error_of(answer(openai("", upstream(1303)), 429), "It failed").retryable

    @pytest.mark.parametrize(
        "message", ["took 1303 ms", "request 51303", "13030", "id 1303abc", "queue of 5000 jobs", "at 10:00", ""]
    )
    def test_a_number_that_only_looks_like_a_code_is_none(self, message: str) -> None:
        assert official_code(message) is None

    @pytest.mark.parametrize("message", ["task_not_exist", "TASK_NOT_EXIST"])
    def test_a_code_that_stands_only_in_the_message_counts(self, message: str) -> None:
        assert type(error_of(answer(openai("", message), 400), "It failed")) is KlingNotFoundError

    @pytest.mark.parametrize(
        "message", ["Your request was rejected by content policy", "提示词包含敏感词", "sensitive words detected"]
    )
    def test_refused_content_is_known_by_its_words_too(self, message: str) -> None:
        assert type(error_of(answer(openai("", message), 400), "It failed")) is KlingContentRefusedError

    def test_a_balance_error_that_speaks_of_sensitive_things_stays_one(self) -> None:
        error = error_of(answer(openai("insufficient_user_quota", "sensitive account"), 403), "It failed")
        assert type(error) is KlingBalanceError


class TestTheServersOwnWords:
    def words(self, body: Any, status: int = 500) -> str | None:
        return error_of(answer(body, status), "It failed").server_message

    def test_json_inside_the_message_is_unpacked_to_its_words(self) -> None:
        assert self.words(openai("", upstream(5000, "服务器开小差了"))) == "服务器开小差了"

    def test_json_inside_json_inside_the_message_too(self) -> None:
        nested = json.dumps({"error": {"message": upstream(5000, "服务器开小差了")}}, ensure_ascii=False)
        assert self.words(openai("", f"upstream: {nested}")) == "服务器开小差了"

    def test_json_without_words_is_shown_as_it_is(self) -> None:
        assert self.words(openai("", '{"reason": 7}')) == '{"reason": 7}'

    def test_a_proxys_page_is_shown_without_its_tags(self) -> None:
        page = b"<html><style>a{}</style><script>alert(1)</script><title>502</title><h1>Bad  Gateway</h1></html>"
        assert self.words(page, 502) == "502 Bad Gateway"

    def test_a_string_as_error_is_taken(self) -> None:
        assert self.words({"error": "busy"}) == "busy"

    @pytest.mark.parametrize("body", [b"", b"  ", b"<html></html>"])
    def test_nothing_said_is_nothing(self, body: bytes) -> None:
        assert self.words(body) is None

    def test_a_long_message_is_cut(self) -> None:
        assert len(self.words(openai("", "x" * 100_000)) or "") == 500

    def test_retry_after_is_kept(self) -> None:
        assert error_of(answer(openai(), 429, retry_after=7.0), "It failed").retry_after == 7.0


class TestSignaturesInTheServersWords:
    """A server repeats the URL that it could not fetch; who can read its signature can fetch the file."""

    SIGNED = f"{URL}?v=1&X-Amz-Signature=0a1b2c3d4e5f60718293&x=1"
    SHOWN = f"cannot fetch {URL}?v=1&X-Amz-Signature=***&x=1"

    def test_of_an_error(self) -> None:
        error = error_of(answer({"error": {"message": f"cannot fetch {self.SIGNED}"}}, 400), "It failed")
        assert error.server_message == self.SHOWN

    @pytest.mark.parametrize("name", ["fail_reason", "task_status_msg", "message", "error"])
    def test_of_a_failed_job(self, name: str) -> None:
        job = status_of(status="failed", **{name: f"cannot fetch {self.SIGNED}"})
        assert job.error == self.SHOWN
        assert "0a1b" not in f"{asdict(job)} {generation_error(job).to_dict()}"

    def test_in_json_inside_the_message(self) -> None:
        nested = json.dumps({"message": f"cannot fetch {self.SIGNED}"}).replace("&", r"\u0026")
        assert status_of(status="failed", error={"message": f"upstream: {nested}"}).error == self.SHOWN

    def test_of_a_page(self) -> None:
        page = f"<p>cannot fetch {self.SIGNED.replace('&', '&amp;')}</p>".encode()
        assert "0a1b" not in str(error_of(answer(page, 502), "It failed"))

    @pytest.mark.parametrize("before", [440, 445, 450, 8100, 8150])
    def test_where_the_message_is_cut(self, before: int) -> None:
        told = status_of(status="failed", message="x " * (before // 2) + self.SIGNED).error
        assert told is not None
        assert "0a1b" not in told

    def test_hidden_by_characters_that_no_log_shows(self) -> None:
        hidden = self.SIGNED.replace("X-Amz-Sig", "X-Amz-\0Sig")
        assert status_of(status="failed", message=f"cannot fetch {hidden}").error == self.SHOWN

    def test_the_url_of_the_video_stays_whole(self) -> None:
        assert status_of(video_url=self.SIGNED).video_url == self.SIGNED


class TestSubmitRefusedOrUncertain:
    """After a submit the question is one of money: was a job made?"""

    @pytest.mark.parametrize(
        "body",
        [
            {"code": 1, "message": "submitted", "data": {"task_id": "task_9"}},
            {"code": 10000, "message": "ok", "data": {"id": "task_9"}},
            {"code": "SUCCEED", "message": "", "data": {"task_id": "task_9"}},
            {"error": {"code": "", "message": ""}, "data": {"task_id": "task_9"}},
            {"error": {"code": None, "message": None}, "id": "task_9"},
            {"error": {}, "id": "task_9"},
            {"error": None, "id": "task_9"},
        ],
        ids=str,
    )
    def test_a_success_code_of_its_own_and_an_empty_error_do_not_hide_the_job(self, body: Any) -> None:
        assert read_submit(answer(body)).kling_task_id == "task_9"
        assert not is_definite_refusal(answer(body, 500))

    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            ({"code": 22, "message": "queued", "data": "task_9"}, 200),
            (openai("", "something new"), 200),
            (openai("", upstream(5000)), 200),
            (openai("", "Bad Gateway"), 502),
            (openai("", upstream(5002)), 500),
            (openai("do_request_failed", "context deadline exceeded"), 500),
            (openai("do_request_failed"), 400),
            (openai("", upstream(5002)), 400),
            (openai("", "overloaded"), 500),
            (openai("", upstream(5001)), 400),
            (openai("", upstream(5000)), 429),
            (openai("", "[5002] 原因"), 400),
            (openai("fail_to_fetch_task", upstream(5001)), 503),
            (openai("", upstream(5001, "timed out")), 503),
            (openai("", "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"), 500),
            (openai("fail_to_fetch_task", 'Post "https://kling": unexpected EOF'), 500),
            (openai("fail_to_fetch_task", "bad response status code 524"), 500),
            (openai("", "请求超时"), 503),
            (openai("fail_to_fetch_task", "overloaded"), 524),
            (openai("", "overloaded"), 520),
            (openai("", "overloaded"), 598),
            (openai("", "overloaded"), 599),
            (b"", 302),
            (b"", 303),
            (b"", 408),
            (b"", 499),
            (b"", 409),
            (openai("", "no"), 409),
            (b"", 444),
            (b"", 460),
            (b"upstream request timeout", 400),
            (b"", 424),
            (openai("", "upstream error: do request failed"), 429),
            # Words in other places than those that are known.
            ({"data": {"error": "connection reset by peer"}}, 429),
            ({"detail": {"message": "upstream request timed out"}}, 400),
            ({"detail": [{"msg": "read timeout"}]}, 422),
            ({"errors": ["socket hang up"]}, 400),
            ({"error": {"message": {"text": "unexpected EOF"}}}, 400),
            ({"error": {"error": {"code": "do_request_failed"}}}, 400),
            (json.dumps([{"error": {"message": "请求超时"}}]).encode(), 400),
            (json.dumps("请求超时").encode(), 400),
            # Success that is denied.
            ({"success": False, "message": "no", "id": "request-1"}, 200),
            ({"error": True, "message": "no", "id": "request-1"}, 200),
            ({"error": ["no"], "id": "request-1"}, 200),
        ],
    )
    def test_what_leaves_it_open_is_uncertain(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingUncertainSubmissionError):
            read_submit(answer(body, http_status))

    @pytest.mark.parametrize(
        ("body", "http_status", "kind"),
        [
            (openai("invalid_request"), 400, KlingValidationError),
            (openai(""), 401, KlingAuthenticationError),
            (openai("insufficient_user_quota"), 403, KlingBalanceError),
            (openai("", upstream(1301)), 400, KlingContentRefusedError),
            (openai("", upstream(1303)), 429, KlingRateLimitError),
            (flat("model_not_found"), 503, KlingServerError),
            (openai("fail_to_fetch_task", upstream(1303)), 503, KlingRateLimitError),
            (openai("fail_to_fetch_task", json.dumps(openai("", upstream(1302)))), 500, KlingRateLimitError),
            (openai("", upstream(1201, "image download timed out")), 500, KlingValidationError),
            (flat(1303), 500, KlingRateLimitError),
            (openai("1301"), 500, KlingContentRefusedError),
            (flat("sensitive_words_detected"), 500, KlingContentRefusedError),
            (openai("insufficient_quota"), 429, KlingBalanceError),
            (openai("", "Account balance not enough"), 429, KlingBalanceError),
            (openai("", "余额不足"), 403, KlingBalanceError),
            (b"<html>401</html>", 401, KlingAuthenticationError),
            (b"<html>404</html>", 404, KlingNotFoundError),
            (b"", 429, KlingRateLimitError),
            (b"", 307, KlingNotFoundError),
            (b"", 308, KlingNotFoundError),
            (flat(1303), 200, KlingRateLimitError),
            (openai("", upstream(1102)), 200, KlingBalanceError),
            ({"detail": [{"msg": "too long", "input": "a clock that says timeout"}]}, 422, KlingValidationError),
        ],
    )
    def test_a_refusal_is_sure_that_no_job_was_made(
        self, body: Any, http_status: int, kind: type[KlingError]
    ) -> None:
        refused = answer(body, http_status)
        assert is_definite_refusal(refused)
        with pytest.raises(kind) as caught:
            read_submit(refused)
        assert type(caught.value) is kind

    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            (b"<html>502 Bad Gateway</html>", 502),
            (b"<html>504 Gateway Timeout</html>", 504),
            (b"<html>500</html>", 500),
            (b"", 500),
            (b"", 503),
            (b"upstream connect error", 503),
            (openai("", "timeout"), 504),
            (openai("", "timeout"), 408),
            (b"", 408),
            ({}, 500),
            ({"error": {}}, 500),
            ({"status": "queued"}, 500),
            (b"", 200),
            (b"<html>hello</html>", 200),
            (b'{"id": "task_1", "sta', 200),
            (b"[]", 200),
            (b"null", 200),
            ({}, 200),
            ({"status": "queued"}, 200),
            ({"id": None, "task_id": ["x"]}, 200),
            ({"id": "  "}, 201),
            ({"id": True}, 200),
            ({"code": "success", "message": "", "data": {}}, 200),
            ({"code": 0, "message": "ok", "data": None}, 200),
            (b"\xff\xfe\x00", 200),
        ],
        ids=str,
    )
    def test_everything_else_without_an_id_is_uncertain(self, body: Any, http_status: int) -> None:
        unclear = answer(body, http_status)
        assert not is_definite_refusal(unclear)
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(unclear)
        assert not caught.value.retryable
        assert caught.value.http_status == http_status

    def test_an_error_with_http_200_is_uncertain_though_an_id_stands_beside_it(self) -> None:
        both = {"id": "task_1", "status": "failed", **openai("", "rejected")}
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(both))
        assert caught.value.kling_task_id is None

    @pytest.mark.parametrize("http_status", [500, 502])
    def test_an_id_in_a_server_error_is_not_taken_for_a_refusal(self, http_status: int) -> None:
        with pytest.raises(KlingUncertainSubmissionError):
            read_submit(answer({"id": "task_1", **openai("", "half done")}, http_status))

    def test_an_unknown_fate_is_reported_in_the_servers_own_words(self) -> None:
        body = openai("do_request_failed", json.dumps({"error": {"message": "上游超时"}}))
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(body, 500))
        assert (caught.value.code, caught.value.server_message) == ("do_request_failed", "上游超时")

    def test_a_404_to_a_submit_has_no_advice_about_a_task_id(self) -> None:
        with pytest.raises(KlingNotFoundError) as caught:
            read_submit(answer(b"", 404))
        assert "task id" not in str(caught.value)


#: In these words gateways tell that they sent the request on, and lost or could not keep the response.
LOST = [
    "socket hang up",
    "http2: server sent GOAWAY and closed the connection; LastStreamID=1999, ErrCode=NO_ERROR",
    "read ECONNRESET",
    "connect ECONNREFUSED 10.0.0.7:443",
    "write EPIPE",
    "ETIMEDOUT",
    "UND_ERR_SOCKET: other side closed",
    "insert_task_failed",
    "Server disconnected without sending a response.",
    "Server disconnected",
    "context canceled",
    "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
    'Post "https://api.klingai.com/v1/videos/text2video": unexpected EOF',
    "use of closed network connection",
    "write tcp 10.0.0.2:5000->10.0.0.7:443: write: broken pipe",
    "read tcp 10.0.0.2:5000->10.0.0.7:443: read: connection reset by peer",
    "dial tcp: lookup api.klingai.com on 127.0.0.11:53: server misbehaving",
    "dial tcp 10.0.0.7:443: i/o timeout",
    "no such host",
    "net/http: TLS handshake timeout",
    "http: server closed idle connection",
    "stream error: stream ID 7; INTERNAL_ERROR; received from peer",
    "transport is closing",
    "task id is empty",
    "task_id is empty",
    "upstream returned no task id",
    "database is locked",
    "Error 1213 (40001): Deadlock found when trying to get lock",
    "UNIQUE constraint failed: tasks.task_id",
    "failed to insert task",
    "failed to unmarshal response body",
    "invalid character '<' looking for beginning of value",
    "empty response from upstream",
    "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
    "upstream prematurely closed connection while reading response header from upstream",
    "peer closed connection without sending complete message body (incomplete chunked read)",
    "('Connection aborted.', RemoteDisconnected('Remote end closed connection without response'))",
    "httpx.ReadError",
    "fetch failed",
    "network error",
    "The operation was aborted.",
    "Request timed out.",
    "Gateway Time-out",
    "Bad Gateway",
    "Internal Server Error",
    "Service temporarily unavailable",
    "bad response status code 502",
    "Panic detected, error: runtime error: invalid memory address or nil pointer dereference",
    "连接被重置",
    "远程主机强迫关闭了一个现有的连接",
    "与上游的连接已断开",
    "请求上游地址失败",
    "上游无响应",
    "上游服务返回为空",
    "请求超时",
    "网络异常，请稍后再试",
    "数据库被锁定",
    "任务ID为空",
    "写入任务失败",
    "响应解析失败",
    "请求已被取消",
]


class TestALostUpstream:
    """The gateway has sent the request on: whatever status it answers with, the job may exist and be billed."""

    @pytest.mark.parametrize("envelope", [openai, flat])
    @pytest.mark.parametrize("words", LOST)
    @pytest.mark.parametrize("http_status", [400, 422, 429, 500, 502, 503])
    def test_its_words_are_uncertain(
        self, words: str, http_status: int, envelope: Callable[..., dict[str, Any]]
    ) -> None:
        for code in ("", "something_new"):
            with pytest.raises(KlingUncertainSubmissionError):
                read_submit(answer(envelope(code, words), http_status))

    @pytest.mark.parametrize("words", LOST)
    def test_its_words_outweigh_those_of_a_refusal(self, words: str) -> None:
        for refusal in ("当前分组 default 下对于模型 kling 无可用渠道", "系统维护中"):
            assert is_definite_refusal(answer(openai("", refusal), 503))
            assert not is_definite_refusal(answer(openai("", f"{refusal}: {words}"), 503))

    @pytest.mark.parametrize("words", ["连接被重置", "请求超时"])
    def test_its_words_are_found_behind_escapes(self, words: str) -> None:
        nested = json.dumps({"error": {"message": words}})
        assert words not in nested
        assert not is_definite_refusal(answer(openai("", nested), 400))

    @pytest.mark.parametrize("code", sorted(LOST_UPSTREAM))
    @pytest.mark.parametrize("http_status", [200, 400, 429, 500])
    def test_its_codes_are_uncertain(self, code: str, http_status: int) -> None:
        for body in (
            openai(code.upper(), "no"),
            flat(code, "no"),
            {"error": {"message": "no", "type": code}},
            openai("", json.dumps({"code": code, "message": "no"})),
            openai(code, upstream(1303)),
        ):
            with pytest.raises(KlingUncertainSubmissionError):
                read_submit(answer(body, http_status))

    @pytest.mark.parametrize("code", ["ECONNRESET", "UPSTREAM_TIMEOUT", "connection_reset", "gateway-timeout"])
    def test_a_code_may_be_made_of_these_words(self, code: str) -> None:
        assert not is_definite_refusal(answer(openai(code, "no"), 400))

    @pytest.mark.parametrize(
        ("code", "words", "http_status"),
        [
            ("", "当前分组上游负载已饱和，请稍后再试", 429),
            ("do_response_failed", "当前分组上游负载已饱和，请稍后再试", 429),
            ("fail_to_fetch_task", "请求上游地址失败", 400),
            ("", "json: cannot unmarshal string into Go struct field Request.duration of type int", 400),
            ("", "upstream error: the prompt is too long", 400),
            ("", "the upstream provider refused the prompt", 400),
            ("", "request body is empty", 400),
            ("", "Invalid image: not reachable by http", 400),
            ("", "invalid response_format", 400),
            ("", "unsupported stream options", 400),
            ("", "无效的令牌", 401),
            ("", "请求参数错误，图片链接无效", 400),
            ("", "创建任务失败：提示词过长", 400),
            ("", "您已达到并发请求限制：最多同时进行 5 个请求，请等待已有请求完成", 429),
            ("", "model is overloaded", 429),
        ],
    )
    def test_an_ordinary_4xx_is_still_a_refusal(self, code: str, words: str, http_status: int) -> None:
        assert is_definite_refusal(answer(openai(code, words), http_status))
        assert is_definite_refusal(answer(flat(code, words), http_status))

    def test_a_page_with_a_script_is_no_lost_upstream(self) -> None:
        assert is_definite_refusal(
            answer(b"<html><script>setTimeout(f, 1)</script>Blocked: timed out</html>", 403)
        )


class TestA5xx:
    """It is uncertain, unless the gateway raises its code before it sends anything on."""

    @pytest.mark.parametrize("http_status", [500, 501, 502, 503, 504, 524, 529])
    @pytest.mark.parametrize("code", sorted(BEFORE_SENDING))
    def test_a_code_from_before_sending_is_a_refusal(self, code: str, http_status: int) -> None:
        for body in (openai(code), openai(code.upper()), flat(code), {"error": {"message": "no", "type": code}}):
            assert is_definite_refusal(answer(body, http_status))
            with pytest.raises(KlingError) as caught:
                read_submit(answer(body, http_status))
            assert type(caught.value) is not KlingUncertainSubmissionError

    def test_each_of_them_names_the_place_where_it_was_read(self) -> None:
        assert all("/" in source for source in BEFORE_SENDING.values())

    @pytest.mark.parametrize(
        "code",
        ["model_not_found", "system_cpu_overloaded", "token_concurrency_unavailable", "gen_relay_info_failed"],
    )
    def test_it_may_be_sent_again(self, code: str) -> None:
        with pytest.raises(KlingServerError) as caught:
            read_submit(answer(openai(code), 503))
        assert caught.value.retryable

    @pytest.mark.parametrize(
        "code",
        [
            "get_channel_failed",  # on a further attempt, after one that was sent
            "service_unavailable",
            "build_request_failed",
            "convert_request_failed",
            "channel:no_available_key",
            "provider_not_found",
            "invalid_request",  # with a 5xx also from reading the upstream's response
            "update_data_error",
            "fail_to_fetch_task",
            "something_new",
        ],
    )
    def test_any_other_code_is_uncertain_even_with_words_of_a_refusal(self, code: str) -> None:
        for words in ("no", "无可用渠道", "系统维护中", "[1303] 并发超限", f"model_not_found {code}"):
            for body in (openai(code, words), flat(code, words)):
                with pytest.raises(KlingUncertainSubmissionError):
                    read_submit(answer(body, 503))

    @pytest.mark.parametrize(
        "words",
        [
            "当前分组 default 下对于模型 kling-v3 无可用渠道 (request id: 2025)",
            "分组 default 下模型 kling-v3 无可用渠道（distributor）",
            "No available channel for model kling-v3 under group default (distributor) (request id: 2026)",
            "No available channels for model kling-v3 in group default (request id: 2026)",
            "系统维护中，请稍后再试",
            "The service is under maintenance",
            "rate_limit_check_failed (request id: 2026)",
        ],
    )
    def test_without_a_code_words_count(self, words: str) -> None:
        for body in (
            {"error": {"message": words, "type": "one_api_error"}},
            {"error": {"message": words, "type": "new_api_error", "code": ""}},
            {"error": {"message": words, "type": "dmx_api_error", "code": None}},
            {"error": {"message": words, "code": 503}},
            {"error": words},
            {"code": 503, "message": words, "data": None},
            {"success": False, "message": words, "data": {"title": "-", "end_at": 0}},
        ):
            with pytest.raises(KlingServerError):
                read_submit(answer(body, 503))

    @pytest.mark.parametrize(
        "body",
        [
            openai("", "no"),
            openai("", "当前分组上游负载已饱和，请稍后再试"),
            openai("", "无可用渠道（retry）"),
            {"error": {"message": "无可用渠道", "type": "upstream_error"}},
            {"error": {"message": "系统维护中", "type": "system_error"}},
            openai("", json.dumps({"code": "something_new", "message": "系统维护中"})),
            openai("", "[1303] 并发超限"),
            {"error": {"message": "1303"}},
        ],
        ids=str,
    )
    def test_other_words_do_not(self, body: Any) -> None:
        with pytest.raises(KlingUncertainSubmissionError):
            read_submit(answer(body, 503))

    @given(
        status=st.integers(500, 599),
        code=st.none()
        | st.sampled_from(["", 0, "something_new", "get_channel_failed", "5000"])
        | st.text(max_size=20),
        type_=st.none() | st.sampled_from(["", "new_api_error", "upstream_error"]) | st.text(max_size=20),
        message=st.sampled_from([*LOST, "no", "overloaded", "[1303]", "当前分组上游负载已饱和"]) | st.text(),
        more=st.dictionaries(st.sampled_from(["id", "request_id", "data", "task_id"]), st.text() | st.integers()),
        is_flat=st.booleans(),
    )
    def test_an_error_whose_names_are_not_listed_is_uncertain_whatever_it_says(
        self, *, status: int, code: Any, type_: Any, message: str, more: dict[str, Any], is_flat: bool
    ) -> None:
        error = {"code": code, "type": type_, "message": message}
        names = {str(name).strip().lower() for name in (code, type_)}
        listed = names & (BEFORE_SENDING.keys() | {str(code) for code in range(1000, 1305)})
        given_answer = answer({**more, **(error if is_flat else {"error": error})}, status)
        if not listed:
            with pytest.raises(KlingUncertainSubmissionError):
                read_submit(given_answer)


class TestIdsBesideAnError:
    @pytest.mark.parametrize(
        "more", [{"id": "x"}, {"request_id": "x"}, {"data": "x"}, {"data": {"id": "x"}}, {"task_id": ""}], ids=str
    )
    @pytest.mark.parametrize("envelope", [openai, flat])
    def test_one_that_may_be_anything_does_not_count(
        self, more: dict[str, Any], envelope: Callable[..., dict[str, Any]]
    ) -> None:
        for status, code in ((429, ""), (400, "invalid_request"), (503, "model_not_found")):
            body = {**envelope(code or "something_new", "no"), **more} if status == 429 else envelope(code) | more
            assert is_definite_refusal(answer(body, status))
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(envelope("something_new") | more, 500))
        assert caught.value.kling_task_id is None

    @pytest.mark.parametrize("http_status", [200, 400, 429, 500, 503])
    @pytest.mark.parametrize("code", ["model_not_found", "insert_task_failed", 1303])
    def test_a_task_id_is_uncertain_and_offered(self, http_status: int, code: Any) -> None:
        for body in (
            openai(code) | {"task_id": "task_9"},
            openai(code) | {"data": {"task_id": "task_9"}},
            flat(code) | {"task_id": "task_9"},
            flat(code) | {"data": {"task_id": "task_9"}},
            {"error": {"message": "no", "code": code, "task_id": "task_9"}},
        ):
            with pytest.raises(KlingUncertainSubmissionError, match="task_9") as caught:
                read_submit(answer(body, http_status), refusal_codes=[str(code)])
            assert caught.value.kling_task_id == "task_9"
            assert "refusal_codes" not in str(caught.value)

    @pytest.mark.parametrize("http_status", [202, 400, 500])
    def test_a_task_id_is_found_wherever_it_stands(self, http_status: int) -> None:
        accepted = {"code": 0, "message": "SUCCEED", "data": {"task_id": "task_9"}}
        for body in (
            flat("fail_to_fetch_task", json.dumps(accepted)),
            openai("fail_to_fetch_task", json.dumps(accepted)),
            openai("") | {"data": [{"task_id": "task_9"}]},
            openai("") | {"metadata": {"task": {"task_id": "task_9"}}},
        ):
            with pytest.raises(KlingUncertainSubmissionError) as caught:
                read_submit(answer(body, http_status))
            assert caught.value.kling_task_id == "task_9"

    @pytest.mark.alone
    def test_a_hostile_response_does_not_make_the_search_long(self) -> None:
        started = time.process_time()
        for body in ([["{" * 8000] * 4] * 4, [{"message": "{" * 8000}] * 16):
            is_definite_refusal(answer(body, 400))
        assert time.process_time() - started < allowed_seconds(0.5)

    @pytest.mark.parametrize("http_status", [302, 400, 500])
    @pytest.mark.parametrize("body", [{"id": "task_9", "status": "queued"}, {"data": "task_9"}], ids=str)
    def test_without_an_error_object_any_id_is_offered(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(body, http_status))
        assert caught.value.kling_task_id == "task_9"


class TestTheConnectionsRefusalCodes:
    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            (openai("insert_task_failed"), 500),
            (flat("Insert_Task_Failed", "socket hang up"), 502),
            ({"error": {"message": "no", "type": "INSERT_TASK_FAILED"}}, 500),
            (openai("insert_task_failed"), 408),
            (openai("insert_task_failed"), 400),
            (flat("insert_task_failed"), 200),
            (flat("insert_task_failed") | {"id": "x"}, 200),
        ],
    )
    def test_they_refuse_whatever_the_status(self, body: Any, http_status: int) -> None:
        unclear = answer(body, http_status)
        with pytest.raises(KlingUncertainSubmissionError):
            read_submit(unclear)
        assert is_definite_refusal(unclear, ["insert_task_failed"])
        with pytest.raises(KlingError) as caught:
            read_submit(unclear, refusal_codes=(" insert_task_FAILED ",))
        assert type(caught.value) is not KlingUncertainSubmissionError

    def test_a_number_is_one(self) -> None:
        assert is_definite_refusal(answer(flat(7001), 500), ("7001",))

    @pytest.mark.parametrize("type_", ["new_api_error", "upstream_error", "server_error"])
    def test_a_type_that_each_error_carries_is_none(self, type_: str) -> None:
        body = {"error": {"message": "socket hang up", "code": "", "type": type_}}
        assert not is_definite_refusal(answer(body, 500), (type_,))

    def test_they_do_not_touch_an_accepted_job(self) -> None:
        body = {"id": "task_1", "type": "video", "code": "success"}
        assert read_submit(answer(body), refusal_codes=("video", "success")).kling_task_id == "task_1"

    @pytest.mark.parametrize(
        ("body", "http_status", "entry"),
        [
            (openai("insert_task_failed"), 500, "insert_task_failed"),
            (flat("Something-New"), 503, "Something-New"),
            (flat(7001), 500, "7001"),
            ({"error": {"message": "no", "type": "server_busy"}}, 500, "server_busy"),
            ({"error": {"message": "no", "type": "server_busy", "code": 0}}, 500, "server_busy"),
            (openai('a"b'), 500, 'a\\"b'),
            (openai("do_request_failed"), 400, "do_request_failed"),
            (openai("something_new"), 200, "something_new"),
        ],
    )
    def test_the_error_ends_with_the_entry_to_add(self, body: Any, http_status: int, entry: str) -> None:
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(body, http_status))
        ending = (
            " If the vendor confirms that such a submit is not billed, add to Refusal codes (extra.refusal_codes) "
            f'of the Airflow connection: ["{entry}"]'
        )
        assert str(caught.value).endswith(ending)
        [code] = json.loads(str(caught.value).rpartition("connection: ")[2])
        assert is_definite_refusal(answer(body, http_status), [code])

    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            (openai("", "socket hang up"), 500),
            ({"error": {"message": "socket hang up", "type": "upstream_error"}}, 500),
            ({"error": {"message": "socket hang up", "code": 500}}, 500),
            (flat(5000), 500),
            (openai("fail_to_fetch_task", upstream(5001)), 503),
            (b"<html>502</html>", 502),
            (b"", 500),
            ({"status": "queued", "type": "video"}, 200),
        ],
    )
    def test_an_error_without_a_name_of_its_own_says_nothing_of_it(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(body, http_status))
        assert "refusal_codes" not in str(caught.value)


class TestStatusRefused:
    def test_an_error_with_http_200_is_an_error_by_name(self) -> None:
        with pytest.raises(KlingNotFoundError, match="task_1"):
            read_status(answer(flat("task_not_exist")), "task_1")

    def test_an_official_code_with_http_200_is_an_error_by_name(self) -> None:
        with pytest.raises(KlingAuthenticationError):
            read_status(answer(flat(1002)), "task_1")

    def test_a_status_outweighs_an_error_beside_it(self) -> None:
        assert read_status(answer({"status": "failed", **openai("", "no")}), "task_1").status == "failed"

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b"5", b'"text"', b"null", b"{", b"\xff", b"[" * 100_000]
    )
    def test_what_is_no_json_object_is_server_trouble(self, body: bytes) -> None:
        with pytest.raises(KlingServerError, match="not a JSON object"):
            read_status(answer(body), "task_1")

    def test_a_redirect_is_explained(self) -> None:
        with pytest.raises(KlingServerError, match="It redirects to https://new.example.com/v1"):
            read_status(answer(b"", 301, location="https://new.example.com/v1"), "task_1")

    def test_a_redirect_to_nowhere_is_explained(self) -> None:
        with pytest.raises(KlingServerError, match="It redirects to nowhere"):
            read_status(answer(b"", 307), "task_1")


class TestWhatIsSaidOfMoney:
    def test_a_refused_submit_bought_nothing(self) -> None:
        with pytest.raises(KlingValidationError, match="Nothing was submitted or billed"):
            read_submit(answer(openai("invalid_request"), 400))

    def test_a_refused_status_check_says_nothing_of_the_kind(self) -> None:
        with pytest.raises(KlingValidationError) as caught:
            read_status(answer(openai("invalid_request"), 400), "task_1")
        assert "Nothing was submitted" not in str(caught.value)

    def test_a_404_page_of_a_proxy_is_no_missing_task(self) -> None:
        with pytest.raises(KlingServerError):
            read_status(answer(b"<html>404</html>", 404), "task_1")

    def test_trouble_of_a_moderation_service_is_not_refused_content(self) -> None:
        with pytest.raises(KlingServerError):
            read_status(answer(openai("", "moderation service unavailable"), 503), "task_1")


class TestRetryAfter:
    NOW = 1_700_000_000.0

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            (None, None),
            ("", None),
            ("7", 7.0),
            ("0", 0.0),
            ("1.5", 1.5),
            ("-3", 0.0),
            ("999999", MAX_RETRY_AFTER),
            ("soon", None),
            ("nan", None),
            ("9" * 500, None),
            ("Mon, 99 Foo 2023", None),
        ],
    )
    def test_as_seconds(self, header: str | None, seconds: float | None) -> None:
        assert retry_after_seconds(header, now=self.NOW) == seconds

    @pytest.mark.parametrize(("ahead", "seconds"), [(90, 90.0), (-90, 0.0), (10**7, MAX_RETRY_AFTER)])
    def test_as_a_date(self, ahead: int, seconds: float) -> None:
        date = datetime.fromtimestamp(self.NOW, tz=UTC) + timedelta(seconds=ahead)
        assert retry_after_seconds(format_datetime(date, usegmt=True), now=self.NOW) == seconds

    @given(st.text())
    def test_no_header_breaks_it(self, header: str) -> None:
        seconds = retry_after_seconds(header, now=self.NOW)
        assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER


class TestProbe:
    @pytest.mark.parametrize(
        "body",
        [
            openai("task_not_exist"),
            flat("task_not_exist"),
            openai("", "task_not_exist"),
            openai("", upstream(1203)),
        ],
    )
    @pytest.mark.parametrize("http_status", [400, 404])
    def test_no_such_task_in_the_apis_own_words_means_connected(self, body: Any, http_status: int) -> None:
        works, words = describe_probe(answer(body, http_status))
        assert works, words

    @pytest.mark.parametrize(
        ("body", "http_status", "words"),
        [
            (openai("", "无效的令牌"), 401, "The API rejects the key"),
            (b"", 401, "The API rejects the key"),
            (openai("access_denied"), 403, "does not serve this connection"),
            (openai("insufficient_user_quota"), 403, "does not serve this connection"),
            (openai("", "overloaded"), 500, "does not serve this connection"),
            (b"<html>Not Found</html>", 404, "not as this API (HTTP 404)"),
            ({"detail": "Not Found"}, 404, "not as this API (HTTP 404)"),
            (b"<html>Welcome</html>", 200, "not as this API"),
            ({"hello": "world"}, 200, "not as this API"),
            (b"<html>Bad Gateway</html>", 502, "not as this API"),
            (b"", 301, "not as this API (HTTP 301)"),
        ],
    )
    def test_everything_else_says_what_is_wrong(self, body: Any, http_status: int, words: str) -> None:
        works, said = describe_probe(answer(body, http_status))
        assert not works
        assert words in said


class TestPresence:
    """Is the API there to submit to? Asked with a status request for a task that cannot exist."""

    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            (openai("task_not_exist"), 400),
            (flat("task_not_exist"), 404),
            (openai("", upstream(1203)), 404),
            (openai("", "no such task"), 404),
            (openai("access_denied"), 403),
            (openai("insufficient_user_quota"), 402),
            (openai("", "too many"), 429),
            (openai("", "overloaded"), 500),
            (flat("get_task_failed", "database is locked"), 503),
            ({"error": "task not found"}, 404),
            (b"task_not_exist", 404),
            ({"id": "airflow-connection-test", "status": "unknown"}, 200),
            ({"code": "success", "data": {"status": "UNKNOWN"}}, 200),
        ],
        ids=str,
    )
    def test_an_error_of_the_api_is_enough(self, body: Any, http_status: int) -> None:
        assert read_probe(answer(body, http_status)) is None

    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            (openai("", "无效的令牌"), 401),
            (b"", 401),
            (b"<html>401</html>", 401),
            (openai("", upstream(1002)), 400),
            (flat(1004), 200),
        ],
    )
    def test_a_refused_key_fails_at_once(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingAuthenticationError):
            read_probe(answer(body, http_status))

    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            (b"<html>Welcome</html>", 200),
            (b"\xef\xbb\xbf\n <!DOCTYPE html><title>404</title>", 404),
            (b"<html>Forbidden</html>", 403),
            (b"<?xml version='1.0'?><Error/>", 404),
            (b"<html>Bad Gateway</html>", 502),
            (b"", 301),
            (b"", 307),
            (openai("", "moved"), 308),
            (b"", 500),
            (b"no healthy upstream", 503),
            (b'{"cut', 502),
            (openai("", "Invalid URL (GET /v1/videos/airflow-connection-test)"), 404),
            (b"404 page not found\n", 404),
            ({"message": "Cannot GET /v1/videos/x", "error": "Not Found", "statusCode": 404}, 404),
            ({"message": "Route GET:/v1/videos/x not found", "error": "Not Found", "statusCode": 404}, 404),
            ({"message": "no Route matched with those values"}, 404),
            ({"error_msg": "404 Route Not Found"}, 404),
            ({"message": "The route v1/videos/x could not be found."}, 404),
            ({"status": "error", "code": 404, "message": "Application not found"}, 404),
        ],
        ids=str,
    )
    def test_what_shows_for_sure_that_it_is_not_there_holds_the_submit_back(
        self, body: Any, http_status: int
    ) -> None:
        with pytest.raises(KlingUnavailableError, match="Nothing was submitted") as caught:
            read_probe(answer(body, http_status, location="https://elsewhere.example.com"))
        assert caught.value.retryable
        assert caught.value.http_status == http_status

    @pytest.mark.parametrize(
        ("body", "http_status"),
        [
            (b"", 404),
            (b"", 200),
            (b"", 403),
            (b"Not Found", 404),
            ({"detail": "Not Found"}, 404),
            ({"hello": "world"}, 200),
            ({"hello": "world"}, 500),
            ([], 200),
            (b"Invalid URL (GET /v1/videos/x)", 400),
        ],
        ids=str,
    )
    def test_what_is_merely_odd_is_logged_and_no_more(self, body: Any, http_status: int) -> None:
        odd = read_probe(answer(body, http_status))
        assert odd is not None
        assert f"HTTP {http_status}" in odd
        assert "\n" not in odd

    def test_a_wrong_path_is_not_a_connection_that_works(self) -> None:
        body = openai("", "Invalid URL (GET /api/v1/videos/airflow-connection-test)")
        works, words = describe_probe(answer(body, 404))
        assert not works
        assert "not as this API (HTTP 404)" in words


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(
    [
        "id",
        "task_id",
        "status",
        "task_status",
        "progress",
        "video_url",
        "url",
        "metadata",
        "data",
        "task_result",
        "videos",
        "error",
        "message",
        "code",
        "fail_reason",
        "created_at",
        "completed_at",
        "model",
        "output_url",
        "result_url",
    ]
)
WORDS = st.sampled_from(
    [
        "completed",
        "FAILED",
        "success",
        "1303",
        1303,
        "[1301]",
        "task_not_exist",
        '{"code": 1102}',
        "{" * 50,
        "\ud800",
        "\x00",
    ]
)
LIKELY = st.recursive(
    JSON | WORDS,
    lambda inner: st.dictionaries(NAMES, inner, max_size=6) | st.lists(inner, max_size=2),
    max_leaves=12,
)
BODIES = (
    st.binary(max_size=200)
    | st.builds(lambda value: json.dumps(value).encode(), LIKELY)
    | st.builds(lambda value, cut: json.dumps(value).encode()[:cut], LIKELY, st.integers(0, 60))
)
ANSWERS = st.builds(
    Response,
    http_status=st.sampled_from(
        [200, 201, 204, 301, 400, 401, 403, 404, 408, 418, 429, 500, 502, 503, 504, 599, 999]
    ),
    body=BODIES,
    retry_after=st.none() | st.floats(0, 3600),
    location=st.none() | st.text(),
)


def _fits_in_a_log_and_a_database(value: dict[str, Any]) -> bool:
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # half a letter would not do
    return not any("\x00" in text for text in value.values() if isinstance(text, str))


@given(ANSWERS)
@example(Response(200, b'{"status": "completed", "video_url": "\\ud800", "model": "\\ud800", "id": "\\ud800"}'))
@example(Response(200, b'{"status": "fa\\u0000iled", "error": "{\\"message\\": \\"\\\\ud800\\\\u0000\\"}"}'))
@example(Response(400, b'{"error": {"message": "\\ud800\\u0000", "code": "\\ud800\\u0000"}}'))
@example(Response(301, b"", location="\udcff"))
def test_no_answer_at_all_breaks_anything(given_answer: Response) -> None:
    for read in (read_submit, lambda it: read_status(it, "task_1")):
        try:
            job = read(given_answer)
        except KlingError as error:
            assert _fits_in_a_log_and_a_database(error.to_dict())
            assert type(KlingError.from_dict(error.to_dict())) is type(error)
            assert str(error)
        else:
            assert _fits_in_a_log_and_a_database(asdict(job))
            assert isinstance(generation_error(job), KlingError)
            assert job.status in ("queued", "running", "completed", "failed")
    works, words = describe_probe(given_answer)
    assert isinstance(works, bool)
    assert words
    try:
        odd = read_probe(given_answer)
    except (KlingAuthenticationError, KlingUnavailableError) as error:
        assert _fits_in_a_log_and_a_database(error.to_dict())
        assert not works
    else:
        assert odd is None or odd


@pytest.mark.alone
@pytest.mark.parametrize(
    "message",
    [
        "{" * 900_000,
        '{"a":' * 200_000,
        '{"message":"' * 70_000,
        "[1303" * 180_000,
        "code" * 200_000,
        "code:" * 150_000,
        "<script" * 130_000,
        "<style>" * 130_000,
        " " * 1_000_000,
        '{"a":1}' * 130_000,
        "read" * 250_000,
        "connection a " * 80_000,
        "上游" * 300_000,
    ],
    ids=lambda message: str(message)[:12],
)
def test_a_hostile_message_does_not_buy_itself_quadratic_work(message: str) -> None:
    def once(message: str) -> float:
        started = time.process_time()
        error_of(answer(openai("", message), 500), "It failed")
        error_of(answer(message.encode(), 500), "It failed")
        generation_error(status_of(status="failed", error={"message": message}))
        is_definite_refusal(answer(openai("", message), 500))
        is_definite_refusal(answer(openai("", message), 400))
        is_definite_refusal(answer(message.encode(), 400))
        return time.process_time() - started

    def seconds(message: str) -> float:
        """The best of three: a collection of garbage takes as long as the work that is looked for."""
        return min(once(message) for _ in range(3))

    # Four times the text: four times the work, and sixteen times where it is quadratic.
    quarter = message[: len(message) // 4]
    assert any(seconds(message) < 8 * seconds(quarter) for _ in range(3))


@pytest.mark.parametrize(
    "body",
    [
        {"code": "fail", "message": "no", "id": "req-1"},
        {"code": "error", "message": "no", "data": {"id": "req-1"}},
        {"code": 0, "data": {"error": {"message": "no"}, "id": "req-1"}},
        {"success": False, "id": "req-1"},
    ],
    ids=str,
)
def test_an_id_beside_an_error_with_200_is_no_job(body: dict[str, Any]) -> None:
    with pytest.raises(KlingUncertainSubmissionError) as raised:
        read_submit(Response(http_status=200, body=json.dumps(body).encode()))
    assert raised.value.kling_task_id is None


def test_a_full_account_is_one_in_any_words() -> None:
    body = {"code": 1302, "msg": "too fast", "id": "req-1"}
    with pytest.raises(KlingRateLimitError):
        read_submit(Response(http_status=429, body=json.dumps(body).encode()))


def test_an_interim_response_is_not_called_accepted() -> None:
    with pytest.raises(KlingUncertainSubmissionError, match="an interim one"):
        read_submit(Response(http_status=103, body=b""))
