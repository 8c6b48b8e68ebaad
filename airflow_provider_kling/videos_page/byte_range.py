# SPDX-License-Identifier: Apache-2.0
"""Which bytes of a file a ``Range`` header asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from typing import NamedTuple

_ONE_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.IGNORECASE)


class ByteRange(NamedTuple):
    """
    A part of a file.

    :param first: The position of its first byte, from 0.
    :param last: The position of its last byte.
    """

    first: int
    last: int

    @property
    def length(self) -> int:
        """The number of its bytes."""
        return self.last - self.first + 1


class UnsatisfiableRangeError(Exception):
    """A file has none of the bytes that were asked for."""


def byte_range(header: str | None, size: int) -> ByteRange | None:
    """
    Return the part of a file that a request asks for.

    :param header: The value of its ``Range`` header, None if it has none.
    :param size: The size of the file in bytes.
    :return: The part, never empty. None for the whole file: without a header, and for one that may be ignored,
        since it is malformed, of another unit, or lists several parts.
    :raises UnsatisfiableRangeError: if the file has none of these bytes.
    """
    found = _ONE_RANGE.fullmatch(header.strip()) if header is not None else None
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        begin, end = max(size - int(suffix), 0), size - 1
    else:
        begin = int(first)
        if last and int(last) < begin:
            return None
        end = min(int(last), size - 1) if last else size - 1
    if begin > end:
        raise UnsatisfiableRangeError
    return ByteRange(begin, end)
