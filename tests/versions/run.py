# SPDX-License-Identifier: Apache-2.0
"""
``make test-versions``: try the provider on every Airflow version of the matrix, and print what works where.

``python -m tests.versions.run [NAME ...]`` tries the versions that are named, all if none is. Each has a folder
in ``.build/versions``: its environment, made anew only when its recipe changes, and the logs of the last run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import repeat
from pathlib import Path

from tests.versions.matrix import COLUMNS, UNIT_TESTS_LEFT_OUT, UNIT_TESTS_OF_LOWEST, VERSIONS, Version
from tests.versions.processes import CHECKOUT, Processes

BUILD = CHECKOUT / ".build" / "versions"
AT_ONCE = 2
"""Versions that are tried at the same time: each waits a good deal."""
AT_ONCE_PER_VERSION = 2
"""Tests of a version that run at the same time: most of their time is timeouts that they wait for."""
LAST_WORDS = 60
"""Lines of a log that are shown when something fails."""
MOST_FAILURES = 20
"""Failed tests of a version that are named at the end."""
_FOREIGN_VARIABLES = ("AIRFLOW", "_AIRFLOW", "PYTHON", "PYTEST", "VIRTUAL_ENV", "KLING")
_PYTEST_REPORT = re.compile(r"^\d+ (?:passed|failed|skipped|error).* in [\d.]+s.*$", re.MULTILINE)
_PYTEST_SKIPS = re.compile(r"^SKIPPED \[(\d+)\] \S+: (.*)$", re.MULTILINE)
_PYTEST_FAILURES = re.compile(r"^(?:FAILED|ERROR) .*$", re.MULTILINE)


@dataclass
class Trial:
    """One version while it is tried, and what came out."""

    version: Version
    python: str = ""
    installed: str = ""
    verdicts: dict[str, str] = field(default_factory=dict)
    """Column -> "" for what works, or what went wrong."""
    failed_tests: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return BUILD / self.version.name.replace(" ", "-")

    @property
    def interpreter(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def failed(self) -> bool:
        return any(self.verdicts.get(column) for column in COLUMNS if column not in self.version.skipped)

    def cell(self, column: str) -> str:
        if not self.python or column in self.version.skipped:
            return "skipped"
        if column not in self.verdicts:
            return "-"
        return "FAILED" if self.verdicts[column] else "ok"

    def say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {self.version.name:<11}  {text}", flush=True)


def find_python(minors: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the version and the path of the first of these Pythons that this machine has."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    # Its shims refuse every version that is not chosen.
    bins = [str(path) for path in sorted(pyenv.glob("versions/*/bin"), reverse=True)]
    environment = {**os.environ, "PATH": os.pathsep.join([*bins, os.environ.get("PATH", "")])}
    for minor in minors:
        command = [_uv(), "python", "find", "--system", "--no-project", minor]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return minor, found.stdout.strip()
    return None


def build(trial: Trial, processes: Processes, python: str) -> None:
    """Make the environment, unless it is there and as it is to be."""
    version = trial.version
    requirements = [f"apache-airflow=={version.airflow}", *version.pins]
    resolution = "lowest-direct" if version.lowest else "highest"
    groups = [word for group in version.groups for word in ("--group", group)]
    recipe = "\n".join(
        [
            python,
            resolution,
            *requirements,
            *groups,
            sha256((CHECKOUT / "pyproject.toml").read_bytes()).hexdigest(),
        ]
    )
    ready = trial.folder / "ready"
    if not ready.exists() or ready.read_text() != recipe:
        ready.unlink(missing_ok=True)
        trial.folder.mkdir(parents=True, exist_ok=True)
        log = trial.folder / "install.log"
        install = [_uv(), "pip", "install", "--python", str(trial.interpreter), "--compile-bytecode"]
        for command in (
            [_uv(), "venv", "--clear", "--python", python, str(trial.folder / "venv")],
            [*install, "--resolution", resolution, "--editable", ".[sandbox]", *requirements],
            # Apart: how low the tools of the tests may be is nobody's concern.
            [*install, *groups],
        ):
            if processes.run(command, _environment(), log):
                raise RuntimeError(_last_words(log))
        ready.write_text(recipe)
    code = "import importlib.metadata as m; print(m.version('apache-airflow'))"
    trial.installed = subprocess.run(
        [trial.interpreter, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def unit_tests(trial: Trial, processes: Processes, log: Path, *arguments: str) -> str:
    """Run the unit tests that pytest's arguments select; return what went wrong."""
    left_out = [*UNIT_TESTS_LEFT_OUT, *(() if trial.version.lowest else UNIT_TESTS_OF_LOWEST)]
    command = [
        *(str(trial.interpreter), "-m", "pytest", "tests", "-q"),
        *arguments,
        *(f"--ignore={name}" for name in left_out),
        *("-o", f"cache_dir={trial.folder / 'pytest-cache'}", f"--basetemp={trial.folder / 'pytest'}"),
    ]
    status = processes.run(command, _environment(), log)
    text = log.read_text(errors="replace")
    skips = Counter[str]()
    for number, reason in _PYTEST_SKIPS.findall(text):
        skips[reason] += int(number)
    for reason, number in skips.items():
        trial.say(f"unit tests: {number} skipped: {reason}")
    for line in _PYTEST_REPORT.findall(text):
        trial.say(f"unit tests: {line}")
    trial.failed_tests += _PYTEST_FAILURES.findall(text)[:MOST_FAILURES]
    return _last_words(log) if status else ""


def probe(trial: Trial, processes: Processes) -> dict[str, str]:
    """Run the DAGs; return what went wrong, by column."""
    folder = trial.folder
    report, log = folder / "report.json", folder / "probe.log"
    report.unlink(missing_ok=True)
    for old in ("airflow", "videos", "records"):
        shutil.rmtree(folder / old, ignore_errors=True)
    (folder / "airflow").mkdir()
    environment = {
        **_environment(),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow/airflow.db?timeout=60",
        "PYTHONPATH": str(CHECKOUT),
    }
    command = [trial.interpreter, "-m", "tests.versions.probe", folder, *trial.version.records]
    processes.run(command, environment, log)
    if not report.exists():
        return dict.fromkeys((column for column in COLUMNS if column != "upgrade"), _last_words(log))
    verdicts: dict[str, str] = json.loads(report.read_text())
    return verdicts


def try_dags(trial: Trial, processes: Processes) -> None:
    """Make the environment and run the DAGs in it."""
    found = find_python(trial.version.pythons)
    if found is None:
        return
    trial.python, python = found
    try:
        with _timed(trial, "environment"):
            build(trial, processes, python)
    except RuntimeError as error:
        trial.verdicts["install"] = str(error)
        return
    with _timed(trial, "DAGs"):
        trial.verdicts.update(probe(trial, processes))


def try_unit_tests(trial: Trial, processes: Processes) -> None:
    """Run all unit tests that measure no time."""
    if trial.installed:
        log = trial.folder / "unit-tests.log"
        at_once = (f"--numprocesses={AT_ONCE_PER_VERSION}", "--dist=worksteal")
        with _timed(trial, "unit tests"):
            wrong = unit_tests(trial, processes, log, "-rsfE", "-m", "not alone and not slow", *at_once)
        trial.verdicts["unit tests"] = wrong


def try_tests_of_time(trial: Trial, processes: Processes) -> None:
    """Run the unit tests that measure time, one after the other."""
    if trial.installed:
        log = trial.folder / "tests-of-time.log"
        with _timed(trial, "unit tests that measure time"):
            # What is skipped has been told.
            wrong = unit_tests(trial, processes, log, "-rfE", "-m", "alone and not slow")
        trial.verdicts["unit tests"] += wrong


def try_upgrade(trial: Trial, trials: list[Trial], processes: Processes) -> None:
    """Let a version take over the runs of an older one, if both are tried and could be installed."""
    older = next((other for other in trials if other.version.name == trial.version.upgraded_from), None)
    if older is None or not older.installed or not trial.installed:
        trial.say(f"upgrade: not tried without {trial.version.upgraded_from}")
        return
    folder = trial.folder / "upgrade"
    shutil.rmtree(folder, ignore_errors=True)
    log = trial.folder / "upgrade.log"
    arguments = map(str, (older.interpreter, trial.interpreter, folder))
    command = [sys.executable, "-m", "tests.versions.upgrade", *arguments]
    with _timed(trial, f"upgrade from {older.installed}"):
        trial.verdicts["upgrade"] = _last_words(log) if processes.run(command, _environment(), log) else ""


def print_table(trials: list[Trial]) -> None:
    """Print what works where, and everything that was not tried."""
    rows: list[tuple[str, ...]] = [("Airflow", "Python", *COLUMNS)]
    rows += [
        (
            f"{trial.installed or trial.version.airflow}{' lowest' if trial.version.lowest else ''}",
            trial.python or "none",
            *map(trial.cell, COLUMNS),
        )
        for trial in trials
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print()
    for name, reason in UNIT_TESTS_LEFT_OUT.items():
        print(f"unit tests without {name}: {reason}")
    for name, reason in UNIT_TESTS_OF_LOWEST.items():
        print(f"unit tests with {name} in the lowest version alone: {reason}")
    for trial in trials:
        name = trial.version.name
        if not trial.python:
            print(f"{name} skipped: it needs Python {' or '.join(trial.version.pythons)}, and none was found")
        for column, reason in trial.version.skipped.items():
            print(f"{name} {column} skipped: {reason}")
        for limit in trial.version.limits:
            print(f"{name} limit: {limit}")


def main(names: list[str]) -> int:
    """Return the exit code: 1 if anything does not work that should."""
    known = {version.name: version for version in VERSIONS}
    if unknown := set(names) - set(known):
        print(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(known)}", file=sys.stderr)
        return 2
    trials = [Trial(version) for version in VERSIONS if not names or version.name in names]
    with Processes() as processes, ThreadPoolExecutor(AT_ONCE) as pool:
        # One after the other: a test that counts seconds has nothing beside it that takes all processors.
        for step in (try_dags, try_unit_tests, try_tests_of_time):
            list(pool.map(step, trials, repeat(processes)))
        for trial in trials:
            if trial.version.upgraded_from:
                try_upgrade(trial, trials, processes)
    for trial in trials:
        for column, wrong in trial.verdicts.items():
            if wrong and column not in trial.version.skipped:
                print(f"\n{trial.version.name} {column} FAILED, see {trial.folder}\n{wrong}")
    print()
    print_table(trials)
    # Last, where a log that was cut still has it.
    for trial in trials:
        for line in trial.failed_tests:
            print(f"{trial.version.name} {line}")
    return int(any(trial.failed for trial in trials))


@contextmanager
def _timed(trial: Trial, what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    trial.say(f"{what} after {time.monotonic() - start:.0f} s")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_VARIABLES)}


def _uv() -> str:
    return str(Path(sys.executable).with_name("uv"))


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_WORDS:])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
