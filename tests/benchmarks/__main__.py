# SPDX-License-Identifier: Apache-2.0
"""``make bench``: run all benchmarks, print their tables, and write them to ``RESULTS.md``."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from ast import get_docstring, parse
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "RESULTS.md"
BENCHMARKS = {
    "import_cost": "Importing operators and sensors",
    "poll_schedule": "Requests for each video",
    "download": "Storing a video",
    "poll_cost": "CPU for each status check",
    "worker_cost": "Workers for each video",
    "triggerer_load": "Ten thousand waiting videos",
}
PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-http",
    "apache-airflow-providers-dbt-cloud",
    "aiohttp",
    "requests",
)


def main() -> int:
    """Run all benchmarks one after the other; return 1 if one broke."""
    report = [_head()]
    print(report[0], flush=True)
    broken = 0
    for name, title in BENCHMARKS.items():
        print(f"\n## {title}\n", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
        done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
        broken += done.returncode != 0
        result = done.stdout.strip() if done.returncode == 0 else "This benchmark broke; its output says why."
        print(result, flush=True)
        report.append(f"## {title}\n\n`python -m tests.benchmarks.{name}`. {_introduction(name)}\n\n{result}")
    RESULTS.write_text("\n\n".join(report) + "\n")
    print(f"\nWritten to {RESULTS.relative_to(CHECKOUT)}")
    return min(broken, 1)


def _head() -> str:
    installed = ", ".join(f"{name} {version(name)}" for name in ("airflow-provider-kling", *PACKAGES))
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    gibibytes = psutil.virtual_memory().total / 2**30
    return f"""# Benchmark results

Written by `make bench`; every table is of one run, the peers beside this package.

- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC
- machine: {_cpu()}, {os.cpu_count()} cores, {gibibytes:.0f} GiB, {platform.system()} {platform.release()}
- load average at the start: {load}
- Python {platform.python_version()}, {installed}"""


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _introduction(name: str) -> str:
    spec = importlib.util.find_spec(f"tests.benchmarks.{name}")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(name)
    return get_docstring(parse(Path(spec.origin).read_text())) or ""


if __name__ == "__main__":
    sys.exit(main())
