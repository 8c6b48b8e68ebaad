# SPDX-License-Identifier: Apache-2.0
"""
The settings that make Airflow a cluster, and those by which it notices within seconds that a part is gone.

Airflow's defaults, in brackets, are made for machines that go away once a month: with them, one killed worker
costs five minutes. None is so low that on a busy machine of two cores a slow part is taken for a dead one.
"""

from __future__ import annotations

from collections.abc import Mapping

CAPACITY = 4
"""Tasks that one Celery worker runs at once."""

SOON_NOTICED: Mapping[str, Mapping[str, object]] = {
    "scheduler": {
        # [300 s] A task whose worker is gone fails, and is retried. It has to be more than the half minute
        # in which the API server is away, and takes no heartbeat of the tasks that live.
        "task_instance_heartbeat_timeout": 60,
        # [10 s] How often that is looked at.
        "task_instance_heartbeat_timeout_detection_interval": 5,
        # [30 s] A scheduler that has been silent for so long is dead. The other one takes over its tasks ...
        "scheduler_health_check_threshold": 20,
        # [300 s] ... at its next look.
        "orphaned_tasks_check_interval": 15,
        # [600 s] A task whose message the broker lost is queued again after that time. A message holds a token of
        # the same validity, so what the broker hands out once more (see below) has to arrive within it.
        "task_queued_timeout": 75,
        # [120 s] How often that is looked at.
        "task_queued_timeout_check_interval": 10,
        # [2 times] So often before it costs a retry: where all workers are busy, 75 s prove no loss.
        "num_stuck_in_queued_retries": 20,
    },
    "triggerer": {
        # [30 s] The other triggerer takes over the triggers of one that has been silent for so long.
        "triggerer_health_check_threshold": 15,
    },
    "celery_broker_transport_options": {
        # [a day] The broker hands out again what a worker took, and did not finish within that time. Where the
        # first run is alive, Airflow refuses the second one.
        "visibility_timeout": 40,
    },
}


def of_the_cluster(broker: str, database: str) -> dict[str, Mapping[str, object]]:
    """
    Return the settings of CeleryExecutor: section -> option -> value.

    :param broker: URL of the broker.
    :param database: URL of Airflow's database, which takes the results too.
    """
    return {
        "core": {
            "executor": "CeleryExecutor",
            # On separate machines, each component has a host name of its own; here, its name.
            "hostname_callable": "tests.cluster.hostname.of_this_component",
        },
        "celery": {
            "broker_url": broker,
            "result_backend": f"db+{database}",
            "worker_concurrency": CAPACITY,
        },
    }
