# SPDX-License-Identifier: Apache-2.0
"""A server that speaks raw bytes, for what a well-behaved HTTP library refuses to do."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Self


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    line: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.line.split(" ")[1]


#: What to do with a request: the socket for the response is open until the function returns.
Handler = Callable[[socket.socket, Request], None]


@dataclass
class RawServer:
    """
    Take connections on a free port, read one request from each, and leave the rest to ``handler``.

    :param handler: Called for each request; or the bytes to send to each.
    :param tls: Context to wrap every connection with.
    """

    handler: Handler | bytes
    tls: SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set at the end; a handler that waits waits for this."""

    def __post_init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._socket.getsockname()[1]
        self._threads: list[threading.Thread] = []

    @property
    def base_url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self.tls is not None:
                with self.tls.wrap_socket(connection, server_side=True) as wrapped:
                    return self._exchange(wrapped)
            return self._exchange(connection)

    def _exchange(self, connection: socket.socket) -> None:
        request = _read(connection)
        if request is None:
            return
        self.requests.append(request)
        if isinstance(self.handler, bytes):
            connection.sendall(self.handler)
        else:
            self.handler(connection, request)


def _read(connection: socket.socket) -> Request | None:
    with connection.makefile("rb") as stream:
        line = stream.readline().decode("latin-1").strip()
        headers = {}
        while (header := stream.readline().strip()) != b"":
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.title()] = value.strip()
        body = stream.read(int(headers.get("Content-Length", 0)))
    return Request(line, headers, body) if line else None


def http_response(
    body: bytes | str = b"", status: int = 200, length: int | None = None, **headers: str | int
) -> bytes:
    """Return a whole HTTP response, after which the connection closes; ``length`` announces another length."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close"]
    lines += [f"Content-Length: {len(body) if length is None else length}"] if length != -1 else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def reset(connection: socket.socket) -> None:
    """Close a connection so that the other side sees a reset rather than an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Silent:
    """A port that accepts connections and never sends a byte."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()


class FullBacklog:
    """A port that never accepts, and whose backlog is full: connecting to it hangs."""

    def __enter__(self) -> Self:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(0)
        self.port = self._socket.getsockname()[1]
        self._fillers = [socket.socket() for _ in range(4)]
        for filler in self._fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
        return self

    def __exit__(self, *exc: object) -> None:
        for filler in (*self._fillers, self._socket):
            filler.close()


def free_port() -> int:
    """Return a port that no server listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
