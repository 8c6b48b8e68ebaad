# SPDX-License-Identifier: Apache-2.0
"""What ``requests`` lacks for untrusted servers: a deadline for each exchange, and a check of the address."""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from airflow_provider_kling.client.connection import origin
from airflow_provider_kling.client.redaction import redacted_logs
from airflow_provider_kling.exceptions import THE_CONNECTION, KlingAddressRefusedError, KlingPermanentError
from airflow_provider_kling.utils.addresses import is_public, parse_address, private_reason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

#: One result of ``getaddrinfo``.
_AddressInfo = tuple[Any, ...]

#: All errors that can end an exchange, from any layer.
TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class Session(requests.Session):
    """
    A session that never follows redirects, and prefers its own proxies to the environment's.

    A redirect is an ordinary response here: it is not followed, and its body is not read ahead.

    :param timeout: Seconds to connect, and seconds without a byte, of a request that sets none.
    :param verify: TLS verification of a request that sets none.
    """

    #: Whether every method but GET and HEAD is refused.
    reads_only = False

    def __init__(self, timeout: tuple[float, float] | None = None, *, verify: bool | str = True) -> None:
        super().__init__()
        self.default_timeout = timeout
        self.default_verify = verify
        # A cookie of one response must not change the next request.
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """
        Send a request within the limits of the connection, unless it names others.

        :raises KlingPermanentError: for a POST and the like where only reading is allowed.
        """
        verb = method.decode() if isinstance(method, bytes) else method
        if self.reads_only and verb.upper() not in ("GET", "HEAD"):
            raise KlingPermanentError(
                f"This session does not send {verb}",
                advice="Call KlingHook.submit_video, which sends a submit once; nothing was sent.",
            )
        kwargs = {
            "timeout": self.default_timeout,
            "verify": self.default_verify,
            "allow_redirects": False,
        } | kwargs
        return super().request(method, url, *args, **kwargs)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: ``requests`` would read the whole body, and fail on a target that is not a URL."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Prefer the session's own proxies to the environment's; ``requests`` does the opposite."""
        proxies = {**self.proxies, **(proxies or {})}
        return super().merge_environment_settings(url, proxies, stream, verify, cert)


class BoundedAdapter(HTTPAdapter):
    """
    A transport with a deadline for each exchange, which can block addresses inside this network.

    The timeouts of ``requests`` count from byte to byte, so a server that sends slowly holds its client for ever.
    :meth:`within` limits a whole exchange, over all the addresses of a name. Only a resolver that hangs can hold
    it longer: a DNS look-up cannot be cancelled.

    :param public_only: Block loopback, private and link-local addresses before a connection is opened. The
        resolved addresses of a name count. A proxy resolves names itself, so a name that is unknown here is left
        to the proxy; a name that is private by its spelling, or resolves to a private address here, is blocked.
    :param mask: Masks the secrets in a log record of urllib3.
    """

    def __init__(self, *, public_only: bool = False, mask: Callable[[str], str] = str) -> None:
        self._public_only = public_only
        self._mask = mask
        self._watch = _Watch()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Set up the pools to open connections whose sockets are watched."""
        options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        super().init_poolmanager(*args, socket_options=options, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._watch, public_only=self._public_only)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Do the same for connections to a proxy; its own address is trusted, since the user configured it."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _pools(self._watch, public_only=False)
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request, unless a proxy would pass it on to an address inside this network."""
        url = request.url or ""
        proxy = select_proxy(url, kwargs.get("proxies"))
        if proxy and self._public_only:
            _, host, port = origin(url)
            _refuse_private_name(host, port)
        try:
            with redacted_logs(self._mask):
                return super().send(request, *args, **kwargs)
        except requests.exceptions.InvalidURL:
            if not proxy:
                raise
            # The original message contains the proxy URL with its password.
            raise requests.exceptions.InvalidProxyURL("the address of the proxy is not a URL") from None

    @contextmanager
    def within(self, seconds: float, connected: Callable[[], None] = lambda: None) -> Iterator[None]:
        """
        Cut every connection of this adapter if the block takes longer; it then raises ``Timeout``.

        :param seconds: Maximum duration of the exchange.
        :param connected: Called whenever a connection is established, before anything is sent on it. If it raises,
            the exchange ends.
        """
        over = self._watch.start(seconds, connected)
        timer = threading.Timer(seconds, self._watch.cut, (over,))
        timer.daemon = True
        cause = None
        try:
            timer.start()
            yield
        except Exception as error:
            # After a cut, any error can follow: an incomplete response is no valid video, JSON or HTTP.
            if not over.is_set():
                raise
            cause = error
        finally:
            timer.cancel()
            self._watch.end()
        # Checked even after success: a cut can look like the end of a response.
        if over.is_set():
            raise requests.Timeout(f"not complete after {seconds:g} s") from cause


class _Watch:
    """
    The sockets of an adapter, which are cut when its exchange has run out of time.

    Sockets, not connections: a connection gives up its socket as soon as the server announces that it will close
    it, which may be long before the response has been read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: WeakSet[Any] = WeakSet()
        self._over = threading.Event()
        self._until = math.inf
        self._connected: Callable[[], None] = lambda: None

    def start(self, seconds: float, connected: Callable[[], None]) -> threading.Event:
        """Start an exchange; return the event that is set when it is cut."""
        with self._lock:
            self._over = threading.Event()
            self._until = time.monotonic() + seconds
            self._connected = connected
            return self._over

    def end(self) -> None:
        """End the exchange: requests outside of :meth:`BoundedAdapter.within` have no deadline."""
        self._until = math.inf
        self._connected = lambda: None

    def left(self) -> float:
        """Return the seconds left for the exchange."""
        return self._until - time.monotonic()

    def add(self, sock: Any) -> None:
        """Watch a socket; one that was opened after the deadline is cut at once."""
        with self._lock:
            self._sockets.add(sock)
            if self._over.is_set():
                _cut(sock)
        self._connected()

    def cut(self, over: threading.Event) -> None:
        """Cut the exchange that was started with this event, unless another has started."""
        with self._lock:
            if over is self._over:
                over.set()
                for sock in self._sockets:
                    _cut(sock)


def _cut(sock: Any) -> None:
    # The plain socket's shutdown for every kind of socket: a TLS socket's own drops state that a reader uses.
    with suppress(OSError):
        socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


def _pools(watch: _Watch, *, public_only: bool) -> dict[str, type[HTTPConnectionPool]]:
    # Python's own debug output, if it is switched on, prints every header, the key included, to a task's log.
    class Watched(HTTPConnection):
        debuglevel = 0

        def _new_conn(self) -> socket.socket:
            return _dial(self, watch, public_only=public_only)

    class WatchedTLS(HTTPSConnection):
        debuglevel = 0

        def _new_conn(self) -> socket.socket:
            return _dial(self, watch, public_only=public_only)

        def connect(self) -> None:
            super().connect()
            watch.add(self.sock)  # a new object: the TLS socket has replaced the plain one

    class Pool(HTTPConnectionPool):
        ConnectionCls = Watched

    class TLSPool(HTTPSConnectionPool):
        ConnectionCls = WatchedTLS

    return {"http": Pool, "https": TLSPool}


def _dial(connection: HTTPConnection, watch: _Watch, *, public_only: bool) -> socket.socket:
    """Connect as urllib3 does, with its errors, but check the addresses first, and the deadline before each."""
    host = connection.host
    try:
        found = _resolve(host, connection.port or 0)
        if public_only:
            _refuse_private(host, connection.port, found)
        return _connected(connection, found, watch)
    except (socket.gaierror, UnicodeError) as error:
        raise NameResolutionError(host, connection, error) from error  # type: ignore[arg-type]
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"Connection to {host} timed out") from error
    except OSError as error:
        raise NewConnectionError(connection, f"Failed to establish a new connection: {error}") from error


def _connected(connection: HTTPConnection, found: Sequence[_AddressInfo], watch: _Watch) -> socket.socket:
    """Return a socket to the first address that accepts; each gets the connect timeout, within the time left."""
    failure: OSError = TimeoutError("no time left")
    for address in found:
        left = min(watch.left(), connection.timeout or math.inf)
        if left <= 0:
            break
        try:
            sock = _connect(address, connection.socket_options or (), left)
        except OSError as error:
            failure = error
        else:
            try:
                watch.add(sock)
            except BaseException:
                sock.close()
                raise
            return sock
    raise failure


def _connect(info: _AddressInfo, options: Iterable[Any], timeout: float) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.settimeout(timeout if timeout < math.inf else None)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _resolve(host: str, port: int = 0) -> list[_AddressInfo]:
    return list(socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM))


def _refuse_private(host: str, port: int | None, found: Sequence[_AddressInfo]) -> None:
    for *_, (peer, *_) in found:
        address = parse_address(peer)
        if address is None or not is_public(address):
            raise _refusal(host, port, peer)


def _refuse_private_name(host: str, port: int | None) -> None:
    if reason := private_reason(host):
        raise _refusal(host, port, reason)
    with suppress(OSError, UnicodeError):
        _refuse_private(host, port, _resolve(host))


def _refusal(host: str, port: int | None, reason: str) -> KlingAddressRefusedError:
    entry = f"[{host}]" if ":" in host else host
    return KlingAddressRefusedError(
        f"The video URL leads to {host}, which is {reason}, inside this network",
        advice="A server must not make this machine send requests inside its own network (SSRF protection). If "
        f"the video is really there, add {entry}:{port} to Private hosts (extra.private_hosts) of "
        f"{THE_CONNECTION}.",
    )
