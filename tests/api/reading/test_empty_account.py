# SPDX-License-Identifier: Apache-2.0
"""An empty account, which waiting does not cure, and a limit that sounds like one."""

from __future__ import annotations

import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.api.empty_account import kind_of_words
from airflow_provider_kling.api.reading.errors import error_of
from airflow_provider_kling.api.reading.probe import describe_probe, read_probe, serves_route
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.submit import is_definite_refusal, read_submit
from airflow_provider_kling.api.response import MAX_RESPONSE_BYTES, Response
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from tests.fixtures.cpu import allowed_seconds


def answer(body: Any, status: int = 200, **facts: Any) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Response(status, raw, **facts)


def openai(message: str, type_: str | None = "new_api_error", code: Any = "") -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "code": code}}


EMPTY = [
    "Insufficient credits. Required: $0.44, available: $0.10",
    "Insufficient balance",
    "insufficient account balance",
    "Your credit balance is too low to access the API. Please go to Plans & Billing to purchase credits.",
    "This request requires more credits, or fewer seconds. You requested 10 s, but can only afford 3.",
    "You have run out of credits",
    "Out of credits",
    "You do not have enough credits to run this model",
    "You don't have enough credits",
    "Account balance not enough",
    "Your balance ($0.10) is not enough",
    "balance: 0.00",
    "You have 0 points: no credits left",
    "No remaining balance.",
    "Your account is in arrears",
    "Payment Required",
    "Billing hard limit has been reached",
    "credits exhausted",
    "Resource pack depleted or expired",
    "The cost exceeds your available balance",
    "You exceeded your current quota, please check your plan and billing details.",
    "user quota is not enough (request id: 20261125)",
    "token quota is not enough, token remain quota: ¥0.10, need quota: ¥0.44",
    "Insufficient quota for this request",
    "quota exhausted",
    "The free quota has been exhausted",
    "用户额度不足",
    "用户额度不足, 剩余额度: ＄0.100000",
    "该令牌额度已用尽",
    "预扣费额度失败, 用户剩余额度: ＄0.098, 需要预扣费额度: ＄0.44",
    "余额不足",
    "账户余额不足，请充值",
    "账号已欠费",
    "您的账户已欠费，请及时充值",
    "余额已用完",
    "无可用余额",
    "积分不足",
    "点数不够",
    "资源包已用尽",
    "配额不足",
    "無法處理：餘額不足",
    "残高が不足しています",
    "크레딧이 부족합니다",
    "Недостаточно средств на балансе",
    "Saldo insuficiente",
    "Crédits insuffisants",
    "Nicht genügend Guthaben",
    "InsufficientBalance",
    "AccountOverdueError",
    "insufficient_funds",
    "exceeded_current_quota_error",
    "credits required: 10, available: 2",
    "Required credits 10 exceeds available 2",
    "余额 0.1 元，不足以支付 0.44 元",
    "available balance 0.10 is less than 0.44",
    "please top up your account",
]
#: A wait cures these.
LIMITED = [
    "quota exceeded for requests per minute",
    "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute per user'",
    "daily request quota exceeded",
    "Your daily quota is used up",
    "concurrent quota exceeded",
    "Insufficient quota of concurrent jobs",
    "parallel task quota exhausted",
    "quota exceeded, try again in 20 s",
    "quota reached, resets at midnight",
    "并发额度不足",
    "今日额度已用完",
    "每分钟请求额度已用尽",
    "请求频率超出配额",
    "调用次数已超出每日限额",
    "You exceeded your current quota: 20 RPM",
    "请求配额已用完",
    "too many requests, insufficient quota",
    "You have reached your quota of 5 concurrent videos",
]
#: These only share words with an empty account.
NEITHER = [
    "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
    "Too many requests. No credits were charged",
    "Too many requests. Your balance: 12.50",
    "Insufficient permissions to read credits",
    "the load balancer has no server",
    "load balance failed: not enough servers",
    "white balance is too low",
    "parallel task over resource pack limit",
    "Resource has been exhausted (e.g. check quota).",
    "Not enough memory",
    "insufficient resolution",
    "The scene needs balance",
    "并发超限，您的余额充足",
    "剩余额度: ＄5.00",
    "图片尺寸不足",
    "上游负载已饱和",
    "low on memory",
    "余额充足但并发不足",
    "Your balance is fine but slots are insufficient",
    "not enough capacity, credits refunded",
    "video concurrency limit reached, points are not deducted",
    "GPU resources insufficient",
    "",
]


class TestWords:
    @pytest.mark.parametrize("words", EMPTY)
    def test_an_empty_account(self, words: str) -> None:
        assert kind_of_words(words) is KlingBalanceError

    @pytest.mark.parametrize("words", LIMITED)
    def test_a_limit_that_a_wait_cures(self, words: str) -> None:
        assert kind_of_words(words) is KlingRateLimitError

    @pytest.mark.parametrize("words", NEITHER)
    def test_a_look_alike(self, words: str) -> None:
        assert kind_of_words(words) is None

    def test_a_bare_quota_with_seconds_to_wait_is_a_limit(self) -> None:
        assert kind_of_words("Quota exceeded") is KlingBalanceError
        assert kind_of_words("Quota exceeded", has_retry_after=True) is KlingRateLimitError
        assert kind_of_words("Insufficient credits", has_retry_after=True) is KlingBalanceError


class TestErrors:
    @pytest.mark.parametrize("words", EMPTY)
    @pytest.mark.parametrize("http_status", [400, 401, 402, 403, 429])
    def test_every_status_and_envelope(self, words: str, http_status: int) -> None:
        for body in (
            openai(words),
            openai(words, "rate_limit_error", None),
            openai(words, "invalid_request_error", "invalid_request"),
            openai(words, "new_api_error", "rate_limit_exceeded"),
            openai(json.dumps({"error": {"message": words, "code": None}})),
            openai(f"upstream: {json.dumps({'code': 'x', 'msg': words})}"),
            {"code": http_status, "msg": words},
            {"detail": words},
            {"errors": [{"reason": words}]},
            words.encode(),
        ):
            refused = answer(body, http_status)
            assert type(error_of(refused, "It failed")) is KlingBalanceError, body
            assert is_definite_refusal(refused)

    @pytest.mark.parametrize("type_", ["insufficient_quota", "insufficient_user_quota", "InsufficientBalance"])
    @pytest.mark.parametrize("http_status", [400, 403, 429])
    def test_the_type_is_read(self, type_: str, http_status: int) -> None:
        assert type(error_of(answer(openai("no", type_, None), http_status), "It failed")) is KlingBalanceError
        nested = json.dumps({"error": {"type": type_, "message": "no"}})
        assert type(error_of(answer(openai(nested), http_status), "It failed")) is KlingBalanceError

    @pytest.mark.parametrize("words", [*LIMITED, *NEITHER])
    def test_a_429_without_such_words_is_a_rate_limit(self, words: str) -> None:
        for type_ in ("rate_limit_error", "new_api_error", None):
            error = error_of(answer(openai(words, type_), 429), "It failed")
            assert type(error) is KlingRateLimitError
            assert error.retryable

    @pytest.mark.parametrize("words", LIMITED)
    @pytest.mark.parametrize("http_status", [400, 403])
    def test_a_limit_is_one_under_another_status_too(self, words: str, http_status: int) -> None:
        assert type(error_of(answer(openai(words), http_status), "It failed")) is KlingRateLimitError

    @pytest.mark.parametrize(
        ("body", "http_status", "kind"),
        [
            (openai("parallel task over resource pack limit", code="1303"), 429, KlingRateLimitError),
            (openai(json.dumps({"code": 1303, "message": "credits exhausted"})), 429, KlingRateLimitError),
            (openai("余额不足", code="1301"), 400, KlingContentRefusedError),
            (openai("insufficient balance", code="task_not_exist"), 400, KlingNotFoundError),
            (openai("insufficient balance"), 500, KlingServerError),
            (openai("model not allowed"), 403, KlingPermissionError),
            ({"error": {"message": "bad prompt"}, "prompt": "insufficient credits"}, 400, KlingValidationError),
            ({"detail": [{"msg": "too long", "input": "insufficient credits"}]}, 422, KlingValidationError),
            (b"<html>insufficient credits</html>", 403, KlingPermissionError),
        ],
    )
    def test_what_outweighs_the_words(self, body: Any, http_status: int, kind: type[KlingError]) -> None:
        assert type(error_of(answer(body, http_status), "It failed", "task_1")) is kind

    def test_the_words_are_shown(self) -> None:
        error = error_of(answer({"code": 402, "msg": "Insufficient credits"}, 402), "It failed")
        assert error.server_message == "Insufficient credits"


REFUSED_WITH_200: list[tuple[Any, type[KlingError]]] = [
    ({"code": 402, "msg": "Insufficient credits"}, KlingBalanceError),
    ({"code": "402", "message": "no", "data": None}, KlingBalanceError),
    ({"code": 401, "msg": "invalid key"}, KlingAuthenticationError),
    ({"code": 401, "message": "Unauthorized", "request_id": "r-1"}, KlingAuthenticationError),
    ({"code": 403, "message": "no"}, KlingPermissionError),
    ({"code": 400, "message": "prompt too long", "data": None}, KlingValidationError),
    ({"code": 422, "msg": "prompt too long", "data": {}}, KlingValidationError),
    ({"code": 429, "msg": "Too many requests"}, KlingRateLimitError),
    ({"status": 402, "message": "no"}, KlingBalanceError),
    ({"statusCode": 401, "message": "no"}, KlingAuthenticationError),
    ({"error": {"code": 402, "message": "no"}}, KlingBalanceError),
    ({"success": False, "message": "Insufficient credits"}, KlingBalanceError),
    ({"success": False, "message": "余额不足", "data": None}, KlingBalanceError),
    ({"ok": False, "error": "Insufficient balance"}, KlingBalanceError),
    ({"code": "fail", "data": None, "message": "用户额度不足"}, KlingBalanceError),
    ({"code": 10001, "msg": "余额不足"}, KlingBalanceError),
    ({"status": "error", "message": "Insufficient credits"}, KlingBalanceError),
    ({"error": "Insufficient credits"}, KlingBalanceError),
    (openai("Insufficient credits", "rate_limit_error", None), KlingBalanceError),
]
#: Without a certain refusal; none of them was "accepted".
OPEN_WITH_200: list[Any] = [
    {"success": False, "message": "no"},
    {"success": False, "message": "Too many requests"},
    {"code": "fail", "data": None, "message": "no"},
    {"code": "fail", "data": None, "message": "upstream timed out, 余额不足"},
    {"code": 402, "msg": "Insufficient credits", "data": "abc"},
    {"code": 402, "msg": "Insufficient credits", "data": {"id": "abc"}},
    {"code": 402, "msg": "Insufficient credits", "jobId": "abc"},
    {"code": 402, "msg": "Insufficient credits: read ECONNRESET"},
    {"code": 408, "msg": "no"},
    {"code": 409, "msg": "no"},
    {"code": 499, "msg": "no"},
    {"code": 500, "msg": "no"},
    {"code": 503, "msg": "余额不足"},
    {"success": False, "message": "余额不足", "id": "abc"},
    {"success": False, "message": "daily request quota exceeded"},
    {"error": {"message": "no"}},
    {"status": "error", "code": 0, "message": "no"},
    {},
    {"status": "queued"},
    {"code": 0, "msg": "余额不足"},
    {"message": "Insufficient credits"},
    b"<html><title>Console</title></html>",
    b"Welcome",
    b"",
    b"[]",
]


class TestRefusedWith200:
    @pytest.mark.parametrize(("body", "kind"), REFUSED_WITH_200, ids=str)
    def test_a_certain_refusal_needs_no_person(self, body: Any, kind: type[KlingError]) -> None:
        with pytest.raises(KlingError) as caught:
            read_submit(answer(body))
        assert type(caught.value) is kind
        assert "accepted" not in str(caught.value)

    @pytest.mark.parametrize("body", OPEN_WITH_200, ids=str)
    def test_anything_else_is_uncertain_and_is_not_called_accepted(self, body: Any) -> None:
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            read_submit(answer(body))
        assert "accepted" not in caught.value.message

    @pytest.mark.parametrize(("body", "kind"), REFUSED_WITH_200, ids=str)
    @pytest.mark.parametrize("name", ["task_id", "taskId", "job_id", "data.task_id"])
    def test_never_beside_the_id_of_a_task(self, body: Any, kind: type[KlingError], name: str) -> None:
        named = {**body, "data": {"task_id": "abc"}} if name == "data.task_id" else {**body, name: "abc"}
        assert not is_definite_refusal(answer(named))

    @pytest.mark.parametrize(
        "body",
        [
            {"code": 1, "msg": "submitted", "data": {"task_id": "task_9"}},
            {"code": 200, "msg": "ok", "task_id": "task_9"},
            {"code": 10000, "msg": "your balance is too low for another one", "data": {"task_id": "task_9"}},
            {"success": True, "message": "ok", "task_id": "task_9"},
            {"task_id": "task_9", "status": "failed", "message": "Insufficient credits"},
        ],
        ids=str,
    )
    def test_a_job_is_one_whatever_stands_beside_it(self, body: Any) -> None:
        assert read_submit(answer(body)).kling_task_id == "task_9"

    def test_a_web_page_is_called_one(self) -> None:
        with pytest.raises(KlingUncertainSubmissionError, match="a web page, not a response of the API"):
            read_submit(answer(b"<!DOCTYPE html><title>Console</title>"))

    @pytest.mark.parametrize(
        ("body", "kind"),
        [
            ({"code": 401, "msg": "no"}, KlingAuthenticationError),
            ({"code": 429, "msg": "no"}, KlingRateLimitError),
            ({"code": 404, "msg": "task not found"}, KlingNotFoundError),
            ({"code": 400, "msg": "no"}, KlingServerError),
            ({"code": 500, "msg": "no"}, KlingServerError),
        ],
    )
    def test_a_status_check_reads_the_same_codes(self, body: Any, kind: type[KlingError]) -> None:
        with pytest.raises(kind) as caught:
            read_status(answer(body), "task_1")
        assert type(caught.value) is kind


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from([*EMPTY, *LIMITED, "timeout", "1303", "402", "fail", "success", "error", '{"code": 401}']),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "code",
                    "message",
                    "msg",
                    "error",
                    "data",
                    "success",
                    "status",
                    "type",
                    "id",
                    "task_id",
                    "detail",
                    "x",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
STATUSES = st.sampled_from(
    [100, 200, 201, 302, 307, 400, 401, 402, 403, 404, 405, 409, 410, 422, 429, 500, 501, 503]
)


@given(body=JSON, status=STATUSES)
def test_no_body_raises_anything_but_a_named_error(body: Any, status: int) -> None:
    response = answer(body, status)
    for read in (read_submit, read_probe, lambda it: read_status(it, "task_1")):
        try:
            read(response)
        except KlingError as error:
            assert str(error)
    assert isinstance(describe_probe(response)[0], bool)
    assert serves_route(response) in (True, False, None)


def _wrapped(inner: Any, way: str, siblings: int) -> Any:
    match way:
        case "list":
            return [*[0] * siblings, inner]
        case "dict":
            return {**{f"k{n}": n for n in range(siblings)}, "data": inner}
        case "error":
            return {"error": {"message": "no", "code": 1303, "inner": inner}}
        case _:
            return {"code": "model_not_found", "message": f"upstream: {json.dumps(inner)}"}


@given(
    name=st.sampled_from(["task_id", "taskId", "TaskID", "task-id"]),
    value=st.text("abc_-0", min_size=1) | st.integers(min_value=0),
    ways=st.lists(st.tuples(st.sampled_from(["list", "dict", "error", "text"]), st.integers(0, 300)), max_size=5),
    body=st.dictionaries(st.sampled_from(["code", "message", "type", "success"]), JSON, max_size=3),
    status=STATUSES,
)
@example(
    name="task_id", value="x", ways=[("list", 300), ("dict", 300)], body={"code": "model_not_found"}, status=503
)
def test_a_body_that_names_a_task_is_never_a_certain_refusal(
    name: str, value: Any, ways: list[tuple[str, int]], body: dict[str, Any], status: int
) -> None:
    inner: Any = {name: value}
    for way, siblings in ways:
        inner = _wrapped(inner, way, siblings)
    for code in ("model_not_found", 1303, 402):
        response = answer({"code": code, "message": "no", **body, "inner": inner}, status)
        assert not is_definite_refusal(response, refusal_codes=["model_not_found"])


@pytest.mark.alone
@pytest.mark.parametrize(
    "unit",
    [
        '"insufficient balance",',
        '"balance balance balance",',
        '"route /v1/videos/x",',
        '"path path path not",',
        '"task task_id no such",',
        '"no no no credits",',
        '"quota out of quota over",',
        '"task_id\\":\\",",',
        '{"id": null},',
        "[[]],",
        '"余额额度请求",',
    ],
)
@pytest.mark.parametrize("status", [200, 400, 404, 503])
def test_a_body_of_the_largest_size_takes_a_few_milliseconds(unit: str, status: int) -> None:
    listed = (
        "[" + (unit * MAX_RESPONSE_BYTES)[: MAX_RESPONSE_BYTES // 2 // len(unit) * len(unit)].rstrip(",") + "]"
    )
    text = "".join(unit.split('"'))
    one = json.dumps({"error": {"message": (text * MAX_RESPONSE_BYTES)[: MAX_RESPONSE_BYTES // 2], "code": ""}})
    allowed = allowed_seconds(0.03)
    for body in (listed, f'{{"code": 402, "errors": {listed}}}', one):
        response = Response(status, body.encode())
        for read in (read_submit, read_probe, describe_probe, is_definite_refusal):
            assert min(_seconds(read, response) for _ in range(3)) < allowed


def _seconds(read: Any, response: Response) -> float:
    started = time.process_time()
    with contextlib.suppress(KlingError):
        read(response)
    return time.process_time() - started
