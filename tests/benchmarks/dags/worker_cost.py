# SPDX-License-Identifier: Apache-2.0
"""One video each: with this package, and as one would do it without."""

from __future__ import annotations

import json
import time

import requests
from airflow.providers.common.compat.sdk import BaseHook, PokeReturnValue
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sensors.kling import KlingTaskSensor

REQUEST = {"model": "kling-v3-std-silent", "prompt": "A traveler in desert ruins", "duration": 5}
#: Seconds between two checks, where the user has to choose.
INTERVAL = 5
#: The same where each check is a worker process: Airflow 3.3 takes a task that comes back within some 5 s for lost.
RESCHEDULE_INTERVAL = 15


@dag(schedule=None)
def operator_waits():
    KlingGenerateOperator(task_id="generate", wait_for_completion=True, **REQUEST)


@dag(schedule=None)
def operator_and_sensor():
    generate = KlingGenerateOperator(task_id="generate", **REQUEST)
    KlingTaskSensor(task_id="wait", kling_task_id=generate.output)


@dag(schedule=None)
def sensor_starts_from_trigger():
    generate = KlingGenerateOperator(task_id="generate", **REQUEST)
    KlingTaskSensor(task_id="wait", kling_task_id=generate.output, start_from_trigger=True)


def finished(response: requests.Response) -> PokeReturnValue:
    job = response.json()
    return PokeReturnValue(is_done=job["status"] == "completed", xcom_value=job)


def http(mode: str, interval: float) -> None:
    submit = HttpOperator(
        task_id="submit",
        http_conn_id="kling_http",
        endpoint="v1/video/generations",
        data=json.dumps(REQUEST),
        headers={"Content-Type": "application/json"},
        response_filter=lambda response: response.json()["id"],
    )
    # An answer is looked into by a response_check only, and with one the sensor takes no notice of deferrable=True.
    wait = HttpSensor(
        task_id="wait",
        http_conn_id="kling_http",
        endpoint="v1/videos/{{ ti.xcom_pull('submit') }}",
        response_check=finished,
        deferrable=True,
        mode=mode,
        poke_interval=interval,
    )
    submit >> wait


@dag(schedule=None)
def http_poke():
    http("poke", INTERVAL)


@dag(schedule=None)
def http_reschedule():
    http("reschedule", RESCHEDULE_INTERVAL)


@dag(schedule=None)
def python_loop():
    @task
    def generate():
        connection = BaseHook.get_connection("kling_default")
        key = {"Authorization": f"Bearer {connection.password}"}
        url = f"{connection.host}/v1/video/generations"
        job = requests.post(url, json=REQUEST, headers=key, timeout=60).json()
        while job["status"] != "completed":
            time.sleep(INTERVAL)
            job = requests.get(f"{connection.host}/v1/videos/{job['id']}", headers=key, timeout=60).json()
        return job

    generate()


operator_waits()
operator_and_sensor()
sensor_starts_from_trigger()
http_poke()
http_reschedule()
python_loop()
