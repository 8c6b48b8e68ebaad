# SPDX-License-Identifier: Apache-2.0
"""A list of prompts becomes a folder of videos: every step is mapped, and no worker waits for them."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator

PROMPTS = [
    "Waves roll onto a black sand beach at dawn.",
    "A paper boat drifts down a rainy street.",
    "Lanterns rise over a quiet mountain village.",
]


@dag(
    schedule=None,
    tags=["kling"],
    params={
        "prompts": Param(PROMPTS, type="array", items={"type": "string"}, description="One video each"),
        "folder": Param("file:///tmp/kling/", type="string", description="Where the videos go"),
    },
)
def example_kling_batch():
    @task
    def prompts(params: dict) -> list[str]:
        return params["prompts"]

    generate = KlingGenerateOperator.partial(
        task_id="generate", model="kling-v3-std-silent", aspect_ratio="9:16", duration=3
    ).expand(prompt=prompts())
    wait = KlingTaskSensor.partial(task_id="wait").expand(kling_task_id=generate.output)
    store = KlingToObjectStorageOperator.partial(task_id="store", path="{{ params.folder }}")
    store.expand(video=wait.output)


example_kling_batch()
