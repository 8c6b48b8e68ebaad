# SPDX-License-Identifier: Apache-2.0
"""A DAG for task instances that are put into the database; no worker runs any, since it stays paused."""

from __future__ import annotations

from airflow.sdk import dag

from airflow_provider_kling.sensors.kling import KlingTaskSensor


@dag(schedule=None, is_paused_upon_creation=True)
def ten_thousand():
    KlingTaskSensor(task_id="wait", kling_task_id="task_none")


ten_thousand()
