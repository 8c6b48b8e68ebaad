# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import io
import json
import socket
import time
import traceback
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from airflow_provider_kling.exceptions import (
    KlingAddressRefusedError,
    KlingConnectionError,
    KlingDownloadError,
    KlingError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.media.download import EXPIRED_STATUSES, MAX_REDIRECTS, download
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.fixtures.requests import REQUEST
from tests.fixtures.responses import KEY, RAW_RESPONSES
from tests.fixtures.videos import BOXES, MP4, VIDEO
from tests.raw_server import FullBacklog, RawServer, Request, free_port, http_response, reset
from tests.tls import server_context


@pytest.fixture
def hook(hook_on: Callable[..., KlingHook]) -> KlingHook:
    """A hook on an API that is of no interest, which may fetch from this machine."""
    return hook_on("https://api.example.com", private_hosts="127.0.0.1:*, localhost:*")


Lead = Callable[..., None]


@pytest.fixture
def lead(monkeypatch: pytest.MonkeyPatch) -> Lead:
    """A function that has a name lead to some addresses, or to none."""
    real, hosts = socket.getaddrinfo, {}

    def look_up(host: str, port: int, *rest: int) -> list[Any]:
        if host not in hosts:
            return real(host, port, *rest)
        if not hosts[host]:
            raise socket.gaierror("unknown here")
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in hosts[host]]
        return [
            (family, socket.SOCK_STREAM, 0, "", (address, port))
            for family, address in zip(families, hosts[host], strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return lambda name, *addresses: hosts.update({name: addresses})


def fetch(hook: KlingHook, url: str, seconds: float = 5.0) -> bytes:
    sink = io.BytesIO()
    size = download(hook.client, url, sink, seconds=seconds).size_bytes
    assert size == len(sink.getvalue())
    return sink.getvalue()


class TestAVideo:
    def test_of_the_api_arrives_whole(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook]) -> None:
        hook = hook_on(sandbox.base_url, sandbox.api_key, read_timeout=30)
        job = hook.get_video(hook.submit_video(REQUEST).kling_task_id)
        video = fetch(hook, str(job.video_url), 60)
        assert video[4:8] == b"ftyp"
        assert len(video) > 10_000
        assert sandbox.requests["content"] == 1

    def test_behind_the_key_arrives_whole(self, hook_on: Callable[..., KlingHook], rendered: Path) -> None:
        with Sandbox(run_seconds=0, dialect="gateway", cache_dir=rendered) as sandbox:
            hook = hook_on(sandbox.base_url, sandbox.api_key, read_timeout=30)
            job = hook.get_video(hook.submit_video(REQUEST).kling_task_id)
            assert str(job.video_url).endswith("/content")
            assert fetch(hook, str(job.video_url), 60)[4:8] == b"ftyp"

    @pytest.mark.parametrize(
        "head",
        [b"\x00\x00\x00\x20ftypisom", b"\x00\x00\x00\x08free\x00\x00\x00\x08mdat", b"\x1a\x45\xdf\xa3webm    "],
    )
    @pytest.mark.parametrize("length", [None, -1])
    def test_of_every_kind_is_one(self, hook: KlingHook, head: bytes, length: int | None) -> None:
        with RawServer(http_response(head + bytes(500), length=length)) as server:
            assert fetch(hook, f"{server.base_url}/x.mp4") == head + bytes(500)

    def test_in_chunks_arrives_whole(self, hook: KlingHook) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        for start in range(0, len(MP4), 5):  # so that not even its first bytes come together
            piece = MP4[start : start + 5]
            chunked += b"%x\r\n%s\r\n" % (len(piece), piece)
        with RawServer(chunked + b"0\r\n\r\n") as server:
            assert fetch(hook, server.base_url) == MP4

    @pytest.mark.parametrize("url", ["/files/x.mp4", "files/x.mp4"])
    def test_under_a_url_without_a_host_lies_on_the_connections(
        self, hook_on: Callable[..., KlingHook], url: str
    ) -> None:
        with RawServer(VIDEO) as server:
            assert fetch(hook_on(server.base_url), url) == MP4
            assert server.requests[0].path == "/files/x.mp4"

    def test_of_any_size_takes_little_memory(self, hook: KlingHook) -> None:
        block = bytes(1 << 20)

        def pour(connection: socket.socket, request: Request) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(MP4) + 96 * len(block)))
            connection.sendall(MP4)
            for _ in range(96):
                connection.sendall(block)

        class Nowhere:
            def write(self, data: bytes, /) -> None:
                """Keep nothing."""

        with RawServer(pour) as server:
            tracemalloc.start()
            try:
                size = download(hook.client, server.base_url, Nowhere(), seconds=30).size_bytes
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert size == len(MP4) + (96 << 20)
        assert peak < 8 << 20


class TestWhereTheKeyGoes:
    def test_to_the_connections_own_host(self, hook_on: Callable[..., KlingHook]) -> None:
        with RawServer(VIDEO) as server:
            fetch(hook_on(server.base_url), f"{server.base_url}/x.mp4")
            assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"

    def test_not_to_another_port(self, hook_on: Callable[..., KlingHook]) -> None:
        with RawServer(VIDEO) as api, RawServer(VIDEO) as other:
            fetch(hook_on(api.base_url, private_hosts="127.0.0.1:*"), f"{other.base_url}/x.mp4")
            assert "Authorization" not in other.requests[0].headers

    def test_not_along_a_redirect_to_another_host(self, hook_on: Callable[..., KlingHook]) -> None:
        with (
            RawServer(VIDEO) as other,
            RawServer(http_response(status=302, Location=f"{other.base_url}/x.mp4")) as api,
        ):
            assert fetch(hook_on(api.base_url, private_hosts="127.0.0.1:*"), f"{api.base_url}/content") == MP4
            assert "Authorization" in api.requests[0].headers
            assert "Authorization" not in other.requests[0].headers

    def test_along_a_redirect_back_to_its_own_host(self, hook_on: Callable[..., KlingHook]) -> None:
        with (
            RawServer(VIDEO) as api,
            RawServer(http_response(status=307, Location=f"{api.base_url}/x.mp4")) as other,
        ):
            assert fetch(hook_on(api.base_url, private_hosts="127.0.0.1:*"), f"{other.base_url}/x") == MP4
            assert "Authorization" not in other.requests[0].headers
            assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize(
        "spell",
        ["http://127.0.0.1:{own}@127.0.0.1:{other}/x", "http://127.0.0.1:{other}\\@127.0.0.1:{own}/x"],
    )
    def test_not_by_a_trick_in_the_url(self, hook_on: Callable[..., KlingHook], spell: str) -> None:
        with RawServer(VIDEO) as api, RawServer(VIDEO) as other:
            with suppress(KlingError):
                fetch(
                    hook_on(api.base_url, private_hosts="127.0.0.1:*"),
                    spell.format(own=api.port, other=other.port),
                )
            assert all(KEY not in str(request.headers) for request in other.requests)

    @pytest.mark.parametrize("private_hosts", ["", "cdn.example.com"], ids=["stranger", "private host"])
    def test_nor_does_a_netrc(
        self,
        hook_on: Callable[..., KlingHook],
        private_hosts: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login user password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        with RawServer(VIDEO) as proxy:
            hook = hook_on("https://api.example.com", proxy=proxy.base_url, private_hosts=private_hosts)
            assert fetch(hook, "http://cdn.example.com/x.mp4") == MP4
            assert proxy.requests[0].line == "GET http://cdn.example.com/x.mp4 HTTP/1.1"
            assert "Authorization" not in proxy.requests[0].headers

    def test_the_signature_of_a_link_stands_in_no_error(self, hook: KlingHook) -> None:
        with RawServer(http_response("denied", 403)) as server, pytest.raises(KlingDownloadError) as caught:
            fetch(hook, f"{server.base_url}/x.mp4?X-Signature=s3cr3t")
        assert "s3cr3t" not in str(caught.value)

    @pytest.mark.parametrize(
        "query",
        [
            "X-Signature=s3cr3t",
            "ä=1&X=s3cr3t",
            "a b&X=s3cr3t",
            "{x}&X=s3cr3t",
            "?X=s3cr3t#s3cr3t",
        ],
    )
    @pytest.mark.parametrize("where", ["127.0.0.1:{port}", "[::1", "127.0.0.1:99999", "a..b", "%31"])
    def test_not_even_if_the_connection_breaks(self, hook: KlingHook, query: str, where: str) -> None:
        url = f"http://user:s3cr3t@{where.format(port=free_port())}/x.mp4?{query}"
        with pytest.raises(KlingError) as caught:
            fetch(hook, url)
        assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))

    def test_nor_does_the_password_of_one(self, hook: KlingHook) -> None:
        with RawServer(http_response("denied", 403)) as server, pytest.raises(KlingDownloadError) as caught:
            fetch(hook, f"http://user:s3cr3t@127.0.0.1:{server.port}/@x.mp4")
        assert f"http://127.0.0.1:{server.port}/@x.mp4" in str(caught.value)
        assert "s3cr3t" not in str(caught.value)


class TestAddressesInsideThisNetwork:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"]
    )
    def test_are_refused_before_a_request(self, hook_on: Callable[..., KlingHook], host: str) -> None:
        with RawServer(VIDEO) as server:
            with pytest.raises(KlingAddressRefusedError, match="inside this network") as caught:
                fetch(hook_on("https://api.example.com"), f"http://{host}:{server.port}/latest/meta-data")
            assert server.connections == 0
        assert not caught.value.retryable
        assert "private_hosts" in str(caught.value)

    @pytest.mark.parametrize(
        "spell",
        [
            "http://127.0.0.1:{port}\\@api.example.com:{port}/latest",
            "http://127.0.0.1:{port}\\.api.example.com/latest",
            "http://api.example.com@127.0.0.1:{port}/latest",
            "http://api.example.com:{port}@127.0.0.1:{port}/latest",
            " http://127.0.0.1:{port}\t\\@api.example.com:{port}/latest",
        ],
    )
    def test_are_not_taken_for_the_connections_own_host(
        self, hook_on: Callable[..., KlingHook], lead: Lead, spell: str
    ) -> None:
        lead("api.example.com", "127.0.0.1")
        with RawServer(VIDEO) as inside:
            hook = hook_on(f"http://api.example.com:{inside.port}")
            assert fetch(hook, "/own") == MP4
            with pytest.raises(KlingAddressRefusedError):
                fetch(hook, spell.format(port=inside.port))
            assert inside.connections == 1

    def test_nor_along_a_redirect(self, hook_on: Callable[..., KlingHook]) -> None:
        def redirect(connection: socket.socket, request: Request) -> None:
            where = f"http://127.0.0.1:{inside.port}\\@127.0.0.1:{api.port}/latest"
            connection.sendall(http_response(status=302, Location=where))

        with RawServer(VIDEO) as inside, RawServer(redirect) as api:
            with pytest.raises(KlingAddressRefusedError):
                fetch(hook_on(api.base_url), "/content")
            assert inside.connections == 0

    def test_are_refused_even_without_a_server(self, hook_on: Callable[..., KlingHook]) -> None:
        with pytest.raises(KlingAddressRefusedError):
            fetch(hook_on("https://api.example.com"), f"http://127.0.0.1:{free_port()}/x.mp4")

    @pytest.mark.parametrize(
        "address",
        [
            "10.0.0.1",
            "169.254.169.254",
            "fe80::1%eth0",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "fec0::1",
            "168.63.129.16",
            "192.0.0.192",
            "100.100.100.200",
            "192.88.99.1",
            "fd00:ec2::254",
            "2001:0:7f00:1::",
            "unknown",
        ],
    )
    def test_are_refused_if_only_the_name_leads_there(
        self, hook_on: Callable[..., KlingHook], lead: Lead, address: str
    ) -> None:
        lead("cdn.example.com", "93.184.216.34", address)
        with pytest.raises(KlingAddressRefusedError, match=f"leads to cdn.example.com, which is {address}"):
            fetch(hook_on("https://api.example.com"), "http://cdn.example.com/x.mp4")

    def test_are_refused_along_a_redirect_too(self, hook_on: Callable[..., KlingHook]) -> None:
        with (
            RawServer(VIDEO) as inside,
            RawServer(http_response(status=302, Location=f"http://127.0.0.1:{inside.port}/x")) as api,
        ):
            with pytest.raises(KlingAddressRefusedError):
                fetch(hook_on(api.base_url), f"{api.base_url}/content")
            assert inside.requests == []

    def test_over_tls_too(self, hook_on: Callable[..., KlingHook], certificate: Path) -> None:
        with RawServer(VIDEO, tls=server_context(certificate)) as server:
            with pytest.raises(KlingAddressRefusedError):
                fetch(hook_on("https://api.example.com", verify=str(certificate)), server.base_url)
            assert server.requests == []

    @pytest.mark.parametrize(
        "allowed", ["127.0.0.1:{port}", "nas.local, http://127.0.0.1:{port}", "127.0.0.1:*", ["127.0.0.1:{port}"]]
    )
    def test_are_fine_where_the_connection_names_them(
        self, hook_on: Callable[..., KlingHook], allowed: Any
    ) -> None:
        with RawServer(VIDEO) as server:
            allowed = json.loads(json.dumps(allowed).replace("{port}", str(server.port)))
            assert fetch(hook_on("https://api.example.com", private_hosts=allowed), server.base_url) == MP4

    @pytest.mark.parametrize(
        "allowed", ["127.0.0.1", "https://127.0.0.1:{port}", "http://127.0.0.1", "localhost:*"]
    )
    def test_are_refused_at_another_port_than_the_connection_names(
        self, hook_on: Callable[..., KlingHook], allowed: str
    ) -> None:
        with RawServer(VIDEO) as server:
            hook = hook_on("https://api.example.com", private_hosts=allowed.format(port=server.port))
            with pytest.raises(KlingAddressRefusedError, match=f"add 127.0.0.1:{server.port} to") as caught:
                fetch(hook, server.base_url)
            assert server.connections == 0
        assert "private_hosts" in str(caught.value)

    def test_are_fine_through_a_proxy_where_the_connection_names_them(
        self, hook_on: Callable[..., KlingHook]
    ) -> None:
        with RawServer(VIDEO) as proxy:
            hook = hook_on("https://api.example.com", proxy=proxy.base_url, private_hosts="nas.local")
            assert fetch(hook, "http://nas.local/x.mp4") == MP4
            assert proxy.requests[0].line == "GET http://nas.local/x.mp4 HTTP/1.1"

    @pytest.mark.parametrize("whose", ["the connection's", "the environment's"])
    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/latest",
            "http://localhost/x",
            "http://127.1/x",
            "http://%31%36%39.254.169.254/latest",
            "http://[::ffff:10.0.0.1]/x",
            "https://metadata.google.internal./x",
            "https://nas/x",
        ],
    )
    def test_are_not_requested_through_a_proxy(
        self, hook_on: Callable[..., KlingHook], monkeypatch: pytest.MonkeyPatch, url: str, whose: str
    ) -> None:
        with RawServer(VIDEO) as proxy:
            for name in ("http_proxy", "https_proxy"):
                monkeypatch.setenv(name, proxy.base_url if whose == "the environment's" else "")
            hook = hook_on(
                "https://api.example.com", proxy=proxy.base_url if whose == "the connection's" else None
            )
            with pytest.raises((KlingAddressRefusedError, KlingDownloadError)):
                fetch(hook, url)
            assert proxy.connections == 0

    def test_nor_are_names_that_resolve_to_one_here(self, hook_on: Callable[..., KlingHook], lead: Lead) -> None:
        lead("cdn.example.com", "10.0.0.1")
        with RawServer(VIDEO) as proxy:
            with pytest.raises(KlingAddressRefusedError):
                fetch(hook_on("https://api.example.com", proxy=proxy.base_url), "http://cdn.example.com/x.mp4")
            assert proxy.connections == 0

    def test_names_that_only_the_proxy_can_resolve_are_not_checked(
        self, hook_on: Callable[..., KlingHook], lead: Lead
    ) -> None:
        lead("cdn.example.com")
        with RawServer(VIDEO) as proxy:
            hook = hook_on("https://api.example.com", proxy=proxy.base_url)
            assert fetch(hook, "http://cdn.example.com/x.mp4") == MP4

    def test_are_fine_where_they_are_the_connections_own(self, hook_on: Callable[..., KlingHook]) -> None:
        with RawServer(VIDEO) as server:
            assert fetch(hook_on(server.base_url), server.base_url) == MP4


HOSTS = st.sampled_from(["127.0.0.1", "api.example.com", "[::1]", ""])
BETWEEN = st.lists(
    st.sampled_from([*":/\\@?#.[]。／＠℀x\t\n \0", "http://", ":80", "//", "%5c", "%40", "%2f"]), max_size=4
).map("".join)


@given(url=st.builds("http://{}{}{}{}{}".format, HOSTS, BETWEEN, HOSTS, BETWEEN, HOSTS))
@example(url="http://127.0.0.1\\@api.example.com")
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_unchecked_host_is_the_connections_own(url: str, hook_on: Callable[..., KlingHook]) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))]

    with RawServer(VIDEO) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        hook = hook_on("http://api.example.com")
        with suppress(KlingError):
            assert fetch(hook, url) == MP4
        assert server.connections == 0 or asked == ["api.example.com"]


class TestWhatIsNoVideo:
    @pytest.mark.parametrize(
        "body",
        [
            b"<!DOCTYPE html><h1>Link expired</h1>",
            b'{"error": "gone"}',
            b"",
            b"\x00" * 11,
            b"GIF89a" + bytes(50),
            MP4[:11],
        ],
        ids=["html", "json", "empty", "short", "gif", "half a head"],
    )
    @pytest.mark.parametrize("length", [None, -1])
    def test_is_refused(self, hook: KlingHook, body: bytes, length: int | None) -> None:
        with RawServer(http_response(body, length=length, Content_Type="video/mp4")) as server:
            with pytest.raises(KlingDownloadError, match=r"is not a video \(video/mp4\)") as caught:
                fetch(hook, server.base_url)
            assert caught.value.http_status == 200

    @pytest.mark.parametrize("length", [None, -1])
    def test_its_message_is_reported(self, hook_on: Callable[..., KlingHook], length: int | None) -> None:
        body = f'{{"error": {{"message": "链接已过期",\n "key": "{KEY}"}}}}'
        with (
            RawServer(http_response(body, length=length, Content_Type="application/json")) as server,
            pytest.raises(KlingDownloadError, match=r"is not a video \(application/json\)") as caught,
        ):
            fetch(hook_on(server.base_url), server.base_url)
        assert "链接已过期" in (caught.value.server_message or "")
        assert KEY not in str(caught.value)

    def test_its_message_is_reported_though_it_does_not_end(self, hook: KlingHook) -> None:
        def stall(connection: socket.socket, request: Request) -> None:
            connection.sendall(http_response('{"error": "gone"}', length=1000))
            server.stopping.wait(10)

        with RawServer(stall) as server, pytest.raises(KlingDownloadError) as caught:
            fetch(hook, server.base_url)
        assert caught.value.server_message == '{"error": "gone"}'

    @pytest.mark.parametrize("body", [b"GIF89a" + bytes(50), gzip.compress(bytes(9000))], ids=["GIF", "gzip"])
    def test_what_is_no_text_is_not_shown(self, hook: KlingHook, body: bytes) -> None:
        with RawServer(http_response(body)) as server, pytest.raises(KlingDownloadError) as caught:
            fetch(hook, server.base_url)
        assert caught.value.server_message is None

    @pytest.mark.parametrize(
        "raw",
        [
            http_response("no video at all", Content_Type="\x1b[2J\x1b[1;31mvideo/mp4" + "x" * 9000),
            http_response("no video at all", Content_Type="video/mp4\r\n INFO - a line of its own"),
            http_response(status=302, Location="ftp://\x1b[2J/x"),
        ],
        ids=["escapes", "folded", "redirect"],
    )
    def test_no_header_of_it_writes_anything_but_text_of_one_line(self, hook: KlingHook, raw: bytes) -> None:
        with RawServer(raw) as server, pytest.raises(KlingDownloadError) as caught:
            fetch(hook, server.base_url)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500

    def test_nothing_of_it_is_written(self, hook: KlingHook) -> None:
        sink = io.BytesIO()
        with RawServer(http_response("<html>" + "x" * 5000)) as server, pytest.raises(KlingDownloadError):
            download(hook.client, server.base_url, sink, seconds=5)
        assert sink.getvalue() == b""

    def test_a_compressed_one_is_not_unpacked(self, hook: KlingHook) -> None:
        bomb = gzip.compress(MP4 + bytes(10 << 20))
        with RawServer(http_response(bomb, Content_Encoding="gzip")) as server:
            with pytest.raises(KlingDownloadError, match="is not a video"):
                fetch(hook, server.base_url)
            assert server.requests[0].headers["Accept-Encoding"] == "identity"


class TestWhatIsNotReached:
    def test_a_certificate_that_is_not_trusted(self, hook: KlingHook, certificate: Path) -> None:
        with RawServer(VIDEO, tls=server_context(certificate)) as server:
            with pytest.raises(KlingConnectionError, match="certificate verify failed"):
                fetch(hook, server.base_url)
            assert server.requests == []

    @pytest.mark.parametrize("whose", ["the connection's", "a stranger's"])
    def test_a_certificate_of_another_name(
        self, hook_on: Callable[..., KlingHook], certificate: Path, whose: str
    ) -> None:
        with RawServer(VIDEO, tls=server_context(certificate)) as server:
            url = f"https://localhost:{server.port}"
            base_url = url if whose == "the connection's" else "https://api.example.com"
            hook = hook_on(base_url, verify=str(certificate), private_hosts="localhost:*")
            with pytest.raises(KlingConnectionError, match="not valid for 'localhost'"):
                fetch(hook, f"{url}/x.mp4")
            assert server.requests == []

    @pytest.mark.alone
    def test_dead_addresses_take_no_longer_than_the_download_may(
        self, hook_on: Callable[..., KlingHook], lead: Lead
    ) -> None:
        lead("cdn.example.com", *["127.0.0.1"] * 8)
        hook = hook_on("https://api.example.com", private_hosts="cdn.example.com:*")
        started = time.monotonic()
        with FullBacklog() as server, pytest.raises(KlingConnectionError, match="was interrupted"):
            fetch(hook, f"http://cdn.example.com:{server.port}/x.mp4", 0.8)
        assert time.monotonic() - started < 1.5

    @pytest.mark.parametrize("dead", ["127.0.0.2", "::1"])
    def test_a_dead_address_does_not_hide_the_next(
        self, hook_on: Callable[..., KlingHook], lead: Lead, dead: str
    ) -> None:
        lead("cdn.example.com", dead, "127.0.0.1")
        with RawServer(VIDEO) as server:
            hook = hook_on("https://api.example.com", private_hosts="cdn.example.com:*")
            assert fetch(hook, f"http://cdn.example.com:{server.port}/x.mp4") == MP4


class TestWhatDoesNotArriveWhole:
    @pytest.mark.parametrize("fault", ["truncate", "drop_before", "drop_after"])
    def test_a_cut_connection(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], fault: str) -> None:
        hook = hook_on(sandbox.base_url, sandbox.api_key, read_timeout=30)
        job = hook.get_video(hook.submit_video(REQUEST).kling_task_id)
        sandbox.add_fault(Fault("content", fault))
        with pytest.raises(KlingConnectionError, match="was interrupted"):
            fetch(hook, str(job.video_url), 60)

    @pytest.mark.parametrize(
        "cut",
        [
            http_response(MP4, length=len(MP4) + 1),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(MP4), MP4),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + MP4,
            b"",
        ],
        ids=["short", "no last chunk", "short chunk", "nothing"],
    )
    def test_a_body_shorter_than_announced(self, hook: KlingHook, cut: bytes) -> None:
        with RawServer(cut) as server, pytest.raises(KlingConnectionError):
            fetch(hook, server.base_url)

    @pytest.mark.parametrize("size", [b"\x00\x98\x96\x80", b"\x00\x00\x00\x01"], ids=["32 bits", "64 bits"])
    @pytest.mark.parametrize("tls", [False, True])
    def test_a_file_of_unknown_length_that_ends_inside_a_box(
        self, hook_on: Callable[..., KlingHook], certificate: Path, tls: bool, size: bytes
    ) -> None:
        cut = b"\x00\x00\x00\x10ftypisom\0\0\2\0" + size + b"mdat" + (10**7).to_bytes(8) + bytes(1000)
        hook = hook_on("https://api.example.com", private_hosts="127.0.0.1:*", verify=str(certificate))
        with (
            RawServer(http_response(cut, length=-1), tls=server_context(certificate) if tls else None) as server,
            pytest.raises(KlingConnectionError, match="in the middle of a box"),
        ):
            fetch(hook, server.base_url)

    @pytest.mark.parametrize("cut", [1, 500, 1000])
    def test_a_file_that_ends_inside_a_box_though_it_came_in_chunks(self, hook: KlingHook, cut: int) -> None:
        file = BOXES[:-cut]
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(file), file)
        with RawServer(chunked) as server, pytest.raises(KlingConnectionError, match="in the middle of a box"):
            fetch(hook, server.base_url)

    @pytest.mark.parametrize("cut", [1, 500, 1000])
    def test_a_file_that_ends_inside_a_box_though_all_that_was_announced_came(
        self, hook: KlingHook, cut: int
    ) -> None:
        file = http_response(BOXES[:-cut])
        with RawServer(file) as server, pytest.raises(KlingDownloadError, match="end in the middle of a box"):
            fetch(hook, server.base_url)

    @pytest.mark.parametrize(
        ("length", "kind"), [(None, KlingDownloadError), (-1, KlingConnectionError)], ids=["announced", "unknown"]
    )
    def test_a_file_that_ends_before_its_moov(
        self, hook: KlingHook, length: int | None, kind: type[KlingError]
    ) -> None:
        """Many encoders write it last, and a connection may break right before it."""
        file = BOXES[:16] + BOXES[32:]
        with (
            RawServer(http_response(file, length=length)) as server,
            pytest.raises(kind, match="without the box moov"),
        ):
            fetch(hook, server.base_url)

    def test_a_file_with_something_else_behind_its_boxes_is_whole(self, hook: KlingHook) -> None:
        file = BOXES + b"\xff\xfe\x01\x02\x03\x04\x05\x06\x07"
        with RawServer(http_response(file)) as server:
            assert fetch(hook, server.base_url) == file

    def test_an_answer_cut_in_its_headers_is_no_video(self, hook: KlingHook) -> None:
        with RawServer(b"HTTP/1.1 200 OK\r\nContent-Le") as server, pytest.raises(KlingDownloadError):
            fetch(hook, server.base_url)

    @pytest.mark.parametrize("tls", [False, True])
    @pytest.mark.parametrize(
        "sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", VIDEO[:-9]], ids=["nothing", "head", "body"]
    )
    def test_a_connection_that_is_reset(
        self, hook_on: Callable[..., KlingHook], certificate: Path, sent: bytes, tls: bool
    ) -> None:
        def cut(connection: socket.socket, request: Request) -> None:
            connection.sendall(sent)
            reset(connection)

        hook = hook_on("https://api.example.com", private_hosts="127.0.0.1:*", verify=str(certificate))
        with RawServer(cut, tls=server_context(certificate) if tls else None) as server:
            with pytest.raises((KlingConnectionError, KlingDownloadError)) as caught:
                fetch(hook, server.base_url)
            assert caught.value.retryable

    @pytest.mark.parametrize("off", [86400.0, -86400.0])
    @pytest.mark.parametrize("whole", [True, False])
    def test_a_clock_that_is_set_neither_ends_nor_prolongs_it(
        self, hook: KlingHook, set_clock: Callable[[float], None], off: float, whole: bool
    ) -> None:
        def drip(connection: socket.socket, request: Request) -> None:
            if request.path == "/":
                set_clock(off)
                connection.sendall(http_response(status=302, Location="/x.mp4"))
                return
            connection.sendall(VIDEO[:-10])
            for byte in VIDEO[-10:]:
                server.stopping.wait(0.01 if whole else 0.2)
                connection.sendall(bytes([byte]))

        with RawServer(drip) as server:
            if whole:
                assert fetch(hook, server.base_url) == MP4
            else:
                with pytest.raises(KlingConnectionError, match="not complete after"):
                    fetch(hook, server.base_url, 0.4)

    def test_a_server_that_falls_silent(self, hook: KlingHook) -> None:
        def stall(connection: socket.socket, request: Request) -> None:
            connection.sendall(http_response(MP4, length=10**6))
            server.stopping.wait(10)

        started = time.monotonic()
        with RawServer(stall) as server, pytest.raises(KlingConnectionError, match="[Tt]imed out"):
            fetch(hook, server.base_url, 30)
        assert time.monotonic() - started < 3

    @pytest.mark.parametrize("tls", [False, True])
    @pytest.mark.parametrize(
        "head", [b"HTTP/1.1 200 OK\r\nX: ", http_response(MP4, length=10**6)], ids=["headers", "body"]
    )
    def test_a_server_that_drips_is_given_up_in_time(
        self, hook_on: Callable[..., KlingHook], certificate: Path, tls: bool, head: bytes
    ) -> None:
        def drip(connection: socket.socket, request: Request) -> None:
            connection.sendall(head)
            while not server.stopping.wait(0.05):
                connection.sendall(b"y")

        hook = hook_on("https://api.example.com", private_hosts="127.0.0.1:*", verify=str(certificate))
        started = time.monotonic()
        server = RawServer(drip, tls=server_context(certificate) if tls else None)
        with server, pytest.raises(KlingConnectionError, match="not complete after"):
            fetch(hook, server.base_url, 0.5)
        assert time.monotonic() - started < 3

    def test_a_full_disk_is_not_the_servers_fault(self, hook: KlingHook) -> None:
        class Full:
            def write(self, data: bytes, /) -> None:
                raise OSError(28, "No space left on device")

        with RawServer(VIDEO) as server, pytest.raises(KlingDownloadError, match="No space left on device"):
            download(hook.client, server.base_url, Full(), seconds=5)


class TestWhatIsNotThere:
    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
    def test_a_temporary_problem_of_the_host_is_not_an_expired_link(self, hook: KlingHook, status: int) -> None:
        with (
            RawServer(http_response("upstream is down", status)) as server,
            pytest.raises(KlingDownloadError) as caught,
        ):
            fetch(hook, f"{server.base_url}/x.mp4")
        assert caught.value.http_status == status
        assert caught.value.server_message == "upstream is down"
        assert "expired" not in str(caught.value)

    @pytest.mark.parametrize(
        ("status", "advice"),
        [
            *((status, "The link may have expired.") for status in (*EXPIRED_STATUSES, 400)),
            *((status, "Its host refuses the download.") for status in (402, 405, 451)),
            (202, "Its host accepts the request, and sends no file."),
            (204, "Its host accepts the request, and sends no file."),
            *((status, "a proxy or cache in between answers otherwise.") for status in (206, 304, 416)),
            (302, "Its host redirects without an address."),
        ],
    )
    def test_is_reported_with_its_status_and_advice(self, hook: KlingHook, status: int, advice: str) -> None:
        body = "" if status in (204, 304) else "<Error>What the host says</Error>"
        with RawServer(http_response(body, status)) as server, pytest.raises(KlingDownloadError) as caught:
            fetch(hook, f"{server.base_url}/x.mp4")
        assert caught.value.http_status == status
        assert (caught.value.server_message or "") == body
        assert advice in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.com/x.mp4",
            "file:///etc/passwd",
            "s3://bucket/x.mp4",
            "data:video/mp4;base64,AAAA",
            "javascript:alert(1)",
            "http://",
            "http://[::1",
            "http://127.0.0.1:99999/x.mp4",
            "http://127.0.0.1:port/x.mp4",
            "http://a..example/x.mp4",
            "http://" + "a" * 64 + ".example/x.mp4",
            "http://exa mple.com/x.mp4",
            "http://\x00/x.mp4",
            "http://\ud800/x.mp4",
        ],
    )
    def test_an_invalid_url(self, hook: KlingHook, url: str) -> None:
        with pytest.raises(KlingError) as caught:
            fetch(hook, url)
        assert isinstance(caught.value, (KlingDownloadError, KlingConnectionError))

    @pytest.mark.parametrize(
        "target", ["ftp://example.com/x", "file:///etc/passwd", "http://[::1", "http://h:99999/", "//", "\xff"]
    )
    def test_a_redirect_to_an_invalid_url(self, hook: KlingHook, target: str) -> None:
        raw = b"HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: %s\r\n\r\n" % target.encode("latin-1")
        with RawServer(raw) as server, pytest.raises((KlingDownloadError, KlingConnectionError)):
            fetch(hook, server.base_url)

    def test_a_redirect_to_a_name_in_utf_8_leads_there(self, hook: KlingHook) -> None:
        def redirect(connection: socket.socket, request: Request) -> None:
            if request.path == "/vid%C3%A9o.mp4":
                connection.sendall(VIDEO)
            elif request.path == "/":
                connection.sendall(http_response(status=302, Location="/vidéo.mp4"))
            else:
                connection.sendall(http_response(status=404))

        with RawServer(redirect) as server:
            assert fetch(hook, server.base_url) == MP4

    def test_a_redirect_to_nowhere(self, hook: KlingHook) -> None:
        with RawServer(http_response(status=302)) as server, pytest.raises(KlingDownloadError) as caught:
            fetch(hook, server.base_url)
        assert caught.value.http_status == 302

    def test_the_body_of_a_redirect_is_not_read(self, hook: KlingHook) -> None:
        def redirect(connection: socket.socket, request: Request) -> None:
            if request.path == "/x.mp4":
                connection.sendall(VIDEO)
                return
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /x.mp4\r\n\r\n")
            while not server.stopping.is_set():
                connection.sendall(bytes(65536))

        with RawServer(redirect) as server:
            assert fetch(hook, server.base_url, 3) == MP4

    def test_endless_redirects(self, hook: KlingHook) -> None:
        with RawServer(http_response(status=302, Location="?again")) as server:
            with pytest.raises(KlingDownloadError, match=f"redirects more than {MAX_REDIRECTS} times"):
                fetch(hook, server.base_url)
            assert server.connections == MAX_REDIRECTS + 1


class TestTheBound:
    @pytest.mark.parametrize("length", [len(MP4), 10**30, 20_401_094_656], ids=["a little", "absurd", "19 GiB"])
    def test_what_is_announced_to_be_longer_is_refused_unread(self, hook: KlingHook, length: int) -> None:
        sink = io.BytesIO()
        refused = pytest.raises(KlingDownloadError, match=f"has {length} bytes, more than max_bytes=1000")
        with RawServer(http_response(MP4, length=length)) as server, refused:
            download(hook.client, server.base_url, sink, seconds=5, max_bytes=1000)
        assert sink.getvalue() == b""

    @pytest.mark.parametrize("length", [-1, None], ids=["not announced", "in chunks"])
    def test_what_turns_out_to_be_longer_is_cut_short(self, hook: KlingHook, length: int | None) -> None:
        def pour(connection: socket.socket, request: Request) -> None:
            kind = "" if length else "Transfer-Encoding: chunked\r\n"
            connection.sendall(f"HTTP/1.1 200 OK\r\n{kind}\r\n".encode())
            with suppress(OSError):
                while not server.stopping.is_set():
                    connection.sendall(MP4 if length else b"%x\r\n%s\r\n" % (len(MP4), MP4))

        sink = io.BytesIO()
        with (
            RawServer(pour) as server,
            pytest.raises(KlingDownloadError, match="more bytes than max_bytes=100000"),
        ):
            download(hook.client, server.base_url, sink, seconds=5, max_bytes=100_000)
        assert len(sink.getvalue()) <= 100_000

    @pytest.mark.parametrize("bound", [len(MP4), None])
    def test_what_keeps_it_arrives(self, hook: KlingHook, bound: int | None) -> None:
        sink = io.BytesIO()
        with RawServer(VIDEO) as server:
            assert download(hook.client, server.base_url, sink, seconds=5, max_bytes=bound).size_bytes == len(MP4)

    def test_is_four_gigabytes_by_default(self, hook: KlingHook) -> None:
        refused = pytest.raises(KlingDownloadError, match="more than max_bytes=4294967296")
        with RawServer(http_response(MP4, length=(4 << 30) + 1)) as server, refused:
            fetch(hook, server.base_url)

    @pytest.mark.parametrize("length", ["9" * 5000, "-5", "1e3", "٣", "5, 6"])
    def test_a_length_that_is_none_breaks_nothing(self, hook: KlingHook, length: str) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
        with RawServer(head + MP4) as server:
            try:
                assert fetch(hook, server.base_url) == MP4
            except KlingError as error:
                assert str(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=RAW_RESPONSES | st.builds(lambda raw, cut: raw[:cut], st.just(VIDEO), st.integers(0, len(VIDEO))))
def test_no_bytes_at_all_from_a_server_end_in_anything_but_a_video_or_a_named_error(
    raw: bytes, hook: KlingHook
) -> None:
    with RawServer(raw) as server:
        try:
            video = fetch(hook, server.base_url)
        except KlingError as error:
            assert str(error)
        else:
            assert len(video) >= 12
