# SPDX-License-Identifier: Apache-2.0
"""No such route is not the same as no such task: who says the first is not the API, or serves another route."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_kling.api.base import Credentials
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.gateway.routes import STATUS_ROUTES, status_path
from airflow_provider_kling.api.reading.probe import describe_probe, read_probe, serves_route
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.submit import read_submit
from airflow_provider_kling.api.response import Response
from airflow_provider_kling.api.routes import RouteSearch
from airflow_provider_kling.exceptions import (
    KlingError,
    KlingNotFoundError,
    KlingServerError,
    KlingUnavailableError,
)

FIRST, SECOND = STATUS_ROUTES


def answer(body: Any, status: int = 200, **facts: Any) -> Response:
    raw = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Response(status, raw, **facts)


def error(message: str, code: Any = "", type_: str = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": "", "code": code}}


#: There is no such route, for sure.
NO_ROUTE: list[tuple[Any, int]] = [
    (error("Invalid URL (GET /kling/v1/videos/airflow-connection-test)"), 404),
    (error("Invalid URL (GET /v1/videos/airflow-connection-test)", None), 404),
    (error("Unknown request URL: GET /v1/videos/x. Please check the URL for typos", "unknown_url"), 404),
    (error("no", "route_not_found"), 404),
    (b"404 page not found\n", 404),
    ({"message": "Cannot GET /v1/videos/x", "error": "Not Found", "statusCode": 404}, 404),
    ({"message": "Route GET:/v1/videos/x not found", "error": "Not Found", "statusCode": 404}, 404),
    ({"error": "Route /v1/videos/x not found"}, 404),
    ({"error": "Endpoint not found"}, 404),
    ({"detail": "The requested URL was not found on the server."}, 404),
    ({"message": "no such route: GET /v1/videos/x"}, 404),
    ({"code": 404, "msg": "path '/v1/videos/x' does not exist"}, 404),
    ({"code": 404, "message": "接口不存在", "data": None}, 404),
    ({"code": 404, "message": "路由不存在"}, 200),
    ({"code": "404", "msg": "Invalid URL (GET /v1/videos/x)"}, 200),
    ({"message": "无效的请求路径"}, 404),
    ({"success": False, "message": "API endpoint does not exist"}, 404),
    ({"detail": "Method Not Allowed"}, 405),
    (b"405 method not allowed", 405),
    (b"", 405),
    (error("API not implemented", "api_not_implemented", "new_api_error"), 501),
    (error("Unknown endpoint", 404), 410),
]
#: A web page in the API's place.
PAGES: list[tuple[Any, int]] = [
    (b"<!DOCTYPE html><html><title>Console</title></html>", 200),
    (b"\xef\xbb\xbf\n <html></html>", 200),
    ("<html>".encode("utf-16"), 200),
    (b"Welcome to nginx!", 200),
    (b"ok", 200),
    (b"<html>404 Not Found</html>", 404),
]
#: There is no such task: only the API itself knows that.
NO_TASK: list[tuple[Any, int]] = [
    (error("task_not_exist", "task_not_exist"), 400),
    (error("no", "task_not_exist"), 404),
    ({"code": "task_not_exist", "message": "task_not_exist", "data": None}, 400),
    (error("Task not found"), 404),
    (error("Task airflow-connection-test not found"), 404),
    (error("task id 'airflow-connection-test' does not exist"), 400),
    (error("video airflow-connection-test was not found"), 404),
    (error("no such task"), 404),
    (error("任务不存在"), 404),
    (error("任务不存在"), 400),
    ({"code": 404, "message": "task not found"}, 200),
    ({"code": 404, "msg": "任务不存在", "data": None}, 404),
    ({"detail": "Task not found"}, 404),
    (error(json.dumps({"code": 1203, "message": "no"})), 404),
    (error("task path not found", "task_not_exist"), 404),
]
#: They may mean either.
OPEN: list[tuple[Any, int]] = [
    ({"detail": "Not Found"}, 404),
    (b"", 404),
    (b"Not Found", 404),
    (b"404: Not Found", 404),
    (error("Not Found"), 404),
    (error("model not found"), 404),
    (error("Invalid URL (GET /v1/videos/x)"), 400),
    # A server may say such a thing on every path.
    ({"hello": "world"}, 200),
    (b"", 200),
    (b"null", 200),
    (b'{"id": "x", "sta', 200),
]
#: Trouble that another route would have as well, and jobs.
OTHER: list[tuple[Any, int]] = [
    ({"id": "x", "status": "queued"}, 200),
    ({"code": "success", "data": {"status": "UNKNOWN"}}, 200),
    (error("no"), 401),
    (error("no"), 403),
    (error("no"), 429),
    (error("no"), 500),
    (b"<html>Bad Gateway</html>", 502),
    (b"", 503),
    (error("Invalid URL of the image"), 422),
    ({"code": 401, "msg": "no"}, 200),
]


@pytest.mark.parametrize(("body", "http_status"), NO_ROUTE, ids=str)
class TestNoSuchRoute:
    def test_the_connection_does_not_work_and_the_key_was_not_tried(self, body: Any, http_status: int) -> None:
        works, words = describe_probe(answer(body, http_status))
        assert not works
        assert f"not as this API (HTTP {http_status}): check Base URL (host, port and path) and API" in words
        assert "no such route, so the key was not checked" in words

    def test_nothing_is_submitted(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingUnavailableError, match="Nothing was submitted"):
            read_probe(answer(body, http_status))

    def test_a_status_check_says_so_and_goes_on(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingUnavailableError, match="has no such route") as caught:
            read_status(answer(body, http_status), "task_1")
        assert caught.value.retryable
        assert caught.value.kling_task_id == "task_1"
        assert "Nothing was submitted" not in str(caught.value)
        assert "Base URL and API of the Airflow connection" in str(caught.value)

    def test_the_next_route_is_tried(self, body: Any, http_status: int) -> None:
        assert serves_route(answer(body, http_status)) is False


@pytest.mark.parametrize(("body", "http_status"), PAGES, ids=str)
class TestPages:
    def test_it_is_not_the_api(self, body: Any, http_status: int) -> None:
        works, words = describe_probe(answer(body, http_status))
        assert not works
        assert "web page" in words
        with pytest.raises(KlingUnavailableError, match="web page"):
            read_probe(answer(body, http_status))
        assert serves_route(answer(body, http_status)) is False

    def test_a_status_check_goes_on(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingServerError):
            read_status(answer(body, http_status), "task_1")


@pytest.mark.parametrize(("body", "http_status"), NO_TASK, ids=str)
class TestNoSuchTask:
    def test_the_connection_works(self, body: Any, http_status: int) -> None:
        works, words = describe_probe(answer(body, http_status))
        assert works, words
        assert read_probe(answer(body, http_status)) is None
        assert serves_route(answer(body, http_status)) is True

    def test_a_status_check_finds_no_task(self, body: Any, http_status: int) -> None:
        with pytest.raises(KlingNotFoundError):
            read_status(answer(body, http_status), "task_1")


@pytest.mark.parametrize(("body", "http_status"), OPEN, ids=str)
def test_what_may_mean_either_leaves_the_route_open(body: Any, http_status: int) -> None:
    assert serves_route(answer(body, http_status)) is None
    assert read_probe(answer(body, http_status)) is None or "odd" in str(read_probe(answer(body, http_status)))


@pytest.mark.parametrize(("body", "http_status"), OTHER, ids=str)
def test_other_trouble_is_none_of_the_route(body: Any, http_status: int) -> None:
    assert serves_route(answer(body, http_status)) is True
    try:
        read_status(answer(body, http_status), "task_1")
    except KlingError as caught:
        assert "no such route" not in str(caught)


@pytest.mark.parametrize(("body", "http_status"), [case for case in NO_ROUTE if case[1] >= 400], ids=str)
def test_a_submit_to_no_route_bought_nothing(body: Any, http_status: int) -> None:
    with pytest.raises(KlingNotFoundError, match="no such route") as caught:
        read_submit(answer(body, http_status))
    assert "Base URL and API of the Airflow connection" in str(caught.value)


def test_the_path_of_each_route() -> None:
    assert status_path("a/b") == "/v1/videos/a%2Fb"
    assert status_path("a/b", SECOND) == "/v1/video/generations/a%2Fb"
    assert status_path("a", "/v9/of/a/newer/version") == "/v1/videos/a"
    api = GatewayApi(Credentials("key"))
    assert api.status(("a",), route=SECOND).path == "/v1/video/generations/a"
    assert api.probe(route=SECOND).path == "/v1/video/generations/airflow-connection-test"


JOB, TASK, ROUTE, UNCLEAR = OTHER[0], NO_TASK[0], NO_ROUTE[0], OPEN[0]


class TestSearch:
    def search(
        self, answers: dict[str, tuple[Any, int]], known: str | None = None
    ) -> tuple[list[str], RouteSearch]:
        search, asked = RouteSearch(GatewayApi(Credentials("key")), known), []
        for route in search:
            asked.append(route)
            search.add(route, answer(*answers[route]))
        return asked, search

    @pytest.mark.parametrize(
        ("first", "second", "known", "asked", "counts", "learned"),
        [
            (JOB, JOB, None, [FIRST], FIRST, FIRST),
            (TASK, JOB, None, [FIRST], FIRST, FIRST),
            (ROUTE, JOB, None, [FIRST, SECOND], SECOND, SECOND),
            (ROUTE, TASK, None, [FIRST, SECOND], SECOND, SECOND),
            (PAGES[0], TASK, None, [FIRST, SECOND], SECOND, SECOND),
            (ROUTE, JOB, SECOND, [SECOND], SECOND, SECOND),
            (JOB, ROUTE, SECOND, [SECOND, FIRST], FIRST, FIRST),
            (ROUTE, ROUTE, None, [FIRST, SECOND], FIRST, None),
            (ROUTE, PAGES[0], None, [FIRST, SECOND], FIRST, None),
            (ROUTE, ROUTE, SECOND, [SECOND, FIRST], SECOND, SECOND),
            (UNCLEAR, JOB, None, [FIRST, SECOND], SECOND, SECOND),
            (UNCLEAR, ROUTE, None, [FIRST, SECOND], FIRST, None),
            (ROUTE, UNCLEAR, None, [FIRST, SECOND], FIRST, None),
            (UNCLEAR, UNCLEAR, None, [FIRST, SECOND], FIRST, None),
            (JOB, JOB, "/v9/unknown", [FIRST], FIRST, FIRST),
        ],
    )
    def test_which_route_is_asked_and_which_response_counts(
        self, *, first: Any, second: Any, known: str | None, asked: list[str], counts: str, learned: str | None
    ) -> None:
        answers = {FIRST: first, SECOND: second}
        were_asked, search = self.search(answers, known)
        assert were_asked == asked
        assert search.response.body == answer(*answers[counts]).body
        assert search.route == learned
