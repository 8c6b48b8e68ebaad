# SPDX-License-Identifier: Apache-2.0
"""The runs of worker processes, as Airflow's supervisors log them: one line for each process that ran a task."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

_FINISHED = re.compile(r"^(\d{4}-\d\d-\d\dT[\d:.]+Z).*Workload finished.*duration=([\d.]+).*workload_id=([\w-]+)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


class WorkerRun(NamedTuple):
    """One run: when it ended, in epoch seconds, and for how many seconds it held a worker."""

    ended_at: float
    seconds: float


def worker_runs(log: Path) -> dict[str, list[WorkerRun]]:
    """Return the runs by the id of the task instance, in the order of their ends.

    :param log: of what starts these processes: a scheduler with LocalExecutor, or a Celery worker.
    """
    runs: dict[str, list[WorkerRun]] = defaultdict(list)
    for line in log.read_text(errors="replace").splitlines():
        if found := _FINISHED.search(_COLOUR.sub("", line)):
            runs[found[3]].append(WorkerRun(datetime.fromisoformat(found[1]).timestamp(), float(found[2])))
    return runs
