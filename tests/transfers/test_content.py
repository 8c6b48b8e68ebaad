# SPDX-License-Identifier: Apache-2.0
"""A completed job without a URL: the file lies where the API serves it, or a person can find it by the error."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.exceptions import KlingDownloadError, KlingError, KlingGenerationFailedError
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.conftest import Connect
from tests.fixtures.responses import KEY
from tests.fixtures.videos import VIDEO
from tests.raw_server import RawServer, Request, http_response
from tests.task_context import context

Reply = Callable[[Request], bytes]
DONE = {"id": "task_1", "status": "completed", "file_id": "9021"}


def serving(status: Any, content: bytes) -> Callable[[socket.socket, Request], None]:
    def handle(connection: socket.socket, request: Request) -> None:
        told = content if request.path.endswith("/content") else http_response(json.dumps(status))
        connection.sendall(told)

    return handle


def store(video: Any, folder: Path) -> str:
    return KlingToObjectStorageOperator(task_id="store", video=video, path=f"file://{folder}/clip.mp4").execute(
        context()
    )


def content_of(server: RawServer) -> dict[str, str]:
    return {"kling_task_id": "task_1", "video_url": f"{server.base_url}/v1/videos/task_1/content"}


def test_the_content_is_fetched_with_the_key(connect: Connect, tmp_path: Path) -> None:
    with RawServer(serving(DONE, VIDEO)) as server:
        connect(server.base_url, KEY)
        store("task_1", tmp_path)
    assert [request.path for request in server.requests] == ["/v1/videos/task_1", "/v1/videos/task_1/content"]
    assert server.requests[1].headers["Authorization"] == f"Bearer {KEY}"


def test_a_redirect_away_from_the_api_is_followed_without_the_key(connect: Connect, tmp_path: Path) -> None:
    with RawServer(VIDEO) as other:
        redirect = http_response(status=302, Location=f"{other.base_url}/x.mp4")
        with RawServer(serving(DONE, redirect)) as server:
            connect(server.base_url, KEY, private_hosts="127.0.0.1:*")
            store(content_of(server), tmp_path)
    assert "Authorization" not in other.requests[0].headers


@pytest.mark.parametrize(
    "content", [http_response("{}"), http_response('{"error":"no"}', 404), http_response("no", 400)]
)
@pytest.mark.parametrize("is_waited_for", [False, True])
def test_no_video_there_is_an_error_that_quotes_the_status(
    connect: Connect, tmp_path: Path, content: bytes, is_waited_for: bool
) -> None:
    with RawServer(serving({**DONE, "note": f"key {KEY}", "prompt": "a cat"}, content)) as server:
        connect(server.base_url, KEY)
        with pytest.raises(KlingDownloadError) as caught:
            store(content_of(server) if is_waited_for else "task_1", tmp_path)
    told = str(caught.value)
    assert "9021" in told
    assert "task_1" in told
    assert "made and paid for" in told
    assert KEY not in told
    assert "a cat" not in told
    assert len(server.requests) <= 3


def test_a_url_that_came_meanwhile_is_taken(connect: Connect, tmp_path: Path) -> None:
    with RawServer(VIDEO) as other:
        status = {**DONE, "video_url": f"{other.base_url}/x.mp4"}
        with RawServer(serving(status, http_response("{}", 404))) as server:
            connect(server.base_url, KEY, private_hosts="127.0.0.1:*")
            assert store(content_of(server), tmp_path)


def test_a_link_that_expired_falls_back_to_the_content(connect: Connect, tmp_path: Path) -> None:
    with RawServer(http_response("expired", 403)) as old, RawServer(serving(DONE, VIDEO)) as server:
        connect(server.base_url, KEY, private_hosts="127.0.0.1:*")
        assert store({"kling_task_id": "task_1", "video_url": f"{old.base_url}/x.mp4"}, tmp_path)


def test_a_job_whose_word_is_unknown_is_not_finished_but_its_link_is_renewed(
    connect: Connect, tmp_path: Path
) -> None:
    with RawServer(VIDEO) as other:
        status = {"id": "task_1", "status": "dreamt", "progress": 100, "video_url": f"{other.base_url}/x.mp4"}
        with RawServer(serving(status, http_response("{}", 404))) as server:
            connect(server.base_url, KEY, private_hosts="127.0.0.1:*")
            with pytest.raises(KlingError, match="no video to store yet"):
                store("task_1", tmp_path)
            assert other.requests == []
            assert store(content_of(server), tmp_path)


def test_a_job_that_is_gone_has_no_video(connect: Connect, tmp_path: Path) -> None:
    with RawServer(serving({"id": "task_1", "status": "expired"}, VIDEO)) as server:
        connect(server.base_url, KEY)
        with pytest.raises(KlingGenerationFailedError, match="expired"):
            store("task_1", tmp_path)
