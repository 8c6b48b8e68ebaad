# SPDX-License-Identifier: Apache-2.0
"""The trigger, where a submit gave two ids, and where a completed job has no URL."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.triggers.kling import KlingTaskTrigger
from tests.conftest import Connect
from tests.fixtures.responses import KEY
from tests.fixtures.triggers import event_of, trigger_for
from tests.raw_server import RawServer, Request, http_response

URL = "https://cdn.example.com/1.mp4"


def knowing(**jobs: Any) -> Any:
    """A server that knows these jobs."""

    def handle(connection: socket.socket, request: Request) -> None:
        task_id = request.path.rpartition("/")[2]
        missing = http_response('{"code":"task_not_exist","message":"no"}', 400)
        connection.sendall(
            http_response(json.dumps({"id": task_id, **jobs[task_id]})) if task_id in jobs else missing
        )

    return handle


@pytest.mark.asyncio
async def test_the_other_id_is_asked_with(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    # What has ended under the other id counts once the server had the time to store the first.
    monkeypatch.setattr(GatewayApi, "grace", Grace(0.0, 0.0))
    with RawServer(knowing(row_1={"status": "completed", "video_url": URL})) as server:
        connect(server.base_url, KEY)
        event = await event_of(trigger_for("task_1", other_id="row_1"))
    assert (event["status"], event["kling_task_id"]) == ("success", "row_1")


@pytest.mark.asyncio
async def test_if_the_server_knows_neither_the_first_is_reported(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GatewayApi, "grace", Grace(0.0, 0.0))
    with RawServer(knowing()) as server:
        connect(server.base_url, KEY)
        event = await event_of(trigger_for("task_1", other_id="row_1"))
    assert (event["error"]["type"], event["kling_task_id"]) == ("KlingNotFoundError", "task_1")
    assert len(server.requests) == 2


@pytest.mark.asyncio
async def test_the_content_is_named_and_not_fetched(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatewayApi, "grace", Grace(60.0, 0.2))
    with RawServer(knowing(task_1={"status": "completed"})) as server:
        connect(f"{server.base_url}/kling/v1", KEY)
        event = await event_of(trigger_for("task_1"))
    assert event["video"]["video_url"] == f"{server.base_url}/kling/v1/videos/task_1/content"
    assert {request.path for request in server.requests} == {"/kling/v1/videos/task_1"}


def test_a_trigger_of_before_has_no_other_id() -> None:
    _, arguments = trigger_for("task_1").serialize()
    del arguments["other_id"]
    again = KlingTaskTrigger(**arguments)
    assert again.other_id is None
    assert json.loads(json.dumps(again.serialize()[1]))["deadline"] > time.time()
