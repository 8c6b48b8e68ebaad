# SPDX-License-Identifier: Apache-2.0
"""The structure of video files: enough to distinguish a video from an error page, and to detect a cut file."""

from __future__ import annotations

import math
import re

#: Default size limit of a video in bytes: far above any video of this API, far below the size of a disk.
MAX_BYTES = 4 << 30
#: Bytes from the start of a file that :func:`is_video` needs.
HEAD_BYTES = 12
#: Types of the box with which an MP4 or QuickTime file can begin; the type follows the size.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_BOX_NAME = re.compile(rb"[\x20-\x7e\xa9]{4}")
_EBML = b"\x1a\x45\xdf\xa3"  # WebM, Matroska


def is_video(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a video."""
    return _is_mp4(head) or head.startswith(_EBML)


def _is_mp4(head: bytes) -> bool:
    return head[4:8] in _MP4_BOXES


class Mp4BoxReader:
    """
    Follows the top-level boxes of an MP4 while it is streamed.

    Each box begins with its size, so a file that ends in the middle of a box was cut, whatever length was
    announced. So was one without ``moov``, which describes the tracks: fragmented files have it too, before their
    fragments. A file of another kind, or with other data after its boxes, may end anywhere.
    """

    def __init__(self) -> None:
        self._header = b""
        self._remaining: float = 0  # bytes of the current box that are still to come
        self._boxes = 0
        self._has_moov = False
        self._is_understood = True

    @property
    def flaw(self) -> str | None:
        """How a file that ends here is damaged, or None if it may be whole."""
        if not self.at_box_boundary:
            return "in the middle of a box"
        if self._is_understood and not self._has_moov:
            return "without the box moov, so that nothing can play it"
        return None

    @property
    def at_box_boundary(self) -> bool:
        """Whether no box is incomplete."""
        # A size of 0 means "to the end of the file". Some writers end a file with four zero bytes, as QuickTime
        # ends its lists.
        return self._remaining in (0, math.inf) and (not self._header or self._header[:4] == bytes(4))

    def follow(self, chunk: bytes) -> None:
        """Process the next bytes of the file."""
        at = 0
        while at < len(chunk) and self._remaining < math.inf:
            if self._remaining:
                step = min(int(self._remaining), len(chunk) - at)
                self._remaining -= step
            else:
                step = min(self._header_length() - len(self._header), len(chunk) - at)
                self._header += chunk[at : at + step]
                if len(self._header) == self._header_length():
                    self._begin()
            at += step

    def _header_length(self) -> int:
        """Return the length of this box's header: a size of 1 means that the real size follows, in 64 bits."""
        return 16 if self._header[:4] == b"\0\0\0\1" else 8

    def _begin(self) -> None:
        length = len(self._header)
        size = int.from_bytes(self._header[8:] if length == 16 else self._header[:4])
        is_box = bool(_BOX_NAME.fullmatch(self._header[4:8])) if self._boxes else _is_mp4(self._header)
        self._has_moov |= is_box and self._header[4:8] == b"moov"
        # A size of 0 reaches to the end. A file with other data after its boxes is not known to be cut.
        self._is_understood &= is_box and (size >= length or size == 0)
        self._remaining = size - length if is_box and size >= length else math.inf
        self._boxes += 1
        self._header = b""
