# SPDX-License-Identifier: Apache-2.0
"""A connection's key and a media URL's signature are in nothing that leaves the processes of a real Airflow."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from hashlib import sha256

import pytest

from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.system.airflow_api import FINISHED_RUN, AirflowApi, wait_for
from tests.system.airflow_cluster import AirflowCluster
from tests.system.database import all_rows
from tests.system.metrics import Metrics

#: A part of the key that is spelt alike in JSON, in a URL and in any text.
SECRET = "Zx9Qv7Kp3Lm8Rt2Wy5"
KEY = f"sk-{SECRET}/Nb+Hc4="
#: What the DAG's image URL is signed with, and a server that says so.
SIGNATURE = sha256(b"first.png").hexdigest()
SIGNED_ECHO = f"Cannot fetch https://example.com/first.png?X-Amz-Signature={SIGNATURE}, says the echo"
#: What a server says that repeats the key it was given.
ECHO = f"Incorrect key {KEY} (also known as {KEY.removeprefix('sk-')}), says the echo"


@dataclass(frozen=True)
class Case:
    """A run, the trouble that it meets, and how it ends."""

    dag_id: str
    state: str
    faults: tuple[Fault, ...] = ()
    heard: str = "says the echo"
    """What of the server's words, the key apart, the user gets to read."""


CASES = {
    "nothing goes wrong": Case("secrets_deferred", "success", heard=""),
    "nothing goes wrong in a worker": Case("secrets_blocking", "success", heard=""),
    "the submit is refused": Case(
        "secrets_deferred", "failed", (Fault("submit", "error", status=401, message=ECHO, times=None),)
    ),
    "the fate of the submit is unknown": Case(
        "secrets_deferred", "failed", (Fault("submit", "proxy_error", message=ECHO, times=None),)
    ),
    "no slot is free at first": Case(
        "secrets_deferred", "success", (Fault("submit", "rate_limit", message=ECHO, times=1),)
    ),
    "the key is refused while deferred": Case(
        "secrets_deferred", "failed", (Fault("status", "error", status=401, message=ECHO, times=None),)
    ),
    "the key is refused while blocking": Case(
        "secrets_blocking", "failed", (Fault("status", "error", status=401, message=ECHO, times=None),)
    ),
    "the sensor is refused": Case(
        "secrets_sensor", "failed", (Fault("status", "error", status=403, message=ECHO, times=None),)
    ),
    "the server fails until the timeout": Case(
        "secrets_impatient", "failed", (Fault("status", "error", status=500, message=ECHO, times=None),)
    ),
    "the way leads elsewhere": Case(
        "secrets_impatient",
        "failed",
        (Fault("status", "redirect", location=f"https://elsewhere.example/?key={KEY}", times=None),),
        heard="elsewhere.example",
    ),
    "the job fails": Case("secrets_deferred", "failed", (Fault("submit", "job_fails", message=ECHO),)),
    "an image is presigned": Case("secrets_signed", "success", heard=""),
    "the submit of a presigned image is refused": Case(
        "secrets_signed", "failed", (Fault("submit", "error", status=400, message=SIGNED_ECHO, times=None),)
    ),
    "the job of a presigned image fails": Case(
        "secrets_signed", "failed", (Fault("submit", "job_fails", message=SIGNED_ECHO, times=None),)
    ),
    "the download is refused": Case(
        "secrets_deferred", "failed", (Fault("content", "error", status=403, message=ECHO, times=None),)
    ),
}


@dataclass
class Evidence:
    """Everything that left Airflow's processes."""

    states: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)

    def look_at_database(self, url: str) -> None:
        """Keep all rows of all tables as they are now; triggers and what they send are gone soon."""
        self.texts[f"database, look {len(self.texts)}"] = b"\n".join(all_rows(url))


@pytest.fixture(scope="module")
def evidence(
    cluster: AirflowCluster, database: str, metrics: Metrics, tmp_path_factory: pytest.TempPathFactory
) -> Evidence:
    """Run every case, all at once, and gather what can be found afterwards."""
    api, found = cluster.api, Evidence()
    folder = tmp_path_factory.mktemp("secrets")
    with Sandbox(api_keys=(KEY,), run_seconds=10) as sandbox:
        # Stored through the API, so that Airflow has every occasion to leave it somewhere.
        connection = {"conn_type": "kling", "host": sandbox.base_url, "password": KEY}
        api.set_connection({"connection_id": "kling_secret", **connection})
        api.wait_for_dags({case.dag_id for case in CASES.values()})
        runs: dict[str, tuple[str, str]] = {}
        for name, case in CASES.items():
            for fault in case.faults:
                sandbox.add_fault(Fault.from_json({**fault.to_json(), "match": name}))
            conf = {"prompt": f"A film of the day when {name}.", "folder": f"file://{folder}/{len(runs)}/"}
            runs[name] = (case.dag_id, api.trigger_dag(case.dag_id, conf))

        def all_ended() -> bool:
            found.look_at_database(database)
            found.states = {name: api.run(*run)["state"] for name, run in runs.items()}
            return set(found.states.values()) <= FINISHED_RUN

        wait_for(all_ended, "every run to end", timeout=300, pause=1)
        assert sandbox.requests["accepted"] > 0
    found.logs = {name: log_of(api, *run) for name, run in runs.items()}
    found.texts |= {f"log in the UI, {name}": log.encode() for name, log in found.logs.items()}
    found.texts["connection in the UI"] = json.dumps(api.request("GET", "connections/kling_secret")).encode()
    found.texts["metrics"] = b"\n".join(metrics.received)
    found.texts |= {str(path): path.read_bytes() for path in cluster.home.rglob("*") if path.is_file()}
    return found


def log_of(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """Return the logs of all tasks of a run that were tried."""
    tasks = [task for task in api.task_instances(dag_id, run_id) if task["try_number"]]
    return "\n".join(
        api.task_log(dag_id, run_id, task["task_id"], try_number=task["try_number"], map_index=task["map_index"])
        for task in tasks
    )


@pytest.mark.parametrize("name", CASES)
def test_every_case_ends_as_it_should(evidence: Evidence, name: str) -> None:
    assert evidence.states[name] == CASES[name].state, evidence.logs[name]


@pytest.mark.parametrize("name", CASES)
def test_the_words_of_the_server_are_told(evidence: Evidence, name: str) -> None:
    assert CASES[name].heard in evidence.logs[name]


def test_the_search_looks_where_things_are(evidence: Evidence) -> None:
    everything = evidence.texts
    assert b"the key is refused while deferred" in b"".join(t for name, t in everything.items() if "look" in name)
    assert b"KlingTaskTrigger" in b"".join(t for name, t in everything.items() if "look" in name)
    assert b"secrets_deferred" in everything["metrics"]
    for file in ("scheduler.log", "triggerer.log"):
        assert any(name.endswith(file) and content for name, content in everything.items())


def test_the_masked_url_is_where_rendered_templates_are(evidence: Evidence) -> None:
    looks = b"".join(text for name, text in evidence.texts.items() if "look" in name)
    rows = [
        row
        for row in looks.splitlines()
        if row.startswith(b"rendered_task_instance_fields\t") and b"secrets_signed" in row
    ]
    shown = b"https://example.com/first.png?X-Amz-Signature=***"
    assert {b"\tgenerate\t" in row for row in rows} == {True, False}
    assert [row for row in rows if shown not in row] == []


@pytest.mark.parametrize(
    "needle",
    [SECRET.encode(), base64.b64encode(KEY.encode()), SECRET.encode().hex().encode(), SIGNATURE.encode()],
    ids=["plain", "base64", "hexadecimal", "signature"],
)
def test_the_secret_is_nowhere(evidence: Evidence, needle: bytes) -> None:
    found = {name for name, text in evidence.texts.items() if needle in text or needle.upper() in text}
    assert found == set()
