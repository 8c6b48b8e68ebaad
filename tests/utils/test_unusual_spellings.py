# SPDX-License-Identifier: Apache-2.0
"""Rarer spellings of a secret are masked too, each as a whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_kling.utils.masking import MASK, DecodedText, SecretMask, forms_of, mask

SECRET = "sk-9f3Kx7Lq2WmAbCdE"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "a colour inside": lambda key: f"{key[:6]}\x1b[31m{key[6:9]}\x1b[0;1m{key[9:]}",
    "a colour inside, in JSON": lambda key: f"{key[:6]}\\u001b[31m{key[6:]}",
    "hexadecimal": lambda key: key.encode().hex(),
    "hexadecimal in capitals": lambda key: key.encode().hex().upper(),
    "hexadecimal with spaces": lambda key: key.encode().hex(" "),
    "\\u{73}": lambda key: "".join(f"\\u{{{ord(c):x}}}" for c in key),
    "\\u{000073}": lambda key: "".join(f"\\u{{{ord(c):06x}}}" for c in key),
    "\\U00000073": lambda key: "".join(f"\\U{ord(c):08x}" for c in key),
    "%u0073": lambda key: "".join(f"%u{ord(c):04x}" for c in key),
    "&#000000000115;": lambda key: "".join(f"&#{ord(c):012};" for c in key),
    "&#x000000000073;": lambda key: "".join(f"&#x{ord(c):012x};" for c in key),
    "full width": lambda key: "".join(chr(ord(c) + 0xFEE0) for c in key),
    "full width now and then": lambda key: "".join(
        chr(ord(c) + 0xFEE0) if i % 3 else c for i, c in enumerate(key)
    ),
    "empty Braille patterns": "\u2800".join,
    "combining marks": "\u0301\u20dd".join,
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("excerpt", [True, False])
def test_is_masked(spell: Callable[[str], str], excerpt: bool) -> None:
    masked = SecretMask(forms_of(SECRET))
    text = f"the key {spell(SECRET)} is wrong"
    assert (masked.in_excerpt if excerpt else masked)(text) == f"the key {MASK} is wrong"


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mred\x1b[0m",
        "ｆｕｌｌ　ｗｉｄｔｈ：ＯＫ",
        "re\u0301sume\u0301",
        "\\u{110000} \\Uffffffff \\u{} %u00 &#99999999999999999999;",
        "\x1b[" + "1" * 100,
    ],
)
def test_other_text_is_left_as_it_is(text: str) -> None:
    assert mask([SECRET], text) == text
    assert mask([SECRET], f"{text} {SECRET}") == f"{text} {MASK}"


@pytest.mark.parametrize("cut", ["\\u{6", "\\U0000", "%u00", "&#0000000"])
def test_an_escape_that_is_cut_off(cut: str) -> None:
    assert SecretMask([SECRET]).in_excerpt(f"the key {SECRET[:10]}{cut}") == f"the key {MASK}"


@pytest.mark.parametrize("unseen", ["\udcff", "\u200b", "\x1b[0m"])
def test_a_run_of_unseen_characters_is_one_part(unseen: str) -> None:
    from airflow_provider_kling.utils import masking

    assert len(DecodedText(f"a{unseen * 1000}b", masking._UNUSUAL, masking._usual)._original) == 3
