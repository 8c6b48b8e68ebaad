# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.exceptions import KlingDownloadError, KlingError, KlingValidationError
from airflow_provider_kling.media.target import Part, target_of
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.conftest import Connect, TaskLog
from tests.fixtures.videos import MP4, VIDEO
from tests.media.conftest import Store, attach
from tests.raw_server import RawServer
from tests.task_context import context

#: Every character that a shell, a pattern, a URL, a template or a file system has a meaning of its own for.
SPECIAL = "?*[]{}!~#%&+=:;,@$^`'\"|<>()\\ "
STORED = [
    *(f"a{character}b.mp4" for character in SPECIAL),
    *(f"{character}.mp4" for character in SPECIAL),
    *(f"clip{character}" for character in SPECIAL if character not in "?#"),
    *(f"fold{character}er/clip.mp4" for character in SPECIAL),
    "What is love?.mp4",
    "clip [draft].mp4",
    "[!a]*.mp4",
    "**.mp4",
    "**/clip.mp4",
    "a?/b*/[c].mp4",
    "{{ ds }}.mp4",
    "{% x %}.mp4",
    "$HOME.mp4",
    "$(id).mp4",
    "%2e%2e%2f.mp4",
    "%00.mp4",
    "100% real.mp4",
    "a&b=c?d#e.mp4",
    "user@host.mp4",
    "-rf.mp4",
    "..mp4",
    "...",
    ".hidden",
    " .mp4",
    "clip. ",
    "clip.",
    "CON",
    "clip.part",
    "no ending",
    # Scripts: composed and not, right to left, joined, outside the first plane.
    "日本語の動画.mp4",
    "видео.mp4",
    "वीडियो.mp4",
    "فيديو.mp4",
    "סרטון.mp4",
    "비디오.mp4",
    "วิดีโอ.mp4",
    "Ωμέγα.mp4",
    "é.mp4",
    "e\u0301.mp4",
    "ﬁ K İ ß.mp4",
    "👩\u200d🚀🎬.mp4",
    "𝒱ideo.mp4",
    "\u202eexe.mp4",
    "\u00a0\u2003\u3000.mp4",
    "\ufeff.mp4",
    "a\u2028b.mp4",
    "１／２？＊.mp4",
    # The longest that a file system takes.
    "x" * 251 + ".mp4",
    "日" * 83 + "x.mp4",
    "/".join(["d" * 200] * 4) + "/clip.mp4",
]
#: Names that one store or version reads as another name, or that are no names at all.
DOUBTFUL = [
    ".",
    "..",
    "folder/.",
    "folder/..",
    "./clip.mp4",
    "../clip.mp4",
    "folder/../clip.mp4",
    "/clip.mp4",
    "//clip.mp4",
    "folder//clip.mp4",
    "a::b.mp4",
    "simplecache::file:/x",
    "a://b.mp4",
    " ",
    "folder/ ",
    "folder/\u3000",
    "clip?",
    "clip#",
    "a.mp4?versionId=1",
    "a.mp4#1",
    *(f"a{character}b.mp4" for character in "\0\t\n\r\x01\x1b\x7f\x85\x9f"),
    "clip.mp4\n",
    "\ud83d.mp4",
    "\udcff.mp4",
    "\ufffe\uffff.mp4",
    "x" * 256,
    "new folder/" + "x" * 256,
    "日" * 86,
    "x" * 1010,
    "x" * 1024,
    "/".join(["d" * 200] * 5) + "/x.mp4",
    "d/" * 3000 + "clip.mp4",
]
NEIGHBOURS = {"a1b.mp4": b"1", ".a1b.mp4.part": b"2", "fold1er/clip1.mp4": b"3", "clip1/clip.mp4": b"4"}


def store_video(path: str, **arguments: Any) -> str:
    video = {"kling_task_id": "task_1", "video_url": "/x.mp4"}
    task = KlingToObjectStorageOperator(task_id="store", video=video, path=path, **arguments)
    return str(task.execute(context())["path"])


def writing(content: bytes, meanwhile: Callable[[], object] = lambda: None) -> Callable[[Part], int]:
    """Return what writes a file in two halves, with something that happens between."""

    def fill(file: Part) -> int:
        file.write(content[: len(content) // 2])
        meanwhile()
        file.write(content[len(content) // 2 :])
        return len(content)

    return fill


@pytest.fixture
def server(connect: Connect) -> Iterator[RawServer]:
    """Where the video lies."""
    with RawServer(VIDEO) as server:
        connect(server.base_url)
        yield server


def shortened(name: str) -> str:
    return ascii(name if len(name) < 40 else f"{name[:12]}...{len(name.encode(errors='replace'))}")


class TestEveryName:
    @pytest.fixture
    def store(self, store: Store) -> Store:
        """A store in which there are files that a pattern could mean."""
        for name, content in NEIGHBOURS.items():
            store.put(name, content)
        return store

    @pytest.mark.parametrize("name", STORED, ids=shortened)
    def test_is_the_name_of_the_whole_file(self, store: Store, server: RawServer, name: str) -> None:
        path = f"{store.url}/{name}"
        assert store_video(path) == path
        assert store.files() == {**NEIGHBOURS, name: MP4}

    @pytest.mark.parametrize("name", DOUBTFUL, ids=shortened)
    def test_or_is_refused_by_name_before_a_byte_is_fetched(
        self, store: Store, server: RawServer, name: str
    ) -> None:
        try:
            store_video(f"{store.url}/{name}")
        except KlingValidationError as error:
            assert isinstance(error, AirflowFailException)
            assert server.connections == 0
            assert store.files() == NEIGHBOURS
        else:
            stored = store.files()
            if store.url.startswith("file://"):
                name = os.path.relpath(f"{store.root}/{name}", store.root)
                assert (Path(store.root) / name).read_bytes() == MP4
                stored[name] = MP4
            assert stored == {**NEIGHBOURS, name: MP4}

    @pytest.mark.parametrize(
        "path",
        [
            "",
            " ",
            "None",
            "null",
            "undefined",
            "clip.mp4",
            "./clip.mp4",
            "~/clip.mp4",
            "file://clip.mp4",
            "file://~/clip.mp4",
            "file:/tmp/clip.mp4",
            "file:////tmp/clip.mp4",
            "s3:bucket/clip.mp4",
            "nowhere://bucket/clip.mp4",
            "memory://",
            "memory://bucket",
            "memory://conn@bucket",
            "C:\\clip.mp4",
            "http://[::1/clip.mp4",
        ],
    )
    @pytest.mark.usefixtures("memory_store")
    def test_of_no_place_is_refused(self, server: RawServer, path: str) -> None:
        with pytest.raises(KlingValidationError, match="path="):
            store_video(path)
        assert server.connections == 0

    @pytest.mark.parametrize("name", [".", "..", "folder/..", "../clip.mp4", "folder/../clip.mp4", "./clip.mp4"])
    @pytest.mark.parametrize("kind", ["memory", "s3"])
    def test_that_some_stores_resolve_is_refused_in_all(
        self, request: pytest.FixtureRequest, kind: str, name: str
    ) -> None:
        store = request.getfixturevalue(f"{kind}_store")
        with pytest.raises(KlingValidationError, match="path="):
            target_of(f"{store.url}/{name}")

    @pytest.mark.parametrize(
        ("name", "fits"),
        [
            ("x" * 1017, True),
            ("x" * 1018, False),
            ("日" * 339, True),
            ("日" * 340, False),
            ("d" * 972 + "/a", True),
            ("d" * 973 + "/a", False),  # the part would not fit
        ],
        ids=["longest", "longer", "longest in bytes", "longer in bytes", "longest folder", "longer folder"],
    )
    def test_that_s3_finds_too_long_only_at_the_end_is_refused_before(
        self, s3_store: Store, name: str, fits: bool
    ) -> None:
        """The server of these tests takes more than the 1024 bytes of S3, folders included."""
        if fits:
            target_of(f"{s3_store.url}/{name}").store(writing(MP4), overwrite=True)
            assert s3_store.files() == {name: MP4}
        else:
            with pytest.raises(KlingValidationError, match="is too long: the store allows names of 1024 bytes"):
                target_of(f"{s3_store.url}/{name}")

    @pytest.mark.parametrize(("length", "fits"), [(1024, True), (1025, False)])
    def test_that_s3_finds_too_long_without_a_folder_is_refused_before(
        self, s3_store: Store, length: int, fits: bool
    ) -> None:
        bucket = s3_store.url.removesuffix("/videos")
        if fits:
            target_of(f"{bucket}/{'x' * length}")
        else:
            with pytest.raises(KlingValidationError, match="is too long"):
                target_of(f"{bucket}/{'x' * length}")

    @pytest.mark.parametrize("path", ["file:///tmp/ ", "s3://bucket/ ", "memory://bucket/clips/\u3000", "/"])
    def test_that_is_blank_is_refused(self, path: str) -> None:
        with pytest.raises(KlingValidationError, match="has an empty name"):
            target_of(path)

    @pytest.mark.parametrize("path", ["None", "null", " undefined\n"])
    def test_that_a_template_did_not_find_is_reported_so(self, path: str) -> None:
        with pytest.raises(KlingValidationError, match="its template found nothing"):
            target_of(path)


class TestAFolder:
    def test_that_exists_is_refused_as_a_name(self, store: Store, server: RawServer) -> None:
        store.put("clips/old.mp4", b"old")
        with pytest.raises(KlingValidationError, match="is a folder.*end the path with a slash") as caught:
            store_video(f"{store.url}/clips")
        assert isinstance(caught.value, AirflowFailException)
        assert server.connections == 0
        assert store.files() == {"clips/old.mp4": b"old"}

    def test_that_another_process_has_just_filled_is_refused(self, store: Store, server: RawServer) -> None:
        """A listing that this process made before does not count."""
        store.put("old.mp4", b"old")
        if store.fs:
            store.fs.ls(store.root)
        store.put("clips/old.mp4", b"old")
        with pytest.raises(KlingValidationError, match="is a folder"):
            store_video(f"{store.url}/clips")

    def test_with_a_slash_takes_the_file(self, store: Store, server: RawServer) -> None:
        store.put("clips/old.mp4", b"old")
        assert store_video(f"{store.url}/clips/") == f"{store.url}/clips/task_1.mp4"
        assert store.files() == {"clips/old.mp4": b"old", "clips/task_1.mp4": MP4}

    def test_a_bucket_is_refused_as_a_name(self, s3_store: Store, server: RawServer) -> None:
        with pytest.raises(KlingValidationError, match="names no file in a bucket"):
            store_video(s3_store.url.removesuffix("/videos"))
        assert server.connections == 0

    def test_a_bucket_with_a_slash_takes_the_file(self, s3_store: Store, server: RawServer) -> None:
        bucket = s3_store.url.removesuffix("/videos")
        assert store_video(f"{bucket}/") == f"{bucket}/task_1.mp4"

    def test_a_bucket_that_is_missing_is_reported_at_once(self, s3_store: Store, server: RawServer) -> None:
        path = "s3://moto@missing/videos"
        with pytest.raises(KlingValidationError, match="there is no bucket missing"):
            store_video(f"{path}/clip.mp4")
        assert server.connections == 0

    def test_is_not_detected_where_listing_is_forbidden(
        self, memory_store: Store, server: RawServer, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
    ) -> None:
        forbid_listing(memory_store, monkeypatch)
        store_video(f"{memory_store.url}/clip.mp4")
        assert memory_store.files() == {"clip.mp4": MP4}
        assert "listing is forbidden" in task_log.text

    def test_where_listing_is_forbidden_overwrite_false_fails(
        self, memory_store: Store, server: RawServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        forbid_listing(memory_store, monkeypatch)
        with pytest.raises(KlingDownloadError, match="it is unknown whether .* exists"):
            store_video(f"{memory_store.url}/clip.mp4", overwrite=False)
        assert server.connections == 0

    @pytest.mark.parametrize("name", ["clip.mp4/x.mp4", "clip.mp4/a/x.mp4"])
    def test_that_is_a_file_is_refused(self, file_store: Store, server: RawServer, name: str) -> None:
        file_store.put("clip.mp4", b"old")
        with pytest.raises(KlingValidationError, match="cannot be stored"):
            store_video(f"{file_store.url}/{name}")
        assert server.connections == 0

    def test_what_is_not_a_regular_file_stays(self, file_store: Store, server: RawServer) -> None:
        os.mkfifo(Path(file_store.root, "clip.mp4"))
        with pytest.raises(KlingValidationError, match="is not a regular file"):
            store_video(f"{file_store.url}/clip.mp4")
        assert server.connections == 0


def forbid_listing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a store refuse what S3 refuses without the right to list: to say that something is missing."""
    info = type(store.fs).info

    def forbidden(self: Any, path: str, **arguments: Any) -> Any:
        try:
            return info(self, path, **arguments)
        except FileNotFoundError:
            raise PermissionError("Forbidden") from None

    monkeypatch.setattr(type(store.fs), "info", forbidden)


class TestAStoreThatCannotCopy:
    """FTP, SFTP and SMB by ``fsspec``: what its base classes have for a copy raises."""

    def test_is_refused_before_a_byte_is_fetched(
        self, memory_store: Store, server: RawServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(MemoryFileSystem, "cp_file", AbstractFileSystem.cp_file)
        with pytest.raises(KlingValidationError, match="this kind of store cannot copy files"):
            store_video(f"{memory_store.url}/clip.mp4")
        assert server.connections == 0
        assert memory_store.files() == {}

    def test_is_refused_if_it_is_asynchronous_too(self, s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(type(s3_store.fs), "_cp_file", AsyncFileSystem._cp_file)
        with pytest.raises(KlingValidationError, match="this kind of store cannot copy files"):
            target_of(f"{s3_store.url}/clip.mp4")


class TestTwoAtOnce:
    """Attempts of two tasks, or of one that Airflow took for dead."""

    def test_touch_only_their_own_parts(self, store: Store) -> None:
        first, second = (target_of(f"{store.url}/what?.mp4") for _ in range(2))

        def second_one() -> None:
            before = store.files()
            second.store(writing(b"2" * 1000), overwrite=True)
            assert store.files() == {**before, "what?.mp4": b"2" * 1000}

        first.store(writing(b"1" * 3000, second_one), overwrite=True)
        assert store.files() == {"what?.mp4": b"1" * 3000}

    def test_one_that_fails_leaves_the_other_alone(self, store: Store) -> None:
        first, second = (target_of(f"{store.url}/clip.mp4") for _ in range(2))

        def second_one() -> None:
            with pytest.raises(KlingDownloadError, match="broken"):
                second.store(writing(b"2" * 1000, broken), overwrite=True)

        def broken() -> None:
            raise KlingDownloadError("broken")

        assert first.store(writing(b"1" * 3000, second_one), overwrite=True) == 3000
        assert store.files() == {"clip.mp4": b"1" * 3000}

    def test_end_as_one_whole_video_or_a_named_error(self, store: Store) -> None:
        together = threading.Barrier(2)
        contents = [b"1" * 300_000, b"2" * 200_000]
        errors: list[BaseException] = []

        def task(content: bytes) -> None:
            try:
                target_of(f"{store.url}/clip.mp4").store(writing(content, together.wait), overwrite=True)
            except BaseException as error:  # noqa: BLE001
                errors.append(error)

        threads = [threading.Thread(target=task, args=(content,)) for content in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(isinstance(error, KlingError) for error in errors)
        stored = store.files()
        assert stored["clip.mp4"] in contents
        assert len(stored) == 1 + sum(".part" in str(error) for error in errors)

    def test_only_one_creates_a_file_of_this_machine(self, file_store: Store) -> None:
        first, second = (target_of(f"{file_store.url}/clip.mp4") for _ in range(2))

        def second_one() -> None:
            second.store(writing(b"2"), overwrite=False)

        with pytest.raises(KlingValidationError, match="has appeared during the download"):
            first.store(writing(b"1", second_one), overwrite=False)


class TestAFileThatAppears:
    def test_during_the_download_stays_with_overwrite_false(self, store: Store) -> None:
        target = target_of(f"{store.url}/clip.mp4")
        target.check(overwrite=False)
        fill = writing(MP4, lambda: store.put("clip.mp4", b"theirs"))
        with pytest.raises(KlingValidationError, match="has appeared during the download") as caught:
            target.store(fill, overwrite=False)
        stored = store.files()
        assert stored.pop("clip.mp4") == b"theirs"
        [(part, content)] = stored.items()
        assert content == MP4
        assert f"The whole video was kept as {store.url}/{part}." in str(caught.value)

    def test_stays_on_a_file_system_though_it_appears_after_the_last_check(
        self, file_store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os.path, "lexists", lambda _: False)
        fill = writing(MP4, lambda: file_store.put("clip.mp4", b"theirs"))
        with pytest.raises(KlingValidationError, match="has appeared during the download"):
            target_of(f"{file_store.url}/clip.mp4").store(fill, overwrite=False)
        assert file_store.files()["clip.mp4"] == b"theirs"

    def test_is_kept_on_a_file_system_without_links_too(
        self, file_store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def no_links(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
        target = target_of(f"{file_store.url}/clip.mp4")
        target.store(writing(b"1"), overwrite=False)
        with pytest.raises(KlingValidationError, match="has appeared"):
            target.store(writing(b"2"), overwrite=False)
        assert file_store.files()["clip.mp4"] == b"1"

    def test_is_replaced_otherwise(self, store: Store) -> None:
        fill = writing(MP4, lambda: store.put("clip.mp4", b"theirs"))
        target_of(f"{store.url}/clip.mp4").store(fill, overwrite=True)
        assert store.files() == {"clip.mp4": MP4}


class TestThePart:
    def test_lies_beside_the_file_under_a_name_of_its_own(self, store: Store) -> None:
        seen: list[str] = []
        for _ in range(2):
            fill = writing(b"x" * 10, lambda: seen.extend(store.files()))
            target_of(f"{store.url}/folder/What?.mp4").store(fill, overwrite=True)
        parts = {name for name in seen if name.endswith(".part")}
        if not store.url.startswith("s3://"):  # an upload shows only when it is complete
            assert len(parts) == 2
        assert all(len(part) == len("folder/") + 44 for part in parts)

    def test_is_no_link_that_is_followed(self, file_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        class Known:
            hex = "0" * 32

        monkeypatch.setattr("airflow_provider_kling.media.target.uuid4", Known)
        file_store.put("precious", b"precious")
        part = Path(file_store.root, f".kling-{'0' * 32}.part")
        part.symlink_to(Path(file_store.root, "precious"))
        with pytest.raises(KlingDownloadError, match="FileExistsError"):
            target_of(f"{file_store.url}/clip.mp4").store(writing(b"x"), overwrite=True)
        assert file_store.files()["precious"] == b"precious"
        assert part.is_symlink()

    @pytest.mark.parametrize("kind", [KlingDownloadError, RuntimeError, KeyboardInterrupt])
    def test_goes_with_an_attempt_that_fails(self, store: Store, kind: type[BaseException]) -> None:
        def fail() -> None:
            raise kind("broken")

        store.put("clip.mp4", b"old")
        wanted = kind if kind is KeyboardInterrupt else KlingDownloadError
        with pytest.raises(wanted, match="broken"):
            target_of(f"{store.url}/clip.mp4").store(writing(MP4, fail), overwrite=True)
        assert store.files() == {"clip.mp4": b"old"}

    def test_that_cannot_be_deleted_is_logged_and_fails_nothing(
        self, memory_store: Store, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
    ) -> None:
        def forbidden(*_: object) -> None:
            raise PermissionError("no right to delete")

        monkeypatch.setattr(type(memory_store.fs), "rm_file", forbidden)
        target_of(f"{memory_store.url}/clip.mp4").store(writing(MP4), overwrite=True)
        assert memory_store.files()["clip.mp4"] == MP4
        assert "may be left behind, and can be deleted: PermissionError: no right to delete" in task_log.text


class TestWhatIsNotStored:
    def test_is_noticed_where_the_store_lost_it(
        self, memory_store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(memory_store.fs), "cp_file", lambda *_: None)
        with pytest.raises(
            KlingDownloadError, match=r"bytes were stored as .*, but there is no such file"
        ) as caught:
            target_of(f"{memory_store.url}/clip.mp4").store(writing(MP4), overwrite=True)
        [(part, content)] = memory_store.files().items()
        assert content == MP4
        assert f"The whole video was kept as {memory_store.url}/{part}." in str(caught.value)

    def test_is_noticed_where_the_store_cut_it(self, memory_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def cut(self: Any, _: str, target: str) -> None:
            self.pipe_file(target, MP4[:-1])

        monkeypatch.setattr(type(memory_store.fs), "cp_file", cut)
        with pytest.raises(KlingDownloadError, match=f"but the file there has {len(MP4) - 1}"):
            target_of(f"{memory_store.url}/clip.mp4").store(writing(MP4), overwrite=True)

    def test_is_kept_if_the_store_refuses_its_name(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("no right to copy")

        target = target_of(f"{store.url}/clip.mp4")
        if store.fs:
            monkeypatch.setattr(store.fs, "cp_file", refuse)
        else:
            monkeypatch.setattr(Path, "replace", refuse)
        with pytest.raises(KlingDownloadError, match="PermissionError: no right to copy") as caught:
            target.store(writing(MP4), overwrite=True)
        [(part, content)] = store.files().items()
        assert content == MP4
        assert part in str(caught.value)

    def test_is_a_named_error_if_the_disk_is_full(self, file_store: Store) -> None:
        def full() -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(KlingDownloadError, match="No space left on device"):
            target_of(f"{file_store.url}/clip.mp4").store(writing(MP4, full), overwrite=True)
        assert file_store.files() == {}

    def test_a_store_that_cannot_be_reached_is_reported_at_once(
        self, memory_store: Store, server: RawServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unreachable(*_: object) -> None:
            raise ConnectionError("no route")

        monkeypatch.setattr(type(memory_store.fs), "info", unreachable)
        with pytest.raises(KlingDownloadError, match="ConnectionError: no route"):
            store_video(f"{memory_store.url}/clip.mp4")
        assert server.connections == 0

    def test_a_connection_that_airflow_does_not_have_is_reported_at_once(
        self, server: RawServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(*_: object) -> None:
            raise LookupError("no connection s3_typo")

        monkeypatch.setattr(ObjectStoragePath, "fs", property(unknown))
        with pytest.raises(KlingDownloadError, match="LookupError: no connection s3_typo"):
            store_video("s3://s3_typo@bucket/clip.mp4")
        assert server.connections == 0

    @pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
    def test_a_folder_without_rights_is_reported_at_once(self, file_store: Store, server: RawServer) -> None:
        Path(file_store.root).chmod(0o500)
        with pytest.raises(KlingDownloadError, match="PermissionError"):
            store_video(f"{file_store.url}/clip.mp4")
        assert server.connections == 0


class TestALargeFile:
    def test_is_copied_in_parts(self, s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """S3 copies at most 5 GB at once."""
        import s3fs.core

        monkeypatch.setattr(s3fs.core, "MANAGED_COPY_THRESHOLD", 1000)
        target_of(f"{s3_store.url}/50% [of] it?.mp4").store(writing(MP4), overwrite=True)
        assert s3_store.files() == {"50% [of] it?.mp4": MP4}
        assert content_type_in(s3_store, "50% [of] it?.mp4") == "video/mp4"


def content_type_in(store: Store, name: str) -> str:
    bucket, _, folder = store.root.partition("/")
    return str(store.client.head_object(Bucket=bucket, Key=f"{folder}/{name}")["ContentType"])


class StrictFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """One in memory that takes the arguments of another one, and no others."""

    protocol = "strict"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    allowed: ClassVar[frozenset[str]] = frozenset()
    opened: ClassVar[list[dict[str, Any]]] = []

    def open(self, path: str, mode: str = "rb", **arguments: Any) -> Any:
        assert arguments.keys() <= self.allowed
        self.opened.append(arguments)
        return super().open(path, mode)

    def cp_file(self, path1: str, path2: str) -> None:
        super().cp_file(path1, path2)


class TestTheMediaType:
    @pytest.mark.parametrize(
        ("content", "content_type"),
        [
            (MP4, "video/mp4"),
            (b"\x00\x00\x00\x14ftypqt  " + bytes(50), "video/quicktime"),
            (b"\x1a\x45\xdf\xa3" + bytes(50), "video/webm"),
            (MP4 * 1200, "video/mp4"),  # uploaded in several parts
        ],
        ids=["mp4", "quicktime", "webm", "large"],
    )
    def test_of_a_video_is_that_of_its_content(self, s3_store: Store, content: bytes, content_type: str) -> None:
        target_of(f"{s3_store.url}/clip.bin").store(lambda part: part.write(content), overwrite=True)
        assert s3_store.files() == {"clip.bin": content}
        assert content_type_in(s3_store, "clip.bin") == content_type

    @pytest.mark.parametrize("content_type", ["application/json", "image/png"])
    def test_of_another_file_is_given(self, s3_store: Store, content_type: str) -> None:
        target = target_of(f"{s3_store.url}/beside")
        target.store(lambda part: part.write(b"{}"), overwrite=True, content_type=content_type)
        assert content_type_in(s3_store, "beside") == content_type

    @pytest.mark.parametrize(
        ("protocol", "arguments"),
        [
            ("gs", {"content_type": "video/mp4"}),
            ("gcs", {"content_type": "video/mp4"}),
            ("abfs", {"content_settings": {"content_type": "video/mp4"}}),
            ("abfss", {"content_settings": {"content_type": "video/mp4"}}),
            ("memory", {}),
        ],
    )
    def test_is_told_as_each_store_takes_it(
        self, monkeypatch: pytest.MonkeyPatch, protocol: str, arguments: dict[str, Any]
    ) -> None:
        """As ``gcsfs.GCSFile`` and ``adlfs.AzureBlobFile`` take it; what they copy keeps it."""
        monkeypatch.setattr(StrictFileSystem, "allowed", frozenset(arguments))
        monkeypatch.setattr(StrictFileSystem, "opened", [])
        attach(protocol, "strict", fs=StrictFileSystem())
        target_of(f"{protocol}://strict@bucket/clip.mp4").store(writing(MP4), overwrite=True)
        assert StrictFileSystem.opened == [arguments]


class TestWhatFillReturns:
    def test_is_returned_and_the_bytes_are_counted(self, store: Store) -> None:
        target = target_of(f"{store.url}/clip.mp4")
        assert target.store(lambda part: (part.write(MP4), "anything"), overwrite=True) == (len(MP4), "anything")
        assert target.size() == len(MP4)
        with target.open() as file:
            assert file.read() == MP4

    def test_an_empty_file_is_one(self, store: Store) -> None:
        target = target_of(f"{store.url}/clip.json")
        target.store(lambda _: None, overwrite=True)
        assert store.files() == {"clip.json": b""}
        assert target.size() == 0

    def test_a_file_that_is_not_there_has_no_size(self, store: Store) -> None:
        assert target_of(f"{store.url}/clip.mp4").size() is None


def test_no_call_that_takes_patterns_is_given_a_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def pattern(*_: object, **__: object) -> None:
        raise AssertionError("this reads patterns")

    target = target_of(f"{store.url}/clip.mp4")
    for name in ("mv", "rm", "glob", "expand_path", "exists", "find", "copy", "move", "walk"):
        for prefix in ("", "_"):
            if store.fs and hasattr(store.fs, prefix + name) and prefix + name != "_rm":
                monkeypatch.setattr(store.fs, prefix + name, pattern)
    if store.url.startswith("s3"):
        monkeypatch.setattr(store.fs, "_rm", pattern)
    target.check(overwrite=False)
    target.store(writing(MP4), overwrite=False)
    assert store.files() == {"clip.mp4": MP4}
