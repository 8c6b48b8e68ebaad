# SPDX-License-Identifier: Apache-2.0
"""
Responses to a submit that sound like a refusal, and may stand beside a job that was made and is billed.

What is taken for a refusal is sent again, by itself or by the next attempt. So each kind of such a response is
here beside real refusals that look like it: an uncertain submit stops a task until a person has looked.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_kling.api.empty_account import kind_of_words
from airflow_provider_kling.api.reading.errors import error_names, is_missing_route
from airflow_provider_kling.api.reading.probe import describe_probe
from airflow_provider_kling.api.reading.refusals import LOST_WORDS, MADE_WORDS
from airflow_provider_kling.api.reading.submit import is_definite_refusal, read_submit
from airflow_provider_kling.api.response import MAX_SUBMIT_CONTAINERS, Response
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)


def answer(body: Any, http_status: int = 200) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Response(http_status, content)


def uncertain(body: Any, http_status: int = 200) -> KlingUncertainSubmissionError:
    """Return the error of a submit of unknown fate, which this response has to be."""
    response = answer(body, http_status)
    assert not is_definite_refusal(response)
    with pytest.raises(KlingUncertainSubmissionError) as raised:
        read_submit(response)
    return raised.value


def refused(body: Any, http_status: int) -> type[KlingError]:
    response = answer(body, http_status)
    assert is_definite_refusal(response)
    with pytest.raises(KlingError) as raised:
        read_submit(response)
    return type(raised.value)


class TestCodesOfARefusalBesideALostUpstream:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (1001, "upstream request timeout"),
            (1000, "Internal error"),
            (1302, "context deadline exceeded"),
            (1303, "deadline exceeded while awaiting response"),
            (1200, "请求超时"),
            (1102, "unexpected EOF"),
            (1301, "upstream returned 502"),
            ("access_denied", "upstream timeout"),
            ("model_not_found", "read: connection reset by peer"),
            ("sensitive_words_detected", "Bad Gateway"),
            ("insufficient_user_quota", "no answer from upstream"),
        ],
    )
    @pytest.mark.parametrize("http_status", [200, 201, 500, 502, 503, 504, 524])
    def test_the_words_count_with_2xx_and_5xx(self, code: Any, words: str, http_status: int) -> None:
        uncertain({"code": code, "message": words}, http_status)
        uncertain({"error": {"code": code, "message": words}}, http_status)
        if isinstance(code, int):
            uncertain({"error": {"message": json.dumps({"code": code, "message": words})}}, http_status)

    @pytest.mark.parametrize(
        ("code", "words", "kind"),
        [
            (1001, "Authorization is invalid", KlingAuthenticationError),
            (1302, "request frequency is too high", KlingRateLimitError),
            (1303, "parallel task over resource pack limit", KlingRateLimitError),
            (1301, "内容不符合社区规范", KlingContentRefusedError),
            ("access_denied", "this address may not use the key", KlingPermissionError),
            ("model_not_found", "no such model", KlingServerError),
        ],
    )
    @pytest.mark.parametrize("http_status", [500, 503])
    def test_other_words_leave_the_code_a_refusal(
        self, code: Any, words: str, kind: type[KlingError], http_status: int
    ) -> None:
        assert refused({"code": code, "message": words}, http_status) is kind

    @pytest.mark.parametrize("http_status", [200, 400, 500])
    def test_the_platform_itself_may_speak_of_the_timeout_of_an_image(self, http_status: int) -> None:
        told = json.dumps({"code": 1201, "message": "image download timed out", "request_id": "r"})
        assert refused({"error": {"message": told}}, http_status) is KlingValidationError

    @pytest.mark.parametrize("more", [{"id": "t1"}, {"data": {"task_id": "t1"}}, {"data": "t1"}], ids=str)
    def test_but_names_no_job_then(self, more: dict[str, Any]) -> None:
        told = {"code": 1201, "message": "read timed out", "request_id": "r", **more}
        uncertain({"error": {"message": json.dumps(told)}}, 500)

    def test_an_expected_refusal_of_the_platform_has_to_be_of_the_request(self) -> None:
        """A rate limit is sent again by itself."""
        told = json.dumps({"code": 1302, "message": "context deadline exceeded", "request_id": "r"})
        uncertain({"error": {"message": told}}, 500)


class TestACodeOfARefusalThatMeansSuccess:
    @pytest.mark.parametrize("code", [1000, 1200, "1000", 1100])
    @pytest.mark.parametrize(
        "words",
        ["success", "ok", "OK.", "Task created", "task submitted successfully", "queued", "提交成功", "成功"],
    )
    @pytest.mark.parametrize(
        "more",
        [
            {"data": {"id": "t1", "status": "queued"}},
            {"data": {"id": "t1"}},
            {"data": {"task_id": "t1", "task_status": "submitted"}},
            {"id": "t1", "status": "queued"},
            {"task_id": "t1"},
        ],
        ids=str,
    )
    def test_with_a_word_of_success_and_an_id_it_is_a_job(
        self, code: Any, words: str, more: dict[str, Any]
    ) -> None:
        assert read_submit(answer({"code": code, "message": words, **more})).kling_task_id == "t1"

    @pytest.mark.parametrize("code", [1000, 1200, 1302, 1303, "rate_limit_exceeded"])
    @pytest.mark.parametrize("words", ["no", "slow down", "签名错误"])
    def test_with_an_id_and_other_words_it_is_uncertain(self, code: Any, words: str) -> None:
        uncertain({"code": code, "message": words, "id": "t1"})
        uncertain({"code": code, "message": words, "data": {"id": "t1"}})
        uncertain({"error": {"code": code, "message": words}, "data": {"id": "t1"}})
        assert (
            uncertain({"code": code, "message": words, "data": {"id": "t1", "status": "queued"}}).kling_task_id
            == "t1"
        )

    @pytest.mark.parametrize("words", ["success", "ok"])
    def test_a_failed_job_is_not_accepted(self, words: str) -> None:
        uncertain({"code": 1000, "message": words, "data": {"id": "t1", "status": "failed"}})

    @pytest.mark.parametrize(
        "more", [{}, {"request_id": "r1"}, {"data": None}, {"data": {}}, {"trace_id": "r"}], ids=str
    )
    def test_without_an_id_it_is_the_platforms_refusal(self, more: dict[str, Any]) -> None:
        assert refused({"code": 1001, "message": "bad key", **more}, 200) is KlingAuthenticationError
        assert refused({"code": 1303, "message": "too many", **more}, 200) is KlingRateLimitError


#: In these words servers say that the job is there, or that the same request came before.
MADE = [
    "请勿重复提交",
    "請勿重複提交",
    "请不要重复提交任务",
    "重复提交",
    "重复请求",
    "任务重复",
    "任务已提交",
    "任务已经创建",
    "任务已存在",
    "任务正在处理，请勿重试",
    "创建任务成功，但扣费失败",
    "提交成功，但保存订单失败",
    "订单已创建",
    "Duplicate request",
    "duplicate_request",
    "Duplicated submission detected",
    "This request is a duplicate",
    "Task already submitted",
    "Task already exists",
    "task is already being processed",
    "The request has already been received",
    "Your order has already been charged",
    "A task with this prompt is already being processed",
    "Same prompt already running",
    "We already received this request",
    "request is being processed, do not resubmit",
    "Please do not submit again",
    "Don't resend",
    "task created but not saved",
    "Task was created, billing failed",
    "The job has been submitted; its record failed",
    "The task has been queued",
    "queued behind other tasks",
]
#: In these, that the upstream was asked and its response lost, or could not be kept.
LOST = [
    "failed to save order",
    "Error saving the record",
    "the result could not be saved",
    "upstream returned 502",
    "upstream error: 503",
    "upstream responded with status 500",
    "Upstream HTTP 504",
    "request returned 502",
    "HTTP 503",
    "HTTP/1.1 500",
    "上游返回 502",
    "上游错误：503",
    "no answer from upstream",
    "the vendor did not respond",
    "Unexpected token < in JSON at position 0",
    "Unexpected token '<', \"<html>\" is not valid JSON",
    "Expecting value: line 1 column 1 (char 0)",
    "json.decoder.JSONDecodeError",
    "could not be completed in time",
    "did not finish within the allotted time",
    "The backend took too long",
    "upstream failure",
    "Upstream responded slowly",
    "internal error",
]
#: These refuse.
REFUSALS = [
    "Too many tasks already running",
    "You already have 5 jobs in progress",
    "Another task is being processed, please wait",
    "1 task is being processed",
    "maximum number of concurrent tasks reached",
    "Task submitted too frequently",
    "No task was created",
    "No new task has been created: the key is invalid",
    "The task could not be created",
    "a task can only be created with a prompt",
    "Duplicate element in element_list",
    "duplicate parameter: duration",
    "upstream limit: 500 requests per minute",
    "the upstream model refuses this prompt",
    "prompt exceeds 500 characters",
    "Request body is not valid JSON",
    "image must be larger than 512 px",
    "order of elements is invalid",
    "time must be a number",
    "任务未提交成功",
    "任务提交过于频繁，请稍后再试",
    "有任务正在处理中，请稍后再试",
    "没有创建成功",
    "已提交的任务过多",
    "提示词不合法",
    "请求参数错误",
]


class TestWordsOfAJobThatIsThere:
    @pytest.mark.parametrize("words", [*MADE, *LOST])
    @pytest.mark.parametrize("http_status", [400, 403, 422, 429, 500])
    def test_leave_it_open(self, words: str, http_status: int) -> None:
        for body in (
            {"error": {"message": words}},
            {"code": "new", "message": words},
            {"detail": [{"msg": words}]},
        ):
            uncertain(body, http_status)
        uncertain(words.encode(), http_status)

    @pytest.mark.parametrize("words", MADE)
    @pytest.mark.parametrize("code", [1302, 1201, "rate_limit_exceeded", "invalid_request"])
    def test_outweigh_a_code(self, words: str, code: Any) -> None:
        uncertain({"code": code, "message": words}, 429)

    @pytest.mark.parametrize("name", ["duplicate_request", "task-already-exists", "DUPLICATE_ORDER"])
    def test_count_as_a_code_or_type_too(self, name: str) -> None:
        uncertain({"error": {"code": name, "message": "no"}}, 400)
        uncertain({"error": {"type": name, "message": "no"}}, 429)

    @pytest.mark.parametrize("words", REFUSALS)
    @pytest.mark.parametrize(("http_status", "kind"), [(400, KlingValidationError), (429, KlingRateLimitError)])
    def test_words_that_look_like_them_refuse(self, words: str, http_status: int, kind: type[KlingError]) -> None:
        assert refused({"error": {"message": words}}, http_status) is kind

    def test_money_that_is_told_with_a_job_is_no_empty_account(self) -> None:
        uncertain({"code": 1, "message": "Task submitted. Credits: 0"})


class TestAJobBesideAnError:
    ERROR = {"error": {"message": "slow down"}}

    @pytest.mark.parametrize(
        "more",
        [
            {"data": {"id": "t1", "status": "queued"}},
            {"task": {"id": "t1", "status": "QUEUED"}},
            {"id": "t1", "status": "queued"},
            {"job": {"uuid": "t1", "state": "running"}},
            {"data": {"task": {"id": "t1", "task_status": "submitted"}}},
            {"data": [{"id": "t1", "status": "processing"}]},
            {"id": "t1", "status": "completed"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("http_status", [200, 400, 402, 403, 429, 500, 503])
    @pytest.mark.parametrize("code", ["", "rate_limit_exceeded", "access_denied", 1303])
    def test_an_id_with_a_status_is_offered(self, more: dict[str, Any], http_status: int, code: Any) -> None:
        body = {"error": {"message": "slow down", "code": code}, **more}
        assert uncertain(body, http_status).kling_task_id == "t1"

    @pytest.mark.parametrize(
        "body",
        [
            b'{"task_id":"t1","status":"queued"}{"error":{"message":"too many"}}',
            b'{"error":{"message":"too many"}}\n{"id":"t1","status":"queued"}',
            b'{"task_id":"t1","status":"queued", "x":',
            b'{"id":"t1","status":"queued", "x":',
            b'{"error":{"message":"slow"},"data":{"task_id":"t1"',
            b'data: {"id": "t1", "status": "queued"}',
            b"slow down (task id: t1)",
        ],
    )
    @pytest.mark.parametrize("http_status", [200, 400, 429, 500])
    def test_in_a_body_that_is_no_json_too(self, body: bytes, http_status: int) -> None:
        assert uncertain(body, http_status).kling_task_id == "t1"

    @pytest.mark.parametrize("words", ["slow down (task_id: t1)", "see task id=t1", "limit, jobId: t1"])
    def test_in_the_words_of_an_error(self, words: str) -> None:
        assert uncertain({"error": {"message": words}}, 429).kling_task_id == "t1"

    @pytest.mark.parametrize(
        "body",
        [
            {"error": {"message": "no"}, "id": "req-1"},
            {"error": {"message": "no"}, "id": "req-1", "status": "error"},
            {"error": {"message": "no"}, "request_id": "req-1", "status": "queued"},
            {"errors": [{"id": "e1", "status": "429", "title": "slow down"}]},
            {"error": {"message": "task_id: this field is not supported"}},
            b'<html><script>var x = {"task_id": "t1"}</script></html>',
            b"slow down",
        ],
        ids=str,
    )
    @pytest.mark.parametrize("http_status", [400, 429])
    def test_other_ids_do_not_count(self, body: Any, http_status: int) -> None:
        assert refused(body, http_status) in (KlingValidationError, KlingRateLimitError)


class TestAnIdInAnUncommonPlace:
    @pytest.mark.parametrize(
        ("more", "offered"),
        [
            ({"result": "14001"}, "14001"),
            ({"result": 14001}, "14001"),
            ({"name": "operations/123"}, "operations/123"),
            ({"data": ["t1"]}, "t1"),
            ({"data": [17]}, "17"),
            ({"output": "job-1"}, "job-1"),
            ({"sn": "20261126001"}, "20261126001"),
            ({"order": "o-1"}, "o-1"),
            ({"order_sn": "o-1"}, "o-1"),
            ({"orderNo": "o-1"}, "o-1"),
            ({"data": {"result": "r-1"}}, "r-1"),
            ({"result": "accepted"}, None),
            ({"data": "see the console for job 7"}, None),
            ({"output": "https://vendor.example/1.mp4"}, None),
        ],
        ids=str,
    )
    @pytest.mark.parametrize(
        "error",
        [
            {"code": 1, "message": "Credits: 0"},
            {"code": 429, "message": "too many requests"},
            {"code": 400, "message": "balance too low for the next job"},
            {"code": 1303, "message": "no"},
            {"code": "insufficient_quota", "message": "no"},
        ],
        ids=str,
    )
    def test_is_no_certain_refusal(self, error: dict[str, Any], more: dict[str, Any], offered: str | None) -> None:
        assert uncertain({**error, **more}).kling_task_id == offered

    @pytest.mark.parametrize(
        "more",
        [{}, {"data": None}, {"data": ""}, {"data": []}, {"result": {}}, {"result": False}, {"request_id": "r1"}],
        ids=str,
    )
    def test_nothing_there_is_a_refusal(self, more: dict[str, Any]) -> None:
        assert refused({"code": 429, "message": "too many requests", **more}, 200) is KlingRateLimitError
        assert refused({"code": 1, "message": "Insufficient credits", **more}, 200) is KlingBalanceError


class TestAnErrorThatSaysThereIsNone:
    @pytest.mark.parametrize(
        "error",
        [
            {"error": {"code": 0, "message": "success"}},
            {"error": {"code": "0", "message": "OK"}},
            {"error": {"code": "", "message": "none"}},
            {"error": {"code": "success", "message": "", "type": None}},
            {"error": {"code": 200, "message": "ok", "request_id": "r"}},
            {"error": {"warning": "watermark ignored"}},
            {"error": {"warnings": ["watermark ignored"], "code": None}},
            {"error": "null"},
            {"error": "none"},
            {"error": "success"},
            {"error": "  "},
            {"errors": [{}]},
            {"errors": [None]},
            {"warning": "watermark ignored"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("job", [{"id": "x77", "status": "queued"}, {"data": {"task_id": "x77"}}], ids=str)
    def test_does_not_hide_the_job(self, error: dict[str, Any], job: dict[str, Any]) -> None:
        assert read_submit(answer({**job, **error})).kling_task_id == "x77"

    @pytest.mark.parametrize(
        "error",
        [
            {"error": {"code": 0, "message": "no slot"}},
            {"error": {"code": "E1", "message": "success"}},
            {"error": "no"},
            {"error": ["failed"]},
            {"errors": [{"message": "no"}]},
            {"error": {"reason": {"text": "no"}}},
            {"error": True},
        ],
        ids=str,
    )
    def test_any_other_error_does_and_the_id_is_offered(self, error: dict[str, Any]) -> None:
        assert uncertain({"id": "x77", "status": "queued", **error}).kling_task_id == "x77"


class TestALargeResponse:
    def test_that_repeats_an_image_is_read(self) -> None:
        body = {"id": "t1", "status": "queued", "input": {"image": "A" * 140_000}}
        assert read_submit(answer(body)).kling_task_id == "t1"

    def test_a_submit_may_have_more_lists(self) -> None:
        body = json.dumps({"id": "t1", "status": "queued", "shots": [[]] * 20_000}).encode()
        assert Response(200, body).json is None
        large = Response.from_http(200, body, {}, masked=str, most_containers=MAX_SUBMIT_CONTAINERS)
        assert read_submit(large).kling_task_id == "t1"

    @pytest.mark.parametrize(
        "unit",
        [
            "task ",
            "request already ",
            "the this id same prompt been ",
            "duplicate ",
            "任务",
            "上游",
            "upstream ",
            "upstream error ",
            "0",
            "complete in ",
            '"id":"',
            "task id=",
            "task_id:a",
            "'status':'",
            "return",
            "任务已",
            "created ",
            "order is ",
        ],
    )
    @pytest.mark.parametrize("http_status", [200, 429, 500])
    def test_of_hostile_words_costs_little(self, unit: str, http_status: int) -> None:
        text = (unit * 8192)[: 128 << 10]
        for body in (json.dumps({"error": {"message": text}}).encode(), text.encode()):
            started = time.process_time()
            with pytest.raises(KlingError):
                read_submit(Response(http_status, body))
            assert time.process_time() - started < 1.0

    @pytest.mark.parametrize("words", [LOST_WORDS, MADE_WORDS])
    @pytest.mark.parametrize("unit", ["task already ", "task is was id ", "upstream code ", "return", "the "])
    def test_the_search_takes_linear_time(self, words: Any, unit: str) -> None:
        text = (unit * 20_000)[:20_000]
        started = time.process_time()
        words.sub("", text)
        assert time.process_time() - started < 1.0


class TestAQuotaOfJobs:
    @pytest.mark.parametrize(
        "words",
        [
            "Task quota reached: 5 running",
            "queue quota exceeded",
            "model quota reached, please retry later",
            "exceeded your current quota, please wait",
            "Concurrency credits exhausted",
            "rate limit: points exhausted for this window",
            "burst credits exhausted",
            "Credits used up for this window",
            "Points are depleted, 10 per hour",
        ],
    )
    def test_is_cured_by_waiting(self, words: str) -> None:
        assert kind_of_words(words) is KlingRateLimitError
        assert refused({"error": {"message": words}}, 429) is KlingRateLimitError

    @pytest.mark.parametrize(
        "words",
        [
            "Insufficient credits",
            "rate_limit_error\nInsufficient credits",
            "Insufficient credits, please wait",
            "Credits exhausted",
            "Your points are used up. Please top up",
            "Your account balance is exhausted, retry later",
            "insufficient balance; burst credits exhausted",
            "You exceeded your current quota, please check your plan and billing details",
        ],
    )
    def test_an_empty_account_is_not(self, words: str) -> None:
        assert kind_of_words(words) is KlingBalanceError


class TestAServerThatHasNoSuchRoute:
    BODY = {
        "timestamp": "2026-11-26T02:00:00.000+00:00",
        "status": 404,
        "error": "Not Found",
        "path": "/v1/videos/airflow-connection-test",
    }

    @pytest.mark.parametrize("more", [{}, {"message": ""}, {"message": "No message available"}], ids=str)
    def test_springs_own_404_is_no_unknown_task(self, more: dict[str, Any]) -> None:
        response = answer(self.BODY | more, 404)
        assert is_missing_route(response, error_names(response))
        works, told = describe_probe(response)
        assert not works, told

    @pytest.mark.parametrize("more", [{"message": "task not found"}, {"error": "task_not_exist"}], ids=str)
    def test_what_speaks_of_a_task_is(self, more: dict[str, Any]) -> None:
        response = answer(self.BODY | more, 404)
        assert not is_missing_route(response, error_names(response))

    def test_only_with_that_status(self) -> None:
        response = answer(self.BODY | {"status": 400}, 400)
        assert not is_missing_route(response, error_names(response))
