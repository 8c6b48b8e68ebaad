# SPDX-License-Identifier: Apache-2.0
"""A whole, real Airflow on this machine, for system tests, demos and benchmarks.

The components run as a user would run them (``airflow scheduler`` and so on), each in a process of its
own, so that one can be killed and started again while the others go on.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from tests.system.airflow_api import AirflowApi, wait_for

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    # What users call and what tasks call is served by two processes: on SQLite, one that serves both comes to a
    # halt when a user's change and a task's wait for each other, until the database's timeout.
    "api-server": ("--host", "127.0.0.1", "--apps", "core"),
    "api-server.execution": ("--host", "127.0.0.1", "--apps", "execution"),
    # All components share a log folder, so none has to serve its logs to the others.
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
    "triggerer": ("--skip-serve-logs",),
}
"""The Airflow commands that make up a whole Airflow, with their arguments."""

_CHECKOUT = Path(__file__).parents[2]
_START_TIMEOUT = 180.0
"""Seconds until every component must be healthy; far more than needed, for a busy machine."""
_STOP_GRACE = 4.0
"""Seconds that a component gets to end by itself."""
_FOREIGN_VARIABLES = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "PYTHONHOME")
"""Beginnings of the names of the caller's environment variables that would change what runs here."""


class ClusterError(RuntimeError):
    """A component of Airflow ended that should not have."""


class AirflowCluster:
    """Run Airflow with LocalExecutor and SQLite in ``home``, and drive it through ``api``.

    Use it as a context manager. No process outlives it, however this one ends: a watchdog sees to that.

    :param home: folder for the database, the logs and the configuration; made if missing. A second cluster in
        the same folder goes on with the same database.
    :param dags: folder of the DAG files.
    :param connections: connection id -> connection, as a URI or as JSON.
    :param environment: more environment variables; they win over those set here.
    :param parallelism: number of LocalExecutor workers, so of tasks that run at once.
    :param triggerer_capacity: number of triggers that one triggerer runs at once.
    :param port: of the API server and UI; another one if it is taken, any free one if 0.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        connections: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        parallelism: int = 4,
        triggerer_capacity: int = 1000,
        port: int = 0,
    ) -> None:
        self.home = home.absolute()
        self.db_path = self.home / "airflow.db"
        port = free_port(port)
        self.api = AirflowApi(f"http://127.0.0.1:{port}")
        self._execution_port = free_port()
        self._execution_url = f"http://127.0.0.1:{self._execution_port}/execution/"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_VARIABLES)},
            "AIRFLOW_HOME": str(self.home),
            **_variables(
                {
                    "core": {
                        "dags_folder": dags.absolute(),
                        "load_examples": False,
                        "executor": "LocalExecutor",
                        "parallelism": parallelism,
                        "dags_are_paused_at_creation": False,
                        "simple_auth_manager_all_admins": True,
                        "test_connection": "Enabled",
                        "execution_api_server_url": self._execution_url,
                    },
                    # SQLite has one writer at a time: the others wait, a minute at most.
                    "database": {"sql_alchemy_conn": f"sqlite:///{self.db_path}?timeout=60"},
                    "api": {"port": port, "base_url": self.api.url},
                    # Somebody is waiting, and the machine has nothing else to do.
                    "scheduler": {"scheduler_idle_sleep_time": 0.2, "job_heartbeat_sec": 2},
                    "triggerer": {"job_heartbeat_sec": 2, "capacity": triggerer_capacity},
                    "dag_processor": {"refresh_interval": 5, "min_file_process_interval": 10},
                    "usage_data_collection": {"enabled": False},
                }
            ),
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in (connections or {}).items()},
            **(environment or {}),
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, datetime] = {}
        self._watchdog: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make the database if need be, start every component and return when all of them are healthy.

        :raises ClusterError: if a component ends instead, with the end of its log.
        """
        self.log_path("").parent.mkdir(parents=True, exist_ok=True)
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "tests.system.airflow_cluster"],
            cwd=_CHECKOUT,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if self._spawn("migrate", "db", "migrate").wait():
            raise ClusterError(self._last_words("migrate"))
        self._let_readers_and_a_writer_share_the_database()
        for component in COMPONENTS:
            self.start_component(component)
        self.wait_until_healthy()

    def stop(self) -> None:
        """End every process that was started, and every process that one of them started."""
        for process in self._running.values():
            process.terminate()
        deadline = time.monotonic() + _STOP_GRACE
        while time.monotonic() < deadline and any(p.poll() is None for p in self._running.values()):
            time.sleep(0.05)
        if self._watchdog is not None:
            self._watchdog.communicate()
            self._watchdog = None
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def start_component(self, name: str) -> None:
        """Start a component and return at once.

        :param name: a key of ``COMPONENTS``. A suffix makes one more of the kind: ``triggerer.2``.
        """
        command = name.partition(".")[0]
        arguments = COMPONENTS[name if name in COMPONENTS else command]
        if name == "api-server.execution":
            arguments += ("--port", str(self._execution_port))
        self._started[name] = datetime.now(UTC)
        self._running[name] = self._spawn(name, command, *arguments)

    def kill(self, name: str, *, children: bool = True) -> None:
        """Kill a component with SIGKILL and return when it is gone.

        :param children: kill its children too (a scheduler's workers, a triggerer's event loop); otherwise
            they are left as orphans.
        """
        process = self._running.pop(name)
        process.kill()
        if children:
            _kill_sessions({process.pid})
        process.wait()

    def restart(self, name: str) -> None:
        """Kill a component if it runs, start it again and return when it is healthy."""
        if name in self._running:
            self.kill(name)
        self.start_component(name)
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Return when every running component has shown a heartbeat since it was started."""
        wait_for(self._is_healthy, "Airflow to be healthy", timeout=_START_TIMEOUT)

    def check(self) -> None:
        """Raise if a component has ended by itself.

        :raises ClusterError: with the end of its log.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise ClusterError(self._last_words(name))

    def processes(self, name: str) -> list[psutil.Process]:
        """Return a component's living processes: its own and all that it started."""
        return _session_processes({self._running[name].pid})

    def busy_workers(self) -> list[str]:
        """Return the titles of LocalExecutor's processes that are at work."""
        titles = [" ".join(process.cmdline()).strip() for process in self.processes("scheduler")]
        return [title for title in titles if title.startswith("airflow worker") and not title.endswith("<idle>")]

    def task_process(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> psutil.Process:
        """Return the process that runs a task's code; its parent is the LocalExecutor worker that watches it."""
        return psutil.Process(self.api.task_instance(dag_id, run_id, task_id, map_index)["pid"])

    def log_path(self, name: str) -> Path:
        """Return the file that takes what a component prints."""
        return self.home / "logs" / f"{name}.log"

    def _spawn(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with self.log_path(name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self._watchdog is not None:
            print(process.pid, file=self._watchdog.stdin, flush=True)
        return process

    def _let_readers_and_a_writer_share_the_database(self) -> None:
        if self.db_path.exists():
            with closing(sqlite3.connect(self.db_path)) as database:
                database.execute("PRAGMA journal_mode = WAL")

    def _is_healthy(self) -> bool:
        self.check()
        try:
            health = self.api.health()
            requests.get(f"{self._execution_url}health", timeout=10).raise_for_status()
        except (requests.ConnectionError, requests.Timeout):
            return False
        return all(_has_beaten(health, name, self._started[name]) for name in self._running)

    def _last_words(self, name: str) -> str:
        lines = self.log_path(name).read_text(errors="replace").splitlines()
        return "\n".join([f"airflow {name} ended; its log {self.log_path(name)} closes with", *lines[-30:]])


def _variables(settings: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    return {
        f"AIRFLOW__{section.upper()}__{option.upper()}": str(value)
        for section, options in settings.items()
        for option, value in options.items()
    }


def _has_beaten(health: Mapping[str, Any], name: str, since: datetime) -> bool:
    component = name.partition(".")[0].replace("-", "_")
    if component not in health:
        return component == "api_server"
    state = health[component]
    heartbeat = state.get(f"latest_{component}_heartbeat")
    return state["status"] == "healthy" and heartbeat and datetime.fromisoformat(heartbeat) >= since


def free_port(preferred: int = 0) -> int:
    """Return ``preferred`` if nobody listens there, or else a port that is free."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        return int(listener.getsockname()[1])


def _session_processes(sessions: Collection[int]) -> list[psutil.Process]:
    found = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            process = psutil.Process(pid)
            if os.getsid(pid) in sessions and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _kill_sessions(sessions: Collection[int]) -> None:
    # Again and again, for what a process started between the look and the kill.
    while processes := _session_processes(sessions):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=1)


if __name__ == "__main__":
    # The watchdog: reads the sessions that are started and ends them when their owner has gone.
    _kill_sessions({int(line) for line in sys.stdin})
