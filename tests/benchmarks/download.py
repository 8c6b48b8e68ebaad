# SPDX-License-Identifier: Apache-2.0
"""
Throughput and memory of storing a video of 1 GiB from loopback, beside ``curl``, in turns.

The operator also computes SHA-256, follows the boxes of the file and waits until the disk has it. The best of
several downloads counts for both, since other processes of the machine only add to the time. A small download
precedes the measured one: what the first task of a process loads is no part of the throughput.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.benchmarks.report import table, verdict
from tests.benchmarks.server import CHECKOUT, serving

SIZE = 1 << 30
SMALL_SIZE = 1 << 16
OWN = "KlingToObjectStorageOperator"
ROUNDS = 5


class Download(NamedTuple):
    """What one download took: seconds, seconds of CPU, and the MiB by which the process grew."""

    seconds: float
    cpu: float
    grown: float = 0.0


def main() -> None:
    """Measure both and print their table."""
    found: dict[str, list[Download]] = {"curl": [], OWN: []}
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as base_url:
        url = f"{base_url}/files/{SIZE}.mp4"
        target = Path(folder) / "target.mp4"
        curl_once(url, target)  # the file is in the page cache from here on
        for _ in range(ROUNDS):
            found["curl"].append(curl_once(url, target))
            found[OWN].append(transfer_once(base_url, url, target))
    seconds = {name: min(download.seconds for download in downloads) for name, downloads in found.items()}
    grown = max(download.grown for download in found[OWN])
    rows = [
        (
            name,
            f"{SIZE / seconds[name] / 1e6:.0f} MB/s",
            f"{seconds['curl'] / seconds[name]:.2f} x",
            f"{median(download.cpu for download in downloads):.2f} s",
            f"{grown:.0f} MiB" if name == OWN else "-",
        )
        for name, downloads in found.items()
    ]
    print(f"Best of {ROUNDS} downloads of 1 GiB each, in turns\n")
    print(table(("", "throughput", "to curl", "CPU", "peak over the idle process"), rows), end="\n\n")
    print(verdict("throughput", seconds["curl"] / seconds[OWN], 0.9, at_most=False, unit=" x"))
    print(verdict("memory over the idle process", grown, 100, unit=" MiB"))


def curl_once(url: str, target: Path) -> Download:
    """Return what curl takes."""
    target.unlink(missing_ok=True)
    before, start = _cpu(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(["curl", "-sSf", "-o", str(target), url], check=True)  # noqa: S607
    return Download(time.monotonic() - start, _cpu(resource.RUSAGE_CHILDREN) - before)


def transfer_once(base_url: str, url: str, target: Path) -> Download:
    """Return what the operator takes, in a process of its own."""
    target.unlink(missing_ok=True)
    connection = json.dumps({"conn_type": "kling", "host": base_url, "password": "sk-bench"})
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.download", url, str(target)],
        cwd=CHECKOUT,
        env=os.environ | {"AIRFLOW_CONN_KLING_DEFAULT": connection, "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Download(*json.loads(done.stdout.splitlines()[-1]))


def _transfer(url: str, target: str) -> Download:
    from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
    from tests.task_context import context

    def task_for(video_url: str) -> KlingToObjectStorageOperator:
        video = {"kling_task_id": "task_1", "video_url": video_url}
        return KlingToObjectStorageOperator(task_id="store", video=video, path=f"file://{target}")

    task_for(url.replace(str(SIZE), str(SMALL_SIZE))).execute(context())
    Path(target).unlink()
    task = task_for(url)
    run = context()
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before, start = _cpu(resource.RUSAGE_SELF), time.monotonic()
    task.execute(run)
    seconds, cpu = time.monotonic() - start, _cpu(resource.RUSAGE_SELF) - before
    return Download(seconds, cpu, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 1024)


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_transfer(*sys.argv[1:])))
    else:
        main()
