# SPDX-License-Identifier: Apache-2.0
"""Every DAG file pays for what a provider's modules import, at each parse: nothing heavy may be among it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytest.importorskip("airflow.sdk", reason="Airflow 2 loads the heavy libraries itself")

IMPORTED_BY_A_DAG = (
    "airflow_provider_kling.decorators.kling",
    "airflow_provider_kling.operators.kling",
    "airflow_provider_kling.sensors.kling",
    "airflow_provider_kling.transfers.kling_to_object_storage",
)
HEAVY = (
    "aiohttp",
    "av",
    "httpx",
    "PIL",
    "requests",
    "urllib3",
    "yarl",
    "airflow.providers.http",
    "airflow_provider_kling.hooks",
    "airflow_provider_kling.sandbox",
    "airflow_provider_kling.jobs.poll_schedule",
    "airflow_provider_kling.jobs.submission",
    "airflow_provider_kling.triggers",
    "airflow_provider_kling.api.reading.status",
)
PROGRAM = """
import importlib, json, sys
{first}
before = set(sys.modules)
for module in {modules!r}:
    importlib.import_module(module)
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.fixture(scope="module")
def loaded() -> list[str]:
    """The modules that the operators, sensors and transfers add to those that every DAG file has."""
    return added_by("from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task", *IMPORTED_BY_A_DAG)


def added_by(first: str, *modules: str) -> list[str]:
    """Return the modules that an import adds to those of a first statement, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first, modules=modules)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_the_modules_are_loaded(loaded: list[str]) -> None:
    assert set(IMPORTED_BY_A_DAG) <= set(loaded)


def test_a_dag_file_without_decorators_does_not_load_those_of_airflow() -> None:
    added = added_by("from airflow.sdk import DAG, BaseOperator", "airflow_provider_kling.operators.kling")
    assert "airflow.sdk.bases.decorator" not in added


@pytest.mark.parametrize("library", HEAVY)
def test_parsing_a_dag_imports_nothing_heavy(loaded: list[str], library: str) -> None:
    assert find_spec(library), "a name of nothing is never loaded: it would prove nothing"
    assert [module for module in loaded if module == library or module.startswith(f"{library}.")] == []


def test_the_plugin_imports_nothing_of_the_page() -> None:
    """Every component of Airflow loads plugins, workers and the processes that parse DAGs included."""
    added = added_by("import airflow.plugins_manager", "airflow_provider_kling.videos_page.plugin")
    own = {".version_compat", ".videos_page", ".videos_page.plugin"}
    assert {module for module in added if module.startswith("airflow_provider_kling.")} == {
        f"airflow_provider_kling{module}" for module in own
    }
    assert not any(module.startswith("airflow.api_fastapi") for module in added)


def test_parsing_a_dag_imports_little_at_all(loaded: list[str]) -> None:
    foreign = [module for module in loaded if not module.startswith(("airflow_provider_kling", "airflow.sdk"))]
    assert foreign == []
