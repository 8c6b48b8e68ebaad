# SPDX-License-Identifier: Apache-2.0
"""Whether a file that is stored already is the video at a URL, without a second download."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kling.exceptions import KlingDownloadError
from airflow_provider_kling.media.download import (
    CHUNK_BYTES,
    Downloaded,
    FileVersion,
    cannot_be_fetched,
    content_range,
    opened,
)
from airflow_provider_kling.media.facts import facts_of
from airflow_provider_kling.media.mp4 import Mp4BoxReader, is_video

if TYPE_CHECKING:
    from requests import Response

    from airflow_provider_kling.client.sync_client import SyncClient
    from airflow_provider_kling.media.target import Target

#: Bytes at each end of a file that are compared.
_END_BYTES = 64 << 10


class _Content(NamedTuple):
    """
    The content of a stored file.

    :param downloaded: What a download of it would return.
    :param md5: Its MD5.
    :param is_whole: Whether it is a video, and not cut.
    :param begin: Its first bytes.
    :param end: Its last bytes.
    :param index_at: Where its index of all samples lies, if it has a single one.
    """

    downloaded: Downloaded
    md5: bytes
    is_whole: bool
    begin: bytes
    end: bytes
    index_at: tuple[int, int] | None


class StoredFile:
    """
    A file that is stored already; it is read once, and only if it may be the video.

    :param target: Where it is.
    :param size_bytes: Its size.
    """

    def __init__(self, target: Target, size_bytes: int) -> None:
        self._target = target
        self.size_bytes = size_bytes

    @cached_property
    def content(self) -> _Content:
        """
        Its content.

        :raises KlingDownloadError: if it cannot be read.
        """
        boxes, sha256, md5 = Mp4BoxReader(), hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        begin = end = b""
        size = 0
        try:
            with self._target.open() as file:
                while chunk := file.read(CHUNK_BYTES):
                    boxes.follow(chunk)
                    sha256.update(chunk)
                    md5.update(chunk)
                    begin += chunk[: _END_BYTES - len(begin)]
                    end = (end + chunk)[-_END_BYTES:]
                    size += len(chunk)
        except Exception as error:
            raise KlingDownloadError(
                f"{self._target.path} cannot be read: {type(error).__name__}: {error}", advice=""
            ) from error
        downloaded = Downloaded(size, sha256.hexdigest(), facts_of(boxes.description))
        is_whole = is_video(begin) and boxes.flaw is None
        return _Content(downloaded, md5.digest(), is_whole, begin, end, boxes.index_at)


def is_stored(client: SyncClient, url: str, file: StoredFile, *, seconds: float) -> bool:
    """
    Return whether a stored file is the video at a URL.

    It is one if its length and the MD5 that the server tells are equal. Without an MD5 it is one if its length and
    both ends are equal, and the index of all its samples lies in one of the ends. Any doubt is a no.

    :param client: The client of the connection.
    :param url: The video URL.
    :param file: The stored file.
    :param seconds: Seconds that each of at most two requests may take.
    :raises KlingDownloadError: if the URL leads to no file, or the stored file cannot be read.
    :raises KlingConnectionError: if the connection was interrupted.
    """
    return client.connection.redacted(lambda: _is_stored(client, url, file, seconds))


def _is_stored(client: SyncClient, url: str, file: StoredFile, seconds: float) -> bool:
    size = file.size_bytes
    begin_bytes = min(size, _END_BYTES)
    with opened(client, url, seconds=seconds, headers={"Range": f"bytes=0-{begin_bytes - 1}"}) as response:
        if response.status_code not in (200, 206):
            raise cannot_be_fetched(response, client.connection)
        version = FileVersion.of(response)
        if version.size_bytes != size:
            return False
        part = content_range(response)
        md5s = _md5s_of(response)
        begin = _part(response, 0, size) if part else None
    if file.content.downloaded.size_bytes != size or not file.content.is_whole:
        return False
    if file.content.md5 in md5s:
        return True
    if begin is None or begin != file.content.begin or not _is_indexed(file.content, size):
        return False
    if size <= _END_BYTES:
        return True
    first = size - _END_BYTES
    with opened(client, url, seconds=seconds, headers={"Range": f"bytes={first}-{size - 1}"}) as response:
        # Without a validator, the length and the ends are all there is to compare.
        is_same = version.is_same(FileVersion.of(response)) or version.validator is None
        return is_same and _part(response, first, size) == file.content.end


def _is_indexed(content: _Content, size: int) -> bool:
    """Return whether the index of all samples lies in one of the ends that are compared."""
    if content.index_at is None:
        return False
    begin, end = content.index_at
    return end <= _END_BYTES or begin >= size - _END_BYTES


def _part(response: Response, first: int, size: int) -> bytes | None:
    """Return the bytes at one end of a file, None if the response has others."""
    last = min(first + _END_BYTES, size) - 1
    if content_range(response) != (first, last, size):
        return None
    body = bytearray()
    while len(body) <= _END_BYTES and (
        chunk := response.raw.read1(_END_BYTES + 1 - len(body), decode_content=False)
    ):
        body += chunk
    return bytes(body)


def _md5s_of(response: Response) -> set[bytes]:
    """Return the MD5s that a response tells: many stores use that of the content as ETag."""
    found = set()
    with suppress(ValueError):
        found.add(bytes.fromhex(response.headers.get("ETag", "").strip('"')))
    with suppress(ValueError):
        found.add(b64decode(response.headers.get("Content-MD5", ""), validate=True))
    return found - {b""}
