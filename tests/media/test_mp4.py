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
