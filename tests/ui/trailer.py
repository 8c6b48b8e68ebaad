# SPDX-License-Identifier: Apache-2.0
"""A run of the DAG ``trailer`` with a video in each state that a card can show, and none that costs much time."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_kling.sandbox import Fault
from tests.system.airflow_api import FINISHED_TASK
from tests.ui.airflows import Airflow

DAG_ID, TASK_ID = "trailer", "generate"
PROMPTS = (
    "A paper boat drifts down a rainy street, seen from a low camera.",
    "Lanterns rise over a quiet mountain village at dusk.",
    "A crowd storms the gates of a castle, swords drawn.",
    "A red balloon drifts over the roofs of Lisbon.",
    "Rain on the window of a night train, city lights outside.",
    "An old lighthouse in a storm, waves break over the rocks.",
    "A tram climbs a steep street in the evening sun.",
    "A fox crosses a snowy field, its breath white in the cold.",
)
MADE, MAKING, FAILED, *UNCERTAIN, WAITING = range(len(PROMPTS))
"""The map index of each state."""
FOUND, *MISSING, OPEN = UNCERTAIN
"""What a person finds out of the uncertain ones; the last stays uncertain."""
REASON = "The prompt was rejected by the content review: violence."
RUN_SECONDS = 300
"""Seconds for which the progress of the video that is being made rises; it never ends."""
PATIENCE = 180.0


@dataclass(frozen=True)
class Trailer:
    """A run of ``trailer`` on an Airflow."""

    airflow: Airflow
    run_id: str

    @classmethod
    def start(cls, airflow: Airflow) -> Trailer:
        """Start a run, and let the server make its trouble."""
        for index in UNCERTAIN:
            airflow.sandbox.add_fault(Fault("submit", "drop_after", match=PROMPTS[index]))
        airflow.sandbox.add_fault(Fault("submit", "job_fails", match=PROMPTS[FAILED], message=REASON))
        airflow.sandbox.add_fault(Fault("submit", "pace", match=PROMPTS[MAKING], seconds=RUN_SECONDS))
        airflow.sandbox.add_fault(Fault("submit", "stuck", match=PROMPTS[MAKING]))
        airflow.sandbox.add_fault(Fault("submit", "rate_limit", times=None, match=PROMPTS[WAITING]))
        return cls(airflow, airflow.trigger(DAG_ID, prompts=list(PROMPTS)))

    def until_settled(self) -> None:
        """Return when each video has come to its state."""
        for index in (MADE, FAILED):
            self.airflow.sandbox.finish(self.job_of(index))
        for index in (MADE, FAILED, *UNCERTAIN):
            self.airflow.api.wait_for_task(*self.key, map_index=index, states=FINISHED_TASK, timeout=PATIENCE)

    @property
    def key(self) -> tuple[str, str, str]:
        return DAG_ID, self.run_id, TASK_ID

    def job_of(self, index: int) -> str:
        """Return the id of a prompt's job, as soon as there is one."""
        [found] = self.airflow.cluster.wait_for(
            lambda: self.jobs_of(index), f"a job for {PROMPTS[index]!r}", timeout=PATIENCE
        )
        return found

    def jobs_of(self, index: int) -> list[str]:
        """Return the ids of a prompt's jobs."""
        return [
            entry["id"]
            for entry in self.airflow.sandbox.ledger()
            if entry["request"]["prompt"] == PROMPTS[index] and entry["request"]["model"]
        ]

    def state_of(self, index: int) -> str:
        return str(self.airflow.api.task_instance(*self.key, index)["state"])

    def xcoms_of(self, index: int) -> dict[str, object]:
        """Return all XComs of a task instance."""
        path = f"dags/{DAG_ID}/dagRuns/{self.run_id}/taskInstances/{TASK_ID}/xcomEntries"
        entries = self.airflow.api.request("GET", path, params={"map_index": index, "limit": 100})["xcom_entries"]
        return {
            entry["key"]: self.airflow.api.xcom(*self.key, key=entry["key"], map_index=index) for entry in entries
        }
