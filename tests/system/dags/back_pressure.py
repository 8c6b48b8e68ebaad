# SPDX-License-Identifier: Apache-2.0
"""More prompts at once than the account has slots for; no pool and no retry."""

from __future__ import annotations

from airflow.sdk import dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator


@dag(schedule=None, params={"count": 1})
def back_pressure():
    @task
    def prompts(params: dict) -> list[str]:
        return [f"The sea, view {number}" for number in range(params["count"])]

    KlingGenerateOperator.partial(
        task_id="generate",
        model="kling-v3-std-silent",
        kling_conn_id="kling_few_slots",
        wait_for_completion=True,
    ).expand(prompt=prompts())


back_pressure()
