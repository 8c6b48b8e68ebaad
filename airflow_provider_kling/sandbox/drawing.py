# SPDX-License-Identifier: Apache-2.0
"""Still pictures: the replacement for an image URL, and the cards and captions that show a prompt."""

from __future__ import annotations

import base64
import colorsys
import io
import zlib
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
PICTURE_SIZE = (1280, 720)
#: Empty border around text, as a fraction of the width.
MARGIN = 0.06
#: Height in pixels below which a text is cut instead of made smaller.
SMALLEST_TEXT = 11
#: Fonts with Chinese characters that come with operating systems; pillow searches the system's font folders.
WIDE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "SourceHanSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "simsun.ttc",
)


def colour(name: str, light: float) -> tuple[int, int, int]:
    """Return a colour that depends on ``name`` only; ``light`` is the lightness, 0 to 1."""
    hue = zlib.crc32(name.encode(errors="replace")) % 360 / 360
    red, green, blue = colorsys.hls_to_rgb(hue, light, 0.45)
    return round(red * 255), round(green * 255), round(blue * 255)


def backdrop(name: str, size: tuple[int, int]) -> Image.Image:
    """Draw a soft gradient in the colours of ``name``."""
    shade = Image.linear_gradient("L").resize(size)
    top, bottom = (Image.new("RGB", size, colour(name, light)) for light in (0.38, 0.16))
    return Image.composite(bottom, top, shade)


def picture(url: str, path: Path | None) -> Image.Image:
    """Return the picture for ``url``: from the file that replaces it, from itself, or drawn from its name."""
    if path is not None:
        with Image.open(path) as image:
            return image.convert("RGB")
    if url.startswith("data:"):
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
            return image.convert("RGB")
    drawn = backdrop(url, PICTURE_SIZE)
    name = PurePosixPath(unquote(urlsplit(url).path)).name or url
    draw = ImageDraw.Draw(drawn)
    width, height = PICTURE_SIZE
    draw.ellipse((width * 0.4, height * 0.18, width * 0.6, height * 0.18 + width * 0.2), fill=colour(url, 0.7))
    write(drawn, name, (0, round(height * 0.55), width, height), height // 10)
    return drawn


def write(image: Image.Image, text: str, box: tuple[int, int, int, int], largest: int) -> None:
    """Write a text into the middle of ``box``, wrapped, as large as fits and at most ``largest`` pixels high."""
    left, top, right, bottom = box
    border = round(image.width * MARGIN)
    words, scale = legible(text), largest
    while True:
        font = font_for(words, scale)
        lines = wrap(words, font, right - left - 2 * border)
        line_height = round(scale * 1.3)
        room = max(1, (bottom - top) // line_height)
        if len(lines) <= room or scale <= SMALLEST_TEXT:
            break
        scale = max(SMALLEST_TEXT, round(scale * 0.88))
    if len(lines) > room:
        lines = [*lines[: room - 1], "..."]
    draw = ImageDraw.Draw(image)
    y = (top + bottom - line_height * len(lines)) // 2
    for line in lines:
        x = (left + right - font.getlength(line)) / 2
        draw.text((x, y), line, font=font, fill="white", stroke_width=max(1, scale // 24), stroke_fill="black")
        y += line_height


def wrap(text: str, font: Font, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels; only a word longer than a line is broken."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for piece in _pieces(paragraph):
            if font.getlength(line + piece.rstrip()) <= width:
                line += piece
                continue
            if line:
                lines.append(line.rstrip())
            *full, line = _chop(piece, font, width)
            lines += full
        lines.append(line.rstrip())
    return lines or [""]


def _chop(piece: str, font: Font, width: int) -> list[str]:
    """Cut a piece at each end of a line."""
    chopped = [""]
    for letter in piece:
        if letter != " " and chopped[-1] and font.getlength(chopped[-1] + letter) > width:
            chopped.append("")
        chopped[-1] += letter
    return chopped


def _pieces(paragraph: str) -> list[str]:
    """Cut a text where a line may break: after a space, and around each character of scripts without spaces."""
    pieces = [""]
    for letter in paragraph:
        if ord(letter) > 0x2E80:
            pieces += [letter, ""]
        else:
            pieces[-1] += letter
            if letter == " ":
                pieces.append("")
    return [piece for piece in pieces if piece]


def legible(text: str) -> str:
    r"""Replace characters that have no font on this machine by a code such as ``\u6c99``."""
    missing = {letter for letter in set(text) - {"\n"} if not _has(_latin(16), letter)}
    wide = _wide(16)
    if wide is not None:
        missing = {letter for letter in missing if not _has(wide, letter)}
    return "".join(letter.encode("unicode_escape").decode() if letter in missing else letter for letter in text)


def font_for(text: str, height: int) -> Font:
    """Return pillow's own font, or a system font if the text has characters that pillow's font lacks."""
    if all(_has(_latin(16), letter) for letter in set(text) - {"\n"}):
        return _latin(height)
    return _wide(height) or _latin(height)


@cache
def _latin(height: int) -> Font:
    return ImageFont.load_default(size=height)


@cache
def _wide(height: int) -> Font | None:
    for name in WIDE_FONTS:
        try:
            return ImageFont.truetype(name, height)
        except OSError:
            continue
    return None


@cache
def _has(font: Font, letter: str) -> bool:
    """Return whether a font has a character: all that it lacks are drawn as the same box."""
    return letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))
