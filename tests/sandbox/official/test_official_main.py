# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import Any

import pytest
import requests

from airflow_provider_kling.sandbox import __main__ as program

COMMAND = [sys.executable, "-m", "airflow_provider_kling.sandbox", "--api", "official", "--port", "0"]


def first_video(greeting: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Return address, body and headers of the curl that the greeting shows."""
    words = shlex.split(
        greeting.split("A first video:")[1].split("What was accepted", maxsplit=1)[0].replace("\\\n", " ")
    )
    headers = [words[index + 1] for index, word in enumerate(words) if word == "-H"]
    return words[2], json.loads(words[-1]), dict(header.split(": ", 1) for header in headers)


@pytest.mark.parametrize(
    ("options", "login", "password"),
    [
        ([], None, "api-key-kling-sandbox"),
        (["--access-key", "ak:s:k", "--units", "3"], "ak", "s:k"),
        (["--access-key", "ak:sk", "--api-key", "api-key-one"], None, "api-key-one"),
    ],
)
def test_it_prints_how_to_connect(options: list[str], login: str | None, password: str) -> None:
    with subprocess.Popen(
        [*COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            greeting = ""
            while "_sandbox/ledger" not in greeting:
                line = process.stdout.readline()
                assert line, process.stderr.read()
                greeting += line
            export = next(line for line in greeting.splitlines() if "export" in line)
            connection = json.loads(shlex.split(export)[1].partition("=")[2])
            url, body, headers = first_video(greeting)
            answers = [requests.post(url, json=body, headers=headers, timeout=10) for _ in range(2)]
        finally:
            process.terminate()
            process.communicate(timeout=10)
    assert (connection.get("login"), connection["password"]) == (login, password)
    assert connection["extra"] == {"api": "official"}
    assert [answer.json()["code"] for answer in answers] == [0, 1102 if "--units" in options else 0]


@pytest.mark.parametrize("given", ["ak", "ak:", ":sk"])
def test_a_pair_of_keys_that_is_none(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["--api", "official", "--access-key", given])
    assert "an access key, a colon and a secret key" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--access-key", "ak:sk"], ["--units", "0"]])
def test_what_a_gateway_does_not_have(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(option)
    assert "need --api official" in capsys.readouterr().err
