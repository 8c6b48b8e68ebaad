# SPDX-License-Identifier: Apache-2.0
"""An HTTP response as plain values, whichever library brought it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.utils.coerce import number_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: No answer of this API comes near this size; a larger one is a fault or an attack.
MAX_ANSWER_BYTES = 1 << 20


#: A server that asks for more patience than this is taken at this: an hour.
MAX_RETRY_AFTER = 3600.0


@dataclass(slots=True)
class Answer:
    """An HTTP answer as plain values, whichever library brought it."""

    http_status: int
    body: bytes
    retry_after: float | None = None
    location: str | None = None
    #: The decoded body, or None where it is no JSON.
    json: Any = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.json = json.loads(self.body)
        except (ValueError, RecursionError):
            self.json = None

    @classmethod
    def received(
        cls, http_status: int, body: bytes, headers: Mapping[str, str], *, masked: Callable[[str], str]
    ) -> Answer:
        """
        Return the answer that just arrived.

        :param masked: Takes the key out of a text: some servers repeat it, and whatever an answer says may be
            logged and stored.
        """
        location = headers.get("Location")
        return cls(
            http_status=http_status,
            # Any bytes at all are Latin-1.
            body=masked(body.decode("latin-1")).encode("latin-1"),
            retry_after=retry_after_seconds(headers.get("Retry-After"), now=time.time()),
            location=None if location is None else masked(location),
        )


def retry_after_seconds(header: str | None, *, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, in either of its forms."""
    if not header:
        return None
    seconds = number_in(header)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def is_html(answer: Answer) -> bool:
    return answer.json is None and answer.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def is_page(answer: Answer) -> bool:
    return bool(answer.body.strip()) and answer.json is None
