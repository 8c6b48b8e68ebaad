# SPDX-License-Identifier: Apache-2.0
"""Fetch the file behind a video URL, whole or not at all, with the key for the connection's own host only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from airflow_provider_kling.exceptions import KlingDownloadError

if TYPE_CHECKING:
    from requests import Response, Session

    from airflow_provider_kling.connection import KlingConnection

CHUNK_BYTES = 1 << 20
MAX_REDIRECTS = 5
#: Statuses by which a store says that a link is no longer good; the API may know a newer one.
EXPIRED_STATUSES = (401, 403, 404, 410)
#: First four bytes after the size with which an MP4 or QuickTime file can begin.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_EBML = b"\x1a\x45\xdf\xa3"  # WebM, Matroska


class Sink(Protocol):
    """Whatever takes the bytes."""

    def write(self, data: bytes, /) -> object: ...


def download(session: Session, connection: KlingConnection, url: str, sink: Sink, *, seconds: float) -> int:
    """
    Stream a video into a sink, in bounded memory.

    :param session: A session of ``KlingHook``; its authentication sends the key to the connection's host only.
    :param connection: The connection, for its timeouts and its host.
    :param url: The video URL; one without a host is taken as the connection's.
    :param sink: Where to write. What it holds after an error is worthless.
    :param seconds: Seconds after which a download that still drips is given up.
    :return: The number of bytes written.
    :raises KlingDownloadError: if the file cannot be fetched, is not a video, or is not as long as announced.
    """
    give_up_at = time.monotonic() + seconds
    try:
        with _open(session, connection, urljoin(f"{connection.base_url}/", url)) as response:
            return _copy(response, sink, give_up_at)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise KlingDownloadError(
            f"Downloading the video from {_shown(url)} broke off: {type(error).__name__}: {error}",
            advice="The video stays at the vendor until its link expires; retry soon.",
        ) from error


def _open(session: Session, connection: KlingConnection, url: str) -> Response:
    """Return the answer that holds the file; redirects are followed here so that each hop is looked at."""
    for _ in range(MAX_REDIRECTS + 1):
        if urlsplit(url).scheme not in ("http", "https"):
            raise KlingDownloadError(f"The video URL {_shown(url)} is not an http(s) URL")
        response = session.get(
            url,
            headers={"Accept": "*/*", "Accept-Encoding": "identity"},
            timeout=(connection.connect_timeout, connection.read_timeout),
            allow_redirects=False,
            stream=True,
        )
        if not response.is_redirect:
            return response
        response.close()
        url = urljoin(url, response.headers["Location"])
    raise KlingDownloadError(f"The video URL redirects more than {MAX_REDIRECTS} times, at last to {_shown(url)}")


def _copy(response: Response, sink: Sink, give_up_at: float) -> int:
    where = _shown(response.url)
    if response.status_code != 200:
        words = response.raw.read(500, decode_content=False).decode("utf-8", errors="replace")
        raise KlingDownloadError(
            f"The video at {where} cannot be fetched",
            http_status=response.status_code,
            server_message=" ".join(words.split()) or None,
            advice="Its link may have expired.",
        )
    announced = response.headers.get("Content-Length", "")
    written = 0
    head = b""
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        if len(head) < 12:
            head += chunk[:12]
            if len(head) >= 12 and not _is_video(head):
                raise _not_a_video(where, response)
        sink.write(chunk)
        written += len(chunk)
        if time.monotonic() > give_up_at:
            raise KlingDownloadError(f"The video at {where} comes too slowly: {written} bytes so far")
    if len(head) < 12:
        raise _not_a_video(where, response)
    if announced.isdecimal() and int(announced) != written:
        raise KlingDownloadError(f"The video at {where} has {announced} bytes, but only {written} arrived")
    return written


def _is_video(head: bytes) -> bool:
    return head[4:8] in _MP4_BOXES or head.startswith(_EBML)


def _not_a_video(where: str, response: Response) -> KlingDownloadError:
    kind = response.headers.get("Content-Type", "no content type")
    return KlingDownloadError(f"What lies at {where} is not a video ({kind})", http_status=response.status_code)


def _shown(url: str) -> str:
    """Return a URL for a message without its query: there the signature of a pre-signed link stands."""
    return url.partition("?")[0][:300]
