# SPDX-License-Identifier: Apache-2.0
"""Fetch the file behind a video URL, whole or not at all, with the key for the connection's own host only."""

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

#: Bytes read at once: few calls, and a buffer that stays in the processor's cache, as one of a MiB does not.
CHUNK_BYTES = 256 << 10
MAX_REDIRECTS = 5
#: Statuses by which a store says that a link is no longer good; the API may know a newer one.
EXPIRED_STATUSES = (401, 403, 404, 410)
#: Statuses of a host that is busy or in trouble, besides all of 5xx.
_BUSY_STATUSES = (408, 425, 429)
#: Bytes of what came instead of a video that are read for its words.
_WORDS_BYTES = 4000
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
#: A host as it is sent: a name (IDNA has made it ASCII), or an address.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class Sink(Protocol):
    """Whatever takes the bytes."""

    def write(self, data: bytes, /) -> object: ...


def is_transient(http_status: int | None) -> bool:
    """Return whether a host that answers so may serve the file a moment later."""
    return http_status is not None and (http_status >= 500 or http_status in _BUSY_STATUSES)


def download(
    client: SyncClient, url: str, sink: Sink, *, seconds: float, max_bytes: int | None = MAX_BYTES
) -> int:
    """
    Stream a video into a sink, in bounded memory.

    :param client: The client of the connection: its key goes to its own host only, whatever the URL says.
    :param url: The video URL; one without a host is taken as the connection's.
    :param sink: Where to write. What it holds after an error is worthless.
    :param seconds: Seconds that the whole download may take.
    :param max_bytes: Bytes that the file may have; None sets no bound.
    :return: The number of bytes written.
    :raises KlingDownloadError: if the file cannot be fetched, is not a video, is longer than ``max_bytes``, not as
        long as announced, or an MP4 that ends in the middle of a box.
    :raises KlingConnectionError: if the connection broke; another attempt may fare better.
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
            # As sent, a query has other spellings than the URL; the signature of a pre-signed link stands there.
            reason = re.sub(r"\?\S*", "?...", f"{type(error).__name__}: {error}")
            raise KlingConnectionError(
                f"Downloading the video from {_shown(url, connection)} broke off: {connection.masked(reason)}",
                advice="The video stays at the vendor until its link expires; retry soon.",
            ) from None  # whose words hold the whole URL
    raise KlingDownloadError(
        f"The video URL redirects more than {MAX_REDIRECTS} times, at last to {_shown(url, connection)}"
    )


def _address(connection: KlingConnection, base: str, url: str) -> str:
    """
    Return the absolute form of a URL in the spelling that is sent, so that the host judged is the host asked.

    Parsers differ over a backslash before an ``@``: for some the host ends there, for others it begins behind.
    """
    try:
        prepared = requests.Request("GET", urljoin(base, url)).prepare().url or ""
        scheme, host, _ = origin(prepared)
    except ValueError:  # whose words hold the whole URL
        raise KlingDownloadError(f"The video URL {_shown(url, connection)} is no URL") from None
    if scheme not in ("http", "https"):
        raise KlingDownloadError(f"The video URL {_shown(url, connection)} is not an http(s) URL")
    if not _HOST.fullmatch(host):
        raise KlingDownloadError(f"The video URL {_shown(url, connection)} has no host that can be one")
    return prepared


def _location(response: Response) -> str:
    """Return where a redirect leads. Its header was read as Latin-1, and most hosts write UTF-8."""
    told = response.headers["Location"]
    try:
        return told.encode("latin-1").decode()
    except UnicodeError:
        return told


@contextmanager
def _open(session: Session, connection: KlingConnection, url: str, seconds: float) -> Iterator[Response]:
    """Ask for a file; redirects are not followed here, so that each hop is looked at."""
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
    bound = math.inf if max_bytes is None else max_bytes
    announced = _announced(response)
    if announced is not None and announced > bound:
        raise KlingDownloadError(
            f"The video at {where} has {announced} bytes, more than max_bytes={bound}", advice=""
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
        if written > bound:
            raise KlingDownloadError(f"The video at {where} has more bytes than max_bytes={bound}", advice="")
        boxes.follow(chunk)
        _write(sink, chunk)
    if len(head) < HEAD_BYTES:
        raise _not_a_video(where, response, connection, head)
    if announced is not None and announced != written:
        raise KlingDownloadError(f"The video at {where} has {announced} bytes, but only {written} arrived")
    if not boxes.at_box_boundary:
        raise _cut(where, announced)
    return written


def _write(sink: Sink, chunk: bytes) -> None:
    """Write a chunk; an error of the store must not count as a broken connection."""
    try:
        sink.write(chunk)
    except Exception as error:
        raise KlingDownloadError(f"Writing the video failed: {error}", advice="") from error


def _cut(where: str, announced: int | None) -> Exception:
    if announced is None:
        return requests.ConnectionError("it ended in the middle of the file")
    return KlingDownloadError(
        f"The video at {where} is damaged: all of its {announced} bytes arrived, and end in the middle of a box",
        advice="It lies so at the vendor; ask there for a whole one.",
    )


def _announced(response: Response) -> int | None:
    """Return the length that the server told, None if there is none to go by."""
    told = response.headers.get("Content-Length", "")
    # Python refuses to read a number of thousands of digits.
    return int(told) if told.isdecimal() and len(told) < 100 and not response.raw.chunked else None


def _cannot_be_fetched(where: str, response: Response, connection: KlingConnection) -> KlingDownloadError:
    transient = is_transient(response.status_code)
    return KlingDownloadError(
        f"The video at {where} cannot be fetched",
        http_status=response.status_code,
        server_message=innermost_message(response, connection),
        advice="Its host is busy or in trouble; try again soon." if transient else "Its link may have expired.",
    )


def _not_a_video(where: str, response: Response, connection: KlingConnection, begin: bytes) -> KlingDownloadError:
    kind = _one_line(response.headers.get("Content-Type", "no content type"), connection)[:100]
    return KlingDownloadError(
        f"What lies at {where} is not a video ({kind})",
        http_status=response.status_code,
        server_message=innermost_message(response, connection, begin),
    )


def innermost_message(response: Response, connection: KlingConnection, begin: bytes = b"") -> str | None:
    """Return what a server says in place of a file, if that is a text."""
    body = bytearray(begin[:_WORDS_BYTES])
    with suppress(*TRANSPORT_ERRORS):  # the status, or the beginning, is enough to report
        while len(body) < _WORDS_BYTES:
            chunk = response.raw.read1(_WORDS_BYTES - len(body), decode_content=False)
            if not chunk:
                break
            body += chunk
    words = " ".join(connection.masked(body.decode("utf-8", errors="replace")).split())
    return None if _BINARY.search(words) else words[:500] or None


def _shown(url: str, connection: KlingConnection) -> str:
    """Return a URL for a message, without its query (the signature of a pre-signed link), user and password."""
    return _one_line(re.sub(r"//[^/]*@", "//", url.partition("?")[0]), connection)[:300]


def _one_line(told: str, connection: KlingConnection) -> str:
    """Return what a header says for a message: no control characters, which a terminal would obey, and no key."""
    return connection.masked(" ".join(clean_text(told).split()))
