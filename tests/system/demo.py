# SPDX-License-Identifier: Apache-2.0
"""``make demo``: one video, from a prompt to a file, by a DAG on a real Airflow against the sandbox."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_api import FINISHED_RUN, AirflowApi
from tests.system.airflow_cluster import AirflowCluster
from tests.system.video import look_into

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / ".build" / "demo"
DAG_ID = "example_kling_text_to_video"
PAUSE = 0.3
"""Seconds between two looks."""
MEANING = {
    ("generate", "running"): "a worker is at it",
    ("generate", "deferred"): "no worker is held; the triggerer waits for the video",
    ("generate", "success"): "the video is finished",
    ("store", "running"): "a worker downloads it",
    ("store", "success"): "the file is complete",
}


class Progress:
    """Print what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seen: dict[str, str] = {}

    def say(self, who: str, what: str) -> None:
        print(f"{time.monotonic() - self._start:6.1f} s  {who:<9} {what}", flush=True)

    def show(self, who: str, state: str, meaning: str) -> None:
        """Print a state if it is a new one."""
        if self._seen.get(who) != state:
            self._seen[who] = state
            self.say(who, f"{state:<10} {meaning}".rstrip())


def follow(airflow: AirflowApi, sandbox: Sandbox, run_id: str, progress: Progress) -> str:
    """Show a run until it ends, and return its state."""
    while True:
        state = str(airflow.run(DAG_ID, run_id)["state"])
        for task in airflow.task_instances(DAG_ID, run_id):
            if task["state"] not in {None, "scheduled", "queued"}:
                meaning = MEANING.get((task["task_id"], task["state"]), "")
                progress.show(task["task_id"], task["state"], meaning)
        for job in sandbox.jobs():
            progress.show("sandbox", job["state"], f"video {job['id']}")
        if state in FINISHED_RUN:
            return state
        time.sleep(PAUSE)


def main() -> int:
    """Run the demo and return the exit code."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    videos = FOLDER / "videos"
    progress = Progress()
    with Sandbox(queue_seconds=2, run_seconds=8) as sandbox:
        progress.say("sandbox", f"a Kling that costs nothing, at {sandbox.base_url}")
        progress.say("airflow", "starting: API server, scheduler, DAG processor, triggerer")
        with AirflowCluster(
            FOLDER / "airflow",
            CHECKOUT / "example_dags",
            connections={"kling_default": sandbox.connection_json},
        ) as cluster:
            progress.say("airflow", "ready")
            cluster.api.wait_for_dags({DAG_ID})
            run_id = cluster.api.trigger_dag(DAG_ID, {"folder": f"file://{videos}/"})
            progress.say("airflow", f"running the DAG {DAG_ID}")
            state = follow(cluster.api, sandbox, run_id, progress)
            if state != "success":
                print(cluster.api.report(DAG_ID, run_id), file=sys.stderr)
                return 1
            progress.say("airflow", "the run has succeeded; stopping")
    for path in videos.iterdir():
        print(f"\n{path}\n{look_into(path)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
