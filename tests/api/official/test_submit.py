# SPDX-License-Identifier: Apache-2.0
"""The response to a create request: a job, a refusal, a duplicate, or none with certainty."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.api.official.api import OfficialApi
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingDuplicateSubmissionError,
    KlingError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from tests.fixtures.official import (
    CHINA,
    IMAGE,
    PICTURE,
    RESELLER,
    TEXT,
    TOKEN,
    VIDEO_URL,
    error,
    legacy_job,
    legacy_result,
    new_job,
    raised,
    request,
    response,
    success,
    with_api_key,
    with_pair,
)


@pytest.mark.parametrize("data", [legacy_job(), new_job()])
def test_a_success_is_a_job_with_the_token_that_it_repeats(data: Any) -> None:
    job = with_api_key().read_submit(response(success(data)), request())
    assert (job.kling_task_id, job.status, job.raw_status, job.client_token) == (
        "8671",
        "queued",
        "submitted",
        TOKEN,
    )


@pytest.mark.parametrize("data", [legacy_job(token=None), new_job(token=None)])
def test_a_server_that_drops_the_token_repeats_none(data: Any) -> None:
    assert with_api_key().read_submit(response(success(data)), request()).client_token is None


@pytest.mark.parametrize("word", ["succeed", "succeeded", "failed", "expired", "a-new-word"])
def test_the_response_to_a_submit_never_ends_a_job(word: str) -> None:
    data = legacy_job(word, task_result=legacy_result(url=VIDEO_URL))
    job = with_api_key().read_submit(response(success(data)), request())
    assert (job.kling_task_id, job.status, job.raw_status, job.video_url) == ("8671", "running", word, None)


def test_a_reseller_may_respond_in_another_shape() -> None:
    body = {"id": "task_1", "status": "completed", "video_url": VIDEO_URL}
    job = with_api_key(RESELLER).read_submit(response(body, 201), request())
    assert (job.kling_task_id, job.status, job.video_url) == ("task_1", "running", None)


@pytest.mark.parametrize(
    ("http_status", "code", "message", "kind"),
    [
        (401, 1000, "Authentication failed", KlingAuthenticationError),
        (401, 1001, "Authorization is empty", KlingAuthenticationError),
        (401, 1002, "Authorization is invalid", KlingAuthenticationError),
        (401, 1003, "Authorization is not yet valid", KlingAuthenticationError),
        (401, 1004, "Authorization has expired", KlingAuthenticationError),
        (429, 1100, "Account exception", KlingBalanceError),
        (429, 1101, "Account in arrears", KlingBalanceError),
        (429, 1102, "Resource pack depleted or expired", KlingBalanceError),
        (403, 1103, "Unauthorized access to the model", KlingPermissionError),
        (400, 1200, "Invalid request parameters", KlingValidationError),
        (400, 1201, "sound must be a string", KlingValidationError),
        (400, 1201, "image download timed out, connection reset", KlingValidationError),
        (400, 1201, "element 5 not found", KlingValidationError),
        (404, 1202, "The requested method is invalid", KlingValidationError),
        (404, 1203, "model kling-v9 does not exist", KlingNotFoundError),
        (400, 1300, "Trigger the platform strategy", KlingContentRefusedError),
        (400, 1301, "Content security policy", KlingContentRefusedError),
        (429, 1302, "Requests too fast", KlingRateLimitError),
        (429, 1303, "parallel task over resource pack limit", KlingRateLimitError),
        (429, 1304, "IP whitelist", KlingPermissionError),
    ],
)
def test_a_documented_refusal_is_the_named_error_with_the_servers_words(
    http_status: int, code: int, message: str, kind: type[KlingError]
) -> None:
    for api in (with_api_key(), with_api_key(RESELLER), with_pair()):
        found = raised(lambda api=api: api.read_submit(response(error(code, message), http_status), request()))
        assert type(found) is kind
        assert (found.http_status, found.code, found.request_id) == (http_status, str(code), "req-1")
        assert found.server_message == message


@pytest.mark.parametrize("http_status", [400, 409, 200, 429, 500])
@pytest.mark.parametrize(
    "message",
    [
        f"External_task_id {TOKEN} already exists",
        "external_task_id already exists.",
        f"The external task id '{TOKEN}' exists",
        "Duplicate external_task_id",
        "external_task_id 已存在",
        "外部任务ID重复",
        "The same task was already submitted",
    ],
)
def test_a_token_that_is_in_use_is_a_duplicate_whatever_the_http_status(http_status: int, message: str) -> None:
    found = raised(lambda: with_api_key().read_submit(response(error(1201, message), http_status), request()))
    assert type(found) is KlingDuplicateSubmissionError
    assert found.server_message == message
    assert found.kling_task_id is None


def test_a_duplicate_is_recognised_inside_the_message_of_a_reseller() -> None:
    inner = '{"code":1201,"message":"External_task_id x already exists","request_id":"a"}'
    body = {"error": {"message": f"upstream: {inner}", "code": "upstream_error"}}
    found = raised(lambda: with_api_key(RESELLER).read_submit(response(body, 400), request()))
    assert type(found) is KlingDuplicateSubmissionError


@pytest.mark.parametrize(
    "message", ["external_task_id is too long", "external_task_id does not exist", "Task not found by id: x"]
)
def test_another_error_about_the_token_is_no_duplicate(message: str) -> None:
    found = raised(lambda: with_api_key().read_submit(response(error(1201, message), 400), request()))
    assert type(found) is KlingValidationError


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        (500, error(5000, "Server internal error")),
        (503, error(5001, "Server temporarily unavailable")),
        (504, error(5002, "Server internal timeout")),
        (200, error(5000, "Server internal error")),
        (400, error(5002, "Server internal timeout")),
        (503, error(1303, "parallel task over resource pack limit")),
        (502, b"<html>Bad gateway</html>"),
        (500, b""),
        (504, b"upstream timed out"),
        (200, b""),
        (200, b'{"code": 0, "message": "SUCCEED", "data": {"task_id": "8'),
        (200, b"<html>welcome</html>"),
        (200, success({})),
        (200, success(None)),
        (200, success([])),
        (200, success({"task_status": "submitted"})),
        (200, success({"task_id": "", "task_status": "submitted"})),
        (200, {"code": 7, "message": "what"}),
        (400, {**error(1303, "over the limit"), "data": {"task_id": "8671"}}),
        (302, b""),
        (408, b""),
        (409, error(1201, "conflict")),
        (403, b"<html>This response was blocked</html>"),
        (451, b""),
    ],
)
def test_whatever_proves_nothing_is_uncertain(http_status: int, body: Any) -> None:
    for api in (with_api_key(), with_pair()):
        found = raised(lambda api=api: api.read_submit(response(body, http_status), request()))
        assert type(found) is KlingUncertainSubmissionError


@pytest.mark.parametrize(
    ("http_status", "body", "kind"),
    [
        (413, b"<html>413 Request Entity Too Large</html>", KlingValidationError),
        (404, b"<html>404 Not Found</html>", KlingNotFoundError),
        (401, b"", KlingAuthenticationError),
        (429, b"slow down", KlingRateLimitError),
        (403, {"error": {"code": "access_denied", "message": "no"}}, KlingPermissionError),
    ],
)
def test_a_proxy_that_refuses_before_it_passes_on_has_bought_nothing(
    http_status: int, body: Any, kind: type[KlingError]
) -> None:
    found = raised(lambda: with_api_key().read_submit(response(body, http_status), request()))
    assert type(found) is kind


def test_the_vendors_own_codes_of_a_connection_are_refusals() -> None:
    body = error(5001, "maintenance")
    with pytest.raises(KlingError) as caught:
        with_api_key().read_submit(response(body, 503), request(), refusal_codes=("5001",))
    assert not isinstance(caught.value, KlingUncertainSubmissionError)


@pytest.mark.parametrize(
    ("api", "model", "probed", "route"),
    [
        (with_api_key(), "kling-v3", None, "/tasks"),
        (with_api_key(CHINA), "kling-v3", None, "/tasks"),
        (with_api_key(), "kling-v3", "/tasks", "/tasks"),
        (with_api_key(), "kling-v3", TEXT, TEXT),
        (with_api_key("https://api.klingai.com"), "kling-v3", None, TEXT),
        (with_api_key("https://api.klingai.com"), "kling-v3", "/tasks", "/tasks"),
        (with_api_key("https://klingai.com.evil.test"), "kling-v3", None, TEXT),
        (with_api_key(RESELLER), "kling-v3", None, TEXT),
        (with_api_key(RESELLER), "kling-v3", "/tasks", "/tasks"),
        (with_api_key(RESELLER), "kling-3.0", None, "/tasks"),
        (with_api_key(RESELLER), "kling-3.0", TEXT, "/tasks"),
        (with_pair(), "kling-v3", None, TEXT),
        (with_pair(), "kling-v3-std-silent", TEXT, TEXT),
    ],
)
def test_a_job_is_looked_for_where_its_server_has_it(
    api: OfficialApi, model: str, probed: str | None, route: str
) -> None:
    accepted = response(success(legacy_job()))
    assert api.read_submit(accepted, request(model), route=probed).route == route
    with_image = IMAGE if route == TEXT else route
    assert api.read_submit(accepted, request(model, image=PICTURE), route=probed).route == with_image


@pytest.mark.parametrize(
    ("base_url", "honours"),
    [
        ("https://api-singapore.klingai.com", True),
        ("https://api.klingai.com", True),
        ("https://klingai.com", True),
        (RESELLER, False),
        ("https://klingai.com.evil.test", False),
        ("https://notklingai.com", False),
        ("http://127.0.0.1:8990", False),
        ("", False),
    ],
)
def test_only_the_vendor_is_known_to_honour_the_token(base_url: str, *, honours: bool) -> None:
    assert with_api_key(base_url).honours_client_token is honours


class TestARejectedKey:
    def read(self, api: OfficialApi, code: int, clock_error: float | None = None) -> str:
        rejected = response(error(code, "no"), 401, clock_error=clock_error)
        found = raised(lambda: api.read_submit(rejected, request()))
        assert isinstance(found, KlingAuthenticationError)
        return found.advice

    def test_may_be_of_the_other_region(self) -> None:
        assert "https://api-beijing.klingai.com (China)" in self.read(with_api_key(), 1002)
        assert "https://api-singapore.klingai.com (all countries but China)" in self.read(with_pair(CHINA), 1002)
        assert "region" in self.read(with_api_key(), 1000)
        assert "region" not in self.read(with_api_key(RESELLER), 1002)

    def test_names_the_fields_to_check(self) -> None:
        assert "Check API key of" in self.read(with_api_key(), 1002)
        assert "Check Access key, and the secret key in API key," in self.read(with_pair(), 1002)

    @pytest.mark.parametrize("code", [1000, 1002, 1003, 1004])
    def test_may_be_due_to_the_clock(self, code: int) -> None:
        assert "12 seconds ahead of the server's" in self.read(with_pair(), code, 12.3)
        assert "3600 seconds behind the server's" in self.read(with_pair(), code, -3600)

    def test_is_not_due_to_a_clock_that_is_right(self) -> None:
        assert "clock" not in self.read(with_pair(), 1002, 4.9)

    def test_is_due_to_the_clock_where_the_server_does_not_say_by_how_much(self) -> None:
        assert "clock" in self.read(with_pair(), 1003)

    def test_has_nothing_to_do_with_the_clock_if_it_is_an_api_key(self) -> None:
        assert "clock" not in self.read(with_api_key(), 1002, 3600)
