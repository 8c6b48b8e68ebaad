# SPDX-License-Identifier: Apache-2.0
"""``make airflow``: an Airflow with UI, example DAGs and the sandbox behind its connection, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_cluster import AirflowCluster, free_port

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / ".build" / "airflow"
AIRFLOW_PORT, SANDBOX_PORT = 8080, 8990


def main() -> None:
    """Run until interrupted."""
    print("Starting Airflow ...", flush=True)
    with (
        Sandbox(port=free_port(SANDBOX_PORT), queue_seconds=2, run_seconds=20) as sandbox,
        AirflowCluster(FOLDER, CHECKOUT / "example_dags", port=AIRFLOW_PORT) as cluster,
    ):
        # Stored, not handed over in the environment, so that the UI shows it and can test it.
        cluster.api.set_connection(
            {
                "connection_id": "kling_default",
                "conn_type": "kling",
                "host": sandbox.base_url,
                "password": sandbox.api_key,
            }
        )
        print(f"Airflow  {cluster.api.url}  (no login; logs in {FOLDER / 'logs'})")
        print(f"Kling    {sandbox.base_url}  (the sandbox; Airflow's connection kling_default leads to it)")
        print("Stop both with Ctrl-C.", flush=True)
        while True:
            cluster.check()
            time.sleep(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except KeyboardInterrupt:
        print("\nStopped.")
        sys.exit(0)
