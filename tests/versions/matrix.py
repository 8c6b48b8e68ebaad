# SPDX-License-Identifier: Apache-2.0
"""The Airflow versions that are supported: what each is installed with, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COLUMNS = (
    "install",
    "unit tests",
    "form",
    "parse",
    "submit",
    "wait",
    "retry joins",
    "paid once",
    "transfer",
    "link",
    "upgrade",
)
"""
What is tried on each version: ``form`` is the connection's form, ``parse`` every example DAG, ``retry joins`` that
a retry of a task that failed after its submit joins the job, with the record in every place that needs no server,
``paid once`` that kills and clears around the submit buy nothing twice, ``link`` the button that opens the video,
``upgrade`` that runs which an older Airflow has started are taken to their ends.
"""

VARIABLE = "before 3.3 there is no task state store: the record is a Variable, or lies in [kling] state_path"
NO_ON_KILL = "before 3.3 a deferred task that a user ends says nothing of the job that goes on"
NO_RETRY_POLICY = "before 3.3 there are no retry policies, so kling_retry_policy() is not to be had"
NO_FORM = "3.0 makes a connection's form with the FAB provider alone: without it, extras are written as JSON"
SCHEDULER = "before 3.0 this is run without a scheduler, by dag.test(), but with a real triggerer"
NO_RETRY = "3.0 itself fails a task whose process is killed, retries or not"
NO_KILLS = "a process that dag.test() runs tasks in cannot be killed without the test"


@dataclass(frozen=True, kw_only=True)
class Version:
    """
    One version of Airflow.

    :param name: Its name in the table.
    :param airflow: The release, as a requirement has it.
    :param pythons: The Python versions that it supports, the one to take first.
    :param pins: What it needs beside it to work at all, since its release knew no later ones.
    :param lowest: Whether everything that ``pyproject.toml`` names is installed in the lowest version it admits.
    :param groups: The dependency groups of ``pyproject.toml`` that its tests need.
    :param records: Where ``paid once`` keeps records: keys of ``tests.system.perils.RECORDS``.
    :param upgraded_from: The older version whose runs it takes over: the name of another one.
    :param skipped: Columns that cannot be tried, with the reason.
    :param limits: What it cannot do besides.
    """

    name: str
    airflow: str
    pythons: tuple[str, ...]
    pins: tuple[str, ...] = ()
    lowest: bool = False
    groups: tuple[str, ...] = ("test",)
    records: tuple[str, ...] = ("variable",)
    upgraded_from: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[str, ...] = (VARIABLE, NO_ON_KILL, NO_RETRY_POLICY)


VERSIONS = (
    Version(
        name="2.11 lowest",
        airflow="2.11.0",
        pythons=("3.11", "3.12"),
        pins=("universal-pathlib<0.3",),
        lowest=True,
        skipped={"paid once": NO_KILLS},
        limits=(VARIABLE, NO_ON_KILL, NO_RETRY_POLICY, SCHEDULER),
    ),
    Version(
        name="2.11",
        airflow="2.11.*",
        pythons=("3.12", "3.11"),
        skipped={"paid once": NO_KILLS},
        limits=(VARIABLE, NO_ON_KILL, NO_RETRY_POLICY, SCHEDULER),
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
        records=(),
        skipped={"form": NO_FORM, "paid once": NO_RETRY},
    ),
    Version(name="3.1", airflow="3.1.*", pythons=("3.13", "3.12", "3.11")),
    Version(
        name="3.2",
        airflow="3.2.*",
        pythons=("3.13", "3.12", "3.11", "3.14"),
        pins=("fastapi<0.137", "cadwyn<7", "svcs<26"),
        groups=("test", "stores", "postgres"),
        records=("variable", "folder", "bucket"),
    ),
    Version(
        name="3.3",
        airflow="3.3.*",
        pythons=("3.13", "3.12", "3.11", "3.14"),
        groups=("test", "postgres"),
        records=("state store",),
        upgraded_from="3.2",
        limits=(),
    ),
)

UNIT_TESTS_LEFT_OUT = {
    "tests/system": "they drive the newest Airflow",
    "tests/benchmarks": "they measure, and prove nothing",
    "tests/docs": "the pages show what to write for the newest Airflow",
    "tests/api/reading": "reading responses needs nothing but Python",
    "tests/jobs": "the decisions need nothing but Python",
}
"""Unit tests that are run with no version, but by ``make test``, and why."""
UNIT_TESTS_OF_LOWEST = {
    "tests/sandbox": "the sandbox knows nothing of Airflow",
    "tests/api": "it needs nothing but PyJWT",
    "tests/utils": "they need nothing of Airflow",
    "tests/client/test_status_batch.py": "gathering checks depends on aiohttp alone",
    "tests/client/test_what_leaves.py": "masking depends on the HTTP libraries",
    "tests/client/test_both_clients.py": "requests depend on the HTTP libraries",
    "tests/client/test_hostile_servers.py": "reading a response depends on the HTTP libraries",
    "tests/media/test_download.py": "downloads depend on the HTTP libraries",
    "tests/media/test_facts.py": "reading a video needs nothing of Airflow",
    "tests/media/test_mp4.py": "reading a video needs nothing of Airflow",
    "tests/media/test_image_facts.py": "reading an image needs nothing of Airflow",
}
"""Unit tests that are run with the lowest versions of all libraries only, and why."""
