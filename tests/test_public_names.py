# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_provider_kling

LAZY = [name for name in airflow_provider_kling.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", LAZY)
def test_a_public_name_is_found_at_the_root(name: str) -> None:
    if name == "kling_retry_policy":
        pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="there are none before Airflow 3.3")
    assert getattr(airflow_provider_kling, name).__name__ == name


def test_type_checkers_know_the_same_names() -> None:
    stub = Path(airflow_provider_kling.__file__).with_suffix(".pyi").read_text()
    declared = {
        alias.asname: f"{statement.module}"
        for statement in ast.walk(ast.parse(stub))
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    homes = airflow_provider_kling._HOMES
    assert declared == {name: f"airflow_provider_kling.{home}" for name, home in homes.items()}
    assert set(airflow_provider_kling.__all__) <= set(dir(airflow_provider_kling))


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'KlingNothing'"):
        airflow_provider_kling.KlingNothing  # noqa: B018


def test_the_root_costs_nothing() -> None:
    code = "import sys, airflow_provider_kling; print([m for m in sys.modules if 'airflow' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['airflow_provider_kling']"
