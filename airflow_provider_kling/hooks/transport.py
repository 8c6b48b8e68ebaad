# SPDX-License-Identifier: Apache-2.0
"""What ``requests`` lacks for servers that cannot be trusted: an end to every exchange, and a look at the peer."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from airflow_provider_kling.exceptions import KlingAddressRefusedError
from airflow_provider_kling.wire.request import is_public, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Everything by which an exchange can break, from any layer.
TRANSPORT_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class Session(requests.Session):
    """A session to which a redirect is an answer like any other: not followed, and its body not read ahead."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return nothing: ``requests`` would read the whole body, and fail on a target that is no URL."""


class BoundedAdapter(HTTPAdapter):
    """
    A transport whose exchanges end in time, and which can refuse to talk to this network's own machines.

    The timeouts of ``requests`` count from byte to byte, so a server that drips holds its client for ever;
    :meth:`within` bounds a whole exchange.

    :param public_only: Refuse peers on loopback, private and link-local addresses. What counts is the address that
        the name really led to, looked at before anything is said. Through a proxy, the proxy decides.
    """

    def __init__(self, *, public_only: bool = False) -> None:
        self._public_only = public_only
        self._watch = _Watch()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Have the pools make connections whose sockets are watched."""
        options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        super().init_poolmanager(*args, socket_options=options, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _pools(self._watch, public_only=self._public_only)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Do the same for connections to a proxy, which is a machine of this network's own choice."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _pools(self._watch, public_only=False)
        return manager

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut every connection of this adapter if the block lasts longer than this; it then raises ``Timeout``."""
        over = self._watch.start()
        timer = threading.Timer(seconds, self._watch.cut, (over,))
        timer.daemon = True
        timer.start()
        cause = None
        try:
            yield
        except Exception as error:
            # After a cut, anything can follow: an answer without its end is no video, no JSON, no HTTP.
            if not over.is_set():
                raise
            cause = error
        finally:
            timer.cancel()
        # Asked even after success: a cut can look like an answer that ended.
        if over.is_set():
            raise requests.Timeout(f"not complete after {seconds:g} s") from cause


class _Watch:
    """
    The sockets of an adapter, to be cut when its exchange is over.

    Sockets, not connections: a connection lets go of its socket as soon as the server says that it will close it,
    which may be long before the answer has been read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: WeakSet[Any] = WeakSet()
        self._over = threading.Event()

    def start(self) -> threading.Event:
        """Begin an exchange; return the event that is set when it is cut."""
        with self._lock:
            self._over = threading.Event()
            return self._over

    def add(self, sock: Any) -> None:
        """Watch a socket; one that was opened too late is cut at once."""
        with self._lock:
            self._sockets.add(sock)
            if self._over.is_set():
                _cut(sock)

    def cut(self, over: threading.Event) -> None:
        """Cut the exchange that was started with this event, unless another has begun."""
        with self._lock:
            if over is self._over:
                over.set()
                for sock in self._sockets:
                    _cut(sock)


def _cut(sock: Any) -> None:
    # The plain shutdown for every kind of socket: that of a TLS socket pulls its state from under the reader.
    with suppress(OSError):
        socket.socket.shutdown(getattr(sock, "socket", sock), socket.SHUT_RDWR)


def _pools(watch: _Watch, *, public_only: bool) -> dict[str, type[HTTPConnectionPool]]:
    def admit(sock: socket.socket, host: str) -> socket.socket:
        watch.add(sock)
        if public_only:
            _refuse_private_peer(sock, host)
        return sock

    class Watched(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            return admit(super()._new_conn(), self.host)

    class WatchedTLS(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            return admit(super()._new_conn(), self.host)

        def connect(self) -> None:
            super().connect()
            watch.add(self.sock)  # another one now: TLS takes the place of the plain socket

    class Pool(HTTPConnectionPool):
        ConnectionCls = Watched

    class TLSPool(HTTPSConnectionPool):
        ConnectionCls = WatchedTLS

    return {"http": Pool, "https": TLSPool}


def _refuse_private_peer(sock: socket.socket, host: str) -> None:
    peer = sock.getpeername()[0]
    address = parse_address(peer)
    if address is None or is_public(address):
        return
    sock.close()
    raise KlingAddressRefusedError(f"The video URL leads to {host}, which is {peer}, inside this network")
