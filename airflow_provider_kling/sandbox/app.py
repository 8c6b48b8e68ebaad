# SPDX-License-Identifier: Apache-2.0
"""The gateway's API: three routes, and the keys of its users."""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from airflow_provider_kling.sandbox.contract import parse_request
from airflow_provider_kling.sandbox.dialects import error_body
from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.faults import Reply
from airflow_provider_kling.sandbox.handlers import Handlers, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kling.sandbox.controls import Controls
    from airflow_provider_kling.sandbox.faults import Route
    from airflow_provider_kling.sandbox.jobs import Job
    from airflow_provider_kling.sandbox.studio import Studio

log = logging.getLogger(__name__)
#: The routes that scripted faults can affect.
GATEWAY_ROUTES: tuple[Route, ...] = ("submit", "status", "probe", "content")


class GatewayHandlers(Handlers):
    """
    The routes of a gateway.

    :param controls: The state of the sandbox.
    :param studio: Renders the videos.
    :param prefix: A path in front of all routes.
    :param api_keys: The valid keys; each stands for an account of its own.
    :param status_routes: Paths under which the status of a job is served.
    """

    def __init__(
        self,
        controls: Controls,
        studio: Studio,
        prefix: str,
        *,
        api_keys: Sequence[str],
        status_routes: Sequence[str] = ("/v1/videos",),
    ) -> None:
        super().__init__(controls, studio, prefix)
        self._keys = frozenset(api_keys)
        self._status_routes = status_routes

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(f"{self.prefix}/v1/video/generations", self.submit),
            *(web.get(f"{self.prefix}{route}/{{task_id}}", self.status) for route in self._status_routes),
            web.get(f"{self.prefix}/v1/videos/{{task_id}}/content", self.content),
        ]

    def error(self, status: int, code: int | str | None, message: str) -> dict[str, Any]:
        return error_body(self.controls.dialect.errors, "" if code is None else code, message)

    async def submit(self, request: web.Request) -> web.StreamResponse:
        async def exchange(accepted: list[Job]) -> Reply:
            key = self._key(request)
            raw = await read_json(request, "invalid_request")
            video = parse_request(raw)
            struck = self.controls.strike("submit", video.text)

            async def accept() -> Reply:
                job = self.controls.accept(video, raw, key, struck, account=_account(key))
                accepted.append(job)
                log.info("accepted %s: %s, %s s, %r", job.id, video.model, video.seconds, video.text[:80])
                return Reply.of(200, job.dialect.submit_response(job))

            return await self.with_faults(struck, accept)

        return await self.submission(request, exchange)

    async def status(self, request: web.Request) -> web.StreamResponse:
        task_id = request.match_info["task_id"]
        route: Route = "status" if self.controls.has_job(task_id) else "probe"

        async def exchange() -> Reply:
            job = self.controls.find(task_id, _account(self._key(request)))
            struck = self.controls.strike(route, job.request.text if job else "", job)

            async def report() -> Reply:
                if job is None:
                    raise ApiError(400, "task_not_exist", "task_not_exist")
                return Reply.of(200, job.dialect.status_response(job, job.at(time.time()), self.base_url(request)))

            return await self.with_faults(struck, report)

        return await self.answer(route, request, exchange)

    async def content(self, request: web.Request) -> web.StreamResponse:
        def find() -> Job:
            job = self.controls.find(request.match_info["task_id"], _account(self._key(request)))
            if job is None:
                raise ApiError(400, "task_not_exist", "task_not_exist")
            return job

        return await self.video(request, find)

    def _key(self, request: web.Request) -> str:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise ApiError(401, "", "no API key: send the header Authorization: Bearer sk-...")
        if given not in self._keys:
            raise ApiError(401, "", "invalid API key")
        return given


def _account(key: str) -> str:
    """Return the name of a key's account; it can be stored, for it does not contain the key."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]
