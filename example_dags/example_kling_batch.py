# SPDX-License-Identifier: Apache-2.0
"""A list of prompts becomes a folder of videos: each is generated and stored by itself, and no worker waits."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag, task, task_group

from airflow_provider_kling.operators.kling import KlingGenerateOperator
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
        # Without a slash at its end it would be one file, which each video replaces.
        "folder": Param("file:///tmp/kling/", type="string", pattern="/$", description="Where the videos go"),
    },
)
def example_kling_batch():
    @task
    def prompts(params: dict) -> list[str]:
        return params["prompts"]

    # The group is mapped, not each task: store.expand(video=generate.output) would need every video, so that one
    # refused prompt would lose all others.
    @task_group
    def clip(prompt: str):
        generate = KlingGenerateOperator(
            task_id="generate",
            model="kling-v3-std-silent",
            prompt=prompt,
            aspect_ratio="9:16",
            duration=3,
            wait_for_completion=True,
        )
        KlingToObjectStorageOperator(task_id="store", video=generate.output, path="{{ params.folder }}")

    clip.expand(prompt=prompts())


example_kling_batch()
