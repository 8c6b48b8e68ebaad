# SPDX-License-Identifier: Apache-2.0
"""One run of any DAG on a real Airflow, whose videos are finished as soon as they are wanted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_api import FINISHED_RUN, AirflowApi, wait_for
from tests.system.airflow_cluster import AirflowCluster

PATIENCE = 600.0
"""Seconds; far more than needed, for a busy machine on which several runs play at once."""


@dataclass(frozen=True)
class Play:
    """
    One run of a DAG.

    :param prompts: parts of its prompts, by which its jobs are told from those of other runs; all jobs are its own
        if there are none.
    """

    dag_id: str
    run_id: str
    api: AirflowApi
    server: Sandbox
    prompts: tuple[str, ...] = ()

    @classmethod
    def start(cls, cluster: AirflowCluster, server: Sandbox, dag_id: str, **conf: Any) -> Play:
        cluster.api.wait_for_dags([dag_id])
        return cls(dag_id, cluster.api.trigger_dag(dag_id, conf), cluster.api, server)

    def with_jobs_of(self, *prompts: str) -> Play:
        """Return the same run, whose jobs are those of these prompts."""
        return replace(self, prompts=prompts)

    def bought(self) -> list[dict[str, Any]]:
        """Return what the server accepted, and bills, for this run; see ``Sandbox.ledger``."""
        return [
            entry
            for entry in self.server.ledger()
            if not self.prompts or any(prompt in json.dumps(entry["request"]) for prompt in self.prompts)
        ]

    def states(self, task_id: str) -> list[str | None]:
        return [task["state"] for task in self.api.task_instances(self.dag_id, self.run_id, task_id)]

    def until(self, reached: Callable[[], bool], what: str, *, finish_jobs: bool = True) -> None:
        """Return when that is reached; meanwhile every job of the run is finished, if wished."""

        def look() -> bool:
            if finish_jobs:
                own = {entry["id"] for entry in self.bought()}
                for job in self.server.jobs():
                    if job["id"] in own and job["state"] in ("queued", "running"):
                        self.server.finish(job["id"])
            return reached()

        try:
            wait_for(look, what, timeout=PATIENCE, pause=0.5)
        except TimeoutError as error:
            pytest.fail(f"{error}\n{self.api.report(self.dag_id, self.run_id)}")

    def end(self) -> str:
        """Let the run end; return its state."""
        self.until(lambda: self.api.run(self.dag_id, self.run_id)["state"] in FINISHED_RUN, "the run to end")
        return str(self.api.run(self.dag_id, self.run_id)["state"])

    def result(self, task_id: str, map_index: int = -1) -> Any:
        return self.api.xcom(self.dag_id, self.run_id, task_id, map_index=map_index)
