# SPDX-License-Identifier: Apache-2.0
"""What is run on every Airflow version."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.system.examples import EXAMPLES

CHECKOUT = Path(__file__).parents[2]
DAG_FOLDERS = (CHECKOUT / "example_dags", Path(__file__).parent / "dags")


class Retried(NamedTuple):
    """A DAG whose task is tried twice: its prompt, and where its record lies (see ``tests.system.perils``)."""

    prompt: str
    record: str


RETRIED = {
    "retry_joins": Retried("A video that is paid for once.", record=""),
    "retry_joins_with_folder": Retried("A video in a folder's record.", record="state store and folder"),
}
"""The first needs no set-up on any version."""
DAG_IDS = (*EXAMPLES, *RETRIED)
TEST_RUN = "This is a test run"
"""What a task logs that is not run by a scheduler."""


class Report:
    """What works, and what does not."""

    def __init__(self) -> None:
        self.columns: dict[str, str] = {}

    @contextmanager
    def column(self, name: str) -> Iterator[None]:
        """Note that what the block tries works, or else the error that it ends with."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            self.columns[name] = f"{type(error).__name__}: {error}"
        else:
            self.columns[name] = ""


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


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    What came of all runs.

    :param tasks: How each task ended.
    :param records: The Variables with records while videos were waited for; None where nobody could look.
    :param records_left: Those that were left in the end.
    :param test_runs: The DAGs, among the retried ones, whose tasks took themselves for a test run.
    """

    tasks: list[Task]
    records: set[str] | None
    records_left: set[str]
    test_runs: set[str]


def waiting_task(dag_id: str) -> str:
    """Return the id of the task that waits for a DAG's video."""
    return EXAMPLES[dag_id].waiting_task if dag_id in EXAMPLES else "generate"


def videos_of(dag_id: str) -> int:
    """Return how many videos a DAG makes."""
    return EXAMPLES[dag_id].count if dag_id in EXAMPLES else 1


def params_of(dag_id: str, videos: Path) -> dict[str, str]:
    """Return the params of a DAG's run."""
    return {} if dag_id in RETRIED else {"folder": f"file://{videos}/{dag_id}/"}


VIDEOS = sum(videos_of(dag_id) for dag_id in DAG_IDS)
