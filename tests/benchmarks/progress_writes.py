# SPDX-License-Identifier: Apache-2.0
"""Ten thousand waiting videos in one event loop, with and without writes of their progress to XCom.

Two processes run side by side, one without and one with writes, since the speed of a shared machine drifts. The triggers
poll a server in another process, at a rate limit above the default. They write through Airflow's own connection of a triggerer; its other end is a stand-in
for the supervisor that takes 20 ms for each write, as a look-up there does. A real triggerer is measured with ten
thousand videos by ``triggerer_load``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import mean, median
from typing import Any

from tests.benchmarks.report import table, verdict
from tests.benchmarks.server import CHECKOUT, serving

VIDEOS = 10_000
CHECKS_PER_SECOND = 100
#: Seconds that a supervisor takes for one write.
WRITE_SECONDS = 0.02
WARM_UP, MEASURED = 20.0, 30.0
PASSES = 3
MODES = ("without writes", "with writes")
BEAT = 0.05
"""Seconds that the probe sleeps; what it oversleeps is the loop's lag."""


async def _measure(writes: bool) -> dict[str, float]:
    from airflow_provider_kling.client import async_client
    from airflow_provider_kling.triggers.kling import KlingTaskTrigger
    from tests.fixtures.triggerer import Supervisor, in_triggerer

    checks = 0
    get_video = async_client.SharedClient.get_video

    async def counted(*args: Any, **arguments: Any) -> Any:
        nonlocal checks
        job = await get_video(*args, **arguments)
        checks += 1
        return job

    async_client.SharedClient.get_video = counted  # type: ignore[method-assign]

    async def wait(number: int) -> None:
        now = time.time()
        trigger = KlingTaskTrigger(
            kling_task_id=f"task_{number:032x}",
            kling_conn_id="kling_default",
            started_at=now - 60,
            deadline=now + 3600,
            poll_interval=5.0,
        )
        if writes:
            in_triggerer(trigger, map_index=number)
        async for _ in trigger.run():
            return

    async with AsyncExitStack() as stack:
        supervisor = await stack.enter_async_context(Supervisor(WRITE_SECONDS))
        waits = [asyncio.create_task(wait(number)) for number in range(VIDEOS)]
        await asyncio.sleep(WARM_UP)
        started, cpu, before = time.monotonic(), time.process_time(), (checks, len(supervisor.writes))
        lags = []
        while (begin := time.monotonic()) < started + MEASURED:
            await asyncio.sleep(BEAT)
            lags.append(time.monotonic() - begin - BEAT)
        seconds = time.monotonic() - started
        done = checks - before[0]
        result = {
            "lag": mean(lags) * 1000,
            "worst": max(lags) * 1000,
            "checks": done / seconds,
            "cpu": (time.process_time() - cpu) / done * 1000,
            "writes": (len(supervisor.writes) - before[1]) / seconds,
        }
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return result


def _side_by_side(base_url: str, folder: str) -> list[dict[str, float]]:
    extra = {"max_requests_per_second": CHECKS_PER_SECOND}
    connection = {"conn_type": "kling", "host": base_url, "password": "sk-benchmark", "extra": extra}
    environment = os.environ | {
        "AIRFLOW_HOME": str(Path(folder) / "airflow"),
        "AIRFLOW_CONN_KLING_DEFAULT": json.dumps(connection),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.progress_writes", mode],
            cwd=CHECKOUT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mode in MODES
    ]
    return [dict(json.loads(process.communicate()[0].splitlines()[-1])) for process in processes]


def main() -> None:
    """Measure both, and print their table."""
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as base_url:
        for _ in range(PASSES):
            for mode, result in zip(MODES, _side_by_side(base_url, folder), strict=True):
                found[mode].append(result)
    middle = {
        name: {key: median(one[key] for one in passes) for key in passes[0]} for name, passes in found.items()
    }
    print(f"{VIDEOS:,} videos in one loop, {MEASURED:g} s, medians of {PASSES} passes side by side\n")
    rows = [
        (
            name,
            f"{values['lag']:.1f} ms",
            f"{values['worst']:.0f} ms",
            f"{values['checks']:.1f}",
            f"{values['cpu']:.2f} ms",
            f"{values['writes']:.1f}",
        )
        for name, values in middle.items()
    ]
    head = ("", "mean lag", "worst lag", "checks a second", "CPU per check", "writes a second")
    print(table(head, rows), end="\n\n")
    without, with_writes = middle.values()
    print(verdict("mean lag over the one without writes", with_writes["lag"] - without["lag"], 2, unit=" ms"))
    share = with_writes["checks"] / without["checks"]
    print(verdict("checks a second, to those without writes", share, 0.97, at_most=False, unit=" x"))
    print(verdict("writes a second", with_writes["writes"], 5))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(asyncio.run(_measure(sys.argv[1] == MODES[1]))))
    else:
        main()
