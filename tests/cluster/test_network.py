# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.cluster.network import Network


@pytest.fixture
def echo() -> Iterator[int]:
    """Serve a port that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):  # it is closed
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                while data := connection.recv(1024):
                    connection.sendall(data)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]


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
