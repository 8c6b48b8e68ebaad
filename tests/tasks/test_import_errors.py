# SPDX-License-Identifier: Apache-2.0
"""An import error as Airflow shows it: it names the task and the line of the DAG file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.tasks.import_errors import named

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.2
    from airflow.models.dagbag import DagBag

HEAD = """
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, TaskGroup, task
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from airflow_provider_kling.decorators.kling import kling_task

MODEL = "kling-v3-std-silent"

with DAG("films", schedule=None, start_date=datetime(2026, 1, 1)):
"""
LINE = HEAD.count("\n") + 1

ImportError_ = Callable[[str], str]


@pytest.fixture
def import_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImportError_:
    """A function that lets Airflow import a DAG file, and returns the error as its UI shows it."""
    folder = tmp_path / "dags"
    folder.mkdir()

    def of(code: str) -> str:
        (folder / "films.py").write_text(HEAD + indent(dedent(code), "    "))
        bag = DagBag(str(folder))
        [text] = bag.import_errors.values()
        return str(text)

    return of


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            'KlingGenerateOperator(task_id="make", model=MODEL, prompt="x", duration=99)',
            "Task 'make': duration=99: must be a whole number of seconds from 3 to 15{place}. ",
        ),
        (
            'KlingGenerateOperator(\n    task_id="make",\n    model=MODEL,\n    prompt="x",\n    duration=99,\n)',
            "Task 'make': duration=99: must be a whole number of seconds from 3 to 15{place}. ",
        ),
        (
            'KlingGenerateOperator(task_id="make", model="x", prompt="x", duration=99)',
            "Task 'make': The video request has 2 problems{place}:\n  - duration=99: ",
        ),
        (
            'KlingGenerateOperator(task_id="make", model=MODEL, prompt="x", timeout=0)',
            "ValueError: Task 'make': timeout must be a positive number of seconds (under 1e9), not 0{place}",
        ),
        (
            'KlingGenerateOperator.partial(task_id="make", model=MODEL, duration=99)',
            "Task 'make': duration=99: ",
        ),
        (
            'KlingGenerateOperator.partial(task_id="make", model=MODEL).expand(prompt=["x"], duration=[3, 99])',
            "Task 'make': duration=99: ",
        ),
        (
            'KlingGenerateOperator.partial(task_id="make", model=MODEL).expand_kwargs([{"duration": 99}])',
            "Task 'make': duration=99: ",
        ),
        (
            'kling_task(model=MODEL, duration=99)(lambda: "x")',
            "Task '<lambda>': duration=99: ",
        ),
        (
            '@kling_task(model=MODEL, duration=99)\ndef idea():\n    return "x"',
            "Task 'idea': duration=99: ",
        ),
        (
            'kling_task(model=MODEL, task_id="make", multiple_outputs=True)(lambda: "x")()',
            "Task 'make': multiple_outputs=True: needs wait_for_completion=True",
        ),
        (
            'kling_task(model=MODEL, task_id="make", save_to="/a.mp4")(lambda x: "x").expand(x=[1, 2])',
            "Task 'make': save_to='/a.mp4': is one file for all rows",
        ),
        (
            'KlingTaskSensor(task_id="wait", kling_task_id="t", timeout=-1)',
            "ValueError: Task 'wait': timeout must be ",
        ),
        (
            'KlingTaskSensor.partial(task_id="wait", start_from_trigger=True)',
            "ValueError: Task 'wait': start_from_trigger=True cannot be mapped",
        ),
        (
            'KlingToObjectStorageOperator(task_id="store", video="t", path="/x/{nothing}.mp4")',
            "Task 'store': path='/x/{nothing}.mp4': ",
        ),
        (
            'KlingToObjectStorageOperator.partial(task_id="store", path="/x/a.mp4").expand(video=["t"])',
            "Task 'store': path='/x/a.mp4': is one file for all rows",
        ),
    ],
)
def test_it_names_the_task_and_the_line(import_error: ImportError_, code: str, words: str) -> None:
    text = import_error(code)
    assert words.replace("{place}", f" (dags/films.py line {LINE})") in text
    assert re.findall(r"\(dags/films\.py line (\d+)\)", text) == [str(LINE)]
    assert text.count("Task '") == 1


def test_a_task_in_a_group(import_error: ImportError_) -> None:
    text = import_error(
        """
        with TaskGroup("reel"):
            KlingGenerateOperator(task_id="make", model=MODEL, prompt="x", duration=99)
        """
    )
    assert "Task 'reel.make': duration=99: " in text
    assert f"(dags/films.py line {LINE + 2})" in text


def test_a_hidden_prompt_is_not_shown(import_error: ImportError_, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")
    text = import_error('KlingGenerateOperator(task_id="make", model=MODEL, prompt=["Mary Smith"])')
    assert "Task 'make': prompt=" in text
    assert "Mary" not in text.splitlines()[-1]


def test_what_python_and_airflow_say_themselves_is_left_alone(import_error: ImportError_) -> None:
    assert "Task '" not in import_error('KlingGenerateOperator(task_id="make", prompt="x", duration=99)')
    assert "Task '" not in import_error('KlingGenerateOperator(task_id="make", model=MODEL, prompt="x", bogus=1)')


def test_an_error_with_arguments_of_its_own_stays_as_it_is() -> None:
    error = UnicodeDecodeError("utf-8", b"x", 0, 1, "bad")
    assert named(error, "make") is error


def test_without_a_place_of_the_user_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker makes the operator of a mapped task: then no frame is one of a DAG file."""
    monkeypatch.setattr("airflow_provider_kling.tasks.import_errors._is_users", lambda frame: False)
    with pytest.raises(Exception, match=r"^Task 'make': duration=99: must be [^(]*$") as caught:
        KlingGenerateOperator(task_id="make", model="kling-v3-std-silent", prompt="x", duration=99)
    assert isinstance(caught.value, Exception)
    assert issubclass(KlingGenerateOperator, BaseOperator)
