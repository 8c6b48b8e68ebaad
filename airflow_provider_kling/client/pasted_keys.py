# SPDX-License-Identifier: Apache-2.0
"""Recognise an API key that was pasted with the text around it, or into the wrong field of a connection."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.exceptions import Problem, short_repr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MASK = "***"
#: Characters of a nested extra that are searched.
MAX_TEXT = 10_000
#: Minimum length of a token that counts as random. Shorter ones are names more often than keys.
MIN_TOKEN = 20
#: Maximum length of a hexadecimal token that does not count as a key: base URLs contain UUIDs and account ids.
MAX_ID = 36

#: Whitespace, the quotes of keyboards and word processors, and invisible characters that editors copy.
_AROUND = r"[\s\"'`\u2018\u2019\u201c\u201d\u00ab\u00bb\ufeff\u200b]+"
_PASTED = (
    re.compile(f"^{_AROUND}"),
    # A comma counts only after a quote, as in JSON.
    re.compile(f"{_AROUND}(?:[,;]\\s*)?$"),
    # The prefix of a key in documentation, as a header or in JSON.
    re.compile(r"^(?:proxy-)?authorization[\"']?\s*[:=]", re.IGNORECASE),
    re.compile(r"^bearer(?:[\s:=]|$)", re.IGNORECASE),
)
#: A name followed by the key: a line of a .env file, or another header.
_NAMED = re.compile(r"[\w-]+\s*[:=]\s*[\"']?sk-", re.IGNORECASE)
_SHORTENED = re.compile(r"\*{3}|\.{3}|\u2026|\u2022{2}")

_BEARER = re.compile(r"\b(?:bearer|authorization[\"']?\s*[:=])[\"'\s:=]*[^\s\"']{6,}", re.IGNORECASE)
_PREFIXED = re.compile(r"(?<![A-Za-z0-9])sk[-_][A-Za-z0-9_+/=-]{6,}", re.IGNORECASE)
#: A JSON web token: dots separate its parts, and the middle one may look like a word.
_JWT = re.compile(r"\beyJ[A-Za-z0-9_=-]{6,}(?:\.[A-Za-z0-9_=-]+)*")
_TOKEN = re.compile(rf"[A-Za-z0-9_+=-]{{{MIN_TOKEN},}}")
#: Names of extras whose value counts as a key if it is long enough, whatever its characters.
_KEY_NAME = re.compile(r"key|token|secret|authorization|bearer|password|credential", re.IGNORECASE)
_KEY_VALUE = re.compile(r"\s*\S{16,}\s*")


def clean_key(password: str | None) -> str:
    """Return a key without the whitespace, quotes and ``Authorization: Bearer`` that were pasted with it."""
    key, before = password or "", None
    while key != before:
        before = key
        for pasted in _PASTED:
            key = pasted.sub("", key)
    return key


def key_problem(key: str) -> Problem | None:
    """
    Return what is wrong with a key; the problem does not contain the key.

    :param key: The key, as :func:`clean_key` returns it.
    """
    if not key:
        return Problem("password", "", "must hold the API key")
    if _SHORTENED.search(key):
        expected = "holds a key that was shortened for display; copy the whole key"
    elif not key.isascii() or not key.isprintable():
        expected = "holds characters that no API key has"
    elif re.match(r"\w+://", key):
        expected = "holds a URL, which belongs in the host; it must hold the API key alone"
    elif " " in key or key[0] in "{[<$" or _NAMED.match(key):
        expected = "holds more than the API key; it must hold the key alone"
    else:
        return None
    return Problem("password", MASK, expected)


def looks_like_key(text: str) -> bool:
    """Return whether a text contains an API key: after ``sk-`` or ``Bearer``, or as a long random token."""
    return any(pattern.search(text) for pattern in (_BEARER, _PREFIXED, _JWT)) or any(
        not _is_id(token) for token in _random_tokens(text)
    )


def mask_keys(text: str) -> str:
    """Return a text for a message, with every possible key masked, ids included."""
    for pattern in (_BEARER, _PREFIXED, _JWT):
        text = pattern.sub(MASK, text)
    return _TOKEN.sub(lambda match: MASK if _is_random(match[0]) else match[0], text)


def without_key(value: Any) -> Any:
    """Return a value for a message, replaced by :data:`MASK` if it may contain a key."""
    text = value if isinstance(value, str) else short_repr(value)
    return value if mask_keys(text) == text else MASK


def misplaced_keys(
    fields: Mapping[str, Any], extra: Mapping[str, Any], known: frozenset[str]
) -> Iterator[Problem]:
    """
    Yield a problem for each field that contains a key, apart from the password.

    :param fields: The fields of a connection by name, including ``host``.
    :param extra: Its extras.
    :param known: Names of the extras that are read.
    """
    expected = "holds what looks like an API key; a key belongs in the password, and nowhere else"
    for name, value in fields.items():
        if (_host_holds_key if name == "host" else looks_like_key)(_text(value)):
            yield Problem(name, MASK, expected)
    for name, value in extra.items():
        # A proxy URL may contain its own password.
        if name != "proxy" and (
            looks_like_key(name)
            or looks_like_key(_text(value))
            or (name not in known and _KEY_NAME.search(name) and _KEY_VALUE.fullmatch(_text(value)))
        ):
            yield Problem(f"extra.{name if name in known else without_key(name)}", MASK, expected)


def _host_holds_key(host: str) -> bool:
    address, slash, path = host.partition("://")[2].partition("/") if "://" in host else host.partition("/")
    if "." not in address:
        return looks_like_key(host)
    # The labels of a host name may be long and random, as at cloud services, but not in mixed case.
    labels = any(token != token.lower() or _PREFIXED.match(token) for token in _random_tokens(address))
    return labels or any(p.search(address) for p in (_BEARER, _JWT)) or (bool(slash) and looks_like_key(path))


def _random_tokens(text: str) -> list[str]:
    return [token for token in _TOKEN.findall(text) if _is_random(token)]


def _is_random(token: str) -> bool:
    """Return whether upper case, lower case and digits alternate in a token more often than in names."""
    kinds = ["0" if c.isdigit() else "a" if c.islower() else "A" if c.isupper() else "" for c in token]
    pairs = [(one, other) for one, other in pairwise(kinds) if one and other and one != other]
    return sum("0" in pair for pair in pairs) >= 2 and len(pairs) >= len(token) / 6


def _is_id(token: str) -> bool:
    return len(token) <= MAX_ID and re.fullmatch(r"[0-9a-f-]+", token) is not None


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return repr(value)[:MAX_TEXT]
    except (ValueError, RecursionError):  # Python refuses to print it
        return ""
