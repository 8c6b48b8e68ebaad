# SPDX-License-Identifier: Apache-2.0
"""The stored file of a video, from Airflow's API server: ranges, rights, and paths that lead elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.version_compat import AIRFLOW_V_3_1_PLUS
from tests.conftest import TaskLog

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow before 3.1 has no such pages", allow_module_level=True)

import httpx
from fastapi import HTTPException

from airflow_provider_kling.videos_page import stored_copy
from tests.fixtures.api_server import ApiServer, token_of
from tests.s3_server import S3Server

MP4 = b"\x00\x00\x00\x20ftypisom" + os.urandom(700_000)
WEBM = b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 10
FILE = "/dags/reel/runs/{}/tasks/generate/{}/file"
RUN = "manual__2026-11-26T10:00:00+00:00"

StreamFrom = Callable[[str], None]


@pytest.fixture(autouse=True)
def run(api_server: ApiServer) -> Iterator[None]:
    api_server.add_run()
    yield
    api_server.clear()


@pytest.fixture
def stream_from(monkeypatch: pytest.MonkeyPatch) -> StreamFrom:
    """A function that sets ``[kling] stream_from``."""
    return lambda text: monkeypatch.setenv("AIRFLOW__KLING__STREAM_FROM", text)


@pytest.fixture
def folder(stream_from: StreamFrom) -> Iterator[Path]:
    """The folder that is listed."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "clips"
        folder.mkdir()
        stream_from(f"file://{folder}")
        yield folder


def store(api_server: ApiServer, path: Any, **arguments: Any) -> None:
    """Add a task that says that its file is there."""
    api_server.add_task({"return_value": {"path": path}}, **arguments)


def get(
    api_server: ApiServer, user: str | None = "vera", index: str = "-1", method: str = "GET", **headers: str
) -> Any:
    with api_server.client(user) as client:
        return client.request(method, f"/kling{FILE.format(RUN.replace('+', '%2B'), index)}", headers=headers)


def test_the_whole_file_is_streamed_in_chunks(api_server: ApiServer, folder: Path) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"file://{folder}/a.mp4")
    response = get(api_server, **{"Accept-Encoding": "gzip"})
    assert response.status_code == 200
    assert response.content == MP4
    assert response.headers["Content-Length"] == str(len(MP4))
    assert response.headers["Accept-Ranges"] == "bytes"
    assert response.headers["Content-Type"] == "video/mp4"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("index", ["-1", "{MAP_INDEX}", "%7BMAP_INDEX%7D"])
def test_a_task_that_is_not_mapped_is_found_however_the_ui_names_it(
    api_server: ApiServer, folder: Path, index: str
) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"{folder}/a.mp4")
    assert get(api_server, index=index).content == MP4


def test_each_mapped_task_has_its_own_file(api_server: ApiServer, folder: Path) -> None:
    for index in (0, 1):
        (folder / f"{index}.webm").write_bytes(WEBM + bytes([index]))
        store(api_server, f"{folder}/{index}.webm", map_index=index)
    assert get(api_server, index="1").content == WEBM + b"\1"
    assert get(api_server, index="1").headers["Content-Type"] == "video/webm"
    assert get(api_server, index="2").status_code == 404
    assert get(api_server, index="one").status_code == 404


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-", slice(0, None)),
        ("bytes=300000-", slice(300_000, None)),
        ("bytes=262140-262150", slice(262_140, 262_151)),
        ("bytes=-5", slice(-5, None)),
    ],
)
def test_a_player_can_seek(api_server: ApiServer, folder: Path, asked: str, part: slice) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"{folder}/a.mp4")
    response = get(api_server, Range=asked)
    first, end, _ = part.indices(len(MP4))
    assert response.status_code == 206
    assert response.content == MP4[part]
    assert response.headers["Content-Range"] == f"bytes {first}-{end - 1}/{len(MP4)}"
    assert response.headers["Content-Length"] == str(end - first)


def test_a_part_behind_the_end_is_refused(api_server: ApiServer, folder: Path) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"{folder}/a.mp4")
    response = get(api_server, Range=f"bytes={len(MP4)}-")
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(MP4)}"


def test_head_has_the_headers_alone(api_server: ApiServer, folder: Path) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"{folder}/a.mp4")
    response = get(api_server, method="HEAD")
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Content-Length"] == str(len(MP4))
    assert get(api_server, method="HEAD", user=None).status_code == 401


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("norbert", 403), ("vera", 200), ("anna", 200)])
def test_only_readers_of_the_dag_get_it(
    api_server: ApiServer, folder: Path, user: str | None, status: int
) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"{folder}/a.mp4")
    assert get(api_server, user=user).status_code == status


def test_nothing_is_streamed_until_a_folder_is_listed(
    api_server: ApiServer, folder: Path, stream_from: StreamFrom
) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"file://{folder}/a.mp4")
    stream_from("")
    assert not stored_copy.may_stream(f"file://{folder}/a.mp4")
    assert get(api_server).status_code == 403
    stream_from(f"s3://conn@bucket/clips file://{folder}")
    assert stored_copy.may_stream(f"file://{folder}/a.mp4")
    assert get(api_server).status_code == 200


@pytest.mark.parametrize(
    "value",
    [None, "", 7, ["/etc/passwd"], {"path": "x"}, "../clips/a.mp4", "file:///etc/passwd", "/proc/self/environ"],
)
def test_a_result_that_names_no_listed_file_streams_nothing(
    api_server: ApiServer, folder: Path, value: Any
) -> None:
    store(api_server, value)
    response = get(api_server)
    assert response.status_code in (403, 404)
    assert b"passwd" not in response.content


def test_a_path_that_climbs_out_streams_nothing(api_server: ApiServer, folder: Path) -> None:
    (folder.parent / "secret.mp4").write_bytes(MP4)
    for index, path in enumerate(("../secret.mp4", "./../secret.mp4", "%2e%2e/secret.mp4", "..%2fsecret.mp4")):
        store(api_server, f"{folder}/{path}", map_index=index)
        assert get(api_server, index=str(index)).status_code == 403


def test_symbolic_links_are_not_followed_below_the_folder(api_server: ApiServer, folder: Path) -> None:
    outside = folder.parent / "secret"
    outside.mkdir()
    (outside / "a.mp4").write_bytes(MP4)
    (folder / "link.mp4").symlink_to(outside / "a.mp4")
    (folder / "linked").symlink_to(outside)
    (folder / "inside").symlink_to(folder)
    for index, path in enumerate(("link.mp4", "linked/a.mp4", "inside/link.mp4", "inside/inside/linked/a.mp4")):
        store(api_server, f"{folder}/{path}", map_index=index)
        assert get(api_server, index=str(index)).status_code == 403


def test_the_listed_folder_itself_may_be_behind_a_link(
    api_server: ApiServer, folder: Path, stream_from: StreamFrom
) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    alias = folder.parent / "alias"
    alias.symlink_to(folder)
    stream_from(f"file://{alias}")
    store(api_server, f"{alias}/a.mp4")
    assert get(api_server).content == MP4


def test_a_folder_that_is_replaced_by_a_link_meanwhile_leads_nowhere(api_server: ApiServer, folder: Path) -> None:
    """Another process exchanges a folder for a link to a folder outside, as fast as it can."""
    outside, inner, link = folder.parent / "secret", folder / "run", folder / "link"
    outside.mkdir()
    inner.mkdir()
    (inner / "a.mp4").write_bytes(MP4[:5000])
    (outside / "a.mp4").write_bytes(b"\0\0\0\x20ftypSECRET" + bytes(20))
    link.symlink_to(outside)
    store(api_server, f"{inner}/a.mp4")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            inner.rename(folder / "away")
            link.rename(inner)
            inner.rename(link)
            (folder / "away").rename(inner)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        statuses = set()
        for _ in range(60):
            response = get(api_server)
            assert b"SECRET" not in response.content
            statuses.add(response.status_code)
    finally:
        stop.set()
        thread.join()
    assert statuses <= {200, 403, 404}


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", b"ftyp", b"root:x:0:0:root:/root:/bin/sh\n", b"<html><video></video>" * 9, b"\0" * 40],
)
def test_what_does_not_begin_as_a_video_is_not_streamed(
    api_server: ApiServer, folder: Path, content: bytes
) -> None:
    (folder / "a.mp4").write_bytes(content)
    store(api_server, f"{folder}/a.mp4")
    response = get(api_server)
    assert response.status_code == 403
    assert "root" not in response.text


def test_a_pipe_or_a_folder_does_not_hold_the_server(api_server: ApiServer, folder: Path) -> None:
    os.mkfifo(folder / "pipe.mp4")
    (folder / "folder.mp4").mkdir()
    for index, name in enumerate(("pipe.mp4", "folder.mp4", "missing.mp4")):
        store(api_server, f"{folder}/{name}", map_index=index)
        assert get(api_server, index=str(index)).status_code == 404


def test_every_file_is_closed_again(api_server: ApiServer, folder: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("open files are counted in /proc")
    (folder / "a.mp4").write_bytes(MP4)
    (folder / "text.mp4").write_bytes(b"no video at all")
    (folder / "link.mp4").symlink_to(folder / "a.mp4")
    for index, name in enumerate(("a.mp4", "text.mp4", "link.mp4")):
        store(api_server, f"{folder}/{name}", map_index=index)
    for index in "012":
        get(api_server, index=index)
        get(api_server, index=index, Range="bytes=9999999-")
        get(api_server, index=index, method="HEAD")
    assert [target for fd in Path("/proc/self/fd").iterdir() if str(folder) in (target := _target(fd))] == []


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def test_a_viewer_that_goes_away_leaves_no_file_open(api_server: ApiServer, folder: Path) -> None:
    with (folder / "a.mp4").open("wb") as file:
        file.write(MP4)
        file.truncate(200 << 20)
    store(api_server, f"{folder}/a.mp4")
    assert asyncio.run(_bytes_until_left(api_server)) < 100 << 20
    assert not stored_copy._open_streams
    if sys.platform.startswith("linux"):
        assert not any(str(folder) in _target(fd) for fd in Path("/proc/self/fd").iterdir())


async def _bytes_until_left(api_server: ApiServer) -> int:
    """Close the connection at the first chunk, as a client of a server does; return what is sent nevertheless."""
    gone = asyncio.Event()
    sent: list[Any] = []
    is_asked = False

    async def receive() -> dict[str, Any]:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body"):
            gone.set()
        await asyncio.sleep(0)

    path = f"/kling{FILE.format(RUN, -1)}"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {token_of('vera')}".encode()), (b"host", b"testserver")],
        "client": ("127.0.0.1", 1),
        "server": ("testserver", 80),
        "state": {},
    }
    await asyncio.wait_for(api_server.app(scope, receive, send), 30)
    assert sent[0]["status"] == 200
    return sum(len(message.get("body", b"")) for message in sent)


def test_too_many_open_files_are_refused(
    api_server: ApiServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"{folder}/a.mp4")
    monkeypatch.setattr(stored_copy, "MAX_STREAMS", 0)
    response = get(api_server)
    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_a_slow_store_holds_no_thread_of_the_api_server(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More players wait for their file than the thread pool of all other pages has threads."""
    done = threading.Event()

    def opened(_: Any) -> None:
        done.wait(30)
        raise HTTPException(404)

    monkeypatch.setattr(stored_copy, "_opened", opened)

    async def play_and_look() -> tuple[int, set[int]]:
        headers = {"authorization": f"Bearer {token_of('vera')}"}
        transport = httpx.ASGITransport(app=api_server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=headers) as client:
            path = f"/kling{FILE.format(RUN.replace('+', '%2B'), -1)}"
            players = [asyncio.create_task(client.get(path)) for _ in range(60)]
            await asyncio.sleep(1)
            try:
                page = await asyncio.wait_for(client.get("/api/v2/monitor/health"), 20)
                return page.status_code, {player.done() for player in players}
            finally:
                done.set()
                await asyncio.gather(*players)

    assert asyncio.run(play_and_look()) == (200, {False})


def test_a_file_that_is_cut_while_it_is_sent_never_looks_complete(
    api_server: ApiServer, folder: Path, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    (folder / "a.mp4").write_bytes(MP4)
    store(api_server, f"{folder}/a.mp4")
    read_at = stored_copy._read_at

    def cut(content: Any, position: int, length: int) -> bytes:
        if position > 0:
            raise OSError("gone: https://store/a?X-Amz-Signature=abcdef0123456789")
        return read_at(content, position, length)

    monkeypatch.setattr(stored_copy, "_read_at", cut)
    with pytest.raises(ConnectionError):
        get(api_server)
    assert "cannot be read to its end: OSError: gone" in task_log.text
    assert "abcdef0123456789" not in task_log.text


class TestOnS3:
    @pytest.fixture(scope="class")
    def s3(self) -> Iterator[S3Server]:
        pytest.importorskip("s3fs", reason="the S3 server and its client are tried with the newest Airflow")
        from airflow.sdk.io import attach

        with S3Server() as server:
            for bucket in ("videos", "secret"):
                server.client.create_bucket(Bucket=bucket)
            attach("s3", "clips_s3", fs=server.filesystem)
            attach("s3", "admin_s3", fs=server.filesystem)
            yield server

    def test_an_object_is_streamed_from_any_position(
        self, api_server: ApiServer, s3: S3Server, stream_from: StreamFrom
    ) -> None:
        # The store's own media type never reaches the browser.
        s3.client.put_object(Bucket="videos", Key="clips/a.mp4", Body=MP4, ContentType="text/html")
        stream_from("s3://clips_s3@videos/clips")
        store(api_server, "s3://clips_s3@videos/clips/a.mp4")
        response = get(api_server)
        assert response.content == MP4
        assert response.headers["Content-Type"] == "video/mp4"
        assert get(api_server, Range="bytes=600000-650000").content == MP4[600_000:650_001]

    def test_an_object_is_not_read_as_a_whole_for_a_part(
        self, api_server: ApiServer, s3: S3Server, stream_from: StreamFrom, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import s3fs.core

        size = 12 << 20
        s3.client.put_object(Bucket="videos", Key="clips/large.mp4", Body=MP4[:12] + bytes(size - 12))
        stream_from("s3://clips_s3@videos/clips")
        store(api_server, "s3://clips_s3@videos/clips/large.mp4")
        fetched = []
        fetch = s3fs.core._fetch_range

        def counted(*arguments: Any, **named: Any) -> bytes:
            content = fetch(*arguments, **named)
            fetched.append(len(content))
            return content

        monkeypatch.setattr(s3fs.core, "_fetch_range", counted)
        assert get(api_server, Range="bytes=9000000-9000999").content == bytes(1000)
        assert 0 < sum(fetched) <= 2 << 20
        fetched.clear()
        assert len(get(api_server).content) == size
        assert max(fetched) <= 1 << 20

    @pytest.mark.parametrize(
        "path",
        [
            "s3://clips_s3@videos/clips-secret/a.mp4",
            "s3://clips_s3@secret/clips/a.mp4",
            "s3://admin_s3@videos/clips/a.mp4",
            "s3://videos/clips/a.mp4",
            "s3://clips_s3@videos/clips/../clips-secret/a.mp4",
            "s3://clips_s3@videos/clips/a.mp4?versionId=null",
        ],
    )
    def test_what_is_beside_the_prefix_is_not_streamed(
        self, api_server: ApiServer, s3: S3Server, stream_from: StreamFrom, path: str
    ) -> None:
        for bucket, key in (
            ("videos", "clips-secret/a.mp4"),
            ("secret", "clips/a.mp4"),
            ("videos", "clips/a.mp4"),
        ):
            s3.client.put_object(Bucket=bucket, Key=key, Body=MP4)
        stream_from("s3://clips_s3@videos/clips")
        store(api_server, path)
        assert get(api_server).status_code == 403

    def test_an_object_that_is_gone_and_a_store_that_fails(
        self, api_server: ApiServer, s3: S3Server, stream_from: StreamFrom
    ) -> None:
        stream_from("s3://clips_s3@videos/clips s3://no_such_connection@videos/clips")
        store(api_server, "s3://clips_s3@videos/clips/gone.mp4", map_index=0)
        store(api_server, "s3://no_such_connection@videos/clips/a.mp4", map_index=1)
        assert get(api_server, index="0").status_code == 404
        response = get(api_server, index="1")
        assert response.status_code == 502
        assert "no_such_connection" not in response.text
