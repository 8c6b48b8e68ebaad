# SPDX-License-Identifier: Apache-2.0
"""
The stored file of a video, streamed through the API server.

Its path comes from an XCom, which every DAG author can write. So it is streamed only from below the prefixes of
``[kling] stream_from``, and only if it begins as a video. A player seeks with ``Range``, so a request is served
from any position, in chunks, by few threads of their own.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.configuration import conf
from airflow.utils.session import create_session
from anyio import CancelScope, CapacityLimiter
from anyio.lowlevel import RunVar
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from airflow_provider_kling.media.mp4 import HEAD_BYTES
from airflow_provider_kling.media.target import target_of
from airflow_provider_kling.records.stores import Identity
from airflow_provider_kling.utils.signed_urls import mask_signatures
from airflow_provider_kling.utils.text import as_mapping
from airflow_provider_kling.videos_page.byte_range import ByteRange, UnsatisfiableRangeError, byte_range
from airflow_provider_kling.videos_page.map_index import map_index_of
from airflow_provider_kling.videos_page.stream_from import (
    Location,
    listed_prefixes,
    location_of,
    prefix_above,
)
from airflow_provider_kling.videos_page.xcom_values import xcom_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Bytes that are read at once.
CHUNK_BYTES = 256 << 10
#: Bytes that a store's file reads ahead; the default of some is 50 MB.
READ_AHEAD_BYTES = 512 << 10
#: Threads that open and read files. They are none of the API server's pool, which a slow store cannot exhaust.
THREADS = 8
#: Maximum number of files that are open at a time, per process; a player that pauses keeps its file open.
MAX_STREAMS = 64

_EBML = b"\x1a\x45\xdf\xa3"
_HEADERS = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-store",
    # Airflow compresses a response without it; then its positions would not be those of the file.
    "Content-Encoding": "identity",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_limiter: RunVar[CapacityLimiter] = RunVar("kling_stored_copy_threads")
_open_streams: set[object] = set()

router = APIRouter()


def may_stream(uri: str) -> bool:
    """Return whether a stored file is below a prefix of ``[kling] stream_from``, by its path alone."""
    return _listed(uri) is not None


@router.api_route(
    "/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/{map_index}/file",
    methods=["GET", "HEAD"],
    response_class=Response,
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)
async def stored_copy(dag_id: str, run_id: str, task_id: str, map_index: str, request: Request) -> Response:
    """Return the stored file of a task instance, or the part of it that ``Range`` asks for."""
    identity = Identity(dag_id, run_id, task_id, map_index_of(map_index))
    file = await _in_thread(partial(_opened, identity))
    if len(_open_streams) >= MAX_STREAMS:
        await _closed(file)
        raise HTTPException(503, "Too many videos are being played. Try again.", headers={"Retry-After": "5"})
    try:
        part = byte_range(request.headers.get("Range"), file.size)
    except UnsatisfiableRangeError:
        await _closed(file)
        size = {"Content-Range": f"bytes */{file.size}"}
        raise HTTPException(416, "The file is shorter than that.", headers=size) from None
    return _FileResponse(file, part, has_body=request.method == "GET")


@dataclass(frozen=True)
class _File:
    """
    A file that is open.

    :param content: Its content.
    :param size: Its size in bytes.
    :param media_type: The media type by its first bytes.
    """

    content: BinaryIO
    size: int
    media_type: str


class _FileResponse(StreamingResponse):
    """
    A file, or a part of it, as a response. The file is closed with the response, however that ends.

    :param file: The file.
    :param part: The part, None for the whole.
    :param has_body: Whether the response has more than headers.
    """

    def __init__(self, file: _File, part: ByteRange | None, *, has_body: bool) -> None:
        sent = part or ByteRange(0, file.size - 1)
        headers = {**_HEADERS, "Content-Length": str(sent.length)}
        if part is not None:
            headers["Content-Range"] = f"bytes {part.first}-{part.last}/{file.size}"
        super().__init__(
            _chunks(file, sent) if has_body else _nothing(),
            status_code=200 if part is None else 206,
            headers=headers,
            media_type=file.media_type,
        )
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _open_streams.add(self)
        try:
            await super().__call__(scope, receive, send)
        finally:
            _open_streams.discard(self)
            await _closed(self._file)


async def _chunks(file: _File, part: ByteRange) -> AsyncIterator[bytes]:
    position, end = part.first, part.last + 1
    while position < end:
        length = min(CHUNK_BYTES, end - position)
        try:
            chunk = await _in_thread(partial(_read_at, file.content, position, length))
        except Exception as error:  # noqa: BLE001 - a store may raise anything
            log.warning("A stored file cannot be read to its end: %s", _described(error))
            chunk = b""
        if not chunk:
            # Headers are sent already; the server closes the connection, so that no file looks complete.
            raise ConnectionError("a stored file ended early")
        position += len(chunk)
        yield chunk


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


def _read_at(content: BinaryIO, position: int, length: int) -> bytes:
    content.seek(position)
    return content.read(length)


async def _closed(file: _File) -> None:
    with CancelScope(shield=True), suppress(Exception):
        await _in_thread(file.content.close)


async def _in_thread(function: Callable[[], T]) -> T:
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = CapacityLimiter(THREADS)
        _limiter.set(limiter)
    return await run_sync(function, limiter=limiter)


def _opened(identity: Identity) -> _File:
    """
    Open the stored file of a task instance.

    :raises HTTPException: if there is none, or it is not streamed.
    """
    path = _stored_path(identity)
    listed = _listed(path)
    if listed is None:
        raise HTTPException(403, "The stored file is not below a prefix of [kling] stream_from.")
    try:
        file = _video(_open(path, *listed))
    except FileNotFoundError:
        raise HTTPException(404, "The stored file is gone.") from None
    except Exception as error:  # noqa: BLE001 - a store may raise anything
        if isinstance(error, OSError) and error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise HTTPException(403, "The path of the stored file has a symbolic link.") from None
        # Its own words may name what a reader of the page must not know.
        _warn("The stored file of %s cannot be opened: %s", identity, error)
        raise HTTPException(502, "The stored file cannot be read. The log of the API server says why.") from None
    if file is None:
        raise HTTPException(403, "The stored file does not begin as MP4 or WebM.")
    return file


def _stored_path(identity: Identity) -> str:
    try:
        # Closed before anything is sent: a stream can last for hours.
        with create_session(scoped=False) as session:
            value = xcom_of(identity, "return_value", session)
    except Exception as error:  # noqa: BLE001 - an XCom backend may raise anything
        _warn("The result of %s cannot be read: %s", identity, error)
        raise HTTPException(502, "The result of the task cannot be read.") from None
    path = as_mapping(value).get("path")
    if not isinstance(path, str) or not path:
        raise HTTPException(404, "The task has stored no file.")
    return path


def _listed(path: str) -> tuple[Location, Location] | None:
    """Return the location of a file and the prefix that it is below; None if it is below none."""
    location = location_of(path)
    prefix = location and prefix_above(location, _prefixes(conf.get("kling", "stream_from", fallback="")))
    return (location, prefix) if location and prefix else None


@lru_cache(maxsize=4)
def _prefixes(text: str) -> list[Location]:
    prefixes, unusable = listed_prefixes(text)
    if unusable:
        log.warning(
            "[kling] stream_from has entries that are ignored: %s. An entry is the URI of a folder in an object "
            "storage, such as s3://conn@bucket/clips, or file:///folder",
            ", ".join(map(mask_signatures, unusable)),
        )
    return prefixes


def _warn(line: str, identity: Identity, error: Exception) -> None:
    log.warning(line, ", ".join(map(str, identity)), _described(error))


def _described(error: Exception) -> str:
    return mask_signatures(f"{type(error).__name__}: {error}")


def _open(path: str, location: Location, prefix: Location) -> BinaryIO:
    return _open_local(location, prefix) if location.is_local else _open_object(path)


def _open_object(path: str) -> BinaryIO:
    content: BinaryIO = target_of(path).open(read_ahead=READ_AHEAD_BYTES).__enter__()
    return content


def _open_local(location: Location, prefix: Location) -> BinaryIO:
    """
    Open a regular file below a folder, without following a symbolic link below that folder.

    Each folder is opened within the one before, so that no name can be replaced by a link in between.
    """
    *folders, name = location.segments[len(prefix.segments) :]
    flags = os.O_RDONLY | os.O_CLOEXEC
    folder = os.open("/" + "/".join(prefix.segments), flags | os.O_DIRECTORY)
    try:
        for inner in folders:
            outer, folder = folder, os.open(inner, flags | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(outer)
        # Without O_NONBLOCK, a named pipe would hold the thread.
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError
    return os.fdopen(descriptor, "rb", buffering=0)


def _video(content: BinaryIO) -> _File | None:
    """Return a file that is open; close it and return None if it does not begin as a video."""
    try:
        size = content.seek(0, os.SEEK_END)
        head = _read_at(content, 0, HEAD_BYTES)
    except BaseException:
        content.close()
        raise
    if head.startswith(_EBML):
        return _File(content, size, "video/webm")
    if head[4:8] == b"ftyp":
        return _File(content, size, "video/mp4")
    content.close()
    return None
