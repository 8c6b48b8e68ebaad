# SPDX-License-Identifier: Apache-2.0
"""Each example DAG can be moved to Kling's own platform as it is."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.api.request import REQUEST_FIELDS, VideoRequest
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from tests.fixtures.official import PICTURE, with_api_key, with_pair

EXAMPLES = sorted((Path(__file__).parents[3] / "example_dags").glob("*.py"))
#: What stands for the values that come when the DAG runs.
RENDERED = {"prompt": "A paper boat", "image": PICTURE}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_its_requests_are_ones_that_the_platform_takes(example: Path) -> None:
    define_dag = runpy.run_path(str(example)).get(example.stem)
    if define_dag is None:
        pytest.skip("this version of Airflow cannot run it")
    requests = list(_requests(define_dag().tasks))
    assert requests
    for given in requests:
        video = VideoRequest.build(**{name: _rendered(name, value) for name, value in given.items()})
        assert with_api_key().check(video) == with_pair().check(video) == []


def _requests(tasks: list[Any]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        if isinstance(task, KlingGenerateOperator):
            given = {name: getattr(task, name) for name in REQUEST_FIELDS}
            if function := getattr(task, "python_callable", None):
                given |= function(**dict.fromkeys(getattr(task, "op_kwargs"), "a paper boat"))  # noqa: B009
            yield given
        elif getattr(task, "operator_class", None) is KlingGenerateOperator:
            # Model and prompt may be in the rows.
            given = {"model": "kling-v3-std-silent", "prompt": RENDERED["prompt"], **task.partial_kwargs}
            yield {name: value for name, value in given.items() if name in REQUEST_FIELDS}


def _rendered(name: str, value: Any) -> Any:
    comes_later = value is not None and name in RENDERED and (not isinstance(value, str) or "{{" in value)
    return RENDERED[name] if comes_later else value
