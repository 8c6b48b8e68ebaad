# SPDX-License-Identifier: Apache-2.0
"""Read the response to a submit: a job, a refusal, or neither with certainty."""

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

    - A response with a task id does not, whatever else it contains; one of the connection's own codes does.
    - 5xx: only a code that is raised before anything is forwarded, or the official platform's code of a refusal,
      does. Words count only where there is no code.
    - 4xx: all do, apart from an ambiguous status and an error that mentions a lost upstream.
    - 3xx: all do, apart from a redirect that may follow an accepted POST.
    - 2xx: only an error with a known code of a refusal does, including a 4xx in the code, or words of an empty
      account. Words of a rate limit do not: the submit would be sent again automatically.
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
    if names.among(BEFORE_SENDING) or not OFFICIAL_REFUSALS.isdisjoint((names.code, *names.nested)):
        return True
    if status < 300:
        return not names.mentions_lost_upstream() and _refuses_with_success(response, names)
    return names.mentions_refusal() if status >= 500 else status < 400 or not names.mentions_lost_upstream()


def _refuses_with_success(response: Response, names: ErrorNames) -> bool:
    """Return whether a 2xx with an error is a definite refusal; with an id, it needs a known code for that."""
    if kind_of_code(names.code) not in (None, KlingServerError):
        return True
    if response.http_status < 200 or _has_id(response.json):
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
            "The response to the submit is a web page, not a response of the API: check the connection's host and "
            "path"
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
#: Names of fields whose value may be the id of a job, in an undecoded body; in a message the quotes are escaped.
_ID = re.compile(
    r"""(?:task|job|video|generation)[ _-]?(?:id|uuid|no)s?\\*["']\s*:"""
    r"""\s*\\*(?:["']\s*[^\s"'\\]|[\d-]|\[\s*\\*["'\d])""",
    re.IGNORECASE,
)
_ANY_ID = re.compile(
    r"(?i:(?:^|[_-])(?:id|uuid)s?$|^(?:task|job|video|generation)(?:id)?s?$)|(?<=[a-z])(?:Id|ID|Uuid|UUID)s?$"
)
#: Names of the ids of an exchange, not of a job.
_EXCHANGE = re.compile(r"request|trace|req_?id|log|session|span|correlation", re.IGNORECASE)


def _may_name_task(response: Response) -> bool:
    """Return whether a response may contain a task id, at any depth."""
    if _named_task(response):
        return True
    text = response.body.decode(json.detect_encoding(response.body), errors="replace")
    return response.json is not None and bool(_ID.search(text))


def _has_id(body: Any) -> bool:
    """Return whether a body contains any possible id; a text in ``data`` may be one."""
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
    Return the task id in an error response to a submit.

    With an error only a ``task_id`` counts: an ``id`` may be that of the request, and ``data`` may be any text.
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
