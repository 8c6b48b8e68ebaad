# SPDX-License-Identifier: Apache-2.0
"""From rows to files: frames in, files, facts and reasons out; with the operator and with the decorator."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator

PARAMS = {
    "rows": Param([], type="array"),
    "frame": Param("", type="string"),
    "folder": Param("", type="string"),
    "reasons": Param("", type="string", description="Folder of what the callback was given"),
}


def write_reason(context: Any) -> None:
    """Write what a callback is given of a failure into a file, one for each row."""
    error, ti = context["exception"], context["ti"]
    reason = {name: getattr(error, name) for name in ("kind", "kling_task_id", "advice")}
    reason |= {"class": type(error).__name__, "text": str(error), "pid": os.getpid()}
    (Path(context["params"]["reasons"]) / f"{ti.dag_id}-{ti.map_index}.json").write_text(json.dumps(reason))


@task
def rows(params: Any = None) -> list[Any]:
    return list(params["rows"])


with DAG("rows_to_files", schedule=None, params=PARAMS):
    KlingGenerateOperator.partial(
        task_id="generate",
        model="kling-v3-std-silent",
        image="{{ params.frame }}",
        kling_conn_id="kling_priced",
        poll_interval=1,
        max_cost=0.3,
        save_to="{{ params.folder }}{slug}-{map_index}.{ext}",
        sidecar=True,
        tags={"team": "ads", "run": "{{ run_id }}"},
        outlets=[Asset("rows-to-files")],
        on_failure_callback=write_reason,
    ).expand_kwargs(rows())

with DAG("rows_to_files_decorated", schedule=None, params=PARAMS):

    @task.kling(
        model="kling-v3-std-silent",
        poll_interval=1,
        save_to="{{ params.folder }}{slug}.{ext}",
        retries=1,
        retry_delay=timedelta(0),
        on_failure_callback=write_reason,
    )
    def generate(subject: str) -> dict[str, Any]:
        return {"prompt": f"A slow shot of {subject}", "duration": 3}

    generate.expand(subject=rows())
