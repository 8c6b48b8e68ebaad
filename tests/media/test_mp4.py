# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.media.mp4 import Mp4BoxReader, is_video


def box(kind: bytes, body: bytes = b"", *, long: bool = False) -> bytes:
    if long:
        return b"\0\0\0\1" + kind + (16 + len(body)).to_bytes(8) + body
    return (8 + len(body)).to_bytes(4) + kind + body


FTYP = box(b"ftyp", b"isom\0\0\2\0")
BOXES = st.builds(
    box, st.sampled_from([b"mdat", b"moov", b"free", b"uuid"]), st.binary(max_size=40), long=st.booleans()
)


def at_box_boundary(*chunks: bytes) -> bool:
    boxes = Mp4BoxReader()
    for chunk in chunks:
        boxes.follow(chunk)
    return boxes.at_box_boundary


@given(boxes=st.lists(BOXES, max_size=5), chunk=st.integers(1, 60))
def test_a_file_may_end_between_two_boxes_and_nowhere_else(boxes: list[bytes], chunk: int) -> None:
    file = FTYP + b"".join(boxes)
    ends = {len(FTYP + b"".join(boxes[:count])) for count in range(len(boxes) + 1)}
    for cut in range(1, len(file) + 1):
        pieces = [file[at : min(at + chunk, cut)] for at in range(0, cut, chunk)]
        assert at_box_boundary(*pieces) == (cut in ends)


def test_a_box_of_many_gigabytes_is_followed() -> None:
    boxes = Mp4BoxReader()
    boxes.follow(FTYP + b"\0\0\0\1mdat" + (16 + (5 << 30)).to_bytes(8))
    block = bytes(1 << 26)
    for _ in range(80):
        assert not boxes.at_box_boundary
        boxes.follow(block)
    assert boxes.at_box_boundary


def test_what_stands_behind_the_boxes_and_has_no_name_may_end_anywhere() -> None:
    assert at_box_boundary(FTYP + b"\0\1\2\3\xff\xfe\xfd\xfc" + bytes(5))


@pytest.mark.parametrize(
    "rest", [b"\0\0\0\0mdat", b"\0\0\0\2free", b"\0\0\0\1mdat" + bytes(8)], ids=["to the end", "short", "none"]
)
def test_behind_a_box_without_a_size_it_may_end_anywhere(rest: bytes) -> None:
    assert at_box_boundary(FTYP + rest)
    assert at_box_boundary(FTYP + rest, bytes(5))


@pytest.mark.parametrize("zeros", range(4, 9))
def test_so_it_may_behind_zeros_that_are_too_few_for_a_box(zeros: int) -> None:
    assert at_box_boundary(FTYP, bytes(zeros))


def test_but_fewer_zeros_may_be_the_beginning_of_a_size() -> None:
    assert not at_box_boundary(FTYP, bytes(3))


def test_so_may_a_file_of_another_kind() -> None:
    webm = b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01webm"
    assert is_video(webm)
    assert at_box_boundary(webm)


def test_but_nothing_is_no_file() -> None:
    assert not is_video(b"")


MOOV = box(b"moov", bytes(8))
MDAT = box(b"mdat", bytes(40))
MOOF = box(b"moof", bytes(8))
TO_THE_END = b"\0\0\0\0mdat" + bytes(40)


def flaw(*chunks: bytes) -> str | None:
    boxes = Mp4BoxReader()
    for chunk in chunks:
        boxes.follow(chunk)
    return boxes.flaw


@pytest.mark.parametrize(
    "boxes",
    [
        (FTYP, MOOV, MDAT),
        (FTYP, MDAT, MOOV),
        (FTYP, box(b"free"), box(b"mdat", bytes(40), long=True), MOOV),
        (FTYP, MOOV, TO_THE_END),
        (MDAT, MOOV),
        (box(b"wide"), MDAT, box(b"moov", bytes(8), long=True)),
        (FTYP, MDAT, MOOV, bytes(4)),
        # Fragmented: moov describes the tracks, and each fragment follows with its samples.
        (FTYP, MOOV, MOOF, MDAT),
        (FTYP, MOOV, box(b"sidx", bytes(8)), MOOF, MDAT, MOOF, MDAT, box(b"mfra", bytes(8))),
        # Not understood to its end: moov may stand there.
        (FTYP, MDAT, b"\0\1\2\3\xff\xfe\xfd\xfc"),
        (FTYP, b"\0\0\0\2free"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01webm",),
    ],
    ids=lambda boxes: " ".join(box[4:8].decode("latin-1") for box in boxes).encode("unicode_escape").decode(),
)
def test_a_file_with_moov_is_whole_wherever_that_stands(boxes: tuple[bytes, ...]) -> None:
    assert flaw(*boxes) is None
    assert flaw(b"".join(boxes)) is None


@pytest.mark.parametrize(
    "boxes",
    [
        (FTYP,),
        (FTYP, MDAT),
        (FTYP, box(b"free"), box(b"mdat", bytes(40), long=True)),
        (FTYP, TO_THE_END),
        (FTYP, MDAT, bytes(4)),
        (FTYP, MOOF, MDAT),
        (FTYP, box(b"uuid", b"moov" * 4), MDAT),
    ],
    ids=lambda boxes: " ".join(box[4:8].decode("latin-1") for box in boxes).encode("unicode_escape").decode(),
)
def test_a_file_without_moov_is_not_whole(boxes: tuple[bytes, ...]) -> None:
    assert "without the box moov" in (flaw(*boxes) or "")
    assert "without the box moov" in (flaw(b"".join(boxes)) or "")


def test_a_cut_box_is_reported_first() -> None:
    assert flaw(FTYP, MDAT[:-1]) == "in the middle of a box"
    assert flaw(FTYP, MOOV, MDAT[:-1]) == "in the middle of a box"
