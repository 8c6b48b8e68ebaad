# SPDX-License-Identifier: Apache-2.0
"""A batch of videos, each stored in a bucket. What is killed around a task costs it retries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator

RETRIES: dict[str, Any] = {"retries": 8, "retry_delay": timedelta(seconds=5)}


@dag(schedule=None, params={"count": 1, "folder": "", "conn_id": ""}, max_active_tasks=64)
def cluster_batch():
    @task(**RETRIES)
    def prompts(params: dict[str, Any]) -> list[str]:
        return [f"The sea, view {number:04}." for number in range(params["count"])]

    KlingGenerateOperator.partial(
        task_id="generate",
        model="kling-v3-std-silent",
        duration=3,
        kling_conn_id="{{ params.conn_id }}",
        save_to="{{ params.folder }}{map_index}.{ext}",
        deferrable=True,
        **RETRIES,
    ).expand(prompt=prompts())


cluster_batch()
