# SPDX-License-Identifier: Apache-2.0
"""What an image is, by its bytes alone, and whether it is within the limits of Kling's platform."""

from __future__ import annotations

from typing import NamedTuple

#: Greatest size of an image in bytes.
MAX_BYTES = 10 * 1024 * 1024
#: Minimum length of each side in pixels.
MIN_SIDE = 300
#: Greatest ratio of the longer side to the shorter one.
MAX_RATIO = 2.5
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
#: Markers of a JPEG: those of the frame header, which has the size, and those without a length.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
#: The beginnings of files that are often named like an image, and what they are.
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "compressed with gzip"),
)


class Size(NamedTuple):
    """Width and height of an image, in pixels."""

    width: int
    height: int


class NotAnImageError(ValueError):
    """The bytes are not a complete JPEG or PNG; the text says what they are."""


def image_problem(content: bytes) -> str | None:
    """Return why Kling would refuse an image, or None if no reason is known."""
    if len(content) > MAX_BYTES:
        return f"is larger than {MAX_BYTES:,} bytes (10 MB)"
    try:
        size = size_of(content)
    except NotAnImageError as error:
        return f"{error}; Kling takes a complete JPEG or PNG"
    shorter, longer = sorted(size)
    shown = f"is {size.width} x {size.height} pixels"
    if shorter < MIN_SIDE:
        return f"{shown}; each side needs at least {MIN_SIDE}"
    if longer > MAX_RATIO * shorter:
        return f"{shown}; the ratio of its sides may be 1:{MAX_RATIO} to {MAX_RATIO}:1"
    return None


def size_of(content: bytes) -> Size:
    """
    Return the size of a JPEG or PNG.

    :raises NotAnImageError: if it is another file, or was cut.
    """
    if not content:
        raise NotAnImageError("is empty")
    if content.startswith(_PNG):
        return _size_of_png(content)
    if content.startswith(_JPEG):
        return _size_of_jpeg(content)
    raise NotAnImageError(f"is {_kind_of(content)}, whatever its name says")


def _size_of_png(content: bytes) -> Size:
    size, at = None, len(_PNG)
    # Each chunk is: length, type, data, checksum.
    while at + 12 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4]), content[at + 4 : at + 8]
        end = at + 12 + length
        if size is None:
            if kind != b"IHDR" or length != 13:
                break
            width, height = content[at + 8 : at + 12], content[at + 12 : at + 16]
            size = Size(int.from_bytes(width), int.from_bytes(height))
        if kind == b"IEND" and end <= len(content):
            return size
        at = end
    raise NotAnImageError("is a PNG that was cut" if size else "is a PNG without its header")


def _size_of_jpeg(content: bytes) -> Size:
    size, at = None, 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker == _START_OF_SCAN:
            # In the data of a scan, a byte of the value 0xFF is followed by another one than a marker's.
            if size is None or content.find(bytes((0xFF, _END_OF_IMAGE)), at) < 0:
                break
            return size
        else:
            if marker in _FRAME_HEADERS and at + 9 <= len(content):
                height, width = content[at + 5 : at + 7], content[at + 7 : at + 9]
                size = Size(int.from_bytes(width), int.from_bytes(height))
            at += 2 + int.from_bytes(content[at + 2 : at + 4])
    raise NotAnImageError("is a JPEG that was cut" if size else "is a JPEG without its header")


def _kind_of(content: bytes) -> str:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "a WebP"
    if content[4:8] == b"ftyp":
        return "an AVIF or HEIC" if content[8:12] in (b"avif", b"heic", b"heix", b"mif1") else "a video"
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return "HTML, SVG or XML, as an error page is"
    return next((kind for start, kind in _OTHERS if content.startswith(start)), "neither a JPEG nor a PNG")
