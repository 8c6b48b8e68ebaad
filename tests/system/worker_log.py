# SPDX-License-Identifier: Apache-2.0
"""What Airflow's supervisors log of the processes that run tasks."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

_FINISHED = re.compile(r"Workload finished.*duration=([\d.]+).*workload_id=([\w-]+)")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def held_by_workload(log: Path) -> dict[str, list[float]]:
    """Return by task instance for how many seconds each of its processes held a worker.

    :param log: of what starts these processes: a scheduler with LocalExecutor, or a Celery worker.
    """
    held: dict[str, list[float]] = defaultdict(list)
    for line in log.read_text(errors="replace").splitlines():
        if found := _FINISHED.search(_COLOUR.sub("", line)):
            held[found[2]].append(float(found[1]))
    return held
