# SPDX-License-Identifier: Apache-2.0
"""CPU per status check over TLS, with 500 videos waited for in one event loop.

Each client runs in a process of its own, which has loaded the same modules as the others', and waits for videos that
never finish, a check every 5 seconds, spread evenly over them; the server runs in another process. Counted is the CPU
time (user and system) of the client's process alone, over whole rounds after all connections stand, divided by the
checks that the server saw meanwhile. The clients take turns, and are compared pass by pass, since the speed of a
shared machine drifts.

Spread evenly, each check wakes the loop by itself, and what the loop and TLS cost then is the same for all three. Where
all 500 were started together and asked in bursts, it is shared, and the rest shows more: in three runs this package
then took 1.28, 1.44 and 1.55 times as much as bare aiohttp, and 7.7 to 8.3 times less than HttpSensorTrigger. By its
profile it spends the difference on understanding the answer (10 microseconds), on the coroutines around the request, and on standing in line
where more ask at once than there are sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from tests.benchmarks.report import table, verdict
from tests.benchmarks.server import CHECKOUT, asked, serving
from tests.tls import make_certificate

VIDEOS = 500
INTERVAL = 5.0
ROUNDS = 2
PASSES = 5
CLIENTS = {
    "bare aiohttp, one session": "bare",
    "KlingTaskTrigger": "ours",
    "HttpSensorTrigger": "http",
}

#: What every client's process has loaded, as a triggerer has: collections of garbage look at all of it.
LOADED = (
    "airflow.providers.http.triggers.http",
    "airflow_provider_kling.hooks.shared_client",
    "airflow_provider_kling.triggers.kling",
)


async def bare(base_url: str, task_id: str) -> None:
    """Wait as one would write it by hand with aiohttp alone."""
    while (await _asked_barely(base_url, task_id))["status"] != "completed":
        await asyncio.sleep(INTERVAL)


async def _asked_barely(base_url: str, task_id: str) -> dict[str, Any]:
    async with _session().get(f"{base_url}/v1/videos/{task_id}") as response:
        response.raise_for_status()
        return dict(await response.json())


_sessions: list[Any] = []


def _session() -> Any:
    if not _sessions:
        import aiohttp

        _sessions.append(aiohttp.ClientSession(headers={"Authorization": "Bearer sk-benchmark"}))
    return _sessions[0]


async def ours(base_url: str, task_id: str) -> None:
    """Wait with this package's trigger."""
    from airflow_provider_kling.triggers.kling import KlingTaskTrigger

    now = time.time()
    trigger = KlingTaskTrigger(
        kling_task_id=task_id,
        kling_conn_id="kling_default",
        started_at=now,
        deadline=now + 3600,
        poll_interval=INTERVAL,
    )
    async for _ in trigger.run():
        return


async def http(base_url: str, task_id: str) -> None:
    """Wait with the http provider's trigger, on a server that answers 404 until the video is finished."""
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    trigger = HttpSensorTrigger(endpoint=f"missing/{task_id}", method="GET", poke_interval=INTERVAL)
    async for _ in trigger.run():
        return


WAITS: dict[str, Callable[[str, str], Coroutine[Any, Any, None]]] = {"bare": bare, "ours": ours, "http": http}


async def _wait_for_all(client: str, base_url: str) -> None:
    for module in LOADED:
        import_module(module)

    async def wait(number: int) -> None:
        await asyncio.sleep(INTERVAL * number / VIDEOS)
        await WAITS[client](base_url, f"task_{number:032x}")

    await asyncio.gather(*map(wait, range(VIDEOS)))


def cost(client: str, base_url: str, folder: Path, certificate: Path) -> tuple[float, int]:
    """Return the CPU seconds and the checks of a client in ``ROUNDS`` rounds."""
    connection = {"host": base_url, "password": "sk-benchmark"}
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps({"conn_type": "http", "host": base_url}),
        # Far above what is asked for: no client is to be held back.
        "AIRFLOW_CONN_KLING_DEFAULT": json.dumps(
            {**connection, "conn_type": "kling", "extra": {"max_requests_per_second": 1e6}}
        ),
        "SSL_CERT_FILE": str(certificate),
        "REQUESTS_CA_BUNDLE": str(certificate),
    }
    command = [sys.executable, "-m", "tests.benchmarks.poll_cost", client, base_url]
    with (folder / f"{client}.log").open("w") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
    try:
        seen = asked(base_url, certificate)["polls"]
        while asked(base_url, certificate)["polls"] < seen + 2 * VIDEOS:
            if process.poll() is not None:
                raise RuntimeError((folder / f"{client}.log").read_text())
            time.sleep(0.2)
        before = _cpu(process.pid), asked(base_url, certificate)["polls"]
        time.sleep(ROUNDS * INTERVAL)
        after = _cpu(process.pid), asked(base_url, certificate)["polls"]
    finally:
        process.kill()
        process.wait()
    return after[0] - before[0], after[1] - before[1]


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Measure all clients in turn, several times, and print their table."""
    found: dict[str, list[float]] = {name: [] for name in CLIENTS}
    checks = dict.fromkeys(CLIENTS, 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate = make_certificate(folder)
        with serving(folder, certificate) as base_url:
            for _ in range(PASSES):
                for client, key in CLIENTS.items():
                    seconds, polls = cost(key, base_url, folder, certificate)
                    found[client].append(seconds / polls * 1000)
                    checks[client] += polls
    floor = found["bare aiohttp, one session"]
    own = found["KlingTaskTrigger"]
    rows = [
        (client, checks[client], f"{median(costs):.2f} ms", f"{_ratio(costs, floor):.2f} x")
        for client, costs in found.items()
    ]
    print(f"{VIDEOS} videos, a check every {INTERVAL:g} s, TLS, medians of {PASSES} passes of {ROUNDS} rounds\n")
    print(table(("client", "checks", "CPU per check", "to bare"), rows), end="\n\n")
    print(verdict("CPU per check over bare aiohttp", _ratio(own, floor), 1.3, unit=" x"))
    cheaper = _ratio(found["HttpSensorTrigger"], own)
    print(verdict("cheaper than HttpSensorTrigger", cheaper, 6, at_most=False, unit=" x"))


def _ratio(costs: list[float], others: list[float]) -> float:
    return median(cost / other for cost, other in zip(costs, others, strict=True))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(_wait_for_all(sys.argv[1], sys.argv[2]))
    else:
        main()
