# SPDX-License-Identifier: Apache-2.0
"""A list of prompts becomes a folder of videos: one task for each, and no worker waits."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator

PROMPTS = [
    "Waves roll onto a black sand beach at dawn.",
    "A paper boat drifts down a rainy street.",
    "Lanterns rise over a quiet mountain village.",
]


@dag(
    schedule=None,
    tags=["kling"],
    doc_md=__doc__,
    params={
        "prompts": Param(PROMPTS, type="array", items={"type": "string"}, description="One video each"),
        "folder": Param("file:///tmp/kling/", type="string", pattern="/$", description="Where the videos go"),
    },
)
def example_kling_batch():
    @task
    def prompts(params: dict) -> list[str]:
        return params["prompts"]

    # Each row is a task of its own: a refused prompt costs the others nothing.
    KlingGenerateOperator.partial(
        task_id="generate",
        model="kling-v3-std-silent",
        aspect_ratio="9:16",
        duration=3,
        save_to="{{ params.folder }}{slug}-{map_index}.{ext}",
    ).expand(prompt=prompts())


example_kling_batch()
