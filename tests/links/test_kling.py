# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_kling.links.kling import KlingVideoLink
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS
from tests.task_context import TaskInstance, context, run

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 reads the link from its database")
has_page = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow before 3.1 has no such page")


def links_of(task: Any, ti: TaskInstance | None = None) -> dict[str, str]:
    """Return the links as Airflow computes them in the worker at every exit of a task."""
    return {link.name: link.get_link(task, ti_key=ti or TaskInstance()) for link in task.operator_extra_links}


def vendor_link_of(task: Any) -> str:
    """Return the link to the vendor: the only one before Airflow 3.1."""
    return links_of(task)["Video at the vendor" if AIRFLOW_V_3_1_PLUS else "Kling video"]


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
    url = f"{sandbox.base_url}/files/{ti.pushed['kling_task_id']}.mp4"
    assert vendor_link_of(task) == ti.pushed["video_url"] == url


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_opens_the_video_that_a_sensor_waited_for(sandbox: Sandbox, connected: str, deferrable: bool) -> None:
    video = run(operator())
    task = KlingTaskSensor(task_id="wait", kling_task_id=video["kling_task_id"], deferrable=deferrable)
    run(task)
    assert vendor_link_of(task) == video["video_url"]


def test_there_is_none_before_the_task_ran() -> None:
    assert vendor_link_of(operator()) == ""


def test_there_is_none_while_the_task_is_deferred(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "stuck"))
    task = operator()
    with pytest.raises(TaskDeferred):
        task.execute(context())
    assert vendor_link_of(task) == ""


def test_there_is_none_after_a_failure(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "error", status=401))
    task = operator()
    with pytest.raises(Exception, match="refused"):
        task.execute(context())
    assert vendor_link_of(task) == ""


@has_page
@pytest.mark.parametrize(
    ("ti", "path"),
    [
        (TaskInstance("video", "reel", "manual"), "dags/reel/runs/manual/tasks/video/plugin/kling"),
        (TaskInstance("video", "reel", "manual", 0), "dags/reel/runs/manual/tasks/video/mapped/0/plugin/kling"),
        (
            TaskInstance("shots.video", "reel", "manual__2026-11-26T10:00:00+00:00", 7),
            "dags/reel/runs/manual__2026-11-26T10%3A00%3A00%2B00%3A00/tasks/shots.video/mapped/7/plugin/kling",
        ),
    ],
)
def test_the_page_of_a_task_is_there_while_it_waits(
    sandbox: Sandbox, connected: str, ti: TaskInstance, path: str
) -> None:
    """Relative: Airflow's UI has a base, so it works under a path too."""
    task = operator()
    with pytest.raises(TaskDeferred):
        task.execute(context())
    assert links_of(task, ti)["Kling video"] == path


@has_page
def test_the_page_that_the_link_leads_to_is_a_tab_of_the_plugin() -> None:
    from airflow_provider_kling.videos_page.plugin import KlingVideosPlugin

    link = KlingVideoLink().get_link(operator(), ti_key=TaskInstance())  # type: ignore[arg-type]
    [view] = [view for view in KlingVideosPlugin.external_views if view["destination"] == "task_instance"]
    assert link.endswith(f"/plugin/{view['url_route']}")


@pytest.mark.skipif(AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 and later have the page")
def test_there_is_one_link_where_there_is_no_page() -> None:
    assert list(links_of(operator())) == ["Kling video"]
