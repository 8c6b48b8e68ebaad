# SPDX-License-Identifier: Apache-2.0
"""Airflow's public REST API, as far as system tests, demos and benchmarks use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import quote

import requests

T = TypeVar("T")

FINISHED_RUN = frozenset({"success", "failed"})
FINISHED_TASK = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_PAGE = 100
"""Entries asked for in one listing: the most that Airflow hands out at once."""
_REQUEST_TIMEOUT = 60.0
"""Seconds: a busy machine of two cores may leave the API server waiting."""


def wait_for(probe: Callable[[], T], what: str, *, timeout: float, pause: float = 0.2) -> T:
    """Return the first true answer of ``probe``, asking every ``pause`` seconds for ``timeout`` seconds.

    :raises TimeoutError: naming ``what`` and the last answer.
    """
    deadline = time.monotonic() + timeout
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}, last answer: {answer!r}")
        time.sleep(pause)
    return answer


class AirflowApi:
    """Drive an Airflow 3 with the simple auth manager.

    Threads may share it; their requests are sent one after the other. The API server of an Airflow on SQLite
    comes to a halt when dozens of them wait for one another's transactions.

    :param url: of the API server, such as ``http://127.0.0.1:8080``.
    :param login: user name and password; None where everybody is let in as admin.
    :raises requests.HTTPError: from every method, when Airflow refuses; its message holds Airflow's words.
    """

    def __init__(self, url: str, login: tuple[str, str] | None = None) -> None:
        self.url = url
        self._login = login
        self._session = requests.Session()
        self._session.trust_env = False
        self._turn = Lock()

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Call ``/api/v2/<path>`` and return the decoded answer."""
        with self._turn:
            if "Authorization" not in self._session.headers:
                self._session.headers["Authorization"] = f"Bearer {self._token()}"
            response = self._session.request(
                method, f"{self.url}/api/v2/{path}", timeout=_REQUEST_TIMEOUT, **arguments
            )
        if not response.ok:
            raise requests.HTTPError(
                f"{method} {response.url}: {response.status_code} {response.text}", response=response
            )
        return response.json() if response.content else None

    def _token(self) -> str:
        url = f"{self.url}/auth/token"
        if self._login is None:
            answer = self._session.get(url, timeout=_REQUEST_TIMEOUT)
        else:
            username, password = self._login
            credentials = {"username": username, "password": password}
            answer = self._session.post(url, json=credentials, timeout=_REQUEST_TIMEOUT)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def listing(self, path: str, key: str) -> Iterator[dict[str, Any]]:
        """Yield all entries of a listing, page by page."""
        offset = 0
        while True:
            page = self.request("GET", path, params={"limit": _PAGE, "offset": offset})
            yield from page[key]
            offset += _PAGE
            if offset >= page["total_entries"]:
                return

    # ---- the whole -----------------------------------------------------------------------------------------

    def health(self) -> dict[str, Any]:
        """Return state and last heartbeat of every component; needs no login."""
        answer = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=_REQUEST_TIMEOUT)
        answer.raise_for_status()
        return dict(answer.json())

    def heartbeats(self) -> dict[str, str]:
        """Return host name -> newest heartbeat of each component that keeps one."""
        newest_first = self.request("GET", "jobs", params={"limit": _PAGE, "order_by": "-latest_heartbeat"})[
            "jobs"
        ]
        return {job["hostname"]: job["latest_heartbeat"] for job in reversed(newest_first) if job["hostname"]}

    def pool(self, name: str = "default_pool") -> dict[str, Any]:
        """Return a pool with its counts, such as ``running_slots`` and ``deferred_slots``."""
        return dict(self.request("GET", f"pools/{quote(name)}"))

    def connection(self, conn_id: str) -> dict[str, Any] | None:
        """Return a connection as Airflow shows it, without its password, or None if there is none."""
        try:
            return dict(self.request("GET", f"connections/{quote(conn_id, safe='')}"))
        except requests.HTTPError as error:
            if error.response.status_code == 404:
                return None
            raise

    def set_connection(self, connection: dict[str, Any]) -> None:
        """Store a connection, in place of one with the same ``connection_id``."""
        with suppress(requests.HTTPError):
            self.request("DELETE", f"connections/{connection['connection_id']}")
        self.request("POST", "connections", json=connection)

    def set_variable(self, key: str, value: str) -> None:
        """Store a Variable, in place of one with the same key."""
        with suppress(requests.HTTPError):
            self.request("DELETE", f"variables/{quote(key, safe='')}")
        self.request("POST", "variables", json={"key": key, "value": value})

    def variable(self, key: str) -> str | None:
        """Return a Variable, or None if there is none."""
        try:
            return str(self.request("GET", f"variables/{quote(key, safe='')}")["value"])
        except requests.HTTPError as error:
            if error.response.status_code == 404:
                return None
            raise

    def variables(self, beginning: str) -> set[str]:
        """Return the keys of all Variables that begin so."""
        keys = {entry["key"] for entry in self.listing("variables", "variables")}
        return {key for key in keys if key.startswith(beginning)}

    # ---- DAGs and runs -------------------------------------------------------------------------------------

    def dag_ids(self) -> set[str]:
        """Return the DAGs that Airflow has parsed so far."""
        return {dag["dag_id"] for dag in self.listing("dags", "dags")}

    def import_errors(self) -> dict[str, str]:
        """Return file name -> stack trace of every DAG file that could not be parsed."""
        errors = self.listing("importErrors", "import_errors")
        return {error["filename"]: error["stack_trace"] for error in errors}

    def wait_for_dags(self, dag_ids: Collection[str], *, timeout: float = 120) -> None:
        """Return when all these DAGs can be triggered.

        :raises ValueError: as soon as a DAG file cannot be parsed.
        """

        def parsed() -> bool:
            if errors := self.import_errors():
                raise ValueError("\n".join(f"{name}:\n{trace}" for name, trace in errors.items()))
            return self.dag_ids() >= set(dag_ids)

        wait_for(parsed, f"DAGs {sorted(dag_ids)} to be parsed", timeout=timeout)

    def trigger_dag(
        self, dag_id: str, conf: dict[str, Any] | None = None, *, logical_date: str | None = None
    ) -> str:
        """Start a run with ``conf`` as its params and return its id.

        :param logical_date: in ISO 8601; the UI's button sets the present time.
        """
        body = {"logical_date": logical_date, "conf": conf or {}}
        return str(self.request("POST", f"dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a DAG run."""
        return dict(self.request("GET", _run_path(dag_id, run_id)))

    def wait_for_run(
        self, dag_id: str, run_id: str, *, states: Collection[str] = FINISHED_RUN, timeout: float = 180
    ) -> str:
        """Return the run's state when it is one of ``states``."""

        def state() -> str:
            now = str(self.run(dag_id, run_id)["state"])
            return now if now in states else ""

        return wait_for(state, f"run {run_id} of {dag_id} to be {sorted(states)}", timeout=timeout)

    # ---- task instances ------------------------------------------------------------------------------------

    def task_instances(self, dag_id: str, run_id: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """Return the task instances of a run, or those of one task, by task and map index."""
        found = [
            task
            for task in self.listing(f"{_run_path(dag_id, run_id)}/taskInstances", "task_instances")
            if task_id in (None, task["task_id"])
        ]
        return sorted(found, key=lambda task: (task["task_id"], task["map_index"]))

    def task_instance(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        """Return one task instance; its ``pid`` is that of the task's own process."""
        return dict(self.request("GET", _task_path(dag_id, run_id, task_id, map_index)))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        *,
        states: Collection[str] = FINISHED_TASK,
        map_index: int = -1,
        timeout: float = 180,
    ) -> dict[str, Any]:
        """Return the task instance when its state is one of ``states``."""

        def reached() -> dict[str, Any] | None:
            task = self.task_instance(dag_id, run_id, task_id, map_index)
            return task if task["state"] in states else None

        found = wait_for(reached, f"task {task_id} of {run_id} to be {sorted(states)}", timeout=timeout)
        assert found is not None
        return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what a task left in XCom, decoded."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{quote(key, safe='')}"
        parameters = {"map_index": map_index, "deserialize": False, "stringify": False}
        return self.request("GET", path, params=parameters)["value"]

    def task_state(self, dag_id: str, run_id: str, task_id: str, key: str, map_index: int = -1) -> Any:
        """Return what a task keeps in the task state store under ``key``, or None if there is nothing."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/state-store/{quote(key, safe='')}"
        try:
            return self.request("GET", path, params={"map_index": map_index})["value"]
        except requests.HTTPError as error:
            if error.response.status_code == 404:
                return None
            raise

    def links(self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1) -> dict[str, str | None]:
        """Return name -> URL of the links that the UI shows beside a task."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/links"
        return dict(self.request("GET", path, params={"map_index": map_index})["extra_links"])

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1, map_index: int = -1) -> str:
        """Return a task's log as the UI shows it, one line an event, the trigger's lines among them."""
        content = self.request(
            "GET",
            f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/logs/{try_number}",
            params={"map_index": map_index, "full_content": True},
            headers={"Accept": "application/json"},
        )["content"]
        return "\n".join(_log_line(entry) for entry in content)

    def report(self, dag_id: str, run_id: str) -> str:
        """Return what a reader needs to see why a run went wrong: all states, and the logs of failed tasks."""
        lines = [f"{dag_id} {run_id}: {self.run(dag_id, run_id)['state']}"]
        for task in self.task_instances(dag_id, run_id):
            name, index, tries = task["task_id"], task["map_index"], task["try_number"]
            lines.append(f"{name}[{index}]: {task['state']}")
            if task["state"] == "failed":
                lines.append(self.task_log(dag_id, run_id, name, try_number=tries, map_index=index))
        return "\n".join(lines)

    def clear_task(
        self, dag_id: str, run_id: str, task_id: str, *, map_indexes: Iterable[int] = (), **options: Any
    ) -> None:
        """Clear a task as the UI's button does, so that it runs once more.

        :param map_indexes: clear these mapped instances only.
        :param options: more fields of the request, such as ``include_downstream=True``.
        """
        body: dict[str, Any] = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": [[task_id, index] for index in map_indexes] or [task_id],
            "only_failed": False,
            "reset_dag_runs": True,
            **options,
        }
        self.request("POST", f"dags/{dag_id}/clearTaskInstances", json=body)

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task ``success`` or ``failed`` as the UI's button does."""
        self.request("PATCH", _task_path(dag_id, run_id, task_id, map_index), json={"new_state": state})


def _run_path(dag_id: str, run_id: str) -> str:
    return f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _task_path(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}"
    return path if map_index < 0 else f"{path}/{map_index}"


def _log_line(entry: Any) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    line = " ".join(str(entry[key]) for key in ("timestamp", "level", "event") if entry.get(key))
    for error in entry.get("error_detail") or ():
        line += f"\n    {error['exc_type']}: {error['exc_value']}"
        line += "".join(
            f"\n        {frame['filename']}:{frame['lineno']} in {frame['name']}" for frame in error["frames"]
        )
    return line
