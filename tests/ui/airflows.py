# SPDX-License-Identifier: Apache-2.0
"""The Airflows that are looked at in a browser, each with users of all roles, and once more under a base path."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_api import AirflowApi
from tests.system.airflow_cluster import AirflowCluster, free_port
from tests.system.scene import set_connection
from tests.versions.matrix import VERSIONS
from tests.versions.processes import CHECKOUT, Processes
from tests.versions.run import Trial, build, find_python

DAGS = Path(__file__).parent / "dags"
ROLES = ("viewer", "user", "op", "admin")
NOBODY = "nobody"
"""A user without a role."""
BASE_PATH = "/data/airflow"
LOGIN = ("admin", "admin")


@dataclass(frozen=True, kw_only=True)
class Airflow:
    """
    One Airflow that runs.

    :param version: Such as ``3.3``.
    :param cluster: Its components.
    :param url: Of its UI.
    :param url_with_path: Of the same UI, served under a base path.
    :param sandbox: What the connection ``kling_default`` leads to; a job goes on until a test ends it.
    :param videos: The folder from which the page may stream stored videos.
    """

    version: str
    cluster: AirflowCluster
    url: str
    url_with_path: str
    sandbox: Sandbox
    videos: Path

    @property
    def api(self) -> AirflowApi:
        """The REST API, as admin."""
        return self.cluster.api

    def trigger(self, dag_id: str, **conf: object) -> str:
        """Start a run and return its id."""
        return self.api.trigger_dag(dag_id, {"folder": f"file://{self.videos}/", **conf})


@contextmanager
def airflow(version: str, folder: Path) -> Iterator[Airflow]:
    """
    Start an Airflow of a version.

    :param version: ``3.3``, which is installed here, or a key of ``tests.versions.matrix``.
    :param folder: Takes everything that it writes.
    :raises RuntimeError: If the version cannot be installed.
    """
    videos = folder / "videos"
    videos.mkdir(parents=True)
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({user: user for user in (*ROLES, NOBODY)}))
    with_path = free_port()
    url_with_path = f"http://127.0.0.1:{with_path}{BASE_PATH}"
    environment = {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(
            [*(f"{role}:{role}" for role in ROLES), f"{NOBODY}:"]
        ),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__KLING__STREAM_FROM": f"file://{videos}/",
        "PYTHONPATH": str(CHECKOUT),
    }
    with (
        Processes() as processes,
        Sandbox(run_seconds=3600, cache_dir=folder / "rendered") as sandbox,
        AirflowCluster(
            folder / "airflow",
            DAGS,
            environment=environment,
            login=LOGIN,
            python=_python(version, processes),
        ) as cluster,
    ):
        set_connection(cluster.api, "kling_default", json.loads(sandbox.connection_json))
        processes.start(
            [cluster.python, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--apps", "core"],
            _under(url_with_path, with_path, cluster.environment),
            cluster.log_path("api-server.with-path"),
        )
        yield Airflow(
            version=version,
            cluster=cluster,
            url=cluster.api.url,
            url_with_path=url_with_path,
            sandbox=sandbox,
            videos=videos,
        )


def _under(url: str, port: int, environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "AIRFLOW__API__PORT": str(port), "AIRFLOW__API__BASE_URL": url}


def _python(version: str, processes: Processes) -> Path:
    """Return the interpreter that has this Airflow; ``make test-versions`` uses the same ones."""
    [found] = [known for known in VERSIONS if known.name == version]
    if found == VERSIONS[-1]:
        return Path(sys.executable)
    trial = Trial(found)
    python = find_python(found.pythons)
    if python is None:
        raise RuntimeError(f"Airflow {version} needs Python {' or '.join(found.pythons)}, and none was found")
    build(trial, processes, python[1])
    return trial.interpreter
