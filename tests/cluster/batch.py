# SPDX-License-Identifier: Apache-2.0
"""A batch of videos on a cluster, what happens to the cluster meanwhile, and what came of it."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import requests

from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.cluster.memory import MemoryWatch
from tests.cluster.network import Network
from tests.cluster.parts import BROKER, WORKERS, celery_cluster
from tests.fixtures.platform import connection_to
from tests.system.airflow_api import FINISHED_RUN
from tests.system.airflow_cluster import AirflowCluster
from tests.system.bucket import Bucket, connected_bucket
from tests.system.scene import set_connection
from tests.system.video import look_into
from tests.system.worker_log import worker_runs

DAG_ID = "cluster_batch"
TASK_ID = "generate"
RESTART_AFTER = 5.0
"""Seconds until what was killed is started again."""
CUT_SECONDS = 30.0
FIRST_AFTER = 5
"""Accepted submits before the first misfortune: soon, while a response is still waited for."""
LOOK_EVERY = 2.0
UNCERTAIN = "uncertain"
CONN_ID = "kling_cluster"


@dataclass(frozen=True)
class Misfortune:
    """What happens once a number of submits was accepted; it ends before the next one begins."""

    name: str
    happen: Callable[[Batch], None]


def killed(component: str) -> Misfortune:
    """Return the kill of a component with all its processes, and its start some seconds later."""
    return Misfortune(f"SIGKILL for {component}", lambda batch: _kill(batch.cluster, component))


def _kill(cluster: AirflowCluster, component: str) -> None:
    cluster.kill(component)
    time.sleep(RESTART_AFTER)
    cluster.start_component(component)


def _kill_submitting_worker(batch: Batch) -> None:
    """The server has accepted the submit, and its response never comes."""
    task = batch.cluster.api.task_instance(DAG_ID, batch.run_id, TASK_ID, batch.bought()[0])
    _kill(batch.cluster, task["hostname"])


def _cut(batch: Batch) -> None:
    with batch.network.cut():
        time.sleep(CUT_SECONDS)


MISFORTUNES = (
    Misfortune("SIGKILL for a Celery worker that submits", _kill_submitting_worker),
    killed("triggerer.1"),
    killed("scheduler.1"),
    killed(BROKER),
    killed("api-server"),
    Misfortune(f"no network for {CUT_SECONDS:g} s", _cut),
)


@dataclass
class Outcome:
    """
    What came of a batch.

    :ivar seconds: From the first request for it until its last task ended.
    :ivar states: Map index -> ``success``, ``uncertain``, or the state of a task that was lost.
    :ivar unanswered: The video whose submit was accepted, and whose response was lost with the worker.
    :ivar accepted: Map index -> submits that the server accepted, and bills.
    :ivar requests: What the sandbox counted; see its ``requests``.
    :ivar worker_runs: Number of runs of a task on a worker, those that were killed not included.
    :ivar worker_seconds: What these took.
    :ivar tries: Number of attempts -> tasks that needed so many.
    :ivar memory: Component -> bytes at its peak.
    :ivar events: What happened when, in words.
    :ivar faults: What must not be, in words.
    """

    count: int
    seconds: float = 0.0
    states: dict[int, str] = field(default_factory=dict)
    unanswered: int = -1
    accepted: Counter[int] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    worker_runs: int = 0
    worker_seconds: float = 0.0
    tries: Counter[int] = field(default_factory=Counter)
    memory: dict[str, int] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def uncertain(self) -> list[int]:
        return [index for index, state in self.states.items() if state == UNCERTAIN]

    def figures(self) -> dict[str, str]:
        """Return what it took, by name."""
        made, states = self.count, Counter(self.states.values())
        submits, accepted = self.requests["submit"], self.requests["accepted"]
        routes = self.requests.keys() - {"accepted", "ids"}
        return {
            "videos": f"{made}",
            "stored": f"{states['success']}",
            "wait for a person's decision": f"{states[UNCERTAIN]}",
            "bought": f"{self.accepted.total()}",
            "time": f"{self.seconds / 60:.1f} min",
            "requests per video": f"{sum(self.requests[route] for route in routes) / made:.1f}",
            "submits refused per video": f"{(submits - accepted) / made:.2f}",
            "runs on a worker per video": f"{self.worker_runs / made:.1f}",
            "worker-seconds per video": f"{self.worker_seconds / made:.1f}",
            "tasks that needed a retry": f"{sum(n for tries, n in self.tries.items() if tries > 1)}",
            **{f"memory of {name}": f"{size / 2**20:.0f} MiB" for name, size in sorted(self.memory.items())},
        }

    def report(self) -> str:
        """Return everything, one thing a line."""
        return "\n".join(
            [
                *self.events,
                *(f"{name}: {figure}" for name, figure in self.figures().items()),
                *(f"FAULT: {fault}" for fault in self.faults),
            ]
        )


class Batch:
    """
    One batch; ``run`` runs it.

    :param cluster: Airflow.
    :param sandbox: The vendor, with nothing bought yet.
    :param network: What Airflow has to pass to reach it.
    :param bucket: Takes the files.
    :param count: Number of videos.
    """

    def __init__(
        self, cluster: AirflowCluster, sandbox: Sandbox, network: Network, bucket: Bucket, count: int
    ) -> None:
        self.cluster, self.sandbox, self.network, self.bucket = cluster, sandbox, network, bucket
        self.count = count
        self.folder = "videos/"
        self.run_id = ""
        self.outcome = Outcome(count)
        self._start, self._end = 0.0, 0.0

    def run(self, misfortunes: Sequence[Misfortune], *, timeout: float, into: Path) -> Outcome:
        """
        Play the batch to its end, and look at everything it left.

        :param misfortunes: Happen one after the other, spread over the batch.
        :param timeout: Seconds.
        :param into: Takes the files that are looked into.
        """
        # While all slots are free: one that is refused would buy nothing.
        self.sandbox.add_fault(Fault("submit", "delay_after", seconds=3600))
        api = self.cluster.api
        api.wait_for_dags({DAG_ID})
        with MemoryWatch(self.cluster) as memory:
            self._start = time.monotonic()
            self._end = self._start + timeout
            conf = {"count": self.count, "folder": f"{self.bucket.url}/{self.folder}", "conn_id": CONN_ID}
            self.run_id = api.trigger_dag(DAG_ID, conf)
            for number, misfortune in enumerate(misfortunes):
                # The last one comes early enough to find tasks at work.
                due = FIRST_AFTER + self.count * number // (len(misfortunes) + 2)
                self.wait_for(partial(self._has_bought, due), f"{due} submits")
                self._note(f"{misfortune.name}, {len(self.sandbox.ledger())} submits accepted")
                misfortune.happen(self)
                self._note(f"{misfortune.name}: over, {len(self.sandbox.ledger())} submits accepted")
                self.cluster.wait_until_healthy()
            self.wait_for(self._ended, "the batch to end")
            self.outcome.seconds = time.monotonic() - self._start
        self.outcome.memory = memory.peaks
        logs = [worker_runs(self.cluster.log_path(name)) for name in WORKERS]
        runs = [run.seconds for log in logs for each in log.values() for run in each]
        self.outcome.worker_runs, self.outcome.worker_seconds = len(runs), sum(runs)
        self._look_at_tasks()
        self._look_at_ledger()
        self._look_at_files(into)
        return self.outcome

    def bought(self) -> list[int]:
        """Return the video of each accepted submit, the oldest one first. Nobody is told of the first one."""
        prompts = [entry["request"]["prompt"] for entry in self.sandbox.ledger()]
        return [int(prompt.rstrip(".").rpartition(" ")[2]) for prompt in prompts]

    def wait_for(self, probe: Callable[[], bool], what: str) -> None:
        """Return when ``probe`` is true; see ``AirflowCluster.wait_for``."""
        left = self._end - time.monotonic()
        try:
            self.cluster.wait_for(probe, what, timeout=left, pause=LOOK_EVERY)
        except TimeoutError as error:
            states = Counter(str(task["state"]) for task in self._tasks())
            raise TimeoutError(f"{error}; states {dict(states)}\n{self.outcome.report()}") from error

    def _has_bought(self, count: int) -> bool:
        return len(self.sandbox.ledger()) >= count or self._ended()

    def _ended(self) -> bool:
        # The API server is one of those that are killed.
        with suppress(requests.RequestException):
            return self.cluster.api.run(DAG_ID, self.run_id)["state"] in FINISHED_RUN
        return False

    def _note(self, text: str) -> None:
        self.outcome.events.append(f"{time.monotonic() - self._start:5.0f} s  {text}")
        print(self.outcome.events[-1], flush=True)

    def _tasks(self) -> list[dict[str, Any]]:
        return self.cluster.api.task_instances(DAG_ID, self.run_id, TASK_ID)

    # ---- what came of it -----------------------------------------------------------------------------------

    def _look_at_tasks(self) -> None:
        """Each task has succeeded, or says that its submit may have been accepted; none is lost."""
        outcome = self.outcome
        for task in self._tasks():
            index, state = task["map_index"], str(task["state"])
            outcome.tries[task["try_number"]] += 1
            if state == "failed" and self._is_uncertain(index):
                state = UNCERTAIN
            outcome.states[index] = state
            if state not in ("success", UNCERTAIN):
                outcome.faults.append(f"task {index} is {state}\n{self._log(task)}")
        if len(outcome.states) != self.count:
            outcome.faults.append(f"{len(outcome.states)} tasks")

    def _is_uncertain(self, index: int) -> bool:
        try:
            return bool(self.cluster.api.xcom(DAG_ID, self.run_id, TASK_ID, "kling_uncertain", index))
        except requests.HTTPError as error:
            if error.response.status_code == 404:
                return False
            raise

    def _log(self, task: dict[str, Any]) -> str:
        logs = []
        for attempt in range(1, task["try_number"] + 1):
            with suppress(requests.HTTPError):
                logs.append(
                    f"---- attempt {attempt}\n"
                    + self.cluster.api.task_log(
                        DAG_ID, self.run_id, TASK_ID, try_number=attempt, map_index=task["map_index"]
                    )
                )
        return "\n".join(logs)

    def _look_at_ledger(self) -> None:
        """Each video that was made was bought once; one of unknown fate once or not at all."""
        outcome = self.outcome
        outcome.unanswered, *_ = self.bought()
        outcome.accepted.update(self.bought())
        outcome.requests.update(self.sandbox.requests)
        for index, state in outcome.states.items():
            bought = outcome.accepted[index]
            if bought > 1 or (state == "success" and not bought):
                outcome.faults.append(f"video {index}, {state}, was bought {bought} times")
        lost = sum(outcome.accepted[index] for index in outcome.uncertain())
        made = list(outcome.states.values()).count("success")
        if outcome.accepted.total() != made + lost:
            outcome.faults.append(
                f"{outcome.accepted.total()} bought, for {made} videos and {lost} of unknown fate"
            )

    def _look_at_files(self, into: Path) -> None:
        """Each video that was made is a whole file, and nothing else is in the bucket."""
        outcome = self.outcome
        into.mkdir(parents=True)
        found = self.bucket.files(self.folder, into)
        wanted = {f"{index}.mp4" for index, state in outcome.states.items() if state == "success"}
        if found.keys() != wanted:
            outcome.faults.append(
                f"missing {sorted(wanted - found.keys())}, too many {sorted(found.keys() - wanted)}"
            )
        for name, path in found.items():
            try:
                facts = look_into(path)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it is the finding
                outcome.faults.append(f"{name} does not decode: {error}")
            else:
                if abs(facts.seconds - 3) > 0.1:
                    outcome.faults.append(f"{name} holds {facts.seconds} s")
            path.unlink()
        if uploads := self.bucket.unfinished_uploads():
            outcome.faults.append(f"unfinished uploads: {uploads}")


def play(sandbox: Sandbox, count: int, *, timeout: float, folder: Path) -> Outcome:
    """
    Let a cluster of its own make so many videos, while its parts are killed one after the other.

    :param sandbox: The vendor.
    :param timeout: Seconds for the batch.
    :param folder: Takes what is written.
    """
    # What it says of each job is in the ledger.
    logging.getLogger("airflow_provider_kling.sandbox").setLevel(logging.WARNING)
    with (
        Network(sandbox.port) as network,
        celery_cluster(folder / "airflow") as cluster,
        connected_bucket(cluster.api) as bucket,
    ):
        set_connection(cluster.api, CONN_ID, _connection(sandbox, network))
        outcome = Batch(cluster, sandbox, network, bucket, count).run(
            MISFORTUNES, timeout=timeout, into=folder / "files"
        )
    print(outcome.report(), flush=True)
    return outcome


def _connection(sandbox: Sandbox, network: Network) -> dict[str, Any]:
    """Return the connection to what lies behind the network."""
    if sandbox.api == "official":
        return connection_to(sandbox, proxy=network.url, read_timeout=30)
    return {**json.loads(sandbox.connection_json), "host": network.url}
