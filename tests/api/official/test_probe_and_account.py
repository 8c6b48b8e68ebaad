# SPDX-License-Identifier: Apache-2.0
"""The free requests that show whether a connection works, and what is left in its account."""

from __future__ import annotations

import time
from typing import Any

import pytest

from airflow_provider_kling.api.base import AccountPack, max_concurrent_jobs
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingRateLimitError,
    KlingServerError,
    KlingUnavailableError,
)
from tests.fixtures.official import (
    TEXT,
    error,
    raised,
    response,
    success,
    with_api_key,
    with_pair,
)

NOT_FOUND = error(1201, "Task not found by id/external id: airflow-connection-test")
DAY = 86_400_000


def test_the_probe_asks_for_a_job_that_cannot_exist() -> None:
    assert with_api_key().probe().path == "/tasks?task_ids=0"
    assert with_api_key().probe(route=TEXT).path == f"{TEXT}/airflow-connection-test"
    assert with_pair().probe().path == f"{TEXT}/airflow-connection-test"


@pytest.mark.parametrize(("http_status", "body"), [(200, success([])), (400, NOT_FOUND), (200, NOT_FOUND)])
def test_a_good_key(http_status: int, body: Any) -> None:
    found = response(body, http_status)
    assert with_api_key().read_probe(found) is None
    works, why = with_api_key().describe_probe(found)
    assert works
    assert why.startswith("Connected")


@pytest.mark.parametrize(
    ("code", "clock_error", "words"),
    [
        (1000, None, "Check Access key, and the secret key in API key"),
        (1002, None, "bound to a region"),
        (1002, None, "https://api-beijing.klingai.com"),
        (1003, 90.0, "90 seconds ahead"),
        (1004, -3600.0, "3600 seconds behind"),
    ],
)
def test_a_bad_key_is_told_from_one_of_the_other_region_and_from_a_wrong_clock(
    code: int, clock_error: float | None, words: str
) -> None:
    rejected = response(error(code, "Authorization is invalid"), 401, clock_error=clock_error)
    assert isinstance(raised(lambda: with_pair().read_probe(rejected)), KlingAuthenticationError)
    works, why = with_pair().describe_probe(rejected)
    assert not works
    assert why.startswith("The API rejects the key.")
    assert words in why


@pytest.mark.parametrize(
    ("http_status", "body"),
    [(200, b"<html>Welcome</html>"), (404, b"404 page not found"), (302, b""), (502, b"<html>")],
)
def test_a_wrong_host(http_status: int, body: Any) -> None:
    found = response(body, http_status)
    assert isinstance(raised(lambda: with_api_key().read_probe(found)), KlingUnavailableError)
    works, why = with_api_key().describe_probe(found)
    assert not works
    assert "not as this API" in why


@pytest.mark.parametrize(
    ("http_status", "body"), [(429, error(1302, "too fast")), (500, error(5000, "oops")), (400, error(1201, "no"))]
)
def test_another_error_stops_no_submit_but_is_described(http_status: int, body: Any) -> None:
    found = response(body, http_status)
    assert with_api_key().read_probe(found) is None
    works, why = with_api_key().describe_probe(found)
    assert not works
    assert body["message"] in why


def test_the_account_is_asked_for_the_packs_of_a_year() -> None:
    call = with_pair().account(now=1_790_000_000.5)
    assert call is not None
    assert (call.method, call.path) == (
        "GET",
        "/account/costs?start_time=1758377600500&end_time=1790000000500",
    )


def pack(**fields: Any) -> dict[str, Any]:
    now = int(time.time() * 1000)
    return {
        "resource_pack_name": "Video Generation-5Con-30Days",
        "resource_pack_id": "abc",
        "total_quantity": 1000.0,
        "remaining_quantity": 118.5,
        "purchase_time": now - DAY,
        "effective_time": now - DAY,
        "invalid_time": now + DAY,
        "status": "online",
        **fields,
    }


def packs(*found: Any) -> list[AccountPack]:
    data = {"code": 0, "msg": "success", "resource_pack_subscribe_infos": found}
    return with_api_key().read_account(response(success(data)), now=time.time())


def test_a_pack_that_can_be_used() -> None:
    [found] = packs(pack(invalid_time=4_000_000_000_000))
    assert found == AccountPack("Video Generation-5Con-30Days", 1000.0, 118.5, 5, "2096-10-02T07:06:40+00:00")


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "expired"},
        {"status": "runOut"},
        {"status": "toBeOnline"},
        {"invalid_time": int(time.time() * 1000) - 1000},
        {"effective_time": int(time.time() * 1000) + DAY},
    ],
)
def test_a_pack_that_cannot_be_used_now_is_left_out(fields: dict[str, Any]) -> None:
    assert packs(pack(**fields), pack(resource_pack_name="good"))[0].name == "good"


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("Video-5Con-30Days", 5),
        ("Video-20con-30Days", 20),
        ("20 concurrent", 20),
        ("Video Generation - 10,000 entries", None),
        ("100 Contents", None),
        ("Trial2Con", None),
        ("0Con-", None),
    ],
)
def test_the_jobs_at_once_are_in_the_name(name: str, most: int | None) -> None:
    assert packs(pack(resource_pack_name=name))[0].max_concurrent_jobs == most


@pytest.mark.parametrize(
    ("names", "most"),
    [
        ([], None),
        (["Video Generation"], None),
        (["Video-5Con-30Days"], 5),
        (["Video-5Con-30Days", "Video Generation", "Video-20Con-90Days", "Video-5Con-30Days"], 20),
    ],
)
def test_the_largest_of_several_packs_counts(names: list[str], most: int | None) -> None:
    assert max_concurrent_jobs(packs(*(pack(resource_pack_name=name) for name in names))) == most


def test_large_numbers_of_units_are_written_out() -> None:
    [found] = packs(pack(remaining_quantity=1234567.5, total_quantity=2_000_000))
    assert "1234567.5 of 2000000 units left" in str(found)


def test_a_pack_with_odd_fields_is_still_shown() -> None:
    assert packs({"status": "online"}, None, 5) == [AccountPack("a pack without a name")]


@pytest.mark.parametrize(
    ("http_status", "body", "kind"),
    [
        (401, error(1002, "no"), KlingAuthenticationError),
        (429, error(1302, "too fast"), KlingRateLimitError),
        (500, error(5000, "oops"), KlingServerError),
        (200, success({"code": 5, "msg": "no", "resource_pack_subscribe_infos": []}), KlingServerError),
        (200, success({}), KlingServerError),
        (200, success([]), KlingServerError),
        (200, success(None), KlingServerError),
        (200, b"<html>", KlingServerError),
        (404, b"404 page not found", KlingError),
    ],
)
def test_an_error_about_the_account(http_status: int, body: Any, kind: type[KlingError]) -> None:
    assert isinstance(
        raised(lambda: with_api_key().read_account(response(body, http_status), now=time.time())), kind
    )
