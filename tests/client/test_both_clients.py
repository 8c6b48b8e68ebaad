# SPDX-License-Identifier: Apache-2.0
"""A worker's client and a triggerer's understand the same: one table of responses and faults for both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest

from airflow_provider_kling.client.async_client import shared_client
from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import Connect, TaskLog
from tests.connections import BOOK, ConnectionBook
from tests.raw_server import RawServer, answer, free_port


def on_a_worker(task_id: str) -> Any:
    hook = KlingHook()
    try:
        return hook.get_video(task_id)
    finally:
        if "client" in vars(hook):
            hook.client.close()


def on_a_triggerer(task_id: str) -> Any:
    async def ask() -> Any:
        async with shared_client("kling_default") as client:
            return await client.get_video(task_id)

    return asyncio.run(ask())


BOTH = (on_a_worker, on_a_triggerer)


def outcome(get_video: Callable[[str], Any], task_id: str = "task_1") -> tuple[Any, ...]:
    """Return what a client makes of a response: a job, or an error with all that it says."""
    try:
        job = get_video(task_id)
    except KlingError as error:
        return type(error).__name__, error.http_status, error.code, error.server_message, error.retry_after
    return "job", asdict(job)


JOB = {"id": "task_1", "task_id": "task_1", "status": "completed", "video_url": "https://cdn.example.com/a.mp4"}
RESPONSES: dict[str, bytes] = {
    "a job": answer(json.dumps(JOB)),
    "a running job": answer(json.dumps({"id": "task_1", "status": "in_progress", "progress": "30%"})),
    "a failed job": answer(
        json.dumps({"id": "task_1", "status": "failed", "error": {"message": "敏感", "code": "1301"}})
    ),
    "a response of 100 KB": answer(json.dumps({**JOB, "padding": "x" * 100_000})),
    "a response of 200 KB": answer(json.dumps({**JOB, "padding": "x" * 200_000})),
    "not found": answer(json.dumps({"error": {"code": "task_not_exist", "message": "no"}}), 400),
    "a bad key": answer(json.dumps({"error": {"message": "invalid key"}}), 401),
    "too many requests": answer("{}", 429, Retry_After="7"),
    "an empty account": answer(json.dumps({"error": {"code": "insufficient_quota", "message": "no"}}), 429),
    "server trouble": answer(json.dumps({"error": {"message": "later"}}), 500),
    "a page": answer("<html><body>Bad Gateway</body></html>", 502),
    "an empty response": answer(""),
    "no JSON": answer("hello"),
    "a list": answer("[]"),
    "a redirect": answer("", 302, Location="https://elsewhere.example.com/"),
    "half a body": answer("{}", length=100),
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
def test_a_response(response: bytes, connect: Connect) -> None:
    with RawServer(response) as server:
        connect(server.base_url, read_timeout=2)
        worker, triggerer = (outcome(client) for client in BOTH)
    assert worker == triggerer


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", "drop_before", times=None),
        Fault("status", "truncate", times=None),
        Fault("status", "delay_before", seconds=5, times=None),
        Fault("status", "broken_json", times=None),
        Fault("status", "wrong_types", times=None),
        Fault("status", "huge_body", times=None, size=1 << 20),
        Fault("status", "gzip_bomb", times=None, size=1 << 22),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_fault(fault: Fault, sandbox: Sandbox, connect: Connect) -> None:
    connect(sandbox.base_url, sandbox.api_key, connect_timeout=0.5, read_timeout=0.5)
    task_id = KlingHook().submit_video({"model": "kling-v3-std-silent", "prompt": "A paper boat"}).kling_task_id
    sandbox.add_fault(fault)
    worker, triggerer = (outcome(client, task_id) for client in BOTH)
    assert worker == triggerer
    assert worker[0] != "job"


class TestTheConnection:
    def test_one_that_is_missing(self) -> None:
        messages = set()
        for get_video in BOTH:
            with pytest.raises(KlingError) as raised:
                get_video("task_1")
            assert type(raised.value) is KlingError
            messages.add(str(raised.value))
        assert len(messages) == 1
        assert "kling_default" in messages.pop()

    def test_one_that_is_wrong(self, connect: Connect) -> None:
        connect("https://user:pass@api.example.com", api="no-such-api")
        assert outcome(on_a_worker) == outcome(on_a_triggerer)
        with pytest.raises(KlingError, match=r"extra.api='no-such-api': must be one of gateway"):
            on_a_worker("task_1")

    @pytest.mark.parametrize("get_video", BOTH)
    def test_an_unknown_extra_is_reported(
        self,
        get_video: Callable[[str], Any],
        connect: Connect,
        task_log: TaskLog,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        connect(f"http://127.0.0.1:{free_port()}", conect_timeout=1)
        outcome(get_video)
        assert "extras that are not read: conect_timeout" in caplog.text

    @pytest.mark.parametrize("get_video", BOTH)
    def test_a_replaced_key_is_picked_up(
        self, get_video: Callable[[str], Any], sandbox: Sandbox, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(sandbox.base_url, sandbox.api_key)
        task_id = (
            KlingHook().submit_video({"model": "kling-v3-std-silent", "prompt": "A paper boat"}).kling_task_id
        )
        connect(sandbox.base_url, "sk-old")
        found = ConnectionBook.get_conn_value

        def rotate(self: ConnectionBook, conn_id: str, team_name: str | None = None) -> str | None:
            value = found(self, conn_id, team_name)
            connect(sandbox.base_url, sandbox.api_key)  # just after the first look
            return value

        monkeypatch.setattr(ConnectionBook, "get_conn_value", rotate)
        assert get_video(task_id).kling_task_id == task_id


async def get(task_id: str) -> Any:
    async with shared_client("kling_default") as client:
        return await client.get_video(task_id)


@pytest.mark.asyncio
async def test_a_triggerer_goes_on_with_the_last_connection_while_airflow_cannot_return_it(
    sandbox: Sandbox, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    connect(sandbox.base_url, sandbox.api_key)
    job = await asyncio.to_thread(
        lambda: KlingHook().submit_video({"model": "kling-v3-std-silent", "prompt": "A paper boat"})
    )
    await get(job.kling_task_id)
    BOOK.clear()  # the secrets backend is down, and the client of before is closed
    assert (await get(job.kling_task_id)).kling_task_id == job.kling_task_id
    assert "Going on with the connection as it was" in caplog.text


@pytest.mark.parametrize("method", ["run", "run_and_check", "run_with_advanced_retry"])
def test_what_http_hook_offers_is_refused_by_name(sandbox: Sandbox, connected: str, method: str) -> None:
    with pytest.raises(KlingError, match=r"Call submit_video, get_video or wait_for_video"):
        getattr(KlingHook(connected), method)("/v1/video/generations", data="{}")
    assert sandbox.requests["submit"] == 0
