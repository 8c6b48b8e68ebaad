# SPDX-License-Identifier: Apache-2.0
"""Download a complete video from its URL, and send the API key to the connection's own host only."""

from __future__ import annotations

import math
import re
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urljoin

import requests

from airflow_provider_kling.client.connection import origin
from airflow_provider_kling.client.transport import TRANSPORT_ERRORS, BoundedAdapter
from airflow_provider_kling.exceptions import KlingConnectionError, KlingDownloadError
from airflow_provider_kling.media.mp4 import HEAD_BYTES, MAX_BYTES, Mp4BoxReader, is_video
from airflow_provider_kling.utils.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Response, Session

    from airflow_provider_kling.client.connection import KlingConnection
    from airflow_provider_kling.client.sync_client import SyncClient

#: Bytes per read: large enough for few calls, and small enough to stay in the processor's cache (1 MiB is not).
CHUNK_BYTES = 256 << 10
MAX_REDIRECTS = 5
#: Statuses of a store for an expired link; the API may return a newer one.
EXPIRED_STATUSES = (401, 403, 404, 410)
#: Statuses of a temporary problem of the host, besides all of 5xx.
_TRANSIENT_STATUSES = (408, 425, 429)
#: Maximum bytes that are read of a response that is not a video, for the message in it.
_MESSAGE_BYTES = 4000
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
#: A host as it is sent: a name (ASCII after IDNA), or an address.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class Sink(Protocol):
    """Where the bytes are written: a file, or an object with its ``write``."""

    def write(self, data: bytes, /) -> object: ...


def is_transient(http_status: int | None) -> bool:
    """Return whether the host has a temporary problem, so that a later attempt may succeed."""
    return http_status is not None and (http_status >= 500 or http_status in _TRANSIENT_STATUSES)


def download(
    client: SyncClient, url: str, sink: Sink, *, seconds: float, max_bytes: int | None = MAX_BYTES
) -> int:
    """
    Stream a video into a sink, in bounded memory.

    :param client: The client of the connection. Its key is sent to its own host only, whatever the URL is.
    :param url: The video URL; one without a host is relative to the connection's base URL.
    :param sink: Where to write. After an error its content is incomplete.
    :param seconds: Seconds that the whole download may take.
    :param max_bytes: Greatest size of the file in bytes; None sets no limit.
    :return: The number of bytes written.
    :raises KlingDownloadError: if the file cannot be downloaded, is not a video, has more bytes than
        ``max_bytes``, differs in length from the announced one, or is an MP4 that ends in the middle of a box or
        has no ``moov``.
    :raises KlingConnectionError: if the connection was interrupted; another attempt may succeed.
    :raises KlingAddressRefusedError: if the URL leads to an address inside this network.
    """
    return client.connection.redacted(lambda: _download(client, url, sink, seconds, max_bytes))


def _download(client: SyncClient, url: str, sink: Sink, seconds: float, max_bytes: int | None) -> int:
    give_up_at = time.monotonic() + seconds
    connection = client.connection
    url = _address(connection, f"{connection.base_url}/", url)
    for _ in range(MAX_REDIRECTS + 1):
        session = client.session if connection.may_download_from(url) else client.public_session
        try:
            with _open(session, connection, url, give_up_at - time.monotonic()) as response:
                if not response.is_redirect:
                    return _copy(response, sink, connection, max_bytes)
                url = _address(connection, url, _location(response))
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
def _open(session: Session, connection: KlingConnection, url: str, seconds: float) -> Iterator[Response]:
    """Request a file. Redirects are not followed here, so that each hop is checked."""
    adapter = cast("BoundedAdapter", session.get_adapter(url))
    with (
        adapter.within(max(seconds, 0.001)),
        session.get(
            url,
            headers={"Accept": "*/*", "Accept-Encoding": "identity"},
            timeout=(connection.connect_timeout, connection.read_timeout),
            verify=connection.verify,
            allow_redirects=False,
            stream=True,
        ) as response,
    ):
        yield response


def _copy(response: Response, sink: Sink, connection: KlingConnection, max_bytes: int | None) -> int:
    where = _shown(response.url, connection)
    if response.status_code != 200:
        raise _cannot_be_fetched(where, response, connection)
    limit = math.inf if max_bytes is None else max_bytes
    announced = _announced_length(response)
    if announced is not None and announced > limit:
        raise KlingDownloadError(
            f"The video at {where} has {announced} bytes, more than max_bytes={limit}", advice=""
        )
    written = 0
    head = b""
    boxes = Mp4BoxReader()
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        if len(head) < HEAD_BYTES:
            head += chunk[:HEAD_BYTES]
            if len(head) >= HEAD_BYTES and not is_video(head):
                raise _not_a_video(where, response, connection, head + chunk[HEAD_BYTES:])
        written += len(chunk)
        if written > limit:
            raise KlingDownloadError(f"The video at {where} has more bytes than max_bytes={limit}", advice="")
        boxes.follow(chunk)
        _write(sink, chunk)
    if len(head) < HEAD_BYTES:
        raise _not_a_video(where, response, connection, head)
    if announced is not None and announced != written:
        raise KlingDownloadError(f"The video at {where} has {announced} bytes, but only {written} were received")
    if flaw := boxes.flaw:
        raise _cut_file(where, announced, flaw)
    return written


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


def _cannot_be_fetched(where: str, response: Response, connection: KlingConnection) -> KlingDownloadError:
    return KlingDownloadError(
        f"The video at {where} cannot be downloaded",
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
