# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_kling.sandbox import __main__ as program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-m", "airflow_provider_kling.sandbox"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_how_to_connect_and_ends_in_order(number: signal.Signals, tmp_path: Path) -> None:
    options = [
        "--port",
        "0",
        "--api-key",
        "sk-one",
        "--api-key",
        "sk-two",
        "--run-seconds",
        "0",
        "--queue-seconds",
        "0",
    ]
    with subprocess.Popen(
        [*COMMAND, *options, "--media-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            greeting = ""
            while "ledger" not in greeting:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                greeting += line
            export = next(line for line in greeting.splitlines() if "export" in line)
            name, _, value = shlex.split(export)[1].partition("=")
            connection = json.loads(value)
            assert (name, connection["conn_type"], connection["password"]) == (
                "AIRFLOW_CONN_KLING_DEFAULT",
                "kling",
                "sk-one",
            )
            answer = requests.post(
                f"{connection['host']}/v1/video/generations",
                json={"model": "kling-v3-std-silent", "prompt": "a traveler"},
                headers={"Authorization": "Bearer sk-two"},
                timeout=10,
            )
            assert answer.status_code == 200
            process.send_signal(number)
            _, log = process.communicate(timeout=10)
        finally:
            process.kill()
    assert process.returncode == 0
    assert answer.json()["id"] in log
    assert "Traceback" not in log
    assert "sk-one" not in log


def test_the_printed_curl_works(tmp_path: Path) -> None:
    """The shell takes the greeting's commands as they stand."""
    greeting = program._greeting("http://127.0.0.1:8765", "sk-one", '{"password": "sk-one"}')
    curl = tmp_path / "curl"
    curl.write_text('#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n')
    curl.chmod(0o755)
    command = greeting.split("A first video:")[1].split("What was accepted")[0]
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = subprocess.run(  # noqa: S602
        command, shell=True, capture_output=True, text=True, check=True, env=environment
    ).stdout.splitlines()
    assert "http://127.0.0.1:8765/v1/video/generations" in words
    assert json.loads(words[-1])["prompt"]


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert program.main(["--port", str(port)]) == 1
    error = capsys.readouterr().err
    assert f"Cannot listen on 127.0.0.1:{port}" in error
    assert "in use" in error


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(program, "find_spec", lambda _name: None)
    assert program.main([]) == 1
    assert capsys.readouterr().err == (
        "The Kling sandbox needs av (PyAV) and pillow: pip install 'airflow-provider-kling[sandbox]'\n"
    )


def test_a_dialect_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--dialect", "klingon"])
    assert "documented" in capsys.readouterr().err


@pytest.fixture
def running() -> Iterator[Callable[..., str]]:
    """Kill the program that runs, start it with these options, and return its base URL."""
    processes: list[subprocess.Popen[str]] = []

    def kill() -> None:
        while processes:
            process = processes.pop()
            process.kill()
            process.communicate()

    def start(*options: str) -> str:
        kill()
        process = subprocess.Popen(
            [*COMMAND, "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().split()[3].rstrip(",")

    yield start
    kill()


def submit(base_url: str, prompt: str) -> requests.Response:
    return requests.post(
        f"{base_url}/v1/video/generations",
        json={"model": "kling-v3-std-silent", "prompt": prompt},
        headers={"Authorization": "Bearer sk-sandbox"},
        timeout=10,
    )


def test_words_in_prompts_are_on_unless_they_are_switched_off(running: Callable[..., str]) -> None:
    assert submit(running(), "a boat [refuse]").status_code == 400
    assert submit(running("--no-prompt-words"), "a boat [refuse]").status_code == 200


def test_jobs_outlive_a_killed_sandbox(running: Callable[..., str], tmp_path: Path) -> None:
    options = ["--state-dir", str(tmp_path), "--run-seconds", "3600"]
    task_id = submit(running(*options), "a boat").json()["id"]
    answer = requests.get(f"{running(*options)}/_sandbox/jobs", timeout=10)
    assert [job["id"] for job in answer.json()] == [task_id]


def test_a_folder_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert program.main(["--state-dir", str(tmp_path / "file")]) == 1
    assert f"Cannot use {tmp_path}/file as --state-dir" in capsys.readouterr().err


def test_the_greeting_leads_to_the_page(running: Callable[..., str]) -> None:
    assert "<h1>Kling sandbox</h1>" in requests.get(running(), timeout=10).text
