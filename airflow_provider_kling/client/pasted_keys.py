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
_AROUND = r"\s\"'`\u00ab\u00ad\u00b4\u00bb\u2018-\u201f\u2039\u203a\u200b-\u200f\u202a-\u202e\u2060\ufeff"
_PASTED = (
    # A backslash counts before a quote only, as in JSON inside JSON.
    re.compile(rf"^(?:[{_AROUND}(]|\\+(?=[\"']))+"),
    # A separator from a list, or the escape of a line break.
    re.compile(rf"(?:[{_AROUND}),;\\]|\\[nrt])+$"),
    # The prefix of a key in documentation, as a header or in JSON.
    re.compile(r"^(?:proxy-)?authorization[\"']?\s*[:=]", re.IGNORECASE),
    # In a URL the space is %20 or +; in some copied text it is missing.
    re.compile(r"^bearer(?:[\s:=+]|%20|$|(?=sk-|bearer))", re.IGNORECASE),
)
#: What stands for a key in documentation, or for no key in a program.
_PLACEHOLDER = re.compile(
    r"none|null|nil|undefined|change[-_]?me|(?:[a-z]+[-_])*api[-_]?key"
    r"|(?:sk[-_])?(?:your|insert|enter|paste|replace)[-_].*|(?:[a-z]{1,6}[-_])?x[x_-]{3,}",
    re.IGNORECASE,
)
#: Characters that separate values or belong to a program's syntax.
_FOREIGN = re.compile(r"[\\,;(){}\[\]<>`'$%^*|!]")
#: A name followed by the key: a line of a .env file, or another header.
_NAMED = re.compile(r"[\w-]+\s*[:=]\s*[\"']?sk-", re.IGNORECASE)
_SHORTENED = re.compile(r"\*{3}|\.{3}|\u2026|\u2022{2}")

_BEARER = re.compile(r"\b(?:bearer|authorization[\"']?\s*[:=])[\"'\s:=]*[^\s\"']{6,}", re.IGNORECASE)
_PREFIXED = re.compile(r"(?<![A-Za-z0-9])sk[-_][A-Za-z0-9_+/=-]{6,}", re.IGNORECASE)
#: A JSON web token: dots separate its parts, and the middle one may look like a word.
_JWT = re.compile(r"\beyJ[A-Za-z0-9_=-]{6,}(?:\.[A-Za-z0-9_=-]+)*")
_ID = r"(?:[0-9a-f]{32,}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"
#: Two ids in one: the name and the secret of a key.
_ID_PAIR = re.compile(rf"(?<![0-9a-z]){_ID}:{_ID}(?![0-9a-z])", re.IGNORECASE)
#: An id where none belongs, and any other token of that length.
_LONG_TOKEN = re.compile(rf"[0-9A-Za-z]{{32,}}|[0-9]{{{MIN_TOKEN},}}|{_ID}", re.IGNORECASE)
#: What may be the path of a CA bundle.
_PATH = re.compile(r"\s*(?:[./~]|[A-Za-z]:[/\\]).*|.*\.(?:pem|crt|cer|cert)\s*", re.DOTALL)
#: A token that a message about a wrong value does not show.
_UNSHOWN = re.compile(rf"[0-9A-Za-z]{{{MIN_TOKEN},}}")
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
        expected = "holds a URL, which belongs in the Base URL; it must hold the API key alone"
    elif " " in key or key[0] in "{[<$" or _NAMED.match(key):
        expected = "holds more than the API key; it must hold the key alone"
    elif _PLACEHOLDER.fullmatch(key):
        expected = "holds a placeholder; it must hold the API key"
    elif _FOREIGN.search(key):
        expected = "holds characters that no API key has; it must hold the key alone"
    elif key.endswith("."):
        expected = "ends with a full stop, which belongs to no API key; it must hold the key alone"
    else:
        return None
    return Problem("password", MASK, expected)


def looks_like_key(text: str) -> bool:
    """Return whether a text contains an API key: after ``sk-`` or ``Bearer``, or as a long random token."""
    return any(pattern.search(text) for pattern in (_BEARER, _PREFIXED, _JWT, _ID_PAIR)) or any(
        not _is_id(token) for token in _random_tokens(text)
    )


def mask_keys(text: str) -> str:
    """Return a text for a message, with every possible key masked, ids included."""
    for pattern in (_BEARER, _PREFIXED, _JWT, _ID_PAIR):
        text = pattern.sub(MASK, text)
    return _TOKEN.sub(lambda match: MASK if _is_random(match[0]) else match[0], text)


def without_key(value: Any) -> Any:
    """Return a value for a message, replaced by :data:`MASK` if it may contain a key."""
    text = value if isinstance(value, str) else short_repr(value)
    return value if mask_keys(text) == text and not _UNSHOWN.search(text) else MASK


def misplaced_keys(
    fields: Mapping[str, Any], extra: Mapping[str, Any], known: frozenset[str]
) -> Iterator[Problem]:
    """
    Yield a problem for each field that contains a key, apart from the password.

    :param fields: The fields of a connection by name, including ``host``.
    :param extra: Its extras.
    :param known: Names of the extras that are read.
    """
    expected = "holds what looks like an API key; a key belongs in the field API key (password), and nowhere else"
    for name, value in fields.items():
        if _CHECKS.get(name, looks_like_key)(_text(value)):
            yield Problem(name, MASK, expected)
    for name, value in extra.items():
        if (
            looks_like_key(name)
            or _EXTRA_CHECKS.get(name, looks_like_key)(_text(value))
            or (name not in known and _KEY_NAME.search(name) and _KEY_VALUE.fullmatch(_text(value)))
        ):
            yield Problem(f"extra.{name if name in known else without_key(name)}", MASK, expected)


def _host_holds_key(host: str) -> bool:
    address, slash, path = host.partition("://")[2].partition("/") if "://" in host else host.partition("/")
    if "." not in address:
        return looks_like_key(host) or _LONG_TOKEN.search(address) is not None
    # The labels of a host name may be long and random, as at cloud services, but not in mixed case.
    labels = any(token != token.lower() or _PREFIXED.match(token) for token in _random_tokens(address))
    return labels or any(p.search(address) for p in (_BEARER, _JWT)) or (bool(slash) and looks_like_key(path))


def _proxy_holds_key(proxy: str) -> bool:
    """Return whether a proxy URL contains a key outside its user and password."""
    address = re.sub(r"^\s*(?:https?://)?(?:[^/?#]*@)?", "", proxy, flags=re.IGNORECASE)
    return _host_holds_key(address)


def _any_host_holds_key(hosts: str) -> bool:
    entries = re.split(r"[\s,\[\]\"']+", hosts)
    return looks_like_key(hosts) or any("." not in host and _LONG_TOKEN.search(host) for host in entries)


def _holds_long_token(text: str) -> bool:
    return looks_like_key(text) or _LONG_TOKEN.search(text) is not None


def _verify_holds_key(text: str) -> bool:
    return looks_like_key(text) if _PATH.fullmatch(text) else _holds_long_token(text)


#: How a field or an extra is searched for a key, if not by :func:`looks_like_key`.
_CHECKS = {"host": _host_holds_key, "schema": _holds_long_token, "login": _holds_long_token}
_EXTRA_CHECKS = {
    "proxy": _proxy_holds_key,
    "private_hosts": _any_host_holds_key,
    "verify": _verify_holds_key,
    **dict.fromkeys(("trust_env", "probe", "refusal_codes"), _holds_long_token),
}


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
