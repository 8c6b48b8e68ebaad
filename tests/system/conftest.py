# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_cluster import AirflowCluster, dag_bundles
from tests.system.bucket import Bucket, connected_bucket
from tests.system.metrics import Metrics
from tests.system.postgres import postgres
from tests.system.scene import set_connection

CHECKOUT = Path(__file__).parents[2]
EXAMPLE_DAGS = CHECKOUT / "example_dags"
TEST_DAGS = Path(__file__).parent / "dags"


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Start a Kling whose jobs go on until a test ends them, so that nothing depends on how fast a machine is."""
    with Sandbox(run_seconds=3600) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def metrics() -> Iterator[Metrics]:
    """Listen to the metrics of the cluster."""
    with Metrics() as metrics:
        yield metrics


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """Start a PostgreSQL: dozens of scenes at once are too much for SQLite, which has one writer at a time."""
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def cluster(
    sandbox: Sandbox, metrics: Metrics, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AirflowCluster]:
    """Start an Airflow with the example DAGs, the DAGs of these tests, and a connection to the sandbox."""
    home, state = tmp_path_factory.mktemp("airflow"), tmp_path_factory.mktemp("kling-state")
    environment = {
        **dag_bundles(EXAMPLE_DAGS, TEST_DAGS),
        "PAID_ONCE_FOLDER": f"file://{state}",
        # Some tasks are killed together with whoever would report it: only their heartbeats tell.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        # A triggerer is killed: its triggers are handed over as soon as it has been silent for so long.
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
        # The DAGs of these tests import what else they need from here.
        "PYTHONPATH": str(CHECKOUT),
        **metrics.environment,
        # With the tags in the names of the metrics, it is seen which DAG a count belongs to.
        "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
    }
    with AirflowCluster(home, EXAMPLE_DAGS, database=database, environment=environment, parallelism=6) as cluster:
        # Stored, and not in the environment, so that a test can lead it elsewhere.
        set_connection(cluster.api, "kling_default", json.loads(sandbox.connection_json))
        yield cluster


@pytest.fixture(scope="session")
def bucket(cluster: AirflowCluster) -> Iterator[Bucket]:
    """A bucket of a real S3 server, and the connection ``store`` that leads to it."""
    pytest.importorskip("moto", reason="the dependency group `stores` is not installed")
    with connected_bucket(cluster.api) as bucket:
        yield bucket
