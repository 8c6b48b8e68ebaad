# SPDX-License-Identifier: Apache-2.0
"""No import goes up, none goes in a circle: the reader of a module has to know only what lies below it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.imports import Imports, Layer, violations

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "airflow_provider_kling"
HTTP = frozenset({"requests", "urllib3", "aiohttp", "httpx"})
AIRFLOW_AND_HTTP = HTTP | {"airflow"}

LAYERS = {
    "page": Layer(("videos_page",), imports=("operators",)),
    "operators": Layer(("decorators", "operators", "sensors", "transfers", "links"), imports=("tasks", "media")),
    "tasks": Layer(("tasks", "records"), imports=("hooks", "media")),
    "hooks": Layer(("hooks", "triggers", "retry_policy", "shown_prompts"), imports=("client", "jobs", "airflow")),
    "media": Layer(("media",), imports=("client",)),
    "client": Layer(("client",), imports=("api",)),
    "jobs": Layer(("jobs",), imports=("api",), without=AIRFLOW_AND_HTTP, except_through="exceptions"),
    "api": Layer(("api",), imports=("errors",), without=AIRFLOW_AND_HTTP, except_through="exceptions"),
    "airflow": Layer(("version_compat", "get_provider_info"), imports=("errors",)),
    "errors": Layer(("", "exceptions"), imports=("utils",), without=HTTP),
    "utils": Layer(("utils", "connection_form")),
    "sandbox": Layer(("sandbox",), without=frozenset({"airflow"})),
}
"""What may import what; a layer reaches those below the ones that it imports, too."""


def imports_of_test_modules(imports: Imports) -> list[str]:
    return [
        f"{module} imports {target}"
        for module, targets in imports.inner.items()
        for target in sorted(targets)
        if target.rpartition(".")[2].startswith("test_")
    ]


@pytest.fixture(scope="module")
def imports() -> Imports:
    return Imports.read(PACKAGE)


def test_the_package_has_no_circle(imports: Imports) -> None:
    assert sorted(imports.knots()) == []


def test_the_package_keeps_its_layers(imports: Imports) -> None:
    assert violations(imports, LAYERS) == []


def test_no_module_imports_a_test_module() -> None:
    """What several tests share stands in ``tests/fixtures/``; a test module can then change by itself."""
    assert imports_of_test_modules(Imports.read(TESTS)) == []


def test_what_a_video_shows_is_decided_without_airflow(imports: Imports) -> None:
    assert imports.ways_to(AIRFLOW_AND_HTTP, "videos_page.cards", except_through="exceptions") == {}


def test_only_the_connection_knows_which_apis_there_are(imports: Imports) -> None:
    inside = {module for module in imports.inner if module.startswith(("api.gateway", "api.official"))}
    assert {module for module in imports.inner if imports.inner[module] & inside} - inside == {"client.connection"}


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
            "from pkg.operators.kling import KlingGenerateOperator",
            ["tasks.records (tasks) imports operators.kling (operators)"],
        ),
        ("client/http.py", "import pkg.hooks.kling", ["client.http (client) imports hooks.kling (hooks)"]),
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
        ("api/request.py", "from ..media import mp4", ["api.request (api) imports media.mp4 (media)"]),
        ("utils/text.py", "import pkg.exceptions", ["utils.text (utils) imports exceptions (errors)"]),
        ("sandbox/app.py", "from pkg.api import request", ["sandbox.app (sandbox) imports api.request (api)"]),
        ("hooks/kling.py", "from pkg.sandbox import app", ["hooks.kling (hooks) imports sandbox.app (sandbox)"]),
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


@pytest.mark.parametrize(
    "statement",
    [
        "from pkg.sub.test_a import X",
        "from pkg.sub import test_a",
        "from .sub import test_a",
        "import pkg.sub.test_a",
    ],
)
def test_an_import_of_a_test_module_is_found(tmp_path: Path, statement: str) -> None:
    imports = planted(tmp_path, {"sub/test_a.py": "X = 1", "sub/table.py": "Y = 1", "b.py": statement})
    assert imports_of_test_modules(imports) == ["b imports sub.test_a"]


def test_an_import_of_a_shared_table_is_none(tmp_path: Path) -> None:
    imports = planted(tmp_path, {"sub/table.py": "Y = 1", "sub/test_a.py": "from pkg.sub.table import Y"})
    assert imports_of_test_modules(imports) == []
