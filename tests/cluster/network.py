# SPDX-License-Identifier: Apache-2.0
"""A network between Airflow and the vendor that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any, Self

_CHUNK = 1 << 16


class Network:
    """
    Forward TCP connections to a port of this machine; use it as a context manager.

    :param port: Where the connections end.
    :ivar url: Where they begin.
    """

    def __init__(self, port: int) -> None:
        self._far_port = port
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="network", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._whole = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._join())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def cut(self) -> Iterator[None]:
        """
        Cut the network while the block lasts.

        Connections that stand get nothing through until then, and all of it afterwards, as if their packets were
        lost and sent again. New ones are refused.
        """
        self._do(self._cut())
        try:
            yield
        finally:
            self._do(self._join())

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _join(self) -> None:
        self._whole.set()
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", self._port, backlog=1024)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        self._whole.clear()
        if self._listener is not None:
            self._listener.close()

    async def _end(self) -> None:
        await self._cut()
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        writers = [writer]
        try:
            with suppress(OSError):
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._far_port)
                writers.append(far_writer)
                await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
        except asyncio.CancelledError:
            # Only at the end. A handler that ends as cancelled is reported as an error.
            pass
        finally:
            for each in writers:
                each.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            await self._whole.wait()
            writer.write(data)
            await writer.drain()
        await self._whole.wait()
        writer.write_eof()
