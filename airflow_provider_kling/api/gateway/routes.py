# SPDX-License-Identifier: Apache-2.0
"""The routes on which gateways serve the status of a job."""

from __future__ import annotations

from airflow_provider_kling.api.routes import task_path

#: The documented route, and that of older and smaller gateways. They are stored as text in the arguments of
#: triggers.
STATUS_ROUTES = ("/v1/videos", "/v1/video/generations")


def status_path(kling_task_id: str, route: str | None = None) -> str:
    """
    Return the path of a task's status.

    :param kling_task_id: The task.
    :param route: One of :data:`STATUS_ROUTES`; any other value means the first.
    :raises KlingValidationError: if the id is a path.
    """
    return task_path(route if route in STATUS_ROUTES else STATUS_ROUTES[0], kling_task_id)
