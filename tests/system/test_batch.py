# SPDX-License-Identifier: Apache-2.0
"""A batch of which one prompt is refused, on a real Airflow: all other videos are waited for and stored."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.system.airflow_api import wait_for
from tests.system.airflow_cluster import AirflowCluster
from tests.system.video import look_into

DAG_ID = "example_kling_batch"
PROMPTS = ["A lighthouse in a storm.", "What the vendor refuses.", "A fox crosses a frozen lake."]


def test_one_refused_prompt_of_three_leaves_two_files(
    cluster: AirflowCluster, sandbox: Sandbox, tmp_path: Path
) -> None:
    api = cluster.api
    api.wait_for_dags({DAG_ID})
    sandbox.add_fault(Fault("submit", "refuse_content", match=PROMPTS[1], times=None))
    before = {job["id"] for job in sandbox.jobs()}
    run_id = api.trigger_dag(DAG_ID, {"prompts": PROMPTS, "folder": f"file://{tmp_path}/"})

    def states() -> list[str | None]:
        return [task["state"] for task in api.task_instances(DAG_ID, run_id, "generate")]

    try:
        wait_for(
            lambda: states() == ["deferred", "failed", "deferred"],
            "one prompt to be refused, and two videos to be waited for",
            timeout=180,
        )
        for job in sandbox.jobs():
            if job["id"] not in before:
                sandbox.finish(job["id"])
        # The run has failed, so that somebody looks at it.
        assert api.wait_for_run(DAG_ID, run_id) == "failed", api.report(DAG_ID, run_id)
    finally:
        sandbox.clear_faults()
    assert states() == ["success", "failed", "success"], api.report(DAG_ID, run_id)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["a-fox-crosses-a-frozen-lake-2.mp4", "a-lighthouse-in-a-storm-0.mp4"]
    assert all(abs(look_into(path).seconds - 3) < 0.1 for path in files)
