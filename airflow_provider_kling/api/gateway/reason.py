# SPDX-License-Identifier: Apache-2.0
"""
Find the reason why a job failed, in the server's own words.

Gateways use their own field names for the reason, so no list of names is complete. What counts is whether a name
means an error, a message or a reason. The words also show a content refusal, which must not be bought again.
"""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.api.codes import is_content_refusal, official_code
from airflow_provider_kling.api.gateway.body import ERROR, Field, fields_of, without_echoes, words_of
from airflow_provider_kling.api.gateway.errors import is_success_code
from airflow_provider_kling.api.gateway.status_words import COMPLETED, RUNNING, WAITING
from airflow_provider_kling.utils.text import MAX_MESSAGE, as_text, innermost_message, shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Maximum number of texts that are read, and of characters in all of them together.
MAX_TEXTS, MAX_CHARACTERS = 20, 2 * MAX_MESSAGE
#: Maximum number of fields of an object that are searched for the code of a text.
MAX_BESIDE = 50

#: Words in names of a message, and of a code.
_MESSAGE = frozenset({"message", "messages", "detail", "details"})
_CODE = frozenset({"code", "errno", "errcode", "failcode"})
#: Words in the names of fields that contain an id, a URL or a time, and no reason.
_NO_TEXT = frozenset({"id", "ids", "url", "urls", "time", "at", "type", "loc", "doc", "docs", "link", "count"})
#: Texts in the place of a reason that are none.
_NO_REASON = frozenset(
    {
        "",
        "-",
        "ok",
        "okay",
        "none",
        "null",
        "nil",
        "n/a",
        "na",
        "no error",
        "no errors",
        "undefined",
        "true",
        "false",
    }
    | {"[]", "{}", "stop", "failed", "failure", "fail", "error", "失败"}
    | COMPLETED
    | RUNNING
    | WAITING
)
#: Last words of a text about a successful request: ``Request succeeded.``, ``操作成功``.
_SUCCESS = frozenset({"success", "successful", "successfully", "succeed", "succeeded"})
#: Words of a content refusal, besides those for errors of any kind.
_REFUSED_WORDS = (
    "inappropriate",
    "nsfw",
    "unsafe",
    "safety",
    "guidelines",
    "policy violation",
    "policyviolation",
    "content violat",
    "violates",
    "violated our",
    "violating",
    "prohibited content",
    "datainspection",
    "data_inspection",
    "data inspection",
    "审核未通过",
    "审核不通过",
    "未通过审核",
    "审核失败",
    "未能通过审核",
    "审查未通过",
    "违禁",
    "不合规",
    "涉黄",
    "色情",
    "不当内容",
    "社区规范",
)
#: Codes of a content refusal at MiniMax, besides those of the official platform.
_REFUSED_CODES = frozenset({"1026", "1027"})


class Reason(NamedTuple):
    """
    The reason why a job failed.

    :param code: The code of the error, if there is one.
    :param message: The words; None if the response has none.
    :param is_refusal: Whether the reason is the content, so that the same request would fail again.
    """

    code: str | None
    message: str | None
    is_refusal: bool


class _Text(NamedTuple):
    order: tuple[int, bool, int]
    text: str
    code: str | None


def failure_reason(fields: Mapping[str, Any], body: Any = None, *, without: Collection[int] = ()) -> Reason:
    """
    Return the reason why a job failed.

    :param fields: The object that describes the job.
    :param body: The body around it.
    :param without: The ``id()`` of objects that describe other jobs.
    """
    texts, others, codes = _read(fields, body, without)
    texts.sort(key=lambda found: found.order)
    refused = any(_is_refusal(code, "") for code in codes)
    refused = refused or any(_is_refusal(found.code, found.text) for found in texts)
    # Words in a field with an unspecific name still show a refusal.
    refused = refused or any(_is_refusal(None, text) for text in others)
    if not texts:
        return Reason(next(iter(codes), None), None, refused)
    best = texts[0]
    code = official_code(best.text) or best.code or next(iter(codes), None)
    return Reason(code, innermost_message(best.text), refused)


def body_excerpt(body: Any) -> str:
    """Return the beginning of a body for a message, without echoes of the request."""
    return shorten(json.dumps(without_echoes(body), ensure_ascii=False))


def _read(
    fields: Mapping[str, Any], body: Any, without: Collection[int]
) -> tuple[list[_Text], list[str], list[str]]:
    """Return the texts that may be the reason, the other texts, and the codes."""
    texts: list[_Text] = []
    others: list[str] = []
    codes: list[str] = []
    characters = MAX_CHARACTERS
    for place, field in enumerate(fields_of(fields, body, without=without)):
        if field.is_echo:
            continue
        if (code := _code_in(field)) is not None:
            codes.append(code)
        if not isinstance(field.value, str) or len(texts) + len(others) >= 2 * MAX_TEXTS or characters <= 0:
            continue
        text = field.value[:MAX_MESSAGE]
        characters -= len(text)
        rank = _rank(field, text)
        if rank is None:
            if not text.startswith("http"):
                others.append(text)
        elif len(texts) < MAX_TEXTS:
            texts.append(_Text((rank, not field.is_inside, place), text, _code_of(field.holder)))
    return texts, others, codes


def _rank(field: Field, text: str) -> int | None:
    """Return the rank of a text, 0 for the most likely reason; None if it is not one."""
    name = words_of(field.name)
    if not name.isdisjoint(_NO_TEXT) or not name.isdisjoint(_CODE) or not _may_be_a_reason(text):
        return None
    is_message, is_in_error = not name.isdisjoint(_MESSAGE), not field.around.isdisjoint(ERROR)
    if is_message and is_in_error:
        return 0
    if not name.isdisjoint(ERROR):
        return 1
    if is_message:
        # A message named after the task is about the task; another one may be about the request.
        return 2 if "status" in name or "task" in name else 3
    return 4 if is_in_error else None


def _may_be_a_reason(text: str) -> bool:
    plain = " ".join(text[:200].split()).lower().strip(" .!。！")
    if plain.replace(" ", "_") in _NO_REASON or plain in _NO_REASON:
        return False
    words = plain.split()
    if words[-1] in _SUCCESS:
        return len(words) > 3 or not words_of(plain).isdisjoint({"not", "no", "never", "un", "t"})
    return not (plain.endswith("成功") and len(plain) < 12) or any(no in plain for no in "未不没")


def _code_in(field: Field) -> str | None:
    """Return the code of an error in a field; the type of an error often is its code."""
    words = words_of(field.name)
    if words.isdisjoint(_CODE) and ("type" not in words or field.around.isdisjoint(ERROR)):
        return None
    code = as_text(field.value)
    return None if code is None or is_success_code(code) else code


def _code_of(holder: Mapping[str, Any]) -> str | None:
    """Return the code in the same object as a text."""
    for name, value in islice(holder.items(), MAX_BESIDE):
        if not words_of(name).isdisjoint(_CODE) and (code := as_text(value)) and not is_success_code(code):
            return code
    return None


def _is_refusal(code: str | None, text: str) -> bool:
    if code in _REFUSED_CODES:
        return True
    named = official_code(text)
    # JSON inside a text may have Chinese text in escapes.
    words = innermost_message(text) if "\\u" in text else text
    if is_content_refusal(named or code, words):
        return True
    searched = f"{code or ''} {words}".lower()
    return named is None and any(word in searched for word in _REFUSED_WORDS)
