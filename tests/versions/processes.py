# SPDX-License-Identifier: Apache-2.0
"""Processes that end with the one that starts them, however that one ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

CHECKOUT = Path(__file__).parents[2]


class Processes:
    """Start processes in sessions of their own; at the end of the context, end each with all that it started."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._watchdog = subprocess.Popen(
            [sys.executable, "-m", "tests.system.airflow_cluster"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._watchdog.communicate()
        for process in self._started:
            process.wait()

    def start(
        self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to a file, and return at once."""
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        print(process.pid, file=self._watchdog.stdin, flush=True)
        return process

    def run(self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> int:
        """Start a process, wait for its end and return its exit code."""
        return self.start(command, environment, log).wait()
