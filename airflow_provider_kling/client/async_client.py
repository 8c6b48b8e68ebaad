# SPDX-License-Identifier: Apache-2.0
"""
One HTTP client for all triggers that use the same connection in the same event loop.

A triggerer runs thousands of triggers in one loop. A connection look-up there takes tens of milliseconds of the
supervisor, which serves all triggers, and a TLS handshake takes as long again. So neither happens per poll or per
trigger: the client is created for its first user, shared by all, and closed after the last.
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

from airflow_provider_kling.api.base import Grace, max_concurrent_jobs
from airflow_provider_kling.api.response import Response
from airflow_provider_kling.api.routes import RouteSearch
from airflow_provider_kling.client.connection import HEADERS, MAX_REQUESTS_PER_SECOND, KlingConnection, proxy_url
from airflow_provider_kling.client.lookup import connection_from, lookup_error, unconfirmed_refusal
from airflow_provider_kling.client.rate_limiter import RateLimiter
from airflow_provider_kling.client.response_body import CONTENT_ENCODING, ResponseBody
from airflow_provider_kling.client.status_batch import StatusBatches, queue_timeout_error
from airflow_provider_kling.exceptions import (
    THE_CONNECTION,
    KlingAuthenticationError,
    KlingConnectionError,
    KlingError,
    KlingRateLimitError,
    KlingValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_kling.api.base import HttpCall
    from airflow_provider_kling.api.job import VideoJob

log = logging.getLogger(__name__)

#: Maximum number of sockets per connection. Polls are short, so these serve thousands of waiting videos. Even a
#: server that responds after two seconds is polled at the full rate limit.
MAX_SOCKETS = 100
#: Size of a socket's receive buffer in bytes. A response has a few KiB. The bytes of one socket read are parsed in
#: one go, and a quarter of a mebibyte of interim responses (HTTP 100), or of chunks of one byte, blocks the loop.
RECEIVE_BUFFER = 8 << 10
#: Tolerated lateness of a slot in seconds, since the event loop or all sockets may be busy: up to this, later
#: requests are not pushed back.
MAX_LATENESS = 1.0
#: After a 401 the connection is looked up again. If the key is unchanged, that result is reused for this many
#: seconds, so that thousands of triggers do not each repeat the look-up. Short, since the key may be corrected
#: meanwhile.
REJECTED_KEY_TTL = 10.0
#: Seconds for which a failed look-up of the connection is not repeated: its source may be overloaded.
FAILURE_TTL = 1.0

#: The connections from the last successful look-ups.
_last_good: dict[str, KlingConnection] = {}
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedClient]] = WeakKeyDictionary()
#: The tasks that close clients: nothing else references them.
_closing: set[asyncio.Task[None]] = set()


def shared_client(conn_id: str) -> SharedClient:
    """Return the client of this connection that is shared in this event loop; use it in ``async with``."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if conn_id not in clients:
        clients[conn_id] = SharedClient(conn_id)
    return clients[conn_id]


class SharedClient:
    """
    An HTTP client that looks its connection up once, and again if the server rejects the key.

    :param conn_id: The Airflow connection.
    """

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id
        self._users = 0
        #: Periods for which the connection's API may lag behind; known once a session was open.
        self.grace = Grace(0.0, 0.0)
        self._throttle = Throttle()
        self._batches = StatusBatches(self._get_videos)
        self._session: asyncio.Future[_OpenSession] | None = None

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            # Removed before it is closed: closing awaits, and a trigger that starts meanwhile needs a new client.
            del _clients[asyncio.get_running_loop()][self.conn_id]
            closing = asyncio.ensure_future(self._close())
            _closing.add(closing)
            closing.add_done_callback(_closing.discard)
            # Shielded: Airflow cancels a trigger once a second until it has ended.
            await asyncio.shield(closing)

    async def get_video(
        self, kling_task_id: str, *, route: str | None = None, queue_timeout: float = math.inf
    ) -> VideoJob:
        """
        Request the state of a job, once; where one request may have several ids, together with other jobs.

        :param kling_task_id: The id from the submit response.
        :param route: The status route that the server is known to have.
        :param queue_timeout: Maximum seconds to wait for a request slot; a server may have requested a long pause.
        :raises KlingError: The named error; after a retryable one another call makes sense.
        """
        session = await self._connected()
        route = route or session.status_route
        # A batch with a check of each user is complete: there is nobody to wait for.
        max_ids = min(session.connection.api.max_ids_per_status(route), self._users)
        if max_ids > 1:
            job = await self._batches.get_video(kling_task_id, route, max_ids=max_ids, queue_timeout=queue_timeout)
        else:
            job = (await self._get_videos(lambda: (kling_task_id,), route, queue_timeout))[kling_task_id]
        if isinstance(job, Exception):
            raise job
        return job

    async def _get_videos(
        self, ids_to_send: Callable[[], Sequence[str]], route: str | None, queue_timeout: float
    ) -> Mapping[str, VideoJob | KlingError]:
        """
        Request the state of jobs in one request.

        :param ids_to_send: Returns their ids; called once a request slot is there.
        """
        session = await self._connected()
        self.grace = session.connection.api.grace
        # A caller past its deadline may still send one request if the queue is empty.
        if not await self._throttle.wait(timeout=queue_timeout):
            raise queue_timeout_error()
        try:
            kling_task_ids = ids_to_send()
            if session.retired:  # its key was replaced while this request was queued
                session = await self._connected()
            try:
                return await session.get_videos(kling_task_ids, route)
            except KlingAuthenticationError as error:
                # The key may have been replaced in Airflow since it was looked up.
                renewed = await self._reconnected(session)
                if renewed.connection.credentials == session.connection.credentials:
                    renewed.key_rejected = True
                    if renewed.is_unconfirmed:
                        raise unconfirmed_refusal(session.connection.conn_id, error) from None
                    raise
                return await renewed.get_videos(kling_task_ids, route)
        finally:
            self._throttle.release()

    async def max_concurrent_jobs(self) -> int | None:
        """
        Return how many unfinished jobs the account may have at once; None if it is not known.

        The connection's setting counts first. Without one, the account is requested if its API reports packs, of
        which the largest limit counts. This is one free request for all triggers, once in each session, within the
        rate limit of the status checks. Its errors mean that the limit is not known; none is raised.
        """
        try:
            session = await self._connected()
        except Exception:  # noqa: BLE001 - a look-up may raise anything, and the status checks report it
            return None
        async with session.account_lock:
            if not session.has_requested_account:
                session.max_concurrent_jobs = await self._requested_limit(session)
                session.has_requested_account = True
        if session.retired:  # its key was replaced meanwhile
            return await self.max_concurrent_jobs()
        return session.max_concurrent_jobs

    async def _requested_limit(self, session: _OpenSession) -> int | None:
        """Return the limit of a session's account; None if it is not known."""
        connection, now = session.connection, time.time()
        call = connection.api.account(now=now)
        if connection.max_concurrent_jobs is not None or call is None:
            return connection.max_concurrent_jobs
        await self._throttle.wait(timeout=math.inf)
        try:
            return max_concurrent_jobs(connection.read_account(await session.send(call), now=now))
        except Exception as error:  # noqa: BLE001 - no trigger fails for a limit that is only useful to know
            reason = connection.masked(f"{type(error).__name__}: {error}")
            log.info("The account does not report how many jobs it may have at once: %s", reason)
            return None
        finally:
            self._throttle.release()

    async def _close(self) -> None:
        """Close the sockets."""
        await self._batches.close()
        self._throttle.close()
        opening, self._session = self._session, None
        if opening is not None:
            # A session that is still being opened is awaited: nothing else would close it.
            with suppress(Exception):
                await (await asyncio.shield(opening)).retire()

    async def _connected(self) -> _OpenSession:
        """Return the open session; the first caller opens it, and all others await the same future."""
        if self._session is None:
            self._session = asyncio.ensure_future(_OpenSession.open(self.conn_id, self._throttle.rate_limiter))
            self._session.add_done_callback(self._opened)
        # Shielded: a trigger that is cancelled meanwhile must not cancel the session of the others.
        return self._session.result() if self._session.done() else await asyncio.shield(self._session)

    def _opened(self, opening: asyncio.Future[_OpenSession]) -> None:
        """Drop a session that could not be opened, after :data:`FAILURE_TTL`."""
        if not opening.cancelled() and opening.exception() is not None:
            asyncio.get_running_loop().call_later(FAILURE_TTL, self._forget, opening)

    def _forget(self, opening: asyncio.Future[_OpenSession]) -> None:
        if self._session is opening:
            self._session = None

    async def _reconnected(self, refused: _OpenSession) -> _OpenSession:
        """Return the session to continue with; all requests rejected together share one look-up."""
        known = refused.key_rejected and time.monotonic() - refused.opened_at < REJECTED_KEY_TTL
        if not refused.retired and not known:
            self._session = None
            await refused.retire()
        return await self._connected()


class WaitQueue:
    """A first-in, first-out queue of coroutines that wait for the same event."""

    def __init__(self) -> None:
        # Ordered by arrival, with constant-time removal from any place: thousands are cancelled together.
        self._waiting: OrderedDict[asyncio.Future[bool], None] = OrderedDict()

    async def wait(self, *, timeout: float) -> bool:  # noqa: ASYNC109 - a timeout is a result here, not an error
        """Return whether this waiter was woken within the timeout (seconds)."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiting[waiter] = None
        timer = None if math.isinf(timeout) else loop.call_later(timeout, self._time_out, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                self._wake_next()  # this waiter was woken and cancelled at once: pass the wake-up on
            raise
        finally:
            self._waiting.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    def wake_one(self) -> bool:
        """Wake the waiter that has waited longest; return whether there was one."""
        while self._waiting:
            waiter, _ = self._waiting.popitem(last=False)
            if not waiter.done():  # a cancelled waiter may still be in the queue
                waiter.set_result(True)
                return True
        return False

    def _wake_next(self) -> None:
        self.wake_one()

    def _time_out(self, waiter: asyncio.Future[bool]) -> None:
        if not waiter.done():
            self._waiting.pop(waiter, None)
            waiter.set_result(False)


class Throttle(WaitQueue):
    """
    The queue for request slots: limited by the connection's rate limit and by the number of sockets.

    Requests that wait for a slow server to free a socket wait here, where ``queue_timeout`` counts. In the HTTP
    client, the timeout of the request itself would expire meanwhile.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rate_limiter = RateLimiter(MAX_REQUESTS_PER_SECOND)
        self._in_use = 0
        #: Set while the next slot is not due yet: one timer for the whole queue.
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self, *, timeout: float) -> bool:  # noqa: ASYNC109 - as in the base class
        """Return whether a slot was acquired within the timeout (seconds); release it after the request."""
        return self.try_acquire() or await super().wait(timeout=timeout)

    def try_acquire(self) -> bool:
        """Acquire a slot without waiting. Unused slots do not accumulate, so there are no bursts."""
        return not self._waiting and self._acquire_if_due(lateness=0.0)

    def release(self) -> None:
        """Release a slot, which frees a socket."""
        self._in_use -= 1
        if self._waiting:
            self._wake_due()

    def close(self) -> None:
        """Cancel the wake-up timer. Call this only when the queue is empty."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _acquire_if_due(self, *, lateness: float) -> bool:
        """Acquire the next slot if it is due and a socket is free; if not, a timer or release wakes the queue."""
        if self._timer is not None or self._in_use == MAX_SOCKETS:
            return False
        if left := self.rate_limiter.acquire(now=time.monotonic(), lateness=lateness):
            self._timer = asyncio.get_running_loop().call_later(left, self._on_timer)
            return False
        self._in_use += 1
        return True

    def _on_timer(self) -> None:
        self._timer = None
        self._wake_due()

    def _wake_due(self) -> None:
        """Wake a waiter for every slot that is due."""
        while self._waiting and self._acquire_if_due(lateness=MAX_LATENESS):
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
        #: Whether the server had rejected the same key before this look-up returned it again.
        self.key_rejected = False
        #: Whether Airflow could not return the connection, so that it is the one of an earlier look-up.
        self.is_unconfirmed = False
        self.retired = False
        #: The status route that the server has, once a response has shown it.
        self.status_route: str | None = None
        #: How many unfinished jobs the account may have at once, once that was requested; None if unknown.
        self.max_concurrent_jobs: int | None = None
        self.has_requested_account = False
        #: Held by the user of the client that requests the account, for all others.
        self.account_lock = asyncio.Lock()
        self._in_flight = 0

    @classmethod
    async def open(cls, conn_id: str, rate_limiter: RateLimiter) -> _OpenSession:
        found, is_confirmed = await _resolve_connection(conn_id)
        connection = _with_environment(found)
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_SOCKETS, ssl=await _tls(connection), socket_factory=_socket),
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

    async def get_videos(
        self, kling_task_ids: Sequence[str], route: str | None = None
    ) -> Mapping[str, VideoJob | KlingError]:
        """
        Return the state of jobs, or the error that concerns only this job, from one status check.

        Nothing is returned of several jobs if they may be on a route that takes fewer: each needs its own check.
        """
        api = self.connection.api
        search = RouteSearch(api, route or self.status_route)
        for candidate in search:
            if len(kling_task_ids) > api.max_ids_per_status(candidate):
                return {}
            search.add(candidate, await self.send(api.status(kling_task_ids, route=candidate)))
        # Another trigger may have found the route meanwhile; a search without a result does not reset it.
        self.status_route = search.route or self.status_route
        try:
            found = self.connection.read_status(search.response, kling_task_ids, route=search.response_route)
        except KlingRateLimitError as error:
            self.rate_limiter.refused(now=time.monotonic(), retry_after=error.retry_after)
            raise
        except KlingError:
            self.rate_limiter.accepted()
            raise
        self.rate_limiter.accepted()
        return found

    async def send(self, call: HttpCall) -> Response:
        """
        Send a call and return the response, whatever its HTTP status.

        :raises KlingConnectionError: if the exchange broke.
        :raises KlingServerError: if the response is too large.
        """
        response = await self._send_once(call)
        if self.connection.api.wants_new_authorization(response):
            self.connection.renew_authorization()
            response = await self._send_once(call)
        return response

    async def _send_once(self, call: HttpCall) -> Response:
        connection = self.connection
        url = connection.url(call.path)
        # Set on the request: aiohttp also sends a session's own header to a proxy, as Proxy-Authorization.
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
        # TimeoutError is an OSError. An invalid host name raises a UnicodeError.
        except (aiohttp.ClientError, OSError, UnicodeError) as error:
            reason = self._reason(error)
        finally:
            self._in_flight -= 1
            if self.retired:
                await self.retire()
        # Outside of the except block: aiohttp's errors contain addresses, passwords and headers unmasked.
        raise KlingConnectionError(
            f"{call.method} {url} failed: {reason}", advice=connection.named(KlingConnectionError.default_advice)
        )

    async def retire(self) -> None:
        """Close the session once no request is in flight: closing it earlier would cancel those requests."""
        self.retired = True
        if self._in_flight == 0:
            await self.session.close()

    def _reason(self, error: Exception) -> str:
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            reason = f"the proxy responded with {error.status} {error.message}"
        elif isinstance(error, aiohttp.ClientResponseError):
            # The rest quotes the bytes that do not parse, cut at any place.
            reason = re.split(r"\n\s*\n|\bb['\"]", reason, maxsplit=1)[0].rstrip(": \n")
        elif isinstance(error, TimeoutError) and not str(error):
            reason = f"timeout: no complete response within {self.session.timeout.total:g} seconds"
        return self.connection.masked(reason)


async def _resolve_connection(conn_id: str) -> tuple[KlingConnection, bool]:
    """
    Return the connection, and whether Airflow returned it just now.

    While Airflow cannot return it, the last one that worked stays in use.
    """
    try:
        found = await get_async_connection(conn_id)
        extra = await get_async_extra_dejson(found)
    except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
        failure = lookup_error(conn_id, error)
        if (last := _last_good.get(conn_id)) is None:
            raise failure from failure.__cause__
        log.warning("%s Continuing with the last connection that worked", failure)
        return last, False
    connection = connection_from(conn_id, found, extra)
    _last_good[conn_id] = connection
    return connection, True


def _with_environment(connection: KlingConnection) -> KlingConnection:
    """
    Return the connection with the environment's proxy and CA bundle, where it has none of its own.

    They are found by the rules of ``requests``, which a worker uses: a job that could be submitted can be polled.
    They are found once: aiohttp's own ``trust_env`` reads the environment and ``.netrc`` in a thread at every
    request, which costs more than the request.
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
            f"The environment's proxy for {connection.base_url} cannot be used: it {error}",
            advice="Correct it, or set Proxy (extra.proxy) or switch off Use proxy variables (extra.trust_env) in "
            f"{connection.named(THE_CONNECTION)}.",
        ) from None


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """Return the socket for an address of ``getaddrinfo``."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    return made


async def _tls(connection: KlingConnection) -> Any:
    verify = connection.verify
    if verify is False:
        return False
    try:
        # Reading certificates from disk would block the loop.
        return await asyncio.to_thread(_trusting, None if verify is True else Path(str(verify)))
    except OSError as error:
        raise KlingConnectionError(
            f"The CA bundle {verify} cannot be used: {error}",
            advice=f"Check Verify TLS (extra.verify) of {connection.named(THE_CONNECTION)}, and the file.",
        ) from error


def _trusting(authorities: Path | None) -> ssl.SSLContext:
    if authorities is None:
        context = ssl.create_default_context()
        # A worker trusts only these. A job that it could submit must not be lost on a triggerer without them.
        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
        return context
    if authorities.is_dir():
        return ssl.create_default_context(capath=authorities)
    return ssl.create_default_context(cafile=authorities)
