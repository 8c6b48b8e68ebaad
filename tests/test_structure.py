# SPDX-License-Identifier: Apache-2.0
"""No import goes up, none goes in a circle: whoever reads a module has to know only what lies below it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.imports import Edge, Imports, Layer, violations

PACKAGE = Path(__file__).parents[1] / "airflow_provider_kling"
AIRFLOW_AND_HTTP = frozenset({"airflow", "requests", "urllib3", "aiohttp", "httpx"})

LAYERS = {
    "facades": Layer(
        ("hooks", "operators", "sensors", "triggers", "transfers", "links", "retry_policy"),
        imports=("tasks", "client", "media"),
    ),
    "tasks": Layer(("tasks",), imports=("jobs", "airflow")),
    "jobs": Layer(("jobs",), imports=("api",), without=AIRFLOW_AND_HTTP),
    "client": Layer(("client",), imports=("api", "media")),
    "api": Layer(("api",), imports=("errors",), without=AIRFLOW_AND_HTTP),
    "media": Layer(("media",), imports=("errors",)),
    "airflow": Layer(("version_compat", "get_provider_info"), imports=("errors",)),
    "errors": Layer(("", "exceptions"), imports=("utils",), without=AIRFLOW_AND_HTTP),
    "utils": Layer(("utils",)),
    "sandbox": Layer(("sandbox",), without=frozenset({"airflow"})),
}
"""The layers of the layout with folders ``api``, ``jobs``, ``client``, ``tasks``; put to use once these exist."""

LAYERS_TODAY = {
    "airflow": Layer(
        (
            *("hooks", "operators", "sensors", "triggers", "transfers", "links", "records"),
            *("failures", "rendered", "retry_policy", "version_compat", "get_provider_info"),
        ),
        imports=("rules",),
    ),
    "rules": Layer(
        (
            *(
                "",
                "wire",
                "connection",
                "consent",
                "exceptions",
                "file_names",
                "fingerprint",
                "journal",
                "masking",
            ),
            *("pace", "polling", "schedule", "signed_urls", "submission"),
        ),
        without=AIRFLOW_AND_HTTP,
    ),
    "sandbox": Layer(("sandbox",), without=frozenset({"airflow"})),
}
"""What is true of the package as it is; :data:`LAYERS` takes its place."""

KNOWN_KNOTS: set[Edge] = {
    # Type-only in one direction: a link knows its tasks, a trigger the tasks that defer to it.
    ("links.kling", "operators.kling"),
    ("links.kling", "sensors.kling"),
    ("operators.kling", "links.kling"),
    ("operators.kling", "triggers.kling"),
    ("sensors.kling", "links.kling"),
    ("sensors.kling", "triggers.kling"),
    ("triggers.kling", "operators.kling"),
    ("triggers.kling", "sensors.kling"),
    # The stores need the type of a record's address, which lies beside the function that makes them.
    ("records", "records.folder"),
    ("records", "records.stores"),
    ("records.folder", "records"),
    ("records.folder", "records.stores"),
    ("records.stores", "records"),
    ("sandbox.dialects", "sandbox.jobs"),
    ("sandbox.jobs", "sandbox.dialects"),
}
"""Imports that are part of a circle and known to be; one that is gone has to go from here."""


@pytest.fixture(scope="module")
def imports() -> Imports:
    return Imports.read(PACKAGE)


def test_the_package_has_no_new_circle(imports: Imports) -> None:
    assert sorted(imports.knots() - KNOWN_KNOTS) == []


def test_every_known_circle_is_still_there(imports: Imports) -> None:
    assert sorted(KNOWN_KNOTS - imports.knots()) == []


def test_the_package_keeps_its_layers(imports: Imports) -> None:
    assert violations(imports, LAYERS_TODAY) == []


def planted(folder: Path, files: Mapping[str, str]) -> Imports:
    """A little package ``pkg`` of these files; every folder is a package."""
    root = folder / "pkg"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for above in path.relative_to(root).parents:
            (root / above / "__init__.py").touch()
    return Imports.read(root)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("import pkg.b", "import pkg.a"),
        ("from pkg import b", "from pkg.a import thing"),
        ("from .b import thing", "from . import a"),
        ("def f():\n    from pkg.b import thing", "import pkg.a"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.b import T", "from pkg import a"),
        (
            "class A:\n    try:\n        import pkg.b as x\n    except ImportError:\n        pass",
            "from pkg.a import *",
        ),
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path: Path, one: str, other: str) -> None:
    assert planted(tmp_path, {"a.py": one, "b.py": other}).knots() == {("a", "b"), ("b", "a")}


def test_a_long_circle_is_found_and_what_hangs_on_it_is_not_part_of_it(tmp_path: Path) -> None:
    imports = planted(
        tmp_path,
        {
            "a.py": "from pkg.sub import b",
            "sub/b.py": "from ..c import thing",
            "c.py": "import pkg.a\nimport pkg.leaf",
            "leaf.py": "import json",
            "user.py": "import pkg.a",
        },
    )
    assert imports.knots() == {("a", "sub.b"), ("sub.b", "c"), ("c", "a")}


def test_a_package_and_its_own_module_can_make_a_circle(tmp_path: Path) -> None:
    imports = planted(tmp_path, {"sub/__init__.py": "from pkg.sub import a", "sub/a.py": "from . import thing"})
    assert imports.knots() == {("sub", "sub.a"), ("sub.a", "sub")}


GOOD = {
    "operators/kling.py": "from pkg.tasks.records import Record\nfrom pkg.hooks import kling\nimport airflow",
    "hooks/kling.py": "from pkg.client.http import Client\nimport requests",
    "tasks/records.py": "from pkg.jobs.submission import Submitter\nfrom pkg.version_compat import V",
    "client/http.py": "from pkg.api.response import parse\nimport aiohttp",
    "jobs/submission.py": "from pkg.api.request import VideoRequest\nfrom pkg.utils.text import shorten",
    "api/response.py": "from pkg.exceptions import KlingError\nfrom pkg import __version__\nimport json",
    "api/request.py": "",
    "media/mp4.py": "import struct",
    "utils/text.py": "",
    "sandbox/app.py": "from aiohttp import web",
    "exceptions.py": "from pkg.utils import text",
    "version_compat.py": "import airflow",
    "get_provider_info.py": "",
    "retry_policy.py": "from pkg.exceptions import KlingError",
}


def test_a_package_in_layers_breaks_no_rule(tmp_path: Path) -> None:
    imports = planted(tmp_path, GOOD)
    assert violations(imports, LAYERS) == []
    assert imports.knots() == set()


@pytest.mark.parametrize(
    ("module", "statement", "broken"),
    [
        (
            "tasks/records.py",
            "from pkg.hooks.kling import KlingHook",
            ["tasks.records (tasks) imports hooks.kling (facades)"],
        ),
        ("tasks/records.py", "import pkg.client.http", ["tasks.records (tasks) imports client.http (client)"]),
        (
            "client/http.py",
            "if TYPE_CHECKING:\n    from pkg.jobs.submission import Submitter",
            ["client.http (client) imports jobs.submission (jobs)"],
        ),
        (
            "api/request.py",
            "def f():\n    from pkg.jobs import submission",
            ["api.request (api) imports jobs.submission (jobs)"],
        ),
        ("media/mp4.py", "from ..api import request", ["media.mp4 (media) imports api.request (api)"]),
        ("utils/text.py", "import pkg.exceptions", ["utils.text (utils) imports exceptions (errors)"]),
        ("sandbox/app.py", "from pkg.api import request", ["sandbox.app (sandbox) imports api.request (api)"]),
        ("hooks/kling.py", "from pkg.sandbox import app", ["hooks.kling (facades) imports sandbox.app (sandbox)"]),
        ("sandbox/app.py", "import airflow.sdk", ["sandbox.app (sandbox) imports airflow"]),
        ("helpers/misc.py", "", ["helpers is in no layer", "helpers.misc is in no layer"]),
    ],
)
def test_an_import_upwards_breaks_the_rule(tmp_path: Path, module: str, statement: str, broken: list[str]) -> None:
    files = {**GOOD, module: f"{GOOD.get(module, '')}\n{statement}"}
    assert violations(planted(tmp_path, files), LAYERS) == broken


@pytest.mark.parametrize("library", sorted(AIRFLOW_AND_HTTP))
@pytest.mark.parametrize(
    "statement", ["import {}", "from {}.x import y", "if TYPE_CHECKING:\n    from {} import y"]
)
def test_the_rules_know_neither_airflow_nor_http(tmp_path: Path, library: str, statement: str) -> None:
    imports = planted(tmp_path, {**GOOD, "api/request.py": statement.format(library)})
    assert violations(imports, LAYERS) == [
        f"api.request (api) imports {library}",
        f"jobs.submission (jobs) imports {library} through api.request",
    ]


def test_an_init_around_a_module_counts_as_imported(tmp_path: Path) -> None:
    imports = planted(tmp_path, {**GOOD, "api/__init__.py": "import httpx"})
    assert "api.response (api) imports httpx through api" in violations(imports, LAYERS)
