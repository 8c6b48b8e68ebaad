# SPDX-License-Identifier: Apache-2.0
"""Read the response to a look-up by client token."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_kling.api.official.envelope import client_token_in, data_of, error_code, job_id_in
from airflow_provider_kling.api.official.status import job_of
from airflow_provider_kling.api.reading.errors import error_names, error_of
from airflow_provider_kling.api.reading.job_object import status_word_in
from airflow_provider_kling.api.reading.missing import NO_TASK
from airflow_provider_kling.exceptions import KlingServerError
from airflow_provider_kling.utils.text import as_mapping

if TYPE_CHECKING:
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.response import Response

_INVALID = re.compile(r"\binvalid\b|无效", re.IGNORECASE)


def read_find(response: Response, client_token: str) -> VideoJob | None:
    """
    Return the job with a client token; None if the platform says that there is none.

    :raises KlingError: if the response proves neither: a job without this token may be another one.
    """
    data = data_of(response)
    if data == [] or _says_absent(response):
        return None
    entries = [as_mapping(entry) for entry in (data if isinstance(data, list) else [data])]
    for entry in entries:
        if client_token_in(entry) == client_token and (kling_task_id := job_id_in(entry)):
            return job_of(kling_task_id, entry, status_word_in(entry) or "submitted")
    if isinstance(data, (dict, list)):
        raise KlingServerError(
            "The response to the look-up by external_task_id does not repeat it, so it may be about another job",
            http_status=response.http_status,
            request_id=response.request_id,
        )
    raise error_of(response, "The look-up by external_task_id failed", client_token).replace(kling_task_id=None)


def _says_absent(response: Response) -> bool:
    """Return whether there is no such task; a server that refuses the form of the id has not looked for it."""
    is_refused = _INVALID.search(error_names(response).words) is not None
    return response.http_status in (200, 400, 404) and says_no_task(response) and not is_refused


def says_no_task(response: Response) -> bool:
    """
    Return whether the legacy standard says that it has no such task.

    Its code is that of a wrong parameter too, so the words decide.
    """
    return (
        response.http_status < 500
        and error_code(response) in ("1201", "1203")
        and NO_TASK.search(error_names(response).words) is not None
    )
