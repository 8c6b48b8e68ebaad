# SPDX-License-Identifier: Apache-2.0
"""The body of an answer, of a sane size however it is packed."""

from __future__ import annotations

import zlib
from contextlib import suppress
from gzip import BadGzipFile
from typing import TYPE_CHECKING

from airflow_provider_kling.api.response import MAX_RESPONSE_BYTES
from airflow_provider_kling.exceptions import KlingServerError
from airflow_provider_kling.utils.text import excerpt

if TYPE_CHECKING:
    from collections.abc import Callable

#: The Accept-Encoding of a request whose answer is read here.
CONTENT_ENCODING = "gzip"
#: Bytes at the head of a body that is too large in which the key is masked before some are quoted.
_HEAD = 8192


class ResponseBody:
    """
    Collects the body of an answer as it was sent, and unpacks it.

    HTTP libraries are told not to unpack: many versions unfold a bomb whole before they hand over its first byte,
    and a gzip inside a gzip twice. Nothing but one gzip was asked for, and nothing else is unpacked.

    :param request: Method and URL, for an error.
    :param http_status: The status of the answer, for an error.
    :param most: Bytes that it may have, packed and unpacked.
    :param masked: Masks the key in the head of one that is too large, which the error then quotes.
    """

    def __init__(
        self,
        request: str,
        http_status: int,
        *,
        most: int = MAX_RESPONSE_BYTES,
        masked: Callable[[str], str] | None = None,
    ) -> None:
        self._request = request
        self._http_status = http_status
        self._most = most
        self._masked = masked
        self._received = bytearray()

    def add(self, chunk: bytes) -> None:
        """
        Take what arrived.

        :raises KlingServerError: if it is too much.
        """
        self._received += chunk
        self._check(self._received)

    def content(self, encoding: str) -> bytes:
        """
        Return the content of a body that has arrived whole.

        :param encoding: The answer's Content-Encoding.
        :raises KlingServerError: if it is too much.
        :raises OSError: if it cannot be unpacked.
        """
        received = bytes(self._received)
        if not received or encoding.strip().lower() != CONTENT_ENCODING:
            return received
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            content = unpacker.decompress(received, self._most + 1)
        except zlib.error as error:
            raise BadGzipFile(f"the answer cannot be unpacked: {error}") from error
        self._check(content)
        if not unpacker.eof:
            raise BadGzipFile("the answer ends too early to be unpacked")
        return content

    def _check(self, body: bytes | bytearray) -> None:
        if len(body) > self._most:
            raise KlingServerError(
                f"{self._request}: the answer is larger than {self._most} bytes",
                http_status=self._http_status,
                server_message=self._masked and excerpt(self._masked(_head(bytes(body[:_HEAD]))).encode()),
            )


def _head(body: bytes) -> str:
    """Return the first letters of a body, unpacked if it is packed."""
    if body.startswith(b"\x1f\x8b"):
        with suppress(zlib.error):
            body = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body, _HEAD)
    return body.decode("utf-8", errors="ignore")
