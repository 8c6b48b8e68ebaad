# SPDX-License-Identifier: Apache-2.0
"""What must not be read as a failed job: a retry buys that job again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_kling.api.base import Credentials
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.gateway.routes import STATUS_ROUTES
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.reading.probe import serves_route
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.status_words import status_of
from airflow_provider_kling.api.reading.submit import read_submit
from airflow_provider_kling.api.response import Response
from airflow_provider_kling.api.routes import RouteSearch
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingError,
    KlingRateLimitError,
    KlingServerError,
)

URL = "https://cdn.example.com/1.mp4"


def response(body: Any, http_status: int = 200) -> Response:
    return Response(http_status, body if isinstance(body, bytes) else json.dumps(body).encode())


def read(body: Any) -> VideoJob:
    return read_status(response(body), "c")


def short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:90]


TROUBLE = [
    *("timeout of 30000ms exceeded", "fetch failed", "socket hang up", "connect ECONNREFUSED 10.0.0.1:443"),
    *("Network Error", "Request failed with status code 502", "Failed to fetch task status", "upstream timeout"),
    *("context deadline exceeded", "Redis connection lost", "查询失败", "请求超时", "网络错误", "get task failed"),
    *("read ECONNRESET", "Unable to reach upstream", "获取任务状态失败", "系统繁忙，请稍后再试", "internal error"),
    *("Could not connect to the database", "fail_to_fetch_task", "Service temporarily unavailable"),
]


class TestARequestThatFailed:
    @pytest.mark.parametrize(
        "word", ["error", "fail", "failed", "FAILURE", "timeout", "rejected", "canceled", "失败"]
    )
    @pytest.mark.parametrize("words", TROUBLE)
    def test_is_none_of_the_job_without_its_id(self, word: str, words: str) -> None:
        with pytest.raises(KlingServerError):
            read({"status": word, "message": words})

    @pytest.mark.parametrize(
        "word", ["error", "failed", "timeout", "rejected", "aborted", "terminated", "canceled"]
    )
    @pytest.mark.parametrize(
        ("words", "kind"),
        [
            ("Too many requests", KlingRateLimitError),
            ("Resource has been exhausted", KlingRateLimitError),
            ("Unauthorized", KlingAuthenticationError),
            ("Insufficient balance", KlingBalanceError),
        ],
    )
    def test_is_of_the_kind_that_its_words_name(self, word: str, words: str, kind: type[KlingError]) -> None:
        with pytest.raises(kind):
            read({"status": word, "message": words})

    @pytest.mark.parametrize(
        "body",
        [
            {"code": 500, "status": "fail", "msg": "no"},
            {"code": 503, "status": "failed", "message": "no"},
            {"success": False, "status": "failed", "message": "Service unavailable"},
            {"status": "failed", "data": None, "error": {"message": "upstream error"}},
            {"status": "failed", "message": "no", "detail": "i/o timeout"},
            {"status": "failed", "code": "fail_to_fetch_task", "message": "no"},
            {"data": {"status": "failed", "message": "Bad Gateway"}},
            # The id is repeated, and nothing of the job is there.
            {"task_id": "c", "status": "error", "message": "Too many requests"},
            {"task_id": "c", "status": "error", "message": "Internal Server Error"},
            {"task_id": "c", "status": "error", "message": "Unauthorized"},
            {"success": False, "task_id": "c", "status": "failed", "message": "Service unavailable"},
            {"code": 502, "message": "Bad Gateway", "data": {"task_id": "c", "status": "failed"}},
        ],
        ids=short,
    )
    def test_in_other_shapes(self, body: Any) -> None:
        with pytest.raises((KlingServerError, KlingRateLimitError, KlingAuthenticationError)):
            read(body)

    @pytest.mark.parametrize(
        ("body", "has_id"),
        [
            ({"task_id": "c", "status": "failed", "reason": "internal error"}, True),
            ({"task_id": "c", "status": "failed", "message": "upstream timeout"}, True),
            ({"task_id": "c", "status": "error", "progress": 40, "message": "Internal Server Error"}, True),
            ({"task_id": "c", "status": "error", "message": "the model broke"}, True),
            ({"data": {"task_id": "c", "status": "timeout"}}, True),
            ({"code": 0, "data": {"id": "c", "status": "failed", "fail_reason": "查询失败"}}, True),
            ({"status": "failed", "reason": "out of memory"}, False),
            ({"status": "error", "message": "the prompt violates the content policy; request failed"}, False),
            ({"data": {"status": "失败"}}, False),
            ({"status": "failed", "data": {"task_id": "c"}}, False),
        ],
        ids=short,
    )
    def test_a_failed_job_stays_one(self, body: Any, has_id: bool) -> None:
        job = read(body)
        assert (job.status, job.has_id) == ("failed", has_id)


@pytest.mark.parametrize(
    "word",
    [
        *("query_failed", "request_failed", "fetch failed", "查询失败", "请求失败", "获取失败", "get-failed"),
        *("retrying: last attempt failed", "重试中,上次失败", "部分失败", "callback_failed", "upload_failed"),
        *("watermark failed", "retry_failed", "re-failed", "not yet failed", "if_failed", "audioFailed"),
        *(
            "提交成功",
            "submit_success",
            "create_success",
            "创建成功",
            "request_success",
            "partial_success",
            "查询成功",
        ),
    ],
)
def test_a_word_about_something_else_is_unknown(word: str) -> None:
    assert status_of(word) is None
    job = read({"id": "c", "status": word})
    assert (job.status, job.is_known_status) == ("running", False)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *[(word, "failed") for word in ("generation_failed", "video.failed", "TASK_STATUS_FAILED", "jobFailed")],
        *[
            (word, "failed")
            for word in ("生成失败", "视频生成失败", "任务失败", "render: failed", "image2video_failed")
        ],
        *[(word, "completed") for word in ("generation_success", "任务成功", "TASK_STATUS_SUCCEED", "已成功")],
    ],
)
def test_a_word_about_the_job_is_known(word: str, status: str) -> None:
    assert status_of(word) == status


class TestOtherJobs:
    @pytest.mark.parametrize(
        "body",
        [
            {"data": [{"task_id": "zz", "status": "failed"}, {"task_id": "yy", "status": "running"}]},
            [{"task_id": "zz", "status": "failed"}, {"task_id": "yy", "status": "running"}],
            {"data": {"items": [{"id": "zz", "status": "failed"}, {"id": "yy", "status": "queued"}], "total": 2}},
            {"status": "success", "data": [{"id": "zz", "status": "failed"}, {"id": "yy", "status": "completed"}]},
            {"data": [{"task_id": "zz", "status": "failed"}]},
            {"data": [{"task_id": "zz", "status": "completed", "url": URL}]},
            {"tasks": [{"id": "zz", "status": "failed"}]},
            {"task_id": "zz", "status": "failed"},
            {"data": {"id": "zz", "status": "expired"}},
            {"id": "zz", "data": {"status": "failed"}},
            {"status": "failed", "data": {"task_id": "zz"}},
            {"status": "completed", "data": {"task_id": "zz", "status": "failed"}},
        ],
        ids=short,
    )
    def test_decide_nothing(self, body: Any) -> None:
        with pytest.raises(KlingServerError, match="contains no status|not a JSON object"):
            read(body)

    def test_ours_is_found_among_them(self) -> None:
        jobs = [{"task_id": "zz", "status": "running"}, {"task_id": "c", "status": "failed"}]
        assert read({"data": jobs}).status == "failed"
        assert read({"data": {"items": [*jobs[:1], {"task_id": "c", "status": "running"}]}}).status == "running"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"task_id": "c", "status": "processing", "webhook": {"task_id": "c", "status": "failed"}}, "running"),
        (
            {"id": "c", "status": "completed", "url": URL, "callback": {"task_id": "c", "status": "failed"}},
            "completed",
        ),
        (
            {
                "id": "c",
                "status": "running",
                "attempts": [{"task_id": "c", "status": "failed"}, {"task_id": "c", "status": "running"}],
            },
            "running",
        ),
        (
            {"id": "c", "status": "completed", "url": URL, "download": {"id": "c", "status": "expired"}},
            "completed",
        ),
        ({"id": "c", "status": "in_progress", "history": [{"id": "c", "status": "failed"}]}, "running"),
        ({"data": {"id": "c", "status": "queued", "logs": {"data": {"id": "c", "status": "failed"}}}}, "queued"),
        ({"status": "processing", "webhook": {"task_id": "c", "status": "failed"}}, "running"),
        ({"data": [{"task_id": "c", "status": "failed"}, {"task_id": "c", "status": "running"}]}, "running"),
        # Its own status is no text.
        (
            {"task_id": "c", "task_status": 2, "attempts": [{"status": "failed"}, {"status": "processing"}]},
            "running",
        ),
        ({"status": "success", "data": {"task_id": "c", "task_status": 2, "progress": 30}}, "running"),
        ({"task_id": "c", "status": 0, "data": {"status": "failed"}}, "running"),
        # Objects in which the job does stand.
        ({"status": "success", "data": {"id": "c", "status": "failed"}}, "failed"),
        ({"id": "c", "status": "success", "result": {"task_id": "c", "status": "failed"}}, "failed"),
        ({"id": "c", "status": {"state": "failed"}}, "failed"),
        ({"id": "c", "output": {"task_status": "FAILED"}}, "failed"),
        ({"generation": {"id": "c", "status": "failed"}}, "failed"),
        ({"task_id": "c", "status": 200, "data": {"status": "failed"}}, "failed"),
    ],
    ids=short,
)
def test_only_wrappers_lead_inwards(body: Any, status: str) -> None:
    assert read(body).status == status


@pytest.mark.parametrize(
    "body",
    [
        {"task_id": "c", "phase": "running", "webhook": {"status": "failed"}},
        {"task_id": "c", "attempts": [{"status": "failed"}]},
        {"task_id": "c", "data": [{"id": "g1", "status": "failed"}, {"id": "g2", "status": "failed"}]},
        {"webhook": {"status": "failed"}},
        {"status": "success", "data": {"task_status": 2}},
    ],
    ids=short,
)
def test_what_belongs_to_a_job_does_not_decide_its_failure(body: Any) -> None:
    with pytest.raises(KlingServerError, match="contains no status"):
        read(body)


class TestRoutes:
    @pytest.mark.parametrize(
        "body", [{"hello": "world"}, {"status": "ok", "version": "1"}, {"message": "Welcome"}, [], b"", {"id": 7}]
    )
    def test_a_page_for_every_path_is_no_route(self, body: Any) -> None:
        assert serves_route(response(body)) is None
        search = RouteSearch(GatewayApi(Credentials("key")))
        search.add(STATUS_ROUTES[0], first := response({"detail": "Not Found"}, 404))
        search.add(STATUS_ROUTES[1], response(body))
        assert (search.response, search.route) == (first, None)

    @pytest.mark.parametrize(
        "body", [{"status": "queued"}, {"id": "c", "status": "dreamt"}, {"data": {"task_id": "c"}}, {"code": 429}]
    )
    def test_a_job_or_an_error_is_one(self, body: Any) -> None:
        assert serves_route(response(body)) is True

    @pytest.mark.parametrize("http_status", [401, 403, 429, 500])
    def test_an_error_elsewhere_does_not_move_a_known_route(self, http_status: int) -> None:
        search = RouteSearch(GatewayApi(Credentials("key")), known=STATUS_ROUTES[1])
        search.add(STATUS_ROUTES[1], response({"detail": "Not Found"}, 404))
        search.add(STATUS_ROUTES[0], response({"error": {"message": "no"}}, http_status))
        assert search.route == STATUS_ROUTES[1]

    def test_a_job_elsewhere_does(self) -> None:
        search = RouteSearch(GatewayApi(Credentials("key")), known=STATUS_ROUTES[1])
        search.add(STATUS_ROUTES[1], response({"detail": "Not Found"}, 404))
        search.add(STATUS_ROUTES[0], response({"id": "c", "status": "running"}))
        assert search.route == STATUS_ROUTES[0]


@pytest.mark.parametrize(
    ("body", "task_id", "other"),
    [
        ({"id": "req_1", "task": {"id": "t2", "status": "queued"}}, "t2", "req_1"),
        ({"task_id": "gw1", "data": {"task_id": "up1", "status": "queued"}}, "up1", "gw1"),
        ({"id": "req_1", "output": {"task_id": "t2"}}, "t2", "req_1"),
        ({"id": "a", "task_id": "b", "data": {"x": 1}}, "b", "a"),
        ({"task_id": "a", "data": {"task_id": "a", "status": "queued"}}, "a", None),
        ({"task_id": "a", "webhook": {"id": "w1"}}, "a", None),
    ],
    ids=short,
)
def test_no_id_of_a_submit_is_lost(body: Any, task_id: str, other: str | None) -> None:
    job = read_submit(response(body))
    assert (job.kling_task_id, job.other_id) == (task_id, other)


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        *[
            (words, True)
            for words in ("Your prompt may violate our terms", "PROHIBITED_CONTENT", "risk_control_failed")
        ],
        *[(words, True) for words in ("content_filter", "blocked by content filter", "content security policy")],
        *[
            (words, True)
            for words in ("nudity detected", "public figure detected", "copyrighted character", "涉政")
        ],
        *[(words, True) for words in ("審核未通過", "审查不通过", "审核拒绝", "违反规定", "内容不符合规范")],
        *[
            (words, True)
            for words in ("内容安全检测不通过", "rejected by the safety system", "风控", "policy_violation")
        ],
        *[(words, False) for words in ("moderation service timeout", "GPU safety shutdown", "out of memory")],
        *[
            (words, False)
            for words in ("审核服务超时", "content could not be loaded", "safety service unavailable")
        ],
    ],
)
def test_a_refusal_of_content(words: str, refused: bool) -> None:
    assert read({"id": "c", "status": "failed", "error": {"message": words}}).content_refused is refused
