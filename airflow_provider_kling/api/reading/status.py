# SPDX-License-Identifier: Apache-2.0
"""Read the state of a job from a status response."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.codes import (
    KIND_OF_HTTP_STATUS,
    kind_of_code,
    official_code,
)
from airflow_provider_kling.api.empty_account import kind_of_words
from airflow_provider_kling.api.instants import parse_instant
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.reading.errors import (
    code_in,
    error_names,
    error_of,
    find_error,
    is_missing_route,
    is_success_code,
)
from airflow_provider_kling.api.reading.job_object import (
    ID_NAMES,
    JobObject,
    find_job,
    other_id_in,
    status_word_in,
    submitted_object,
    task_id_in,
)
from airflow_provider_kling.api.reading.other_jobs import other_jobs
from airflow_provider_kling.api.reading.reason import Reason, body_excerpt, failure_reason
from airflow_provider_kling.api.reading.refusals import LOST_WORDS, MAX_WORDS
from airflow_provider_kling.api.reading.status_words import STATUS_NAMES, is_gone, status_of
from airflow_provider_kling.api.reading.video_url import video_url
from airflow_provider_kling.exceptions import (
    THE_CONNECTION,
    KlingAuthenticationError,
    KlingBalanceError,
    KlingError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
)
from airflow_provider_kling.utils.coerce import parse_number
from airflow_provider_kling.utils.text import as_mapping, as_text, clean_text, excerpt

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_kling.api.response import Response

__all__ = ["accepted_body", "job_from", "read_status", "status_word_in", "task_id_in"]

#: Fields that the answer to a failed request may have; any other one is that of a job.
_ENVELOPE = frozenset(
    {"success", "ok", "code", "message", "msg", "error", "detail", "type", "request_id", "requestId"}
)
_ENVELOPE |= {*ID_NAMES, *STATUS_NAMES}
#: How the text of an error shows that it is about the request for the status, and not about the job.
_KIND_OF_REQUEST_ERROR: Mapping[type[KlingError], re.Pattern[str]] = {
    kind: re.compile(words, re.IGNORECASE)
    for kind, words in {
        KlingRateLimitError: r"too many requests|too frequent|requests? limit|rate.?limit|throttl"
        r"|resource (?:has been |is )?exhausted"
        r"|请求(?:过于|太|过)(?:频繁|多|快)|访问频繁|限流|限速|频率",
        KlingNotFoundError: r"task.?not.?(?:exist|found)|(?:no such|unknown) task|任务不存在|找不到任务",
        KlingAuthenticationError: r"unauthori[sz]ed|invalid (?:api.?)?(?:key|token)|无效的?(?:令牌|密钥)|未授权",
        KlingPermissionError: r"forbidden|permission denied|access denied|无权",
    }.items()
}
#: The same, for a server that could not process the request; a failed job may have such a reason too.
_SERVER_TROUBLE = re.compile(
    r"internal (?:server )?error|service (?:is )?(?:temporarily )?unavailable|bad gateway|gateway time.?out"
    r"|server (?:is )?(?:busy|overloaded)|try again later|maintenance|database|系统(?:繁忙|错误|维护)"
    r"|服务器?(?:繁忙|错误|异常|维护|内部错误)|稍后(?:再试|重试)",
    re.IGNORECASE,
)
#: The same, for a request that did not come through, besides the words of a lost upstream.
_REQUEST_TROUBLE = re.compile(
    r"(?:fail(?:ed|ure|s)?|unable|could not|couldn't|can ?not|can't|error) (?:to |while |when |in )?"
    r"(?:fetch|get|query|retriev|load|read|reach|connect|contact|check|poll|request|obtain|look)"
    r"|\b(?:fetch|get|query|request|poll|retrieval|lookup)(?:ing)?\b(?: \w+){0,4} (?:failed|failure|error|aborted)"
    r"|\b(?:upstream|gateway|network|connection|connect|socket|redis|mysql|proxy|dns|tls|ssl|transport)\b"
    r"|status code|\bECONN|(?:查询|获取|请求|拉取|读取|轮询|访问).{0,10}(?:失败|出错|错误|异常|超时)"
    r"|(?:无法|未能|不能)(?:查询|获取|请求|连接|访问)|网络|网关|上游|连接",
    re.IGNORECASE,
)


def read_status(response: Response, kling_task_id: str) -> VideoJob:
    """
    Return the state of a job, with the id of the status request.

    :raises KlingError: The named error for an error response.
    """
    _refuse_errors(response, kling_task_id)
    body = response.json
    found = find_job(body, kling_task_id)
    if found is None:
        error = find_error(body)
        if error is None and not isinstance(body, dict):
            raise _not_an_object(response, kling_task_id)
        if (refused := _request_error(response, kling_task_id, None)) is not None:
            raise refused
        if error is not None:
            raise error_of(
                response,
                f"The server refused the status request for Kling task {kling_task_id}",
                kling_task_id,
                body=error,
            )
        raise KlingServerError(
            f"The response to the status request for Kling task {kling_task_id} contains no status",
            kling_task_id=kling_task_id,
            http_status=response.http_status,
            server_message=body_excerpt(body),
        )
    reason = None
    if status_of(found.word) == "failed":
        reason = failure_reason(found.fields, body, without=found.others)
    if (refused := _request_error(response, kling_task_id, found, reason)) is not None:
        raise refused
    job = job_from(kling_task_id, found.fields, found.word, body=body, without=found.others, reason=reason)
    return job if found.has_id else replace(job, has_id=False)


def accepted_body(response: Response, kling_task_id: str | None) -> Mapping[str, Any]:
    """Return the object of a 2xx response that describes the submitted job; raise a named error otherwise."""
    _refuse_errors(response, kling_task_id)
    body = response.json
    if not isinstance(body, dict):
        raise _not_an_object(response, kling_task_id)
    data = body.get("data")
    if isinstance(data, str) and data and "status" not in body and is_success_code(body.get("code")):
        return {"task_id": data}
    return submitted_object(body)


def _refuse_errors(response: Response, kling_task_id: str | None) -> None:
    if not 200 <= response.http_status < 300:
        raise error_of(response, f"The {_request_name(kling_task_id)} was refused", kling_task_id)


def _not_an_object(response: Response, kling_task_id: str | None) -> KlingServerError:
    return KlingServerError(
        f"The response to the {_request_name(kling_task_id)} is not a JSON object",
        kling_task_id=kling_task_id,
        http_status=response.http_status,
        server_message=excerpt(response.body),
        advice=f"Check that the Base URL of {THE_CONNECTION} is the API itself.",
    )


def _request_name(kling_task_id: str | None) -> str:
    return "submit" if kling_task_id is None else f"status request for Kling task {kling_task_id}"


def _request_error(
    response: Response, kling_task_id: str, found: JobObject | None, reason: Reason | None = None
) -> KlingError | None:
    """
    Return the error of a status request in a 200 response, or None if the response is about the job.

    Its words are about the request, and it does not hold the job's id, or nothing of a job but that. The job goes
    on meanwhile.
    """
    body = response.json
    if found is None and is_missing_route(response, error_names(response)):
        return None
    if found is not None and status_of(found.word) != "failed":
        return None
    if found is not None and found.has_id and not _is_envelope(found, body):
        return None
    if reason is None:
        reason = failure_reason(body if isinstance(body, dict) else {}, body)
    kind = None if reason.is_refusal else _kind_of_request_error(reason, found, body)
    if kind is None:
        return None
    return kind(
        f"The server refused the status request for Kling task {kling_task_id}",
        kling_task_id=kling_task_id,
        http_status=response.http_status,
        code=reason.code,
        server_message=reason.message,
        request_id=response.request_id,
        retry_after=response.retry_after,
    )


def _is_envelope(found: JobObject, body: Any) -> bool:
    """Return whether an object with the job's id may be the error of a request that repeats the id."""
    outer = as_mapping(body)
    denies = (
        outer.get("success") is False or _is_server_code(code_in(outer)) or _is_server_code(code_in(found.fields))
    )
    return found.fields.keys() <= _ENVELOPE and (denies or found.word.strip().lower() == "error")


def _is_server_code(code: str | None) -> bool:
    return code is not None and re.fullmatch(r"5\d\d", code) is not None


def _kind_of_request_error(reason: Reason, found: JobObject | None, body: Any) -> type[KlingError] | None:
    text = (reason.message or "")[:MAX_WORDS]
    code = official_code(text) or reason.code or code_in(as_mapping(body)) or ""
    kind = kind_of_code(code)
    if kind is None and code.isdecimal() and len(code) == 3 and not (found and found.has_id):
        kind = KIND_OF_HTTP_STATUS.get(int(code), KlingServerError if code >= "500" else None)
    words = text
    if found is not None:
        said = f"{found.word[:80]}\n{reason.words}"
        words = f"{said}\n{re.sub('[_-]+', ' ', said)}" if re.search("[_-]", said) else said
    if not _KIND_OF_REQUEST_ERROR[KlingRateLimitError].search(text):
        kind = kind or kind_of_words(text)
    for said in (text, words):
        kind = kind or next((kind for kind, like in _KIND_OF_REQUEST_ERROR.items() if like.search(said)), None)
    if kind is None and (
        _SERVER_TROUBLE.search(words)
        or (found is not None and (LOST_WORDS.search(words) or _REQUEST_TROUBLE.search(words)))
    ):
        kind = KlingServerError
    return kind if kind in (*_KIND_OF_REQUEST_ERROR, KlingBalanceError, KlingServerError) else None


def job_from(
    kling_task_id: str,
    fields: Mapping[str, Any],
    word: str,
    *,
    body: Any = None,
    without: Collection[int] = (),
    reason: Reason | None = None,
) -> VideoJob:
    """
    Return the job that an object describes.

    :param kling_task_id: The id for status requests.
    :param fields: The object.
    :param word: The word for its status.
    :param body: The body around it, for values that the object does not have.
    :param without: The ``id()`` of objects of the body that describe other jobs.
    :param reason: The reason of its failure, if the caller has found it already.
    """
    word = clean_text(word)[:80]
    known = status_of(word)
    status = known or "running"
    progress = _progress(fields.get("progress", as_mapping(body).get("progress")))
    job = VideoJob(
        kling_task_id=kling_task_id,
        other_id=other_id_in(fields, kling_task_id),
        status=status,
        raw_status=word,
        is_known_status=known is not None,
        progress=progress,
        model=_model(fields),
    )
    if status in ("queued", "running") and not (known is None and progress == 100):
        # Few checks find a job that has ended; for the others the remaining fields are not needed.
        return job
    without = other_jobs(fields, body, kling_task_id).union(without)
    if status != "failed":
        reason = Reason(None, None, False)
    elif reason is None:
        reason = failure_reason(fields, body, without=without)
    url = None if status == "failed" else video_url(fields, body, without=without, kling_task_id=kling_task_id)
    is_unexplained = reason.message is None if status == "failed" else url is None
    return replace(
        job,
        video_url=url,
        created_at=_instant(fields, "created_at", "submit_time"),
        completed_at=_instant(fields, "completed_at", "finish_time", "finished_at"),
        error=reason.message,
        error_code=reason.code,
        content_refused=reason.is_refusal,
        is_gone=is_gone(word),
        excerpt=body_excerpt(fields if body is None else body) if is_unexplained else None,
    )


def _model(fields: Mapping[str, Any]) -> str | None:
    return as_text(fields.get("model")) or as_text(fields.get("model_name"))


def _progress(value: Any) -> int | None:
    number = parse_number(value.strip().rstrip("%") if isinstance(value, str) else value)
    return None if number is None else int(min(max(number, 0), 100))


def _instant(fields: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these fields that is a valid time, as ISO 8601 in UTC."""
    moments = (parse_instant(fields.get(name)) for name in names)
    return next((moment.isoformat(timespec="seconds") for moment in moments if moment), None)
