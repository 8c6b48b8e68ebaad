# SPDX-License-Identifier: Apache-2.0
"""A video that begins with one image and ends with another."""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, dag

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator


@dag(
    schedule=None,
    tags=["kling"],
    doc_md=__doc__,
    params={"folder": Param("file:///tmp/kling/", type="string", description="Where the video goes")},
)
def example_kling_first_last_frame():
    video = KlingGenerateOperator(
        task_id="generate",
        model="kling-v3",
        mode="pro",
        sound=False,
        prompt="The portrait subject slowly turns toward the camera, identity stable, motion natural.",
        image="https://example.com/first-frame.png",
        last_image="https://example.com/last-frame.png",
        duration=8,
        wait_for_completion=True,
    )
    KlingToObjectStorageOperator(task_id="store", video=video.output, path="{{ params.folder }}")


example_kling_first_last_frame()
