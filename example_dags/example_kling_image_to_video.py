# SPDX-License-Identifier: Apache-2.0
"""An image comes to life, with sound. One task submits and a sensor waits, so each can be cleared alone."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator


@dag(
    schedule=None,
    tags=["kling"],
    doc_md=__doc__,
    params={
        "image": Param("https://example.com/start-frame.png", type="string", description="A public URL"),
        "folder": Param("file:///tmp/kling/", type="string", description="Where the video goes"),
    },
)
def example_kling_image_to_video():
    generate = KlingGenerateOperator(
        task_id="generate",
        model="kling-v3-pro-audio",
        prompt="The person writes naturally in a notebook, small pauses, soft classroom depth of field.",
        image="{{ params.image }}",
        duration=6,
        cfg_scale=0.6,
        shot_type="intelligent",
        negative_prompt="artifacts, distortion",
    )
    wait = KlingTaskSensor(task_id="wait", kling_task_id=generate.output)
    KlingToObjectStorageOperator(task_id="store", video=wait.output, path="{{ params.folder }}")


example_kling_image_to_video()
