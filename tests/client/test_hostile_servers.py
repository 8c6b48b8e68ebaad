# SPDX-License-Identifier: Apache-2.0
"""Servers that speak raw bytes: whatever they send, an exchange ends in time and the loop serves the others."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import aiohttp.client_proto
import pytest

from airflow_provider_kling.client.async_client import shared_client
from airflow_provider_kling.client.rate_limiter import LONGEST_PAUSE
from airflow_provider_kling.exceptions import KlingError, KlingRateLimitError, KlingServerError
from airflow_provider_kling.hooks.kling import KlingHook
from tests.conftest import Connect
from tests.fixtures.responses import COMPLETED
from tests.raw_server import RawServer, Request, http_response, reset


def endless(beginning: bytes, unit: bytes, *, at_once: int = 65536) -> Callable[[socket.socket, Request], None]:
    """Return a handler that sends the same again and again, as fast as it is read."""

    def pour(connection: socket.socket, request: Request) -> None:
        connection.settimeout(2)  # the end of a client that reads no more
        connection.sendall(beginning)
        while True:
            connection.sendall(unit * (at_once // len(unit)))

    return pour


def dripping(beginning: bytes, unit: bytes) -> Callable[[socket.socket, Request], None]:
    """Return a handler that sends a little now and then, so that no pause is long."""

    def drip(connection: socket.socket, request: Request) -> None:
        connection.sendall(beginning)
        while True:
            time.sleep(0.05)
            connection.sendall(unit)

    return drip


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HANDLERS = {
    "headers": endless(OK, b"X: y\r\n"),
    "headers of 8 KiB": endless(OK, b"X: " + b"y" * 8000 + b"\r\n"),
    "a header": endless(OK + b"X: ", b"y"),
    "a status line": endless(b"HTTP/1.1 200 ", b"y"),
    "blank lines": endless(b"", b"\r\n"),
    "HTTP 100": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "HTTP 102": endless(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "HTTP 103": endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
    "responses": endless(b"", OK + b"Content-Length: 2\r\n\r\n{}"),
    "a body": endless(OK + b"\r\n", b"[" * 4096),
    "chunks of one byte": endless(CHUNKED, b"1\r\n[\r\n"),
    "a chunk's size": endless(CHUNKED, b"0"),
    "a chunk's extension": endless(CHUNKED + b"1;", b"x"),
    "trailers": endless(CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
    "headers that drip": dripping(OK, b"X: y\r\n"),
    "HTTP 100 that drips": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body that drips": dripping(OK + b"\r\n", b" "),
    "chunks that drip": dripping(CHUNKED, b"1\r\n \r\n"),
    "a body shorter than announced": http_response(b"{", length=1000),
    "a body of an announced exbibyte": http_response(b"{", length=1 << 60),
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 7\r\n\r\n{}",
    "a negative length": http_response(b"{}", length=-2),
    "a redirect to itself": http_response(b"", 307, Location="/v1/videos/task_1"),
    "a redirect to nowhere": http_response(b"", 302, Location="http://[::1"),
    "a connection that is reset": lambda connection, request: reset(connection),
    "a connection that is closed": lambda connection, request: None,
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
}


@pytest.mark.parametrize("name", HANDLERS)
class TestWhateverAServerSends:
    async def _ask(self) -> str:
        async with shared_client("kling_default") as client:
            with pytest.raises(KlingError) as caught:
                await client.get_video("task_1")
        return type(caught.value).__name__

    @pytest.mark.asyncio
    async def test_a_triggerer_has_a_named_error_in_time(self, name: str, connect: Connect) -> None:
        with RawServer(HANDLERS[name]) as server:
            connect(server.base_url, connect_timeout=0.5, read_timeout=0.5)
            started = time.monotonic()
            assert await self._ask() != "KlingError"
            assert time.monotonic() - started < 8

    def test_a_worker_has_one_too(self, name: str, connect: Connect) -> None:
        with RawServer(HANDLERS[name]) as server:
            hook = KlingHook(connect(server.base_url, connect_timeout=0.5, read_timeout=0.5))
            started = time.monotonic()
            with pytest.raises(KlingError) as caught:
                hook.get_video("task_1")
            hook.client.close()
            assert type(caught.value) is not KlingError
            assert time.monotonic() - started < 8


@pytest.fixture
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each read of a socket gave to aiohttp, which parses them without a pause."""
    sizes: list[int] = []
    receive = aiohttp.client_proto.ResponseHandler.data_received

    def note(self: aiohttp.client_proto.ResponseHandler, data: bytes) -> None:
        sizes.append(len(data))
        receive(self, data)

    monkeypatch.setattr(aiohttp.client_proto.ResponseHandler, "data_received", note)
    return sizes


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ["HTTP 100", "HTTP 102", "HTTP 103", "chunks of one byte", "blank lines"])
async def test_a_flood_is_parsed_in_small_pieces(name: str, connect: Connect, read_at_once: list[int]) -> None:
    """Between two of them the loop serves others."""
    with RawServer(HANDLERS[name]) as server:
        connect(server.base_url, connect_timeout=0.3, read_timeout=0.3)
        async with shared_client("kling_default") as client:
            with pytest.raises(KlingError):
                await client.get_video("task_1")
    assert read_at_once
    assert max(read_at_once) <= 64 << 10


@pytest.mark.asyncio
async def test_one_429_delays_no_request_for_an_hour(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty finished videos wait on one connection, and one check is answered with 429 and Retry-After: 3600."""
    monkeypatch.setattr("airflow_provider_kling.client.rate_limiter.LONGEST_PAUSE", 0.5)
    assert LONGEST_PAUSE == 60.0

    def respond(connection: socket.socket, request: Request) -> None:
        refuses = len(server.requests) == 1
        connection.sendall(http_response("{}", 429, Retry_After=3600) if refuses else COMPLETED)

    async def ask() -> str:
        try:
            return (await client.get_video("task_1")).status
        except KlingRateLimitError as error:
            assert error.retry_after == 3600.0  # a submit would heed it
            return "refused"

    with RawServer(respond) as server:
        connect(server.base_url)
        started = time.monotonic()
        async with shared_client("kling_default") as client:
            states = [await ask(), *await asyncio.gather(*(ask() for _ in range(20)))]
    assert sorted(states) == ["completed"] * 20 + ["refused"]
    assert 0.4 < time.monotonic() - started < 10


def test_a_shape_that_no_response_has_is_refused_by_name(connect: Connect) -> None:
    with (
        RawServer(http_response("[" + "[]," * 43_000 + "1]")) as server,
        pytest.raises(KlingServerError) as caught,
    ):
        KlingHook(connect(server.base_url)).get_video("task_1")
    assert "is not a JSON object" in str(caught.value)
