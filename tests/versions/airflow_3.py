# SPDX-License-Identifier: Apache-2.0
"""Run DAGs on a whole Airflow 3: API server, scheduler, DAG processor and triggerer."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from airflow_provider_kling.links.kling import LINKS
from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_api import FINISHED_RUN, FINISHED_TASK, AirflowApi, wait_for
from tests.system.airflow_cluster import AirflowCluster, dag_bundles
from tests.system.conftest import TEST_DAGS
from tests.versions.paid_once import CONNECTION, play_paid_once, records_left
from tests.versions.runs import (
    CHECKOUT,
    DAG_FOLDERS,
    DAG_IDS,
    RETRIED,
    TEST_RUN,
    Outcome,
    Report,
    Task,
    params_of,
    videos_of,
    waiting_task,
)

RUN_SECONDS = 3600
"""A job goes on until it is told to end, so that nothing depends on how fast a machine is."""
PATIENCE = 300.0
"""Seconds to wait for anything; far more than needed, for a busy machine."""


def run_dags(sandbox: Sandbox, videos: Path, records: Collection[str], report: Report) -> Outcome:
    """
    Run every DAG to its end, then play ``paid_once`` with these records, and return what came of the DAGs.

    :raises ValueError: if a DAG file cannot be parsed.
    """
    environment = {
        **dag_bundles(*DAG_FOLDERS, TEST_DAGS),
        # Airflow 3.0 has four of them unless told otherwise.
        "AIRFLOW__API__WORKERS": "1",
        # How a task is found out that was cleared while it ran, before 3.2.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "PYTHONPATH": str(CHECKOUT),
        **{name: value for name, value in os.environ.items() if name == CONNECTION},
    }
    connections = {"kling_default": sandbox.connection_json}
    home = Path(os.environ["AIRFLOW_HOME"])
    with AirflowCluster(home, DAG_FOLDERS[0], connections=connections, environment=environment) as cluster:
        api = cluster.api
        api.wait_for_dags(DAG_IDS, timeout=PATIENCE)
        runs = {dag_id: api.trigger_dag(dag_id, params_of(dag_id, videos)) for dag_id in DAG_IDS}
        wait_for(lambda: all_wait(api, runs), "every video to be waited for", timeout=PATIENCE, pause=1)
        # Airflow before 3.3.2 fails a task that is resumed before its executor has noted that it deferred.
        wait_for(lambda: not cluster.busy_workers(), "every worker process to be idle", timeout=PATIENCE)
        kept = api.variables("kling_record_")
        for job in sandbox.jobs():
            sandbox.finish(job["id"])
        for dag_id, run_id in runs.items():
            if api.wait_for_run(dag_id, run_id, timeout=PATIENCE) != "success":
                print(api.report(dag_id, run_id))
        outcome = Outcome(
            tasks=[task for dag_id, run_id in runs.items() for task in tasks_of(api, dag_id, run_id)],
            records=kept,
            records_left=records_left(api),
            test_runs={dag_id for dag_id in RETRIED if TEST_RUN in log_of(api, dag_id, runs[dag_id])},
        )
        if records:
            with report.column("paid once"):
                play_paid_once(cluster, records)
        return outcome


def log_of(api: AirflowApi, dag_id: str, run_id: str) -> str:
    return "\n".join(api.task_log(dag_id, run_id, "generate", try_number=number) for number in (1, 2))


def all_wait(api: AirflowApi, runs: dict[str, str]) -> bool:
    """Tell whether nothing goes on any more until the videos are finished."""
    return all(
        is_settled(api, dag_id, run_id) or api.run(dag_id, run_id)["state"] in FINISHED_RUN
        for dag_id, run_id in runs.items()
    )


def is_settled(api: AirflowApi, dag_id: str, run_id: str) -> bool:
    waiting = api.task_instances(dag_id, run_id, waiting_task(dag_id))
    states = {task["state"] for task in waiting}
    return len(waiting) == videos_of(dag_id) and states <= {"deferred", *FINISHED_TASK}


def tasks_of(api: AirflowApi, dag_id: str, run_id: str) -> list[Task]:
    """Return how the tasks of a run ended, with the links that the UI shows: the last one leads to the vendor."""
    return [
        Task(
            dag_id,
            task["task_id"],
            task["map_index"],
            task["state"],
            task["try_number"],
            api.links(dag_id, run_id, task["task_id"], map_index=task["map_index"]).get(LINKS[-1].name),
        )
        for task in api.task_instances(dag_id, run_id)
    ]
