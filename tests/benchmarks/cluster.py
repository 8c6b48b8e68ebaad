# SPDX-License-Identifier: Apache-2.0
"""Large batches on a cluster under fire: how long they take, and what they cost.

CeleryExecutor with two workers, two schedulers and two triggerers, Redis, PostgreSQL and an S3 server, all on this
machine. Meanwhile a worker, a triggerer, a scheduler, the broker and the API server are killed, and the network to
the vendor is cut for half a minute. Nothing is bought twice and no file is damaged, or this benchmark breaks. The
time-outs are those of ``tests/cluster/settings.py``.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from airflow_provider_kling.sandbox import Sandbox
from tests.benchmarks.report import table
from tests.cluster.batch import Outcome, play

ON_THE_PLATFORM, ON_A_GATEWAY, SLOTS = 1000, 200, 100
VIDEO_SECONDS = 60.0
PATIENCE = 3 * 3600.0


def main() -> None:
    """Play both batches and print their table, what happens meanwhile on stderr."""
    found: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as name, redirect_stdout(sys.stderr):
        with Sandbox(api="official", run_seconds=VIDEO_SECONDS, one_video=True) as sandbox:
            found["Kling's platform"] = play(
                sandbox, ON_THE_PLATFORM, timeout=PATIENCE, folder=Path(name) / "official"
            )
        with Sandbox(max_concurrent=SLOTS, run_seconds=VIDEO_SECONDS, one_video=True) as sandbox:
            found[f"a gateway, {SLOTS} slots"] = play(
                sandbox, ON_A_GATEWAY, timeout=PATIENCE, folder=Path(name) / "gateway"
            )
    if faults := [fault for outcome in found.values() for fault in outcome.faults]:
        raise RuntimeError("\n".join(faults))
    columns = {label: outcome.figures() for label, outcome in found.items()}
    rows = [(row, *(column.get(row, "-") for column in columns.values())) for row in next(iter(columns.values()))]
    print(f"Each video takes {VIDEO_SECONDS:g} s\n")
    print(table(("", *columns), rows))


if __name__ == "__main__":
    main()
