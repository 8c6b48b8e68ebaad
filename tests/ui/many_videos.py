# SPDX-License-Identifier: Apache-2.0
"""
Fill a run of many mapped tasks as if they had run: 300 real tasks would take minutes.

``python -m tests.ui.many_videos DAG_ID RUN_ID TASK_ID < STATES`` writes, with Airflow's own models, the states and
XComs of the task instances, which the scheduler made and no worker takes. STATES is a list of
``{"map_index": ..., "state": ..., "xcoms": {...}}``.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select


def fill(dag_id: str, run_id: str, task_id: str, states: list[dict[str, Any]]) -> None:
    """Write all of them in one transaction."""
    with create_session() as session:
        mapped = select(TaskInstance).filter_by(dag_id=dag_id, run_id=run_id, task_id=task_id)
        instances = {instance.map_index: instance for instance in session.scalars(mapped)}
        for entry in states:
            instance = instances[entry["map_index"]]
            instance.state = entry["state"]
            # As workers write them, in plain JSON; the method of the model for it would encode them twice.
            session.add_all(
                XComModel(
                    key=key,
                    value=value,
                    dag_run_id=instance.dag_run.id,
                    dag_id=dag_id,
                    run_id=run_id,
                    task_id=task_id,
                    map_index=instance.map_index,
                )
                for key, value in entry["xcoms"].items()
            )


if __name__ == "__main__":
    fill(*sys.argv[1:4], json.load(sys.stdin))
