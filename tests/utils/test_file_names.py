# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.utils.file_names import MAX_BYTES, safe_name


@pytest.mark.parametrize("text", ["task_697a1b", "867123", "a-b.c", "视频-1", "clip.v2"])
def test_a_plain_text_is_its_own_name(text: str) -> None:
    assert safe_name(text) == text


@pytest.mark.parametrize(
    "text", ["a/b", "a b", "..", ".hidden", "", "what?", "x" * 300, "视" * 90, "a\0b", "\udc80"]
)
def test_any_other_text_gets_a_name_of_its_own(text: str) -> None:
    name = safe_name(text)
    assert name != text
    assert len(name.encode()) <= MAX_BYTES
    assert not set(name) & set("/\\?*[]:\0 \udc80")
    assert not name.startswith(".")


def test_texts_that_look_alike_do_not_share_a_name() -> None:
    assert len({safe_name(text) for text in ("a/b", "a b", "a_b", "a?b", "a\0b")}) == 5


@given(st.text(), st.text())
def test_no_two_texts_share_a_name(one: str, other: str) -> None:
    assert one == other or safe_name(one) != safe_name(other)
