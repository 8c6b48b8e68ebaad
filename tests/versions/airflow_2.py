# SPDX-License-Identifier: Apache-2.0
"""
Run DAGs on an Airflow 2, by ``dag.test()`` and a real triggerer.

On SQLite its scheduler takes five seconds and more for each task; this takes its place, in this process.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from airflow.models.dag import _triggerer_is_healthy
from airflow.models.dagbag import DagBag
from airflow.models.variable import Variable
from airflow.serialization.serialized_objects import SerializedDAG
from airflow.utils.session import create_session

from airflow_provider_kling.links.kling import KlingVideoLink
from airflow_provider_kling.sandbox import Sandbox
from airflow_provider_kling.tasks import waiting
from tests.system.airflow_api import wait_for
from tests.versions.processes import Processes
from tests.versions.runs import DAG_FOLDERS, DAG_IDS, RETRIED, TEST_RUN, Outcome, Report, Task, params_of

RUN_SECONDS = 2
"""A job ends by itself, since nobody can end it while ``dag.test()`` goes on."""
PATIENCE = 120.0
"""Seconds to wait for the triggerer; far more than needed, for a busy machine."""


def run_dags(sandbox: Sandbox, videos: Path, records: Collection[str], report: Report) -> Outcome:
    """
    Run every DAG to its end, and return what came of it.

    :raises ValueError: if a DAG file cannot be parsed.
    """
    os.environ["AIRFLOW_CONN_KLING_DEFAULT"] = sandbox.connection_json
    home = Path(os.environ["AIRFLOW_HOME"])
    # No scheduler can be late here.
    waiting.shortest_deferral = lambda **_: 1.0
    airflow = [sys.executable, "-m", "airflow"]
    with Processes() as processes:
        if processes.run([*airflow, "db", "migrate"], os.environ, home / "migrate.log"):
            raise RuntimeError((home / "migrate.log").read_text())
        dags = parse()
        processes.start([*airflow, "triggerer", "--skip-serve-logs"], os.environ, home / "triggerer.log")
        wait_for(_triggerer_is_healthy, "the triggerer to be healthy", timeout=PATIENCE)
        logged = Logged()
        logging.getLogger("airflow.task").addHandler(logged)
        tasks = [task for dag_id in DAG_IDS for task in run(dags[dag_id], params_of(dag_id, videos))]
        with create_session() as session:
            keys = {key for (key,) in session.query(Variable.key) if key.startswith("kling_record_")}
        return Outcome(tasks=tasks, records=None, records_left=keys, test_runs=logged.test_runs)


class Logged(logging.Handler):
    """Note the retried DAGs whose tasks say that this is a test run."""

    def __init__(self) -> None:
        super().__init__()
        self.test_runs: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if TEST_RUN in record.getMessage():
            self.test_runs |= {os.environ.get("AIRFLOW_CTX_DAG_ID", "")} & RETRIED.keys()


def parse() -> dict[str, Any]:
    dags: dict[str, Any] = {}
    for folder in DAG_FOLDERS:
        bag = DagBag(folder, include_examples=False)
        if bag.import_errors:
            raise ValueError("\n".join(bag.import_errors.values()))
        dags.update(bag.dags)
    return dags


def run(dag: Any, params: dict[str, str]) -> list[Task]:
    """Run a DAG, and return how its tasks ended, with the links as the webserver makes them."""
    tasks = dag.test(run_conf=params).get_task_instances()
    known = SerializedDAG.deserialize_dag(SerializedDAG.serialize_dag(dag))
    return [
        Task(
            dag.dag_id,
            ti.task_id,
            ti.map_index,
            ti.state,
            ti.try_number,
            known.get_task(ti.task_id).get_extra_links(ti, KlingVideoLink.name),
        )
        for ti in tasks
    ]
