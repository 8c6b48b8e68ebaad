# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: the vendor's three routes, the video files and the control endpoints."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from airflow_provider_kling.sandbox.contract import ApiError, parse_request
from airflow_provider_kling.sandbox.faults import HTML, Fault, Reply, Route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp.typedefs import Handler, Middleware

    from airflow_provider_kling.sandbox.controls import Controls
    from airflow_provider_kling.sandbox.jobs import Job
    from airflow_provider_kling.sandbox.studio import Studio


#: How a path that no route serves is answered: by a plain 404, as new-api does, or by a web page with 200.
UnknownRoutes = Literal["plain", "new-api", "page"]
log = logging.getLogger(__name__)
#: Seconds between two pieces of a slow response.
DRIP_SECONDS = 0.05


def build_app(
    controls: Controls,
    api_keys: Sequence[str],
    studio: Studio,
    prefix: str = "",
    *,
    status_routes: Sequence[str] = ("/v1/videos",),
    unknown_routes: UnknownRoutes = "plain",
) -> web.Application:
    """
    Return the application with all routes.

    :param controls: The state of the sandbox.
    :param api_keys: The valid keys.
    :param studio: Renders the videos.
    :param prefix: A path in front of all routes.
    :param status_routes: Paths under which the status of a job is served.
    :param unknown_routes: The response to a path that no route serves.
    """
    vendor = _VendorRoutes(controls, api_keys, studio, prefix)
    app = web.Application(
        client_max_size=16 * 1024 * 1024, middlewares=[_answering_unknown_routes(controls, unknown_routes)]
    )
    app.add_routes(
        [
            web.post(f"{prefix}/v1/video/generations", vendor.submit),
            *(web.get(f"{prefix}{route}/{{task_id}}", vendor.status) for route in status_routes),
            web.get(f"{prefix}/v1/videos/{{task_id}}/content", vendor.content),
            web.get(f"{prefix}/files/{{task_id}}.mp4", vendor.file),
            *_control_routes(controls, prefix),
        ]
    )
    return app


def _answering_unknown_routes(controls: Controls, style: UnknownRoutes) -> Middleware:
    """Answer what no route serves as servers of this kind do, without a look at the key."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not isinstance(request.match_info.http_exception, web.HTTPNotFound | web.HTTPMethodNotAllowed):
            return await handler(request)
        controls.record_request("unknown", request.method, request.path_qs, request.headers)
        if style == "page":
            return web.Response(text=HTML.format("Console"), content_type="text/html")
        if style == "new-api":
            message = f"Invalid URL ({request.method} {request.path})"
            error = {"message": message, "type": "invalid_request_error", "param": "", "code": ""}
            return web.json_response({"error": error}, status=404)
        return await handler(request)

    return answer


class _VendorRoutes:
    def __init__(self, controls: Controls, api_keys: Sequence[str], studio: Studio, prefix: str) -> None:
        self._controls = controls
        self._keys = frozenset(api_keys)
        self._studio = studio
        self._prefix = prefix

    async def submit(self, request: web.Request) -> web.StreamResponse:
        accepted: list[Job] = []

        async def exchange() -> Reply:
            key = self._key(request)
            raw = await _json_body(request)
            video = parse_request(raw)
            struck = self._controls.strike("submit", video.text)

            async def accept() -> Reply:
                job = self._controls.accept(video, raw, key, struck)
                accepted.append(job)
                log.info("accepted %s: %s, %s s, %r", job.id, video.model, video.seconds, video.text[:80])
                return Reply.of(200, job.dialect.submit_response(job))

            return await _with_faults(struck.response, struck.pause, accept)

        reply = await self._reply("submit", request, exchange)
        # Set before sending too: a client that has the response must find it in the ledger.
        for job in accepted:
            job.answered = True
        response, delivered = await _send(request, reply)
        for job in accepted:
            job.answered = delivered
        return response

    async def status(self, request: web.Request) -> web.StreamResponse:
        task_id = request.match_info["task_id"]
        route: Route = "status" if self._controls.has_job(task_id) else "probe"

        async def exchange() -> Reply:
            job = self._controls.find(task_id, self._key(request))
            struck = self._controls.strike(route, job.request.text if job else "", job)

            async def report() -> Reply:
                if job is None:
                    raise ApiError(400, "task_not_exist", "task_not_exist")
                base_url = f"{request.scheme}://{request.host}{self._prefix}"
                return Reply.of(200, job.dialect.status_response(job, job.at(time.time()), base_url))

            return await _with_faults(struck.response, struck.pause, report)

        reply = await self._reply(route, request, exchange)
        return (await _send(request, reply))[0]

    async def content(self, request: web.Request) -> web.StreamResponse:
        def find() -> Job:
            job = self._controls.find(request.match_info["task_id"], self._key(request))
            if job is None:
                raise ApiError(400, "task_not_exist", "task_not_exist")
            return job

        return await self._video(request, find)

    async def file(self, request: web.Request) -> web.StreamResponse:
        return await self._video(request, lambda: self._controls.find_public(request.match_info["task_id"]))

    async def _video(self, request: web.Request, find: Callable[[], Job]) -> web.StreamResponse:
        async def exchange() -> Reply:
            job = find()
            struck = self._controls.strike("content", job.request.text, job)

            async def serve() -> Reply:
                if job.at(time.time()).state != "completed":
                    raise ApiError(400, "invalid_request", "the video is not finished")
                try:
                    path = await self._studio.video_file(job.request)
                except (ImportError, OSError) as error:
                    raise ApiError(500, "", f"the video cannot be rendered: {error}") from error
                name = {"Content-Disposition": f'inline; filename="{job.id}.mp4"'}
                return Reply(200, content_type="video/mp4", headers=name, file=path)

            return await _with_faults(struck.response, struck.pause, serve)

        reply = await self._reply("content", request, exchange)
        return (await _send(request, reply))[0]

    def _key(self, request: web.Request) -> str:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise ApiError(401, "", "no API key: send the header Authorization: Bearer sk-...")
        if given not in self._keys:
            raise ApiError(401, "", "invalid API key")
        return given

    async def _reply(self, route: Route, request: web.Request, exchange: Callable[[], Awaitable[Reply]]) -> Reply:
        self._controls.record_request(route, request.method, request.path_qs, request.headers)
        try:
            return await exchange()
        except ApiError as error:
            return Reply.of(error.status, self._controls.dialect.error_response(error))


async def _with_faults(
    fault: Fault | None, pause: Callable[[str], float], carry_out: Callable[[], Awaitable[Reply]]
) -> Reply:
    if before := pause("delay_before"):
        await asyncio.sleep(before)
    reply = await carry_out() if fault is None or fault.carries_out else Reply()
    if after := pause("delay_after"):
        await asyncio.sleep(after)
    if fault is not None:
        log.info("fault %s on %s", fault.kind, fault.on)
        # In a thread: it may read a file or compress hundreds of megabytes.
        return await asyncio.to_thread(fault.change_reply, reply)
    return reply


async def _json_body(request: web.Request) -> Any:
    if request.content_type != "application/json":
        raise ApiError(400, "invalid_request", "the Content-Type must be application/json")
    try:
        return await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ApiError(400, "invalid_request", "the request body is not valid JSON") from None


async def _send(request: web.Request, reply: Reply) -> tuple[web.StreamResponse, bool]:
    """Send the response; return it, and whether all of it was written to an open connection."""
    if reply.drop:
        _disconnect(request)
        return web.Response(), False
    headers = {"Content-Type": reply.content_type, **reply.headers}
    if reply.file is not None:
        return web.FileResponse(reply.file, headers=headers), True
    plain = reply.sent is None and not reply.seconds and len(reply.parts) < 2
    response: web.StreamResponse
    if plain:
        response = web.Response(status=reply.status, headers=headers, body=reply.body)
    else:
        response = web.StreamResponse(status=reply.status, headers=headers)
        response.content_length = reply.length
    try:
        await response.prepare(request)
        if not plain:
            await _stream(request, response, reply)
        await response.write_eof()
    except ConnectionError:
        return response, False
    return response, request.transport is not None and not request.transport.is_closing()


async def _stream(request: web.Request, response: web.StreamResponse, reply: Reply) -> None:
    if reply.seconds:
        body = reply.body
        step = max(1, int(len(body) * DRIP_SECONDS / reply.seconds))
        for start in range(0, len(body), step):
            await response.write(body[start : start + step])
            await asyncio.sleep(reply.seconds * step / len(body))
    elif reply.sent is not None:
        body = reply.body
        await response.write(body[: int(len(body) * reply.sent)])
        _disconnect(request)
        raise ConnectionResetError("cut by a fault")
    else:
        for piece, times in reply.parts:
            for _ in range(times):
                await response.write(piece)


def _disconnect(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()


def _control_routes(controls: Controls, prefix: str) -> list[web.RouteDef]:
    base = f"{prefix}/_sandbox"

    def handler_for(call: Callable[[], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handler(_request: web.Request) -> web.Response:
            return web.json_response({"ok": True} if (result := call()) is None else result)

        return handler

    async def add_fault(request: web.Request) -> web.Response:
        try:
            controls.add_fault(Fault.from_json(await request.json()))
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"ok": True})

    async def finish(request: web.Request) -> web.Response:
        try:
            controls.finish(request.match_info["task_id"])
        except KeyError:
            return web.json_response({"error": "no such job"}, status=404)
        return web.json_response({"ok": True})

    return [
        web.get(f"{base}/ledger", handler_for(controls.ledger)),
        web.get(f"{base}/jobs", handler_for(controls.jobs)),
        web.get(f"{base}/seen", handler_for(controls.seen)),
        web.get(
            f"{base}/stats", handler_for(lambda: {"requests": controls.requests, "faults": controls.faults()})
        ),
        web.get(f"{base}/faults", handler_for(controls.faults)),
        web.post(f"{base}/faults", add_fault),
        web.delete(f"{base}/faults", handler_for(controls.clear_faults)),
        web.post(f"{base}/reset", handler_for(controls.reset)),
        web.post(f"{base}/jobs/{{task_id}}/finish", finish),
    ]
