# SPDX-License-Identifier: Apache-2.0
"""Several shots in one video, with a prompt for each and the same face throughout."""

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
def example_kling_multi_shot():
    video = KlingGenerateOperator(
        task_id="generate",
        model="kling-v3-std-audio",
        image="https://example.com/detective.png",
        # With an image, the shots take the place of the prompt.
        multi_prompt=[
            {"index": 1, "prompt": "A detective enters a dim office, rain on the window.", "duration": 3},
            {"index": 2, "prompt": "Close-up: she finds a letter on the desk.", "duration": 2},
            {"index": 3, "prompt": "She looks up, startled, as the door opens.", "duration": 2},
        ],
        element_list=[{"element_id": "detective"}],
        shot_type="customize",
        duration=7,
        wait_for_completion=True,
    )
    KlingToObjectStorageOperator(task_id="store", video=video.output, path="{{ params.folder }}")


example_kling_multi_shot()
