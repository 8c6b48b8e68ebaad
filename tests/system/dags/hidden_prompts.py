# SPDX-License-Identifier: Apache-2.0
"""Rows whose prompts may not be written down."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Asset, Param, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator

# An option of the whole Airflow. Here it is that of the processes that parse this file: the tasks of its DAGs.
os.environ["AIRFLOW__KLING__SHOW_PROMPTS"] = "False"

PARAMS = {"rows": Param([], type="array"), "folder": Param("", type="string")}

with DAG("hidden_prompts", schedule=None, params=PARAMS):

    @task(show_return_value_in_logs=False)
    def rows(params: Any = None) -> list[Any]:
        return list(params["rows"])

    KlingGenerateOperator.partial(
        task_id="generate",
        model="kling-v3-std-silent",
        kling_conn_id="kling_priced",
        poll_interval=1,
        save_to="{{ params.folder }}{slug}-{map_index}.{ext}",
        sidecar=True,
        outlets=[Asset("hidden-prompts")],
    ).expand_kwargs(rows())
