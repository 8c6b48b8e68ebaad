# SPDX-License-Identifier: Apache-2.0
"""The progress of a mapped video that waits, as Airflow's REST API shows it."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import requests

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_cluster import AirflowCluster
from tests.system.scene import set_connection

DAG_ID = "progress"
RUN_SECONDS = 90.0


def test_the_progress_of_a_waiting_video_changes(cluster: AirflowCluster) -> None:
    airflow = cluster.api
    # One slot: the second video waits for it.
    with Sandbox(max_concurrent=1, queue_seconds=8, run_seconds=RUN_SECONDS) as sandbox:
        set_connection(
            airflow,
            "kling_few_slots",
            {"conn_type": "kling", "host": sandbox.base_url, "password": sandbox.api_key},
        )
        airflow.wait_for_dags({DAG_ID})
        run_id = airflow.trigger_dag(DAG_ID)
        seen: dict[int, list[dict[str, Any]]] = {0: [], 1: []}

        def changed() -> bool:
            for index, values in seen.items():
                with suppress(requests.HTTPError):  # nothing is written yet
                    value = airflow.xcom(DAG_ID, run_id, "generate", key="kling_progress", map_index=index)
                    if value not in values:
                        values.append(value)
            return any(len({value["percent"] for value in values}) > 3 for values in seen.values())

        try:
            cluster.wait_for(changed, "the progress to change", timeout=150, pause=1.0)
        except TimeoutError as error:
            raise AssertionError(f"{error}: {seen}\n{airflow.report(DAG_ID, run_id)}") from error
        made = next(index for index, values in seen.items() if any(value["percent"] for value in values))
        waits = seen[1 - made]
        for entry in sandbox.ledger():
            sandbox.finish(entry["id"])
        cluster.wait_for(lambda: len(sandbox.ledger()) == 2, "the second submit", timeout=240, pause=1.0)
        for entry in sandbox.ledger():
            sandbox.finish(entry["id"])
        assert airflow.wait_for_run(DAG_ID, run_id, timeout=240) == "success", airflow.report(DAG_ID, run_id)
        last = airflow.xcom(DAG_ID, run_id, "generate", key="kling_progress", map_index=made)

    phases = [value["phase"] for value in seen[made]]
    assert phases[-1] == "in_progress"
    percents = [value["percent"] for value in seen[made] if value["percent"] is not None]
    assert percents == sorted(percents)
    moments = [value["seen_at"] for value in seen[made] if value["phase"] == "in_progress"]
    assert all(later - earlier >= 8 for earlier, later in pairwise(moments))
    assert {value["phase"] for value in waits} == {"waiting_for_slot"}
    assert waits[0]["submitted_at"] is None
    # What was seen last stays, although the resumed task ran on a worker after it.
    assert last["phase"] == "in_progress"
    assert last["submitted_at"] <= last["making_since"] <= last["seen_at"]
