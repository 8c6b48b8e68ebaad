# SPDX-License-Identifier: Apache-2.0
"""What the response to a submit says: a job, a refusal, or neither for sure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.codes import OFFICIAL_REFUSALS, kind_of_code
from airflow_provider_kling.api.gateway.errors import (
    AMBIGUOUS_STATUSES,
    NO_SUCCESS,
    code_in,
    empty_account,
    error_names,
    error_object,
    error_of,
    has_error,
    is_web_page,
    parts_of,
    status_meant,
    uncertain_error,
)
from airflow_provider_kling.api.gateway.refusals import BEFORE_SENDING
from airflow_provider_kling.api.gateway.status import (
    accepted_body,
    job_from,
    status_word_in,
    task_id_in,
)
from airflow_provider_kling.exceptions import KlingBalanceError, KlingServerError
from airflow_provider_kling.utils.text import as_mapping, clean_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_kling.api.gateway.refusals import ErrorNames
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.response import Response


def read_submit(response: Response, refusal_codes: Collection[str] = ()) -> VideoJob:
    """
    Return the job that a submit started.

    :param refusal_codes: Codes by which this vendor refuses before anything is bought, besides those known here.
    :raises KlingUncertainSubmissionError: if a job may exist: the response does not say for sure that it refuses,
        or it names a task beside an error; that task's id is then the error's ``kling_task_id``.
    :raises KlingError: any other, by name: the submit was refused, and no job exists.
    """
    if response.http_status < 300 and not _says_error(response, refusal_codes):
        return _accepted_job(response)
    if is_definite_refusal(response, refusal_codes):
        raise error_of(response, "The submit was refused")
    what = "Whether the submit was accepted is open"
    if response.http_status < 300:
        what = "The response speaks of an error, but does not prove that no job was made"
    raise uncertain_error(response, what, kling_task_id=_named_task(response))


def is_definite_refusal(response: Response, refusal_codes: Collection[str] = ()) -> bool:
    """
    Return whether this response to a submit says for sure that no job was made.

    - A response that names a task does not, whatever else it says; one of the connection's own codes does.
    - 5xx: only a code that is raised before anything is sent on, or the official platform's code of a refusal,
      does. Words count only where there is no code.
    - 4xx: all do but an ambiguous status, and an error that names a lost upstream.
    - 3xx: all do but a redirect that may follow an accepted POST.
    - 2xx: only an error with a code that is known to refuse does, a 4xx in the code included, or words of an
      empty account. Words of a rate limit do not: the submit would be sent again by itself.
    """
    status = response.http_status
    if (status < 300 and not _says_error(response, refusal_codes)) or _may_name_task(response):
        return False
    names = error_names(response)
    if names.among(refusal_codes):
        return True
    if status in AMBIGUOUS_STATUSES or names.lost_upstream():
        # A code of a lost upstream outweighs what the upstream says inside the message.
        return False
    if names.among(BEFORE_SENDING) or not OFFICIAL_REFUSALS.isdisjoint((names.code, *names.nested)):
        return True
    if status < 300:
        return not names.speak_of_lost_upstream() and _refuses_with_success(response, names)
    return names.speak_of_refusal() if status >= 500 else status < 400 or not names.speak_of_lost_upstream()


def _refuses_with_success(response: Response, names: ErrorNames) -> bool:
    """Return whether a 2xx with an error is a certain refusal; without a known code, beside an id it is none."""
    if kind_of_code(names.code) not in (None, KlingServerError):
        return True
    if response.http_status < 200 or _holds_an_id(response.json):
        return False
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
        # An id where none is expected is one for a person to judge.
        raise uncertain_error(response, _what_came(response), kling_task_id=_named_task(response))
    return job_from(kling_task_id, body, status_word_in(body) or "queued")


def _what_came(response: Response) -> str:
    """
    Return what came in place of a job, as a sentence.

    A web page does not prove that the POST bought nothing: a proxy may have forwarded it, and put a page of its
    own, with its own status, in place of the response.
    """
    if response.http_status < 200:
        return "An interim response came in place of the final one"
    if is_web_page(response):
        return (
            "A web page, and no response of the API, came back to the submit: check the connection's host and path"
        )
    if not response.body.strip():
        return "The response to the submit is empty"
    if not isinstance(response.json, dict):
        return "The response to the submit is not a JSON object"
    return "The response to the submit holds no task id"


def _says_error(response: Response, refusal_codes: Collection[str]) -> bool:
    """
    Return whether a 2xx holds an error that outweighs an id beside it.

    The flat envelope does only with a known code: some servers have a success code of their own.
    """
    error, body = error_object(response), as_mapping(response.json)
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
    # Words beside an id may be a warning.
    return not _holds_an_id(body) and empty_account(response, names) is KlingBalanceError


def _denies_success(body: Mapping[str, Any]) -> bool:
    lists = any(body.get(name) and isinstance(body[name], list) for name in ("error", "errors"))
    return (
        any(body.get(name) in (False, "false") for name in _SUCCESS_NAMES)
        or body.get("error") is True
        or lists
        or has_error(body.get("data"))
        or str(body.get("code")).lower() in NO_SUCCESS
    )


#: Fields that deny success.
_SUCCESS_NAMES = ("success", "ok", "succeeded")
#: Names of fields whose value may be the id of a job, in a body as it came; in a message the quotes are escaped.
_ID = re.compile(
    r"""(?:task|job|video|generation)[ _-]?(?:id|uuid|no)s?\\*["']\s*:"""
    r"""\s*\\*(?:["']\s*[^\s"'\\]|[\d-]|\[\s*\\*["'\d])""",
    re.IGNORECASE,
)
_ANY_ID = re.compile(
    r"(?i:(?:^|[_-])(?:id|uuid)s?$|^(?:task|job|video|generation)(?:id)?s?$)|(?<=[a-z])(?:Id|ID|Uuid|UUID)s?$"
)
#: Names of an exchange, not of a job.
_EXCHANGE = re.compile(r"request|trace|req_?id|log|session|span|correlation", re.IGNORECASE)


def _may_name_task(response: Response) -> bool:
    """Return whether a response may name a task anywhere, as deep as it may be."""
    if _named_task(response):
        return True
    text = response.body.decode(json.detect_encoding(response.body), errors="replace")
    return response.json is not None and bool(_ID.search(text))


def _holds_an_id(body: Any) -> bool:
    """Return whether a body holds anything that may be an id; a text as ``data`` may be one."""
    for part in parts_of(body):
        if isinstance(part, dict):
            for name, value in part.items():
                is_id = bool(_ANY_ID.search(name)) and not _EXCHANGE.search(name)
                if value not in (None, "", 0, False) and (
                    is_id or (name == "data" and isinstance(value, (str, int)))
                ):
                    return True
    return False


def _named_task(response: Response) -> str | None:
    """
    Return the id of a task that an error response to a submit names.

    Beside an error only a ``kling_task_id`` is one: an ``id`` may be the request's, and text in ``data`` anything.
    """
    for part in parts_of(response.json):
        if isinstance(part, dict) and part.get("task_id") and (found := task_id_in({"task_id": part["task_id"]})):
            return found
    body = as_mapping(response.json)
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
