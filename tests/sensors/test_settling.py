# SPDX-License-Identifier: Apache-2.0
"""A rescheduled sensor begins anew at each poke, and must not count the same minute for ever."""

from __future__ import annotations

import pytest

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from tests.conftest import Connect
from tests.fixtures.responses import KEY
from tests.raw_server import RawServer, http_response
from tests.task_context import context


@pytest.mark.parametrize(
    ("status", "url"),
    [
        ('{"id":"task_1","status":"completed"}', "/v1/videos/task_1/content"),
        ('{"id":"task_1","status":"dreamt","progress":100,"video_url":"/a.mp4"}', "/a.mp4"),
    ],
)
def test_a_job_that_seems_finished_is_settled_in_one_poke(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, status: str, url: str
) -> None:
    monkeypatch.setattr(GatewayApi, "grace", Grace(60.0, 0.3, 0.3))
    sensor = KlingTaskSensor(
        task_id="wait", kling_task_id="task_1", poke_interval=0.1, timeout=20, deferrable=False, mode="reschedule"
    )
    with RawServer(http_response(status)) as server:
        connect(server.base_url, KEY)
        found = sensor.poke(context())
    assert found.xcom_value["video_url"].endswith(url)


def test_a_running_job_is_left_to_the_next_poke(connect: Connect) -> None:
    sensor = KlingTaskSensor(
        task_id="wait", kling_task_id="task_1", poke_interval=0.1, timeout=20, deferrable=False, mode="reschedule"
    )
    with RawServer(http_response('{"id":"task_1","status":"dreamt","progress":50}')) as server:
        connect(server.base_url, KEY)
        assert sensor.poke(context()) is False
    assert len(server.requests) == 1
