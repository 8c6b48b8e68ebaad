# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_cluster import AirflowCluster

EXAMPLE_DAGS = Path(__file__).parents[2] / "example_dags"


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Start a Kling whose jobs go on until a test ends them, so that nothing depends on how fast a machine is."""
    with Sandbox(run_seconds=3600) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def cluster(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowCluster]:
    """Start an Airflow with the example DAGs and a connection to the sandbox."""
    home = tmp_path_factory.mktemp("airflow")
    connections = {"kling_default": sandbox.connection_json}
    with AirflowCluster(home, EXAMPLE_DAGS, connections=connections, parallelism=3) as cluster:
        yield cluster
