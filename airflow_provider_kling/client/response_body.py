# SPDX-License-Identifier: Apache-2.0
"""The body of a response, limited in size before and after decompression."""

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

#: The Accept-Encoding of a request whose response is read here.
CONTENT_ENCODING = "gzip"
#: Bytes at the head of a body that is too large in which the key is masked before some are quoted.
_HEAD = 8192


class ResponseBody:
    """
    Collects the body of a response as it was sent, and decompresses it.

    Decompression is switched off in the HTTP libraries: many versions expand a whole gzip bomb before they return
    its first byte, and decompress a gzip inside a gzip twice. Only one layer of gzip is requested, and only one is
    decompressed.

    :param request: Method and URL, for an error.
    :param http_status: The status of the response, for an error.
    :param max_bytes: Maximum size in bytes, compressed and decompressed.
    :param masked: Masks the key in the head of a response that is too large, which the error then quotes.
    """

    def __init__(
        self,
        request: str,
        http_status: int,
        *,
        max_bytes: int = MAX_RESPONSE_BYTES,
        masked: Callable[[str], str] | None = None,
    ) -> None:
        self._request = request
        self._http_status = http_status
        self._max_bytes = max_bytes
        self._masked = masked
        self._received = bytearray()

    def add(self, chunk: bytes) -> None:
        """
        Add the next bytes of the body.

        :raises KlingServerError: if the body is too large.
        """
        self._received += chunk
        self._check(self._received)

    def content(self, encoding: str) -> bytes:
        """
        Return the content of a complete body.

        :param encoding: The response's Content-Encoding.
        :raises KlingServerError: if the content is too large.
        :raises OSError: if it cannot be decompressed.
        """
        received = bytes(self._received)
        if not received or encoding.strip().lower() != CONTENT_ENCODING:
            return received
        decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            content = decompressor.decompress(received, self._max_bytes + 1)
        except zlib.error as error:
            raise BadGzipFile(f"the response cannot be decompressed: {error}") from error
        self._check(content)
        if not decompressor.eof:
            raise BadGzipFile("the compressed response is incomplete")
        return content

    def _check(self, body: bytes | bytearray) -> None:
        if len(body) > self._max_bytes:
            raise KlingServerError(
                f"{self._request}: the response is larger than {self._max_bytes} bytes",
                http_status=self._http_status,
                server_message=self._masked and excerpt(self._masked(_head(bytes(body[:_HEAD]))).encode()),
            )


def _head(body: bytes) -> str:
    """Return the first letters of a body, unpacked if it is packed."""
    if body.startswith(b"\x1f\x8b"):
        with suppress(zlib.error):
            body = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body, _HEAD)
    return body.decode("utf-8", errors="ignore")
