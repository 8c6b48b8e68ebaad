# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

import pytest

from airflow_provider_kling.sensors.kling import KlingTaskSensor
from tests.conftest import TaskLog
from tests.task_context import context


@pytest.mark.parametrize(("minutes", "is_soon"), [(30, True), (-5, True), (90, False), (None, False)])
def test_a_link_that_expires_within_the_hour_is_a_warning(
    minutes: int | None, is_soon: bool, task_log: TaskLog
) -> None:
    query = "" if minutes is None else f"?Expires={int(time.time() + 60 * minutes)}&Signature=abc&Key-Pair-Id=K"
    video = {"kling_task_id": "task_1", "video_url": f"https://cdn.example.com/a.mp4{query}"}
    sensor = KlingTaskSensor(task_id="wait", kling_task_id="task_1")
    sensor.execute_complete(context(), {"status": "success", "video": video})
    assert ("The link to the video of Kling task task_1 expires at 20" in task_log.text) is is_soon
