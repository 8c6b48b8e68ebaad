# SPDX-License-Identifier: Apache-2.0
"""Some servers repeat the key that they refuse: no word of theirs may carry it into a log, an event or XCom."""

from __future__ import annotations

import asyncio
import html
import io
import json
import re
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_kling.api.base import Credentials
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.client.connection import KlingConnection
from airflow_provider_kling.exceptions import KlingConnectionError, KlingError, KlingValidationError
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.result import generation_error
from airflow_provider_kling.media.download import download
from tests.conftest import Connect
from tests.fixtures.requests import REQUEST
from tests.raw_server import RawServer, Request, free_port, http_response

SECRET = '9f3Kx/7Lq+2WmAbCdE="x'
KEY = f"sk-{SECRET}"
SPELLINGS = {
    "as it is": KEY,
    "without the prefix": SECRET,
    "in JSON": json.dumps(KEY)[1:-1],
    "in JSON of PHP": json.dumps(KEY)[1:-1].replace("/", r"\/"),
    "in JSON inside JSON": json.dumps(json.dumps(KEY).replace("/", r"\/"))[1:-1],
    "in a URL": quote(KEY),
    "in a part of a URL": quote(KEY, safe=""),
    "in JSON of .NET": json.dumps(KEY)[1:-1].replace("+", r"\u002B").replace(r"\"", r"\u0022"),
    "in JSON, every character": "".join(rf"\u{ord(c):04x}" for c in KEY),
    "in HTML": html.escape(KEY).replace("+", "&#43;").replace("/", "&#x2F;"),
    "in a URL, every character": "".join(f"%{ord(c):02X}" for c in KEY),
}


def connection(key: str = KEY) -> KlingConnection:
    return KlingConnection(
        base_url="https://api.example.com", api=GatewayApi(Credentials(key)), credentials=Credentials(key)
    )


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_the_key_is_masked_however_it_is_spelt(spelling: str) -> None:
    masked = connection().masked(f"invalid key {spelling}, try another")
    # What may be left is the prefix, in any spelling, and the quotes.
    assert re.fullmatch(r'invalid key ["\\]*(sk-|\S{9,18})?\*\*\*["\\]*, try another', masked)


def test_words_are_not_masked_because_a_short_key_holds_them() -> None:
    assert connection("sk-sandbox").masked("the sandbox refuses sk-sandbox") == "the sandbox refuses ***"


def test_a_hostile_answer_costs_no_time() -> None:
    half = SECRET[: len(SECRET) // 2]
    for text in ("\\" * (1 << 20), half * (1 << 16), SECRET[0] * (1 << 20)):
        assert connection().masked(text) == text


ANSWERS: dict[str, Callable[[str], bytes]] = {
    "a JSON error": lambda key: http_response(json.dumps({"error": {"message": f"bad {key}", "code": key}}), 401),
    "an HTML page": lambda key: http_response(f"<html>Authorization: Bearer {key}</html>", 502),
    "plain text": lambda key: http_response(f"no such key: {key}", 400),
    "a redirect": lambda key: http_response("", 302, Location=f"https://elsewhere.example/{key}?key={quote(key)}"),
    "no JSON": lambda key: http_response(f"{key}", 200),
    "no status": lambda key: http_response(json.dumps({"note": key}), 200),
    "a failed job": lambda key: http_response(
        json.dumps({"status": "failed", "fail_reason": key, "error": key}), 200
    ),
    "a status line": lambda key: f"HTTP/9.9 {key}\r\n\r\n".encode(),
    "a header": lambda key: http_response("{}", 200, Content_Type=f"text/{key}"),
    "a long page": lambda key: http_response("x" * 490 + key, 403),
}
CALLS: dict[str, Callable[[KlingHook], Any]] = {
    "submit": lambda hook: hook.submit_video(REQUEST),
    "status": lambda hook: generation_error(hook.get_video("task_1")),
    "status on the triggerer": lambda hook: generation_error(asyncio.run(hook.aget_video("task_1"))),
    "download": lambda hook: download(hook.client, f"{hook.connection.base_url}/x.mp4", io.BytesIO(), seconds=5),
}


@pytest.mark.parametrize("spoken", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_no_error_carries_the_key(
    connect: Connect, call: Callable[[KlingHook], Any], spoken: Callable[[str], bytes]
) -> None:
    def repeat(connection: socket.socket, request: Request) -> None:
        connection.sendall(spoken(request.headers["Authorization"].removeprefix("Bearer ")))

    with RawServer(repeat) as server:
        hook = KlingHook(connect(server.base_url, KEY, connect_timeout=2, read_timeout=2))
        with hook.client.session:
            try:
                error = call(hook)
            except KlingError as raised:
                error = raised
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert isinstance(error, KlingError)
    told = f"{error} {error!r} {json.dumps(error.to_dict())}" + "".join(traceback.format_exception(error))
    for spelling in SPELLINGS.values():
        assert spelling not in told
    assert SECRET[:8] not in told


@pytest.mark.parametrize("base_url", ["http://kling.example.com", "https://kling.example.com"])
@pytest.mark.parametrize("status", [407, 502])
@pytest.mark.parametrize("call", list(CALLS)[:3])
def test_no_error_carries_the_password_of_a_proxy(connect: Connect, call: str, status: int, base_url: str) -> None:
    with RawServer(http_response("no", status)) as proxy:
        address = f"http://user:{SECRET[:5]}@127.0.0.1:{proxy.port}"
        hook = KlingHook(connect(base_url, KEY, proxy=address))
        with hook.client.session, pytest.raises(KlingError) as caught:
            CALLS[call](hook)
    assert proxy.requests[0].headers["Proxy-Authorization"].startswith("Basic ")
    assert SECRET[:5] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "address",
    ["http://user:hunter2@h:99999", "http://user:hunter2@[::1", "http://user:hun/hunter2@h:1", "hunter2@h:x"],
)
@pytest.mark.parametrize("call", ["submit", "status", "download"])
def test_an_invalid_proxy_of_the_environment_is_reported_without_its_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, call: str, address: str
) -> None:
    monkeypatch.setenv("http_proxy", address)
    hook = KlingHook(connect("http://kling.example.com", KEY))
    with hook.client.session, pytest.raises(KlingError, match="proxy") as caught:
        CALLS[call](hook)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:hunter2@[::1",
        "http://user:hunter2@proxy:99999",
        "user:hunter2@",
        "socks5://user:hunter2@proxy:1080",
        "ftp://user:hunter2@proxy",
        "http://user:hunter2@pro xy:3128",
    ],
)
@pytest.mark.parametrize("call", [CALLS["status"], CALLS["status on the triggerer"]])
def test_an_unusable_proxy_is_reported_without_its_password(
    connect: Connect, call: Callable[[KlingHook], Any], proxy: str
) -> None:
    hook = KlingHook(connect("http://kling.example.com", KEY, proxy=proxy))
    with pytest.raises(KlingValidationError, match="='\\*\\*\\*': it must be the http"), told_safely():
        call(hook)


@pytest.mark.parametrize(
    "proxy", ["http://user:hunter2@proxy:99999", "socks5://user:hunter2@proxy", "http://user:hunter2@[::1"]
)
def test_neither_is_one_of_the_triggerers_environment(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("http_proxy", proxy)
    connect("http://kling.example.com", KEY)
    with pytest.raises(KlingValidationError, match="environment.s proxy for"), told_safely():
        asyncio.run(KlingHook().aget_video("task_1"))


@pytest.mark.parametrize("of_the_environment", [True, False])
def test_an_absent_proxy_is_reported_without_its_password(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, of_the_environment: bool
) -> None:
    proxy = f"user:hunter2@127.0.0.1:{free_port()}"
    if of_the_environment:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)
    connect("http://kling.example.com", KEY, proxy="" if of_the_environment else proxy)
    with pytest.raises(KlingConnectionError), told_safely():
        asyncio.run(KlingHook().aget_video("task_1"))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_proxy_that_repeats_what_it_was_sent(connect: Connect, call: Callable[[KlingHook], Any]) -> None:
    def repeat(connection: socket.socket, request: Request) -> None:
        credentials = request.headers["Proxy-Authorization"]
        connection.sendall(http_response(f"you are {credentials}, http://user:hunter%32@127.0.0.1", 400))

    with RawServer(repeat) as proxy:
        address = f"user:hunter%32@127.0.0.1:{proxy.port}"
        hook = KlingHook(connect("http://kling.example.com", KEY, proxy=address))
        with hook.client.session, hook.client.public_session, pytest.raises(KlingError) as caught, told_safely():
            call(hook)
    assert "you are ***, http://***127.0.0.1" in str(caught.value)


@contextmanager
def told_safely() -> Iterator[None]:
    """Have the error that leaves show no password, in its words, its traceback, or what is stored of it."""
    try:
        yield
    except KlingError as error:
        told = "".join(traceback.format_exception(error)) + json.dumps(error.to_dict())
        for secret in ("hunter2", "hunter%32", "dXNlcjpodW50ZXIy"):
            assert secret not in told
        raise


def test_a_header_that_repeats_the_key_is_in_no_traceback(connect: Connect) -> None:
    with RawServer(f"HTTP/1.1 200 OK\r\nX: \0{KEY}\r\n\r\n".encode()) as server:
        connect(server.base_url, KEY)
        with pytest.raises(KlingError) as caught:
            asyncio.run(KlingHook().aget_video("task_1"))
    assert SECRET[:8] not in "".join(traceback.format_exception(caught.value))
