# SPDX-License-Identifier: Apache-2.0
"""Worker processes started, and worker-seconds held, for each finished video on a real Airflow.

A whole Airflow (LocalExecutor) runs each DAG of ``dags/worker_cost.py`` against the sandbox, whose videos take a
minute. The runs are started one by one, each time in another order, so that few processes start at the same time.
What a task costs is what Airflow's own supervisor logs: one line for each process that ran a task, with the seconds
that it held a worker.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from airflow_provider_kling.sandbox import Sandbox
from tests.benchmarks.report import table
from tests.system.airflow_cluster import AirflowCluster
from tests.system.worker_log import worker_runs

VIDEO_SECONDS = 60.0
RUNS = 4
PAUSE = 8.0
"""Seconds between the starts of two runs; no video that is finished falls together with a start."""
DAGS = {
    "python_loop": "PythonOperator, a loop",
    "http_poke": "HttpOperator + HttpSensor, mode poke",
    "http_reschedule": "HttpOperator + HttpSensor, mode reschedule",
    "operator_and_sensor": "KlingGenerateOperator + KlingTaskSensor",
    "sensor_starts_from_trigger": "... with start_from_trigger",
    "operator_waits": "KlingGenerateOperator that waits",
}


def main() -> None:
    """Run all DAGs and print their table."""
    connection_of_http = {"conn_type": "http", "extra": {"Authorization": "Bearer sk-sandbox"}}
    with tempfile.TemporaryDirectory() as name, Sandbox(run_seconds=VIDEO_SECONDS) as sandbox:
        connections = {
            "kling_default": sandbox.connection_json,
            "kling_http": json.dumps({**connection_of_http, "host": sandbox.base_url}),
        }
        folder = Path(__file__).parent / "dags"
        with AirflowCluster(Path(name), folder, connections=connections, parallelism=3 * RUNS + 2) as cluster:
            cluster.api.wait_for_dags(DAGS)
            in_turn = [[*DAGS][first:] + [*DAGS][:first] for first in range(RUNS)]
            runs = [(dag_id, _start(cluster, dag_id)) for dag_ids in in_turn for dag_id in dag_ids]
            for dag_id, run_id in runs:
                if cluster.api.wait_for_run(dag_id, run_id) != "success":
                    raise RuntimeError(cluster.api.report(dag_id, run_id))
            # The supervisor's last lines come after the state.
            time.sleep(5)
            runs_of = worker_runs(cluster.log_path("scheduler"))
            found: dict[str, list[list[float]]] = defaultdict(list)
            for dag_id, run_id in runs:
                tasks = cluster.api.task_instances(dag_id, run_id)
                found[dag_id].append([run.seconds for task in tasks for run in runs_of[task["id"]]])
    least = _seconds(found["operator_waits"])
    rows = [
        (
            label,
            f"{sum(map(len, found[dag_id])) / RUNS:.1f}",
            f"{_seconds(found[dag_id]):.1f} s",
            f"{_seconds(found[dag_id]) / least:.1f} x",
        )
        for dag_id, label in DAGS.items()
    ]
    print(f"Per finished video, mean of {RUNS}; each video takes {VIDEO_SECONDS:g} s\n")
    print(table(("", "worker processes", "worker-seconds", "to ours"), rows))


def _start(cluster: AirflowCluster, dag_id: str) -> str:
    time.sleep(PAUSE)
    return cluster.api.trigger_dag(dag_id)


def _seconds(runs: list[list[float]]) -> float:
    return sum(map(sum, runs)) / len(runs)


if __name__ == "__main__":
    main()
