# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from airflow_provider_kling.media.image_facts import MAX_BYTES, NotAnImageError, image_problem, size_of
from tests.fixtures.frames import image, padded

PNG, JPEG = image("PNG"), image("JPEG")


def saved(kind: str, size: tuple[int, int], mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 80).convert(mode).save(file, kind, **options)
    return file.getvalue()


def with_segment(jpeg: bytes, segment: bytes) -> bytes:
    """Return a JPEG with one more segment after its start."""
    return jpeg[:2] + segment + jpeg[2:]


def thumbnail() -> bytes:
    """Return an APP1 segment that holds a small JPEG, as cameras write it."""
    inner = b"Exif\0\0" + saved("JPEG", (160, 120))
    return b"\xff\xe1" + struct.pack(">H", len(inner) + 2) + inner


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(saved("PNG", (640, 360)), id="png"),
        pytest.param(saved("PNG", (640, 360), "P"), id="png with a palette"),
        pytest.param(saved("PNG", (640, 360), "RGBA"), id="png with transparency"),
        pytest.param(saved("PNG", (640, 360)) + b"more", id="png with more after its end"),
        pytest.param(saved("JPEG", (640, 360)), id="jpeg"),
        pytest.param(saved("JPEG", (640, 360), "L"), id="grey jpeg"),
        pytest.param(saved("JPEG", (640, 360), "CMYK"), id="jpeg for print"),
        pytest.param(saved("JPEG", (640, 360), progressive=True), id="progressive jpeg"),
        pytest.param(saved("JPEG", (640, 360), restart_marker_rows=1), id="jpeg with restart markers"),
        pytest.param(with_segment(saved("JPEG", (640, 360)), thumbnail()), id="jpeg with a thumbnail"),
        pytest.param(with_segment(saved("JPEG", (640, 360)), b"\xff\xff\xff"), id="jpeg with padding"),
        pytest.param(saved("JPEG", (640, 360)) + b"\0\0more", id="jpeg with more after its end"),
    ],
)
def test_the_size_is_that_of_another_reader(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as picture:
        assert size_of(content) == picture.size == (640, 360)
    assert image_problem(content) is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ((300, 300), None),
        ((299, 300), "is 299 x 300 pixels; each side needs at least 300"),
        ((300, 299), "is 300 x 299 pixels; each side needs at least 300"),
        ((750, 300), None),
        ((751, 300), "is 751 x 300 pixels; the ratio of its sides may be 1:2.5 to 2.5:1"),
        ((300, 750), None),
        ((300, 900), "the ratio of its sides"),
        ((1, 1), "each side"),
    ],
)
def test_the_limits_of_its_sides(kind: str, size: tuple[int, int], problem: str | None) -> None:
    found = image_problem(image(kind, size))
    assert (found is None) if problem is None else (found is not None and problem in found)


def test_the_limit_of_its_bytes() -> None:
    assert image_problem(padded(MAX_BYTES)) is None
    assert image_problem(padded(MAX_BYTES + 1)) == "is larger than 10,485,760 bytes (10 MB)"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n", "is a PNG without its header"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", b"x" * 13) + chunk(b"IEND", b""), "is a PNG without its header"),
        (PNG[:-1], "is a PNG that was cut"),
        (PNG[:-12], "is a PNG that was cut"),
        (PNG[:40], "is a PNG that was cut"),
        (JPEG[:3], "is a JPEG without its header"),
        (JPEG[:40], "is a JPEG without its header"),
        (JPEG[:-2], "is a JPEG that was cut"),
        (with_segment(JPEG, thumbnail())[:-2], "is a JPEG that was cut"),
        (image("WEBP"), "is a WebP, whatever its name says"),
        (image("GIF"), "is a GIF"),
        (image("BMP"), "is a BMP"),
        (image("TIFF"), "is a TIFF"),
        (b"<!DOCTYPE html><html>", "is HTML, SVG or XML"),
        (b"\xef\xbb\xbf  <svg xmlns='http://www.w3.org/2000/svg'/>", "is HTML, SVG or XML"),
        (b"\0\0\0\x1cftypavif", "is an AVIF or HEIC"),
        (b"\0\0\0\x1cftypisom", "is a video"),
        (b"%PDF-1.7", "is a PDF"),
        (b"PK\x03\x04", "is a ZIP archive"),
        (b"\x1f\x8b\x08", "is compressed with gzip"),
        (b"s3://bucket/a.png", "is neither a JPEG nor a PNG"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_what_is_no_image_is_named(content: bytes, words: str) -> None:
    problem = image_problem(content)
    assert problem is not None
    assert words in problem
    assert "Kling takes a complete JPEG or PNG" in problem


@pytest.mark.parametrize("whole", [PNG, saved("JPEG", (320, 320), progressive=True)], ids=["png", "jpeg"])
def test_no_part_of_an_image_is_one(whole: bytes) -> None:
    for length in range(0, len(whole), 7):
        with pytest.raises(NotAnImageError):
            size_of(whole[:length])


@given(st.sampled_from([b"", PNG[:20], PNG[:60], JPEG[:2], JPEG[:30]]), st.binary(max_size=200))
def test_no_bytes_at_all_break_it(start: bytes, rest: bytes) -> None:
    problem = image_problem(start + rest)
    assert problem is None or problem.startswith("is ")
