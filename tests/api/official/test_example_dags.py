# SPDX-License-Identifier: Apache-2.0
"""Each example DAG can be moved to Kling's own platform as it is."""

from __future__ import annotations

import runpy
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
def test_its_request_is_one_that_the_platform_takes(example: Path) -> None:
    tasks = runpy.run_path(str(example))[example.stem]().tasks
    [generate] = [task for task in tasks if isinstance(task, KlingGenerateOperator)]
    given = {name: getattr(generate, name) for name in REQUEST_FIELDS}
    if function := getattr(generate, "python_callable", None):
        given |= function(**dict.fromkeys(getattr(generate, "op_kwargs"), "a paper boat"))  # noqa: B009
    video = VideoRequest.build(**{name: _rendered(name, value) for name, value in given.items()})
    assert with_api_key().check(video) == with_pair().check(video) == []


def _rendered(name: str, value: Any) -> Any:
    comes_later = value is not None and name in RENDERED and (not isinstance(value, str) or "{{" in value)
    return RENDERED[name] if comes_later else value
