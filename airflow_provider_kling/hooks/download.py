# SPDX-License-Identifier: Apache-2.0
"""Fetch the file behind a video URL, whole or not at all, with the key for the connection's own host only."""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urljoin

import requests

from airflow_provider_kling.connection import origin
from airflow_provider_kling.exceptions import KlingConnectionError, KlingDownloadError
from airflow_provider_kling.hooks.container import HEAD_BYTES, Boxes, is_video
from airflow_provider_kling.hooks.transport import TRANSPORT_ERRORS, BoundedAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from requests import Response, Session

    from airflow_provider_kling.connection import KlingConnection
    from airflow_provider_kling.hooks.kling import KlingHook

#: Bytes read at once: few calls, and a buffer that stays in the processor's cache, as one of a MiB does not.
CHUNK_BYTES = 256 << 10
MAX_REDIRECTS = 5
#: Statuses by which a store says that a link is no longer good; the API may know a newer one.
EXPIRED_STATUSES = (401, 403, 404, 410)
#: A host as it is sent: a name (IDNA has made it ASCII), or an address.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class Sink(Protocol):
    """Whatever takes the bytes."""

    def write(self, data: bytes, /) -> object: ...


def download(hook: KlingHook, url: str, sink: Sink, *, seconds: float) -> int:
    """
    Stream a video into a sink, in bounded memory.

    :param hook: The hook, for its connection: its key goes to its own host only, whatever the URL says.
    :param url: The video URL; one without a host is taken as the connection's.
    :param sink: Where to write. What it holds after an error is worthless.
    :param seconds: Seconds that the whole download may take.
    :return: The number of bytes written.
    :raises KlingDownloadError: if the file cannot be fetched, is not a video, or is not as long as announced.
    :raises KlingConnectionError: if the connection broke; another attempt may fare better.
    :raises KlingAddressRefusedError: if the URL leads to an address inside this network.
    """
    give_up_at = time.monotonic() + seconds
    connection = hook.connection
    url = _address(connection, f"{connection.base_url}/", url)
    for _ in range(MAX_REDIRECTS + 1):
        session = hook.session if connection.trusts(url) else hook.public_session
        try:
            with _open(session, connection, url, give_up_at - time.monotonic()) as response:
                if not response.is_redirect:
                    return _copy(response, sink, connection)
                url = _address(connection, url, response.headers["Location"])
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


def _copy(response: Response, sink: Sink, connection: KlingConnection) -> int:
    where = _shown(response.url, connection)
    if response.status_code != 200:
        words = response.raw.read(4000, decode_content=False).decode("utf-8", errors="replace")
        raise KlingDownloadError(
            f"The video at {where} cannot be fetched",
            http_status=response.status_code,
            server_message=" ".join(connection.masked(words).split())[:500] or None,
            advice="Its link may have expired.",
        )
    announced = response.headers.get("Content-Length", "")
    written = 0
    head = b""
    boxes = Boxes()
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        if len(head) < HEAD_BYTES:
            head += chunk[:HEAD_BYTES]
            if len(head) >= HEAD_BYTES and not is_video(head):
                raise _not_a_video(where, response, connection)
        boxes.follow(chunk)
        try:
            sink.write(chunk)
        except OSError as error:
            raise KlingDownloadError(f"Writing the video failed: {error}", advice="") from error
        written += len(chunk)
    if len(head) < HEAD_BYTES:
        raise _not_a_video(where, response, connection)
    if announced.isdecimal() and int(announced) != written:
        raise KlingDownloadError(f"The video at {where} has {announced} bytes, but only {written} arrived")
    if not announced.isdecimal() and not response.raw.chunked and not boxes.may_end:
        raise requests.ConnectionError("the server closed it in the middle of the file")
    return written


def _not_a_video(where: str, response: Response, connection: KlingConnection) -> KlingDownloadError:
    kind = connection.masked(response.headers.get("Content-Type", "no content type"))
    return KlingDownloadError(f"What lies at {where} is not a video ({kind})", http_status=response.status_code)


def _shown(url: str, connection: KlingConnection) -> str:
    """Return a URL for a message, without its query (the signature of a pre-signed link), user and password."""
    return connection.masked(re.sub(r"//[^/]*@", "//", url.partition("?")[0]))[:300]
