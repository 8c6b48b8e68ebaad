# SPDX-License-Identifier: Apache-2.0
"""CPU per status check over TLS, with 500 videos waited for in one event loop.

Each client runs in a process of its own, which has loaded the same modules as the others', and waits for videos that
never finish, a check every 5 seconds; each has a server in another process. Counted is the CPU time (user and system)
of the client's process alone, divided by the checks that its server saw. All clients run side by side, since the speed
of a shared machine drifts, and begin a third of the interval apart, so that their bursts seldom meet. They are
compared pass by pass.

The videos are waited for in two ways. Started together, as mapped tasks are, all 500 ask in one burst every 5 seconds;
the loop serves a burst at once, and what is left is the clients' own work. Spread evenly, each check wakes a sleeping
loop by itself, which costs the most, and all three the same: there not even bare aiohttp is six times cheaper than
HttpSensorTrigger.
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
from contextlib import ExitStack
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
#: How the waits begin, and the seconds within which.
PATTERNS = {"started together": 0.0, "spread evenly": INTERVAL}
ROUNDS = 3
PASSES = 7
CLIENTS = {
    "bare aiohttp, one session": "bare",
    "KlingTaskTrigger": "ours",
    "HttpSensorTrigger": "http",
}

#: What every client's process has loaded, as a triggerer has: collections of garbage look at all of it.
LOADED = (
    "airflow.providers.http.triggers.http",
    "airflow_provider_kling.client.async_client",
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


async def _wait_for_all(client: str, base_url: str, within: float) -> None:
    for module in LOADED:
        import_module(module)

    async def wait(number: int) -> None:
        await asyncio.sleep(within * number / VIDEOS)
        await WAITS[client](base_url, f"task_{number:032x}")

    await asyncio.gather(*map(wait, range(VIDEOS)))


class Client:
    """A client in a process of its own, with a server to ask."""

    def __init__(self, name: str, within: float, folder: Path, certificate: Path, stack: ExitStack) -> None:
        self._certificate = certificate
        folder = folder / name
        folder.mkdir()
        self._base_url = stack.enter_context(serving(folder, certificate))
        self._log = folder / "log"
        connection = {"host": self._base_url, "password": "sk-benchmark"}
        environment = os.environ | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW_CONN_HTTP_DEFAULT": json.dumps({"conn_type": "http", "host": self._base_url}),
            # Far above what is asked for: no client is to be held back.
            "AIRFLOW_CONN_KLING_DEFAULT": json.dumps(
                {**connection, "conn_type": "kling", "extra": {"max_requests_per_second": 1e6}}
            ),
            "SSL_CERT_FILE": str(certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }
        command = [sys.executable, "-m", "tests.benchmarks.poll_cost", name, self._base_url, str(within)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
        stack.callback(self._process.wait)
        stack.callback(self._process.kill)

    def wait_for_checks(self, count: int) -> None:
        while self.spent()[1] < count:
            if self._process.poll() is not None:
                raise RuntimeError(self._log.read_text())
            time.sleep(0.05)

    def spent(self) -> tuple[float, int]:
        """Return the CPU seconds and the checks so far."""
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system), asked(self._base_url, self._certificate)["polls"]


def side_by_side(within: float) -> dict[str, list[float]]:
    """Return what a check costs each client (ms) in each pass, all started within some seconds."""
    found: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate = make_certificate(folder)
        clients: dict[str, Client] = {}
        for name, key in CLIENTS.items():
            clients[name] = Client(key, within, folder, certificate, stack)
            clients[name].wait_for_checks(1)
            time.sleep(INTERVAL / len(CLIENTS))
        for client in clients.values():
            client.wait_for_checks(3 * VIDEOS)
        before = {name: client.spent() for name, client in clients.items()}
        for _ in range(PASSES):
            time.sleep(ROUNDS * INTERVAL)
            for name, client in clients.items():
                seconds, checks = client.spent()
                found[name].append((seconds - before[name][0]) / (checks - before[name][1]) * 1000)
                before[name] = seconds, checks
    return found


def main() -> None:
    """Measure all clients side by side, in both ways, and print their tables."""
    print(f"{VIDEOS} videos, a check every {INTERVAL:g} s, TLS, medians of {PASSES} passes of {ROUNDS} rounds\n")
    for way, within in PATTERNS.items():
        costs = side_by_side(within)
        floor, own, sensor = costs.values()
        rows = [
            (
                client,
                f"{median(each):.2f} ms",
                f"{min(each):.2f} to {max(each):.2f} ms",
                f"{_ratio(each, floor):.2f} x",
            )
            for client, each in costs.items()
        ]
        print(table((way, "CPU per check", "all passes", "to bare"), rows), end="\n\n")
        print(verdict(f"{way}: CPU per check over bare aiohttp", _ratio(own, floor), 1.3, unit=" x"))
        cheaper = _ratio(sensor, own)
        print(verdict(f"{way}: cheaper than HttpSensorTrigger", cheaper, 6, at_most=False, unit=" x"), end="\n\n")


def _ratio(costs: list[float], others: list[float]) -> float:
    return median(cost / other for cost, other in zip(costs, others, strict=True))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(_wait_for_all(sys.argv[1], sys.argv[2], float(sys.argv[3])))
    else:
        main()
