# SPDX-License-Identifier: Apache-2.0
"""What the response to a submit says: a job, a refusal, or neither for sure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_kling.api.codes import OFFICIAL_REFUSALS, kind_of_code
from airflow_provider_kling.api.gateway.errors import (
    AMBIGUOUS_STATUSES,
    NO_SUCCESS,
    error_names,
    error_object,
    error_of,
    has_error,
    parts_of,
    uncertain_error,
)
from airflow_provider_kling.api.gateway.refusals import BEFORE_SENDING
from airflow_provider_kling.api.gateway.status import (
    accepted_body,
    job_from,
    status_word_in,
    task_id_in,
)
from airflow_provider_kling.exceptions import (
    KlingServerError,
)
from airflow_provider_kling.utils.text import as_mapping, clean_text

if TYPE_CHECKING:
    from collections.abc import Collection

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
    raise uncertain_error(response, "Whether the submit was accepted is open", kling_task_id=_named_task(response))


def is_definite_refusal(response: Response, refusal_codes: Collection[str] = ()) -> bool:
    """
    Return whether this response to a submit says for sure that no job was made.

    - A response that names a task does not, whatever else it says; one of the connection's own codes does.
    - 5xx: only a code that is raised before anything is sent on, or the official platform's code of a refusal,
      does. Words count only where there is no code.
    - 4xx: all do but an ambiguous status, and an error that names a lost upstream.
    - 3xx: all do but a redirect that may follow an accepted POST.
    - 2xx: only an error with a code that is known to refuse does.
    """
    status = response.http_status
    if (status < 300 and not _says_error(response, refusal_codes)) or _named_task(response):
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
        return kind_of_code(names.code) not in (None, KlingServerError)
    return names.speak_of_refusal() if status >= 500 else status < 400 or not names.speak_of_lost_upstream()


def _accepted_job(response: Response) -> VideoJob:
    try:
        body = accepted_body(response, kling_task_id=None)
    except KlingServerError:
        body = {}
    kling_task_id = task_id_in(body)
    if kling_task_id is None:
        # An id where none is expected is one for a person to judge.
        what = "The submit was accepted, but the response holds no task id"
        if response.http_status < 200:
            what = "An interim response came in place of the final one"
        raise uncertain_error(response, what, kling_task_id=_named_task(response))
    return job_from(kling_task_id, body, status_word_in(body) or "queued")


def _says_error(response: Response, refusal_codes: Collection[str]) -> bool:
    """
    Return whether a 2xx holds an error that outweighs an id beside it.

    The flat envelope does only with a known code: some servers have a success code of their own.
    """
    error, body = error_object(response), as_mapping(response.json)
    if body.get("success") is False or body.get("error") is True or isinstance(body.get("error"), list):
        return True
    if has_error(body.get("data")) or str(body.get("code")).lower() in NO_SUCCESS:
        return True
    if error is None or error is not response.json:
        return error is not None
    names = error_names(response)
    known = any(kind_of_code(code) for code in (names.code, *names.nested))
    return known or names.lost_upstream() or names.among(BEFORE_SENDING) or names.among(refusal_codes)


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
