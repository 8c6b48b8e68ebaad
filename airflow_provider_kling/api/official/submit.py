# SPDX-License-Identifier: Apache-2.0
"""Read the response to a create request: a job, a refusal, a duplicate, or none with certainty."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_kling.api.codes import OFFICIAL_REFUSALS
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.official.envelope import data_of, error_code, job_id_in
from airflow_provider_kling.api.official.status import job_of
from airflow_provider_kling.api.reading import submit as any_submit
from airflow_provider_kling.api.reading.errors import error_names, error_of, uncertain_error
from airflow_provider_kling.api.reading.status import status_word_in
from airflow_provider_kling.exceptions import KlingDuplicateSubmissionError

if TYPE_CHECKING:
    from collections.abc import Collection

    from airflow_provider_kling.api.response import Response

#: HTTP statuses of the platform's refusals.
_REFUSED = frozenset({400, 401, 403, 404, 429})
#: HTTP statuses with which a proxy also replaces a response that it does not let through.
_FILTERED = frozenset({403, 406, 451})
_EXTERNAL_ID = r"(?:external[ _-]?(?:task[ _-]?)?id|外部任[务務])"
#: The words for a client token that is in use.
_IN_USE = re.compile(
    rf"{_EXTERNAL_ID}.{{0,120}}?"
    r"(?:\balready\b|\bexists\b|\bduplicat|\bin use\b|\bbeen used\b|\bunique\b|\brepeat"
    r"|已经?存在|已經存在|重[复複]|已被|占用|唯一)"
    rf"|(?:duplicat\w*|repeat\w*|重[复複]的?)\W{{0,3}}(?:\w+ ){{0,2}}{_EXTERNAL_ID}",
    re.IGNORECASE,
)


def read_submit(response: Response, refusal_codes: Collection[str] = ()) -> VideoJob:
    """
    Return the job that a create request started; it is queued or running, whatever the response says.

    :param refusal_codes: Error codes with which this vendor refuses a submit before anything is bought, besides
        the known ones.
    :raises KlingDuplicateSubmissionError: if a job with the same client token exists already.
    :raises KlingUncertainSubmissionError: if a job may exist.
    :raises KlingError: any other named error: the submit was refused, and no job exists.
    """
    data = data_of(response)
    if isinstance(data, dict) and (kling_task_id := job_id_in(data)):
        job = job_of(kling_task_id, data, status_word_in(data) or "submitted")
        return _started(job)
    if _is_duplicate(response):
        raise _duplicate(response)
    code = error_code(response)
    if code in OFFICIAL_REFUSALS and response.http_status in _REFUSED:
        raise error_of(response, "The submit was refused")
    names = error_names(response)
    if code is not None and response.http_status >= 500 and not names.among(refusal_codes):
        raise uncertain_error(response, "Whether the submit was accepted is unknown")
    if response.http_status in _FILTERED and response.json is None:
        message = f"The submit got HTTP {response.http_status} from a proxy, which may have passed it on before"
        raise uncertain_error(response, message)
    return _started(any_submit.read_submit(response, refusal_codes))


def _started(job: VideoJob) -> VideoJob:
    return VideoJob(
        kling_task_id=job.kling_task_id,
        other_id=job.other_id,
        status="queued" if job.status == "queued" else "running",
        raw_status=job.raw_status,
        is_known_status=job.is_known_status,
        model=job.model,
        client_token=job.client_token,
    )


def _is_duplicate(response: Response) -> bool:
    """Return whether an error says that a job with this client token exists, whatever its code and HTTP status."""
    if response.json is None or 300 <= response.http_status < 400:
        return False
    names = error_names(response)
    if _IN_USE.search(names.words):
        return True
    return error_code(response) == "1201" and names.mentions_existing_job()


def _duplicate(response: Response) -> KlingDuplicateSubmissionError:
    error = error_of(response, "A job with the same external_task_id exists already, so no second one was made")
    return KlingDuplicateSubmissionError(
        **{"message": error.message, **error.details(), "retry_after": None, "advice": None}
    )
