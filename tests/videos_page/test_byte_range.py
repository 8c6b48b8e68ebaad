# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.videos_page.byte_range import ByteRange, UnsatisfiableRangeError, byte_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-", (0, 99)),
        ("bytes=0-0", (0, 0)),
        ("bytes=10-19", (10, 19)),
        ("bytes=90-200", (90, 99)),
        ("bytes=99-", (99, 99)),
        ("bytes=-1", (99, 99)),
        ("bytes=-100", (0, 99)),
        ("bytes=-5000", (0, 99)),
        ("Bytes=5-6", (5, 6)),
        (" bytes=5-6 ", (5, 6)),
    ],
)
def test_one_part_is_served(header: str, expected: tuple[int, int]) -> None:
    assert byte_range(header, 100) == ByteRange(*expected)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-2",
        "bytes=0-1,5-6",
        "bytes=0-1,",
        "items=0-1",
        "bytes=0x1-2",
        "bytes=+1-2",
        "bytes=1_0-20",
        "bytes=٣-٤",
        "bytes=0 - 1",
        f"bytes={'9' * 5000}-",
    ],
)
def test_what_may_be_ignored_gives_the_whole_file(header: str | None) -> None:
    assert byte_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=999999999999999999-"])
def test_a_part_that_the_file_does_not_have_is_refused(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        byte_range(header, 100)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_an_empty_file_has_no_part(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        byte_range(header, 0)


NUMBERS = st.integers(min_value=0, max_value=10**17)


@given(first=NUMBERS, last=NUMBERS | st.none(), size=st.integers(min_value=0, max_value=200) | NUMBERS)
def test_a_part_is_what_python_cuts_out(first: int, last: int | None, size: int) -> None:
    wanted = range(size)[first : None if last is None else last + 1]
    header = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert byte_range(header, size) is None
    elif not wanted:
        with pytest.raises(UnsatisfiableRangeError):
            byte_range(header, size)
    else:
        assert byte_range(header, size) == ByteRange(wanted[0], wanted[-1])


@given(st.text() | st.from_regex(r"(?i)bytes ?= ?[0-9,\- ]*"), NUMBERS)
def test_no_header_gives_a_part_outside_of_the_file(header: str, size: int) -> None:
    try:
        part = byte_range(header, size)
    except UnsatisfiableRangeError:
        return
    assert part is None or 0 <= part.first <= part.last < size
    assert part is None or part.length == part.last - part.first + 1
