# SPDX-License-Identifier: Apache-2.0
"""Requests and CPU for the status of many videos on Kling's own platform, 20 ids a request against one.

Each video is waited for by a trigger until it is finished, with a check every 15 to 30 seconds; every trigger has
an interval of its own. The triggers start one after the other. All of a client's run in one event loop of a
process of its own, against a sandbox of Kling's own platform over TLS in another process. Both clients are this
package, and run side by side; the second one believes that a request has one id at most, as with a gateway.
Counted are the requests and the ids that each server saw. CPU is the time (user and system) of the client's
process from the first trigger to the end of the last, divided by the checks: it includes what a trigger costs
besides.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_kling.sandbox import Sandbox
from tests.benchmarks.report import table, verdict
from tests.benchmarks.server import CHECKOUT
from tests.fixtures.purchases import bought
from tests.tls import make_certificate, server_context

COUNTS = (500, 5000)
SHORTEST, LONGEST = 15.0, 30.0
#: Seconds within which the waits start, after which the first video is finished, and within which all are.
STARTS, FIRST_END, ENDS = 20.0, 45.0, 25.0
CLIENTS = {"one id a request": 1, "20 ids a request": 20}


@contextmanager
def _process(*arguments: object, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.benchmarks.status_batches", *map(str, arguments)]
    with subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> Any:
    """Return the next line of JSON that a process prints."""
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError(f"{process.args!r} ended; its output says why")


def _tell(process: subprocess.Popen[str], what: str) -> None:
    assert process.stdin is not None
    print(what, file=process.stdin, flush=True)


def serve(certificate: Path, count: int) -> None:
    """Sell so many videos; when told to, finish them one after the other, and then tell what was asked for."""
    with Sandbox(api="official", run_seconds=3600, ssl_context=server_context(certificate)) as sandbox:
        ids = bought(sandbox, count, verify=str(certificate))
        connection = {
            "conn_type": "kling",
            "host": sandbox.base_url,
            "password": sandbox.api_key,
            # Far above what is asked for: no client is to be held back.
            "extra": {"api": "official", "max_requests_per_second": 1e6},
        }
        print(json.dumps({"connection": json.dumps(connection), "ids": ids}), flush=True)
        input()

        def finish() -> None:
            started = time.monotonic() + FIRST_END
            for number, kling_task_id in enumerate(ids):
                time.sleep(max(0.0, started + number / count * ENDS - time.monotonic()))
                sandbox.finish(kling_task_id)

        threading.Thread(target=finish, daemon=True).start()
        input()
        print(json.dumps(sandbox.requests), flush=True)


async def wait_for_all(max_ids: int) -> None:
    """Wait for the videos with these ids, and tell what that cost."""
    from airflow_provider_kling.api.official.api import OfficialApi
    from airflow_provider_kling.client import async_client
    from airflow_provider_kling.triggers.kling import KlingTaskTrigger

    assert async_client  # loaded before the clock starts
    if max_ids == 1:
        OfficialApi.max_ids_per_status = lambda self, route: 1  # type: ignore[method-assign]
    ids = json.loads(input())
    statuses: list[str] = []

    async def wait(number: int, kling_task_id: str) -> None:
        await asyncio.sleep(number / len(ids) * STARTS)
        trigger = KlingTaskTrigger(
            kling_task_id=kling_task_id,
            kling_conn_id="kling_default",
            started_at=time.time(),
            deadline=time.time() + 3600,
            poll_interval=random.Random(number).uniform(SHORTEST, LONGEST),
            route="/tasks",
        )
        statuses.extend([event.payload["status"] async for event in trigger.run()])

    before = time.process_time()
    await asyncio.gather(*(wait(number, each) for number, each in enumerate(ids)))
    assert statuses == ["success"] * len(ids)
    print(json.dumps({"cpu": time.process_time() - before}), flush=True)


def side_by_side(count: int) -> dict[str, dict[str, float]]:
    """Return what each client cost for so many videos."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certificate = make_certificate(folder)
        servers = {
            name: stack.enter_context(_process("--serve", certificate, "--count", count)) for name in CLIENTS
        }
        offers = {name: _line(server) for name, server in servers.items()}
        clients = {
            name: stack.enter_context(
                _process(
                    "--max-ids",
                    max_ids,
                    AIRFLOW_HOME=str(folder / f"airflow{max_ids}"),
                    AIRFLOW_CONN_KLING_DEFAULT=offers[name]["connection"],
                    SSL_CERT_FILE=str(certificate),
                    REQUESTS_CA_BUNDLE=str(certificate),
                )
            )
            for name, max_ids in CLIENTS.items()
        }
        for name, client in clients.items():
            _tell(client, json.dumps(offers[name]["ids"]))
            _tell(servers[name], "finish")
        costs = {name: _line(client) for name, client in clients.items()}
        for name, server in servers.items():
            _tell(server, "report")
            costs[name] |= _line(server)
        return costs


def main() -> None:
    """Measure both clients side by side, for each number of videos, and print their tables."""
    print(f"A check every {SHORTEST:g} to {LONGEST:g} s, TLS\n")
    for count in COUNTS:
        costs = side_by_side(count)
        rows = [
            (
                client,
                f"{cost['ids'] / count:.2f}",
                f"{cost['status'] / cost['ids']:.3f}",
                f"{cost['status'] / count:.2f}",
                f"{cost['cpu'] / cost['ids'] * 1000:.2f} ms",
            )
            for client, cost in costs.items()
        ]
        head = (f"{count} videos", "checks per video", "requests per check", "requests per video", "CPU per check")
        print(table(head, rows), end="\n\n")
        single, batched = costs.values()
        per_check = batched["status"] / batched["ids"]
        print(verdict(f"{count} videos: requests per check", per_check, 0.15))
        requests = batched["status"] / single["status"]
        print(verdict(f"{count} videos: requests per video, to one id a request", requests, 0.15, unit=" x"))
        cpu = (batched["cpu"] / batched["ids"]) / (single["cpu"] / single["ids"])
        print(verdict(f"{count} videos: CPU per check, to one id a request", cpu, 0.5, unit=" x"), end="\n\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--max-ids", type=int)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.count)
    elif options.max_ids:
        asyncio.run(wait_for_all(options.max_ids))
    else:
        main()
