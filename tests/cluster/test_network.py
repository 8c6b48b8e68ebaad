# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.cluster.network import Network


@pytest.fixture
def echo() -> Iterator[int]:
    """Serve a port that sends back what it gets."""

    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(1024):
                self.request.sendall(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def connected(network: Network) -> socket.socket:
    port = int(network.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_standing_connection_gets_everything_after_a_cut(echo: int) -> None:
    with Network(echo) as network, connected(network) as connection:
        connection.sendall(b"before")
        assert connection.recv(1024) == b"before"
        with network.cut():
            connection.sendall(b"meanwhile")
            connection.settimeout(0.5)
            with pytest.raises(TimeoutError):
                connection.recv(1024)
        connection.settimeout(5)
        assert connection.recv(1024) == b"meanwhile"


def test_a_new_connection_is_refused_until_the_cut_ends(echo: int) -> None:
    with Network(echo) as network:
        with network.cut(), pytest.raises(ConnectionRefusedError):
            connected(network)
        with connected(network) as connection:
            connection.sendall(b"after")
            assert connection.recv(1024) == b"after"
