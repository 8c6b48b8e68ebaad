# SPDX-License-Identifier: Apache-2.0
"""How much of an account's slots a batch of mapped videos uses, and what its waiting costs.

A whole Airflow (LocalExecutor, PostgreSQL) makes the same videos in three ways against the sandbox, which refuses a
submit with 429 while all slots are taken: ``KlingGenerateOperator`` alone; the same in a pool with as many slots as the
account, deferred tasks included; and an ``HttpOperator`` with a retry every 15 s, followed by an ``HttpSensor`` that is
rescheduled every 15 s. Each way has an Airflow and an account of its own, so none finds what another has learned.
Scheduler and triggerer have Airflow's default settings. The jobs take log-normal times (sigma 0.25), each video the
same in each way. Nothing is downloaded, so nothing is rendered.

The times of the jobs are those of the vendor's clock. A slot is in use from the moment a job is accepted until its end.
"From first accept to last end" includes the tail, in which fewer jobs are left than there are slots; a small batch is
judged "until the last video is accepted". A worker run is a process that ran a task, resumptions included. Each video
needs two, one that submits and one that finishes, and one more if its first run did not submit; the rest are extra.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import psutil
from sqlalchemy import create_engine, text

from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.benchmarks.report import table, verdict
from tests.benchmarks.server import CHECKOUT
from tests.system.airflow_api import FINISHED_RUN
from tests.system.airflow_cluster import AirflowCluster
from tests.system.postgres import postgres
from tests.system.worker_log import WorkerRun, worker_runs

WAYS = {
    "kling": "KlingGenerateOperator",
    "kling_in_a_pool": "... in a pool",
    "http": "HttpOperator, HttpSensor",
}
SIGMA = 0.25
PARALLELISM = 32
LARGE_BATCH = 300
"""Videos from which a batch is judged as a whole, and its refusals and runs too."""
SETTINGS = {
    # Where the cluster of the tests is in a hurry: the defaults of Airflow.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "5",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
    # The code of this checkout, wherever the package is installed from.
    "PYTHONPATH": str(CHECKOUT),
}
#: The runs of a mapped video: those of its tries before the last have ids of their own.
_MAPPED_TASKS = """
SELECT id, map_index FROM task_instance WHERE map_index >= 0
UNION SELECT task_instance_id, map_index FROM task_instance_history WHERE map_index >= 0
"""


class Scenario(NamedTuple):
    """A batch: its videos, the slots of the account, the median of the seconds that a job takes, the triggerers."""

    videos: int
    slots: int
    seconds: float
    triggerers: int = 1

    def durations(self) -> list[float]:
        """Return the seconds that each job takes."""
        chance = random.Random(self.videos)
        return [self.seconds * math.exp(chance.gauss(0, SIGMA)) for _ in range(self.videos)]


SCENARIOS = (Scenario(50, 5, 60), Scenario(120, 20, 120))


class Job(NamedTuple):
    """A job by the vendor's clock, in epoch seconds; ``video`` is its place in the batch."""

    video: int
    accepted_at: float
    ended_at: float


@dataclass
class Use:
    """What one way did with a batch; ``jobs`` are in the order in which they were accepted."""

    scenario: Scenario
    jobs: list[Job]
    runs: dict[int, list[WorkerRun]]
    requests: dict[str, int]
    state: str
    cpu: float

    def __post_init__(self) -> None:
        self.first = self.jobs[0].accepted_at
        self.last_accepted = self.jobs[-1].accepted_at
        self.last_end = max(job.ended_at for job in self.jobs)

    def utilisation(self, until: float) -> float:
        """Return the share of the slots' time in use from the first accept on."""
        used = sum(min(job.ended_at, until) - job.accepted_at for job in self.jobs)
        return used / (self.scenario.slots * (until - self.first))

    def best(self) -> float:
        """Return the utilisation until the last end, if the same jobs had followed each other without a pause."""
        free = [0.0] * self.scenario.slots
        for job in self.jobs:
            heapq.heapreplace(free, free[0] + job.ended_at - job.accepted_at)
        used = sum(job.ended_at - job.accepted_at for job in self.jobs)
        return used / (self.scenario.slots * max(free))

    def idle(self) -> float:
        """Return for how many seconds a slot waits for its next job, on average; the first jobs do not count."""
        ends = sorted(job.ended_at for job in self.jobs)
        return mean(
            job.accepted_at - end for job, end in zip(self.jobs[self.scenario.slots :], ends, strict=False)
        )

    def per_video(self, amount: float) -> float:
        """Return an amount by video of the batch."""
        return amount / self.scenario.videos

    @property
    def refusals(self) -> float:
        """Refused submits for each video."""
        return self.per_video(self.requests["submit"] - self.requests["accepted"])

    @property
    def worker_runs(self) -> float:
        """Worker runs for each video."""
        return self.per_video(sum(map(len, self.runs.values())))

    @property
    def extra_runs(self) -> float:
        """Worker runs that no video needs, for each video."""
        accepted = {job.video: job.accepted_at for job in self.jobs}
        later = sum(at > self.runs[video][0].ended_at for video, at in accepted.items())
        return self.worker_runs - 2 - self.per_video(later)


ROWS: dict[str, Callable[[Use], object]] = {
    "in use, first accept to last end": lambda use: f"{use.utilisation(use.last_end):.1%}",
    "... if jobs had followed without a pause": lambda use: f"{use.best():.1%}",
    "in use, until the last video is accepted": lambda use: f"{use.utilisation(use.last_accepted):.1%}",
    "a slot waits for its next job, mean": lambda use: f"{use.idle():.1f} s",
    "first accept to last end": lambda use: f"{use.last_end - use.first:.0f} s",
    "refusals per video": lambda use: f"{use.refusals:.2f}",
    "worker runs per video": lambda use: f"{use.worker_runs:.2f}",
    "... extra": lambda use: f"{use.extra_runs:.2f}",
    "worker-seconds per video": lambda use: f"{use.per_video(_seconds(use)):.1f} s",
    "requests per video": lambda use: f"{use.per_video(_requests(use)):.1f}",
    "CPU of the machine": lambda use: f"{use.cpu:.0%}",
    "videos bought; run": lambda use: f"{len(use.jobs)}; {use.state}",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure each scenario in each way, and print a table and the verdicts of each."""
    parser = argparse.ArgumentParser(
        description="Without arguments: 50 videos of 60 s on 5 slots, and 120 of 120 s on 20."
    )
    parser.add_argument("--videos", type=int, help="videos in the batch (50)")
    parser.add_argument("--slots", type=int, help="slots of the account (5)")
    parser.add_argument("--seconds", type=float, help="median of the seconds that a job takes (60)")
    parser.add_argument("--triggerers", type=int, help="triggerers of Airflow (1)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS], help="the DAGs to measure (all)")
    options = parser.parse_args(arguments)
    given = {name: value for name in Scenario._fields if (value := getattr(options, name)) is not None}
    scenarios = (SCENARIOS[0]._replace(**given),) if given else SCENARIOS
    if any(scenario.videos <= scenario.slots for scenario in scenarios):
        parser.error("a batch needs more videos than the account has slots")
    for scenario in scenarios:
        uses: dict[str, Use] = {}
        for way in options.ways:
            uses[way] = _measure(scenario, way)
            # One that takes an hour shows what it has so far.
            print(_table({way: uses[way]}), file=sys.stderr)
        several = f", {scenario.triggerers} triggerers" if scenario.triggerers > 1 else ""
        print(f"{scenario.slots} slots, {scenario.videos} videos, jobs of {scenario.seconds:g} s{several}\n")
        print(_table(uses), end="\n\n")
        if "kling" in uses:
            print("\n".join(_verdicts(uses["kling"])), end="\n\n", flush=True)


def _table(uses: dict[str, Use]) -> str:
    head = ("", *(WAYS[way] for way in uses))
    return table(head, [(what, *map(of, uses.values())) for what, of in ROWS.items()])


def _measure(scenario: Scenario, way: str) -> Use:
    """Make the videos of a batch in one way, on an Airflow of its own."""
    print(f"{way}: {scenario}", file=sys.stderr)
    prompts = [f"Video {number:06}: a traveler in desert ruins" for number in range(scenario.videos)]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
        Sandbox(max_concurrent=scenario.slots) as sandbox,
        postgres() as database,
    ):
        for prompt, seconds in zip(prompts, scenario.durations(), strict=True):
            sandbox.add_fault(Fault("submit", "pace", times=None, match=prompt, seconds=seconds))
        headers = {"Authorization": f"Bearer {sandbox.api_key}"}
        with AirflowCluster(
            Path(home),
            Path(__file__).parent / "account_use_dags",
            database=database,
            connections={
                "kling_default": sandbox.connection_json,
                "kling_http": json.dumps({"conn_type": "http", "host": sandbox.base_url, "extra": headers}),
            },
            environment=SETTINGS,
            parallelism=PARALLELISM,
        ) as cluster:
            for number in range(2, scenario.triggerers + 1):
                cluster.start_component(f"triggerer.{number}")
            cluster.wait_until_healthy()
            pool = {"name": "kling_slots", "slots": scenario.slots, "include_deferred": True}
            cluster.api.request("POST", "pools", json=pool)
            cluster.api.wait_for_dags(WAYS)
            psutil.cpu_percent()
            run_id = cluster.api.trigger_dag(way, {"prompts": prompts})
            cluster.wait_for(
                lambda: cluster.api.run(way, run_id)["state"] in FINISHED_RUN,
                f"{way} to make {scenario.videos} videos",
                timeout=5 * scenario.videos * scenario.seconds / scenario.slots + 900,
                pause=5,
            )
            cpu = psutil.cpu_percent() / 100
            # The supervisor's last lines come after the state.
            time.sleep(5)
            jobs = [
                Job(prompts.index(job.request.text), job.accepted_at, job.ends_at)
                for job in sandbox.book.jobs.values()
            ]
            runs = _runs(database, cluster.log_path("scheduler"))
            state = cluster.api.run(way, run_id)["state"]
            if state != "success":
                print(cluster.api.report(way, run_id), file=sys.stderr)
        return Use(scenario, jobs, runs, sandbox.requests, state, cpu)


def _runs(database: str, log: Path) -> dict[int, list[WorkerRun]]:
    """Return the worker runs of each video, in the order of their ends."""
    logged = worker_runs(log)
    runs: dict[int, list[WorkerRun]] = defaultdict(list)
    with create_engine(database).connect() as connected:
        for task_id, video in connected.execute(text(_MAPPED_TASKS)):
            runs[video] += logged[str(task_id)]
    return {video: sorted(found) for video, found in runs.items()}


def _seconds(use: Use) -> float:
    return sum(run.seconds for runs in use.runs.values() for run in runs)


def _requests(use: Use) -> int:
    return sum(amount for name, amount in use.requests.items() if name != "accepted")


def _verdicts(use: Use) -> list[str]:
    """Return what came of the targets, which are those of batches of 300 and more; a small one has a long tail."""
    scenario = use.scenario
    wanted = 97 if scenario.seconds >= 90 else 95
    large = scenario.videos >= LARGE_BATCH
    what = "in use, first accept to last end" if large else "in use, until the last video is accepted"
    until = use.last_end if large else use.last_accepted
    lines = [verdict(what, 100 * use.utilisation(until), wanted, at_most=False, unit=" %")]
    if large:
        lines.append(verdict("refusals per video", use.refusals, 0.05))
        lines.append(verdict("extra worker runs per video", use.extra_runs, 0.3))
    else:
        lines.append(f"- refusals and extra worker runs are judged from {LARGE_BATCH} videos on")
    return lines


if __name__ == "__main__":
    main()
