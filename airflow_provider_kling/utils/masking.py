# SPDX-License-Identifier: Apache-2.0
"""Take secrets out of what others say, however they spell them."""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cached_property, lru_cache
from html import unescape
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK = "***"
#: How JSON, JSON inside JSON, a URL or HTML may write a printable character. Each way begins with a literal, which
#: lets the search skip all else.
_SPELLING = re.compile(
    r"(\\\\{0,7}(?:u00[2-7][0-9A-Fa-f]|[!-/:-@\[\]-`{-~])?|%[2-7][0-9A-Fa-f]|&#?\w{1,12};)",
    re.ASCII,
)


def mask(secrets: Iterable[str], text: str) -> str:
    """
    Return a text with every secret masked, whichever spelling each of its characters has.

    The text is read and then searched, rather than matched with a pattern of all spellings: so the time grows with
    the text alone, whatever the secret is and whoever wrote the text.

    :param secrets: What nobody may see, of printable ASCII characters.
    :param text: The text; all else in it stays as it is written.
    """
    for secret in secrets:
        # As it is, first: what stands before it may seem to be the beginning of a spelling.
        text = text.replace(secret, MASK)
        if "\\" in text or "%" in text or "&" in text:
            text = _mask_spelt("".join(_read(secret)[1]), text)
    return text


def _mask_spelt(secret: str, text: str) -> str:
    reading = Reading(text)
    found = reading.plain.find(secret) if secret else -1
    kept, after = [], 0
    while found >= 0:
        end = found + len(secret)
        kept.append(text[after : reading.where(found)[0]])
        after = reading.where(end - 1)[1]
        found = reading.plain.find(secret, end)
    return MASK.join([*kept, text[after:]])


class Reading:
    """
    A text as it reads, and where in the text each character is written.

    :param text: The text.
    """

    def __init__(self, text: str) -> None:
        self._written, self._read = _read(text)
        self.plain = "".join(self._read)

    def where(self, index: int) -> tuple[int, int]:
        """Return from where to where the text spells this character of :attr:`plain`."""
        read_at, written_at = self._starts
        part = bisect_right(read_at, index) - 1
        if part % 2:
            return written_at[part], written_at[part + 1]
        begin = written_at[part] + index - read_at[part]
        return begin, begin + 1

    @cached_property
    def _starts(self) -> tuple[list[int], list[int]]:
        """Where each part begins, as read and as written."""
        read, written = (list(accumulate(map(len, parts), initial=0)) for parts in (self._read, self._written))
        return read, written


def _read(text: str) -> tuple[list[str], list[str]]:
    """Return the parts of a text, as written and as read: in turn plain text and a spelling."""
    written = _SPELLING.split(text)
    read = written.copy()
    read[1::2] = map(_spelt, written[1::2])
    return written, read


@lru_cache(maxsize=4096)
def _spelt(spelling: str) -> str:
    """Return the character that is spelt so; nothing for backslashes, of which there may be any number."""
    if spelling.startswith("&"):
        character = unescape(spelling)
    else:
        character = chr(int(spelling[-2:], 16)) if spelling[-1].isalnum() else spelling[-1]
    return character.replace("\\", "")
