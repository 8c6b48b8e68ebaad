# SPDX-License-Identifier: Apache-2.0
"""One video each, under conditions that a run's params name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from tests.system.perils import CrashingGenerateOperator, PerilousGenerateOperator

IMPATIENT_TIMEOUT = 10.0

COMMON: dict[str, Any] = {
    "task_id": "generate",
    "model": "kling-v3-std-silent",
    "kling_conn_id": "{{ params.conn_id }}",
    "wait_for_completion": True,
    # More than any scenario needs: under load, Airflow itself takes a deferral that ends within seconds for lost.
    "retries": 5,
    "retry_delay": timedelta(0),
}


def dag(dag_id: str) -> DAG:
    params = {
        "prompt": "",
        "point": "",
        "misfortune": "",
        "record": "",
        "conn_id": "kling_paid_once",
        "count": 1,
    }
    return DAG(dag_id, schedule=None, params=params, max_active_runs=100, max_active_tasks=100)


def one_video(
    dag_id: str, operator: type[KlingGenerateOperator] = PerilousGenerateOperator, **arguments: Any
) -> None:
    with dag(dag_id):
        operator(**{**COMMON, "prompt": "{{ params.prompt }}", "poll_interval": 1, **arguments})


one_video("paid_once")
one_video("paid_once_blocking", deferrable=False)
one_video("paid_once_on_the_new_standard", model="kling-3.0")
one_video("paid_once_answered_in_bulk")
one_video("paid_once_or_twice", on_uncertain="resubmit")
one_video("paid_once_with_crashing_trigger", CrashingGenerateOperator)
one_video("paid_once_unless_cleared", on_clear="resubmit")
one_video("paid_once_impatient_deferred", timeout=IMPATIENT_TIMEOUT, retries=20)
one_video("paid_once_impatient_blocking", timeout=IMPATIENT_TIMEOUT, retries=20, deferrable=False)
one_video(
    "paid_once_changeable",
    KlingGenerateOperator,
    prompt="{{ params.prompt }}{{ var.value.get('paid_once_prompt', '') }}",
    take="{{ var.value.get('paid_once_take', 1) }}",
)

with dag("paid_once_many"):

    @task
    def prompts(params: dict[str, Any]) -> list[str]:
        return [f"{params['prompt']} {number}" for number in range(params["count"])]

    KlingGenerateOperator.partial(**COMMON).expand(prompt=prompts())
