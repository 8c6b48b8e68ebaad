# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.docs.parse_dag FILE``: read a DAG file as Airflow does; fail if it is broken or has no DAG."""

from __future__ import annotations

import sys

from airflow.dag_processing.dagbag import DagBag


def main(file: str) -> str:
    """Return what is wrong with a DAG file; "" if nothing is."""
    bag = DagBag(dag_folder=file, safe_mode=False)
    if bag.import_errors:
        return "\n".join(bag.import_errors.values())
    if not bag.dags:
        return "it makes no DAG"
    return "\n".join(f"the DAG {dag_id} has no task" for dag_id, dag in bag.dags.items() if not dag.tasks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) or 0)
