# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import airflow
import pytest
from packaging.version import Version

from airflow_provider_kling.version_compat import guards_resumed_tasks

PATH = "airflow.providers.celery.executors.celery_executor.CeleryExecutor"


def test_this_version_of_airflow_is_the_default() -> None:
    this = Version(airflow.__version__).release
    for executors in ("LocalExecutor", "CeleryExecutor"):
        assert guards_resumed_tasks(executors) == guards_resumed_tasks(executors, this)


@pytest.mark.parametrize(
    ("version", "local", "celery"),
    [
        ((2, 11, 0), True, True),
        ((2, 11, 2), True, True),
        ((3, 0, 6), False, False),
        ((3, 1, 8), False, False),
        ((3, 2, 1), False, False),
        ((3, 2, 2), False, True),
        ((3, 3, 0), False, True),
        ((4, 0), False, True),
    ],
)
def test_which_airflow_recognises_a_resumed_task(version: tuple[int, ...], local: bool, celery: bool) -> None:
    assert guards_resumed_tasks("LocalExecutor", version) == local
    assert guards_resumed_tasks("CeleryExecutor", version) == celery


@pytest.mark.parametrize(
    ("executors", "expected"),
    [
        ("CeleryExecutor", True),
        (PATH, True),
        (f"fast:{PATH}", True),
        ("fast:CeleryExecutor", True),
        (f"CeleryExecutor, slow:{PATH}", True),
        ("CeleryExecutor;team_a=CeleryExecutor,slow:CeleryExecutor", True),
        ("CeleryExecutor,LocalExecutor", False),
        ("LocalExecutor, CeleryExecutor", False),
        ("CeleryExecutor;team_a=LocalExecutor", False),
        ("CeleryExecutor:my_company.executors.QuickExecutor", False),
        ("CeleryKubernetesExecutor", False),
        ("KubernetesExecutor", False),
        ("my_company.executors.CeleryExecutor", False),
        ("", False),
    ],
)
def test_all_executors_have_to_be_celerys(executors: str, expected: bool) -> None:
    assert guards_resumed_tasks(executors, (3, 3, 2)) == expected
