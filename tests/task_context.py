# SPDX-License-Identifier: Apache-2.0
"""What Airflow hands to a task that runs, as far as a test needs it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class TaskInstance:
    """A task instance that keeps what was pushed; like Airflow, it takes only what is JSON."""

    task_id: str = "video"
    dag_id: str = "dag"
    run_id: str = "run"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: Any = None, key: str = "return_value", **_: Any) -> Any:
        return self.pushed.get(key)

    def get_first_reschedule_date(self, context: Any) -> None:
        """Tell that the task was not rescheduled yet."""


class StateStore(dict[str, Any]):
    """A task state store in memory; like Airflow's, it outlives the attempts of one task."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = json.loads(json.dumps(value))


def context(ti: TaskInstance | None = None, store: StateStore | None = None) -> Any:
    """Return the context of one attempt; pass ``ti`` to see what is pushed, ``store`` to share it."""
    return {"ti": ti or TaskInstance(), "task_state_store": StateStore() if store is None else store}
