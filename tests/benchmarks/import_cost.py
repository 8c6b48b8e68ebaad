# SPDX-License-Identifier: Apache-2.0
"""CPU that a DAG file pays at each parse for importing a provider's operators and sensors.

As in Airflow's DAG processor, each import happens in a fresh child, forked from a process that has imported
Airflow itself: the DAG processor, what a DAG file without any provider uses, and Airflow's own base classes of
sensors and links. These base classes load only when somebody uses them, so the first row tells what they cost.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from tests.benchmarks.report import table, verdict

ROUNDS = 21
LIMIT_MS = 10.0
#: Workers load plugins, too.
PLUGIN_LIMIT_MS = 3.0
AIRFLOW = "Airflow itself: bases of sensors and links"
BASES = ("airflow.sdk.bases.sensor", "airflow.sdk.bases.operatorlink")
OWN = "this package: operators, sensors"
PLUGIN = "this package: plugin of the Videos page"
IMPORTS = {
    "standard: bash operator": ("airflow.providers.standard.operators.bash",),
    OWN: ("airflow_provider_kling.operators.kling", "airflow_provider_kling.sensors.kling"),
    "this package: transfers too": (
        "airflow_provider_kling.operators.kling",
        "airflow_provider_kling.sensors.kling",
        "airflow_provider_kling.transfers.kling_to_object_storage",
    ),
    PLUGIN: ("airflow_provider_kling.videos_page.plugin",),
    "http: operators, sensors": ("airflow.providers.http.operators.http", "airflow.providers.http.sensors.http"),
    "dbt Cloud: operators, sensors": (
        "airflow.providers.dbt.cloud.operators.dbt",
        "airflow.providers.dbt.cloud.sensors.dbt",
    ),
}
#: Libraries that no DAG file needs.
HEAVY = ("aiohttp", "requests", "httpx", "av", "PIL")


class Cost(NamedTuple):
    """What an import costs: CPU milliseconds, the number of modules loaded, and the heavy libraries among them."""

    milliseconds: float
    modules: int
    heavy: list[str]


def cost(modules: tuple[str, ...]) -> Cost | None:
    """Import in a forked child and return the cost, or None if that is not installed."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writable, json.dumps(_imported(modules)).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return Cost(*json.loads(answer)) if answer else None


def _imported(modules: tuple[str, ...]) -> Cost:
    before = set(sys.modules)
    start = time.process_time()
    for module in modules:
        importlib.import_module(module)
    milliseconds = (time.process_time() - start) * 1000
    loaded = set(sys.modules) - before
    return Cost(milliseconds, len(loaded), [name for name in HEAVY if name in loaded])


def main() -> None:
    """Measure all imports in turn, many times, and print their table."""
    # As in production, where the byte code of every module is on disk.
    sys.dont_write_bytecode = False
    importlib.import_module("airflow.dag_processing.processor")
    exec("from airflow.sdk import DAG, BaseOperator, task", {})  # noqa: S102
    importlib.import_module("airflow.plugins_manager")
    found = _measured({AIRFLOW: BASES})
    for module in BASES:
        importlib.import_module(module)
    found |= _measured(IMPORTS)
    own = median(spent.milliseconds for spent in found[OWN])
    rows = [
        (
            name,
            f"{median(spent.milliseconds for spent in costs):.1f} ms",
            f"{median(spent.milliseconds for spent in costs) / own:.1f} x",
            costs[0].modules,
            ", ".join(costs[0].heavy) or "-",
        )
        for name, costs in found.items()
        if costs
    ]
    print(f"Median of {ROUNDS} imports each\n")
    print(table(("import", "CPU", "to ours", "modules", "of them heavy"), rows), end="\n\n")
    print(verdict("operators and sensors", own, LIMIT_MS, unit=" ms"))
    plugin = median(spent.milliseconds for spent in found[PLUGIN])
    print(verdict("plugin of the Videos page", plugin, PLUGIN_LIMIT_MS, unit=" ms"))


def _measured(imports: Mapping[str, tuple[str, ...]]) -> dict[str, list[Cost]]:
    found: dict[str, list[Cost]] = {name: [] for name in imports}
    for round_ in range(ROUNDS + 1):
        for name, modules in imports.items():
            # The first round only sees to it that the byte code is on disk, and that the provider is installed.
            if (spent := cost(modules)) is not None and round_:
                found[name].append(spent)
    return found


if __name__ == "__main__":
    main()
