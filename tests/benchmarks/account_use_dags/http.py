# SPDX-License-Identifier: Apache-2.0
"""The same videos with Airflow's http provider: a refused submit fails its try, and Airflow tries again."""

from __future__ import annotations

import json
from datetime import timedelta

import requests
from airflow.providers.common.compat.sdk import PokeReturnValue
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import dag, task, task_group

#: Seconds until the next try, or the next look: Airflow 3.3 takes a task that comes back within some 5 s for lost.
INTERVAL = 15


def finished(response: requests.Response) -> PokeReturnValue:
    job = response.json()
    return PokeReturnValue(is_done=job["status"] == "completed", xcom_value=job)


@task
def bodies(params: dict) -> list[str]:
    return [json.dumps({"model": "kling-v3-std-silent", "prompt": prompt}) for prompt in params["prompts"]]


@task_group
def video(body: str):
    submit = HttpOperator(
        task_id="submit",
        http_conn_id="kling_http",
        endpoint="v1/video/generations",
        data=body,
        headers={"Content-Type": "application/json"},
        response_filter=lambda response: response.json()["id"],
        retries=100_000,
        retry_delay=timedelta(seconds=INTERVAL),
    )
    # An answer is looked into by a response_check only, and with one the sensor takes no notice of deferrable=True.
    wait = HttpSensor(
        task_id="wait",
        http_conn_id="kling_http",
        endpoint="v1/videos/{{ ti.xcom_pull(task_ids='video.submit', map_indexes=ti.map_index) }}",
        response_check=finished,
        mode="reschedule",
        poke_interval=INTERVAL,
    )
    submit >> wait


@dag(schedule=None, params={"prompts": []}, max_active_tasks=100_000)
def http():
    video.expand(body=bodies())


http()
