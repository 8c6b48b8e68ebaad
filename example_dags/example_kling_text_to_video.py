# SPDX-License-Identifier: Apache-2.0
"""From a prompt to a video file: the operator submits, waits without a worker, and its video is stored."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator

PROMPT = (
    "A wide cinematic shot of a traveler walking through dusty desert ruins, cloak moving in the wind, "
    "slow pullback, natural motion."
)


@dag(
    schedule=None,
    tags=["kling"],
    doc_md=__doc__,
    params={
        "prompt": Param(PROMPT, type="string", description="What the video shows"),
        "folder": Param("file:///tmp/kling/", type="string", description="file://, s3://, gs:// ..."),
    },
)
def example_kling_text_to_video():
    video = KlingGenerateOperator(
        task_id="generate",
        model="kling-v3-std-silent",
        prompt="{{ params.prompt }}",
        negative_prompt="blur, low detail",
        aspect_ratio="16:9",
        duration=5,
        cfg_scale=0.5,
        wait_for_completion=True,
    )
    KlingToObjectStorageOperator(task_id="store", video=video.output, path="{{ params.folder }}")


example_kling_text_to_video()
