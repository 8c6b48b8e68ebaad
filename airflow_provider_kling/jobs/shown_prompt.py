# SPDX-License-Identifier: Apache-2.0
"""
What is shown of a prompt where prompts may not be written down: eight hexadecimal digits of its hash.

The same prompt has the same digits, so that rows and jobs can still be told apart. The request that is sent, and
its fingerprint, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from typing import Any
from unicodedata import normalize

from airflow_provider_kling.utils.coerce import parse_literal
from airflow_provider_kling.utils.masking import find_spans, folded_forms, merged_spans

#: Number of hexadecimal digits.
DIGITS = 8
#: Minimum length of a prompt that is searched for in other texts; a shorter one may be part of a word.
MIN_PROMPT = 5
#: Length at which a part of a prompt is recognised in another text. Spaces do not count.
MIN_PART = 8
#: The same for the beginning of a prompt before an ellipsis.
MIN_CUT = 3

_CUT = re.compile(r"…|\.\.\.|$")
_HASH = re.compile(rf"[0-9a-f]{{{DIGITS}}}")
#: Fields of a shot that are no text.
_NOT_TEXT = frozenset({"duration", "index", "type"})


def prompt_hash(prompt: str) -> str:
    """
    Return what is shown instead of a prompt: the first eight digits of the SHA-256 of its text, in NFC.

    :param prompt: The prompt. What is such a hash already, or blank, is returned as it is.
    """
    if not prompt.strip() or _HASH.fullmatch(prompt):
        return prompt
    return sha256(normalize("NFC", prompt).encode("utf-8", errors="replace")).hexdigest()[:DIGITS]


def hide_prompts(request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return a request with the hash of each prompt in its place, at any depth.

    :param request: The JSON object that is sent, or fields of the operator.
    """
    return {name: _hidden(value, is_prompt=_is_prompt(name, request)) for name, value in request.items()}


def _hidden(value: Any, *, is_prompt: bool) -> Any:
    if isinstance(value, str):
        return prompt_hash(value) if is_prompt else value
    if isinstance(value, Mapping):
        return {
            name: _hidden(item, is_prompt=_is_prompt(name, value) or (is_prompt and name not in _NOT_TEXT))
            for name, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_hidden(item, is_prompt=is_prompt) for item in value]
    return value


def prompts_in(fields: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield each text that :func:`hide_prompts` replaces, and the prompts in a field that is JSON text.

    :param fields: As for :func:`hide_prompts`.
    """
    pending = [(value, _is_prompt(name, fields)) for name, value in fields.items()]
    while pending:
        value, is_prompt = pending.pop()
        if isinstance(value, str):
            parsed = parse_literal(value) if value.lstrip()[:1] in ("[", "{") else None
            if isinstance(parsed, (list, Mapping)):
                pending.append((parsed, is_prompt))
            if is_prompt and value.strip():
                yield value
        elif isinstance(value, Mapping):
            pending += [
                (item, _is_prompt(name, value) or (is_prompt and name not in _NOT_TEXT))
                for name, item in value.items()
            ]
        elif isinstance(value, (list, tuple)):
            pending += [(item, is_prompt) for item in value]


def _is_prompt(name: Any, fields: Mapping[str, Any]) -> bool:
    return "prompt" in str(name).lower() or (name == "text" and fields.get("type") == "prompt")


class PromptMask:
    """
    Replaces prompts in other texts by their hash.

    A part of :data:`MIN_PART` characters is enough, since a server may quote only a part; before an ellipsis,
    :data:`MIN_CUT` are. It is found in any letter case, in escaped form, and with other spaces in between.

    :param prompts: The prompts; those of fewer than :data:`MIN_PROMPT` characters are not searched for.
    """

    def __init__(self, prompts: Iterable[str]) -> None:
        self._parts: dict[str, frozenset[str]] = {}
        for prompt in prompts:
            if len(prompt.strip()) >= MIN_PROMPT and not _HASH.fullmatch(prompt):
                parts = {part for form in folded_forms(prompt) for part in _parts_of(form)}
                self._parts[prompt_hash(prompt)] = frozenset(parts)

    def __call__(self, text: str) -> str:
        """Return a text in which the prompts are replaced."""
        found = {
            span: shown
            for shown, parts in self._parts.items()
            for span in find_spans(text, partial(_found, parts=parts))
        }
        kept, end = list[str](), 0
        for start, stop in merged_spans(found):
            longest = max((span for span in found if start <= span[0] < stop), key=lambda span: span[1] - span[0])
            kept += (text[end:start], found[longest])
            end = stop
        return "".join((*kept, text[end:]))


def _parts_of(text: str) -> Iterator[str]:
    """Yield every part by which a folded prompt is recognised; the shorter ones are its beginnings."""
    length = min(MIN_PART, len(text))
    yield from (text[start : start + length] for start in range(len(text) - length + 1))
    yield from (text[:stop] for stop in range(MIN_CUT, length))


def _found(folded: str, parts: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield the span of each part of a prompt in a folded text."""
    longest = max(map(len, parts), default=0)
    for start in range(len(folded) - longest + 1):
        if folded[start : start + longest] in parts:
            yield start, start + longest
    for cut in _CUT.finditer(folded):
        stop = cut.start()
        for length in range(min(longest, stop), MIN_CUT - 1, -1):
            if folded[stop - length : stop] in parts:
                yield stop - length, stop
                break
