# SPDX-License-Identifier: Apache-2.0
"""
``make bench``: run the benchmarks, print their tables, and write them to ``RESULTS.md``.

``python -m tests.benchmarks [NAME ...]`` runs those that are named; ``cluster`` runs only then, as
``make test-cluster-full``.
"""

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
    "status_batches": "Several videos in one status request",
    "slot_queue": "The queue for slots, simulated",
    "worker_cost": "Workers for each video",
    "progress_writes": "Writing the progress of ten thousand videos",
    "triggerer_load": "Ten thousand waiting videos",
    "account_use": "The slots of an account in use",
    "cluster": "A cluster under fire",
}
ONLY_IF_NAMED = {"cluster"}
PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-http",
    "apache-airflow-providers-dbt-cloud",
    "aiohttp",
    "requests",
)


def main(names: list[str]) -> int:
    """Run these benchmarks, or most, one after the other; return 1 if one broke. What is not run keeps its section."""
    if unknown := set(names) - BENCHMARKS.keys():
        print(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    sections = _sections()
    broken = 0
    print(_head(), flush=True)
    for name, title in BENCHMARKS.items():
        if name not in (names or BENCHMARKS.keys() - ONLY_IF_NAMED):
            continue
        print(f"\n## {title}\n", flush=True)
        when, load = datetime.now(UTC), ", ".join(f"{average:.1f}" for average in os.getloadavg())
        command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
        done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=False)
        broken += done.returncode != 0
        result = done.stdout.strip() if done.returncode == 0 else "This benchmark broke; its output says why."
        print(result, flush=True)
        sections[title] = (
            f"`python -m tests.benchmarks {name}`, {when:%Y-%m-%d %H:%M} UTC, load average before it {load}.\n\n"
            f"{_introduction(name)}\n\n{result}"
        )
        told = [f"## {title}\n\n{sections[title]}" for title in BENCHMARKS.values() if title in sections]
        RESULTS.write_text("\n\n".join([_head(), *told]) + "\n")
    print(f"\nWritten to {RESULTS.relative_to(CHECKOUT)}")
    return min(broken, 1)


def _sections() -> dict[str, str]:
    """Return what the results file holds, by title."""
    if not RESULTS.exists():
        return {}
    _, *sections = RESULTS.read_text().strip().split("\n\n## ")
    return {title: text for title, _, text in (section.partition("\n\n") for section in sections)}


def _head() -> str:
    installed = ", ".join(f"{name} {version(name)}" for name in ("airflow-provider-kling", *PACKAGES))
    gibibytes = psutil.virtual_memory().total / 2**30
    return f"""# Benchmark results

Written by `make bench`; every table is of one run, the peers beside this package.

- machine: {_cpu()}, {os.cpu_count()} cores, {gibibytes:.0f} GiB, {platform.system()} {platform.release()}
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
    sys.exit(main(sys.argv[1:]))
