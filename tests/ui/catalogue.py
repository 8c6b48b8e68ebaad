# SPDX-License-Identifier: Apache-2.0
"""A run of the DAG ``catalogue``: 300 mapped videos, of states and XComs that a real run has left."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.ui.airflows import Airflow
from tests.ui.trailer import FAILED, MADE, MAKING, PROMPTS, WAITING, Trailer
from tests.versions.processes import CHECKOUT

DAG_ID, TASK_ID, COUNT = "catalogue", "generate", 300
POOL = "no_slots"
MODELS = ("kling-v3-std-silent", "kling-v3-pro-audio")
PATTERN = (MADE,) * 7 + (MAKING, WAITING, FAILED)
"""The states of ten videos one after the other, as indexes of the trailer's."""
SHARE = Counter(PATTERN)
STATES = {MADE: "success", MAKING: "deferred", WAITING: "deferred", FAILED: "failed"}


def count_of(state: int) -> int:
    """Return how many of the videos are in this state."""
    return COUNT * SHARE[state] // len(PATTERN)


def prompt_of(index: int) -> str:
    """Return the prompt as the DAG makes it."""
    return f"The sea at {index // 60:02}:{index % 60:02}, view {index}"


@dataclass(frozen=True)
class Catalogue:
    """A run of ``catalogue`` on an Airflow."""

    airflow: Airflow
    run_id: str

    @classmethod
    def fill(cls, airflow: Airflow, trailer: Trailer) -> Catalogue:
        """Start a run, and give each of its tasks what a task of the trailer has left."""
        airflow.api.request("POST", "pools", json={"name": POOL, "slots": 0})
        run = cls(airflow, airflow.api.trigger_dag(DAG_ID, {"count": COUNT}))
        airflow.cluster.wait_for(run._is_expanded, f"{COUNT} tasks", timeout=120)
        samples = {state: trailer.xcoms_of(state) for state in SHARE}
        states = [
            {
                "map_index": index,
                "state": STATES[PATTERN[index % len(PATTERN)]],
                "xcoms": _of_index(samples[PATTERN[index % len(PATTERN)]], PATTERN[index % len(PATTERN)], index),
            }
            for index in range(COUNT)
        ]
        subprocess.run(
            [airflow.cluster.python, "-m", "tests.ui.many_videos", DAG_ID, run.run_id, TASK_ID],
            input=json.dumps(states),
            env=airflow.cluster.environment,
            cwd=CHECKOUT,
            text=True,
            check=True,
        )
        return run

    def _is_expanded(self) -> bool:
        return len(self.airflow.api.task_instances(DAG_ID, self.run_id, TASK_ID)) == COUNT


def _of_index(xcoms: Mapping[str, Any], state: int, index: int) -> dict[str, Any]:
    """Return a task's XComs with this video's prompt, model and id."""
    text = json.dumps(xcoms).replace(PROMPTS[state], prompt_of(index)).replace(MODELS[0], MODELS[index % 2])
    if task_id := xcoms.get("kling_task_id"):
        text = text.replace(str(task_id), f"{str(task_id)[:-4]}{index:04}")
    return dict(json.loads(text))
