# SPDX-License-Identifier: Apache-2.0
"""
Every example DAG on a real Airflow, driven over REST, from the trigger to the file on disk.

Each runs against a gateway and against Kling's own platform; only the connection differs.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.api.request import REQUEST_FIELDS
from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_api import AirflowApi, wait_for
from tests.system.airflow_cluster import AirflowCluster
from tests.system.conftest import EXAMPLE_DAGS
from tests.system.examples import EXAMPLES, STAGED, VIDEOS, Example
from tests.system.scene import set_connection
from tests.system.video import VideoFacts, look_into


@dataclass
class Runs:
    """One run of every example, all at once, and how things stood while all of their videos were being made."""

    folder: Path
    run_ids: dict[str, str]
    api: AirflowApi
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pool: dict[str, Any] = field(default_factory=dict)
    unfinished_jobs: int = 0
    bought: int = 0

    def waiting(self) -> bool:
        """Tell whether every video's waiting task is deferred."""
        self.tasks = {
            dag_id: self.api.task_instances(dag_id, run_id, EXAMPLES[dag_id].waiting_task)
            for dag_id, run_id in self.run_ids.items()
        }
        states = [task["state"] for tasks in self.tasks.values() for task in tasks]
        return states.count("deferred") == VIDEOS

    def reports(self) -> str:
        return "\n".join(self.api.report(dag_id, run_id) for dag_id, run_id in self.run_ids.items())


@pytest.fixture(scope="module", params=["gateway", "official"])
def server(request: pytest.FixtureRequest, cluster: AirflowCluster, sandbox: Sandbox) -> Iterator[Sandbox]:
    """The server behind the connection of the examples: that of all tests, or Kling's own platform meanwhile."""
    if request.param == "gateway":
        yield sandbox
        return
    with Sandbox(api="official", run_seconds=3600) as platform:
        set_connection(cluster.api, "kling_default", json.loads(platform.connection_json))
        yield platform
    set_connection(cluster.api, "kling_default", json.loads(sandbox.connection_json))


@pytest.fixture(scope="module")
def runs(cluster: AirflowCluster, server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run all examples to their end, stopping to look while every video is still being made."""
    folder = tmp_path_factory.mktemp("videos")
    cluster.api.wait_for_dags(EXAMPLES.keys())
    # Other tests of this server have bought as well.
    before = len(server.ledger())
    run_ids = {
        dag_id: cluster.api.trigger_dag(dag_id, {"folder": f"file://{folder}/{dag_id}/"}) for dag_id in EXAMPLES
    }
    runs = Runs(folder, run_ids, cluster.api)
    try:
        wait_for(runs.waiting, "every video to be waited for", timeout=180)
        wait_for(lambda: not cluster.busy_workers(), "every worker process to be idle", timeout=30)
    except TimeoutError as error:
        pytest.fail(f"{error}\n{runs.reports()}")
    runs.pool = cluster.api.pool()
    runs.unfinished_jobs = sum(job["state"] != "completed" for job in server.jobs())
    for job in server.jobs():
        server.finish(job["id"])
    for dag_id, run_id in run_ids.items():
        cluster.api.wait_for_run(dag_id, run_id)
    runs.bought = len(server.ledger()) - before
    return runs


def test_no_worker_is_held_while_the_videos_are_made(runs: Runs) -> None:
    assert runs.unfinished_jobs == VIDEOS
    assert runs.pool["deferred_slots"] == VIDEOS
    assert runs.pool["running_slots"] == 0


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_the_run_succeeds(runs: Runs, dag_id: str) -> None:
    run_id = runs.run_ids[dag_id]
    assert runs.api.run(dag_id, run_id)["state"] == "success", runs.api.report(dag_id, run_id)


@pytest.mark.parametrize(("dag_id", "example"), EXAMPLES.items())
def test_every_video_is_a_file_of_its_own_name(runs: Runs, dag_id: str, example: Example) -> None:
    waited = runs.api.task_instances(dag_id, runs.run_ids[dag_id], example.waiting_task)
    videos = [
        runs.api.xcom(dag_id, runs.run_ids[dag_id], example.waiting_task, map_index=task["map_index"])
        for task in waited
    ]
    found = sorted(path.name for path in (runs.folder / dag_id).iterdir())
    named = [
        (video["path"] or f"{video['kling_task_id']}.mp4").rpartition("/")[2]  # or stored by the task after it
        for video in videos
    ]
    assert found == sorted(named)
    assert len(found) == example.count


@pytest.mark.parametrize(("dag_id", "example"), EXAMPLES.items())
def test_every_file_plays_as_asked_for(runs: Runs, dag_id: str, example: Example) -> None:
    for path in (runs.folder / dag_id).iterdir():
        facts = look_into(path)
        assert facts.seconds == pytest.approx(example.video.seconds, abs=0.1)
        assert facts == VideoFacts(**{**vars(example.video), "seconds": facts.seconds})


def test_nothing_is_paid_twice(runs: Runs) -> None:
    assert runs.run_ids.keys() == EXAMPLES.keys()
    assert runs.bought == VIDEOS


def test_the_examples_show_every_parameter_of_the_api() -> None:
    shown = {
        keyword.arg
        for path in EXAMPLE_DAGS.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
    }
    assert set(REQUEST_FIELDS) - {"extra_body"} <= shown


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLE_DAGS.glob("*.py")} == EXAMPLES.keys() | STAGED
