# SPDX-License-Identifier: Apache-2.0
"""An HTTP response as plain values, whichever library brought it."""

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

#: Bytes of a response, which has a few hundred. Decoding one holds up all triggers of a triggerer, for a second
#: where a kilobyte on the wire unpacks to a mebibyte of nested lists.
MAX_RESPONSE_BYTES = 128 << 10
#: Bytes of the response to a submit, besides the request that it may repeat, images included. A worker reads it,
#: once; and it may hold the only trace of a paid job.
MAX_SUBMIT_RESPONSE_BYTES = 4 << 20


#: Lists and objects of a JSON body, of which a response has a few dozen. Making tens of thousands of them starts a
#: full garbage collection. That visits every object of the process, and stops a triggerer's loop for a tenth of a
#: second or longer.
MAX_CONTAINERS = 4000
#: The same for the response to a submit, which no triggerer reads.
MAX_SUBMIT_CONTAINERS = 100_000

#: Headers in which servers of this kind name an exchange.
REQUEST_ID_HEADERS = ("X-Oneapi-Request-Id", "X-Request-Id", "Request-Id")
#: A server that asks for more patience than this is taken at this: an hour.
MAX_RETRY_AFTER = 3600.0


@dataclass(slots=True)
class Response:
    """
    An HTTP response.

    :param http_status: The status.
    :param body: The body, unpacked.
    :param retry_after: Seconds that the server asks to wait.
    :param location: Target of a redirect.
    :param request_id: The server's id of this exchange.
    :param most_containers: Lists and objects that the body may have to be decoded.
    """

    http_status: int
    body: bytes
    retry_after: float | None = None
    location: str | None = None
    request_id: str | None = None
    #: The decoded body, or None where it is no JSON.
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
        most_containers: int = MAX_CONTAINERS,
    ) -> Response:
        """
        Return the response that just arrived.

        :param masked: Masks the key in a text: some servers repeat it, and a response may be logged and stored.
        :param most_containers: Lists and objects that the body may have to be decoded.
        """
        location = headers.get("Location")
        return cls(
            http_status=http_status,
            body=_masked_body(body, masked),
            retry_after=retry_after_seconds(headers.get("Retry-After"), now=time.time()),
            location=None if location is None else masked(_header_text(location)),
            request_id=_request_id(headers, masked),
            most_containers=most_containers,
        )


def _parse_json(body: bytes, most_containers: int) -> Any:
    """Return the value of a JSON body; None where it is no JSON, or of a shape that no response has."""
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return None if _has_more_containers(text, most_containers) else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _has_more_containers(text: str, most: int) -> bool:
    """Return whether JSON opens more lists and objects than this, without making them."""
    if text.count("[") + text.count("{") <= most:
        return False
    # Brackets inside texts open nothing: without its escapes, every second part between quotes is a text.
    outside = "".join(text.replace("\\\\", "").replace('\\"', "").split('"')[::2])
    return outside.count("[") + outside.count("{") > most


def _request_id(headers: Mapping[str, str], masked: Callable[[str], str]) -> str | None:
    found = next(filter(None, (headers.get(name) for name in REQUEST_ID_HEADERS)), None)
    return masked(_header_text(found))[:100] if found else None


def _masked_body(body: bytes, masked: Callable[[str], str]) -> bytes:
    """
    Return a body with the key masked, in the encoding in which ``json.loads`` reads it.

    What is made of the body is masked again later. It is masked here too, since an excerpt of it may end in the
    middle of a key.
    """
    encoding, errors = json.detect_encoding(body), "surrogatepass"
    try:
        text = body.decode(encoding, errors)
    except UnicodeDecodeError:
        encoding, errors = "utf-8", "surrogateescape"  # takes any bytes at all
        text = body.decode(encoding, errors)
    cleaned = masked(text)
    return body if cleaned == text else cleaned.encode(encoding, errors)


def _header_text(header: str) -> str:
    """Return a header that was read as Latin-1, as HTTP libraries do, in UTF-8 if it is that."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeError:
        return header


def retry_after_seconds(header: str | None, *, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, in either of its forms."""
    if not header:
        return None
    seconds = parse_number(header)
    if seconds is None:
        try:
            moment = parsedate_to_datetime(header)
            # HTTP dates are UTC. Without a zone Python would take this machine's.
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def is_html(answer: Response) -> bool:
    return answer.json is None and answer.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def is_page(answer: Response) -> bool:
    return bool(answer.body.strip()) and answer.json is None
