# SPDX-License-Identifier: Apache-2.0
"""Read the response to a submit: a job, a refusal, or neither with certainty."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.codes import OFFICIAL_REFUSALS, kind_of_code
from airflow_provider_kling.api.reading.errors import (
    AMBIGUOUS_STATUSES,
    NO_SUCCESS,
    code_in,
    empty_account,
    error_names,
    error_object,
    error_of,
    has_error,
    is_no_error,
    is_web_page,
    message_in,
    parts_of,
    status_meant,
    uncertain_error,
)
from airflow_provider_kling.api.reading.refusals import BEFORE_SENDING
from airflow_provider_kling.api.reading.status import (
    accepted_body,
    job_from,
    status_word_in,
    task_id_in,
)
from airflow_provider_kling.api.reading.status_words import status_of
from airflow_provider_kling.api.response import is_html
from airflow_provider_kling.exceptions import (
    THE_CONNECTION,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingNotFoundError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.utils.text import MAX_MESSAGE, as_mapping, clean_text, nested_objects

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.reading.refusals import ErrorNames
    from airflow_provider_kling.api.response import Response


def read_submit(response: Response, refusal_codes: Collection[str] = ()) -> VideoJob:
    """
    Return the job that a submit started.

    :param refusal_codes: Error codes with which this vendor refuses a submit before anything is bought, besides
        the known ones.
    :raises KlingUncertainSubmissionError: if a job may exist: the response is not a definite refusal, or it has a
        task id besides an error; that id is then the error's ``kling_task_id``.
    :raises KlingError: any other named error: the submit was refused, and no job exists.
    """
    if response.http_status < 300 and not _has_error(response, refusal_codes):
        return _accepted_job(response)
    if is_definite_refusal(response, refusal_codes):
        raise error_of(response, "The submit was refused")
    message = "Whether the submit was accepted is unknown"
    if response.http_status < 300:
        message = "The response contains an error, but does not prove that no job was made"
    raise uncertain_error(response, message, kling_task_id=_named_task(response))


def is_definite_refusal(response: Response, refusal_codes: Collection[str] = ()) -> bool:
    """
    Return whether this response to a submit proves that no job was made.

    - A response that names a task does not, whatever else it says; one of the connection's own codes does.
    - One whose words say that the job was made, or that the same request came before, does not.
    - 5xx: only a code that is raised before anything is sent on, or the official platform's code of a refusal,
      does, and neither does beside words of a lost upstream: gateways have codes of their own under the same
      numbers. Words count only where there is no code.
    - 4xx: all do but an ambiguous status, and an error that names a lost upstream.
    - 3xx: all do but a redirect that may follow an accepted POST.
    - 2xx: only an error with a code that is known to refuse does, a 4xx in the code included, or words of an
      empty account. Words of a rate limit do not: the submit would be sent again by itself.
    """
    status = response.http_status
    if (status < 300 and not _has_error(response, refusal_codes)) or _may_name_task(response):
        return False
    names = error_names(response)
    if names.among(refusal_codes):
        return True
    if status in AMBIGUOUS_STATUSES or names.lost_upstream():
        # A code of a lost upstream outweighs the upstream's error inside the message.
        return False
    return _platform_refuses(response) or _refuses(response, names)


def _refuses(response: Response, names: ErrorNames) -> bool:
    """Return whether the words of an error, which names neither a task nor a lost upstream, leave it a refusal."""
    status = response.http_status
    known = names.among(BEFORE_SENDING) or not OFFICIAL_REFUSALS.isdisjoint((names.code, *names.nested))
    if known and 300 <= status < 500:
        return not names.mentions_existing_job()
    if names.mentions_lost_upstream():
        return 300 <= status < 400
    if status < 300:
        return (known and not _has_id(response.json)) or _refuses_with_success(response, names)
    return known or status < 500 or names.mentions_refusal()


def _platform_refuses(response: Response) -> bool:
    """
    Return whether the official platform itself refuses what was asked for: its body has no id but ``request_id``.

    Such an error may well speak of a timeout: that of an image.
    """
    return any(
        isinstance(part, dict)
        and part is not response.json
        and isinstance(part.get("request_id"), str)
        and kind_of_code(str(part.get("code"))) in _OF_THE_REQUEST
        and str(part.get("code")) in OFFICIAL_REFUSALS
        and not _has_id(part)
        for part in parts_of(response.json)
    )


#: Errors of a request, which come before a job.
_OF_THE_REQUEST = (KlingContentRefusedError, KlingNotFoundError, KlingValidationError)


def _refuses_with_success(response: Response, names: ErrorNames) -> bool:
    """Return whether a 2xx with an error is a certain refusal; without a known code, beside an id it is none."""
    if response.http_status < 200 or _has_id(response.json):
        return False
    if kind_of_code(names.code) not in (None, KlingServerError):
        return True
    status = status_meant(response, names.code)
    if 400 <= status < 500:
        return status not in AMBIGUOUS_STATUSES
    return status < 300 and empty_account(response, names) is KlingBalanceError


def _accepted_job(response: Response) -> VideoJob:
    try:
        body = accepted_body(response, kling_task_id=None)
    except KlingServerError:
        body = {}
    kling_task_id = task_id_in(body)
    if kling_task_id is None:
        # An id in an unexpected place is reported for a person to check.
        raise uncertain_error(response, _unexpected_form(response), kling_task_id=_named_task(response))
    return job_from(kling_task_id, body, status_word_in(body) or "queued")


def _unexpected_form(response: Response) -> str:
    """
    Return a sentence about a response without a job.

    A web page does not prove that the POST bought nothing: a proxy may have forwarded the POST, and replaced the
    response by its own page with its own status.
    """
    if response.http_status < 200:
        return "The response to the submit is an interim one, not the final one"
    if is_web_page(response):
        return (
            "The response to the submit is a web page, not a response of the API: check the Base URL of "
            f"{THE_CONNECTION}"
        )
    if not response.body.strip():
        return "The response to the submit is empty"
    if not isinstance(response.json, dict):
        return "The response to the submit is not a JSON object"
    return "The response to the submit contains no task id"


def _has_error(response: Response, refusal_codes: Collection[str]) -> bool:
    """
    Return whether a 2xx contains an error that outweighs an id in it.

    The flat envelope does so only with a known code: some servers have their own success code.
    """
    error, body = error_object(response), as_mapping(response.json)
    if error is body and _SUCCESS_MESSAGE.fullmatch(message_in(body).strip()[:100]) and _names_a_job(body):
        return False
    if _denies_success(body) or (error is not None and error is not response.json):
        return True
    names = error_names(response)
    if error is None and str(body.get("status")).lower() not in NO_SUCCESS:
        return status_meant(response, code_in(body)) >= 400
    known = any(kind_of_code(code) for code in (names.code, *names.nested))
    if known or names.lost_upstream() or names.among(BEFORE_SENDING) or names.among(refusal_codes):
        return True
    if status_meant(response, names.code) >= 400:
        return True
    # Words together with an id may be a warning.
    return not _has_id(body) and empty_account(response, names) is KlingBalanceError


def _denies_success(body: Mapping[str, Any]) -> bool:
    lists = any(
        isinstance(body.get(name), list) and not all(map(is_no_error, body[name])) for name in ("error", "errors")
    )
    return (
        any(body.get(name) in (False, "false") for name in _SUCCESS_NAMES)
        or body.get("error") is True
        or lists
        or has_error(body.get("data"))
        or str(body.get("code")).lower() in NO_SUCCESS
    )


def _names_a_job(body: Mapping[str, Any]) -> bool:
    """Return whether the body of a success names its job: one with no other status than that of a job to come."""
    data = body.get("data")
    holder = data if isinstance(data, dict) and task_id_in(data) else body
    word = status_word_in(holder)
    return bool(task_id_in(holder)) and (word is None or _is_alive(word))


def _is_alive(word: str) -> bool:
    return status_of(word) in ("queued", "running", "completed")


#: All that the message of an accepted submit says.
_SUCCESS_MESSAGE = re.compile(
    r"(?:(?:the )?(?:task|job|request|video)[ _-])?(?:(?:is |was |has been )?(?:successfully )?)"
    r"(?:success|succeed|succeeded|successful|ok|okay|created|submitted|accepted|queued|done)"
    r"(?: successfully)?[.!]?"
    r"|(?:任务|請求|请求|操作|创建|提交|任务创建|任务提交|创建任务|提交任务)?成功[。！!]?",
    re.IGNORECASE,
)
#: Fields that deny success.
_SUCCESS_NAMES = ("success", "ok", "succeeded")
#: Names of fields whose value may be the id of a job, in an undecoded body; in a message the quotes are escaped.
_ID = re.compile(
    r"""(?:task|job|video|generation)[ _-]?(?:id|uuid|no)s?\\*["']\s*:"""
    r"""\s*\\*(?:["']\s*[^\s"'\\]|[\d-]|\[\s*\\*["'\d])""",
    re.IGNORECASE,
)
_ANY_ID = re.compile(
    r"(?i:(?:^|[_-])(?:id|uuid)s?$|^(?:task|job|video|generation)(?:id)?s?$)|(?<=[a-z])(?:Id|ID|Uuid|UUID)s?$"
)
#: A task that a text names: ``(task id: 17)``.
_SPELLED_ID = re.compile(
    r"""(?:task|job|generation)[ _-]?id\\?["']?\s?[:=]\s?\\?["']?(?=[\w-]{0,80}\d)([\w.-]{1,200})""", re.IGNORECASE
)
#: An id and the status of a job, in a body that was cut off.
_CUT_ID = re.compile(r"""["'](?:task_?)?id["']\s?:\s?["']?([\w.:/-]{1,200})""", re.IGNORECASE)
_CUT_STATUS = re.compile(r"""["'](?:task_?|job_?)?(?:status|state)["']\s?:\s?["'](\w{1,40})["']""", re.IGNORECASE)
#: Names whose value may be an id where it is a text, a number, or a list of these.
_LOOSE_ID = re.compile(r"(?:result|data|output|name|sn)s?|order\w*", re.IGNORECASE)
#: What can be nothing but an id: one word with a digit.
_CLEAR_ID = re.compile(r"(?=[^\d\s]{0,80}\d)[\w.:/-]{1,200}")
#: Names of an exchange, not of a job.
_EXCHANGE = re.compile(r"request|trace|req_?id|log|session|span|correlation", re.IGNORECASE)


def _may_name_task(response: Response) -> bool:
    """Return whether a response may contain a task id, at any depth."""
    if _named_task(response):
        return True
    return not is_html(response) and bool(_ID.search(_text_of(response)))


def _text_of(response: Response) -> str:
    return response.body.decode(json.detect_encoding(response.body), errors="replace")


def _has_id(body: Any) -> bool:
    """Return whether a body contains any possible id; a text in ``data`` may be one."""
    for part in parts_of(body):
        if isinstance(part, dict):
            for name, value in part.items():
                is_id = bool(_ANY_ID.search(name)) and not _EXCHANGE.search(name)
                if value not in (None, "", 0, False) and (is_id or any(_loose_ids(name, value))):
                    return True
    return False


def _loose_ids(name: str, value: Any) -> Iterator[str]:
    """Yield the texts and numbers under a name that often holds something else than an id."""
    if _LOOSE_ID.fullmatch(name):
        for found in value[:10] if isinstance(value, list) else [value]:
            if isinstance(found, (str, int)) and not isinstance(found, bool) and (text := clean_text(str(found))):
                yield text


def _named_task(response: Response) -> str | None:
    """
    Return the task id in an error response to a submit.

    Beside an error a ``task_id`` is one, and any id beside the status of a job. A bare ``id`` may be the
    request's, and a text as ``data`` is one only if it can be nothing else.
    """
    parts = _parts(response)
    for part in parts:
        if part.get("task_id") and (found := task_id_in({"task_id": part["task_id"]})):
            return found
    for part in parts:
        if (found := task_id_in(part)) and _is_alive(status_word_in(part) or ""):
            return found
    if found := _spelled_id(response):
        return found
    body = as_mapping(response.json)
    if response.http_status < 300:
        loose = (text for part in parts for name, value in part.items() for text in _loose_ids(name, value))
        if found := next((text for text in loose if _CLEAR_ID.fullmatch(text) and "://" not in text), None):
            return found
    data = body.get("data")
    if (
        error_object(response)
        or has_error(data)
        or body.get("success") is False
        or any(body.get(n) for n in ("message", "msg", "detail"))
    ):
        return None
    return (
        task_id_in(body)
        or task_id_in(as_mapping(data))
        or (clean_text(data) if isinstance(data, str) else None)
        or None
    )


def _parts(response: Response) -> list[Mapping[str, Any]]:
    """Return the objects of a response; of one that is no JSON, those that stand in its text."""
    if response.json is None:
        return [] if is_html(response) else list(nested_objects(_text_of(response)))
    return [part for part in parts_of(response.json) if isinstance(part, dict)]


def _spelled_id(response: Response) -> str | None:
    """Return the id of a task that the words of a response, or a body that was cut off, name."""
    if is_html(response):
        return None
    if response.json is None:
        text = _text_of(response)[:MAX_MESSAGE]
        found, word = _CUT_ID.search(text), _CUT_STATUS.search(text)
        if found and ((word and _is_alive(word[1])) or "task" in found[0].lower()):
            return found[1]
    else:
        text = error_names(response).words
    return spelled[1] if (spelled := _SPELLED_ID.search(text)) else None
