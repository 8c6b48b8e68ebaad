# SPDX-License-Identifier: Apache-2.0
"""The body of an answer, of a sane size however it is packed."""

from __future__ import annotations

import zlib
from gzip import BadGzipFile

from airflow_provider_kling.api.response import MAX_RESPONSE_BYTES
from airflow_provider_kling.exceptions import KlingServerError

#: The Accept-Encoding of a request whose answer is read here.
CONTENT_ENCODING = "gzip"


class ResponseBody:
    """
    Collects the body of an answer as it was sent, and unpacks it.

    HTTP libraries are told not to unpack: many versions unfold a bomb whole before they hand over its first byte,
    and a gzip inside a gzip twice. Nothing but one gzip was asked for, and nothing else is unpacked.

    :param request: Method and URL, for an error.
    :param http_status: The status of the answer, for an error.
    :param most: Bytes that it may have, packed and unpacked.
    """

    def __init__(self, request: str, http_status: int, *, most: int = MAX_RESPONSE_BYTES) -> None:
        self._request = request
        self._http_status = http_status
        self._most = most
        self._received = bytearray()

    def add(self, chunk: bytes) -> None:
        """
        Take what arrived.

        :raises KlingServerError: if it is too much.
        """
        self._received += chunk
        self._check(len(self._received))

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
        self._check(len(content))
        if not unpacker.eof:
            raise BadGzipFile("the answer ends too early to be unpacked")
        return content

    def _check(self, size: int) -> None:
        if size > self._most:
            raise KlingServerError(
                f"{self._request}: the answer is larger than {self._most} bytes",
                http_status=self._http_status,
            )
