# SPDX-License-Identifier: Apache-2.0
"""
What earlier versions left in databases and buckets is read by this one.

``tests/fixtures/formats/<version>`` holds samples as that version wrote them. They are never changed: a version
that writes something else gets a folder of its own.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.exceptions import KlingContentRefusedError, KlingTimeoutError
from airflow_provider_kling.jobs.journal import VERSION, Journal
from airflow_provider_kling.jobs.limits import FORMAT
from airflow_provider_kling.jobs.polling import video_from_event
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.records.stores import RECORD_KEY, TaskStateStore
from airflow_provider_kling.sandbox import Sandbox
from tests.task_context import StateStore, context

SAMPLES = Path(__file__).parent / "fixtures" / "formats"
VERSIONS = sorted(int(folder.name) for folder in SAMPLES.iterdir())
every_version = pytest.mark.parametrize("version", VERSIONS)


def sample(version: int, name: str) -> Any:
    return json.loads((SAMPLES / str(version) / f"{name}.json").read_text(encoding="utf-8"))


def test_there_are_samples_of_what_is_written_now() -> None:
    assert max(VERSIONS) == max(VERSION, FORMAT)


@every_version
def test_a_record(version: int) -> None:
    store = TaskStateStore(StateStore({RECORD_KEY: sample(version, "record")}), prove=True)
    submits = list(Journal(store.load()).submits.values())
    assert [submit.fate for submit in submits] == ["nothing", "nothing", "dismissed", "job", "job", "unknown"]
    lost, bought, adopted = submits[2:5]
    assert lost.dismissed_by == "kling_adopt_cccccccccccc"
    assert bought.kling_task_id == "task_697a1b"
    assert bought.tries_seen == {2, 5}
    assert adopted.kling_task_id == "task_found"
    assert bought.summary == "kling-v3-std-silent, 5 s, “A paper boat drifts down a rainy street”"


@every_version
def test_triggers(version: int) -> None:
    for class_path, arguments in sample(version, "triggers"):
        module, _, name = class_path.rpartition(".")
        trigger = getattr(import_module(module), name)(**arguments)
        written = trigger.serialize()
        assert written[0] == class_path
        assert arguments.items() <= written[1].items() | {("version", version)}


@every_version
def test_events(version: int) -> None:
    finished, refused, late, _ = sample(version, "events")
    assert video_from_event(finished)["video_url"] == "https://cdn.example.com/clip.mp4"
    with pytest.raises(KlingContentRefusedError, match="风控"):
        video_from_event(refused)
    with pytest.raises(KlingTimeoutError):
        video_from_event(late)


@every_version
def test_a_task_that_waited_for_a_slot(version: int, sandbox: Sandbox, connected: str) -> None:
    operator = KlingGenerateOperator(
        task_id="generate", model="kling-v3-std-silent", prompt="A paper boat", submit_timeout=1e8
    )
    [(method, arguments)] = sample(version, "resume").items()
    event = sample(version, "events")[3]
    assert operator.resume_execution(method, {**arguments, "event": event}, context()) == sandbox.ledger()[0]["id"]
