# SPDX-License-Identifier: Apache-2.0
"""
Upgrade Airflow while tasks of this provider wait, submit and poll.

``python -m tests.versions.upgrade OLD NEW FOLDER`` takes the interpreters of two environments. It starts the older
Airflow on a PostgreSQL, stops all of it, and goes on with the newer one on the same database. It prints what went
wrong, and exits with 1 then.
"""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_api import FINISHED_RUN
from tests.system.airflow_cluster import AirflowCluster
from tests.system.postgres import postgres
from tests.system.scenarios import assert_paid_once, assert_uncertain
from tests.system.scene import Scene, connect
from tests.versions.processes import CHECKOUT

DAGS = CHECKOUT / "tests" / "system" / "dags"
MANY = "paid_once_many"
IN_WORKER, LOST = "A video that a worker waits for.", "A video whose response is lost."
ROWS, DEFERRED = 6, 3
"""The rows of a mapped task, and how many of them get a slot before the upgrade."""
PATIENCE = 300.0
"""Seconds to wait for anything; far more than needed, for a busy machine."""


class Upgrade:
    """
    The runs that outlive an upgrade.

    :param sandbox: The server, on which a job goes on until it is told to end.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.scenes: dict[str, Scene] = {}
        self.rows = ""

    def before(self, cluster: AirflowCluster) -> None:
        """Start all runs, and return when each is where the upgrade finds it."""
        api = cluster.api
        self._name("before", cluster)
        connect(api, "kling_paid_once", self.sandbox)
        api.wait_for_dags({MANY, "paid_once", "paid_once_blocking"}, timeout=PATIENCE)
        self.scenes = {prompt: Scene(cluster, self.sandbox, prompt) for prompt in (IN_WORKER, LOST)}
        self.scenes[LOST].arrange(on="submit", kind="delay_after", seconds=600)
        self.scenes[LOST].play("paid_once")
        self.scenes[IN_WORKER].play("paid_once_blocking")
        for scene in self.scenes.values():
            # That is where this Airflow keeps it.
            scene.go_on(cluster, record="variable")
            scene.until_bought(1)
        self.scenes[IN_WORKER].until_recorded()
        self.rows = api.trigger_dag(MANY, {"prompt": "A row.", "count": ROWS})
        cluster.wait_for(lambda: self._are_deferred(cluster), "every row to be deferred", timeout=PATIENCE)
        phases = Counter(
            api.xcom(MANY, self.rows, "generate", "kling_progress", index)["phase"] for index in range(ROWS)
        )
        print(f"before the upgrade: {dict(phases)}", flush=True)
        assert phases["waiting_for_slot"] == ROWS - DEFERRED, phases

    def meanwhile(self) -> None:
        """End the job of a deferred task while no Airflow is there to see it."""
        self.sandbox.finish(next(entry["id"] for entry in self.sandbox.ledger() if self._is_row(entry["request"])))

    def after(self, cluster: AirflowCluster) -> None:
        """
        See all runs through to their ends.

        :raises AssertionError: unless every video was bought once, and every task succeeds.
        """
        api = cluster.api
        self._name("after", cluster)
        for scene in self.scenes.values():
            scene.go_on(cluster, record="state store")
        lost, in_worker = self.scenes[LOST], self.scenes[IN_WORKER]
        cluster.wait_for(lambda: self._is_undecided(lost), "the lost submit to need a person", timeout=PATIENCE)
        assert_uncertain(lost)
        lost.answer(*lost.bought())
        lost.clear()
        in_worker.until_logged(f"Joining Kling task {in_worker.bought()[0]}")
        cluster.wait_for(lambda: self._have_ended(cluster), "every run to end", timeout=PATIENCE, pause=1)
        for scene in self.scenes.values():
            scene.until("success")
            assert_paid_once(scene)
        tasks = api.task_instances(MANY, self.rows, "generate")
        states = Counter((task["state"], task["try_number"]) for task in tasks)
        assert states == {("success", 1): ROWS}, api.report(MANY, self.rows)
        bought = {entry["id"] for entry in self.sandbox.ledger() if self._is_row(entry["request"])}
        videos = {api.xcom(MANY, self.rows, "generate", map_index=index)["kling_task_id"] for index in range(ROWS)}
        assert videos == bought, (videos, bought)
        self._check_ledger()
        print(f"{len(self.sandbox.ledger())} videos, each bought once", flush=True)

    @staticmethod
    def _name(moment: str, cluster: AirflowCluster) -> None:
        print(f"{moment} the upgrade: Airflow {cluster.api.request('GET', 'version')['version']}", flush=True)

    @staticmethod
    def _is_row(request: dict[str, str]) -> bool:
        return request["prompt"].startswith("A row.")

    def _are_deferred(self, cluster: AirflowCluster) -> bool:
        tasks = cluster.api.task_instances(MANY, self.rows, "generate")
        return len(tasks) == ROWS and {task["state"] for task in tasks} == {"deferred"}

    def _is_undecided(self, scene: Scene) -> bool:
        self._check_ledger()
        return bool(scene.airflow.task_instance(*scene.key)["state"] == "failed")

    def _check_ledger(self) -> None:
        bought = Counter(entry["request"]["prompt"] for entry in self.sandbox.ledger())
        assert set(bought.values()) <= {1}, f"bought more than once: {bought}"

    def _have_ended(self, cluster: AirflowCluster) -> bool:
        self._check_ledger()
        for job in self.sandbox.jobs():
            self.sandbox.finish(job["id"])
        runs = [(MANY, self.rows), *(scene.key[:2] for scene in self.scenes.values())]
        return all(cluster.api.run(*run)["state"] in FINISHED_RUN for run in runs)


def main(old: Path, new: Path, folder: Path) -> None:
    """Run it."""
    environment = {
        "PYTHONPATH": str(CHECKOUT),
        # The workers are gone, and a database is all that is left of their tasks. A scheduler that was killed
        # counts as alive until its last heartbeat is old, and only then does the next one look after its tasks.
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
    }
    slots = DEFERRED + len((IN_WORKER, LOST))
    with Sandbox(run_seconds=3600, max_concurrent=slots) as sandbox, postgres() as database:
        airflow = partial(AirflowCluster, folder, DAGS, database=database, environment=environment)
        upgrade = Upgrade(sandbox)
        with airflow(python=old) as cluster:
            upgrade.before(cluster)
        upgrade.meanwhile()
        with airflow(python=new) as cluster:
            upgrade.after(cluster)


if __name__ == "__main__":
    main(*(Path(argument).absolute() for argument in sys.argv[1:]))
