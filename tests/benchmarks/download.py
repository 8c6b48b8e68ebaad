# SPDX-License-Identifier: Apache-2.0
"""Throughput and memory of storing a video of 1 GiB from loopback, beside ``curl``, in turns."""

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

from tests.benchmarks.report import table, verdict
from tests.benchmarks.server import CHECKOUT, serving

SIZE = 1 << 30
ROUNDS = 5


def main() -> None:
    """Measure both and print their table."""
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as base_url:
        url = f"{base_url}/files/{SIZE}.mp4"
        target = Path(folder) / "target.mp4"
        curl_once(url, target)  # the file is in the page cache from here on
        curl, ours, grown = [], [], []
        for _ in range(ROUNDS):
            curl.append(curl_once(url, target))
            seconds, mebibytes = transfer_once(base_url, url, target)
            ours.append(seconds)
            grown.append(mebibytes)
    rows = [
        ("curl", f"{SIZE / median(curl) / 1e6:.0f} MB/s", "1.00 x", "-"),
        (
            "KlingToObjectStorageOperator",
            f"{SIZE / median(ours) / 1e6:.0f} MB/s",
            f"{median(curl) / median(ours):.2f} x",
            f"{max(grown):.0f} MiB",
        ),
    ]
    print(f"Median of {ROUNDS} downloads of 1 GiB each, in turns\n")
    print(table(("", "throughput", "to curl", "peak over the idle process"), rows), end="\n\n")
    print(verdict("throughput", median(curl) / median(ours), 0.7, at_most=False, unit=" x"))
    print(verdict("memory over the idle process", max(grown), 100, unit=" MiB"))


def curl_once(url: str, target: Path) -> float:
    """Return the seconds that curl takes."""
    target.unlink(missing_ok=True)
    start = time.monotonic()
    subprocess.run(["curl", "-sSf", "-o", str(target), url], check=True)  # noqa: S607
    return time.monotonic() - start


def transfer_once(base_url: str, url: str, target: Path) -> tuple[float, float]:
    """Return the seconds that the operator takes in a process of its own, and the MiB by which that grows."""
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
    seconds, mebibytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, mebibytes


def _transfer(url: str, target: str) -> None:
    from airflow_provider_kling.hooks import download  # noqa: F401 -- loaded before the process counts as idle
    from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator

    video = {"task_id": "task_1", "video_url": url}
    task = KlingToObjectStorageOperator(task_id="store", video=video, path=f"file://{target}")
    _ = task._hook.connection
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.monotonic()
    task.execute({})  # type: ignore[typeddict-item]
    seconds = time.monotonic() - start
    print(json.dumps([seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 1024]))


if __name__ == "__main__":
    _transfer(*sys.argv[1:]) if len(sys.argv) > 1 else main()
