# SPDX-License-Identifier: Apache-2.0
"""
Download a complete video from its URL, and send the API key to the connection's own host only.

A download that broke off is continued where the server proves that it is the same file.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import urljoin

import requests

from airflow_provider_kling.client.connection import origin
from airflow_provider_kling.client.transport import TRANSPORT_ERRORS, BoundedAdapter
from airflow_provider_kling.exceptions import KlingAddressRefusedError, KlingConnectionError, KlingDownloadError
from airflow_provider_kling.media.facts import VideoFacts, facts_of
from airflow_provider_kling.media.mp4 import HEAD_BYTES, MAX_BYTES, Mp4BoxReader, is_video
from airflow_provider_kling.utils.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from requests import Response, Session

    from airflow_provider_kling.client.connection import KlingConnection
    from airflow_provider_kling.client.sync_client import SyncClient

#: Bytes per read: large enough for few calls, and small enough to stay in the processor's cache (1 MiB is not).
CHUNK_BYTES = 512 << 10
#: Bytes that are hashed at once: enough that handing them to the other thread costs little.
_HASHED_BYTES = 1 << 20
MAX_REDIRECTS = 5
#: Statuses of a store for an expired link; the API may return a newer one.
EXPIRED_STATUSES = (401, 403, 404, 410)
#: Statuses of a temporary problem of the host, besides all of 5xx.
_TRANSIENT_STATUSES = (408, 425, 429)
#: Maximum bytes that are read of a response that is not a video, for the message in it.
_MESSAGE_BYTES = 4000
#: Statuses for a part of a file that is not there as requested: all of it, another version, or nothing.
_NOT_THAT_PART = (200, 412, 416)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20})")
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
#: A host as it is sent: a name (ASCII after IDNA), or an address.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class Sink(Protocol):
    """Where the bytes are written: a file, or an object with its ``write``."""

    def write(self, data: bytes, /) -> object: ...


class Downloaded(NamedTuple):
    """
    A file that was received.

    :param size_bytes: Its size.
    :param sha256: The SHA-256 of its content, 64 hexadecimal digits.
    :param facts: What the file itself says of the video.
    """

    size_bytes: int
    sha256: str
    facts: VideoFacts


class CannotContinueError(KlingDownloadError):
    """What was received of a file cannot be continued: start again, with an empty sink."""


class FileVersion(NamedTuple):
    """
    What identifies a file at its URL, each None where the server does not say it.

    :param etag: Its ETag, if that is a strong one: equal for equal bytes only.
    :param last_modified: The time of its last change, if no second change can have the same.
    :param size_bytes: Its size.
    """

    etag: str | None
    last_modified: str | None
    size_bytes: int | None

    @classmethod
    def of(cls, response: Response) -> FileVersion:
        """Return the version that a response with a file, or with a part of one, delivers."""
        etag = response.headers.get("ETag", "")
        modified = response.headers.get("Last-Modified", "")
        part = content_range(response)
        return cls(
            etag=etag if etag.startswith('"') and etag.endswith('"') and len(etag) > 2 else None,
            last_modified=modified if _is_before(modified, response.headers.get("Date", "")) else None,
            size_bytes=part[2] if part else _announced_length(response),
        )

    @property
    def validator(self) -> str | None:
        """What ``If-Range`` may name."""
        return self.etag or self.last_modified

    def is_same(self, other: FileVersion) -> bool:
        """Return whether another version is proven to have the same bytes as this one."""
        if self.size_bytes is not None and self.size_bytes != other.size_bytes:
            return False
        if self.etag:
            return self.etag == other.etag
        return self.last_modified is not None and self.last_modified == other.last_modified


def is_transient(http_status: int | None) -> bool:
    """Return whether the host has a temporary problem, so that a later attempt may succeed."""
    return http_status is not None and (http_status >= 500 or http_status in _TRANSIENT_STATUSES)


def download(
    client: SyncClient, url: str, sink: Sink, *, seconds: float, max_bytes: int | None = MAX_BYTES
) -> Downloaded:
    """
    Stream a video into a sink, in bounded memory, in one attempt.

    See :class:`Download` for the arguments, and :meth:`Download.attempt` for what is returned and raised.
    """
    return Download(client, sink, max_bytes=max_bytes).attempt(url, seconds=seconds)


class Download:
    """
    A file on its way into a sink, in bounded memory, over any number of attempts.

    :param client: The client of the connection. Its key is sent to its own host only, whatever the URL is.
    :param sink: Where to write. After an error its content is incomplete.
    :param max_bytes: Greatest size of the file in bytes; None sets no limit.
    """

    def __init__(self, client: SyncClient, sink: Sink, *, max_bytes: int | None = MAX_BYTES) -> None:
        self._client = client
        self._sink = sink
        self._limit = math.inf if max_bytes is None else max_bytes
        self._url = ""
        self._version = FileVersion(None, None, None)
        self._received = 0
        self._boxes = Mp4BoxReader()
        self._sha256 = _BackgroundHash()
        #: Bytes that attempts after the first one have added.
        self.continued_bytes = 0

    def attempt(self, url: str, *, seconds: float) -> Downloaded:
        """
        Receive the file, or the rest of it.

        :param url: The video URL; one without a host is relative to the connection's base URL.
        :param seconds: Seconds that the attempt may take.
        :return: The whole file.
        :raises CannotContinueError: if a part was received, and the rest of the same file is not to be had.
        :raises KlingDownloadError: if the file cannot be downloaded, is not a video, has more bytes than
            ``max_bytes``, differs in length from the announced one, or is an MP4 that ends in the middle of a box
            or has no ``moov``.
        :raises KlingConnectionError: if the connection was interrupted; another attempt may succeed.
        :raises KlingAddressRefusedError: if the URL leads to an address inside this network.
        """
        return self._client.connection.redacted(lambda: self._attempt(url, seconds))

    def _attempt(self, url: str, seconds: float) -> Downloaded:
        headers = self._continuing_headers(url) if self._received else {}
        with opened(self._client, url, seconds=seconds, headers=headers) as response:
            where = _shown(response.url, self._client.connection)
            if self._received:
                self._check_continuation(response, where)
            elif response.status_code != 200:
                raise cannot_be_fetched(response, self._client.connection)
            else:
                self._url, self._version = url, FileVersion.of(response)
            self._receive(response, where)
            self._check_end(response, where)
        return Downloaded(self._received, self._sha256.hexdigest(), facts_of(self._boxes.description))

    def _continuing_headers(self, url: str) -> dict[str, str]:
        version = self._version
        is_sure = url == self._url or (version.etag and version.size_bytes)
        if version.validator is None or not is_sure:
            raise CannotContinueError(
                f"The download broke off after {self._received} bytes, and its server does not say whether "
                "the file is still the same; starting from the beginning",
                advice="",
            )
        return {"Range": f"bytes={self._received}-", "If-Range": version.validator}

    def _check_continuation(self, response: Response, where: str) -> None:
        """Raise unless the response is the rest of the same file."""
        if response.status_code not in (206, *_NOT_THAT_PART):
            raise cannot_be_fetched(response, self._client.connection)
        version, part = FileVersion.of(response), content_range(response)
        is_rest = response.status_code == 206 and part is not None and part[0] == self._received
        if not is_rest or not self._version.is_same(version):
            raise CannotContinueError(
                f"The download of the video from {where} broke off after {self._received} bytes, and the server "
                "does not send the rest of the same file; starting from the beginning",
                http_status=response.status_code,
                advice="",
            )
        self._version = self._version._replace(size_bytes=version.size_bytes)

    def _receive(self, response: Response, where: str) -> None:
        total = self._version.size_bytes
        if total is not None and total > self._limit:
            raise KlingDownloadError(
                f"The video at {where} has {total} bytes, more than max_bytes={self._limit}", advice=""
            )
        is_continued = self._received > 0
        head = b""
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            if not self._received:
                head = chunk = head + chunk
                if len(head) < HEAD_BYTES:
                    continue
                if not is_video(head):
                    raise _not_a_video(where, response, self._client.connection, head)
            if self._received + len(chunk) > self._limit:
                raise KlingDownloadError(
                    f"The video at {where} has more bytes than max_bytes={self._limit}", advice=""
                )
            self._boxes.follow(chunk)
            self._sha256.update(chunk)
            _write(self._sink, chunk)
            self._received += len(chunk)
            if is_continued:
                self.continued_bytes += len(chunk)
        if not self._received:
            raise _not_a_video(where, response, self._client.connection, head)

    def _check_end(self, response: Response, where: str) -> None:
        """Raise unless the file is whole."""
        total = self._version.size_bytes
        if total is not None and total != self._received:
            if response.status_code == 206 and self._received < total:
                raise requests.ConnectionError(f"{self._received} of {total} bytes were received")
            error = CannotContinueError if response.status_code == 206 else KlingDownloadError
            raise error(f"The video at {where} has {total} bytes, but {self._received} were received")
        if flaw := self._boxes.flaw:
            raise _cut_file(where, total, flaw)


@contextmanager
def opened(client: SyncClient, url: str, *, seconds: float, headers: Mapping[str, str]) -> Iterator[Response]:
    """
    Request a file, along its redirects; the block reads it.

    :param client: The client of the connection. Its key is sent to its own host only.
    :param url: The URL; one without a host is relative to the connection's base URL.
    :param seconds: Seconds that all may take, the block included.
    :param headers: Headers of the request, besides those that every download has.
    :raises KlingDownloadError: if the URL is not valid, or redirects too often.
    :raises KlingConnectionError: if the connection was interrupted, also in the block.
    :raises KlingAddressRefusedError: if the URL leads to an address inside this network.
    """
    give_up_at = time.monotonic() + seconds
    connection = client.connection
    url = _address(connection, f"{connection.base_url}/", url)
    for _ in range(MAX_REDIRECTS + 1):
        session = client.session if connection.may_download_from(url) else client.public_session
        try:
            with _open(session, connection, url, give_up_at - time.monotonic(), headers) as response:
                if not response.is_redirect:
                    yield response
                    return
                url = _address(connection, url, _location(response))
        except KlingAddressRefusedError as error:
            raise error.replace(advice=connection.named(error.advice)) from None
        except TRANSPORT_ERRORS as error:
            # The query of a pre-signed link holds its signature, and is sent in another spelling than in the URL.
            reason = re.sub(r"\?\S*", "?...", f"{type(error).__name__}: {error}")
            raise KlingConnectionError(
                f"The download of the video from {_shown(url, connection)} was interrupted: "
                f"{connection.masked(reason)}",
                advice="The video stays at the vendor until its link expires; retry soon.",
            ) from None  # the original message contains the whole URL
    raise KlingDownloadError(
        f"The video URL redirects more than {MAX_REDIRECTS} times, the last time to {_shown(url, connection)}"
    )


def content_range(response: Response) -> tuple[int, int, int] | None:
    """Return the first and the last byte of a part, and the size of its file; None if they make no sense."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code != 206 or match is None:
        return None
    first, last, size = (int(number) for number in match.groups())
    length = _announced_length(response)
    is_valid = first <= last < size and length in (None, last - first + 1)
    return (first, last, size) if is_valid else None


class _BackgroundHash:
    """
    A SHA-256 that is computed while the next bytes are received and written: it needs as much time as both.

    Its thread ends with this object.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kling-sha256")
        self._running: Future[None] | None = None
        self._collected: list[bytes] = []
        self._collected_bytes = 0

    def update(self, data: bytes) -> None:
        """Add bytes, after the earlier ones."""
        self._collected.append(data)
        self._collected_bytes += len(data)
        if self._collected_bytes >= _HASHED_BYTES:
            self._start()

    def hexdigest(self) -> str:
        """Return the hash of all bytes so far."""
        self._start()
        self._wait()
        return self._hash.hexdigest()

    def _start(self) -> None:
        self._wait()
        self._running = self._thread.submit(self._add, self._collected)
        self._collected, self._collected_bytes = [], 0

    def _add(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._hash.update(piece)

    def _wait(self) -> None:
        if self._running is not None:
            self._running.result()


def _is_before(modified: str, now: str) -> bool:
    """Return whether a file was changed more than a second before the response, so not twice in one second."""
    try:
        return parsedate_to_datetime(now) - parsedate_to_datetime(modified) > timedelta(seconds=1)
    except (ValueError, TypeError, OverflowError):
        return False


def _address(connection: KlingConnection, base: str, url: str) -> str:
    """
    Return the absolute form of a URL as it is sent, so that the checked host is the host that is connected to.

    Parsers differ over a backslash before an ``@``: for some the host ends there, for others it begins after it.
    """
    try:
        prepared = requests.Request("GET", urljoin(base, url)).prepare().url or ""
        scheme, host, _ = origin(prepared)
    except ValueError:  # the original message contains the whole URL
        raise KlingDownloadError(f"The video URL {_shown(url, connection)} is not a valid URL") from None
    if scheme not in ("http", "https"):
        raise KlingDownloadError(f"The video URL {_shown(url, connection)} is not an http(s) URL")
    if not _HOST.fullmatch(host):
        raise KlingDownloadError(f"The video URL {_shown(url, connection)} has no valid host")
    return prepared


def _location(response: Response) -> str:
    """Return the target of a redirect. The header was decoded as Latin-1, but most hosts send UTF-8."""
    location = response.headers["Location"]
    try:
        return location.encode("latin-1").decode()
    except UnicodeError:
        return location


@contextmanager
def _open(
    session: Session, connection: KlingConnection, url: str, seconds: float, headers: Mapping[str, str]
) -> Iterator[Response]:
    """Request a file. Redirects are not followed here, so that each hop is checked."""
    adapter = cast("BoundedAdapter", session.get_adapter(url))
    with (
        adapter.within(max(seconds, 0.001)),
        session.get(
            url,
            headers={"Accept": "*/*", "Accept-Encoding": "identity", **headers},
            timeout=(connection.connect_timeout, connection.read_timeout),
            verify=connection.verify,
            allow_redirects=False,
            stream=True,
        ) as response,
    ):
        yield response


def _write(sink: Sink, chunk: bytes) -> None:
    """Write a chunk. An error of the store must not count as an interrupted connection."""
    try:
        sink.write(chunk)
    except Exception as error:
        raise KlingDownloadError(f"Writing the video failed: {error}", advice="") from error


def _cut_file(where: str, announced: int | None, flaw: str) -> Exception:
    if announced is None:
        return requests.ConnectionError(f"it ended {flaw}")
    return KlingDownloadError(
        f"The video at {where} is damaged: all {announced} bytes were received, and end {flaw}",
        advice="The file is damaged at the vendor; request a complete one there.",
    )


def _announced_length(response: Response) -> int | None:
    """Return the length in the response's headers, None if there is no valid one."""
    length = response.headers.get("Content-Length", "")
    # int() rejects thousands of digits.
    return int(length) if length.isdecimal() and len(length) < 100 and not response.raw.chunked else None


def cannot_be_fetched(response: Response, connection: KlingConnection) -> KlingDownloadError:
    """Return the error of a response that is not a file."""
    return KlingDownloadError(
        f"The video at {_shown(response.url, connection)} cannot be downloaded",
        http_status=response.status_code,
        server_message=_message_in(response, connection),
        advice=_advice(response.status_code),
    )


def _advice(http_status: int) -> str:
    if is_transient(http_status):
        return "The host has a temporary problem; try again soon."
    if http_status in (206, 304, 416):
        return "The whole file was requested, without conditions: a proxy or cache in between answers otherwise."
    if http_status < 300:
        return "Its host accepts the request, and sends no file."
    if http_status < 400:
        return "Its host redirects without an address."
    return (
        "The link may have expired."
        if http_status in (400, *EXPIRED_STATUSES)
        else "Its host refuses the download."
    )


def _not_a_video(where: str, response: Response, connection: KlingConnection, begin: bytes) -> KlingDownloadError:
    kind = _one_line(response.headers.get("Content-Type", "no content type"), connection)[:100]
    return KlingDownloadError(
        f"The content at {where} is not a video ({kind})",
        http_status=response.status_code,
        server_message=_message_in(response, connection, begin),
    )


def _message_in(response: Response, connection: KlingConnection, begin: bytes = b"") -> str | None:
    """Return the start of a body that is not a video, if it is text."""
    body = bytearray(begin[:_MESSAGE_BYTES])
    with suppress(*TRANSPORT_ERRORS):  # the status, or the start of the body, is enough for the error
        while len(body) < _MESSAGE_BYTES:
            chunk = response.raw.read1(_MESSAGE_BYTES - len(body), decode_content=False)
            if not chunk:
                break
            body += chunk
    text = " ".join(connection.masked(body.decode("utf-8", errors="replace")).split())
    return None if _BINARY.search(text) else text[:500] or None


def _shown(url: str, connection: KlingConnection) -> str:
    """Return a URL for a message, without its query (the signature of a pre-signed link), user and password."""
    return _one_line(re.sub(r"//[^/]*@", "//", url.partition("?")[0]), connection)[:300]


def _one_line(text: str, connection: KlingConnection) -> str:
    """Return a header's text for a message, without the key and without control characters for terminals."""
    return connection.masked(" ".join(clean_text(text).split()))
