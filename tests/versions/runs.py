# SPDX-License-Identifier: Apache-2.0
"""What is run on every Airflow version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.system.test_example_dags import EXAMPLES

CHECKOUT = Path(__file__).parents[2]
DAG_FOLDERS = (CHECKOUT / "example_dags", Path(__file__).parent / "dags")
RETRIED = "retry_joins"
RETRIED_PROMPT = "A video that is paid for once."
DAG_IDS = (*EXAMPLES, RETRIED)


@dataclass(frozen=True)
class Task:
    """How a task instance ended, and where its link leads."""

    dag_id: str
    task_id: str
    map_index: int
    state: str | None
    attempts: int
    link: str | None = None

    @property
    def name(self) -> str:
        """Its id without the task group's."""
        return self.task_id.rpartition(".")[2]

    @property
    def waits(self) -> bool:
        """Whether it is what waits for its DAG's video."""
        return self.task_id == waiting_task(self.dag_id)

    def __str__(self) -> str:
        index = "" if self.map_index < 0 else f"[{self.map_index}]"
        return f"{self.dag_id}.{self.task_id}{index}: {self.state} in attempt {self.attempts}"


def waiting_task(dag_id: str) -> str:
    """Return the id of the task that waits for a DAG's video."""
    return EXAMPLES[dag_id].waiting_task if dag_id in EXAMPLES else "generate"


def videos_of(dag_id: str) -> int:
    """Return how many videos a DAG makes."""
    return EXAMPLES[dag_id].count if dag_id in EXAMPLES else 1


def params_of(dag_id: str, videos: Path) -> dict[str, str]:
    """Return the params of a DAG's run."""
    return {} if dag_id == RETRIED else {"folder": f"file://{videos}/{dag_id}/"}


VIDEOS = sum(videos_of(dag_id) for dag_id in DAG_IDS)
