# SPDX-License-Identifier: Apache-2.0
"""Two mapped videos, which are checked often."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_provider_kling.operators.kling import KlingGenerateOperator


@dag(schedule=None)
def progress():
    KlingGenerateOperator.partial(
        task_id="generate",
        model="kling-v3-std-silent",
        kling_conn_id="kling_few_slots",
        wait_for_completion=True,
        poll_interval=2,
    ).expand(prompt=["The sea, at dawn", "The sea, at dusk"])


progress()
