# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks put into a triggerer: task instances that wait, and a probe that watches the loop."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

BEAT = 0.05
"""Seconds that the probe sleeps; what it oversleeps is the loop's lag."""
BLOCKED = 0.2
"""Seconds without a beat after which Airflow warns, and the probe looks what the loop is at."""
LOOK_EVERY = 0.02
"""Seconds between two looks of it."""
DAG_ID, TASK_ID = "ten_thousand", "wait"
_YEAR = timedelta(days=365)


class LoopProbe(BaseTrigger):
    """
    Write a line of JSON each second: the time, the triggers that run, the lag of the loop, the seconds that
    collections of garbage took, which nobody in the process can do anything meanwhile, and whose code the loop was
    found in while it was blocked, by a thread that looks at it many times a second.

    :param path: The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "tests.benchmarks.triggers.LoopProbe", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from airflow.jobs.triggerer_job_runner import TriggerRunner

        runner = next(found for found in gc.get_objects() if isinstance(found, TriggerRunner))
        collections: list[tuple[int, float]] = []
        found_in: Counter[str] = Counter()
        begun = collected = 0.0
        beat = time.monotonic()
        loop_thread = threading.get_ident()

        def watch(phase: str, info: dict[str, int]) -> None:
            nonlocal begun, collected
            if phase == "start":
                begun = time.monotonic()
            else:
                collected = time.monotonic()
                collections.append((info["generation"], collected - begun))

        def look() -> None:
            while True:
                time.sleep(LOOK_EVERY)
                if time.monotonic() - beat > BLOCKED:
                    # It cannot be looked at during a collection, only after it.
                    long_collection = collected > beat and collected - begun > BLOCKED / 2
                    stack = sys._current_frames()[loop_thread]
                    found_in["garbage collection" if long_collection else whose(stack)] += 1

        gc.callbacks.append(watch)
        threading.Thread(target=look, daemon=True).start()
        with Path(self.path).open("a") as file:
            while True:
                lags = []
                until = time.monotonic() + 1
                while (start := time.monotonic()) < until:
                    await asyncio.sleep(BEAT)
                    beat = time.monotonic()
                    lags.append(time.monotonic() - start - BEAT)
                line = {
                    "time": time.time(),
                    "running": len(runner.triggers),
                    "lags": lags,
                    "collections": collections.copy(),
                    "blocked": dict(found_in),
                }
                collections.clear()
                found_in.clear()
                print(json.dumps(line), file=file, flush=True)
        yield TriggerEvent(None)


def whose(frame: FrameType | None) -> str:
    """Return whose code a stack is in: of this package, if any of it is, or else what Airflow is at."""
    paths = []
    while frame is not None:
        paths.append(frame.f_code.co_filename)
        frame = frame.f_back
    if any("airflow_provider_kling" in path for path in paths):
        return "this package"
    innermost = next((path for path in paths if "site-packages" in path), "")
    return "lines of Airflow's log" if "/structlog/" in innermost else "other"


def video(number: int) -> BaseTrigger:
    """Return the trigger that waits for one video."""
    from airflow_provider_kling.triggers.kling import KlingTaskTrigger

    now = time.time()
    return KlingTaskTrigger(
        kling_task_id=f"task_{number:032x}",
        kling_conn_id="kling_default",
        started_at=now,
        deadline=now + 4 * 3600,
        video_seconds=5,
    )


def idle(number: int) -> BaseTrigger:
    """Return Airflow's own trigger that does nothing for a year."""
    from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    from airflow.sdk import timezone

    return DateTimeTrigger(timezone.utcnow() + _YEAR)


def put(triggers: list[BaseTrigger], run_id: str, first_index: int) -> None:
    """Put deferred task instances that wait for these triggers into the database, in one transaction."""
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbag import DBDagBag
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.sdk import timezone
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState

    with create_session() as session:
        version = DagVersion.get_latest_version(DAG_ID, session=session)
        assert version is not None
        dag = DBDagBag().get_dag(version.id, session=session)
        assert dag is not None
        task = dag.get_task(TASK_ID)
        rows = [Trigger.from_object(trigger) for trigger in triggers]
        session.add_all(rows)
        session.flush()
        now = timezone.utcnow()
        for index, row in enumerate(rows, start=first_index):
            waiting = TaskInstance(
                task, dag_version_id=version.id, run_id=run_id, state=TaskInstanceState.DEFERRED, map_index=index
            )
            waiting.trigger_id = row.id
            waiting.trigger_timeout = now + _YEAR
            waiting.start_date = now
            waiting.try_number = 1
            waiting.next_method = "execute_complete"
            session.add(waiting)


MAKERS: dict[str, Callable[[int], BaseTrigger]] = {"video": video, "idle": idle}

if __name__ == "__main__":
    run, kind, amount = sys.argv[1:]
    if kind in MAKERS:
        put([MAKERS[kind](number) for number in range(int(amount))], run, first_index=1)
    else:
        put([LoopProbe(kind)], run, first_index=0)
