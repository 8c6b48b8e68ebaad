# SPDX-License-Identifier: Apache-2.0
"""What Airflow hands to a task that runs, as far as a test needs it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred, timezone

from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS

try:
    from airflow.sdk.exceptions import AirflowRescheduleException
except ImportError:  # before Airflow 3.2
    from airflow.exceptions import AirflowRescheduleException
try:
    from airflow.sdk.execution_time.context import OutletEventAccessors
except ImportError:  # Airflow 2
    from airflow.utils.context import OutletEventAccessors

#: What Airflow resumes a task with whose deferral it ended for time.
DEFERRAL_TIMEOUT = "Trigger timeout" if AIRFLOW_V_3_0_PLUS else "Trigger/execution timeout"


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
    first_rescheduled: Any = None
    rows: list[TaskInstance] = field(default_factory=list)
    """All rows of a mapped task, this one included."""

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: Any = None, key: str = "return_value", **_: Any) -> Any:
        if isinstance(task_ids, list):
            return [row.pushed[key] for row in self.rows or [self] if key in row.pushed]
        return self.pushed.get(key)

    def get_first_reschedule_date(self, context: Any) -> Any:
        return self.first_rescheduled


class StateStore(dict[str, Any]):
    """A task state store in memory; like Airflow's, it outlives the attempts of one task."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = json.loads(json.dumps(value))


def context(ti: TaskInstance | None = None, store: StateStore | None = None) -> Any:
    """Return the context of one attempt; pass ``ti`` to see what is pushed, ``store`` to share it."""
    return {
        "ti": ti or TaskInstance(),
        "task_state_store": StateStore() if store is None else store,
        "outlet_events": OutletEventAccessors(),
    }


def run(task: Any, ti: TaskInstance | None = None, store: StateStore | None = None) -> Any:
    """Run one attempt of a task as Airflow does, through deferrals and reschedules; return what it returns."""
    ti = ti or TaskInstance()
    store = StateStore() if store is None else store
    method, arguments = "execute", {}
    while True:
        try:
            if method == "execute":
                return task.execute(context(ti, store))
            return task.resume_execution(method, arguments, context(ti, store))
        except TaskDeferred as deferred:
            method, arguments = deferred.method_name, {**(deferred.kwargs or {}), "event": event_of(deferred)}
        except AirflowRescheduleException as rescheduled:
            ti.first_rescheduled = ti.first_rescheduled or timezone.utcnow()
            time.sleep(max(0.0, (rescheduled.reschedule_date - timezone.utcnow()).total_seconds()))


def event_of(deferred: TaskDeferred) -> dict[str, Any]:
    """Run the trigger of a deferred task; return its event as it comes out of the database."""

    async def payloads() -> list[Any]:
        return [event.payload async for event in deferred.trigger.run()]

    [payload] = asyncio.run(payloads())
    event: dict[str, Any] = json.loads(json.dumps(payload))
    return event
