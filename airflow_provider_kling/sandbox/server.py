# SPDX-License-Identifier: Apache-2.0
"""The server, in a thread of the process that starts it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, Self

from aiohttp import web

from airflow_provider_kling.sandbox.app import GATEWAY_ROUTES, GatewayHandlers
from airflow_provider_kling.sandbox.contract import parse_request
from airflow_provider_kling.sandbox.controls import Controls
from airflow_provider_kling.sandbox.dialects import Dialect, dialect_of
from airflow_provider_kling.sandbox.faults import ROUTES
from airflow_provider_kling.sandbox.handlers import Handlers, UnknownRoutes, build_app
from airflow_provider_kling.sandbox.job_file import JobFile
from airflow_provider_kling.sandbox.jobs import JobBook
from airflow_provider_kling.sandbox.official.answers import new_task_id
from airflow_provider_kling.sandbox.official.handlers import OfficialHandlers, OfficialOptions
from airflow_provider_kling.sandbox.studio import Studio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ssl import SSLContext

    from airflow_provider_kling.sandbox.official.order import Order
    from airflow_provider_kling.sandbox.video import VideoRequest

Api = Literal["gateway", "official"]
DEFAULT_KEYS: Mapping[Api, str] = {"gateway": "sk-sandbox", "official": "api-key-kling-sandbox"}
#: Length of the queue for new connections: ten thousand clients may connect at the same moment.
BACKLOG = 4096
SHUTDOWN_SECONDS = 0.2
SETTLING_SECONDS = 0.01


class Sandbox(Controls):
    """
    A local Kling server with real video files, which needs no account and no network.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`. A stopped sandbox keeps its jobs and its
    ledger, and starts again on the same port. To its clients this looks like an outage.

    :param host: Address to listen on.
    :param port: Port to listen on; 0 uses a free one.
    :param api: The API to serve: ``gateway``, or ``official`` for Kling's own platform.
    :param api_keys: The valid keys. On a gateway, each stands for an account with its own slots.
    :param queue_seconds: Seconds for which each job is queued.
    :param run_seconds: Seconds for which each job then runs.
    :param max_concurrent: Unfinished jobs that one account may have; None sets no limit.
    :param media_dir: Folder with the files for images under the reserved example domains, by file name.
    :param dialect: The format of a gateway's responses: a name, a :class:`Dialect`, or a mapping of fields.
    :param prefix: Path in front of all routes, such as ``/kling``.
    :param status_routes: Paths under which a gateway serves the status of a job. Some servers have
        ``/v1/video/generations`` instead, and some have none.
    :param unknown_routes: The response to a path that no route serves: a ``plain`` 404, ``new-api`` (its JSON with
        404), or ``page`` (a web page with 200).
    :param cache_dir: Folder that keeps rendered videos for the next sandbox; None deletes them at the end.
    :param one_video: Render the video of the first download, and serve it for every job: for load tests.
    :param state_dir: Folder that keeps jobs, ledger and videos for the next sandbox of the same API; None forgets
        them. Only one sandbox at a time may use it.
    :param prompt_words: Let words in a prompt make trouble: ``[refuse]``, ``[fail]``, ``[slow]`` and
        ``[lost answer]``.
    :param ssl_context: Serve https with this context; None serves plain http.
    :param official: Options of Kling's own platform; see :class:`OfficialOptions`.
    :raises TypeError: if an option is unknown, or the API does not have it.
    :raises OSError: if ``state_dir`` cannot be used; at the start, if the server cannot listen on the address.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        api: Api = "gateway",
        api_keys: Sequence[str] | None = None,
        queue_seconds: float = 0.0,
        run_seconds: float = 2.0,
        max_concurrent: int | None = None,
        media_dir: str | Path | None = None,
        dialect: Dialect | str | Mapping[str, Any] = "documented",
        prefix: str = "",
        status_routes: Sequence[str] = ("/v1/videos",),
        unknown_routes: UnknownRoutes = "plain",
        cache_dir: str | Path | None = None,
        one_video: bool = False,
        state_dir: str | Path | None = None,
        prompt_words: bool = False,
        ssl_context: SSLContext | None = None,
        **official: Any,
    ) -> None:
        if api not in DEFAULT_KEYS:
            raise ValueError(f"unknown api {api!r}; known are {', '.join(DEFAULT_KEYS)}")
        if official and api != "official":
            raise TypeError(f"Sandbox(api={api!r}) has no option {', '.join(sorted(official))}")
        options = OfficialOptions(**official)
        is_official = api == "official"

        def parse(path: str, body: Mapping[str, Any]) -> tuple[VideoRequest, Order | None]:
            if not is_official:
                return parse_request(body), None
            order = options.order(path, body)
            return order.video, order

        state = Path(state_dir) if state_dir is not None else None
        super().__init__(
            dialect=dialect_of(dialect),
            queue_seconds=queue_seconds,
            run_seconds=run_seconds,
            max_concurrent=max_concurrent,
            new_book=options.new_book if is_official else JobBook,
            new_id=new_task_id if is_official else lambda job: str(job.dialect.new_id()),
            routes=ROUTES if is_official else GATEWAY_ROUTES,
            prompt_words=prompt_words,
            job_file=JobFile(state / f"{api}-jobs.jsonl", parse) if state else None,
        )
        self.host = host
        self.port = port
        self.api: Api = api
        self.api_keys = (DEFAULT_KEYS[api],) if api_keys is None else tuple(api_keys)
        self.access_keys = dict(options.access_keys) if is_official else {}
        self.prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""
        self._status_routes = tuple(status_routes)
        self._unknown_routes = unknown_routes
        self._media_dir = Path(media_dir) if media_dir is not None else None
        self._cache_dir = Path(cache_dir) if cache_dir is not None else state and state / "videos"
        self._one_video = one_video
        self._options = options
        self._ssl_context = ssl_context
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def api_key(self) -> str:
        """The first valid key."""
        return self.api_keys[0]

    @property
    def base_url(self) -> str:
        """The base URL for a connection, path prefix included."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        scheme = "https" if self._ssl_context else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{self.prefix}"

    @property
    def connection_json(self) -> str:
        """The connection as JSON, for an ``AIRFLOW_CONN_...`` variable."""
        return json.dumps(self._connection(password=self.api_key))

    @property
    def access_key_connection_json(self) -> str:
        """The connection with the first access key as login and its secret key as password."""
        access_key, secret_key = next(iter(self.access_keys.items()))
        return json.dumps(self._connection(login=access_key, password=secret_key))

    def _connection(self, **keys: str) -> dict[str, Any]:
        connection: dict[str, Any] = {"conn_type": "kling", "host": self.base_url, **keys}
        return connection if self.api == "gateway" else {**connection, "extra": {"api": self.api}}

    def start(self) -> Self:
        """
        Start the server, and return as soon as it accepts requests.

        :raises OSError: if the server cannot listen on the address.
        """
        if self._thread is not None:
            raise RuntimeError("the sandbox is running already")
        listening: Future[None] = Future()
        self._thread = Thread(target=self._run, args=(listening,), name="kling-sandbox", daemon=True)
        self._thread.start()
        try:
            listening.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise
        return self

    def stop(self) -> None:
        """Close all connections and the port; does nothing if the server is stopped."""
        if self._thread is None or self._loop is None or self._stopping is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._thread = None

    def _run(self, listening: Future[None]) -> None:
        try:
            asyncio.run(self._serve(listening))
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    def _handlers(self, studio: Studio) -> Handlers:
        if self.api == "official":
            return OfficialHandlers(self, studio, self.prefix, api_keys=self.api_keys, options=self._options)
        return GatewayHandlers(
            self, studio, self.prefix, api_keys=self.api_keys, status_routes=self._status_routes
        )

    async def _serve(self, listening: Future[None]) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        with Studio(self._media_dir, self._cache_dir, one_video=self._one_video) as studio:
            app = build_app(self._handlers(studio), self._unknown_routes)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
            await runner.setup()
            try:
                site = web.TCPSite(runner, self.host, self.port, backlog=BACKLOG, ssl_context=self._ssl_context)
                await site.start()
                self.port = runner.addresses[0][1]
                listening.set_result(None)
                await self._stopping.wait()
            finally:
                await clean_up(runner)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()


async def clean_up(runner: web.AppRunner) -> None:
    """Stop a server, and close every connection to it."""
    # A connection that was just accepted is registered after a few iterations of the loop. A site that is closed
    # before that loses it, and nothing would close its socket.
    await asyncio.sleep(SETTLING_SECONDS)
    for site in list(runner.sites):
        await site.stop()
    await asyncio.sleep(SETTLING_SECONDS)
    server = runner.server
    transports = [connection.transport for connection in server.connections] if server else []
    await runner.cleanup()
    # It closes a connection only once the client has read what was sent, which may be never.
    for transport in transports:
        if transport is not None:
            transport.abort()
    await asyncio.sleep(0)  # in this turn of the loop they close their sockets
