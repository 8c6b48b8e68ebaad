# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.operators.kling import KlingGenerateOperator

GOOD: dict[str, Any] = {"model": "kling-v3-std-silent", "prompt": "A paper boat"}
WRONG_SETTINGS: list[tuple[str, Any, type[Exception]]] = [
    ("on_clear", "bogus", KlingValidationError),
    ("on_clear", "{{ params.on_clear }}", KlingValidationError),
    ("on_uncertain", 1, KlingValidationError),
    ("take", "x", KlingValidationError),
    ("max_cost", 0, KlingValidationError),
    ("max_cost", "-1", KlingValidationError),
    ("max_cost", "much", KlingValidationError),
    ("max_cost", True, KlingValidationError),
    ("max_cost", float("nan"), KlingValidationError),
    ("timeout", -1, ValueError),
    ("poll_interval", 0, ValueError),
    ("submit_timeout", timedelta(0), ValueError),
]
wrong_setting = pytest.mark.parametrize(("name", "value", "kind"), WRONG_SETTINGS)


@wrong_setting
def test_a_wrong_setting_is_refused_in_every_way_to_make_a_task(
    name: str, value: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        KlingGenerateOperator(task_id="video", **GOOD, **{name: value})
    with pytest.raises(kind):
        KlingGenerateOperator.partial(task_id="video", **{name: value})
    with pytest.raises(kind):
        KlingGenerateOperator.partial(task_id="video", **GOOD).expand(**{name: [value]})
    with pytest.raises(kind):
        KlingGenerateOperator.partial(task_id="video", model=GOOD["model"]).expand_kwargs(
            [{"prompt": "A paper boat", name: value}]
        )


def test_right_settings_are_mapped() -> None:
    with DAG("settings", schedule=None, start_date=datetime(2026, 1, 1)):  # noqa: DTZ001
        mapped = KlingGenerateOperator.partial(task_id="video", model=GOOD["model"]).expand_kwargs(
            [{"prompt": "A paper boat", "on_clear": "resubmit", "take": "2", "timeout": timedelta(hours=1)}]
        )
    assert mapped.task_id == "video"


def test_a_partial_can_be_copied() -> None:
    partial = KlingGenerateOperator.partial(task_id="video", **GOOD)
    again = copy.copy(partial)
    with pytest.raises(KlingValidationError, match="duration=99"):
        again.expand(duration=[99])
    partial.expand(take=[1, 2])
