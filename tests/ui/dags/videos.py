# SPDX-License-Identifier: Apache-2.0
"""The DAGs that are looked at in a browser."""

from __future__ import annotations

from airflow.sdk import Param, dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator

FOLDER = Param("", type="string")


@dag(schedule=None, tags=["kling"], params={"conn_id": "kling_default", "prompt": "", "folder": FOLDER})
def one_video():
    """One video, and a task that has nothing to do with Kling."""
    KlingGenerateOperator(
        task_id="generate",
        model="kling-v3-std-silent",
        prompt="{{ params.prompt }}",
        aspect_ratio="16:9",
        duration=5,
        poll_interval=2,
        kling_conn_id="{{ params.conn_id }}",
        save_to="{{ params.folder }}{slug}.{ext}",
    )

    @task
    def tidy() -> None:
        """Do nothing."""

    tidy()


@dag(schedule=None, tags=["kling"], params={"prompts": Param([], type="array"), "folder": FOLDER})
def trailer():
    """A video for each prompt."""

    @task
    def prompts(params: dict) -> list[str]:
        return params["prompts"]

    KlingGenerateOperator.partial(
        task_id="generate",
        map_index_template="{{ task.prompt[:40] }}",
        model="kling-v3-std-silent",
        aspect_ratio="16:9",
        duration=5,
        poll_interval=2,
        save_to="{{ params.folder }}{slug}-{map_index}.{ext}",
    ).expand(prompt=prompts())


@dag(schedule=None, tags=["kling"], params={"count": 300})
def catalogue():
    """Tasks that no worker takes: their pool has no slots."""

    @task
    def requests(params: dict) -> list[dict[str, str]]:
        models = ("kling-v3-std-silent", "kling-v3-pro-audio")
        return [
            {
                "prompt": f"The sea at {number // 60:02}:{number % 60:02}, view {number}",
                "model": models[number % 2],
            }
            for number in range(params["count"])
        ]

    KlingGenerateOperator.partial(
        task_id="generate", duration=5, pool="no_slots", wait_for_completion=True
    ).expand_kwargs(requests())


one_video()
trailer()
catalogue()
