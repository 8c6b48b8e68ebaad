# SPDX-License-Identifier: Apache-2.0
"""
A person decides whether a video is published.

The task `approve` appears under Required Actions with a link to watch, and holds no worker meanwhile. "Approve"
copies the stored video to `published/`; "Reject", or no answer within a day, skips that. Needs Airflow 3.1.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.common.compat.sdk import (
    AirflowOptionalProviderFeatureException,
    ObjectStoragePath,
    Param,
    dag,
    task,
)

from airflow_provider_kling.operators.kling import KlingGenerateOperator

try:
    from airflow.providers.standard.operators.hitl import ApprovalOperator
except (ImportError, AirflowOptionalProviderFeatureException):
    # Before 3.1, Airflow cannot ask a person: this file then has no DAG.
    ApprovalOperator = None

VIDEO = "ti.xcom_pull(task_ids='generate')"

if ApprovalOperator:

    @dag(
        schedule=None,
        tags=["kling"],
        doc_md=__doc__,
        params={
            "prompt": Param("A paper boat drifts down a rainy street.", type="string", description="The video"),
            "folder": Param("file:///tmp/kling/review/", type="string", pattern="/$", description="Where it goes"),
        },
    )
    def example_kling_review():
        generate = KlingGenerateOperator(
            task_id="generate",
            model="kling-v3-std-silent",
            prompt="{{ params.prompt }}",
            aspect_ratio="16:9",
            duration=5,
            save_to="{{ params.folder }}{kling_task_id}.{ext}",
        )
        approve = ApprovalOperator(
            task_id="approve",
            subject="Publish this video?",
            body=f"[Watch it]({{{{ {VIDEO}['video_url'] }}}}), stored as {{{{ {VIDEO}['path'] }}}}\n\n"
            "Prompt: {{ params.prompt }}",
            defaults=ApprovalOperator.REJECT,
            response_timeout=timedelta(days=1),
        )

        @task
        def publish(video: dict, params: dict) -> str:
            source = ObjectStoragePath(video["path"])
            folder = ObjectStoragePath(params["folder"]) / "published"
            folder.mkdir(parents=True, exist_ok=True)
            source.copy(folder / source.name)
            return str(folder / source.name)

        generate >> approve >> publish(generate.output)

    example_kling_review()
