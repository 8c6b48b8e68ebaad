# SPDX-License-Identifier: Apache-2.0
"""Render a task's templates as Airflow does before it runs the task, and see what Airflow stores of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from airflow import __version__ as airflow_version

from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS

DAG_RUN = SimpleNamespace(conf={}, run_id="run")


@dataclass
class Rendered:
    """
    What came of a task's templates.

    :param task: The task that is going to run; of a mapped one, the one with the map index.
    :param stored: Its Rendered Templates as Airflow stores them.
    """

    task: Any
    stored: dict[str, Any]


def rendered(task: Any, map_index: int = -1) -> Rendered:
    """Render an operator, mapped or not."""
    ti, fields = (_on_airflow_3 if AIRFLOW_V_3_0_PLUS else _on_airflow_2)(task, map_index)
    return Rendered(ti.task, json.loads(json.dumps(fields)))


def _on_airflow_3(task: Any, map_index: int) -> tuple[Any, Any]:
    import structlog
    from airflow.sdk.execution_time import task_runner

    if airflow_version.startswith("3.0."):
        pytest.skip("Airflow 3.0 stores rendered templates without asking the worker what to mask")
    sent: list[Any] = []

    class Ti:
        """What of a task instance is needed to render."""

        task_id, dag_id, run_id, try_number, max_tries = task.task_id, "dag", "run", 1, 0
        is_mapped, rendered_map_index, hostname = map_index >= 0, None, ""
        _upstream_map_indexes: Any = {}
        render_templates = task_runner.RuntimeTaskInstance.render_templates

    ti: Any = Ti()
    ti.map_index, ti.task = map_index, task
    context: Any = {"ti": ti, "task": task, "params": {}, "run_id": "run", "dag": task.dag, "dag_run": DAG_RUN}
    with pytest.MonkeyPatch.context() as patch:

        def send(msg: Any) -> None:
            sent.append(msg)

        patch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
        task_runner._prepare(ti, structlog.get_logger(), context)
    [message] = [message for message in sent if hasattr(message, "rendered_fields")]
    return ti, message.rendered_fields


def _on_airflow_2(task: Any, map_index: int) -> tuple[Any, Any]:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    ti: Any = SimpleNamespace(task_id=task.task_id, dag_id="dag", run_id="run", map_index=map_index, task=task)
    context: Any = {"ti": ti, "task": task, "params": {}, "run_id": "run", "dag": task.dag, "dag_run": DAG_RUN}
    task.render_template_fields(context, task.dag.get_template_env())
    return ti, RenderedTaskInstanceFields(ti, render_templates=False).rendered_fields
