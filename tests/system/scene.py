# SPDX-License-Identifier: Apache-2.0
"""One run of a DAG that buys one video, and what the server's ledger knows of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psutil
import requests

from airflow_provider_kling.jobs.journal import Event, Journal
from airflow_provider_kling.records import Identity
from airflow_provider_kling.records.folder import FolderStore
from airflow_provider_kling.records.stores import RECORD_KEY, VariableStore
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.system.airflow_api import FINISHED_RUN, FINISHED_TASK, AirflowApi
from tests.system.airflow_cluster import AirflowCluster
from tests.system.perils import RECORDS

T = TypeVar("T")
TASK_ID = "generate"
PATIENCE = 900.0
"""Seconds to wait for a state; far more than needed, for a busy machine."""
PAUSE = 2.0
"""Seconds between two looks: dozens of scenes look at the same time."""


class Scene:
    """
    A run of a DAG whose task ``generate`` buys one video.

    :param cluster: the Airflow to run it.
    :param sandbox: the server that the task's connection leads to, and the witness.
    :param prompt: the prompt; part of no other scene's.
    :param conn_id: the task's connection.
    """

    def __init__(
        self,
        cluster: AirflowCluster,
        sandbox: Sandbox,
        prompt: str,
        *,
        conn_id: str = "kling_paid_once",
    ) -> None:
        self.cluster = cluster
        self.airflow = cluster.api
        self.sandbox = sandbox
        self.prompt = prompt
        self.key = ("", "", "")
        self._place = RECORDS["state store"]
        self._conn_id = conn_id
        self._first_attempt = 1

    def part(self, name: str) -> Scene:
        """Return a scene beside this one, with another run and a prompt of its own."""
        return Scene(self.cluster, self.sandbox, f"{self.prompt} {name}.", conn_id=self._conn_id)

    @contextmanager
    def server_of_its_own(self, **extra: Any) -> Iterator[Sandbox]:
        """Move to another server meanwhile: a probe has no prompt that would tell whose it is.

        :param extra: more extras of the connection.
        """
        with Sandbox(run_seconds=3600) as self.sandbox:
            self._conn_id = f"kling_at_port_{self.sandbox.base_url.rpartition(':')[2]}"
            fields = json.loads(self.sandbox.connection_json)
            set_connection(self.airflow, self._conn_id, {**fields, "extra": {**fields.get("extra", {}), **extra}})
            yield self.sandbox

    def arrange(self, **fault: Any) -> None:
        """Let the server make trouble for this scene's prompt; see ``Fault``."""
        self.sandbox.add_fault(Fault(match=self.prompt, **fault))

    def play(self, dag_id: str, *, record: str = "state store", **conf: Any) -> None:
        """Start the run, with these params and its record there."""
        self._place = RECORDS[record]
        conf |= {"prompt": self.prompt, "record": record, "conn_id": self._conn_id}
        self.key = (dag_id, self.airflow.trigger_dag(dag_id, conf), TASK_ID)

    def go_on(self, cluster: AirflowCluster, *, record: str) -> None:
        """Go on with another Airflow on the same database, which keeps the record there."""
        self.cluster, self.airflow = cluster, cluster.api
        self._place = RECORDS[record]

    def wait_for(self, probe: Callable[[], T], what: str, *, pause: float = PAUSE) -> T:
        """Return the first true answer of ``probe``; see ``AirflowCluster.wait_for``."""
        return self.cluster.wait_for(probe, what, timeout=PATIENCE, pause=pause)

    def process(self) -> psutil.Process:
        """Return the process that runs the task; its parent is the one that reports of it."""
        return psutil.Process(self.airflow.task_instance(*self.key)["pid"])

    def until_asleep(self) -> list[psutil.Process]:
        """Return the processes of an attempt once they have fallen asleep: the task's own, then its parent."""

        def asleep() -> psutil.Process | None:
            with suppress(psutil.NoSuchProcess, TypeError, ValueError):
                process = self.process()
                return process if process.status() == psutil.STATUS_STOPPED else None
            return None

        process = self.wait_for(asleep, f"{self.prompt!r} to be asleep")
        assert process is not None
        parent = process.parent()
        assert parent is not None
        return [process, parent]

    def until_supervisor_asleep(self) -> psutil.Process:
        """Return the process that would report the end of the attempt, once it has fallen asleep."""

        def asleep() -> psutil.Process | None:
            with suppress(psutil.NoSuchProcess, TypeError, ValueError):
                parent = self.process().parent()
                return parent if parent and parent.status() == psutil.STATUS_STOPPED else None
            return None

        process = self.wait_for(asleep, f"the supervisor of {self.prompt!r} to be asleep", pause=0.5)
        assert process is not None
        return process

    def kill(self, *, supervisor: bool, process: psutil.Process | None = None) -> None:
        """
        Kill the process that runs the task, and before it, if wished, the one that would report that.

        :param supervisor: whether the process that supervises it is killed too.
        :param process: the one to kill, if it is known: to ask for it takes long when the machine is busy.
        """
        process = process or self.process()
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

    def until(self, *states: str) -> str:
        """
        Return the state when the task is in one of these, and was started since it was cleared.

        :raises AssertionError: if it ends in another one, or does not come to it, with its log.
        """
        awaited = f"{self.prompt!r} to be {' or '.join(states)}"

        def reached() -> str | None:
            task = self.airflow.task_instance(*self.key)
            if task["try_number"] < self._first_attempt:
                return None
            ended_otherwise = task["state"] in FINISHED_TASK - set(states)
            assert not ended_otherwise, f"waited for {awaited}\n{self.report()}"
            return task["state"] if task["state"] in states else None

        try:
            return str(self.wait_for(reached, awaited))
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
        self.wait_for(lambda: len(self.bought()) >= count, f"{count} submits of {self.prompt!r}", pause=0.2)
        return self.bought()

    def until_recorded(self) -> str:
        """Return the id of the newest job as soon as it is on record."""

        def recorded() -> str | None:
            ids = [submit.kling_task_id for submit in self.record().submits.values() if submit.kling_task_ids]
            return ids[-1] if ids else None

        found = self.wait_for(recorded, f"the id of {self.prompt!r} on record")
        assert found is not None
        return found

    def until_intended(self) -> None:
        """Return as soon as a submit is on record."""
        self.wait_for(lambda: self.record().submits, f"a submit of {self.prompt!r}", pause=0.2)

    def uncertain(self) -> dict[str, Any]:
        """Return what the attempt that ended for a submit of unknown fate left in XCom."""
        return dict(self.airflow.xcom(*self.key, key="kling_uncertain"))

    def answer(self, word: str) -> None:
        """Say what became of the submit of unknown fate, in the Variable that the task named."""
        self.airflow.set_variable(self.uncertain()["name"], word)

    def clear(self) -> None:
        """Clear the task as a user does, who sees a finished task in a finished run."""
        dag_id, run_id, _ = self.key
        task = self.airflow.task_instance(*self.key)
        if task["state"] in FINISHED_TASK:
            self.wait_for(lambda: self.airflow.run(dag_id, run_id)["state"] in FINISHED_RUN, f"{run_id} to end")
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
            self.wait_for(lambda: text in self.log(), f"{text!r} in the log")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.report()}") from error

    def until_watched(self) -> str:
        """Return the id of the newest job as soon as a triggerer has asked for its state."""
        task_id = self.until_recorded()
        self.until_logged(f" s ({task_id})")
        return task_id

    def video_id(self) -> str:
        """Return the id of the video that the task returned."""
        return str(self.airflow.xcom(*self.key)["kling_task_id"])

    def record(self) -> Journal:
        """Return the submits on record."""
        return Journal(self._events())

    def on_record(self) -> list[tuple[str, str | None]]:
        """Return the fate of each submit on record and its newest job, the oldest submit first."""
        submits = self.record().submits.values()
        return [(submit.fate, submit.kling_task_id if submit.kling_task_ids else None) for submit in submits]

    def _events(self) -> list[Event]:
        identity, place = Identity(*self.key, map_index=-1), self._place
        found: list[Event] = []
        if place.state_store and (document := self.airflow.task_state(*self.key, RECORD_KEY)):
            found += document["events"]
        if place.folder:
            found += FolderStore(self.cluster.environment[place.folder], identity, prove=False).load()
        if not place.state_store and not place.folder:
            text = self.airflow.variable(VariableStore(identity).name)
            found += json.loads(text)["events"] if text else []
        return found

    def report(self) -> str:
        """Return what a reader needs to see why a scene went wrong."""
        state = self.airflow.task_instance(*self.key)["state"]
        return f"{self.key}: {state}; bought {self.bought()}; on record {self.on_record()}\n{self.log()}"


def connect(airflow: AirflowApi, conn_id: str, sandbox: Sandbox, **extra: Any) -> None:
    """Make the connection that leads to a server, with these extras beside its own."""
    fields = json.loads(sandbox.connection_json)
    set_connection(airflow, conn_id, {**fields, "extra": {**fields.get("extra", {}), **extra}})


def set_connection(airflow: AirflowApi, conn_id: str, fields: Mapping[str, Any]) -> None:
    """Make a connection of these fields, as the JSON of a connection has them."""
    airflow.set_connection(
        {**fields, "connection_id": conn_id, "extra": json.dumps(fields.get("extra", {}))},
    )
