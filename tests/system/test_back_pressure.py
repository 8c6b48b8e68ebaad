# SPDX-License-Identifier: Apache-2.0
"""Many prompts against an account with few slots: every video is made, by nothing but deferring."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_cluster import AirflowCluster

DAG_ID = "back_pressure"


@pytest.mark.parametrize(
    ("count", "slots", "run_seconds", "timeout"),
    [(30, 3, 4, 400), pytest.param(300, 5, 5, 3600, marks=pytest.mark.slow)],
)
def test_every_video_is_made(
    cluster: AirflowCluster, count: int, slots: int, run_seconds: float, timeout: float
) -> None:
    airflow = cluster.api
    with Sandbox(max_concurrent=slots, run_seconds=run_seconds) as sandbox:
        airflow.set_connection(
            {
                "connection_id": "kling_few_slots",
                "conn_type": "kling",
                "host": sandbox.base_url,
                "password": sandbox.api_key,
            }
        )
        airflow.wait_for_dags({DAG_ID})
        started = time.monotonic()
        run_id = airflow.trigger_dag(DAG_ID, {"count": count})
        state = airflow.wait_for_run(DAG_ID, run_id, timeout=timeout)
        seconds = time.monotonic() - started
        requests = sandbox.requests
        bought = {entry["id"]: entry["request"]["prompt"] for entry in sandbox.ledger()}

    refused = requests["submit"] - requests["accepted"]
    print(
        f"{count} videos of {run_seconds} s on {slots} slots: {seconds:.0f} s (the vendor alone: "
        f"{count * run_seconds / slots:.0f} s), {refused} submits refused, {requests['status']} status requests"
    )
    tasks = airflow.task_instances(DAG_ID, run_id, "generate")
    assert Counter((task["state"], task["try_number"]) for task in tasks) == {("success", 1): count}
    assert state == "success", airflow.report(DAG_ID, run_id)
    assert len(set(bought.values())) == len(bought) == count
    videos = {airflow.xcom(DAG_ID, run_id, "generate", map_index=index)["kling_task_id"] for index in range(count)}
    assert videos == bought.keys()
