# SPDX-License-Identifier: Apache-2.0
"""
``make airflow``: an Airflow with UI, example DAGs, one's own DAGs and the sandbox, until Ctrl-C.

The next start goes on with the runs of the last one, and with their videos.
"""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

from airflow_provider_kling.sandbox import Sandbox
from airflow_provider_kling.sandbox.__main__ import connection_json, new_sandbox
from airflow_provider_kling.sandbox.__main__ import parse as parse_sandbox_options
from tests.system.airflow_api import AirflowApi
from tests.system.airflow_cluster import AirflowCluster, dag_bundles, free_port

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / ".build" / "airflow"
OWN_DAGS = CHECKOUT / "dags"
AIRFLOW_PORT, SANDBOX_PORT = 8080, 8990
CONN_ID = "kling_default"


@dataclass(frozen=True)
class Playground:
    """
    A running Airflow and the server behind its connection.

    :param edited: what the connection leads to, if a user has edited it; it is left alone.
    """

    sandbox: Sandbox
    cluster: AirflowCluster
    edited: str | None


def parse(arguments: Sequence[str], folder: Path = FOLDER) -> Namespace:
    """Return the sandbox's options; those that are not given let one watch, and keep all in ``folder``."""
    return parse_sandbox_options(
        arguments,
        port=free_port(SANDBOX_PORT),
        queue_seconds=2.0,
        run_seconds=20.0,
        state_dir=str(folder / "sandbox"),
    )


@contextmanager
def playground(
    options: Namespace, *, folder: Path = FOLDER, own_dags: Path = OWN_DAGS, port: int = AIRFLOW_PORT
) -> Iterator[Playground]:
    """
    Run Airflow and the sandbox.

    :param options: options of the sandbox, see ``parse``.
    :param folder: what is kept for the next start; made if missing.
    :param own_dags: folder of the user's own DAGs; made if missing.
    :param port: of Airflow; another one if it is taken.
    :raises BlockingIOError: if the folder is in use.
    :raises OSError: if the sandbox cannot use its folder or its port.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own_dags.mkdir(parents=True, exist_ok=True)
    examples = CHECKOUT / "example_dags"
    with (folder / "lock").open("w") as lock:
        flock(lock, LOCK_EX | LOCK_NB)
        with (
            new_sandbox(options) as sandbox,
            AirflowCluster(folder, examples, environment=dag_bundles(examples, own_dags), port=port) as cluster,
        ):
            # Stored, not handed over in the environment, so that the UI shows it and can test it.
            wanted = json.loads(connection_json(sandbox, options))
            edited = connect(cluster.api, wanted, folder / "connection.json")
            yield Playground(sandbox, cluster, edited)


def connect(api: AirflowApi, wanted: Mapping[str, Any], memory: Path) -> str | None:
    """
    Make the connection, unless a user has edited it; return then what it leads to.

    :param wanted: the connection's fields.
    :param memory: file that tells the next start what the connection looked like when it was made.
    """
    # Airflow does not show a password, and it is not to lie around.
    digest = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()
    found = api.connection(CONN_ID)
    made = json.loads(memory.read_text()) if memory.exists() else {}
    if found is not None and found != made.get("shown"):
        return str(found["host"] or "the default address")
    if found is None or digest != made["wanted"]:
        # Of an extra of two characters, `{}`, each task would log that it is too short to be masked.
        extra = json.dumps(wanted["extra"]) if wanted.get("extra") else None
        # The Test button of Airflow's form sends port 0 for none, and Airflow refuses another than the stored one.
        api.set_connection({**wanted, "port": 0, "connection_id": CONN_ID, "extra": extra})
        memory.write_text(json.dumps({"wanted": digest, "shown": api.connection(CONN_ID)}))
    return None


def greeting(running: Playground) -> str:
    """Return what the user is told when everything runs."""
    api, sandbox = running.cluster.api, running.sandbox
    connection = f"Airflow's connection {CONN_ID} leads to it"
    if running.edited is not None:
        connection = (
            f"Airflow's connection {CONN_ID} was edited, so it is left alone; it leads to {running.edited}"
        )
    return f"""Airflow    {api.url}  (no login; logs in {running.cluster.home / "logs"})
Kling      {sandbox.base_url}  (the sandbox: jobs, ledger, and how to make trouble; {connection})
Your DAGs  {OWN_DAGS}  (a file that you put there is read within half a minute)
Runs and videos are kept for the next start. To forget both, stop, and delete {running.cluster.home}.
Stop both with Ctrl-C."""


def main() -> None:
    """Run until interrupted."""
    options = parse(sys.argv[1:])
    print("Starting Airflow ...", flush=True)
    try:
        with playground(options) as running:
            print(greeting(running), flush=True)
            while True:
                running.cluster.check()
                time.sleep(1)
    except BlockingIOError:
        sys.exit("make airflow runs already in this folder: stop that one first.")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("\nStopped.")
        sys.exit(0)
