# SPDX-License-Identifier: Apache-2.0
"""
Three shots that follow one another without a cut: each begins with the image that the one before ended with.

`last_frame_to` stores the last frame of a finished clip beside it, and the next shot takes that file as `image`.
A shot that fails can be cleared alone: those before it are not bought again. Needs the extra `media`.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import Param, chain, dag

from airflow_provider_kling.operators.kling import KlingGenerateOperator

SHOTS = [
    "A lighthouse at dusk, seen from the sea; the camera glides towards it.",
    "The camera rises along the tower to the lamp, which begins to shine.",
    "The camera turns from the lamp to the open sea, where a ship passes.",
]


@dag(
    schedule=None,
    tags=["kling"],
    doc_md=__doc__,
    params={
        # A store that signs URLs: the vendor fetches the images from it. On Kling's own platform file:// will do.
        "folder": Param("s3://aws_default@my-bucket/chain/", type="string", pattern="/$", description="All files"),
    },
)
def example_kling_chain():
    shots = [
        KlingGenerateOperator(
            task_id=f"shot_{number}",
            model="kling-v3-std-silent",
            prompt=prompt,
            image=f"{{{{ params.folder }}}}shot-{number - 1}.png" if number > 1 else None,
            duration=5,
            save_to=f"{{{{ params.folder }}}}shot-{number}.mp4",
            last_frame_to=f"{{{{ params.folder }}}}shot-{number}.png" if number < len(SHOTS) else None,
        )
        for number, prompt in enumerate(SHOTS, start=1)
    ]
    chain(*shots)


example_kling_chain()
