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


class BoundedAdapter(HTTPAdapter):
    """
    A transport whose exchanges end in time, and which can refuse to talk to this network's own machines.

    The timeouts of ``requests`` count from byte to byte, so a server that drips holds its client for ever;
    :meth:`within` bounds a whole exchange.

    :param public_only: Refuse peers on loopback, private and link-local addresses. What counts is the address that
        the name really led to, looked at before anything is asked. Through a proxy, the proxy decides.
    """

    def __init__(self, *, public_only: bool = False) -> None:
        self._public_only = public_only
        self._connections: WeakSet[HTTPConnection] = WeakSet()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Have the pools make connections that this adapter knows."""
        options = [*HTTPConnection.default_socket_options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
        super().init_poolmanager(*args, socket_options=options, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools(public_only=self._public_only)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Do the same for connections to a proxy, which is a machine of this network's own choice."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools(public_only=False)
        return manager

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Cut every connection of this adapter if the block lasts longer than this; it then raises ``Timeout``."""
        over = threading.Event()

        def cut() -> None:
            over.set()
            for connection in list(self._connections):
                with suppress(AttributeError, OSError):  # not connected yet, or closed meanwhile
                    connection.sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        cause = None
        try:
            yield
        except TRANSPORT_ERRORS as error:
            if not over.is_set():
                raise
            cause = error
        finally:
            timer.cancel()
        # Asked even after success: a cut can look like an answer that ended.
        if over.is_set():
            raise requests.Timeout(f"not complete after {seconds:g} s") from cause

    def _pools(self, *, public_only: bool) -> dict[str, type[HTTPConnectionPool]]:
        known = self._connections

        class Known(HTTPConnection):
            def connect(self) -> None:
                known.add(self)
                super().connect()
                if public_only:
                    _refuse_private_peer(self)

        class KnownTLS(HTTPSConnection):
            def connect(self) -> None:
                known.add(self)
                super().connect()
                if public_only:
                    _refuse_private_peer(self)

        class Pool(HTTPConnectionPool):
            ConnectionCls = Known

        class TLSPool(HTTPSConnectionPool):
            ConnectionCls = KnownTLS

        return {"http": Pool, "https": TLSPool}


def _refuse_private_peer(connection: HTTPConnection) -> None:
    peer = connection.sock.getpeername()[0]
    address = parse_address(peer)
    if address is None or is_public(address):
        return
    connection.close()
    raise KlingAddressRefusedError(
        f"The video URL leads to {connection.host}, which is {peer}, inside this network"
    )
