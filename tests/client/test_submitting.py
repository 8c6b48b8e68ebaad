# SPDX-License-Identifier: Apache-2.0
"""The session on which one submit is sent: the probe before it, and the record that must not be too old."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import psutil
import pytest

from airflow_provider_kling.api.response import MAX_SUBMIT_RESPONSE_BYTES
from airflow_provider_kling.client.sync_client import INTENT_MARGIN
from airflow_provider_kling.exceptions import (
    KlingConnectionError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.sandbox import Sandbox
from tests.conftest import Connect
from tests.fixtures.requests import REQUEST
from tests.raw_server import RawServer, free_port

CONNECT_TIMEOUT = 0.5


def since(moment: float) -> Callable[[], float]:
    return lambda: time.time() - moment


@pytest.fixture
def hook(sandbox: Sandbox, connect: Connect) -> KlingHook:
    return KlingHook(connect(sandbox.base_url, sandbox.api_key, connect_timeout=CONNECT_TIMEOUT, read_timeout=2))


class Gateway(ThreadingHTTPServer):
    """A server that keeps connections alive, and counts them."""

    connections = 0

    def process_request(self, *args: Any) -> None:
        self.connections += 1
        super().process_request(*args)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.respond(400, b'{"error": {"code": "task_not_exist", "message": "task_not_exist"}}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.respond(200, b'{"id": "task_1", "status": "queued"}')

    def respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_probe_and_submit_share_one_connection(gateway: Gateway, connect: Connect) -> None:
    hook = KlingHook(connect(f"http://127.0.0.1:{gateway.server_address[1]}"))
    with hook.submitting() as session:
        session.probe()
        assert session.submit(REQUEST, age=since(time.time())).kling_task_id == "task_1"
    assert gateway.connections == 1


def test_a_server_that_cannot_be_reached_is_not_there(connect: Connect) -> None:
    hook = KlingHook(connect(f"http://127.0.0.1:{free_port()}", connect_timeout=CONNECT_TIMEOUT))
    with (
        hook.submitting() as session,
        pytest.raises(KlingUnavailableError, match=r"refused.*Nothing was submitted"),
    ):
        session.probe()


class TestALargeResponse:
    """It may hold the only trace of a paid job."""

    KEY = "sk-0123456789abcdef"

    def submit(self, connect: Connect, body: bytes, **headers: str) -> Any:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{lines}\r\n"
        with RawServer(head.encode() + body) as server:
            hook = KlingHook(connect(server.base_url, self.KEY, read_timeout=20))
            with hook.submitting() as session:
                return session.submit(REQUEST, age=since(time.time()))

    @pytest.mark.parametrize("size", [140_000, 3 << 20])
    @pytest.mark.parametrize("is_packed", [False, True])
    def test_that_repeats_an_image_is_read(self, connect: Connect, size: int, is_packed: bool) -> None:
        body = json.dumps({"input": {"image": "A" * size}, "id": "task_1", "status": "queued"}).encode()
        headers = {"Content_Encoding": "gzip"} if is_packed else {}
        job = self.submit(connect, gzip.compress(body) if is_packed else body, **headers)
        assert job.kling_task_id == "task_1"

    @pytest.mark.parametrize("is_packed", [False, True])
    def test_that_is_larger_still_is_quoted_without_the_key(self, connect: Connect, is_packed: bool) -> None:
        body = b'{"id": "task_1", "key": "%s", "x": "%s"}' % (
            self.KEY.encode(),
            b"x" * (MAX_SUBMIT_RESPONSE_BYTES * 2),
        )
        headers = {"Content_Encoding": "gzip"} if is_packed else {}
        with pytest.raises(KlingUncertainSubmissionError, match="larger than") as raised:
            self.submit(connect, gzip.compress(body) if is_packed else body, **headers)
        assert '"id": "task_1"' in str(raised.value.server_message)
        assert self.KEY[3:] not in str(raised.value)


class TestARecordThatIsTooOld:
    def test_before_the_connection_stands(self, sandbox: Sandbox, hook: KlingHook) -> None:
        with hook.submitting() as session, pytest.raises(KlingConnectionError, match="so it was not sent"):
            session.submit(REQUEST, age=since(time.time() - CONNECT_TIMEOUT - INTENT_MARGIN - 0.1))
        assert sandbox.requests["submit"] == 0

    def test_by_the_time_the_connection_stands(
        self, sandbox: Sandbox, hook: KlingHook, set_clock: Callable[[float], None]
    ) -> None:
        with hook.submitting() as session:
            session._session.auth = lambda request: (set_clock(60), request)[1]
            with pytest.raises(KlingConnectionError, match="60 s passed"):
                session.submit(REQUEST, age=since(time.time()))
        assert sandbox.requests["submit"] == 0

    def test_by_the_time_the_body_is_read(
        self, sandbox: Sandbox, hook: KlingHook, set_clock: Callable[[float], None]
    ) -> None:
        with hook.submitting() as session:
            session.probe()  # from here on the connection stands
            session._session.auth = lambda request: (set_clock(60), request)[1]
            with pytest.raises(KlingConnectionError, match="60 s passed"):
                session.submit(REQUEST, age=since(time.time()))
        assert sandbox.ledger() == []

    def test_one_that_is_fresh_is_sent(self, sandbox: Sandbox, hook: KlingHook) -> None:
        with hook.submitting() as session:
            session.probe()
            session.submit(REQUEST, age=since(time.time() - INTENT_MARGIN))
        assert len(sandbox.ledger()) == 1


FROZEN = """
import json, os, signal, sys, time
import airflow
from tests.connections import BOOK
BOOK.add("kling_default", json.loads(sys.argv[1]))
from airflow_provider_kling.hooks.kling import KlingHook
from tests.fixtures.requests import REQUEST

with KlingHook("kling_default").submitting() as session:
    session.probe()
    recorded_at = time.time()
    os.kill(os.getpid(), signal.SIGSTOP)
    session.submit(REQUEST, age=lambda: time.time() - recorded_at)
"""


@pytest.mark.parametrize("frozen", [0.2, CONNECT_TIMEOUT + INTENT_MARGIN + 0.5])
def test_a_process_that_was_stopped_for_long_does_not_send(sandbox: Sandbox, frozen: float) -> None:
    connection = {
        "conn_type": "kling",
        "host": sandbox.base_url,
        "password": sandbox.api_key,
        "extra": {"connect_timeout": CONNECT_TIMEOUT},
    }
    process = subprocess.Popen(
        [sys.executable, "-c", FROZEN, json.dumps(connection)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        deadline = time.monotonic() + 60
        while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(frozen)
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=60)
    if frozen > 1:
        assert "so it was not sent" in errors
        assert sandbox.ledger() == []
    else:
        assert process.returncode == 0, errors
        assert len(sandbox.ledger()) == 1
