# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.utils.masking import MASK, mask

#: Words around a key that are never taken for a part of it.
WORDS = st.text(' \n{}é"', max_size=5) | st.sampled_from(["key%3D", 'say \\"', "a&amp;", "\\n", "100% ", "R&D "])
KEY_CHARACTERS = "".join(sorted(set(string.ascii_letters + string.digits + string.punctuation) - set('\\%&{}"')))


@st.composite
def spellings(draw: st.DrawFn, character: str) -> str:
    code = ord(character)
    backslashes = "\\" * draw(st.sampled_from([1, 2, 3, 4, 7, 8]))
    ways = [
        character,
        f"{backslashes}u{code:04x}",
        f"{backslashes}u{code:04X}",
        f"%{code:02x}",
        f"%{code:02X}",
        f"&#{code};",
        f"&#{code:04};",
        f"&#x{code:x};",
        f"&#X{code:04X};",
    ]
    if not character.isalnum() and character != "_":
        ways.append(f"{backslashes}{character}")
    return draw(st.sampled_from(ways))


@st.composite
def spelt_keys(draw: st.DrawFn) -> tuple[str, str]:
    """A key, and one of the many ways to write it."""
    key = draw(st.text(KEY_CHARACTERS, min_size=16, max_size=40))
    return key, "".join(draw(spellings(character)) for character in key)


@given(spelt_keys(), WORDS, WORDS)
def test_any_mix_of_spellings_is_masked_and_nothing_else(key: tuple[str, str], before: str, after: str) -> None:
    assert mask([key[0]], f"{before}{key[1]}{after}{key[1]}") == f"{before}{MASK}{after}{MASK}"


@given(
    st.text(string.printable.strip(), min_size=1, max_size=40).filter(lambda secret: secret not in MASK), st.text()
)
@example("\\", "\\\\\\")
@example("%41&#43;\\u0041", "100%")
def test_any_secret_is_masked_as_it_is(secret: str, before: str) -> None:
    assert mask([secret], f"{before.replace(secret, '')} {secret}").endswith(f" {MASK}")


@given(st.text() | st.text("\\%&#;u0x41²é-"))
@example("\\² &²; %²² \\u00²²")
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert mask(["a" * 16], text) == text


SIZE = 1 << 20


@pytest.mark.parametrize("key", ["-" * 40 + "x", "-+" * 20 + "x", "a" * 40 + "-", "9f3Kx/7Lq+2WmAbCdE", "%" * 16])
@pytest.mark.parametrize(
    "hostile", ["\\", "\\-", "-", "-+", "%2d", "\\u002D", "&#45;", "&", "%", "a", "9f3Kx/7Lq"]
)
def test_a_hostile_text_costs_little_time_whatever_the_key(key: str, hostile: str) -> None:
    text = hostile * (SIZE // len(hostile))
    started = time.process_time()
    masked = mask([key], text)
    assert time.process_time() - started < 1
    assert len(masked) <= len(text)


def test_a_text_that_spells_the_key_over_and_over_costs_little_time() -> None:
    text = "%2D" * 16 * (SIZE // 48)
    started = time.process_time()
    assert mask(["-" * 16], text) == MASK * (SIZE // 48)
    assert time.process_time() - started < 1
