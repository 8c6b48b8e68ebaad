# SPDX-License-Identifier: Apache-2.0
"""The record in a bucket of a real S3 server, written by two processes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("s3fs", reason="the S3 server and its client are tried with the newest Airflow")

from airflow.sdk.io import attach

from airflow_provider_kling.jobs.journal import Journal
from airflow_provider_kling.records import Identity
from airflow_provider_kling.records.__main__ import main
from airflow_provider_kling.records.folder import FolderStore
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.fixtures.record_events import intent, outcome
from tests.records.race import FOLDER
from tests.s3_server import S3Server

ROUNDS = 40


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.client.create_bucket(Bucket="kling")
        attach("s3", "race", fs=server.filesystem)
        yield server


@pytest.fixture
def store(s3: S3Server) -> FolderStore:
    return FolderStore(FOLDER, Identity("dag", "run [1]*?", "task", -1), prove=True)


def keys(s3: S3Server) -> list[str]:
    return [found["Key"] for found in s3.client.list_objects_v2(Bucket="kling").get("Contents", [])]


def test_what_another_client_wrote_a_moment_ago_is_seen(s3: S3Server, store: FolderStore) -> None:
    assert list(store.load()) == []
    event = intent()
    other = FolderStore(FOLDER, Identity("dag", "run [1]*?", "task", -1), prove=False)
    other.append(event)
    # By a client that shares no cache with this one.
    [key] = keys(s3)
    copy = key.replace(event["id"], "0" * 32)
    s3.client.copy_object(Bucket="kling", Key=copy, CopySource={"Bucket": "kling", "Key": key})
    assert len(store.load()) == 2
    s3.client.delete_object(Bucket="kling", Key=copy)
    assert len(store.load()) == 1
    store.append(outcome(event))
    assert Journal(other.load()).submits[event["intent"]].fate == "job"


def test_a_submit_is_forgotten_and_nothing_is_left_of_the_proof(s3: S3Server, store: FolderStore) -> None:
    event = intent()
    store.append(event)
    store.append(outcome(event, "refused", reason="slot"))
    store.forget(event["intent"])
    assert not any(event["intent"] in key for key in keys(s3))
    assert not any(key.endswith(".probe") for key in keys(s3))


def test_a_bucket_that_is_not_there_has_not_no_records(s3: S3Server) -> None:
    lost = FolderStore("s3://race@no-such-bucket/state", Identity("dag", "run", "task", -1), prove=True)
    with pytest.raises(OSError, match=r"(?i)bucket"):
        lost.load()


def test_the_command_finds_and_deletes_records_in_a_bucket(
    s3: S3Server, store: FolderStore, capsys: pytest.CaptureFixture[str]
) -> None:
    event = intent()
    store.append(event)
    store.append(outcome(event))
    assert main(["list", "--path", FOLDER, "--dag", "dag", "--run", "run [1]*?"]) == 0
    assert "Kling task task_1" in capsys.readouterr().out
    assert main(["delete", "--path", FOLDER, "--run", "run [1]*?", "--force"]) == 0
    assert not any("run_" in key for key in keys(s3))


def attempts(processes: list[subprocess.Popen[str]], run_id: str) -> list[str]:
    """Have all processes run an attempt at once; return what each printed."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(f"{run_id}\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes if process.stdout]


@pytest.mark.parametrize("is_lost", [False, True], ids=["answered", "answer lost"])
def test_two_processes_at_once_buy_one_video(s3: S3Server, sandbox: Sandbox, is_lost: bool) -> None:
    if is_lost:
        sandbox.add_fault(Fault("submit", "drop_after", times=None))
    command = [sys.executable, "-m", "tests.records.race", sandbox.base_url, sandbox.api_key, s3.url]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    endings: Counter[str] = Counter()
    processes = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for number in range(ROUNDS):
            run_id = f"{is_lost}-{number}"
            together = attempts(processes, run_id)
            # Both may have withdrawn; the retry of one of them buys then.
            alone = attempts(processes[:1], run_id)
            bought = [e["id"] for e in sandbox.ledger() if e["request"]["prompt"] == f"Run <{run_id}>"]
            journal = Journal(FolderStore(FOLDER, Identity("dag", run_id, "generate", -1), prove=True).load())
            recorded = [task_id for submit in journal.submits.values() for task_id in submit.kling_task_ids]
            assert len(bought) == 1, (bought, together, alone)
            assert recorded == ([] if is_lost else bought), (together, alone)
            assert bool(journal.unknown()) == is_lost, (together, alone)
            endings.update(line.partition(":")[0].partition("_")[0] for line in together)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert endings["KlingError"], f"they never met: {endings}"
