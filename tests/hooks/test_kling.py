# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from airflow_provider_kling import __version__
from airflow_provider_kling.api.gateway.payload import payload_of
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingConnectionError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingTimeoutError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.sandbox import DIALECTS, Fault, Sandbox
from tests.conftest import Connect, TaskLog
from tests.fixtures.requests import REQUEST
from tests.fixtures.responses import ACCEPTED, COMPLETED, KEY, RAW_RESPONSES, RUNNING
from tests.raw_server import FullBacklog, RawServer, Request, Silent, free_port, http_response, reset
from tests.tls import server_context


@pytest.fixture
def hook(connected: str) -> Iterator[KlingHook]:
    """A hook on the sandbox."""
    hook = KlingHook(connected)
    yield hook
    hook.client.session.close()


class TestTheWayOfAVideo:
    def test_from_the_submit_to_the_url(self, sandbox: Sandbox, hook: KlingHook) -> None:
        job = hook.submit_video(REQUEST)
        assert [entry["id"] for entry in sandbox.ledger()] == [job.kling_task_id]
        finished = hook.get_video(job.kling_task_id)
        assert (finished.status, finished.kling_task_id) == ("completed", job.kling_task_id)
        assert finished.video_url == f"{sandbox.base_url}/files/{job.kling_task_id}.mp4"

    def test_the_vendors_own_json_is_taken_too(self, sandbox: Sandbox, hook: KlingHook) -> None:
        hook.submit_video(payload_of(REQUEST))
        assert sandbox.ledger()[0]["request"] == payload_of(REQUEST)

    def test_a_wrong_request_is_refused_before_anything_is_sent(self, sandbox: Sandbox, hook: KlingHook) -> None:
        with pytest.raises(KlingValidationError, match="duration=99"):
            hook.submit_video({**payload_of(REQUEST), "duration": 99})
        assert sandbox.requests["submit"] == 0

    @pytest.mark.parametrize(
        "prompt", ["Ein Wanderer, 沙漠中的旅人 🏜", "line one\nline two\ttab", "\ud800 half a letter"]
    )
    def test_a_prompt_in_any_script_arrives(self, sandbox: Sandbox, hook: KlingHook, prompt: str) -> None:
        hook.submit_video(VideoRequest.build(model="kling-v3-std-silent", prompt=prompt))
        assert sandbox.ledger()[0]["request"]["prompt"] == prompt

    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_in_every_dialect(self, dialect: str, connect: Connect) -> None:
        with Sandbox(run_seconds=0, dialect=dialect) as sandbox:
            hook = KlingHook(connect(sandbox.base_url))
            with hook.client.session:
                job = hook.submit_video(REQUEST)
                finished = hook.get_video(job.kling_task_id)
                assert (finished.status, finished.kling_task_id) == ("completed", sandbox.ledger()[0]["id"])
                assert str(finished.video_url).startswith(sandbox.base_url)
                with pytest.raises(KlingNotFoundError):
                    hook.get_video("7")

    def test_under_a_path_prefix(self, connect: Connect) -> None:
        with Sandbox(run_seconds=0, prefix="/team/kling") as sandbox:
            hook = KlingHook(connect(f"{sandbox.base_url}/v1/"))
            with hook.client.session:
                assert hook.get_video(hook.submit_video(REQUEST).kling_task_id).status == "completed"

    def test_over_tls_with_a_ca_bundle_of_its_own(self, certificate: Path, connect: Connect) -> None:
        with Sandbox(run_seconds=0, ssl_context=server_context(certificate)) as sandbox:
            hook = KlingHook(connect(sandbox.base_url.removeprefix("https://"), verify=str(certificate)))
            with hook.client.session:
                assert hook.get_video(hook.submit_video(REQUEST).kling_task_id).status == "completed"

    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    def test_over_tls_unverified_with_verify_false(self, certificate: Path, connect: Connect) -> None:
        with Sandbox(run_seconds=0, ssl_context=server_context(certificate)) as sandbox:
            hook = KlingHook(connect(sandbox.base_url, verify="false"))
            with hook.client.session:
                assert hook.submit_video(REQUEST).kling_task_id

    def test_the_gets_share_one_connection_to_the_server(self, sandbox: Sandbox, hook: KlingHook) -> None:
        job = hook.submit_video(REQUEST)
        session = hook.client.session
        for _ in range(3):
            hook.get_video(job.kling_task_id)
        assert hook.client.session is session


class TestWhatLeavesTheProcess:
    def headers(self, hook_on: Callable[..., KlingHook], **extra: Any) -> dict[str, Request]:
        def respond(connection: socket.socket, request: Request) -> None:
            connection.sendall(ACCEPTED if request.line.startswith("POST") else COMPLETED)

        with RawServer(respond) as server:
            hook = hook_on(server.base_url, **extra)
            hook.submit_video(REQUEST)
            hook.get_video("task_1")
            post, get = server.requests
        return {"POST": post, "GET": get}

    def test_the_requests_are_those_of_the_vendors_page(self, hook_on: Callable[..., KlingHook]) -> None:
        sent = self.headers(hook_on)
        assert sent["POST"].line == "POST /v1/video/generations HTTP/1.1"
        assert sent["POST"].headers["Content-Type"] == "application/json"
        assert json.loads(sent["POST"].body) == payload_of(REQUEST)
        assert sent["GET"].line == "GET /v1/videos/task_1 HTTP/1.1"
        assert "Content-Type" not in sent["GET"].headers

    @pytest.mark.parametrize("method", ["POST", "GET"])
    def test_key_and_user_agent_go_with_each(self, hook_on: Callable[..., KlingHook], method: str) -> None:
        headers = self.headers(hook_on)[method].headers
        assert headers["Authorization"] == f"Bearer {KEY}"
        assert headers["User-Agent"] == f"airflow-provider-kling/{__version__}"
        assert headers["Accept"] == "application/json"

    @pytest.mark.parametrize("method", ["POST", "GET"])
    def test_extras_never_leave_as_headers(
        self, hook_on: Callable[..., KlingHook], method: str, task_log: TaskLog
    ) -> None:
        sent = self.headers(hook_on, **{"X-Evil": "1", "Authorization": "Basic x", "trust_env": True})[method]
        assert "X-Evil" not in sent.headers
        assert "Trust-Env" not in sent.headers
        assert "Read-Timeout" not in sent.headers
        assert sent.headers["Authorization"] == f"Bearer {KEY}"
        assert "extras that are not read: Authorization, X-Evil" in task_log.text

    @pytest.mark.parametrize("method", ["POST", "GET"])
    def test_a_netrc_does_not_replace_the_key(
        self, hook_on: Callable[..., KlingHook], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login somebody password else\ndefault login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        assert self.headers(hook_on)[method].headers["Authorization"] == f"Bearer {KEY}"

    def test_a_proxy_of_the_connection_is_used(self, hook_on: Callable[..., KlingHook]) -> None:
        with RawServer(ACCEPTED) as proxy:
            assert (
                hook_on("http://kling.example.com", proxy=proxy.base_url).submit_video(REQUEST).kling_task_id
                == "task_1"
            )
            assert proxy.requests[0].line == "POST http://kling.example.com/v1/video/generations HTTP/1.1"

    def test_a_proxy_of_the_environment_counts_unless_trust_env_is_off(
        self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with RawServer(ACCEPTED) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.base_url)
            monkeypatch.setenv("http_proxy", proxy.base_url)
            hook_on(sandbox.base_url, sandbox.api_key).submit_video(REQUEST)
            assert (proxy.connections, sandbox.requests["submit"]) == (1, 0)
            hook_on(sandbox.base_url, sandbox.api_key, trust_env=False).submit_video(REQUEST)
            assert (proxy.connections, sandbox.requests["submit"]) == (1, 1)

    def test_a_proxy_of_the_connection_goes_before_that_of_the_environment(
        self, hook_on: Callable[..., KlingHook], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with RawServer(ACCEPTED) as other, RawServer(ACCEPTED) as proxy:
            for name in ("http_proxy", "all_proxy"):
                monkeypatch.setenv(name, other.base_url)
            hook_on("http://kling.example.com", proxy=proxy.base_url).submit_video(REQUEST)
            assert (proxy.connections, other.connections) == (1, 0)

    def test_the_key_stands_in_no_error_and_no_log(
        self, hook_on: Callable[..., KlingHook], task_log: TaskLog, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        hook = hook_on(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(KlingConnectionError) as caught:
            hook.submit_video(REQUEST)
        error: BaseException | None = caught.value
        while error is not None:
            assert KEY not in f"{error!r} {error} {getattr(error, '__dict__', '')}"
            error = error.__cause__
        assert KEY not in task_log.text


class TestASubmitThatWasRefused:
    """The server itself said no: no job was made, and the error says why."""

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault("submit", "refuse_content"), KlingContentRefusedError),
            (Fault("submit", "rate_limit"), KlingRateLimitError),
            (Fault("submit", "error", status=401, message="无效的令牌"), KlingAuthenticationError),
            (Fault("submit", "error", status=403, code="insufficient_user_quota"), KlingBalanceError),
            (Fault("submit", "error", status=403, code="access_denied"), KlingPermissionError),
            (Fault("submit", "error", status=400, code="invalid_request"), KlingValidationError),
            (Fault("submit", "error", status=429, code=1102), KlingBalanceError),
            (Fault("submit", "error", status=503, code="model_not_found"), KlingServerError),
            (Fault("submit", "error", status=503, code="system_cpu_overloaded"), KlingServerError),
            (Fault("submit", "error", status=500, body="upstream", code=1303), KlingRateLimitError),
            (Fault("submit", "error", status=404, body="html"), KlingNotFoundError),
            (Fault("submit", "error", status=429, body="empty"), KlingRateLimitError),
        ],
        ids=lambda value: value.__name__ if isinstance(value, type) else "",
    )
    def test_by_name(self, sandbox: Sandbox, hook: KlingHook, fault: Fault, kind: type[KlingError]) -> None:
        sandbox.add_fault(fault)
        with pytest.raises(kind) as caught:
            hook.submit_video(REQUEST)
        assert type(caught.value) is kind
        assert sandbox.requests["submit"] == 1
        assert sandbox.ledger() == []

    def test_a_wrong_key(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook]) -> None:
        with pytest.raises(KlingAuthenticationError, match="invalid API key"):
            hook_on(sandbox.base_url, "sk-wrong").submit_video(REQUEST)

    def test_retry_after_is_reported(self, sandbox: Sandbox, hook: KlingHook) -> None:
        sandbox.add_fault(Fault("submit", "rate_limit", headers={"Retry-After": "7"}))
        with pytest.raises(KlingRateLimitError) as caught:
            hook.submit_video(REQUEST)
        assert caught.value.retry_after == 7.0

    @pytest.mark.parametrize("status", [301, 307, 308])
    def test_a_redirect_is_explained_and_not_followed(
        self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], status: int
    ) -> None:
        with RawServer(
            http_response(status=status, Location=f"{sandbox.base_url}/v1/video/generations")
        ) as server:
            with pytest.raises(KlingNotFoundError, match=f"It redirects to {sandbox.base_url}"):
                hook_on(server.base_url).submit_video(REQUEST)
            assert server.connections == 1
        assert sandbox.requests["submit"] == 0

    @pytest.mark.parametrize("target", [b"http://[::1", b"http://h:99999/", b"\xff\xfe", b"", b"//", b"\x00"])
    def test_a_redirect_to_what_is_no_url_is_explained_too(
        self, hook_on: Callable[..., KlingHook], target: bytes
    ) -> None:
        with RawServer(b"HTTP/1.1 307 X\r\nConnection: close\r\nLocation: %s\r\n\r\n" % target) as server:
            with pytest.raises(KlingNotFoundError, match="It redirects to"):
                hook_on(server.base_url).submit_video(REQUEST)
            assert server.connections == 1


class TestASubmitThatSurelyNeverArrived:
    def test_a_port_without_a_server(self, hook_on: Callable[..., KlingHook]) -> None:
        with pytest.raises(KlingConnectionError, match="Connection refused"):
            hook_on(f"http://127.0.0.1:{free_port()}").submit_video(REQUEST)

    def test_a_name_that_does_not_resolve(self, hook_on: Callable[..., KlingHook]) -> None:
        with pytest.raises(KlingConnectionError, match=r"kling\.invalid"):
            hook_on("https://kling.invalid").submit_video(REQUEST)

    @pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "xn--a.example", "-.-"])
    def test_a_name_that_cannot_be_one(self, hook_on: Callable[..., KlingHook], host: str) -> None:
        with pytest.raises(KlingConnectionError):
            hook_on(f"https://{host}").submit_video(REQUEST)

    def test_a_server_that_does_not_take_the_connection(self, hook_on: Callable[..., KlingHook]) -> None:
        with FullBacklog() as server, pytest.raises(KlingConnectionError, match="[Tt]imed? ?out"):
            hook_on(f"http://127.0.0.1:{server.port}").submit_video(REQUEST)

    def test_addresses_that_are_all_dead(
        self, hook_on: Callable[..., KlingHook], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        started = time.monotonic()
        with FullBacklog() as server:
            dead = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [dead] * 8)
            with pytest.raises(KlingConnectionError):
                hook_on("http://kling.example.com").submit_video(REQUEST)
        assert time.monotonic() - started < 2

    def test_a_certificate_that_is_not_trusted(self, certificate: Path, hook_on: Callable[..., KlingHook]) -> None:
        with RawServer(ACCEPTED, tls=server_context(certificate)) as server:
            with pytest.raises(KlingConnectionError, match="certificate verify failed"):
                hook_on(server.base_url).submit_video(REQUEST)
            assert server.requests == []

    def test_a_certificate_of_another_name(self, certificate: Path, hook_on: Callable[..., KlingHook]) -> None:
        with RawServer(ACCEPTED, tls=server_context(certificate)) as server:
            hook = hook_on(f"https://localhost:{server.port}", verify=str(certificate))
            with pytest.raises(KlingConnectionError, match="not valid for 'localhost'"):
                hook.submit_video(REQUEST)
            assert server.requests == []

    def test_a_server_that_speaks_no_tls(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook]) -> None:
        with pytest.raises(KlingConnectionError, match="SSL"):
            hook_on(sandbox.base_url.replace("http:", "https:")).submit_video(REQUEST)

    def test_a_tls_handshake_that_never_ends(self, hook_on: Callable[..., KlingHook]) -> None:
        started = time.monotonic()
        with Silent() as server, pytest.raises(KlingConnectionError, match="[Tt]imed? ?out"):
            hook_on(f"https://127.0.0.1:{server.port}").submit_video(REQUEST)
        assert time.monotonic() - started < 4

    def test_a_machine_that_has_no_thread_left(
        self, sandbox: Sandbox, hook: KlingHook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(_: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr("threading.Thread.start", start)
            with pytest.raises(KlingConnectionError, match="could not be sent .*can't start new thread"):
                hook.submit_video(REQUEST)
        assert hook.submit_video(REQUEST).kling_task_id == sandbox.ledger()[0]["id"]
        assert len(sandbox.ledger()) == 1

    def test_a_ca_bundle_that_does_not_exist(self, hook_on: Callable[..., KlingHook]) -> None:
        with pytest.raises(KlingConnectionError, match="CA certificate bundle"):
            hook_on("https://127.0.0.1:1", verify="/nowhere/ca.pem").submit_video(REQUEST)

    def test_a_proxy_that_is_away(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook]) -> None:
        with pytest.raises(KlingConnectionError, match="proxy"):
            hook_on(sandbox.base_url, proxy=f"http://127.0.0.1:{free_port()}").submit_video(REQUEST)
        assert sandbox.requests["submit"] == 0

    @pytest.mark.parametrize("status", [403, 407, 502, 504])
    def test_a_proxy_that_does_not_open_a_tunnel(self, hook_on: Callable[..., KlingHook], status: int) -> None:
        with RawServer(http_response("<html>no</html>", status=status)) as proxy:
            with pytest.raises(KlingConnectionError, match="Tunnel connection failed"):
                hook_on("https://kling.example.com", proxy=proxy.base_url).submit_video(REQUEST)
            assert [request.line.split()[0] for request in proxy.requests] == ["CONNECT"]


class TestASubmitWhoseFateIsUnknown:
    """It was sent, and no id arrived: it may have been accepted and billed, so it is never sent again."""

    @pytest.mark.parametrize(
        ("fault", "accepted"),
        [
            (Fault("submit", "drop_after"), 1),
            (Fault("submit", "drop_before"), 0),
            (Fault("submit", "delay_after", seconds=1.5), 1),
            (Fault("submit", "delay_before", seconds=1.5), 1),
            (Fault("submit", "proxy_error"), 0),
            (Fault("submit", "proxy_error", accepted=True), 1),
            (Fault("submit", "proxy_error", status=504, accepted=True), 1),
            (Fault("submit", "proxy_error", status=503, accepted=True), 1),
            (Fault("submit", "error", status=500, body="empty", accepted=True), 1),
            (Fault("submit", "error", status=504, accepted=True), 1),
            # Under the official platform's own trouble (5000) a task may exist.
            (Fault("submit", "error", status=500, body="upstream"), 0),
            (Fault("submit", "error", status=500, body="upstream", accepted=True), 1),
            (Fault("submit", "error", status=500, code="insert_task_failed", accepted=True), 1),
            (Fault("submit", "error", status=500, body="flat", message="socket hang up", accepted=True), 1),
            (Fault("submit", "error", status=408, accepted=True), 1),
            (Fault("submit", "broken_json"), 1),
            (Fault("submit", "empty_body"), 1),
            (Fault("submit", "missing_fields"), 1),
            (Fault("submit", "wrong_types"), 1),
            (Fault("submit", "truncate"), 1),
            (Fault("submit", "huge_body", size=4 << 20), 1),
            (Fault("submit", "gzip_bomb", size=4 << 20), 1),
            (Fault("submit", "slow_drip", seconds=30.0), 1),
            (Fault("submit", "error", status=200, body="<html>Welcome</html>", accepted=True), 1),
        ],
        ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else "",
    )
    def test_it_is_sent_once_and_called_uncertain(
        self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], fault: Fault, accepted: int
    ) -> None:
        sandbox.add_fault(fault)
        hook = hook_on(sandbox.base_url, sandbox.api_key)
        started = time.monotonic()
        with pytest.raises(KlingUncertainSubmissionError) as caught:
            hook.submit_video(REQUEST)
        assert time.monotonic() - started < 3
        assert not caught.value.retryable
        assert "not sent again automatically" in str(caught.value)
        sandbox.wait_for("accepted", accepted)
        assert sandbox.requests["submit"] == 1

    @pytest.mark.parametrize(
        "respond",
        [
            lambda connection, request: reset(connection),
            lambda connection, request: None,
            lambda connection, request: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-"),
            lambda connection, request: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
            lambda connection, request: connection.sendall(b"hello\r\n\r\n"),
            lambda connection, request: connection.sendall(b"\x00\xff" * 50),
            lambda connection, request: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
            lambda connection, request: connection.sendall(
                b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n"
            ),
            lambda connection, request: connection.sendall(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"
            ),
            lambda connection, request: connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"
            ),
            lambda connection, request: connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 3),
        ],
        ids=[
            "reset",
            "closed",
            "cut in a header",
            "cut in the body",
            "no http",
            "binary",
            "too many headers",
            "too long a header",
            "broken chunks",
            "broken gzip",
            "nothing but continue",
        ],
    )
    def test_whatever_breaks_after_the_sending(
        self, hook_on: Callable[..., KlingHook], respond: Callable[[socket.socket, Request], None]
    ) -> None:
        with RawServer(respond) as server:
            with pytest.raises(KlingUncertainSubmissionError):
                hook_on(server.base_url).submit_video(REQUEST)
            assert server.connections == 1

    def test_a_server_that_answers_and_cuts_while_the_request_is_still_being_sent(
        self, hook_on: Callable[..., KlingHook]
    ) -> None:
        long = VideoRequest.build(model="kling-v3-std-silent", prompt="x" * 8_000_000)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            hook = hook_on(f"http://127.0.0.1:{listening.getsockname()[1]}", read_timeout=5)
            import threading

            def cut() -> None:
                connection, _ = listening.accept()
                connection.recv(1000)
                reset(connection)

            thread = threading.Thread(target=cut)
            thread.start()
            with pytest.raises(KlingUncertainSubmissionError):
                hook.submit_video(long)
            thread.join()

    def test_after_idling_a_submit_is_not_sent_over_a_dead_connection(
        self, sandbox: Sandbox, hook: KlingHook
    ) -> None:
        hook.submit_video(REQUEST)
        hook.get_video(sandbox.ledger()[0]["id"])
        sandbox.stop()
        sandbox.start()
        assert hook.submit_video(REQUEST).kling_task_id
        assert len(sandbox.ledger()) == 2


@pytest.mark.asyncio
async def test_a_status_check_without_blocking_the_loop(hook: KlingHook) -> None:
    job = hook.submit_video(REQUEST)
    assert (await hook.aget_video(job.kling_task_id)).status == "completed"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=RAW_RESPONSES)
def test_no_bytes_at_all_from_a_server_end_in_anything_but_a_named_error(
    raw: bytes, hook_on: Callable[..., KlingHook]
) -> None:
    with RawServer(raw) as server:
        hook = hook_on(server.base_url, connect_timeout=5, read_timeout=2)
        for call in (lambda: hook.submit_video(REQUEST), lambda: hook.get_video("task_1")):
            try:
                call()
            except KlingError as error:
                assert str(error)
        assert hook.test_connection()[1]
        assert [request.line[:4] for request in server.requests].count("POST") == 1


class TestWaiting:
    def test_a_video_that_takes_a_while(self, sandbox: Sandbox, hook: KlingHook) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=1.5))
        job = hook.submit_video(REQUEST)
        now = time.time()
        video = hook.wait_for_video(job.kling_task_id, started_at=now, deadline=now + 10, poll_interval=0.1)
        assert (video["status"], video["kling_task_id"]) == ("completed", job.kling_task_id)
        assert sandbox.requests["status"] >= 3

    def test_a_video_that_fails(self, sandbox: Sandbox, hook: KlingHook) -> None:
        sandbox.add_fault(Fault("submit", "job_fails", message="out of memory"))
        job = hook.submit_video(REQUEST)
        now = time.time()
        with pytest.raises(KlingGenerationFailedError, match="out of memory"):
            hook.wait_for_video(job.kling_task_id, started_at=now, deadline=now + 10, poll_interval=0.1)

    def test_a_video_that_never_comes(self, sandbox: Sandbox, hook: KlingHook) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        job = hook.submit_video(REQUEST)
        now = time.time()
        with pytest.raises(KlingTimeoutError, match=job.kling_task_id):
            hook.wait_for_video(job.kling_task_id, started_at=now, deadline=now + 0.3, poll_interval=0.1)

    def test_progress_is_logged(self, sandbox: Sandbox, hook: KlingHook, task_log: TaskLog) -> None:
        job = hook.submit_video(REQUEST)
        hook.wait_for_video(
            job.kling_task_id, started_at=time.time(), deadline=time.time() + 10, poll_interval=0.1
        )
        assert f"Finished after 0 s ({job.kling_task_id})" in task_log.text


class TestAClockThatIsSetWhileAVideoIsWaitedFor:
    """The wait lasts as long as it was meant to, whatever the system's clock says meanwhile."""

    @pytest.mark.parametrize("off", [86400.0, -86400.0])
    def test_ends_no_wait(
        self, hook_on: Callable[..., KlingHook], set_clock: Callable[[float], None], off: float
    ) -> None:
        def respond(connection: socket.socket, request: Request) -> None:
            set_clock(off)
            connection.sendall(COMPLETED if len(server.requests) > 2 else RUNNING)

        now = time.time()
        with RawServer(respond) as server:
            hook = hook_on(server.base_url)
            video = hook.wait_for_video("task_1", started_at=now, deadline=now + 10, poll_interval=0.1)
        assert video["status"] == "completed"

    @pytest.mark.parametrize("off", [86400.0, -86400.0])
    def test_prolongs_none(
        self, hook_on: Callable[..., KlingHook], set_clock: Callable[[float], None], off: float
    ) -> None:
        def respond(connection: socket.socket, request: Request) -> None:
            set_clock(off)
            connection.sendall(COMPLETED if len(server.requests) > 20 else RUNNING)

        now = time.time()
        with RawServer(respond) as server:
            hook = hook_on(server.base_url)
            with pytest.raises(KlingTimeoutError, match="at the deadline"):
                hook.wait_for_video("task_1", started_at=now, deadline=now + 0.5, poll_interval=0.1)


class TestConnectionTest:
    def test_a_good_key(self, sandbox: Sandbox, hook: KlingHook) -> None:
        assert hook.test_connection() == (True, "Connected: the API responds, and accepts the key.")
        assert sandbox.requests == {"submit": 0, "status": 0, "probe": 1, "content": 0, "accepted": 0}

    def test_a_bad_key(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook]) -> None:
        works, words = hook_on(sandbox.base_url, "sk-wrong").test_connection()
        assert not works
        assert "rejects the key" in words
        assert "sk-wrong" not in words

    def test_no_key(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook]) -> None:
        works, words = hook_on(sandbox.base_url, "").test_connection()
        assert not works
        assert words.startswith("The Airflow connection cannot be used:\n  - API key (password) is empty")

    def test_a_wrong_port(self, hook_on: Callable[..., KlingHook]) -> None:
        works, words = hook_on(f"http://127.0.0.1:{free_port()}").test_connection()
        assert not works
        assert "Connection refused" in words
        assert "Check the Base URL of the Airflow connection, DNS" in words

    def test_a_wrong_name(self, hook_on: Callable[..., KlingHook]) -> None:
        works, words = hook_on("kling.invalid").test_connection()
        assert not works
        assert "kling.invalid" in words

    def test_a_wrong_path(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook]) -> None:
        works, words = hook_on(f"{sandbox.base_url}/api", sandbox.api_key).test_connection()
        assert not works
        assert "not as this API (HTTP 404): check Base URL (host, port and path) and API" in words

    @pytest.mark.parametrize(
        "foreign",
        [
            http_response("<html>Not Found</html>", 404),
            http_response("<html>Welcome to nginx</html>"),
            http_response('{"detail": "Not Found"}', 404),
            http_response('{"swagger": "2.0"}'),
            http_response("", 204),
            http_response("<html>Bad Gateway</html>", 502),
            http_response(status=301, Location="https://www.example.com/"),
        ],
        ids=["html 404", "html 200", "json 404", "json 200", "empty", "html 502", "redirect"],
    )
    def test_a_server_that_is_not_this_api(self, hook_on: Callable[..., KlingHook], foreign: bytes) -> None:
        with RawServer(foreign) as server:
            works, words = hook_on(server.base_url).test_connection()
        assert not works
        assert "not as this API" in words


def test_a_gateway_knows_neither_lost_submits_nor_the_account(connected: str) -> None:
    hook = KlingHook(connected)
    with pytest.raises(KlingError, match="A gateway keeps no client tokens"):
        hook.find_video("a-token")
    assert hook.account() is None
