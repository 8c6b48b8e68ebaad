# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import signal
import socket
import time
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.exceptions import (
    KlingAddressRefusedError,
    KlingConnectionError,
    KlingDownloadError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.result import finished_video
from airflow_provider_kling.media import storing
from airflow_provider_kling.media.mp4 import MAX_BYTES
from airflow_provider_kling.media.storing import PAUSES
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from airflow_provider_kling.utils.file_names import safe_name
from tests.conftest import Connect, TaskLog
from tests.fixtures.requests import REQUEST
from tests.fixtures.responses import KEY
from tests.fixtures.videos import BOXES, MP4, VIDEO
from tests.raw_server import RawServer, Request, http_response
from tests.task_context import context

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "PAUSES", (0.01,) * len(PAUSES))


@pytest.fixture
def memory() -> Iterator[ObjectStoragePath]:
    """A folder of an object storage that has no folders, no local paths, and no disk."""
    attach("memory", fs=MemoryFileSystem())
    folder = ObjectStoragePath("memory://bucket/videos")
    yield folder
    MemoryFileSystem.store.clear()


@pytest.fixture
def connected(sandbox: Sandbox, connect: Connect) -> str:
    """A connection to the sandbox that leaves it time to render."""
    return connect(sandbox.base_url, sandbox.api_key, read_timeout=30)


@pytest.fixture
def video(connected: str) -> dict[str, Any]:
    """A finished video of the sandbox."""
    hook = KlingHook()
    with hook.client.session:
        return finished_video(hook.get_video(hook.submit_video(REQUEST).kling_task_id))


def store(video: Any, path: object, **arguments: Any) -> str:
    task = KlingToObjectStorageOperator(task_id="store", video=video, path=str(path), **arguments)
    return str(task.execute(context())["path"])


def elsewhere(server: RawServer) -> dict[str, Any]:
    return {"kling_task_id": "task_1", "video_url": f"{server.base_url}/x.mp4"}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def seconds_of_video(content: bytes) -> float:
    with av.open(BytesIO(content)) as container:
        return float((container.duration or 0) / av.time_base)


class TestAVideo:
    def test_of_the_sensor_is_stored_whole(self, video: dict[str, Any], tmp_path: Path, task_log: TaskLog) -> None:
        target = tmp_path / "clip.mp4"
        assert store(video, f"file://{target}") == f"file://{target}"
        assert seconds_of_video(target.read_bytes()) == pytest.approx(3, abs=0.2)
        assert names_in(tmp_path) == ["clip.mp4"]
        assert f"Stored Kling task {video['kling_task_id']}" in task_log.text
        assert f"{target.stat().st_size} bytes" in task_log.text

    def test_may_be_given_by_its_task_id(self, sandbox: Sandbox, video: dict[str, Any], tmp_path: Path) -> None:
        store(video["kling_task_id"], f"file://{tmp_path}/clip.mp4")
        assert seconds_of_video((tmp_path / "clip.mp4").read_bytes()) == pytest.approx(3, abs=0.2)

    def test_may_have_a_number_for_an_id(self, connect: Connect, rendered: Path, tmp_path: Path) -> None:
        """Templates that render to Python values make a number of an id of digits."""
        with Sandbox(run_seconds=0, dialect="numeric", cache_dir=rendered) as sandbox:
            connect(sandbox.base_url, read_timeout=30)
            store(int(KlingHook().submit_video(REQUEST).kling_task_id), f"file://{tmp_path}/clip.mp4")
        assert names_in(tmp_path) == ["clip.mp4"]

    def test_without_a_url_is_requested_from_the_api(self, video: dict[str, Any], tmp_path: Path) -> None:
        store({**video, "video_url": None}, f"file://{tmp_path}/clip.mp4")
        assert names_in(tmp_path) == ["clip.mp4"]

    @pytest.mark.parametrize(
        "spell", [str, json.dumps, lambda video: f"\n {video} "], ids=["python", "json", "spaces"]
    )
    def test_may_be_what_a_template_renders(self, video: dict[str, Any], tmp_path: Path, spell: Any) -> None:
        store(spell(video), f"file://{tmp_path}/clip.mp4")
        assert names_in(tmp_path) == ["clip.mp4"]

    def test_in_a_folder_is_named_after_its_task(self, video: dict[str, Any], tmp_path: Path) -> None:
        assert (
            store(video, f"file://{tmp_path}/new/folder/")
            == f"file://{tmp_path}/new/folder/{video['kling_task_id']}.mp4"
        )
        assert names_in(tmp_path) == [f"{video['kling_task_id']}.mp4"]

    def test_in_a_folder_cannot_leave_it_by_its_id(self, connect: Connect, tmp_path: Path) -> None:
        with RawServer(VIDEO) as server:
            connect(server.base_url)
            stored = store(elsewhere(server) | {"kling_task_id": "../../x/$(y)\n"}, f"file://{tmp_path}/in/")
        assert stored == f"file://{tmp_path}/in/__.._x___y_-{sha256(b'../../x/$(y)').hexdigest()[:8]}.mp4"

    @pytest.mark.parametrize(
        "task_ids",
        [["a/b", "a b", "a_b"], ["x" * 300, "x" * 299 + "y"], ["日" * 100, "日" * 101], ["视频-1", "视频?1"]],
    )
    def test_in_a_folder_never_shares_a_name_with_another(
        self, connect: Connect, tmp_path: Path, task_ids: list[str]
    ) -> None:
        with RawServer(VIDEO) as server:
            connect(server.base_url)
            stored = {store(elsewhere(server) | {"kling_task_id": id_}, f"file://{tmp_path}/") for id_ in task_ids}
        assert stored == {f"file://{tmp_path}/{safe_name(id_)}.mp4" for id_ in task_ids}
        assert len(names_in(tmp_path)) == len(task_ids)

    def test_goes_into_any_object_storage(self, video: dict[str, Any], memory: ObjectStoragePath) -> None:
        assert store(video, memory / "clip.mp4") == str(memory / "clip.mp4")
        assert seconds_of_video((memory / "clip.mp4").read_bytes()) == pytest.approx(3, abs=0.2)
        assert [path.name for path in memory.iterdir()] == ["clip.mp4"]

    def test_behind_the_key_is_fetched_with_it(self, connect: Connect, rendered: Path, tmp_path: Path) -> None:
        with Sandbox(run_seconds=0, dialect="gateway", cache_dir=rendered) as sandbox:
            connect(sandbox.base_url, read_timeout=30)
            hook = KlingHook()
            with hook.client.session:
                video = finished_video(hook.get_video(hook.submit_video(REQUEST).kling_task_id))
            store(video, f"file://{tmp_path}/clip.mp4")
        assert names_in(tmp_path) == ["clip.mp4"]

    def test_of_any_size_takes_little_memory(self, connect: Connect, tmp_path: Path) -> None:
        block = bytes(1 << 20)

        def pour(connection: socket.socket, request: Request) -> None:
            connection.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(MP4) + 64 * len(block)) + MP4
            )
            for _ in range(64):
                connection.sendall(block)

        with RawServer(pour) as server:
            connect(server.base_url)
            store(elsewhere(server), f"file://{tmp_path}/warm-up.mp4")
            tracemalloc.start()
            try:
                store(elsewhere(server), f"file://{tmp_path}/clip.mp4")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert (tmp_path / "clip.mp4").stat().st_size == len(MP4) + (64 << 20)
        assert peak < 8 << 20


class TestAFileThatExists:
    def test_is_replaced_so_that_a_task_may_run_again(self, video: dict[str, Any], tmp_path: Path) -> None:
        target = tmp_path / "clip.mp4"
        target.write_bytes(b"old")
        store(video, f"file://{target}")
        assert target.read_bytes()[4:8] == b"ftyp"

    def test_stays_with_overwrite_false(self, sandbox: Sandbox, video: dict[str, Any], tmp_path: Path) -> None:
        target = tmp_path / "clip.mp4"
        target.write_bytes(b"old")
        with pytest.raises(KlingValidationError, match="exists, and overwrite=False") as caught:
            store(video, f"file://{target}", overwrite=False)
        assert isinstance(caught.value, AirflowFailException)
        assert target.read_bytes() == b"old"
        assert sandbox.requests["content"] == 1  # its length shows that it is another file

    def test_stays_if_its_replacement_does_not_arrive_whole(
        self, sandbox: Sandbox, video: dict[str, Any], tmp_path: Path
    ) -> None:
        target = tmp_path / "clip.mp4"
        target.write_bytes(b"old")
        sandbox.add_fault(Fault("content", "truncate", times=None))
        with pytest.raises(KlingConnectionError):
            store(video, f"file://{target}")
        assert target.read_bytes() == b"old"
        assert names_in(tmp_path) == ["clip.mp4"]


class TestNoHalfFile:
    def test_bears_the_final_name_while_it_grows(self, connect: Connect, tmp_path: Path) -> None:
        growing: list[str] = []

        def in_two_halves(connection: socket.socket, request: Request) -> None:
            connection.sendall(VIDEO[:-100])
            while not growing and not server.stopping.wait(0.01):
                growing.extend(names_in(tmp_path))
            connection.sendall(VIDEO[-100:])

        with RawServer(in_two_halves) as server:
            connect(server.base_url)
            store(elsewhere(server), f"file://{tmp_path}/clip.mp4")
        assert growing
        assert "clip.mp4" not in growing
        assert names_in(tmp_path) == ["clip.mp4"]
        assert (tmp_path / "clip.mp4").read_bytes() == MP4

    @pytest.mark.parametrize(
        ("broken", "kind"),
        [
            (http_response(MP4, length=len(MP4) + 1), KlingConnectionError),
            (http_response("<html>Link expired</html>"), KlingDownloadError),
            (http_response(b""), KlingDownloadError),
            (http_response("no", 500), KlingDownloadError),
            (b"", KlingConnectionError),
        ],
        ids=["short", "html", "empty", "500", "cut"],
    )
    @pytest.mark.parametrize("scheme", ["file", "memory"])
    def test_is_left_behind(  # noqa: PLR0917
        self,
        connect: Connect,
        tmp_path: Path,
        memory: ObjectStoragePath,
        broken: bytes,
        kind: type[KlingError],
        scheme: str,
    ) -> None:
        folder = ObjectStoragePath(f"file://{tmp_path}") if scheme == "file" else memory
        with RawServer(broken) as server:
            connect(server.base_url)
            with pytest.raises(kind) as caught:
                store(elsewhere(server), folder / "clip.mp4")
        assert caught.value.kling_task_id == "task_1"
        assert not folder.exists() or list(folder.iterdir()) == []

    @pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
    def test_is_left_behind_by_a_task_that_is_killed(self, connect: Connect, tmp_path: Path) -> None:
        class Killed(BaseException):
            """What Airflow raises in a task that runs too long is no ordinary exception."""

        def kill(*_: object) -> None:
            raise Killed

        def stall(connection: socket.socket, request: Request) -> None:
            connection.sendall(http_response(MP4, length=10**6))
            server.stopping.wait(10)

        previous = signal.signal(signal.SIGALRM, kill)
        try:
            with RawServer(stall) as server:
                connect(server.base_url)
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                with pytest.raises(Killed):
                    store(elsewhere(server), f"file://{tmp_path}/clip.mp4")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
        assert names_in(tmp_path) == []


class TestWhatIsTriedAgain:
    @pytest.mark.parametrize("fault", ["truncate", "drop_before", "drop_after"])
    def test_a_download_that_broke_off(
        self, sandbox: Sandbox, video: dict[str, Any], tmp_path: Path, fault: str, task_log: TaskLog
    ) -> None:
        sandbox.add_fault(Fault("content", fault, times=len(PAUSES)))
        store(video, f"file://{tmp_path}/clip.mp4")
        assert seconds_of_video((tmp_path / "clip.mp4").read_bytes()) == pytest.approx(3, abs=0.2)
        assert sandbox.requests["content"] == len(PAUSES) + 1
        assert "Trying again in" in task_log.text

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
    def test_a_host_with_a_temporary_problem(
        self, sandbox: Sandbox, video: dict[str, Any], tmp_path: Path, status: int, task_log: TaskLog
    ) -> None:
        sandbox.add_fault(Fault("content", "error", status=status, times=len(PAUSES)))
        polled = sandbox.requests["status"]
        store(video, f"file://{tmp_path}/clip.mp4")
        assert names_in(tmp_path) == ["clip.mp4"]
        assert sandbox.requests["content"] == len(PAUSES) + 1
        assert sandbox.requests["status"] == polled
        assert "expired" not in task_log.text

    def test_a_file_of_unknown_length_that_ends_inside_a_box(self, connect: Connect, tmp_path: Path) -> None:
        def cut_once(connection: socket.socket, request: Request) -> None:
            connection.sendall(http_response(BOXES if server.connections > 1 else BOXES[:-9], length=-1))

        with RawServer(cut_once) as server:
            connect(server.base_url)
            store(elsewhere(server), f"file://{tmp_path}/clip.mp4")
        assert (tmp_path / "clip.mp4").read_bytes() == BOXES
        assert names_in(tmp_path) == ["clip.mp4"]

    @pytest.mark.parametrize("response", ["400", "200", "a box", "the bound"])
    def test_but_nothing_that_would_end_the_same(self, connect: Connect, tmp_path: Path, response: str) -> None:
        answers = {
            "400": http_response("no", 400),
            "200": http_response('{"error": "gone"}'),
            "a box": http_response(BOXES[:-9]),
        }
        with RawServer(answers.get(response, VIDEO)) as server:
            connect(server.base_url)
            with pytest.raises(KlingDownloadError):
                store(elsewhere(server), f"file://{tmp_path}/clip.mp4", max_bytes=2000)
            assert server.connections == 1
        assert names_in(tmp_path) == []

    def test_but_not_for_ever(self, sandbox: Sandbox, video: dict[str, Any], tmp_path: Path) -> None:
        sandbox.add_fault(Fault("content", "truncate", times=None))
        with pytest.raises(KlingConnectionError) as caught:
            store(video, f"file://{tmp_path}/clip.mp4")
        # Each attempt brings half of what is left, until one brings nothing.
        assert len(PAUSES) < sandbox.requests["content"] < 40
        assert not isinstance(caught.value, AirflowFailException)

    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_a_link_that_expired_is_renewed_through_the_api(
        self, sandbox: Sandbox, video: dict[str, Any], connect: Connect, tmp_path: Path, status: int
    ) -> None:
        with RawServer(http_response("<Error>Request has expired</Error>", status)) as store_of_the_vendor:
            connect(sandbox.base_url, sandbox.api_key, read_timeout=30, private_hosts="127.0.0.1:*")
            expired = {**video, "video_url": f"{store_of_the_vendor.base_url}/clip.mp4?Expires=1"}
            store(expired, f"file://{tmp_path}/clip.mp4")
            assert store_of_the_vendor.connections == 1
        assert names_in(tmp_path) == ["clip.mp4"]
        assert sandbox.requests["content"] == 1

    def test_a_link_is_renewed_once_only(self, sandbox: Sandbox, video: dict[str, Any], tmp_path: Path) -> None:
        sandbox.add_fault(Fault("content", "error", status=403, times=None))
        polled = sandbox.requests["status"]
        with pytest.raises(KlingDownloadError) as caught:
            store(video, f"file://{tmp_path}/clip.mp4")
        assert (caught.value.http_status, caught.value.kling_task_id) == (403, video["kling_task_id"])
        assert sandbox.requests["content"] == 2
        assert sandbox.requests["status"] == polled + 1


class TestWhatCannotBeStored:
    @pytest.mark.parametrize(
        "wrong",
        [None, "None", " null\n", "undefined", {"kling_task_id": "None"}],
    )
    def test_what_a_template_did_not_find(
        self, sandbox: Sandbox, connected: str, tmp_path: Path, wrong: Any
    ) -> None:
        with pytest.raises(KlingValidationError, match="its template found nothing") as caught:
            store(wrong, f"file://{tmp_path}/clip.mp4")
        assert isinstance(caught.value, AirflowFailException)
        assert sandbox.requests.get("status", 0) == 0

    @pytest.mark.parametrize(
        "wrong",
        [None, "", "  ", 5.5, True, [], {}, {"kling_task_id": None}, {"video_url": "x"}, "{oops", "{}", "{1, 2}"],
    )
    def test_what_is_no_video(self, connected: str, tmp_path: Path, wrong: Any) -> None:
        with pytest.raises(KlingValidationError, match="must be a task id or a finished video") as caught:
            store(wrong, f"file://{tmp_path}/clip.mp4")
        assert isinstance(caught.value, AirflowFailException)

    @pytest.mark.parametrize("wrong", ["[]", "[None]", "['task_1', 'task_2']", '[{"kling_task_id": "task_1"}]'])
    def test_the_text_of_a_list_is_not_requested_as_an_id(
        self, sandbox: Sandbox, connected: str, tmp_path: Path, wrong: str
    ) -> None:
        """``{{ ti.xcom_pull(task_ids=['typo']) }}`` renders one."""
        with pytest.raises(KlingValidationError, match="must be a task id or a finished video"):
            store(wrong, f"file://{tmp_path}/clip.mp4")
        assert sandbox.requests.get("status", 0) == 0

    def test_a_video_that_is_not_finished(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        task_id = KlingHook().submit_video(REQUEST).kling_task_id
        with pytest.raises(KlingError, match="has no video to store yet: it is in_progress") as caught:
            store(task_id, f"file://{tmp_path}/clip.mp4")
        assert "KlingTaskSensor" in str(caught.value)

    @pytest.mark.parametrize(
        "response",
        [
            '{"id": "task_1", "status": "completed"}',
            '{"id": "task_1", "status": "completed", "video_url": ""}',
            '{"id": "task_1", "status": "completed", "video_url": 5, "url": ["x"], "metadata": "x"}',
            '{"id": 5, "status": ["completed"], "progress": {}, "video_url": {"url": "x"}}',
            '{"id": "task_1"}',
            "{}",
            "[]",
            "null",
            '"completed"',
            "",
        ],
    )
    def test_a_video_without_a_url_in_the_response(self, connect: Connect, tmp_path: Path, response: str) -> None:
        with RawServer(http_response(response)) as server:
            connect(server.base_url)
            with pytest.raises(KlingError) as caught:
                store("task_1", f"file://{tmp_path}/clip.mp4")
            paths = [request.path for request in server.requests]
        # A completed job may have its file where the API serves it.
        # What does not speak of a job may come from a server without this route.
        others = ["/v1/videos/task_1/content", "/v1/video/generations/task_1"]
        assert paths in (["/v1/videos/task_1"], *(["/v1/videos/task_1", other] for other in others))
        assert "task_1" in str(caught.value)
        assert names_in(tmp_path) == []

    def test_a_video_that_failed(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        sandbox.add_fault(Fault("submit", "job_fails", message="显存不足"))
        task_id = KlingHook().submit_video(REQUEST).kling_task_id
        with pytest.raises(KlingGenerationFailedError, match="显存不足"):
            store(task_id, f"file://{tmp_path}/clip.mp4")

    def test_an_unknown_video(self, connected: str, tmp_path: Path) -> None:
        with pytest.raises(KlingNotFoundError) as caught:
            store("task_unknown", f"file://{tmp_path}/clip.mp4")
        assert isinstance(caught.value, AirflowFailException)
        assert names_in(tmp_path) == []


class TestWhereTheKeyGoes:
    @pytest.fixture
    def two_servers(self, connect: Connect) -> Iterator[tuple[RawServer, RawServer]]:
        """The API, which redirects to another server, and that one."""
        with (
            RawServer(VIDEO) as other,
            RawServer(http_response(status=302, Location=f"{other.base_url}/x.mp4")) as api,
        ):
            connect(api.base_url, KEY, private_hosts="127.0.0.1:*")
            yield api, other

    def test_to_its_own_host_only_through_redirects_too(
        self, two_servers: tuple[RawServer, RawServer], tmp_path: Path
    ) -> None:
        api, other = two_servers
        store(elsewhere(api), f"file://{tmp_path}/clip.mp4")
        assert api.requests[0].headers["Authorization"] == f"Bearer {KEY}"
        assert "Authorization" not in other.requests[0].headers
        assert names_in(tmp_path) == ["clip.mp4"]

    def test_not_to_where_the_video_lies(self, two_servers: tuple[RawServer, RawServer], tmp_path: Path) -> None:
        _, other = two_servers
        store(elsewhere(other), f"file://{tmp_path}/clip.mp4")
        assert "Authorization" not in other.requests[0].headers

    def test_an_address_inside_this_network_is_not_connected_to(
        self, sandbox: Sandbox, connected: str, tmp_path: Path
    ) -> None:
        with RawServer(VIDEO) as inside:
            with pytest.raises(KlingAddressRefusedError) as caught:
                store(elsewhere(inside), f"file://{tmp_path}/clip.mp4")
            assert inside.requests == []
        assert isinstance(caught.value, AirflowFailException)
        assert names_in(tmp_path) == []


class TestArguments:
    def test_video_path_and_connection_are_templates(self) -> None:
        templates = {"video", "path", "kling_conn_id", "last_frame_to"}
        assert set(KlingToObjectStorageOperator.template_fields) == templates

    def test_the_timeout_may_be_a_timedelta(self) -> None:
        task = KlingToObjectStorageOperator(task_id="store", video="x", path="y", timeout=timedelta(minutes=5))
        assert task.timeout == 300

    @pytest.mark.parametrize("timeout", [0, -1, float("inf")])
    def test_a_timeout_that_is_none_is_refused_at_parse(self, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout"):
            KlingToObjectStorageOperator(task_id="store", video="x", path="y", timeout=timeout)

    @pytest.mark.parametrize("max_bytes", [0, -1, 1.5, "5", True])
    def test_a_bound_that_is_none_is_refused_at_parse(self, max_bytes: Any) -> None:
        with pytest.raises(ValueError, match="max_bytes"):
            KlingToObjectStorageOperator(task_id="store", video="x", path="y", max_bytes=max_bytes)

    def test_the_bound_is_that_of_every_download(self) -> None:
        task = KlingToObjectStorageOperator(task_id="store", video="x", path="y")
        assert task.max_bytes == MAX_BYTES == 4 << 30

    @pytest.mark.parametrize("max_bytes", [None, len(MP4)])
    def test_the_bound_may_be_another_or_none(
        self, connect: Connect, tmp_path: Path, max_bytes: int | None
    ) -> None:
        with RawServer(VIDEO) as server:
            connect(server.base_url)
            store(elsewhere(server), f"file://{tmp_path}/clip.mp4", max_bytes=max_bytes)
            with pytest.raises(KlingDownloadError, match=f"more than max_bytes={len(MP4) - 1}"):
                store(elsewhere(server), f"file://{tmp_path}/clip.mp4", max_bytes=len(MP4) - 1)

    @pytest.mark.alone
    def test_all_attempts_together_end_at_the_timeout(self, connect: Connect, tmp_path: Path) -> None:
        def stall(connection: socket.socket, request: Request) -> None:
            connection.sendall(http_response(MP4, length=10**6))
            server.stopping.wait(0.5)

        started = time.monotonic()
        with RawServer(stall) as server:
            connect(server.base_url)
            with pytest.raises(KlingConnectionError):
                store(elsewhere(server), f"file://{tmp_path}/clip.mp4", timeout=0.7)
            assert server.connections == 2
        assert time.monotonic() - started < 1.5

    def test_a_download_that_drips_ends_at_the_timeout(self, connect: Connect, tmp_path: Path) -> None:
        def drip(connection: socket.socket, request: Request) -> None:
            connection.sendall(http_response(MP4, length=10**6))
            while not server.stopping.wait(0.05):
                connection.sendall(b"y")

        with RawServer(drip) as server:
            connect(server.base_url)
            with pytest.raises(KlingConnectionError, match="not complete after"):
                store(elsewhere(server), f"file://{tmp_path}/clip.mp4", timeout=0.2)
        assert names_in(tmp_path) == []
