# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

COSTS = "/account/costs?start_time=0&end_time=99999999999999"


def code(caller: Any, path: str = COSTS) -> tuple[int, int]:
    answer = caller.get(path)
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", 1001), ("Basic abc", 1002), ("Bearer", 1002), ("Bearer api-key-of-another-region", 1002)],
)
def test_a_key_that_is_refused(caller: Any, given: str, expected: int) -> None:
    for path in (COSTS, "/tasks?task_ids=0", "/v1/videos/text2video/0", "/v1/videos/text2video"):
        answer = caller.get(path, headers={"Authorization": given})
        assert (answer.status_code, answer.json()["code"]) == (401, expected)
    answer = caller.post("/v1/videos/text2video", {}, headers={"Authorization": given})
    assert (answer.status_code, answer.json()["code"]) == (401, expected)
    assert set(answer.json()) == {"code", "message", "request_id"}


def test_a_jwt_is_good_on_the_legacy_standard_and_for_the_account(caller: Any) -> None:
    caller.key = caller.sign()
    task_id = caller.task()
    assert caller.status(task_id).ok
    assert caller.get("/v1/videos/text2video").ok
    assert code(caller) == (200, 0)
    assert caller.sandbox.ledger()[0]["key_suffix"] == "dbox"
    assert code(caller, "/tasks?task_ids=0") == (401, 1002)
    assert caller.new().json()["code"] == 1002
    assert len(caller.sandbox.ledger()) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"secret_key": "sk-other"}, 1000),
        ({"access_key": "ak-of-another-region"}, 1002),
        ({"header": {"alg": "none"}}, 1002),
        ({"exp": None}, 1002),
        ({"nbf": int(time.time()) + 3600}, 1003),
        ({"exp": int(time.time()) - 1}, 1004),
    ],
)
def test_a_jwt_that_is_refused(caller: Any, given: dict[str, Any], expected: int) -> None:
    caller.key = caller.sign(**given)
    assert code(caller) == (401, expected)


@pytest.mark.parametrize("token", ["a.b.c", "..", "e30.W10.x", "é.é.é"])
def test_what_only_looks_like_a_jwt(caller: Any, token: str) -> None:
    caller.key = token.encode().decode("latin-1")
    assert code(caller) == (401, 1002)


@pytest.mark.parametrize(("offset", "expected"), [(-60, 1003), (3600, 1004)])
def test_the_clock_of_the_server(start: Callable[..., Any], offset: float, expected: int) -> None:
    caller = start(clock_offset=offset)
    caller.key = caller.sign()
    answer = caller.get(COSTS)
    assert answer.json()["code"] == expected
    shown = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert abs(shown - time.time() - offset) < 5
    caller.key = caller.sign(exp=int(shown) + 1800, nbf=int(shown) - 5)
    task = caller.legacy().json()["data"]
    assert abs(task["created_at"] / 1000 - shown) < 5


def test_all_keys_are_of_one_account(start: Callable[..., Any]) -> None:
    caller = start(api_keys=("api-key-one", "api-key-two"), max_concurrent=1, run_seconds=3600)
    task_id = caller.task(external_task_id="x")
    for key in ("api-key-two", caller.sign()):
        caller.key = key
        assert caller.status(task_id).ok
        assert caller.legacy(external_task_id="x").json()["message"] == "External_task_id x already exists"
        assert caller.legacy().json()["code"] == 1303


def test_keys_of_several_accounts(start: Callable[..., Any]) -> None:
    caller = start(accounts={"ak-sandbox": "another"}, max_concurrent=1, run_seconds=3600)
    task_id = caller.task(external_task_id="x")
    caller.key = caller.sign()
    assert caller.status(task_id).status_code == 400
    assert caller.status("x").status_code == 400
    assert caller.task(external_task_id="x") != task_id


def test_own_keys(start: Callable[..., Any]) -> None:
    caller = start(access_keys={"ak-one": "sk-one"})
    caller.key = caller.sign("ak-one", "sk-one")
    assert code(caller) == (200, 0)
    caller.key = caller.sign()
    assert code(caller) == (401, 1002)
