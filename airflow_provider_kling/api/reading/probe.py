# SPDX-License-Identifier: Apache-2.0
"""Check the API and the key by a free request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_kling.api.reading.errors import (
    code_in,
    error_names,
    error_object,
    error_of,
    is_missing_route,
    is_missing_task,
    is_web_page,
    status_meant,
    why_absent,
)
from airflow_provider_kling.api.reading.job_object import find_job, is_plain_job, speaks_of_job, status_word_in
from airflow_provider_kling.api.reading.missing import NO_ROUTE
from airflow_provider_kling.api.reading.status import (
    read_status,
)
from airflow_provider_kling.api.response import is_html
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingNotFoundError,
    KlingUnavailableError,
)
from airflow_provider_kling.utils.text import as_mapping

if TYPE_CHECKING:
    from airflow_provider_kling.api.response import Response

#: A task that no server has: its status request costs nothing and shows whether the key is valid.
PROBE_TASK_ID = "airflow-connection-test"
#: What *Test connection* shows of a connection that works.
CONNECTED = "Connected: the API responds, and accepts the key."


def read_probe(response: Response) -> str | None:
    """
    Return None if the API is available for a submit, or else what is odd about its response, as a sentence to log.

    :param response: The response to a status request for a task that cannot exist (:data:`PROBE_TASK_ID`).
    :raises KlingAuthenticationError: if the key is rejected.
    :raises KlingUnavailableError: if the response proves that the API is unavailable: a page, a redirect, a 5xx
        without JSON, or an error about an unknown route, for which the server has not checked the key.
    """
    error = error_of(response, "The server rejected the API key")
    if isinstance(error, KlingAuthenticationError):
        raise error
    if absent := why_absent(response):
        raise KlingUnavailableError(
            f"The API is unavailable: {absent}",
            http_status=response.http_status,
            code=error.code,
            server_message=error.server_message,
            request_id=error.request_id,
            retry_after=response.retry_after,
        )
    data = as_mapping(as_mapping(response.json).get("data"))
    if (
        (error_object(response) and serves_route(response))
        or is_missing_task(response, error_names(response))
        or status_word_in(data)
        or ((job := find_job(response.json, PROBE_TASK_ID)) is not None and job.has_id)
    ):
        return None
    shape = "not JSON" if response.json is None else "in an unknown form"
    if not response.body.strip():
        shape = "empty"
    return (
        f"The response to the probe is odd (HTTP {response.http_status}, {shape}); this does not stop the submit."
    )


def serves_route(response: Response) -> bool | None:
    """Return whether the server has the status route of a response; None if the response does not show it."""
    if response.http_status == 200 and is_plain_job(response.json):
        return True  # most responses; the words of an error need not be searched for
    body, names = as_mapping(response.json), error_names(response)
    status = status_meant(response, code_in(body))
    if is_missing_route(response, names) or 300 <= status < 400:
        return False
    if is_missing_task(response, names):
        return True
    if status in (404, 410):
        return False if is_html(response) else None
    if 200 <= status < 300:
        # Some servers have a page for every path; only a response about a job, or an error, is the route's.
        is_route = bool(speaks_of_job(response.json) or error_object(response))
        return False if is_web_page(response) else is_route or None
    return None if status == 400 and NO_ROUTE.search(names.words) else True


def describe_probe(response: Response) -> tuple[bool, str]:
    """Return whether a connection works, and why, from the response about a task that cannot exist."""
    try:
        odd = read_probe(response)
        absent = None
    except KlingAuthenticationError as error:
        return False, f"The API rejects the key. {error}"
    except KlingUnavailableError as error:
        odd, absent = None, error
    try:
        read_status(response, PROBE_TASK_ID)
    except KlingError as error:
        if odd or absent:
            where = (
                f"The server responds, but not as this API (HTTP {response.http_status}): check Base URL "
                "(host, port and path) and API."
            )
            return False, f"{where} {absent or error}"
        if not isinstance(error, KlingNotFoundError):
            return False, f"The API responds, but does not serve this connection. {error}"
    return True, CONNECTED
