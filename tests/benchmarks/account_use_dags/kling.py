# SPDX-License-Identifier: Apache-2.0
"""Mapped videos with this package: as they are, and in a pool."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator


@task
def prompts(params: dict) -> list[str]:
    return params["prompts"]


def generate(**options: Any) -> None:
    KlingGenerateOperator.partial(
        task_id="generate", model="kling-v3-std-silent", wait_for_completion=True, **options
    ).expand(prompt=prompts())


@dag(schedule=None, params={"prompts": []}, max_active_tasks=100_000)
def kling():
    generate()


@dag(schedule=None, params={"prompts": []}, max_active_tasks=100_000)
def kling_in_a_pool():
    generate(pool="kling_slots")


kling()
kling_in_a_pool()
