# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.wire.answer import (
    COMPLETED,
    FAILED,
    MAX_RETRY_AFTER,
    RUNNING,
    WAITING,
    Answer,
    VideoJob,
    error_of,
    is_refusal,
    official_code,
    read_probe,
    read_status,
    read_submit,
    retry_after_seconds,
    status_path,
)

URL = "https://cdn.example.com/output.mp4"


def answer(body: Any, status: int = 200, **facts: Any) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Answer(status, raw, **facts)


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
            task_id="task_xxx",
            status="completed",
            status_word="completed",
            progress=100,
            video_url="https://example.com/output.mp4",
            model="kling-v3-pro-audio",
        )

    def test_a_job_becomes_a_plain_dict(self) -> None:
        job = status_of(video_url=URL, progress=100, model="m")
        assert job.as_dict() == json.loads(json.dumps(job.as_dict()))
        assert job.as_dict()["video_url"] == URL


class TestStatusWords:
    @pytest.mark.parametrize(
        ("words", "status"),
        [(WAITING, "queued"), (RUNNING, "running"), (COMPLETED, "completed"), (FAILED, "failed")],
    )
    def test_every_known_word_in_any_case(self, words: frozenset[str], status: str) -> None:
        for word in spellings(words):
            job = status_of(status=word)
            assert (job.status, job.status_word, job.is_known_word) == (status, word, True)

    def test_the_words_that_servers_of_this_kind_were_seen_to_use(self) -> None:
        seen = "queued pending submitted not_start preparing created starting unknown"
        assert set(seen.split()) <= WAITING
        assert {"in_progress", "processing", "running", "generating"} <= RUNNING
        assert {"completed", "complete", "success", "succeeded", "succeed", "finished"} <= COMPLETED
        assert {"failed", "failure", "fail", "error", "cancelled", "canceled", "expired"} <= FAILED

    @pytest.mark.parametrize("word", ["dreaming", "SUCCESSFUL?", "done!", "排队中", "x" * 10_000])
    def test_a_word_that_nobody_knows_means_still_running(self, word: str) -> None:
        job = status_of(status=word, progress=100, video_url=URL)
        assert job.status == "running"
        assert not job.is_known_word
        assert len(job.status_word) <= 80

    def test_spaces_around_a_word_do_not_hide_it(self) -> None:
        assert status_of(status=" completed\n").status == "completed"

    def test_the_official_platforms_field_is_read(self) -> None:
        body = {"code": 0, "message": "SUCCEED", "data": {"task_id": "1", "task_status": "succeed"}}
        assert read_status(answer(body), "1").status == "completed"

    @pytest.mark.parametrize("status", [None, 5, [], {}, True, ""])
    def test_no_status_at_all_is_an_error_that_waiting_may_cure(self, status: Any) -> None:
        with pytest.raises(KlingServerError, match="holds no status") as caught:
            status_of(status=status)
        assert caught.value.task_id == "task_1"


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
        assert read_submit(answer(body, http_status)).task_id == task_id

    def test_a_submit_without_a_status_is_queued(self) -> None:
        assert read_submit(answer({"id": "a"})).status == "queued"

    def test_a_status_answer_keeps_the_id_it_was_asked_by(self) -> None:
        assert status_of(id="upstream_1", task_id="upstream_2").task_id == "task_1"

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
        failure = status_of(status="failed", progress=100, **place).failure()
        assert type(failure) is KlingGenerationFailedError
        assert failure.server_message == "out of memory"
        assert failure.task_id == "task_1"

    @pytest.mark.parametrize(
        "nothing", [{}, {"error": None}, {"error": {}}, {"fail_reason": "  "}, {"error": [1]}]
    )
    def test_no_reason_is_said_to_be_none(self, nothing: dict[str, Any]) -> None:
        failure = status_of(status="FAILURE", **nothing).failure()
        assert str(failure).startswith("Kling task task_1 ended as FAILURE, and the server gives no reason.")

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
    def test_refused_content_is_told_apart_since_it_would_be_refused_again(self, reason: dict[str, Any]) -> None:
        failure = status_of(status="failed", **reason).failure()
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
        assert (error.http_status, error.code, error.task_id) == (http_status, code or None, "task_1")

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

    def test_a_429_that_waiting_does_not_cure_is_told_from_one_that_it_does(self) -> None:
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
        assert "0a1b" not in f"{job.as_dict()} {job.failure().to_dict()}"

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
            {"error": {"message": "warning: slow queue"}, "task_id": "task_9"},
        ],
    )
    def test_an_answer_that_tells_an_id_is_no_refusal_whatever_else_it_says(self, body: Any) -> None:
        assert read_submit(answer(body)).task_id == "task_9"
        assert not is_refusal(answer(body, 500))

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
            ({"error": {"message": "too many"}, "id": "task_9"}, 429),
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
            (openai("", "overloaded"), 500, KlingServerError),
            (openai("fail_to_fetch_task", upstream(5001)), 503, KlingServerError),
            (openai("", upstream(5001, "timed out")), 503, KlingServerError),
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
        ],
    )
    def test_a_refusal_is_sure_that_no_job_was_made(
        self, body: Any, http_status: int, kind: type[KlingError]
    ) -> None:
        refused = answer(body, http_status)
        assert is_refusal(refused)
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
        assert not is_refusal(unclear)
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(unclear)
        assert not caught.value.retryable
        assert caught.value.http_status == http_status

    def test_an_id_outweighs_an_error_beside_it(self) -> None:
        both = {"id": "task_1", "status": "failed", **openai("", "rejected")}
        assert read_submit(answer(both)).task_id == "task_1"

    @pytest.mark.parametrize("http_status", [500, 502])
    def test_an_id_in_a_server_error_is_not_taken_for_a_refusal(self, http_status: int) -> None:
        with pytest.raises(KlingUncertainSubmissionError):
            read_submit(answer({"id": "task_1", **openai("", "half done")}, http_status))

    def test_an_unknown_fate_is_told_in_the_servers_own_words(self) -> None:
        body = openai("do_request_failed", json.dumps({"error": {"message": "上游超时"}}))
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(body, 500))
        assert (caught.value.code, caught.value.server_message) == ("do_request_failed", "上游超时")

    def test_a_submit_that_finds_nothing_is_not_told_to_check_a_task_id(self) -> None:
        with pytest.raises(KlingNotFoundError) as caught:
            read_submit(answer(b"", 404))
        assert "task id" not in str(caught.value)


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

    def test_a_page_of_somebody_in_front_does_not_know_which_tasks_there_are(self) -> None:
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
        works, words = read_probe(answer(body, http_status))
        assert works, words

    @pytest.mark.parametrize(
        ("body", "http_status", "words"),
        [
            (openai("", "无效的令牌"), 401, "The API refuses the key"),
            (b"", 401, "The API refuses the key"),
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
        works, said = read_probe(answer(body, http_status))
        assert not works
        assert words in said


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
    Answer,
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
@example(Answer(200, b'{"status": "completed", "video_url": "\\ud800", "model": "\\ud800", "id": "\\ud800"}'))
@example(Answer(200, b'{"status": "fa\\u0000iled", "error": "{\\"message\\": \\"\\\\ud800\\\\u0000\\"}"}'))
@example(Answer(400, b'{"error": {"message": "\\ud800\\u0000", "code": "\\ud800\\u0000"}}'))
@example(Answer(301, b"", location="\udcff"))
def test_no_answer_at_all_breaks_anything(given_answer: Answer) -> None:
    for read in (read_submit, lambda it: read_status(it, "task_1")):
        try:
            job = read(given_answer)
        except KlingError as error:
            assert _fits_in_a_log_and_a_database(error.to_dict())
            assert type(KlingError.from_dict(error.to_dict())) is type(error)
            assert str(error)
        else:
            assert _fits_in_a_log_and_a_database(job.as_dict())
            assert isinstance(job.failure(), KlingError)
            assert job.status in ("queued", "running", "completed", "failed")
    works, words = read_probe(given_answer)
    assert isinstance(works, bool)
    assert words


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
    ],
    ids=lambda message: str(message)[:12],
)
def test_a_hostile_message_does_not_buy_itself_quadratic_work(message: str) -> None:
    def seconds() -> float:
        started = time.process_time()
        error_of(answer(openai("", message), 500), "It failed")
        error_of(answer(message.encode(), 500), "It failed")
        status_of(status="failed", error={"message": message}).failure()
        return time.process_time() - started

    # The best of three: a collection of garbage takes as long as the work that is looked for.
    assert min(seconds() for _ in range(3)) < 0.2
