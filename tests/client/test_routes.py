# SPDX-License-Identifier: Apache-2.0
"""Servers with another status route are asked on it; of servers with none nothing is bought."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_kling.api.gateway.routes import STATUS_ROUTES
from airflow_provider_kling.client.async_client import shared_client
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.triggers.kling import KlingTaskTrigger
from tests.conftest import Connect
from tests.task_context import StateStore, TaskInstance, context, event_of, run

FIRST, SECOND = STATUS_ROUTES
REQUEST = {"model": "kling-v3-std-silent", "prompt": "A paper boat"}
UNKNOWN_ROUTES = ("new-api", "page")


def paths(sandbox: Sandbox) -> list[str]:
    """The routes of the status requests so far."""
    return [seen["path"].rpartition("/")[0] for seen in sandbox.seen() if seen["method"] == "GET"]


def generate(**arguments: Any) -> KlingGenerateOperator:
    return KlingGenerateOperator(task_id="video", **{**REQUEST, **arguments})


@pytest.fixture(params=[*UNKNOWN_ROUTES, "plain"])
def second_only(request: pytest.FixtureRequest, rendered: Path, connect: Connect) -> Iterator[Sandbox]:
    """A server that has only the second status route."""
    with Sandbox(
        run_seconds=0, cache_dir=rendered, status_routes=[SECOND], unknown_routes=request.param
    ) as sandbox:
        connect(sandbox.base_url, sandbox.api_key, connect_timeout=2, read_timeout=2)
        yield sandbox


@pytest.fixture(params=UNKNOWN_ROUTES)
def no_route(request: pytest.FixtureRequest, rendered: Path, connect: Connect) -> Iterator[Sandbox]:
    """A server that takes submits, and has no status route."""
    with Sandbox(run_seconds=0, cache_dir=rendered, status_routes=(), unknown_routes=request.param) as sandbox:
        connect(sandbox.base_url, sandbox.api_key, connect_timeout=2, read_timeout=2)
        yield sandbox


class TestTheSecondRouteOnly:
    def test_the_connection_works(self, second_only: Sandbox) -> None:
        works, words = KlingHook().test_connection()
        assert works, words

    def test_a_wrong_key_is_found_on_the_route_that_looks_at_it(
        self, second_only: Sandbox, connect: Connect
    ) -> None:
        connect(second_only.base_url, "sk-wrong")
        works, words = KlingHook().test_connection()
        assert not works
        assert "rejects the key" in words
        with pytest.raises(KlingAuthenticationError):
            generate().execute(context())
        assert second_only.ledger() == []

    @pytest.mark.parametrize("deferrable", [True, False])
    def test_an_operator(self, second_only: Sandbox, deferrable: bool) -> None:
        video = run(generate(wait_for_completion=True, deferrable=deferrable, poll_interval=0.1))
        assert video["status"] == "completed"
        assert [video["kling_task_id"]] == [entry["id"] for entry in second_only.ledger()]
        # The probe learned the route, for the worker and for the trigger.
        assert paths(second_only).count(FIRST) == 1

    def test_the_trigger_gets_the_route(self, second_only: Sandbox) -> None:
        with pytest.raises(TaskDeferred) as deferred:
            generate(wait_for_completion=True).execute(context())
        arguments = deferred.value.trigger.serialize()[1]
        assert arguments["route"] == SECOND
        asked = len(paths(second_only))
        assert event_of(deferred.value)["status"] == "success"
        assert set(paths(second_only)[asked:]) == {SECOND}

    def test_a_trigger_without_a_route_finds_it(self, second_only: Sandbox) -> None:
        kling_task_id = KlingHook().submit_video(REQUEST).kling_task_id

        async def events() -> list[Any]:
            trigger = KlingTaskTrigger(
                kling_task_id=kling_task_id, kling_conn_id="kling_default", timeout=10, poll_interval=0.1
            )
            return [event.payload async for event in trigger.run()]

        [event] = asyncio.run(events())
        assert event["status"] == "success"

    @pytest.mark.parametrize("arguments", [{"deferrable": True}, {"deferrable": False}], ids=str)
    def test_a_sensor(self, second_only: Sandbox, arguments: dict[str, Any]) -> None:
        kling_task_id = KlingHook().submit_video(REQUEST).kling_task_id
        sensor = KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id, poke_interval=0.1, **arguments)
        assert run(sensor)["kling_task_id"] == kling_task_id

    def test_a_sensor_hands_the_route_to_its_trigger(self, second_only: Sandbox) -> None:
        second_only.run_seconds = 60
        kling_task_id = KlingHook().submit_video(REQUEST).kling_task_id
        with pytest.raises(TaskDeferred) as deferred:
            KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id).execute(context())
        assert deferred.value.trigger.serialize()[1]["route"] == SECOND

    def test_a_hook_remembers_it(self, second_only: Sandbox) -> None:
        hook = KlingHook()
        kling_task_id = hook.submit_video(REQUEST).kling_task_id
        assert hook.status_route is None
        for _ in range(3):
            assert hook.get_video(kling_task_id).status == "completed"
        assert hook.status_route == SECOND
        assert paths(second_only) == [FIRST, SECOND, SECOND, SECOND]

    def test_the_clients_of_one_loop_remember_it(self, second_only: Sandbox) -> None:
        kling_task_id = KlingHook().submit_video(REQUEST).kling_task_id

        async def ask() -> None:
            async with shared_client("kling_default") as client:
                for _ in range(3):
                    await client.get_video(kling_task_id)

        asyncio.run(ask())
        assert paths(second_only) == [FIRST, SECOND, SECOND, SECOND]

    def test_a_retry_joins_on_it(self, second_only: Sandbox) -> None:
        store = StateStore()
        first = generate().execute(context(TaskInstance(), store))
        assert generate().execute(context(TaskInstance(try_number=2), store)) == first
        assert len(second_only.ledger()) == 1

    def test_a_job_that_is_not_visible_yet_is_waited_for(self, second_only: Sandbox) -> None:
        second_only.add_fault(Fault("status", "not_visible", times=2))
        assert run(generate(wait_for_completion=True, poll_interval=0.1))["status"] == "completed"


class TestNoRoute:
    def test_the_connection_does_not_work(self, no_route: Sandbox) -> None:
        for key in ("sk-sandbox", "sk-wrong"):
            works, words = KlingHook().test_connection()
            assert not works, key
            assert "not as this API" in words

    def test_a_mapped_batch_buys_nothing(self, no_route: Sandbox) -> None:
        for index in range(5):
            with pytest.raises(TaskDeferred):
                generate().execute(context(TaskInstance(map_index=index)))
        assert no_route.requests["submit"] == 0
        assert no_route.ledger() == []

    def test_the_end_of_the_wait_names_the_first_error(self, no_route: Sandbox) -> None:
        with pytest.raises(KlingUnavailableError, match="Nothing was submitted") as caught:
            generate(deferrable=False, submit_timeout=0.2).execute(context())
        assert no_route.ledger() == []
        assert SECOND not in str(caught.value)

    def test_a_status_check_is_neither_not_visible_nor_gone(self, no_route: Sandbox) -> None:
        hook = KlingHook()
        kling_task_id = hook.submit_video(REQUEST).kling_task_id  # a hook does not probe
        with pytest.raises(KlingError) as caught:
            hook.get_video(kling_task_id)
        assert caught.value.retryable
        assert set(paths(no_route)) == {FIRST, SECOND}


def test_a_wrong_path_is_distinguished_from_a_wrong_key(rendered: Path, connect: Connect) -> None:
    with Sandbox(cache_dir=rendered, unknown_routes="new-api") as sandbox:
        connect(f"{sandbox.base_url}/kling", "sk-wrong")
        works, words = KlingHook().test_connection()
        assert not works
        assert "no such route, so the key was not checked" in words
        assert "Invalid URL (GET /kling/v1/videos/airflow-connection-test)" in words
        connect(sandbox.base_url, "sk-wrong")
        assert "rejects the key" in KlingHook().test_connection()[1]


def test_a_server_with_the_first_route_is_asked_once(sandbox: Sandbox, connected: str) -> None:
    run(generate(wait_for_completion=True, poll_interval=0.1))
    assert set(paths(sandbox)) == {FIRST}
    assert sandbox.requests["probe"] == 1


def test_a_server_whose_only_route_changes_is_followed(rendered: Path, connect: Connect) -> None:
    with Sandbox(run_seconds=0, cache_dir=rendered, unknown_routes="new-api") as old:
        connect(old.base_url, old.api_key)
        hook = KlingHook()
        kling_task_id = hook.submit_video(REQUEST).kling_task_id
        hook.get_video(kling_task_id)
        assert hook.status_route == FIRST
        old.stop()
        old._status_routes = (SECOND,)
        old.start()
        assert hook.get_video(kling_task_id).status == "completed"
        assert hook.status_route == SECOND


class TestASubmitThatARefusalAnswersWith200:
    @pytest.mark.parametrize(
        "body",
        ['{"code": 402, "msg": "Insufficient credits"}', '{"success": false, "message": "余额不足"}'],
    )
    def test_an_empty_account_fails_at_once_and_needs_no_answer(
        self, sandbox: Sandbox, connected: str, body: str
    ) -> None:
        sandbox.add_fault(Fault("submit", "error", accepted=False, status=200, body=body))
        store = StateStore()
        with pytest.raises(KlingBalanceError):
            generate().execute(context(TaskInstance(), store))
        # The account is topped up, the task is cleared.
        generate().execute(context(TaskInstance(max_tries=1), store))
        assert len(sandbox.ledger()) == 1

    @pytest.mark.parametrize("was_accepted", [False, True])
    def test_a_web_page_stays_uncertain(self, sandbox: Sandbox, connected: str, was_accepted: bool) -> None:
        sandbox.add_fault(Fault("submit", "error", accepted=was_accepted, status=200, body="html"))
        store = StateStore()
        with pytest.raises(KlingUncertainSubmissionError, match="a web page, not a response of the API"):
            generate().execute(context(TaskInstance(), store))
        with pytest.raises(KlingUncertainSubmissionError):
            generate().execute(context(TaskInstance(try_number=2), store))
        assert len(sandbox.ledger()) == was_accepted

    def test_an_empty_account_is_not_waited_for(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(
            Fault("submit", "error", accepted=False, status=429, message="Insufficient credits. Required: $0.44")
        )
        with pytest.raises(KlingBalanceError):
            generate().execute(context())
        assert sandbox.ledger() == []
