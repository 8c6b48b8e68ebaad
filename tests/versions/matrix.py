# SPDX-License-Identifier: Apache-2.0
"""The Airflow versions that are supported: what each is installed with, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COLUMNS = ("install", "unit tests", "form", "parse", "submit", "wait", "retry joins", "transfer", "link")
"""
What is tried on each version: ``form`` is the connection's form, ``parse`` every example DAG, ``retry joins`` that
a retry of a task that failed after its submit joins the job, ``link`` the button that opens the video.
"""

STATE_PATH = "before 3.3 there is no task state store: [kling] state_path has to name a folder"
NO_ON_KILL = "before 3.3 a deferred task that a user ends says nothing of the job that goes on"
NO_RETRY_POLICY = "before 3.3 there are no retry policies, so kling_retry_policy() is not to be had"
NO_FORM = "3.0 makes a connection's form with the FAB provider alone: without it, extras are written as JSON"
SCHEDULER = "before 3.0 this is run without a scheduler, by dag.test(), but with a real triggerer"


@dataclass(frozen=True, kw_only=True)
class Version:
    """
    One version of Airflow.

    :param name: Its name in the table.
    :param airflow: The release, as a requirement has it.
    :param pythons: The Python versions that it supports, the one to take first.
    :param pins: What it needs beside it to work at all, since its release knew no later ones.
    :param lowest: Whether everything that ``pyproject.toml`` names is installed in the lowest version it admits.
    :param state_path: Whether ids of paid jobs are kept in ``[kling] state_path``.
    :param skipped: Columns that cannot be tried, with the reason.
    :param limits: What it cannot do besides.
    """

    name: str
    airflow: str
    pythons: tuple[str, ...]
    pins: tuple[str, ...] = ()
    lowest: bool = False
    state_path: bool = True
    skipped: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = (STATE_PATH, NO_ON_KILL, NO_RETRY_POLICY)


VERSIONS = (
    Version(
        name="2.11 lowest",
        airflow="2.11.0",
        pythons=("3.11", "3.12"),
        pins=("universal-pathlib<0.3",),
        lowest=True,
        limits=(STATE_PATH, NO_ON_KILL, NO_RETRY_POLICY, SCHEDULER),
    ),
    Version(
        name="2.11",
        airflow="2.11.*",
        pythons=("3.12", "3.11"),
        limits=(STATE_PATH, NO_ON_KILL, NO_RETRY_POLICY, SCHEDULER),
    ),
    Version(
        name="3.0",
        airflow="3.0.*",
        pythons=("3.12", "3.11"),
        pins=(
            "fastapi<0.118",
            "cadwyn<5.5",
            "pydantic<2.12",
            "starlette<1",
            "pyjwt<2.11",
            "universal-pathlib<0.3",
        ),
        skipped={"form": NO_FORM},
    ),
    Version(name="3.1", airflow="3.1.*", pythons=("3.13", "3.12", "3.11")),
    Version(
        name="3.2",
        airflow="3.2.*",
        pythons=("3.13", "3.12", "3.11", "3.14"),
        pins=("fastapi<0.137", "cadwyn<7", "svcs<26"),
    ),
    Version(name="3.3", airflow="3.3.*", pythons=("3.13", "3.12", "3.11", "3.14"), state_path=False, limits=()),
)

UNIT_TESTS_LEFT_OUT = {
    "tests/system": "they drive the newest Airflow",
    "tests/benchmarks": "they measure, and prove nothing",
    "tests/docs": "the pages show what to write for the newest Airflow",
    "tests/sandbox": "the sandbox knows nothing of Airflow; its own libraries are tried in the lowest version",
}
