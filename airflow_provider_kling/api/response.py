# SPDX-License-Identifier: Apache-2.0
"""An HTTP response as plain values, independent of the HTTP library."""

from __future__ import annotations

import json
import time
from dataclasses import InitVar, dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.utils.coerce import parse_number

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Maximum bytes of a response; a usual one has a few hundred. Decoding blocks all triggers of a triggerer, for a
#: second where a kilobyte on the wire decompresses to a mebibyte of nested lists.
MAX_RESPONSE_BYTES = 128 << 10
#: Bytes of the response to a submit, besides the request that it may repeat, images included. A worker reads it,
#: once; and it may hold the only trace of a paid job.
MAX_SUBMIT_RESPONSE_BYTES = 4 << 20


#: Maximum number of lists and objects in a JSON body; a usual one has a few dozen. Creating tens of thousands of
#: them starts a full garbage collection. That visits every object of the process, and stops a triggerer's loop for
#: a tenth of a second or longer.
MAX_CONTAINERS = 4000
#: The same for the response to a submit, which no triggerer reads.
MAX_SUBMIT_CONTAINERS = 100_000

#: Characters of a body that are masked before it is read. Masking the largest body would hold up all triggers for
#: 20 ms.
MAX_MASKED = 16 << 10
#: Headers with the id of an exchange at servers of this kind.
REQUEST_ID_HEADERS = ("X-Oneapi-Request-Id", "X-Request-Id", "Request-Id")
#: Maximum seconds of a Retry-After; a longer one is cut to this.
MAX_RETRY_AFTER = 3600.0


@dataclass(slots=True)
class Response:
    """
    An HTTP response.

    :param http_status: The status.
    :param body: The decompressed body.
    :param retry_after: Seconds to wait by the Retry-After header.
    :param location: Target of a redirect.
    :param request_id: The server's id of this exchange.
    :param clock_error: Seconds by which this machine's clock is ahead of the server's, by the Date header of a
        response with 401.
    :param most_containers: Lists and objects that the body may have to be decoded.
    """

    http_status: int
    body: bytes
    retry_after: float | None = None
    location: str | None = None
    request_id: str | None = None
    clock_error: float | None = None
    #: The decoded body, or None if it is not JSON.
    json: Any = field(init=False)
    most_containers: InitVar[int] = MAX_CONTAINERS

    def __post_init__(self, most_containers: int) -> None:
        self.json = _parse_json(self.body, most_containers)

    @classmethod
    def from_http(
        cls,
        http_status: int,
        body: bytes,
        headers: Mapping[str, str],
        *,
        masked: Callable[[str], str],
        masked_body: Callable[[str], str] | None = None,
        most_containers: int = MAX_CONTAINERS,
    ) -> Response:
        """
        Build a response that has just been received.

        :param masked: Masks the key in a text: some servers echo it, and a response may be logged and stored.
        :param masked_body: Masks it in the body, which contains ids and URLs; ``masked`` by default.
        :param most_containers: Maximum number of lists and objects in a body that is decoded.
        """
        location, now = headers.get("Location"), time.time()
        return cls(
            http_status=http_status,
            body=_masked_body(body, masked_body or masked),
            retry_after=retry_after_seconds(headers.get("Retry-After"), now=now),
            location=None if location is None else masked(_header_text(location)),
            request_id=_request_id(headers, masked),
            clock_error=_clock_error(headers.get("Date"), now=now) if http_status == 401 else None,
            most_containers=most_containers,
        )


def _parse_json(body: bytes, most_containers: int) -> Any:
    """Return the value of a JSON body; None if it is not JSON, or nested as no real response is."""
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return None if _has_more_containers(text, most_containers) else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _has_more_containers(text: str, most: int) -> bool:
    """Return whether JSON opens more lists and objects than this, without creating them."""
    if text.count("[") + text.count("{") <= most:
        return False
    # Brackets inside strings open nothing. Once escapes are removed, every second part between quotes is a string.
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    return outside.count("[") + outside.count("{") > most


def _request_id(headers: Mapping[str, str], masked: Callable[[str], str]) -> str | None:
    found = next(filter(None, (headers.get(name) for name in REQUEST_ID_HEADERS)), None)
    return masked(_header_text(found))[:100] if found else None


def _masked_body(body: bytes, masked: Callable[[str], str]) -> bytes:
    """
    Return a body with the key masked, in the encoding in which ``json.loads`` reads it.

    The values read from the body are masked again later. Its beginning is masked here too, since an excerpt of it
    may end in the middle of a key.
    """
    encoding, errors = json.detect_encoding(body), "surrogatepass"
    try:
        text = body.decode(encoding, errors)
    except UnicodeDecodeError:
        encoding, errors = "utf-8", "surrogateescape"  # decodes any bytes
        text = body.decode(encoding, errors)
    begin, rest = text[:MAX_MASKED], text[MAX_MASKED:]
    cleaned = masked(begin)
    return body if cleaned == begin else (cleaned + rest).encode(encoding, errors)


def _header_text(header: str) -> str:
    """Decode a header as UTF-8 if possible; HTTP libraries decode it as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def retry_after_seconds(header: str | None, *, now: float) -> float | None:
    """Return the seconds of a ``Retry-After`` header, in either of its forms."""
    if not header:
        return None
    seconds = parse_number(header)
    if seconds is None:
        moment = _http_date(header)
        if moment is None:
            return None
        seconds = moment - now
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _clock_error(date: str | None, *, now: float) -> float | None:
    moment = _http_date(date) if date else None
    return None if moment is None else now - moment


def _http_date(header: str) -> float | None:
    """Return the time of an HTTP date (epoch seconds); None if it is not one."""
    try:
        moment = parsedate_to_datetime(header)
        # HTTP dates are UTC. Without a zone Python would use this machine's.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def is_html(response: Response) -> bool:
    return response.json is None and response.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def is_page(response: Response) -> bool:
    return bool(response.body.strip()) and response.json is None
