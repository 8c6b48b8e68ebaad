# SPDX-License-Identifier: Apache-2.0
"""
Find the reason why a job failed, in the server's own words.

Gateways use their own field names for the reason, so no list of names is complete. What counts is whether a name
means an error, a message or a reason. The words also show a content refusal, which must not be bought again.
"""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.api.codes import is_content_refusal, kind_of_code, official_code
from airflow_provider_kling.api.reading.body import ERROR, Field, fields_of, vocabulary, without_echoes, words_of
from airflow_provider_kling.api.reading.errors import is_success_code
from airflow_provider_kling.api.reading.status_words import COMPLETED, RUNNING, WAITING
from airflow_provider_kling.exceptions import KlingContentRefusedError
from airflow_provider_kling.utils.text import MAX_MESSAGE, as_text, clean_text, innermost_message, shorten

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Maximum number of texts that are read, and of characters in all of them together.
MAX_TEXTS, MAX_CHARACTERS = 20, 2 * MAX_MESSAGE
#: Maximum characters of all texts of a response that are passed on.
MAX_SHOWN = 1024
#: Maximum number of fields of an object that are searched for the code of a text.
MAX_BESIDE = 50

#: Words in names of a message, and of a code.
_MESSAGE = frozenset({"message", "messages", "detail", "details"})
#: Names under which a message stands where there is no better one.
_REMARKS = frozenset({"remark", "remarks", "info", "备注"})
#: Words in the names of fields that describe the video, and often echo the prompt: they show no refusal.
_ABOUT_VIDEO = vocabulary("title subtitle text description caption name names tag tags keywords safety")
_CODE = frozenset({"code", "errno", "errcode", "failcode"})
#: Words in the names of fields that contain an id, a URL or a time, and no reason.
_NO_TEXT = frozenset({"id", "ids", "url", "urls", "time", "at", "type", "loc", "doc", "docs", "link", "count"})
#: Texts in the place of a reason that are none.
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
#: Last words of a text about a successful request: ``Request succeeded.``, ``操作成功``.
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
#: Words of a content refusal besides those that every error may have; ``_`` and ``-`` are read as spaces.
_REFUSED_WORDS = re.compile(
    r"inappropriate|nsfw|\bunsafe\b|guidelines|(?<!access )(?<!constraint )violat|data ?inspection"
    r"|policy ?violation"
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
#: Codes of a content refusal at MiniMax, besides those of the official platform.
_REFUSED_CODES = frozenset({"1026", "1027"})


class Reason(NamedTuple):
    """
    The reason why a job failed.

    :param code: The code of the error, if there is one.
    :param message: The words; None if the response has none.
    :param is_refusal: Whether the reason is the content, so that the same request would fail again.
    :param words: The beginning of all texts and codes of the response.
    """

    code: str | None
    message: str | None
    is_refusal: bool
    words: str = ""


class _Text(NamedTuple):
    order: tuple[bool, int, bool, int]
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
    words = "\n".join([*(found.text for found in texts), *codes, *others])[:MAX_SHOWN]
    if not texts:
        return Reason(next(iter(codes), None), None, refused, words)
    best = texts[0]
    code = official_code(best.text) or best.code or next(iter(codes), None)
    return Reason(code, innermost_message(best.text), refused, words)


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
    if is_in_error:
        return 4
    return 5 if field.name.strip().lower() in _REMARKS else None


def _speaks_of_failure(field: Field) -> bool:
    """Return whether a field beside a prompt is about the job nevertheless."""
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
    words = _NOT_ABOUT_CONTENT.sub(" ", words)
    searched = re.sub(r"[_-]+", " ", f"{code or ''} {words}")
    is_known = is_content_refusal(named or code, words)
    if not is_known and (named is not None or not _REFUSED_WORDS.search(searched)):
        return False
    # The moderation service itself may have failed.
    return kind_of_code(named or code) is KlingContentRefusedError or not _NO_VERDICT.search(searched)
