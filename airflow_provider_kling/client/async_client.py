# SPDX-License-Identifier: Apache-2.0
"""
One HTTP client for everybody who waits on the same connection in the same event loop.

A triggerer runs thousands of triggers in one loop. A connection look-up there costs tens of milliseconds of a
supervisor that serves everybody, and a TLS handshake as much again, so neither happens per poll or per trigger:
the client appears with the first user, is shared by all, and closes with the last.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
import socket
import ssl
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast
from weakref import WeakKeyDictionary

import aiohttp
import requests
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from requests.utils import DEFAULT_CA_BUNDLE_PATH, select_proxy

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.response import Response
from airflow_provider_kling.api.routes import RouteSearch
from airflow_provider_kling.client.connection import HEADERS, MAX_REQUESTS_PER_SECOND, KlingConnection, proxy_url
from airflow_provider_kling.client.lookup import connection_from, lookup_error, unconfirmed_refusal
from airflow_provider_kling.client.rate_limiter import RateLimiter
from airflow_provider_kling.client.response_body import CONTENT_ENCODING, ResponseBody
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingConnectionError,
    KlingError,
    KlingRateLimitError,
    KlingValidationError,
)

if TYPE_CHECKING:
    from airflow_provider_kling.api.base import HttpCall
    from airflow_provider_kling.api.job import VideoJob

log = logging.getLogger(__name__)

#: Sockets per connection. Polls are short, so these serve thousands of waiting videos, and a server that takes two
#: seconds to answer is still asked at the full pace.
MAX_SOCKETS = 100
#: Bytes of a socket's receive buffer. A response has a few KiB. What one read of a socket brings is parsed at one
#: go, and a quarter of a mebibyte of interim responses (HTTP 100), or of chunks of one byte, holds up the loop.
RECEIVE_BUFFER = 8 << 10
#: Seconds by which somebody may be called too late, since the event loop or all sockets were busy, without slowing
#: the pace down for all who follow.
LATEST_CALL = 1.0
#: Seconds for which a refused key that Airflow gave once more counts as the one it has: thousands who are refused
#: one after another must not cost the supervisor a look-up each. Short, since a key may be corrected meanwhile.
KEY_SETTLED = 10.0
#: Seconds for which a connection that could not be had is not asked for again: whoever keeps it may be in trouble.
FAILURE_KEPT = 1.0

#: The connections as they were looked up last.
_last_good: dict[str, KlingConnection] = {}
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()
#: The clients that are being closed: nobody else holds them.
_closing: set[asyncio.Task[None]] = set()


def shared_client(conn_id: str) -> SharedClient:
    """Return the client that everybody in this event loop shares for this connection; use it in ``async with``."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in clients:
        clients[conn_id] = SharedClient(conn_id)
    return clients[conn_id]


class SharedClient:
    """
    An HTTP client that looks its connection up once, and anew if the key is refused.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self._users = 0
        #: For how long the connection's API may lag behind; known once a session was open.
        self.grace = Grace(0.0, 0.0)
        #: Those who wait for a slot of the account, and learn in turn when a job that is watched here ends.
        self.slots = WaitQueue()
        self._throttle = Throttle()
        self._session: asyncio.Future[_OpenSession] | None = None

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            # Forgotten before it is closed: closing awaits, and whoever comes meanwhile needs a fresh one.
            del _clients[asyncio.get_running_loop()][self.conn_id]
            closing = asyncio.ensure_future(self._close())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)
            # Shielded: Airflow cancels a trigger once a second until it has gone.
            await asyncio.shield(closing)

    async def get_video(
        self, kling_task_id: str, *, route: str | None = None, queue_timeout: float = math.inf
    ) -> VideoJob:
        """
        Ask for the state of a job, once.

        :param kling_task_id: The id that the submit gave.
        :param route: The status route on which the server is known to tell it.
        :param queue_timeout: Seconds to wait for one's turn at most; a server may have asked for a long pause.
        :raises KlingError: what went wrong, by name; the retryable ones are worth another call.
        """
        session = await self._connected()
        self.grace = session.connection.api.grace
        # Even past a deadline one may ask once, if nobody has to be waited for.
        if not await self._throttle.wait(seconds=queue_timeout):
            raise KlingRateLimitError(
                "No turn to ask came in time: others on this connection, its pace or a slow server left none",
                advice="Raise its max_requests_per_second, if the server allows more, or the timeout.",
            )
        try:
            if session.retired:  # its key was replaced while this one stood in line
                session = await self._connected()
            try:
                return await session.get_video(kling_task_id, route)
            except KlingAuthenticationError as error:
                # The key may have been replaced in Airflow since it was looked up.
                renewed = await self._reconnected(session)
                if renewed.connection.credentials == session.connection.credentials:
                    renewed.settled = True
                    if renewed.is_unconfirmed:
                        raise unconfirmed_refusal(error) from None
                    raise
                return await renewed.get_video(kling_task_id, route)
        finally:
            self._throttle.release()

    async def _close(self) -> None:
        """Close the sockets."""
        self._throttle.close()
        opening, self._session = self._session, None
        if opening is not None:
            # One that is still being opened is awaited: nobody else would close it.
            with suppress(Exception):
                await (await asyncio.shield(opening)).retire()

    async def _connected(self) -> _OpenSession:
        """Return the open session; the first caller opens it, and all others await the same opening."""
        if self._session is None:
            self._session = asyncio.ensure_future(_OpenSession.open(self.conn_id, self._throttle.rate_limiter))
            self._session.add_done_callback(self._opened)
        # Shielded: a trigger that is cancelled meanwhile must not take the others' session with it.
        return self._session.result() if self._session.done() else await asyncio.shield(self._session)

    def _opened(self, opening: asyncio.Future[_OpenSession]) -> None:
        """Forget a link that could not be opened, after a while."""
        if not opening.cancelled() and opening.exception() is not None:
            asyncio.get_running_loop().call_later(FAILURE_KEPT, self._forget, opening)

    def _forget(self, opening: asyncio.Future[_OpenSession]) -> None:
        if self._session is opening:
            self._session = None

    async def _reconnected(self, refused: _OpenSession) -> _OpenSession:
        """Return the link to go on with, looking the connection up once for all who were refused together."""
        settled = refused.settled and time.monotonic() - refused.opened_at < KEY_SETTLED
        if not refused.retired and not settled:
            self._session = None
            await refused.retire()
        return await self._connected()


class WaitQueue:
    """Those who wait for the same thing: first come, first served."""

    def __init__(self) -> None:
        # Ordered by arrival, and left in no time from anywhere: thousands are cancelled together.
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    async def wait(self, *, seconds: float) -> bool:
        """Return whether it was this waiter's turn before the seconds were over."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting[turn] = None
        timer = None if math.isinf(seconds) else loop.call_later(seconds, self._give_up, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._wake_next()  # woken, and gone all the same
            raise
        finally:
            self._waiting.pop(turn, None)
            if timer is not None:
                timer.cancel()

    def wake_one(self) -> bool:
        """Wake the one who has waited longest; return whether there was one."""
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():  # cancelled, and not gone yet
                turn.set_result(True)
                return True
        return False

    def _wake_next(self) -> None:
        self.wake_one()

    def _give_up(self, turn: asyncio.Future[bool]) -> None:
        if not turn.done():
            self._waiting.pop(turn, None)
            turn.set_result(False)


class Throttle(WaitQueue):
    """
    The turns to ask: at the pace of the connection, and as many at once as there are sockets.

    Those who wait for a slow server to free a socket wait here, where queue_timeout counts, and not in the HTTP
    client, where the timeout of their request would run out meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate_limiter = RateLimiter(MAX_REQUESTS_PER_SECOND)
        self._in_use = 0
        #: Set while the next turn is not due yet: one timer for all.
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, *, seconds: float) -> bool:
        """Return whether one's turn came before the seconds were over, to be given back after the request."""
        return self.try_acquire() or await super().wait(seconds=seconds)

    def try_acquire(self) -> bool:
        """Take a turn if one has come that nobody waits for; idle time is not saved up."""
        return not self._waiting and self._acquire_if_due(late=0.0)

    def release(self) -> None:
        """End a turn, which frees a socket."""
        self._in_use -= 1
        if self._waiting:
            self._call()

    def close(self) -> None:
        """Forget those who waited last; whoever closes this knows that they are gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _acquire_if_due(self, *, late: float) -> bool:
        """Take the next turn if it is due and a socket is free; if not, it will be called."""
        if self._timer is not None or self._in_use == MAX_SOCKETS:
            return False
        if left := self.rate_limiter.acquire(now=time.monotonic(), late=late):
            self._timer = asyncio.get_running_loop().call_later(left, self._due)
            return False
        self._in_use += 1
        return True

    def _due(self) -> None:
        self._timer = None
        self._call()

    def _call(self) -> None:
        """Call all whose turn has come."""
        while self._waiting and self._acquire_if_due(late=LATEST_CALL):
            self._wake_next()

    def _wake_next(self) -> None:
        if not self.wake_one():
            self._in_use -= 1


class _OpenSession:
    """A resolved connection and the session opened for it."""

    def __init__(
        self, connection: KlingConnection, session: aiohttp.ClientSession, rate_limiter: RateLimiter
    ) -> None:
        self.connection = connection
        self.session = session
        self.rate_limiter = rate_limiter
        self.opened_at = time.monotonic()
        #: Whether its key had been refused before it was looked up anew.
        self.settled = False
        #: Whether Airflow could not return the connection, so that it is the one of an earlier look-up.
        self.is_unconfirmed = False
        self.retired = False
        #: The status route that the server has, once a response has shown it.
        self.status_route: str | None = None
        self._in_flight = 0

    @classmethod
    async def open(cls, conn_id: str, rate_limiter: RateLimiter) -> _OpenSession:
        found, is_confirmed = await _look_up(conn_id)
        connection = _with_environment(found)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=MAX_SOCKETS, ssl=await _tls(connection.verify), socket_factory=_socket
            ),
            timeout=aiohttp.ClientTimeout(
                total=connection.connect_timeout + connection.read_timeout,
                sock_connect=connection.connect_timeout,
            ),
            headers={**HEADERS, "Accept-Encoding": CONTENT_ENCODING},
            auto_decompress=False,
            proxy=connection.proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        rate_limiter.per_second = connection.max_requests_per_second
        opened = cls(connection, session, rate_limiter)
        opened.is_unconfirmed = not is_confirmed
        return opened

    async def get_video(self, kling_task_id: str, route: str | None = None) -> VideoJob:
        """Return the state of a job, asked for once."""
        api = self.connection.api
        search = RouteSearch(api, self.status_route or route)
        for candidate in search:
            search.add(candidate, await self.send(api.status((kling_task_id,), route=candidate)))
        # Another trigger may have learned it meanwhile; what is open here does not undo that.
        self.status_route, response = search.route or self.status_route, search.response
        try:
            job = self.connection.read_status(response, kling_task_id, route=self.status_route)
        except KlingRateLimitError as error:
            self.rate_limiter.refused(now=time.monotonic(), retry_after=error.retry_after)
            raise
        except KlingError:
            self.rate_limiter.accepted()
            raise
        self.rate_limiter.accepted()
        return job

    async def send(self, call: HttpCall) -> Response:
        """
        Send a call and return the response, whatever its HTTP status.

        :raises KlingConnectionError: if the exchange broke.
        :raises KlingServerError: if the response is too large.
        """
        connection = self.connection
        url = connection.url(call.path)
        # With the request: what a session sends by itself aiohttp also sends to a proxy, as Proxy-Authorization.
        key = {"Authorization": connection.authorization(now=time.time())}
        self._in_flight += 1
        try:
            async with self.session.request(
                call.method, url, headers=key, json=call.body, allow_redirects=False
            ) as response:
                body = ResponseBody(f"{call.method} {url}", response.status)
                while not response.content.at_eof():
                    body.add(await response.content.readany())
                content = body.content(response.headers.get("Content-Encoding", ""))
                return Response.from_http(
                    response.status,
                    content,
                    response.headers,
                    masked=connection.masked,
                    masked_body=connection.masked_body,
                )
        # TimeoutError is an OSError, and a host name that cannot be one a UnicodeError.
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            reason = self._reason(error)
        finally:
            self._in_flight -= 1
            if self.retired:
                await self.retire()
        # Outside of the except block: aiohttp's errors hold addresses, passwords and headers as they are.
        raise KlingConnectionError(f"{call.method} {url} failed: {reason}")

    async def retire(self) -> None:
        """Close the session once nobody waits for an answer: closed earlier, it would cancel those who do."""
        self.retired = True
        if self._in_flight == 0:
            await self.session.close()

    def _reason(self, error: Exception) -> str:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            reason = f"the proxy answered {error.status} {error.message}"
        elif isinstance(error, aiohttp.ClientResponseError):
            # What follows quotes the bytes that do not parse, from wherever they were cut.
            reason = re.split(r"\n\s*\n|\bb['\"]", reason, maxsplit=1)[0].rstrip(": \n")
        elif isinstance(error, TimeoutError) and not str(error):
            reason = f"timeout: no whole answer within {self.session.timeout.total:g} seconds"
        return self.connection.masked(reason)


async def _look_up(conn_id: str) -> tuple[KlingConnection, bool]:
    """
    Return the connection, and whether Airflow returned it just now.

    While Airflow cannot return it, the connection of the last look-up is used.
    """
    try:
        found = await get_async_connection(conn_id)
        extra = await get_async_extra_dejson(found)
    except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
        failure = lookup_error(conn_id, error)
        if (last := _last_good.get(conn_id)) is None:
            raise failure from failure.__cause__
        log.warning("%s Going on with the connection as it was", failure)
        return last, False
    connection = connection_from(conn_id, found, extra)
    _last_good[conn_id] = connection
    return connection, True


def _with_environment(connection: KlingConnection) -> KlingConnection:
    """
    Return the connection with the proxy and the CA bundle that the environment names where it names none itself.

    By the rules of ``requests``, which are a worker's: a job that could be submitted can be asked for. Found once:
    aiohttp's own ``trust_env`` asks the environment and ``.netrc`` in a thread at every request, which costs more
    than the request.
    """
    with requests.Session() as session:
        session.trust_env = connection.trust_env
        found = session.merge_environment_settings(connection.base_url, {}, None, connection.verify, None)
    proxy = connection.proxy or select_proxy(connection.base_url, found["proxies"])
    verify = cast("bool | str", found["verify"])
    try:
        return replace(connection, proxy=proxy and proxy_url(proxy), verify=verify)
    except ValueError as error:
        raise KlingValidationError(
            f"The proxy that the environment names for {connection.base_url} cannot be used: it {error}",
            advice="Correct it, or set the connection's extra proxy, or trust_env to false.",
        ) from None


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """Return the socket for an address of ``getaddrinfo``."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return made


async def _tls(verify: bool | str) -> Any:
    if verify is False:
        return False
    try:
        # Reading certificates from disk would block the loop.
        return await asyncio.to_thread(_trusting, None if verify is True else Path(str(verify)))
    except OSError as error:
        raise KlingConnectionError(f"The CA bundle {verify} cannot be used: {error}") from error


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    if authorities is None:
        context = ssl.create_default_context()
        # A worker goes by these alone, and what it could submit must not be lost to a triggerer without any.
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        return context
    if authorities.is_dir():
        return ssl.create_default_context(capath=authorities)
    return ssl.create_default_context(cafile=authorities)
