# SPDX-License-Identifier: Apache-2.0
"""The structure of video files: enough to distinguish a video from an error page, and to detect a cut file."""

from __future__ import annotations

import math
import re

#: Maximum bytes of the boxes that describe the tracks: far above those of any video of this API.
MAX_DESCRIPTION_BYTES = 16 << 20

#: Default size limit of a video in bytes: far above any video of this API, far below the size of a disk.
MAX_BYTES = 4 << 30
#: Bytes from the start of a file that :func:`is_video` needs.
HEAD_BYTES = 12
#: Types of the box with which an MP4 or QuickTime file can begin; the type follows the size.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_BOX_NAME = re.compile(rb"[\x20-\x7e\xa9]{4}")
#: The boxes that describe the tracks, and those that describe a fragment.
_DESCRIBING_BOXES = (b"moov", b"moof")
_EBML = b"\x1a\x45\xdf\xa3"  # WebM, Matroska
_QUICKTIME = b"ftypqt  "


def is_video(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a video."""
    return _is_mp4(head) or head.startswith(_EBML)


def content_type_of(head: bytes) -> str:
    """Return the media type of a file that begins with these bytes; ``video/mp4`` unless it is another kind."""
    if head.startswith(_EBML):
        return "video/webm"
    return "video/quicktime" if head[4:12] == _QUICKTIME else "video/mp4"


def _is_mp4(head: bytes) -> bool:
    return head[4:8] in _MP4_BOXES


class Mp4BoxReader:
    """
    Follows the top-level boxes of an MP4 while it is streamed.

    Each box begins with its size, so a file that ends in the middle of a box was cut, whatever length was
    announced. So was one without ``moov``, which describes the tracks: fragmented files have it too, before their
    fragments. A file of another kind, or with other data after its boxes, may end anywhere.

    The boxes ``moov`` and ``moof`` are kept, up to :data:`MAX_DESCRIPTION_BYTES`: they say what the file contains.
    """

    def __init__(self) -> None:
        self._header = b""
        self._remaining: float = 0  # bytes of the current box that are still to come
        self._boxes = 0
        self._position = 0
        self._has_moov = False
        self._moov_at: tuple[int, int] | None = None
        self._has_fragments = False
        self._is_understood = True
        self._is_described = False  # whether the current box is kept
        self._description = bytearray()

    @property
    def description(self) -> bytes | None:
        """The boxes ``moov`` and ``moof``, headers included; None if there is no whole ``moov``, or too much."""
        is_kept = self._moov_at is not None and len(self._description) <= MAX_DESCRIPTION_BYTES
        return bytes(self._description) if is_kept and self.flaw is None else None

    @property
    def index_at(self) -> tuple[int, int] | None:
        """Where the index of all samples begins and ends; None if no single box ``moov`` is that index."""
        is_whole = self.flaw is None and self._is_understood and not self._has_fragments
        return self._moov_at if is_whole else None

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
                if self._is_described:
                    self._keep(chunk[at : at + step])
            else:
                step = min(self._header_length() - len(self._header), len(chunk) - at)
                self._header += chunk[at : at + step]
                if len(self._header) == self._header_length():
                    self._begin(self._position + step)
            at += step
            self._position += step

    def _header_length(self) -> int:
        """Return the length of this box's header: a size of 1 means that the real size follows, in 64 bits."""
        return 16 if self._header[:4] == b"\0\0\0\1" else 8

    def _begin(self, at: int) -> None:
        """Begin the box whose header ends at a position of the file."""
        length = len(self._header)
        size = int.from_bytes(self._header[8:] if length == 16 else self._header[:4])
        kind = self._header[4:8]
        is_box = bool(_BOX_NAME.fullmatch(kind)) if self._boxes else _is_mp4(self._header)
        has_size = is_box and size >= length
        self._has_moov |= is_box and kind == b"moov"
        if has_size and kind == b"moov" and self._moov_at is None:  # players read the first one
            self._moov_at = (at - length, at - length + size)
        self._has_fragments |= kind == b"moof"
        # A size of 0 reaches to the end. A file with other data after its boxes is not known to be cut.
        self._is_understood &= has_size or (is_box and size == 0)
        self._remaining = size - length if has_size else math.inf
        self._is_described = has_size and kind in _DESCRIBING_BOXES
        if self._is_described:
            self._keep(self._header)
        self._boxes += 1
        self._header = b""

    def _keep(self, piece: bytes) -> None:
        # One byte more than allowed marks that it is too much.
        self._description += piece[: MAX_DESCRIPTION_BYTES + 1 - len(self._description)]
