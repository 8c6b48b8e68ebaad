# SPDX-License-Identifier: Apache-2.0
"""Mask secrets in texts of other programs, with any escapes, letter case or invisible characters."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from bisect import bisect_right
from functools import cached_property, lru_cache, reduce
from html import unescape
from itertools import accumulate
from typing import TYPE_CHECKING
from unicodedata import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MASK = "***"
#: How often a text is decoded: JSON inside JSON, a URL inside a URL. Secrets escaped more often are not found.
MAX_ROUNDS = 3
#: Minimum length at which the beginning of a secret is masked at the end of a text; a shorter one may be a word.
MIN_PREFIX = 8
#: The same where an ellipsis shows that the text was cut.
MIN_CUT_PREFIX = 4
#: Minimum length of a part of a secret, and of a secret in Base64; shorter ones may be part of a word.
MIN_ENCODED = 12

#: The escapes of JSON, Python, URLs and HTML. Each starts with a literal, so that the search skips all other text.
_ESCAPE = re.compile(
    r"(\\{1,8}(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|[bfnrtv]|u\{[0-9A-Fa-f]{1,8}\}|U[0-9A-Fa-f]{8}"
    r"|[!-/:-@\[\]-`{-~])?"
    r"|%(?:[0-7][0-9A-Fa-f]|[C-Fc-f][0-9A-Fa-f](?:%[89ABab][0-9A-Fa-f]){1,3}|u[0-9A-Fa-f]{4})"
    r"|&(?:#(?:\d{1,40}|[xX][0-9A-Fa-f]{1,40});?|\w{1,12};))",
    re.ASCII,
)
#: An incomplete escape at the end of a text.
_CUT_ESCAPE = re.compile(
    r"(?:\\+(?:u\{?[0-9A-Fa-f]{0,8}|x[0-9A-Fa-f]?)?|%(?:u[0-9A-Fa-f]{0,3}|[0-9A-Fa-f])?|&#?\w{0,40})$",
    re.ASCII | re.IGNORECASE,
)
_CONTROL_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
#: Runs of invisible characters (terminal escape sequences, combining marks, halves of a character, replacements of
#: bytes that are not a character), or of full-width ones.
_UNUSUAL = re.compile(
    "((?:\x1b\\[[0-?]{0,16}[ -/]{0,4}[@-~]"
    "|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u0300-\u036f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u1ab0-\u1aff"
    "\u1dc0-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff\u2800\u3164\ud800-\udfff\ufe00-\ufe0f"
    "\ufe20-\ufe2f\ufeff\uffa0\ufff0-\ufffd\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff])+"
    "|[\uff01-\uff5e]+)"
)
_SPACE = re.compile(r"(\s+)")


class SecretMask:
    """
    Replaces secrets in texts by ``***``; the rest of a text stays unchanged.

    A secret is found in any letter case, in escaped form, and with whitespace or invisible characters inside.

    A text is decoded and then searched, and not matched with a pattern of all spellings. So the time grows only
    with the length of the text, for any secret and any text that a server sends.

    :param secrets: The secrets, of printable ASCII characters.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        needles: dict[str, None] = {}
        for secret in secrets:
            for text in (secret, _decoded(secret)):
                needles[_folded(_UNUSUAL.sub("", text))] = None
        self._needles = tuple(filter(None, needles))
        self._beginnings = tuple(needle[:MIN_PREFIX] for needle in self._needles)
        self._shortest = min(map(len, self._needles), default=0)
        self._shortest_cut = min(self._shortest, MIN_PREFIX)
        self._longest = max(map(len, self._needles), default=0)

    def __call__(self, text: str) -> str:
        """Return a text in which the secrets are masked."""
        return self._masked(text, was_cut=False)

    def in_excerpt(self, text: str) -> str:
        """
        Return the same for a text that may end in the middle of a secret, before any “…” or at its end.

        The beginning of the secret is masked there.
        """
        parts = re.findall("[^…]*…+|[^…]+", text)
        return "".join(self._masked(part, was_cut=True) for part in parts)

    def _masked(self, text: str, *, was_cut: bool) -> str:
        if not self._needles or len(text) < (self._shortest_cut if was_cut else self._shortest):
            return text
        if _is_plain(text):
            folded = _folded(text)
            # The usual case: plain text without a secret.
            for needle in self._beginnings if was_cut else self._needles:
                if needle in folded:
                    break
            else:
                return text
        kept, end = [], 0
        for start, stop in merged_spans(self._spans(text, was_cut=was_cut)):
            kept.append(text[end:start])
            end = stop
        return MASK.join([*kept, text[end:]]) if kept else text

    def _spans(self, text: str, *, was_cut: bool) -> Iterator[tuple[int, int]]:
        """Yield the start and the end of each secret in a text."""
        shown = text.rstrip("…") if was_cut else text
        shortest = (MIN_PREFIX if len(shown) == len(text) else MIN_CUT_PREFIX) if was_cut else None
        return find_spans(
            shown,
            lambda folded: [*self._found(folded), *(self._cut(folded, shortest) if shortest else ())],
        )

    def _found(self, folded: str) -> Iterator[tuple[int, int]]:
        """Yield the start and the end of each secret in a folded text."""
        for needle in self._needles:
            start = folded.find(needle)
            while start >= 0:
                yield start, start + len(needle)
                start = folded.find(needle, start + len(needle))

    def _cut(self, folded: str, shortest: int) -> Iterator[tuple[int, int]]:
        """Yield the span of a secret that the end of a folded text cuts off, even inside an escape."""
        tail_at = max(0, len(folded) - self._longest)
        tail = _CUT_ESCAPE.sub("", folded[tail_at:])
        for needle in self._needles:
            start = tail.find(needle[:shortest])
            while start >= 0:
                if needle.startswith(tail[start:]):
                    yield tail_at + start, len(folded)
                    break
                start = tail.find(needle[:shortest], start + 1)


def mask(secrets: Iterable[str], text: str) -> str:
    """Return a text with every secret masked; see :class:`SecretMask`."""
    return SecretMask(secrets)(text)


def find_spans(text: str, find: Callable[[str], Iterable[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    """
    Yield the spans of a text that a search finds, whatever its escapes, spaces, letter case, invisible characters.

    :param text: The text.
    :param find: Returns the start and the end of what it finds in the text without all these.
    """
    layers: list[DecodedText] = []
    for _ in range(MAX_ROUNDS + 1):
        if not (text.isascii() and text.isprintable()) and _UNUSUAL.search(text):
            layers.append(DecodedText(text, _UNUSUAL, _usual))
            text = layers[-1].text
        if found := list(find(_folded(text))):
            spaces = DecodedText(text, _SPACE, _nothing)
            for span in found:
                yield reduce(lambda inner, layer: layer.span(*inner), (spaces, *reversed(layers)), span)
        if "\\" not in text and "%" not in text and "&" not in text:
            return
        layers.append(DecodedText(text))
        if layers[-1].text == text:
            return
        text = layers[-1].text


def folded_forms(text: str) -> set[str]:
    """Return a text as the search of :func:`find_spans` gets it when another text quotes it, in each round."""
    forms = set()
    for _ in range(MAX_ROUNDS + 1):
        text = DecodedText(text, _UNUSUAL, _usual).text
        forms.add(_folded(text))
        text = DecodedText(text).text
    return forms


def forms_of(secret: str, *, parts: bool = True) -> Iterator[str]:
    """
    Yield a secret, its parts as a URL would split it, and its hexadecimal and Base64 forms.

    The parts may be names, of an account for example.

    Of the Base64 form only the part counts that is the same whatever stands around the secret. It depends on the
    remainder by three of the secret's position, so there are three of it.

    :param secret: The secret, of ASCII characters.
    :param parts: Whether to yield the parts.
    """
    yield secret
    if parts:
        yield from (part for part in re.split("[/?#@:]", secret) if MIN_ENCODED <= len(part) < len(secret))
    if len(secret) < MIN_ENCODED:
        return
    yield secret.encode().hex()
    for offset in range(3):
        encoded = b64encode(b"\0" * offset + secret.encode()).decode().rstrip("=")
        # The first and the last character may contain bits of the text around the secret.
        part = encoded[-(-offset * 8 // 6) : len(encoded) - ((offset + len(secret)) % 3 > 0)]
        yield part
        if "+" in part or "/" in part:
            yield part.translate({ord("+"): "-", ord("/"): "_"})


class DecodedText:
    """
    A text without its escapes, with the position of each of its characters in the original.

    :param original: The text.
    :param pattern: The pattern to replace, as one group.
    :param decode: Returns the replacement of a match.
    """

    def __init__(
        self, original: str, pattern: re.Pattern[str] = _ESCAPE, decode: Callable[[str], str] | None = None
    ) -> None:
        self._original = pattern.split(original)  # alternately plain text and an escape
        self._decoded = self._original.copy()
        self._decoded[1::2] = map(decode or _unescaped, self._original[1::2])
        self.text = "".join(self._decoded)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the start and the end in the original of these characters of :attr:`text`."""
        return self._where(start)[0], self._where(end - 1)[1]

    def _where(self, index: int) -> tuple[int, int]:
        decoded_at, original_at = self._starts
        part = bisect_right(decoded_at, index) - 1
        if part % 2 and self._decoded[part] != self._original[part]:
            return original_at[part], original_at[part + 1]
        begin = original_at[part] + index - decoded_at[part]
        return begin, begin + 1

    @cached_property
    def _starts(self) -> tuple[list[int], list[int]]:
        """The start of each part, in the decoded text and in the original."""
        decoded, original = (
            list(accumulate(map(len, parts), initial=0)) for parts in (self._decoded, self._original)
        )
        return decoded, original


def _is_plain(text: str) -> bool:
    """Return whether a text has neither escapes nor invisible characters."""
    return text.isascii() and text.isprintable() and not ("\\" in text or "%" in text or "&" in text)


def _decoded(text: str) -> str:
    for _ in range(MAX_ROUNDS):
        text = DecodedText(text).text
    return text


def _folded(text: str) -> str:
    """Return a text without whitespace, in lower case; every other character stays one character."""
    text = "".join(text.split())
    if not text.isascii():
        # In lower case, the first becomes two characters; the second is a long s, which has no other lower case.
        text = text.replace("\u0130", "i").replace("\u017f", "s")
    return text.lower()


def merged_spans(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the spans in order; overlapping ones are merged."""
    last: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if last is not None and start < last[1]:
            last = last[0], max(end, last[1])
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last


def _nothing(_: str) -> str:
    return ""


@lru_cache(maxsize=4096)
def _usual(run: str) -> str:
    """Return full-width characters in their usual width, and nothing for invisible ones."""
    return normalize("NFKC", run) if "\uff01" <= run[0] <= "\uff5e" else ""


@lru_cache(maxsize=4096)
def _unescaped(escape: str) -> str:
    """Return the character of an escape; an empty text for backslashes, of which there may be several."""
    if escape[0] == "&":
        return unescape(escape).replace("\\", "")
    if escape[0] == "%":
        if escape[1] == "u":
            return chr(int(escape.lstrip("%u"), 16)).replace("\\", "")
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", errors="replace").replace("\\", "")
    code = escape.lstrip("\\")
    if len(code) > 1:
        number = int(code[1:].strip("{}"), 16)
        return chr(number).replace("\\", "") if number <= sys.maxunicode else ""
    return _CONTROL_ESCAPES.get(code, code)
