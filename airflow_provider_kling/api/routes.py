# SPDX-License-Identifier: Apache-2.0
"""The status routes of an API: their paths, and which of them a server has."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from airflow_provider_kling.exceptions import KlingValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_kling.api.base import KlingApi
    from airflow_provider_kling.api.response import Response


def task_path(route: str, kling_task_id: str) -> str:
    """
    Return the path of a task on a route; the id is quoted, since ids are opaque.

    :raises KlingValidationError: if the id is ``.`` or ``..``, which would lead to another path of the API.
        Clients resolve ``%2E%2E`` too, and some servers ignore the part after a semicolon.
    """
    if kling_task_id.partition(";")[0] in {".", ".."}:
        raise KlingValidationError(
            f"{kling_task_id!r} is not a Kling task id, but a path",
            kling_task_id=kling_task_id,
            advice="Nothing was requested. Correct the id.",
        )
    return f"{route}/{quote(kling_task_id, safe='')}"


class _Found(NamedTuple):
    route: str
    response: Response
    is_served: bool | None
    is_elsewhere: bool


class RouteSearch:
    """
    One status request, sent on one route after another until the server has the route.

    Iterate over it, send the request on each route that it yields, and pass the response to :meth:`add`. A server
    that has the first route gets one request.

    :param api: The API.
    :param known: The route that this server had before; it is tried first. An unknown route is ignored, since it
        may come from a newer version.
    :param is_probe: Whether the request is the probe, and not about a job.
    """

    def __init__(self, api: KlingApi, known: str | None = None, *, is_probe: bool = False) -> None:
        self._api = api
        self._is_probe = is_probe
        self._routes = api.probe_routes if is_probe else api.status_routes
        self._known = known if known in self._routes else None
        self._found: list[_Found] = []

    def __iter__(self) -> Iterator[str]:
        for route in sorted(self._routes, key=lambda route: route != self._known):
            yield route
            if self._found and self._found[-1].is_served:
                return

    def add(self, route: str, response: Response) -> None:
        """Add the response to the request on a route."""
        is_elsewhere = not self._is_probe and self._api.may_be_on_another_route(response)
        is_served = False if is_elsewhere else self._api.serves_route(response)
        self._found.append(_Found(route, response, is_served, is_elsewhere))

    @property
    def response(self) -> Response:
        """
        The decisive response: that of the route that has the job, or else one that says that there is no such job.

        Without either it is that of the first route. A response that does not show whether its route exists does
        not outweigh one that denies the first route: nothing may be bought from a server whose status cannot be
        read.
        """
        return self._decisive.response

    @property
    def response_route(self) -> str:
        """The route of :attr:`response`."""
        return self._decisive.route

    @property
    def _decisive(self) -> _Found:
        return self._served or next((found for found in self._found if found.is_elsewhere), self._found[0])

    @property
    def route(self) -> str | None:
        """
        The route to go on with; None while none is known.

        An error on another route, for example from a proxy, does not outweigh the route that worked before.
        """
        served = self._served
        if served is None or (self._known is not None and not 200 <= served.response.http_status < 300):
            return self._known
        return served.route

    @property
    def _served(self) -> _Found | None:
        last = self._found[-1]
        return last if last.is_served else None
