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

from airflow_provider_kling.api.codes import is_content_refusal, kind_of_code, official_code
from airflow_provider_kling.api.gateway.body import ERROR, Field, fields_of, without_echoes, words_of
from airflow_provider_kling.api.gateway.errors import is_success_code
from airflow_provider_kling.api.gateway.status_words import COMPLETED, RUNNING, WAITING
from airflow_provider_kling.exceptions import KlingContentRefusedError
from airflow_provider_kling.utils.text import MAX_MESSAGE, as_text, innermost_message, shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Texts that are read, and the characters of all of them together.
MAX_TEXTS, MAX_CHARACTERS = 20, 2 * MAX_MESSAGE
#: Characters of all texts of a response that are handed on.
MAX_SHOWN = 1024
#: Fields beside a text among which its code is looked for.
MAX_BESIDE = 50

#: Words in names that speak of a message, and of a code.
_MESSAGE = frozenset({"message", "messages", "detail", "details"})
_CODE = frozenset({"code", "errno", "errcode", "failcode"})
#: Words in the names of fields that hold an id, an address or a time, and no reason.
_NO_TEXT = frozenset({"id", "ids", "url", "urls", "time", "at", "type", "loc", "doc", "docs", "link", "count"})
#: What stands where a reason could, and is none.
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
#: How a text ends that says that the request was answered: ``Request succeeded.``, ``操作成功``.
_SUCCESS = frozenset({"success", "successful", "successfully", "succeed", "succeeded"})
#: Words of a content refusal besides those that every error may have; ``_`` and ``-`` are read as spaces.
_REFUSED_WORDS = re.compile(
    r"inappropriate|nsfw|\bunsafe\b|guidelines|(?<!access )(?<!constraint )violat|data ?inspection"
    r"|\bcontent\b[^\n.;]{0,20}\b(?:policy|polic(?:y|ies)|filter\w*|security|safety|moderation|standards?|rules?)\b"
    r"|(?:prohibited|illegal|harmful|sexual|forbidden) (?:content|words?|prompt)|illegal prompt|\bnud(?:e|ity)\b"
    r"|risk ?control|public figure|real (?:person|people)|copyright|\bcensor|infring|responsible ai"
    r"|policyviolation|community standards|prompt is not allowed"
    r"|safety[ .]?(?:system|filter|check|polic|guideline|input|output|reason)"
    r"|(?:reject|block|flag|refus|fail)\w*[^\n.;]{0,30}\bsafety\b|\bsafety\b[^\n.;]{0,20}(?:reject|block|flag|refus)"
    r"|[审審][核查][^\n。；]{0,6}(?:未|不)能?(?:通过|通過|合格|符)"
    r"|[审審][核查查][^\n。；]{0,4}(?:拒绝|拒絕|失败|失敗|不符|不过)|(?:未|不)能?(?:通过|通過)[^\n。；]{0,8}[审審][核查]"
    r"|违禁|不合规|涉黄|涉政|涉暴|色情|不当内容|不良信息|社区规范|违反[^\n。；]{0,8}(?:规定|规则|政策|法律)"
    r"|不符合[^\n。；]{0,8}规范|内容安全|违法|版权|侵权",
    re.IGNORECASE,
)
#: Words of the service that looks at contents, when it is the one that failed.
_NO_VERDICT = re.compile(
    r"(?:moderation|safety|security|risk ?control|sensitive|filter|内容安全|审核|审查|風控|风控)[^\n.;。；]{0,20}"
    r"(?:tim(?:e|ed) ?out|unavailable|unreachable|overload|shutdown|crash|busy|internal error"
    r"|超时|繁忙|不可用|异常)",
    re.IGNORECASE,
)
#: Codes of a content refusal: those of MiniMax, besides those of the official platform.
_REFUSED_CODES = frozenset({"1026", "1027"})


class Reason(NamedTuple):
    """
    Why a job failed.

    :param code: The code beside the words, if there is one.
    :param message: The words; None if the response gives none.
    :param is_refusal: Whether the reason is the content, so that the same request would fail again.
    :param words: The beginning of all texts and codes of the response.
    """

    code: str | None
    message: str | None
    is_refusal: bool
    words: str = ""


class _Text(NamedTuple):
    order: tuple[int, bool, int]
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
    words = "\n".join([*(found.text for found in texts), *codes, *others])[:MAX_SHOWN]
    if not texts:
        return Reason(next(iter(codes), None), None, refused, words)
    best = texts[0]
    code = official_code(best.text) or best.code or next(iter(codes), None)
    return Reason(code, innermost_message(best.text), refused, words)


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
    told = re.sub(r"[_-]+", " ", f"{code or ''} {words}")
    is_named = is_content_refusal(named or code, words)
    if not is_named and (named is not None or not _REFUSED_WORDS.search(told)):
        return False
    # The service that looks at contents may be the one that failed.
    return kind_of_code(named or code) is KlingContentRefusedError or not _NO_VERDICT.search(told)
