# SPDX-License-Identifier: Apache-2.0
"""A sensor's times may be another machine's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from tests.fixtures.requests import submit
from tests.task_context import context


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1)], ids=["ahead", "behind"])
def test_the_timeout_of_a_rescheduled_sensor_is_no_longer_than_meant(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    first = datetime.now(tz=UTC) + ahead
    monkeypatch.setattr("airflow_provider_kling.sensors.kling.first_reschedule_date", lambda context: first)
    kling_task_id = submit(sandbox, Fault("submit", "stuck"))
    waiting = KlingTaskSensor(
        task_id="wait", kling_task_id=kling_task_id, deferrable=False, mode="reschedule", timeout=7200
    )
    now = time.time()
    assert waiting.poke(context()) is False
    assert waiting._lasting_poller.deadline <= now + 7200 + 5
    assert waiting._lasting_poller.started_at <= now + 5
