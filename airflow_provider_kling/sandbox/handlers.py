# SPDX-License-Identifier: Apache-2.0
"""What every API of the sandbox does with a request: faults, responses, video files and the control endpoints."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from abc import ABC, abstractmethod
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.faults import HTML, Fault, Reply
from airflow_provider_kling.sandbox.page import HEADERS, page_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Handler, Middleware

    from airflow_provider_kling.sandbox.controls import Controls
    from airflow_provider_kling.sandbox.faults import Route, Struck
    from airflow_provider_kling.sandbox.jobs import Job
    from airflow_provider_kling.sandbox.studio import Studio

#: How a path that no route serves is answered: by a plain 404, as new-api does, or by a web page with 200.
UnknownRoutes = Literal["plain", "new-api", "page"]
#: Two images of 10 MB in base64, and the rest of the request.
LARGEST_REQUEST = 32 * 1024 * 1024
log = logging.getLogger(__name__)
#: Seconds between two pieces of a slow response.
DRIP_SECONDS = 0.05


class Handlers(ABC):
    """
    The handlers that every API has.

    ``clock_offset`` is the number of seconds by which the server's clock is fast.

    :param controls: The state of the sandbox.
    :param studio: Renders the videos.
    :param prefix: A path in front of all routes.
    """

    clock_offset = 0.0

    def __init__(self, controls: Controls, studio: Studio, prefix: str) -> None:
        self.controls = controls
        self.studio = studio
        self.prefix = prefix

    @abstractmethod
    def routes(self) -> list[web.RouteDef]:
        """Return the API's own routes."""

    @abstractmethod
    def error(self, status: int, code: int | str | None, message: str) -> dict[str, Any]:
        """Return the body of an error response; a code of None stands for the usual one of the status."""

    def base_url(self, request: web.Request) -> str:
        """Return the beginning of the links in responses."""
        return f"{request.scheme}://{request.host}{self.prefix}"

    async def page(self, request: web.Request) -> web.StreamResponse:
        """Send the sandbox's own page."""
        body = page_of(self.controls, self.base_url(request))
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=HEADERS)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Send the video file at the address that needs no key."""
        return await self.video(request, lambda: self.controls.find_public(request.match_info["task_id"]))

    async def video(self, request: web.Request, find: Callable[[], Job]) -> web.StreamResponse:
        """Send the file of the job that ``find`` returns."""

        async def exchange() -> Reply:
            job = find()
            struck = self.controls.strike("content", job.request.text, job)

            async def serve() -> Reply:
                if job.at(time.time()).state != "completed":
                    raise ApiError(400, "invalid_request", "the video is not finished")
                try:
                    path = await self.studio.video_file(job.request)
                except (ImportError, OSError) as error:
                    raise ApiError(500, "", f"the video cannot be rendered: {error}") from error
                content = await asyncio.to_thread(path.read_bytes)
                headers = {
                    "Content-Disposition": f'inline; filename="{job.id}.mp4"',
                    "Accept-Ranges": "bytes",
                    # As object storages have it.
                    "ETag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"',
                }
                span = _requested_span(request, headers["ETag"], len(content))
                return Reply(200, ((content, 1),), "video/mp4", headers, span)

            return await self.with_faults(struck, serve)

        return await self.answer("content", request, exchange)

    async def submission(
        self, request: web.Request, accept: Callable[[list[Job]], Awaitable[Reply]]
    ) -> web.StreamResponse:
        """Send the response to a submit; ``accept`` adds the accepted job to its list."""
        accepted: list[Job] = []
        reply = await self._reply("submit", request, lambda: accept(accepted))
        # Set before sending too: a client that has the response must find it in the ledger.
        for job in accepted:
            self.controls.set_answered(job, True)
        response, delivered = await _send(request, reply)
        for job in accepted:
            self.controls.set_answered(job, delivered)
        return response

    async def answer(
        self, route: Route, request: web.Request, exchange: Callable[[], Awaitable[Reply]], ids: int = 0
    ) -> web.StreamResponse:
        """Send the response of ``exchange``, or the error that it raises; ``ids`` counts the ids asked for."""
        return (await _send(request, await self._reply(route, request, exchange, ids)))[0]

    async def with_faults(self, struck: Struck, carry_out: Callable[[], Awaitable[Reply]]) -> Reply:
        """Return the response of ``carry_out``, with the pauses and the change of the faults."""
        if before := struck.pause("delay_before"):
            await asyncio.sleep(before)
        fault = struck.response
        reply = await self._or_error(carry_out()) if fault is None or fault.carries_out else Reply()
        if after := struck.pause("delay_after"):
            await asyncio.sleep(after)
        if fault is not None:
            log.info("fault %s on %s", fault.kind, fault.on)
            # In a thread: it may read a file or compress hundreds of megabytes.
            return await asyncio.to_thread(fault.change_reply, reply, self.error)
        return reply

    async def _reply(
        self, route: Route, request: web.Request, exchange: Callable[[], Awaitable[Reply]], ids: int = 0
    ) -> Reply:
        self.controls.record_request(route, request.method, request.path_qs, request.headers, ids)
        return await self._or_error(exchange())

    async def _or_error(self, reply: Awaitable[Reply]) -> Reply:
        try:
            return await reply
        except ApiError as error:
            return Reply.of(error.status, self.error(error.status, error.code, error.message))


def _requested_span(request: web.Request, etag: str, length: int) -> tuple[int, int] | None:
    """
    Return the requested part of a file, its first byte and the one after its last; None is all of it.

    :raises ApiError: with 416, if the file has no such part.
    """
    if request.headers.get("If-Range", etag) != etag or "Range" not in request.headers:
        return None
    try:
        requested = request.http_range
    except ValueError:
        return None
    first, end, _ = requested.indices(length)
    if first >= end:
        raise ApiError(416, "", f"the file has {length} bytes")
    return first, end


def build_app(handlers: Handlers, unknown_routes: UnknownRoutes = "plain") -> web.Application:
    """
    Return the application with the routes of an API, the page, the video files and the control endpoints.

    :param handlers: The API.
    :param unknown_routes: The response to a path that no route serves.
    """
    controls, prefix = handlers.controls, handlers.prefix
    app = web.Application(
        client_max_size=LARGEST_REQUEST, middlewares=[_answering_unknown_routes(controls, unknown_routes)]
    )
    if handlers.clock_offset:
        app.on_response_prepare.append(_dated(handlers.clock_offset))
    app.add_routes(
        [
            *handlers.routes(),
            *(web.get(path, handlers.page) for path in {prefix or "/", f"{prefix}/"}),
            web.get(f"{prefix}/files/{{task_id}}.mp4", handlers.file),
            *_control_routes(controls, prefix),
        ]
    )
    return app


def _dated(offset: float) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def date(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(time.time() + offset, usegmt=True)

    return date


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


async def read_json(request: web.Request, code: int | str) -> Any:
    """
    Return the decoded body.

    :raises ApiError: with 400 and ``code``, if it is not JSON.
    """
    if request.content_type != "application/json":
        raise ApiError(400, code, "the Content-Type must be application/json")
    try:
        return await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ApiError(400, code, "the request body is not valid JSON") from None


async def _send(request: web.Request, reply: Reply) -> tuple[web.StreamResponse, bool]:
    """Send the response; return it, and whether all of it was written to an open connection."""
    reply = reply.within_span()
    if reply.drop:
        _disconnect(request)
        return web.Response(), False
    headers = {"Content-Type": reply.content_type, **reply.headers}
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
