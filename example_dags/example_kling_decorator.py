# SPDX-License-Identifier: Apache-2.0
"""A function makes the request: ``@task.kling`` submits what it returns, and waits without a worker."""

from __future__ import annotations

from typing import Any

from airflow.providers.common.compat.sdk import Param, dag, task

from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator


@dag(
    schedule=None,
    tags=["kling"],
    doc_md=__doc__,
    params={
        "subject": Param("a paper boat", type="string", description="What the video shows"),
        "folder": Param("file:///tmp/kling/", type="string", description="file://, s3://, gs:// ..."),
    },
)
def example_kling_decorator():
    @task.kling(model="kling-v3-std-silent", wait_for_completion=True)
    def generate(subject: str) -> dict[str, Any]:
        wide = len(subject) < 40
        return {"prompt": f"A slow shot of {subject}", "aspect_ratio": "16:9" if wide else "1:1", "duration": 4}

    video = generate(subject="{{ params.subject }}")
    KlingToObjectStorageOperator(task_id="store", video=video, path="{{ params.folder }}")


example_kling_decorator()
