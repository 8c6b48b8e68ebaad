# SPDX-License-Identifier: Apache-2.0
"""
The plugin that adds the Videos page to Airflow's UI, from Airflow 3.1 on.

Every component of Airflow loads plugins, workers included. So this module imports nothing of the page: the API
server builds it at the first request.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_kling.version_compat import AIRFLOW_V_3_1_PLUS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]

#: Where the page is mounted in the API server.
URL_PREFIX = "/kling"
#: The last segment of the tab of a task instance in Airflow's UI. `KlingVideoLink` leads there.
TASK_INSTANCE_ROUTE = "kling"

_RUN = "kling/dags/{DAG_ID}/runs/{RUN_ID}"


def _view(destination: str, url_route: str, href: str) -> dict[str, str]:
    # The navigation and the bar of tabs have room for one short word.
    # Without a leading slash the paths work under a base path, too.
    icon = "kling/static/icon.svg"
    return {
        "name": "Kling",
        "href": href,
        "destination": destination,
        "url_route": url_route,
        "icon": icon,
        "icon_dark_mode": "kling/static/icon-dark.svg",
    }


class LazyApp:
    """An ASGI application that is built at its first request."""

    def __init__(self) -> None:
        self._app: Callable[..., Awaitable[None]] | None = None
        self._lock = threading.Lock()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if self._app is None:
            with self._lock:
                if self._app is None:
                    from airflow_provider_kling.videos_page.app import build_app

                    self._app = build_app()
        await self._app(scope, receive, send)


class KlingVideosPlugin(AirflowPlugin):
    """The Videos page: a tab on task instances, runs and DAGs, and an entry in the navigation."""

    name = "kling_videos"
    if AIRFLOW_V_3_1_PLUS:
        fastapi_apps = [{"app": LazyApp(), "url_prefix": URL_PREFIX, "name": "Kling videos"}]
        # Airflow wants each url_route once.
        external_views = [
            _view("task_instance", TASK_INSTANCE_ROUTE, f"{_RUN}/tasks/{{TASK_ID}}/{{MAP_INDEX}}"),
            _view("dag_run", "kling-run", _RUN),
            _view("dag", "kling-dag", "kling/dags/{DAG_ID}"),
            _view("nav", "kling-videos", "kling/videos"),
        ]
