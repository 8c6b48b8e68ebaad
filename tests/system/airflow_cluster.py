# SPDX-License-Identifier: Apache-2.0
"""A whole, real Airflow on this machine, for system tests, demos and benchmarks.

The components run as a user would run them (``airflow scheduler`` and so on), each in a process of its
own, so that one can be killed and started again while the others go on.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGABRT
from threading import Lock
from typing import Self, TypeVar

import psutil
import requests

from tests.system.airflow_api import AirflowApi, wait_for

T = TypeVar("T")

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
"""The components of a whole Airflow on LocalExecutor: name -> arguments; see ``AirflowCluster``."""

COMPONENT = "AIRFLOW_CLUSTER_COMPONENT"
"""The environment variable that tells each component its name."""
_CHECKOUT = Path(__file__).parents[2]
_SILENCE = 150.0
"""Seconds without a sign of life after which a component is broken; far more than needed, for a busy machine."""
_LISTEN_EVERY = 10.0
"""Seconds between two looks at the signs of life while something else is waited for."""
_HOSTNAME = "AIRFLOW__CORE__HOSTNAME_CALLABLE"
_STOP_GRACE = 4.0
"""Seconds that a component gets to end by itself."""
_FOREIGN_VARIABLES = ("AIRFLOW", "_AIRFLOW", "PYTHONPATH", "PYTHONHOME")
"""Beginnings of the names of the caller's environment variables that would change what runs here."""


class ClusterError(RuntimeError):
    """A component of Airflow has ended, or hangs."""


class AirflowCluster:
    """Run Airflow in ``home``, with LocalExecutor unless told otherwise, and drive it through ``api``.

    Use it as a context manager. No process outlives it, however this one ends: a watchdog sees to that.

    :param home: folder for the logs, the configuration and SQLite's database; made if missing. A second cluster
        in the same folder goes on with the same database.
    :param dags: folder of the DAG files.
    :param database: URL of the database, for SQLAlchemy; a SQLite in ``home`` if None.
    :param connections: connection id -> connection, as a URI or as JSON.
    :param environment: more environment variables; they win over those set here.
    :param parallelism: number of LocalExecutor workers, so of tasks that run at once.
    :param triggerer_capacity: number of triggers that one triggerer runs at once.
    :param port: of the API server and UI; another one if it is taken, any free one if 0.
    :param login: user name and password to drive it with; None where everybody is let in as admin.
    :param python: the interpreter in whose environment Airflow is installed; this one if None.
    :param components: name -> arguments of each component. The name is the Airflow command; a suffix tells apart
        several of one kind: ``triggerer.2``. These need a ``hostname_callable`` that returns ``COMPONENT``, by
        which their heartbeats are told apart.
    :param servers: name -> command line of what Airflow needs beside its database, such as a broker; started
        first, and from then on components like the others.
    """

    def __init__(
        self,
        home: Path,
        dags: Path,
        *,
        database: str | None = None,
        connections: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        parallelism: int = 4,
        triggerer_capacity: int = 1000,
        port: int = 0,
        login: tuple[str, str] | None = None,
        python: Path | None = None,
        components: Mapping[str, Sequence[str]] = COMPONENTS,
        servers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.home = home.absolute()
        self.python = python or Path(sys.executable)
        self._sqlite = None if database else self.home / "airflow.db"
        port = free_port(port)
        self.api = AirflowApi(f"http://127.0.0.1:{port}", login)
        self._components, self._servers = components, servers or {}
        self._execution_port = free_port() if "api-server.execution" in components else port
        self._execution_url = f"http://127.0.0.1:{self._execution_port}/execution/"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN_VARIABLES)},
            "AIRFLOW_HOME": str(self.home),
            # A component that hangs is aborted: its log then tells where each of its threads was.
            "PYTHONFAULTHANDLER": "1",
            **variables(
                {
                    "core": {
                        "dags_folder": dags.absolute(),
                        "load_examples": False,
                        "executor": "LocalExecutor",
                        "parallelism": parallelism,
                        # LocalExecutor hands all queued tasks to its workers in one pipe. A full one blocks the
                        # scheduler, for good if the workers are killed meanwhile, so few may be queued.
                        "default_pool_task_slot_count": 3 * parallelism,
                        "dags_are_paused_at_creation": False,
                        "simple_auth_manager_all_admins": True,
                        "test_connection": "Enabled",
                        "execution_api_server_url": self._execution_url,
                    },
                    # SQLite has one writer at a time: the others wait, a minute at most.
                    "database": {"sql_alchemy_conn": database or f"sqlite:///{self._sqlite}?timeout=60"},
                    "api": {"port": port, "base_url": self.api.url},
                    # Somebody is waiting, and the machine has nothing else to do.
                    "scheduler": {"scheduler_idle_sleep_time": 0.3, "job_heartbeat_sec": 2},
                    "triggerer": {"job_heartbeat_sec": 2, "capacity": triggerer_capacity},
                    # A new file and a changed one are parsed at the next refresh, whatever the interval is.
                    "dag_processor": {"refresh_interval": 5, "min_file_process_interval": 60},
                    "usage_data_collection": {"enabled": False},
                }
            ),
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in (connections or {}).items()},
            **(environment or {}),
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, datetime] = {}
        self._heard: dict[str, tuple[datetime, float]] = {}
        self._listen_at = 0.0
        self._trouble = ""
        self._turn = Lock()
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
            raise ClusterError(f"airflow db migrate failed; {self._last_words('migrate')}")
        self._let_readers_and_a_writer_share_the_database()
        for component in (*self._servers, *self._components):
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
        """Start a component or a server and return at once.

        :param name: a key of ``components`` or ``servers``. Another suffix makes one more of the kind.
        """
        kind = name.partition(".")[0]
        arguments = self._components.get(name, self._components.get(kind, ()))
        if name == "api-server.execution":
            arguments = (*arguments, "--port", str(self._execution_port))
        self._started[name] = datetime.now(UTC)
        self._heard[name] = (self._started[name], time.monotonic())
        self._running[name] = (
            self._run(name, self._servers[name]) if name in self._servers else self._spawn(name, kind, *arguments)
        )

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
        """Return when every running component has shown a sign of life since it was started.

        :raises ClusterError: see ``check``.
        """
        while not self._is_healthy():
            time.sleep(0.5)

    def wait_for(self, probe: Callable[[], T], what: str, *, timeout: float, pause: float = 0.2) -> T:
        """Return the first true answer of ``probe``, as long as Airflow is at work.

        :raises TimeoutError: naming ``what`` and the last answer.
        :raises ClusterError: see ``check``.
        """

        def look() -> T:
            self.check()
            return probe()

        return wait_for(look, what, timeout=timeout, pause=pause)

    def check(self) -> None:
        """Raise if a component has ended by itself, or has shown no sign of life for a long time.

        :raises ClusterError: the first time with the end of the logs and all processes; from then on in one line.
        """
        with self._turn:
            if self._trouble:
                raise ClusterError(self._trouble)
            if time.monotonic() >= self._listen_at:
                self._listen()
                self._listen_at = time.monotonic() + _LISTEN_EVERY
            for name, process in list(self._running.items()):
                silence = time.monotonic() - self._heard[name][1]
                if process.poll() is not None:
                    self._trouble = f"airflow {name} has ended with exit code {process.returncode}"
                elif silence > _SILENCE:
                    self._trouble = f"airflow {name} has shown no sign of life for {silence:.0f} s"
                else:
                    continue
                raise ClusterError(f"{self._trouble}\n{self._table()}\n{self._abort()}")

    def running(self) -> list[str]:
        """Return the names of the components and servers that were started, and not killed since."""
        return list(self._running)

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
        return self._run(name, [str(self.python), "-m", "airflow", *command])

    def _run(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log_path(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self.environment, COMPONENT: name},
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
        if self._sqlite is not None and self._sqlite.exists():
            with closing(sqlite3.connect(self._sqlite)) as database:
                database.execute("PRAGMA journal_mode = WAL")

    def _is_healthy(self) -> bool:
        self.check()
        self._listen()
        return all(self._heard[name][0] > self._started[name] for name in self._running)

    def _listen(self) -> None:
        """Note the newest sign of life of each component: a heartbeat in the database, or an answer."""
        signs: dict[str, datetime] = {}
        with suppress(requests.RequestException):
            for component, state in self.api.health().items():
                if heartbeat := state.get(f"latest_{component}_heartbeat"):
                    signs[component.replace("_", "-")] = datetime.fromisoformat(heartbeat)
            signs["api-server"] = datetime.now(UTC)
        with suppress(requests.RequestException):
            requests.get(f"{self._execution_url}health", timeout=10).raise_for_status()
            signs["api-server.execution"] = datetime.now(UTC)
        if _HOSTNAME in self.environment:
            with suppress(requests.RequestException):
                signs |= {host: datetime.fromisoformat(beat) for host, beat in self.api.heartbeats().items()}
        for name, (latest, _) in list(self._heard.items()):
            kind = name.partition(".")[0]
            # Of a broker and of a Celery worker, nobody keeps a heartbeat that could be read here.
            without = name in self._servers or kind == "celery"
            sign = datetime.now(UTC) if without else signs.get(name, signs.get(kind))
            if sign is not None and sign > latest:
                # Its age is measured by a clock that stands still while the machine is suspended.
                self._heard[name] = (sign, time.monotonic())

    def _abort(self) -> str:
        """Return the end of each component's log, after it was made to say where it hangs."""
        for process in self._running.values():
            process.send_signal(SIGABRT)
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        return "\n".join(map(self._last_words, self._running))

    def _table(self) -> str:
        """Return state, age, memory and command of each process, one a line."""
        lines = []
        for process in _session_processes({process.pid for process in self._running.values()}):
            with suppress(psutil.Error):
                age, memory = time.time() - process.create_time(), process.memory_info().rss / 2**20
                state, command = process.status(), " ".join(process.cmdline())[:100]
                lines.append(f"{process.pid:>8} {state:<10} {age:>6.0f} s {memory:>6.0f} MiB  {command}")
        return "\n".join(lines)

    def _last_words(self, name: str) -> str:
        lines = self.log_path(name).read_text(errors="replace").splitlines()
        return "\n".join([f"the log {self.log_path(name)} closes with", *lines[-40:]])


def variables(settings: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """Return the environment variables that set these options: section -> option -> value."""
    return {
        f"AIRFLOW__{section.upper()}__{option.upper()}": str(value)
        for section, options in settings.items()
        for option, value in options.items()
    }


def dag_bundles(*folders: Path) -> dict[str, str]:
    """Return the environment variable that makes Airflow read several folders of DAG files."""
    bundles = [
        {
            "name": f"{folder.parent.name}-{folder.name}",
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(folder.absolute())},
        }
        for folder in folders
    ]
    return {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles)}


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
