# SPDX-License-Identifier: Apache-2.0
"""
One HTTP client for everybody who waits on the same connection in the same event loop.

A triggerer runs thousands of triggers in one loop. A connection look-up there costs tens of milliseconds of a
supervisor that serves everybody, and a TLS handshake as much again, so neither happens per poll or per trigger:
the client appears with the first user, is shared by all, and closes with the last.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_kling.connection import HEADERS, KlingConnection
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingConnectionError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.pace import Pace
from airflow_provider_kling.schedule import Durations
from airflow_provider_kling.wire.answer import (
    MAX_ANSWER_BYTES,
    Answer,
    VideoJob,
    read_status,
    retry_after_seconds,
    status_path,
)

#: Sockets per connection. Polls are short, so a few dozen serve thousands of waiting videos.
MAX_SOCKETS = 32

#: What this process has learned, by connection; it outlives the clients.
_learned: dict[str, Durations] = {}
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()


def learned_durations(conn_id: str) -> Durations:
    """Return what this process has learned of how long the jobs of a connection take."""
    return _learned.setdefault(conn_id, Durations())


@asynccontextmanager
async def shared_client(conn_id: str) -> AsyncIterator[SharedClient]:
    """Lend the client that everybody in this event loop shares for this connection."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    client = clients.get(conn_id)
    if client is None:
        client = clients[conn_id] = SharedClient(conn_id)
    client.users += 1
    try:
        yield client
    finally:
        client.users -= 1
        if client.users == 0:
            # Forgotten before it is closed: closing awaits, and whoever comes meanwhile needs a fresh one.
            del clients[conn_id]
            await client.close()


class SharedClient:
    """
    An HTTP client that looks its connection up once, and once more if the key is refused.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self.users = 0
        self.slots = Slots()
        self._link: asyncio.Future[_Link] | None = None

    async def get_video(self, task_id: str) -> VideoJob:
        """
        Ask for the state of a job, once.

        :raises KlingError: what went wrong, by name; the retryable ones are worth another call.
        """
        link = await self._connected()
        try:
            return await self._ask(link, task_id)
        except KlingAuthenticationError:
            # The key may have been replaced in Airflow since it was looked up.
            renewed = await self._reconnected(link)
            if renewed.connection.api_key == link.connection.api_key:
                raise
            return await self._ask(renewed, task_id)

    async def _ask(self, link: _Link, task_id: str) -> VideoJob:
        wait = link.pace.reserve(now=time.monotonic())
        if wait > 0:
            await asyncio.sleep(wait)
        answer = await link.get(status_path(task_id))
        if answer.http_status == 429:
            link.pace.refused(now=time.monotonic(), retry_after=answer.retry_after)
        else:
            link.pace.accepted()
        return read_status(answer, task_id)

    async def close(self) -> None:
        """Close the sockets."""
        link, self._link = self._link, None
        if link is not None and link.done() and not link.cancelled() and link.exception() is None:
            await link.result().session.close()

    async def _connected(self) -> _Link:
        """Return the open link; the first caller opens it, and all others await the same opening."""
        if self._link is None:
            self._link = asyncio.ensure_future(_Link.open(self.conn_id))
        opening = self._link
        try:
            # Shielded: a trigger that is cancelled meanwhile must not take the others' link with it.
            return await asyncio.shield(opening)
        except Exception:
            if self._link is opening:
                self._link = None
            raise

    async def _reconnected(self, refused: _Link) -> _Link:
        """Return a link newer than the refused one, looking the connection up once for all who were refused."""
        if self._link is not None and self._link.done() and self._link.result() is refused:
            self._link = None
            await refused.session.close()
        return await self._connected()


class Slots:
    """Those who wait for a slot of the account, and learn in turn when a job that is watched here ends."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def wait(self, *, seconds: float) -> None:
        """Return when a slot is freed and it is this waiter's turn, or when the seconds are over."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=max(0.0, seconds))
        finally:
            with suppress(ValueError):
                self._waiting.remove(turn)

    def free_one(self) -> None:
        """Wake the one who has waited longest."""
        if self._waiting:
            self._waiting.popleft().set_result(None)


class _Link:
    """A resolved connection and the session opened for it."""

    def __init__(self, connection: KlingConnection, session: aiohttp.ClientSession) -> None:
        self.connection = connection
        self.session = session
        self.pace = Pace(connection.max_requests_per_second)

    @classmethod
    async def open(cls, conn_id: str) -> _Link:
        try:
            found = await get_async_connection(conn_id)
            extra = await get_async_extra_dejson(found)
        except AirflowNotFoundException as error:
            raise KlingValidationError(str(error), advice="Add the connection in Airflow.") from error
        connection = KlingConnection.parse(
            conn_id=conn_id,
            host=found.host,
            password=found.password,
            schema=found.schema,
            port=found.port,
            extra=extra,
        )
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_SOCKETS, ssl=await _tls(connection.verify)),
            timeout=aiohttp.ClientTimeout(
                total=connection.connect_timeout + connection.read_timeout,
                sock_connect=connection.connect_timeout,
                sock_read=connection.read_timeout,
            ),
            headers=HEADERS,
            trust_env=connection.trust_env,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return cls(connection, session)

    async def get(self, path: str) -> Answer:
        url = self.connection.url(path)
        headers = {"Authorization": self.connection.authorization}
        try:
            async with self.session.get(
                url, headers=headers, allow_redirects=False, proxy=self.connection.proxy
            ) as response:
                return Answer(
                    http_status=response.status,
                    body=await _bounded_body(response),
                    retry_after=retry_after_seconds(response.headers.get("Retry-After"), now=time.time()),
                    location=response.headers.get("Location"),
                )
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise KlingConnectionError(f"GET {url} failed: {type(error).__name__}: {error}") from error


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise KlingServerError(
                f"GET {response.url}: the answer is larger than {MAX_ANSWER_BYTES} bytes",
                http_status=response.status,
            )
    return body


async def _tls(verify: bool | str) -> Any:
    if isinstance(verify, bool):
        return verify
    # Reading a CA bundle from disk would block the loop.
    return await asyncio.to_thread(ssl.create_default_context, cafile=verify)
