# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_kling.links.kling import KlingVideoLink
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS
from tests.task_context import TaskInstance, context, run

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 reads the link from its database")


def link_of(task: Any) -> str:
    """Return the link as Airflow computes it in the worker at every exit of a task."""
    [link] = task.operator_extra_links
    assert isinstance(link, KlingVideoLink)
    return link.get_link(task, ti_key=cast("Any", None))


def operator(**arguments: Any) -> KlingGenerateOperator:
    return KlingGenerateOperator(
        task_id="video",
        model="kling-v3-std-silent",
        prompt="A traveler",
        wait_for_completion=True,
        poll_interval=0.1,
        **arguments,
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_opens_the_video_that_an_operator_waited_for(
    sandbox: Sandbox, connected: str, deferrable: bool
) -> None:
    task, ti = operator(deferrable=deferrable), TaskInstance()
    run(task, ti)
    assert link_of(task) == ti.pushed["video_url"] == f"{sandbox.base_url}/files/{ti.pushed['kling_task_id']}.mp4"


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_opens_the_video_that_a_sensor_waited_for(sandbox: Sandbox, connected: str, deferrable: bool) -> None:
    video = run(operator())
    task = KlingTaskSensor(task_id="wait", kling_task_id=video["kling_task_id"], deferrable=deferrable)
    run(task)
    assert link_of(task) == video["video_url"]


def test_there_is_none_before_the_task_ran() -> None:
    assert link_of(operator()) == ""


def test_there_is_none_while_the_task_is_deferred(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "stuck"))
    task = operator()
    with pytest.raises(TaskDeferred):
        task.execute(context())
    assert link_of(task) == ""


def test_there_is_none_after_a_failure(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "error", status=401))
    task = operator()
    with pytest.raises(Exception, match="refused"):
        task.execute(context())
    assert link_of(task) == ""
