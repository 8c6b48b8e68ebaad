# SPDX-License-Identifier: Apache-2.0
"""
Why a job failed, by the server's own words.

Gateways give the reason under names of their own, so no list of names is complete. What counts is whether a name
speaks of an error, a message or a reason. The words also show a content refusal, which must not be bought again.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.api.codes import is_content_refusal, official_code
from airflow_provider_kling.api.gateway.body import ERROR, Field, fields_of, vocabulary, without_echoes, words_of
from airflow_provider_kling.api.gateway.errors import is_success_code
from airflow_provider_kling.api.gateway.status_words import COMPLETED, RUNNING, WAITING
from airflow_provider_kling.utils.text import MAX_MESSAGE, as_text, clean_text, innermost_message, shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Texts that are read, and the characters of all of them together.
MAX_TEXTS, MAX_CHARACTERS = 20, 2 * MAX_MESSAGE
#: Fields beside a text among which its code is looked for.
MAX_BESIDE = 50

#: Words in names that speak of a message, and of a code.
_MESSAGE = frozenset({"message", "messages", "detail", "details"})
#: Names under which a message stands where there is no better one.
_REMARKS = frozenset({"remark", "remarks", "info", "备注"})
#: Words in the names of fields that tell of the video, and often repeat the prompt: they show no refusal.
_ABOUT_VIDEO = vocabulary("title subtitle text description caption name names tag tags keywords safety")
_CODE = frozenset({"code", "errno", "errcode", "failcode"})
#: Words in the names of fields that hold an id, an address or a time, and no reason.
_NO_TEXT = frozenset({"id", "ids", "url", "urls", "time", "at", "type", "loc", "doc", "docs", "link", "count"})
#: What stands where a reason could, and is none.
_NO_REASON = frozenset(
    {
        "",
        "0",
        "200",
        "200_ok",
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
#: How a text ends that says that the request was answered: ``Request succeeded.``, ``操作成功``.
_SUCCESS = frozenset({"success", "successful", "successfully", "succeed", "succeeded"})
#: What turns a text with such a word into a reason.
_NEGATIVE = re.compile(
    r"\b(?:not?|never|un\w+|without|but|cannot|fail\w*|err\w*|reject\w*|refus\w*|denied|tim(?:ed|e) ?out)\b"
    r"|n['’]t\b"
)
_NEGATIVE_CHINESE = re.compile(r"[未不没无非]|失败|错误|超时|异常|拒绝|率")
#: Words of a text that says no more than that the job failed.
_GENERIC = vocabulary(
    """
    the a an your this task tasks job video request generation generating generate processing process execution
    has have is was failed fail failure failing error errors occurred unknown status to
    """
)
_GENERIC_TEXTS = frozenset(
    {"任务失败", "生成失败", "视频生成失败", "任务执行失败", "执行失败", "处理失败", "未知错误"}
)
#: What is about the form of a request or about a service, though it has words of a content refusal.
_NOT_ABOUT_CONTENT = re.compile(
    r"https?://[!#-&(-;=?-\[\]-~]+"
    r"|\b(?:case|time|order|latency|position|whitespace|context|price)[ _-]?(?:in)?sensitive"
    r"|\bcase[ _-]?sensitivity|\bsensitive to \w+"
    r"|\bviolat(?:es?|ed|ing|ion of)\s+(?:the\s+|our\s+|your\s+|a\s+)?"
    r"(?:(?!content|polic|guide|commun|safe|terms|rules)[\w-]{1,30}\s+){0,2}"
    r"(?:rate|limits?|lengths?|size|quota|schema|format|constraints?|range|type|maximum|minimum|concurrency)\b"
    r"|\bmoderation(?:[ _-](?:service|server|api|endpoint|system|backend))?\s+(?:request\s+)?"
    r"(?:has\s+|is\s+|was\s+)?(?:currently\s+|temporarily\s+)?"
    r"(?:tim(?:ed|e)[ -]?out|unavailable|unreachable|overloaded|busy|down|not available)\b"
    r"|\bmoderation[ _-](?:service|server|api|endpoint|system|backend)\s+(?:error|failed|returned 5\d\d)\b",
    re.IGNORECASE,
)
#: Words of a content refusal besides those that every error may have.
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
#: Codes of a content refusal: those of MiniMax, besides those of the official platform.
_REFUSED_CODES = frozenset({"1026", "1027"})


class Reason(NamedTuple):
    """
    Why a job failed.

    :param code: The code beside the words, if there is one.
    :param message: The words; None if the response gives none.
    :param is_refusal: Whether the reason is the content, so that the same request would fail again.
    """

    code: str | None
    message: str | None
    is_refusal: bool


class _Text(NamedTuple):
    order: tuple[bool, int, bool, int]
    text: str
    code: str | None


def failure_reason(fields: Mapping[str, Any], body: Any = None, *, without: Collection[int] = ()) -> Reason:
    """
    Return why a job failed.

    :param fields: The object that speaks of the job.
    :param body: The body around it.
    :param without: The ``id()`` of objects that concern other jobs.
    """
    texts, others, codes = _read(fields, body, without)
    texts.sort(key=lambda found: found.order)
    refused = any(_is_refusal(code, "") for code in codes)
    refused = refused or any(_is_refusal(found.code, found.text) for found in texts)
    # Words under a name that says nothing still show a refusal.
    refused = refused or any(_is_refusal(None, text) for text in others)
    if not texts:
        return Reason(next(iter(codes), None), None, refused)
    best = texts[0]
    code = official_code(best.text) or best.code or next(iter(codes), None)
    return Reason(code, innermost_message(best.text), refused)


def body_excerpt(body: Any) -> str:
    """Return the beginning of a body for a person to read, without what repeats the request."""
    return shorten(json.dumps(without_echoes(body), ensure_ascii=False))


def _read(
    fields: Mapping[str, Any], body: Any, without: Collection[int]
) -> tuple[list[_Text], list[str], list[str]]:
    """Return the texts that may be the reason, the other texts, and the codes."""
    texts: list[_Text] = []
    others: list[str] = []
    codes: list[str] = []
    #: A long log leaves room for the reason.
    characters, other_characters = MAX_CHARACTERS, MAX_CHARACTERS
    for place, field in enumerate(fields_of(fields, body, without=without)):
        if field.is_echo or (field.is_beside_prompt and not _speaks_of_failure(field)):
            continue
        if (code := _code_in(field)) is not None:
            codes.append(code)
        if not isinstance(field.value, str):
            continue
        text = field.value[:MAX_MESSAGE]
        rank = _rank(field, text)
        if rank is not None:
            if len(texts) < MAX_TEXTS and characters > 0:
                characters -= len(text)
                order = (_is_generic(text), rank, not field.is_inside, place)
                texts.append(_Text(order, text, _code_of(field.holder)))
        elif len(others) < MAX_TEXTS and other_characters > 0 and _may_tell_of_refusal(field, text):
            other_characters -= len(text)
            others.append(text)
    return texts, others, codes


def _rank(field: Field, text: str) -> int | None:
    """Return how likely a text is the reason, 0 most; None if it is none."""
    name = words_of(field.name)
    if not name.isdisjoint(_NO_TEXT) or not name.isdisjoint(_CODE) or not _may_be_a_reason(text):
        return None
    is_message, is_in_error = not name.isdisjoint(_MESSAGE), not field.around.isdisjoint(ERROR)
    if is_message and is_in_error:
        return 0
    if not name.isdisjoint(ERROR):
        return 1
    if is_message:
        # The message about a task is its own; one beside it may be about the request.
        return 2 if "status" in name or "task" in name else 3
    if is_in_error:
        return 4
    return 5 if field.name.strip().lower() in _REMARKS else None


def _speaks_of_failure(field: Field) -> bool:
    """Return whether a field beside a prompt tells of the job nevertheless."""
    return not words_of(field.name).isdisjoint(ERROR | _MESSAGE | _CODE) or not field.around.isdisjoint(ERROR)


def _may_tell_of_refusal(field: Field, text: str) -> bool:
    return not text.startswith("http") and words_of(field.name).isdisjoint(_ABOUT_VIDEO)


def _is_generic(text: str) -> bool:
    """Return whether a text says no more than that the job failed."""
    plain = text[:80].lower().strip(" .!。！")
    return plain in _GENERIC_TEXTS or _GENERIC.issuperset(plain.split())


def _may_be_a_reason(text: str) -> bool:
    plain = " ".join(clean_text(text[:500]).split()).lower().strip(" .!。！")
    if plain.replace(" ", "_") in _NO_REASON or plain in _NO_REASON:
        return False
    words = plain.split()
    if words[-1] in _SUCCESS or words[0] in _SUCCESS:
        return _NEGATIVE.search(plain) is not None
    if plain.endswith("成功") or plain.startswith("成功"):
        return _NEGATIVE_CHINESE.search(plain) is not None
    return True


def _code_in(field: Field) -> str | None:
    """Return the code of an error that a field holds; the type of an error often is its code."""
    words = words_of(field.name)
    if words.isdisjoint(_CODE) and ("type" not in words or field.around.isdisjoint(ERROR)):
        return None
    code = as_text(field.value)
    return None if code is None or is_success_code(code) else code


def _code_of(holder: Mapping[str, Any]) -> str | None:
    """Return the code beside a text."""
    for name, value in islice(holder.items(), MAX_BESIDE):
        if not words_of(name).isdisjoint(_CODE) and (code := as_text(value)) and not is_success_code(code):
            return code
    return None


def _is_refusal(code: str | None, text: str) -> bool:
    if code in _REFUSED_CODES:
        return True
    named = official_code(text)
    # JSON inside a text may hide Chinese behind escapes.
    words = innermost_message(text) if "\\u" in text else text
    words = _NOT_ABOUT_CONTENT.sub(" ", words)
    if is_content_refusal(named or code, words):
        return True
    told = f"{code or ''} {words}".lower()
    return named is None and any(word in told for word in _REFUSED_WORDS)
