# SPDX-License-Identifier: Apache-2.0
"""From a URL to a stored file: what breaks off is continued, and what is stored is not fetched again."""

from __future__ import annotations

import random
import time
from base64 import b64encode
from collections.abc import Callable
from email.utils import formatdate
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.exceptions import (
    KlingConnectionError,
    KlingDownloadError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.media import storing
from airflow_provider_kling.media.facts import VideoFacts
from airflow_provider_kling.media.storing import StoredVideo, VideoLocation, VideoStorer
from airflow_provider_kling.media.target import target_of
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import TaskLog
from tests.fixtures.range_server import Change, RangeServer
from tests.fixtures.requests import REQUEST
from tests.fixtures.videos import MP4
from tests.media.conftest import Store

NOISE = random.Random(1).randbytes(300_000)
FTYP = b"\0\0\0\x10ftypisom\0\0\2\0"
MOOV = b"\0\0\0\x10moov" + bytes(8)


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


#: As many encoders write them: with the index at the end.
FILE = FTYP + box(b"mdat", NOISE) + MOOV
SAME_ENDS = FTYP + box(b"mdat", NOISE[:150_000] + b"x" + NOISE[150_001:]) + MOOV
UNINDEXED = FTYP + box(b"mdat", NOISE[:100_000]) + MOOV + box(b"mdat", NOISE[:100_000])
FRAGMENTED = FTYP + MOOV + box(b"moof", bytes(8)) + box(b"mdat", NOISE)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "PAUSES", (0.01,) * 3)


@pytest.fixture
def hook(hook_on: Callable[..., KlingHook]) -> KlingHook:
    """A hook on an API that is of no interest, which may fetch from this machine."""
    return hook_on("https://api.example.com", private_hosts="127.0.0.1:*")


def store_as(
    path: str,
    hook: KlingHook,
    url: str,
    *,
    overwrite: bool = True,
    seconds: float = 30,
    max_bytes: int | None = None,
    locate: Callable[[], VideoLocation] | None = None,
) -> StoredVideo:
    def unexpected() -> VideoLocation:
        raise AssertionError("the URL was renewed")

    storer = VideoStorer(hook.client, "task_1", locate=locate or unexpected, seconds=seconds, max_bytes=max_bytes)
    return storer.store(VideoLocation(url), target_of(path), overwrite=overwrite)


class TestAVideo:
    def test_of_the_api_is_stored_with_what_is_known_of_it(
        self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], store: Store
    ) -> None:
        hook = hook_on(sandbox.base_url, sandbox.api_key, read_timeout=30)
        job = hook.get_video(hook.submit_video(REQUEST).kling_task_id)
        stored = store_as(f"{store.url}/clip.mp4", hook, str(job.video_url))
        content = store.files()["clip.mp4"]
        assert (stored.path, stored.size_bytes) == (f"{store.url}/clip.mp4", len(content))
        assert stored.sha256 == sha256(content).hexdigest()
        assert stored.facts.video_codec == "h264"
        assert stored.facts.fps == 24.0

    @pytest.mark.parametrize("fault", ["truncate", "drop_before", "drop_after"])
    def test_of_the_api_that_breaks_off_is_continued(
        self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], store: Store, fault: str
    ) -> None:
        hook = hook_on(sandbox.base_url, sandbox.api_key, read_timeout=30)
        job = hook.get_video(hook.submit_video(REQUEST).kling_task_id)
        sandbox.add_fault(Fault("content", fault, times=3))
        stored = store_as(f"{store.url}/clip.mp4", hook, str(job.video_url))
        assert sandbox.requests["content"] == 4
        assert stored.sha256 == sha256(store.files()["clip.mp4"]).hexdigest()
        assert stored.facts.video_codec == "h264"

    @pytest.mark.parametrize(
        "fault",
        [
            Fault("content", "ignore_range"),
            Fault("content", "other_headers", headers={"Content-Range": "bytes 1-2/3"}),
            Fault("content", "other_headers", headers={"ETag": '"another"'}),
        ],
        ids=lambda fault: f"{fault.kind} {fault.headers}",
    )
    def test_of_an_api_that_lies_of_the_rest_begins_anew(
        self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], store: Store, fault: Fault
    ) -> None:
        hook = hook_on(sandbox.base_url, sandbox.api_key, read_timeout=30)
        job = hook.get_video(hook.submit_video(REQUEST).kling_task_id)
        sandbox.add_fault(Fault("content", "truncate"))
        sandbox.add_fault(fault)
        store_as(f"{store.url}/clip.mp4", hook, str(job.video_url))
        assert sandbox.requests["content"] == 3
        assert list(store.files()) == ["clip.mp4"]


def long_ago() -> dict[str, str]:
    return {"Last-Modified": formatdate(time.time() - 3600, usegmt=True), "Date": formatdate(usegmt=True)}


class TestADownloadThatBrokeOff:
    @pytest.mark.parametrize("headers", [{"ETag": '"v1"'}, long_ago()], ids=["ETag", "Last-Modified"])
    def test_goes_on_where_it_ended(self, hook: KlingHook, store: Store, headers: dict[str, str]) -> None:
        with RangeServer(FILE, headers, cuts={0: 100_000, 1: 50_000, 2: 0}) as server:
            stored = store_as(f"{store.url}/clip.mp4", hook, server.url)
            assert server.ranges == [None, "bytes=100000-", "bytes=150000-", "bytes=150000-"]
            assert server.sent == len(FILE)
        assert store.files() == {"clip.mp4": FILE}
        assert stored == (f"{store.url}/clip.mp4", len(FILE), sha256(FILE).hexdigest(), VideoFacts())

    def test_goes_on_in_an_upload_of_several_parts(self, hook: KlingHook, s3_store: Store) -> None:
        content = FTYP + box(b"mdat", NOISE * 50) + MOOV
        with RangeServer(content, cuts={0: 7_000_000, 1: 7_000_000}) as server:
            store_as(f"{s3_store.url}/clip.mp4", hook, server.url)
            assert server.sent == len(content)
        assert s3_store.files() == {"clip.mp4": content}

    def test_goes_on_as_long_as_it_comes_nearer(self, hook: KlingHook, file_store: Store) -> None:
        with RangeServer(FILE, cuts=dict.fromkeys(range(30), 10_000)) as server:
            store_as(f"{file_store.url}/clip.mp4", hook, server.url)
            assert len(server.requests) == 31
        assert file_store.files() == {"clip.mp4": FILE}

    def test_but_not_without_progress(self, hook: KlingHook, file_store: Store) -> None:
        with RangeServer(FILE, cuts={0: 10_000} | dict.fromkeys(range(1, 30), 0)) as server:
            with pytest.raises(KlingConnectionError):
                store_as(f"{file_store.url}/clip.mp4", hook, server.url)
            assert len(server.requests) == 4
        assert file_store.files() == {}

    def test_nor_after_its_time(self, hook: KlingHook, file_store: Store) -> None:
        started = time.monotonic()
        with (
            RangeServer(FILE, cuts=dict.fromkeys(range(10_000), 10)) as server,
            pytest.raises(KlingConnectionError),
        ):
            store_as(f"{file_store.url}/clip.mp4", hook, server.url, seconds=0.5)
        assert time.monotonic() - started < 3
        assert file_store.files() == {}

    @pytest.mark.parametrize(
        ("headers", "change"),
        [
            ({}, None),
            ({"ETag": 'W/"v1"'}, None),
            ({"Last-Modified": formatdate(usegmt=True), "Date": formatdate(usegmt=True)}, None),
            ({"ETag": '"v1"'}, lambda status, headers, _: (200, {"ETag": '"v1"'}, FILE)),
            ({"ETag": '"v1"'}, lambda status, headers, _: (200, {"ETag": '"v2"'}, FILE)),
            ({"ETag": '"v1"'}, lambda status, headers, body: (206, {**headers, "ETag": '"v2"'}, body)),
            ({"ETag": '"v1"'}, lambda status, headers, body: (206, {**headers, "ETag": 'W/"v1"'}, body)),
            (
                {"ETag": '"v1"'},
                lambda status, headers, body: (206, {"Content-Range": headers["Content-Range"]}, body),
            ),
            ({"ETag": '"v1"'}, lambda status, headers, body: (206, {"ETag": '"v1"'}, body)),
            *(
                (
                    {"ETag": '"v1"'},
                    lambda status, headers, body, wrong=wrong: (206, {**headers, "Content-Range": wrong}, body),
                )
                for wrong in (
                    f"bytes 99999-{len(FILE) - 1}/{len(FILE)}",
                    f"bytes 100001-{len(FILE) - 1}/{len(FILE)}",
                    f"bytes 0-{len(FILE) - 1}/{len(FILE)}",
                    f"bytes 100000-{len(FILE) - 1}/{len(FILE) + 1}",
                    f"bytes 100000-{len(FILE) - 2}/{len(FILE)}",
                    f"bytes 100000-{len(FILE)}/{len(FILE) + 1}",
                    f"bytes 100000-{len(FILE) - 1}/*",
                    f"bytes 100000-99999/{len(FILE)}",
                    "bytes */300040",
                    "100000-",
                )
            ),
            *(
                (
                    {"ETag": '"v1"'},
                    lambda status, headers, _, first=first: (
                        206,
                        {**headers, "Content-Range": f"bytes {first}-{len(FILE) - 1}/{len(FILE)}"},
                        FILE[first:],
                    ),
                )
                for first in (0, 99_999, 100_001)
            ),
            ({"ETag": '"v1"'}, lambda status, headers, _: (416, {}, b"")),
            ({"ETag": '"v1"'}, lambda status, headers, _: (412, {}, b"")),
        ],
    )
    def test_begins_anew_where_the_rest_is_not_proven_to_be_of_the_same_file(
        self, hook: KlingHook, store: Store, headers: dict[str, str], change: Change | None, task_log: TaskLog
    ) -> None:
        changes = {1: change} if change else {}
        with RangeServer(FILE, headers, cuts={0: 100_000}, changes=changes) as server:
            stored = store_as(f"{store.url}/clip.mp4", hook, server.url)
            assert server.ranges[-1] is None
        assert store.files() == {"clip.mp4": FILE}
        assert stored.sha256 == sha256(FILE).hexdigest()
        assert "starting from the beginning" in task_log.text

    def test_whose_server_sends_less_than_the_rest_goes_on(self, hook: KlingHook, file_store: Store) -> None:
        def some(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
            return 206, {**headers, "Content-Range": f"bytes 100000-149999/{len(FILE)}"}, body[:50_000]

        with RangeServer(FILE, cuts={0: 100_000}, changes={1: some}) as server:
            store_as(f"{file_store.url}/clip.mp4", hook, server.url)
            assert server.ranges == [None, "bytes=100000-", "bytes=150000-"]
        assert file_store.files() == {"clip.mp4": FILE}

    def test_gives_up_on_a_server_that_ignores_what_is_requested(self, hook: KlingHook, file_store: Store) -> None:
        cuts = dict.fromkeys(range(100), 10_000)
        server = RangeServer(FILE, cuts=cuts, heeds_range=False)
        with server, pytest.raises(KlingConnectionError):
            store_as(f"{file_store.url}/clip.mp4", hook, server.url)
        assert server.ranges == [None, "bytes=10000-"] * 3 + [None]
        assert file_store.files() == {}

    @pytest.mark.parametrize("is_same", [True, False])
    def test_under_a_link_that_expires_meanwhile_goes_on_under_the_new_one(
        self, hook: KlingHook, store: Store, is_same: bool
    ) -> None:
        def expired(*_: Any) -> tuple[int, dict[str, str], bytes]:
            return 403, {}, b"Request has expired"

        new_headers = {"ETag": '"v1"' if is_same else '"v2"'}
        with (
            RangeServer(FILE, cuts={0: 100_000}, changes={1: expired}) as old,
            RangeServer(FILE, new_headers) as new,
        ):
            store_as(f"{store.url}/clip.mp4", hook, old.url, locate=lambda: VideoLocation(new.url))
            assert new.ranges == (["bytes=100000-"] if is_same else ["bytes=100000-", None])
        assert store.files() == {"clip.mp4": FILE}

    def test_under_another_link_a_time_proves_nothing(self, hook: KlingHook, file_store: Store) -> None:
        def expired(*_: Any) -> tuple[int, dict[str, str], bytes]:
            return 403, {}, b"Request has expired"

        headers = long_ago()
        with (
            RangeServer(FILE, headers, cuts={0: 100_000}, changes={1: expired}) as old,
            RangeServer(FILE, headers) as new,
        ):
            store_as(f"{file_store.url}/clip.mp4", hook, old.url, locate=lambda: VideoLocation(new.url))
            assert new.ranges == [None]

    def test_keeps_the_bound(self, hook: KlingHook, file_store: Store) -> None:
        def unannounced(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
            return status, {**headers, "Content-Length": "x"}, body

        server = RangeServer(FILE, cuts={0: 100_000}, changes={0: unannounced})
        with server, pytest.raises(KlingDownloadError, match="max_bytes=200000"):
            store_as(f"{file_store.url}/clip.mp4", hook, server.url, max_bytes=200_000)
        assert file_store.files() == {}


class TestAFileThatIsStoredAlready:
    @pytest.mark.parametrize("overwrite", [True, False])
    def test_is_not_fetched_again(self, hook: KlingHook, store: Store, overwrite: bool, task_log: TaskLog) -> None:
        store.put("clip.mp4", FILE)
        with RangeServer(FILE) as server:
            stored = store_as(f"{store.url}/clip.mp4", hook, server.url, overwrite=overwrite)
            assert server.sent == 2 * 65536
        assert stored == (f"{store.url}/clip.mp4", len(FILE), sha256(FILE).hexdigest(), VideoFacts())
        assert store.files() == {"clip.mp4": FILE}
        assert "is this video already" in task_log.text

    @pytest.mark.parametrize(
        "headers",
        [
            {"ETag": f'"{md5(UNINDEXED, usedforsecurity=False).hexdigest()}"'},
            {"Content-MD5": b64encode(md5(UNINDEXED, usedforsecurity=False).digest()).decode()},
        ],
        ids=["ETag", "Content-MD5"],
    )
    @pytest.mark.parametrize("heeds_range", [True, False])
    def test_is_known_by_its_md5(
        self, hook: KlingHook, file_store: Store, headers: dict[str, str], heeds_range: bool
    ) -> None:
        file_store.put("clip.mp4", UNINDEXED)
        with RangeServer(UNINDEXED, headers, heeds_range=heeds_range) as server:
            store_as(f"{file_store.url}/clip.mp4", hook, server.url, overwrite=False)
            assert len(server.requests) == 1

    def test_is_no_video_if_it_is_cut_there_and_here(self, hook: KlingHook, file_store: Store) -> None:
        cut = FILE[:-1]
        file_store.put("clip.mp4", cut)
        headers = {"ETag": f'"{md5(cut, usedforsecurity=False).hexdigest()}"'}
        with RangeServer(cut, headers) as server, pytest.raises(KlingDownloadError, match="damaged"):
            store_as(f"{file_store.url}/clip.mp4", hook, server.url)

    def test_of_the_api_is_known(self, sandbox: Sandbox, hook_on: Callable[..., KlingHook], store: Store) -> None:
        hook = hook_on(sandbox.base_url, sandbox.api_key, read_timeout=30)
        job = hook.get_video(hook.submit_video(REQUEST).kling_task_id)
        first, second = (
            store_as(f"{store.url}/clip.mp4", hook, str(job.video_url), overwrite=False) for _ in range(2)
        )
        assert first == second

    @pytest.mark.parametrize(
        ("stored", "remote"),
        [
            (FILE[:-1], FILE),
            (FILE + FILE, FILE),
            (b"x" * len(FILE), FILE),
            (FTYP + box(b"mdat", NOISE[::-1]) + MOOV, FILE),
            (UNINDEXED, UNINDEXED),
            (FRAGMENTED, FRAGMENTED),
            (MP4, MP4),
            (b"\x1a\x45\xdf\xa3" + NOISE, b"\x1a\x45\xdf\xa3" + NOISE),
        ],
        ids=["cut", "longer", "other", "other samples", "index amid", "fragments", "no index", "webm"],
    )
    @pytest.mark.parametrize("overwrite", [True, False])
    def test_is_another_one_unless_that_is_proven(
        self, hook: KlingHook, store: Store, stored: bytes, remote: bytes, overwrite: bool
    ) -> None:
        store.put("clip.mp4", stored)
        with RangeServer(remote) as server:
            if overwrite:
                store_as(f"{store.url}/clip.mp4", hook, server.url)
                assert server.ranges[-1] is None
            else:
                with pytest.raises(KlingValidationError, match="exists, and overwrite=False"):
                    store_as(f"{store.url}/clip.mp4", hook, server.url, overwrite=False)
                assert None not in server.ranges
        assert store.files() == {"clip.mp4": remote if overwrite else stored}

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize(
        "change",
        [
            lambda status, headers, body: (200, {"ETag": '"v1"'}, FILE),
            lambda status, headers, body: (206, {**headers, "ETag": '"v2"'}, body),
            lambda status, headers, body: (206, {**headers, "Content-Range": "bytes 0-9/300040"}, body[:10]),
            lambda status, headers, body: (206, headers, body[:-1] + b"x"),
            lambda status, headers, body: (400, {}, b"no"),
        ],
        ids=["whole", "another version", "another part", "another byte", "nothing"],
    )
    def test_is_not_taken_for_the_video_of_a_lying_server(
        self, hook: KlingHook, file_store: Store, change: Change, number: int
    ) -> None:
        file_store.put("clip.mp4", FILE)
        refused = pytest.raises(KlingValidationError, match="exists, and overwrite=False")
        with RangeServer(FILE, changes={number: change}) as server, refused:
            store_as(f"{file_store.url}/clip.mp4", hook, server.url, overwrite=False)

    def test_is_compared_under_the_renewed_link(self, hook: KlingHook, file_store: Store) -> None:
        file_store.put("clip.mp4", FILE)
        gone: dict[int, Change] = {0: lambda *_: (403, {}, b"Request has expired")}
        with RangeServer(FILE, changes=gone) as old, RangeServer(FILE) as new:
            store_as(
                f"{file_store.url}/clip.mp4",
                hook,
                old.url,
                overwrite=False,
                locate=lambda: VideoLocation(new.url),
            )
            assert new.sent == 2 * 65536

    def test_is_refused_as_unknown_where_the_server_is_down(self, hook: KlingHook, file_store: Store) -> None:
        """Another attempt of the task may find that it is the video."""
        file_store.put("clip.mp4", FILE)
        with RangeServer(FILE, cuts=dict.fromkeys(range(9), 0)) as server, pytest.raises(KlingConnectionError):
            store_as(f"{file_store.url}/clip.mp4", hook, server.url, overwrite=False)
        assert file_store.files() == {"clip.mp4": FILE}

    def test_is_not_compared_if_it_breaks_the_bound(self, hook: KlingHook, file_store: Store) -> None:
        file_store.put("clip.mp4", FILE)
        with RangeServer(FILE) as server, pytest.raises(KlingDownloadError, match="max_bytes=1000"):
            store_as(f"{file_store.url}/clip.mp4", hook, server.url, max_bytes=1000)

    def test_that_cannot_be_read_is_replaced(self, hook: KlingHook, tmp_path: Path) -> None:
        (tmp_path / "clip.mp4").write_bytes(FILE)
        with RangeServer(FILE) as server, pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError("no right to read")))
            store_as(f"file://{tmp_path}/clip.mp4", hook, server.url)
            assert server.ranges[-1] is None
