# SPDX-License-Identifier: Apache-2.0
"""One run of a DAG that buys one video, and what the server's ledger knows of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psutil
import requests

from airflow_provider_kling.records import RECORD_KEY
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.system.airflow_api import FINISHED_TASK, AirflowApi, wait_for

TASK_ID = "generate"
PATIENCE = 300.0
"""Seconds to wait for a state; far more than needed, for a busy machine."""
PAUSE = 2.0
"""Seconds between two looks: dozens of scenes look at the same time."""


class Scene:
    """
    A run of a DAG whose task ``generate`` buys one video.

    :param airflow: the Airflow to run it.
    :param sandbox: the server that the task's connection leads to, and the witness.
    :param prompt: the prompt; part of no other scene's.
    """

    def __init__(self, airflow: AirflowApi, sandbox: Sandbox, prompt: str) -> None:
        self.airflow = airflow
        self.sandbox = sandbox
        self.prompt = prompt
        self.key = ("", "", "")
        self._first_attempt = 1

    def arrange(self, **fault: Any) -> None:
        """Let the server make trouble for this scene's prompt; see ``Fault``."""
        self.sandbox.add_fault(Fault(match=self.prompt, **fault))

    def play(self, dag_id: str, **conf: Any) -> None:
        """Start the run, with these params."""
        self.key = (dag_id, self.airflow.trigger_dag(dag_id, {"prompt": self.prompt, **conf}), TASK_ID)

    def kill(self, *, supervisor: bool) -> None:
        """Kill the process that runs the task, and before it, if wished, the one that would report that."""
        process = psutil.Process(self.airflow.task_instance(*self.key)["pid"])
        supervising = process.parent()
        if supervisor and supervising is not None:
            supervising.kill()
        # Without its supervisor it may have ended by itself.
        with suppress(psutil.NoSuchProcess):
            process.kill()

    def bought(self) -> list[str]:
        """Return the ids of the jobs that the server accepted, and bills, for this scene's prompt."""
        return [entry["id"] for entry in self.sandbox.ledger() if self.prompt in entry["request"]["prompt"]]

    def finish_jobs(self) -> None:
        """Let the server finish what it was asked for."""
        for task_id in self.bought():
            self.sandbox.finish(task_id)

    def until(self, state: str) -> None:
        """
        Return when the task is in this state, and was started since it was cleared.

        :raises AssertionError: if it ends in another one, or does not come to it, with its log.
        """
        awaited = f"{self.prompt!r} to be {state}"

        def reached() -> bool:
            task = self.airflow.task_instance(*self.key)
            if task["try_number"] < self._first_attempt:
                return False
            ended_otherwise = task["state"] in FINISHED_TASK - {state}
            assert not ended_otherwise, f"waited for {awaited}\n{self.report()}"
            return task["state"] == state

        try:
            wait_for(reached, awaited, timeout=PATIENCE, pause=PAUSE)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.report()}") from error

    def play_to_the_end(self) -> str:
        """Let the task wait, and succeed; return the id of its video."""
        self.until("deferred")
        self.finish_jobs()
        self.until("success")
        return self.video_id()

    def until_bought(self, count: int) -> list[str]:
        """Return the ids of the jobs as soon as so many are accepted."""
        wait_for(lambda: len(self.bought()) >= count, f"{count} submits of {self.prompt!r}", timeout=PATIENCE)
        return self.bought()

    def until_recorded(self) -> str:
        """Return the id of the newest job as soon as it is on record."""

        def recorded() -> str | None:
            record = self.record()
            return record[-1]["task_id"] if record else None

        found = wait_for(recorded, f"the id of {self.prompt!r} on record", timeout=PATIENCE, pause=PAUSE)
        assert found is not None
        return found

    def clear(self) -> None:
        """Clear the task as a user does, who sees a finished task in a finished run."""
        dag_id, run_id, _ = self.key
        task = self.airflow.task_instance(*self.key)
        if task["state"] in FINISHED_TASK:
            self.airflow.wait_for_run(dag_id, run_id, timeout=PATIENCE)
        self._first_attempt = task["try_number"] + 1
        self.airflow.clear_task(*self.key)

    def mark(self, state: str) -> None:
        """Mark the task as a user does."""
        self.airflow.mark_task(*self.key, state)

    def log(self) -> str:
        """Return the logs of all attempts, one after the other."""
        attempts = range(1, self.airflow.task_instance(*self.key)["try_number"] + 1)
        return "\n".join(f"---- attempt {number}\n{self._log_of(number)}" for number in attempts)

    def _log_of(self, attempt: int) -> str:
        try:
            return self.airflow.task_log(*self.key, try_number=attempt)
        except requests.HTTPError as error:
            # An attempt that did not come to run, or not yet.
            if error.response.status_code == 404:
                return ""
            raise

    def until_logged(self, text: str) -> None:
        """Return when the log holds this text; what a triggerer writes may come late."""
        try:
            wait_for(lambda: text in self.log(), f"{text!r} in the log", timeout=PATIENCE, pause=PAUSE)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.report()}") from error

    def until_watched(self) -> str:
        """Return the id of the newest job as soon as a triggerer has asked for its state."""
        task_id = self.until_recorded()
        self.until_logged(f"Kling task {task_id}: [")
        return task_id

    def video_id(self) -> str:
        """Return the id of the video that the task returned."""
        return str(self.airflow.xcom(*self.key)["task_id"])

    def record(self) -> list[dict[str, Any]]:
        """Return the submits on record in Airflow's task state store, the newest last."""
        stored = self.airflow.task_state(*self.key, RECORD_KEY)
        return stored["submissions"] if stored else []

    def report(self) -> str:
        """Return what a reader needs to see why a scene went wrong."""
        state = self.airflow.task_instance(*self.key)["state"]
        return f"{self.key}: {state}; bought {self.bought()}; on record {self.record()}\n{self.log()}"
