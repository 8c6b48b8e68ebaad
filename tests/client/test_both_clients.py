# SPDX-License-Identifier: Apache-2.0
"""A worker's client and a triggerer's understand the same: one table of responses and faults for both."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import requests

from airflow_provider_kling.client.async_client import SharedClient, shared_client
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingConnectionError,
    KlingError,
    KlingNotFoundError,
    KlingPermanentError,
    KlingRateLimitError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import Connect, TaskLog
from tests.connections import BOOK, ConnectionBook
from tests.fixtures.requests import submit
from tests.fixtures.responses import COMPLETED
from tests.raw_server import FullBacklog, RawServer, Request, Silent, free_port, http_response, reset
from tests.tls import server_context

GetVideo = Callable[[str], Any]
Client = Callable[[], AbstractContextManager[GetVideo]]


@contextmanager
def worker() -> Iterator[GetVideo]:
    """Return status checks of a worker, which share one client on ``kling_default``."""
    hook = KlingHook()
    try:
        yield hook.get_video
    finally:
        if "client" in vars(hook):
            hook.client.close()


@contextmanager
def triggerer() -> Iterator[GetVideo]:
    """Return status checks of a triggerer, which share one client and one event loop."""

    async def opened() -> SharedClient:
        return await shared_client("kling_default").__aenter__()

    with asyncio.Runner() as runner:
        client = runner.run(opened())
        try:
            yield lambda task_id: runner.run(client.get_video(task_id))
        finally:
            runner.run(client.__aexit__())


BOTH: tuple[Client, ...] = (worker, triggerer)


@pytest.fixture(params=BOTH)
def get_video(request: pytest.FixtureRequest) -> Iterator[GetVideo]:
    """Each of the clients in turn; it looks the connection up at its first status check."""
    with request.param() as get_video:
        yield get_video


def outcome(get_video: GetVideo, task_id: str = "task_1") -> tuple[Any, ...]:
    """Return what a client makes of a response: a job, or an error with its details."""
    try:
        job = get_video(task_id)
    except KlingError as error:
        return type(error).__name__, error.http_status, error.code, error.server_message, error.retry_after
    return "job", asdict(job)


def outcomes(task_id: str = "task_1") -> list[tuple[Any, ...]]:
    """Return what each client makes of the same response."""
    found = []
    for client in BOTH:
        with client() as get_video:
            found.append(outcome(get_video, task_id))
    return found


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Measure; the list holds the peak in bytes when the block has ended."""
    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


JOB = {"id": "task_1", "task_id": "task_1", "status": "completed", "video_url": "https://cdn.example.com/a.mp4"}
RESPONSES: dict[str, bytes] = {
    "a job": http_response(json.dumps(JOB)),
    "a running job": http_response(json.dumps({"id": "task_1", "status": "in_progress", "progress": "30%"})),
    "a failed job": http_response(
        json.dumps({"id": "task_1", "status": "failed", "error": {"message": "敏感", "code": "1301"}})
    ),
    "a response of 100 KB": http_response(json.dumps({**JOB, "padding": "x" * 100_000})),
    "a response of 200 KB": http_response(json.dumps({**JOB, "padding": "x" * 200_000})),
    "not found": http_response(json.dumps({"error": {"code": "task_not_exist", "message": "no"}}), 400),
    "a bad key": http_response(json.dumps({"error": {"message": "invalid key"}}), 401),
    "too many requests": http_response("{}", 429, Retry_After="7"),
    "an empty account": http_response(json.dumps({"error": {"code": "insufficient_quota", "message": "no"}}), 429),
    "server trouble": http_response(json.dumps({"error": {"message": "later"}}), 500),
    "a page": http_response("<html><body>Bad Gateway</body></html>", 502),
    "an empty response": http_response(""),
    "no JSON": http_response("hello"),
    "a list": http_response("[]"),
    "a redirect": http_response("", 302, Location="https://elsewhere.example.com/"),
    "half a body": http_response("{}", length=100),
}


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES.keys())
def test_a_response(response: bytes, connect: Connect) -> None:
    with RawServer(response) as server:
        connect(server.base_url, read_timeout=2)
        of_worker, of_triggerer = outcomes()
    assert of_worker == of_triggerer


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("status", "error"), KlingServerError),
        (Fault("status", "error", status=401), KlingAuthenticationError),
        (Fault("status", "error", status=200, body="html"), KlingServerError),
        (Fault("status", "proxy_error"), KlingServerError),
        (Fault("status", "rate_limit"), KlingRateLimitError),
        (Fault("status", "rate_limit", headers={"Retry-After": "7"}), KlingRateLimitError),
        (Fault("status", "not_visible"), KlingNotFoundError),
        (Fault("status", "not_visible", status=404), KlingNotFoundError),
        (Fault("status", "drop_before"), KlingConnectionError),
        (Fault("status", "drop_after"), KlingConnectionError),
        (Fault("status", "truncate"), KlingConnectionError),
        (Fault("status", "delay_before", seconds=5.0), KlingConnectionError),
        (Fault("status", "delay_after", seconds=1.5), KlingConnectionError),
        (Fault("status", "slow_drip", seconds=30.0), KlingConnectionError),
        (Fault("status", "broken_json"), KlingServerError),
        (Fault("status", "wrong_types"), KlingServerError),
        (Fault("status", "missing_fields"), KlingServerError),
        (Fault("status", "empty_body"), KlingServerError),
        (Fault("status", "huge_body", size=4 << 20), KlingServerError),
        (Fault("status", "gzip_bomb", size=4 << 20), KlingServerError),
        (Fault("status", "redirect"), KlingServerError),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
)
def test_a_fault_is_the_same_named_error_in_time(
    fault: Fault, kind: type[KlingError], sandbox: Sandbox, connect: Connect
) -> None:
    connect(sandbox.base_url, sandbox.api_key, connect_timeout=0.5, read_timeout=0.5)
    task_id = submit(sandbox)
    found = []
    for client in BOTH:
        # At every request: aiohttp repeats a GET once by itself, which costs nothing.
        sandbox.add_fault(replace(fault, times=None))
        with client() as get_video:
            started = time.monotonic()
            found.append(outcome(get_video, task_id))
            assert time.monotonic() - started < 3
            sandbox.clear_faults()
            # A triggerer's rate limit holds the next request back after a 429.
            if kind is not KlingRateLimitError or client is worker:
                assert get_video(task_id).status == "completed"
    of_worker, of_triggerer = found
    assert of_worker == of_triggerer
    assert of_worker[0] == kind.__name__
    if "Retry-After" in (fault.headers or {}):
        assert of_worker[-1] == 7.0


def test_a_wrong_content_type_does_not_matter(sandbox: Sandbox, connected: str, get_video: GetVideo) -> None:
    task_id = submit(sandbox)
    sandbox.add_fault(Fault("status", "wrong_content_type"))
    assert get_video(task_id).status == "completed"
    assert sandbox.faults() == []


class TestTheTaskId:
    """It is one segment of the path, whatever characters it has."""

    @pytest.mark.parametrize("task_id", [".", "..", "..;", "..;x=1"])
    def test_that_would_name_another_path_is_refused(
        self, connect: Connect, get_video: GetVideo, task_id: str
    ) -> None:
        with RawServer(COMPLETED) as server:
            connect(server.base_url)
            with pytest.raises(KlingValidationError, match="is not a Kling task id, but a path"):
                get_video(task_id)
            assert server.connections == 0

    @pytest.mark.parametrize(
        "task_id",
        ["...", ".a", "a..", "../x", "a/../b", "..\\x", "%2E%2E", "%2e", "..%2Fx", "a?b#c", "a b", "a;b", "视频"],
    )
    def test_arrives_as_it_is(self, connect: Connect, get_video: GetVideo, task_id: str) -> None:
        with RawServer(COMPLETED) as server:
            connect(f"{server.base_url}/team")
            get_video(task_id)
            [request] = server.requests
        folder, _, segment = request.path.rpartition("/")
        assert (folder, unquote(segment)) == ("/team/v1/videos", task_id)


class TestAConnectionThatBreaks:
    """Each is worth another status check, which the same client can make."""

    @pytest.mark.parametrize("end", ["close", "reset", "close over TLS", "reset over TLS"])
    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-",
            b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"status',
            COMPLETED[:-10],
            http_response("{}", length=99),
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        ],
        ids=["nothing", "half a header", "half a body", "most of a body", "less than announced", "a long header"],
    )
    @pytest.mark.parametrize("client", BOTH)
    def test_while_the_response_is_read(
        self, certificate: Path, connect: Connect, client: Client, sent: bytes, end: str
    ) -> None:
        def respond(connection: socket.socket, request: Request) -> None:
            connection.sendall(COMPLETED if recovered else sent)
            if "reset" in end and not recovered:
                reset(connection)

        # To a worker's HTTP library, headers that end too early are those of a response without a body.
        kinds = (KlingConnectionError, KlingServerError) if client is worker else KlingConnectionError
        recovered = False
        tls = server_context(certificate) if "TLS" in end else None
        with RawServer(respond, tls=tls) as server, client() as get_video:
            connect(server.base_url, verify=str(certificate), read_timeout=2)
            with pytest.raises(kinds) as caught:
                get_video("task_1")
            assert caught.value.retryable
            assert isinstance(caught.value, KlingServerError) or "GET http" in str(caught.value)
            recovered = True
            assert get_video("task_1").status == "completed"

    def test_to_a_port_without_a_server(self, connect: Connect, get_video: GetVideo) -> None:
        connect(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(KlingConnectionError, match="Connection refused|ClientConnectorError"):
            get_video("task_1")

    @pytest.mark.parametrize(
        "host", ["kling.invalid", "a" * 64 + ".example", "a..example", "xn--a.example", "-.-"]
    )
    def test_to_a_name_that_does_not_resolve(self, connect: Connect, get_video: GetVideo, host: str) -> None:
        connect(f"https://{host}")
        with pytest.raises(KlingConnectionError):
            get_video("task_1")

    def test_to_a_server_that_does_not_accept(self, connect: Connect, get_video: GetVideo) -> None:
        with FullBacklog() as server:
            connect(f"http://127.0.0.1:{server.port}", connect_timeout=0.3)
            with pytest.raises(KlingConnectionError, match="[Tt]ime(d )?out"):
                get_video("task_1")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_to_a_silent_server(self, connect: Connect, get_video: GetVideo, scheme: str) -> None:
        with Silent() as server:
            connect(f"{scheme}://127.0.0.1:{server.port}", connect_timeout=0.3, read_timeout=0.3)
            started = time.monotonic()
            with pytest.raises(KlingConnectionError, match="[Tt]ime(d )?out|not complete after"):
                get_video("task_1")
            assert time.monotonic() - started < 3


class TestTls:
    def test_a_certificate_that_is_not_trusted(
        self, certificate: Path, connect: Connect, get_video: GetVideo
    ) -> None:
        with RawServer(COMPLETED, tls=server_context(certificate)) as server:
            connect(server.base_url)
            with pytest.raises(KlingConnectionError, match="certificate verify failed"):
                get_video("task_1")
            assert server.requests == []

    def test_a_certificate_of_another_name(self, certificate: Path, connect: Connect, get_video: GetVideo) -> None:
        with RawServer(COMPLETED, tls=server_context(certificate)) as server:
            connect(f"https://localhost:{server.port}", verify=str(certificate))
            # requests leaves the check to urllib3, aiohttp to OpenSSL.
            with pytest.raises(KlingConnectionError, match="not valid for 'localhost'|Hostname mismatch"):
                get_video("task_1")
            assert server.requests == []

    def test_a_server_without_tls(self, connect: Connect, get_video: GetVideo) -> None:
        with RawServer(COMPLETED) as server:
            connect(server.base_url.replace("http:", "https:"), connect_timeout=2, read_timeout=2)
            with pytest.raises(KlingConnectionError, match="GET https"):
                get_video("task_1")


class TestAHostileResponse:
    """It takes neither long nor much memory."""

    def test_without_an_end(self, connect: Connect, get_video: GetVideo) -> None:
        def pour(connection: socket.socket, request: Request) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while not server.stopping.is_set():
                connection.sendall(bytes(65536))

        with RawServer(pour) as server:
            connect(server.base_url, read_timeout=5)
            started = time.monotonic()
            with peak_memory() as peak, pytest.raises(KlingServerError, match="larger than 131072 bytes"):
                get_video("task_1")
            assert time.monotonic() - started < 5
        assert peak[0] < 8 << 20

    def test_that_drips_in_its_headers(self, connect: Connect, get_video: GetVideo) -> None:
        def drip(connection: socket.socket, request: Request) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not server.stopping.wait(0.1):
                connection.sendall(b"y")

        with RawServer(drip) as server:
            connect(server.base_url, connect_timeout=0.4, read_timeout=0.4)
            started = time.monotonic()
            with pytest.raises(KlingConnectionError):
                get_video("task_1")
            assert time.monotonic() - started < 3

    def test_that_is_a_bomb(self, sandbox: Sandbox, connect: Connect, get_video: GetVideo) -> None:
        connect(sandbox.base_url, sandbox.api_key, read_timeout=30, max_requests_per_second=1000)
        task_id = submit(sandbox, Fault("status", "gzip_bomb", size=128 << 20, times=None))
        with pytest.raises(KlingServerError, match="larger than"):
            get_video(task_id)  # the server packs the bomb now, and not while memory is measured
        with peak_memory() as peak, pytest.raises(KlingServerError, match="larger than"):
            get_video(task_id)
        assert peak[0] < 16 << 20

    @pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "deflate, gzip", "deflate"])
    def test_that_is_a_bomb_inside_a_bomb(self, connect: Connect, get_video: GetVideo, encoding: str) -> None:
        bomb = gzip.compress(gzip.compress(bytes(128 << 20), 9), 9)
        assert len(bomb) < 1000
        with RawServer(http_response(bomb, Content_Encoding=encoding)) as server:
            connect(server.base_url, read_timeout=30)
            with peak_memory() as peak, pytest.raises(KlingServerError):
                get_video("task_1")
            assert server.requests[0].headers["Accept-Encoding"] == "gzip"
        assert peak[0] < 8 << 20

    @pytest.mark.parametrize("level", [1, 9])
    def test_that_is_a_bomb_of_any_level(self, connect: Connect, get_video: GetVideo, level: int) -> None:
        bomb = gzip.compress(bytes(128 << 20), level)
        with RawServer(http_response(bomb, Content_Encoding="gzip")) as server:
            connect(server.base_url, read_timeout=30)
            with peak_memory() as peak, pytest.raises(KlingServerError, match="larger than 131072 bytes"):
                get_video("task_1")
        assert peak[0] < 8 << 20


class TestACompressedResponse:
    PACKED = gzip.compress(b'{"id": "task_1", "status": "completed", "model": "' + b"m" * 5000 + b'"}')

    def test_is_understood(self, connect: Connect, get_video: GetVideo) -> None:
        with RawServer(http_response(self.PACKED, Content_Encoding="gzip")) as server:
            connect(server.base_url)
            assert get_video("task_1").status == "completed"

    def test_in_small_pieces_is_read_whole(self, connect: Connect, get_video: GetVideo) -> None:
        def drip(connection: socket.socket, request: Request) -> None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(self.PACKED)}\r\n\r\n"
            connection.sendall(head.encode())
            for byte in self.PACKED:
                connection.sendall(bytes([byte]))

        with RawServer(drip) as server:
            connect(server.base_url, read_timeout=5)
            assert get_video("task_1").status == "completed"

    @pytest.mark.parametrize(
        "spoiled", [PACKED[:-4], PACKED[:-9], b"{" + PACKED], ids=["cut in its sum", "cut", "garbled"]
    )
    def test_that_is_spoiled(self, connect: Connect, get_video: GetVideo, spoiled: bytes) -> None:
        with RawServer(http_response(spoiled, Content_Encoding="gzip")) as server:
            connect(server.base_url)
            with pytest.raises(
                KlingConnectionError, match=r"compressed response is incomplete|cannot be decompressed"
            ):
                get_video("task_1")


class TestTheConnection:
    def test_one_that_is_missing(self) -> None:
        messages = set()
        for client in BOTH:
            with client() as get_video, pytest.raises(KlingError) as raised:
                get_video("task_1")
            assert type(raised.value) is KlingError
            messages.add(str(raised.value))
        assert len(messages) == 1
        assert "kling_default" in messages.pop()

    def test_one_that_is_wrong(self, connect: Connect) -> None:
        connect("https://user:pass@api.example.com", api="no-such-api")
        of_worker, of_triggerer = outcomes()
        assert of_worker == of_triggerer
        with (
            worker() as get_video,
            pytest.raises(KlingError, match=r"API \(extra.api\)='no-such-api': it must be one of gateway"),
        ):
            get_video("task_1")

    def test_is_named_where_its_key_is_rejected(self, get_video: GetVideo, connect: Connect) -> None:
        rejected = http_response(json.dumps({"error": {"message": "Invalid token"}}), 401)
        with RawServer(rejected) as server:
            connect(server.base_url)
            with pytest.raises(KlingAuthenticationError) as raised:
                get_video("task_1")
        assert raised.value.advice == "Check API key and Base URL of the Airflow connection 'kling_default'."

    def test_is_named_where_its_server_is_not_reached(self, get_video: GetVideo, connect: Connect) -> None:
        connect(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(KlingConnectionError, match="the Base URL of the Airflow connection 'kling_default',"):
            get_video("task_1")

    def test_an_unknown_extra_is_reported(
        self,
        get_video: GetVideo,
        connect: Connect,
        task_log: TaskLog,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        connect(f"http://127.0.0.1:{free_port()}", conect_timeout=1)
        outcome(get_video)
        assert "extras that are not read: conect_timeout" in caplog.text

    def test_a_replaced_key_is_picked_up(
        self, get_video: GetVideo, sandbox: Sandbox, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect(sandbox.base_url, sandbox.api_key)
        task_id = submit(sandbox)
        connect(sandbox.base_url, "sk-old")
        found = ConnectionBook.get_conn_value

        def rotate(self: ConnectionBook, conn_id: str, team_name: str | None = None) -> str | None:
            value = found(self, conn_id, team_name)
            connect(sandbox.base_url, sandbox.api_key)  # just after the first look-up
            return value

        monkeypatch.setattr(ConnectionBook, "get_conn_value", rotate)
        assert get_video(task_id).kling_task_id == task_id


async def get(task_id: str) -> Any:
    async with shared_client("kling_default") as client:
        return await client.get_video(task_id)


@pytest.mark.asyncio
async def test_a_triggerer_goes_on_with_the_last_connection_while_airflow_cannot_return_it(
    sandbox: Sandbox, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    connect(sandbox.base_url, sandbox.api_key)
    task_id = await asyncio.to_thread(submit, sandbox)
    await get(task_id)
    BOOK.clear()  # the secrets backend is down, and the client of before is closed
    assert (await get(task_id)).kling_task_id == task_id
    assert "Continuing with the last connection that worked" in caplog.text


@pytest.mark.parametrize("method", ["run", "run_and_check", "run_with_advanced_retry"])
def test_what_http_hook_offers_is_refused_by_name(sandbox: Sandbox, connected: str, method: str) -> None:
    with pytest.raises(KlingError, match=r"Call submit_video, get_video or wait_for_video"):
        getattr(KlingHook(connected), method)("/v1/video/generations", data="{}")
    assert sandbox.requests["submit"] == 0


def test_a_refused_key_may_have_been_replaced_while_airflow_cannot_return_the_connection(
    sandbox: Sandbox, connect: Connect, get_video: GetVideo
) -> None:
    connect(sandbox.base_url, sandbox.api_key)
    task_id = submit(sandbox)
    assert get_video(task_id).kling_task_id == task_id
    known = dict(BOOK.connections)
    BOOK.clear()  # the secrets backend is down
    sandbox.add_fault(Fault("status", "error", status=401, code="invalid_api_key"))
    with pytest.raises(KlingError, match="could not be looked up again") as caught:
        get_video(task_id)
    assert caught.value.retryable
    assert caught.value.http_status == 401
    BOOK.connections.update(known)
    assert get_video(task_id).kling_task_id == task_id


@pytest.mark.parametrize("client", BOTH)
def test_a_cookie_of_a_server_is_not_sent_back(client: Client, connect: Connect) -> None:
    with RawServer(http_response('{"id": "task_1", "status": "running"}', Set_Cookie="a=b; Path=/")) as server:
        connect(server.base_url)
        with client() as get_video:
            get_video("task_1")
            get_video("task_1")
        assert all("cookie" not in {name.lower() for name in request.headers} for request in server.requests)


class TestGetConn:
    def test_reads_with_the_limits_of_the_connection(self, connect: Connect) -> None:
        with Silent() as server:
            url = f"http://127.0.0.1:{server.port}"
            conn_id = connect(url, read_timeout=0.2)
            with pytest.raises(requests.ReadTimeout), KlingHook(conn_id).get_conn() as session:
                session.get(f"{url}/v1/videos/task_1")

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
    def test_sends_nothing_that_could_buy(self, sandbox: Sandbox, connected: str, method: str) -> None:
        with pytest.raises(KlingPermanentError, match="submit_video"), KlingHook(connected).get_conn() as session:
            getattr(session, method)(f"{sandbox.base_url}/v1/video/generations", json={})
        assert sandbox.requests["submit"] == 0
