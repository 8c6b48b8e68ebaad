# SPDX-License-Identifier: Apache-2.0
"""The hosts of Kling's own platform, and the routes on which it serves the status of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow_provider_kling.api.reading.probe import PROBE_TASK_ID
from airflow_provider_kling.api.routes import task_path
from airflow_provider_kling.exceptions import KlingValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERNATIONAL = "https://api-singapore.klingai.com"
CHINA = "https://api-beijing.klingai.com"
#: An old name of the platform, which lacks :data:`TASKS`.
_OLD_HOST = "api.klingai.com"

#: The status of up to :data:`MAX_IDS` jobs, of both standards. The arguments of triggers contain routes as text.
TASKS = "/tasks"
#: The legacy standard's paths for a create request and for the status of the jobs that it made.
TEXT_TO_VIDEO, IMAGE_TO_VIDEO = "/v1/videos/text2video", "/v1/videos/image2video"
LEGACY_ROUTES = (TEXT_TO_VIDEO, IMAGE_TO_VIDEO)
MAX_IDS = 20
#: Characters of the longest id that is sent together with others.
_LONGEST_ID = 200


def is_vendors_host(base_url: str) -> bool:
    """Return whether a base URL is of the vendor itself, and not of a reseller."""
    host = _host(base_url)
    return host == "klingai.com" or host.endswith(".klingai.com")


def has_tasks(base_url: str) -> bool:
    """Return whether a server is known to have :data:`TASKS`."""
    return is_vendors_host(base_url) and _host(base_url) != _OLD_HOST


def other_region(base_url: str) -> str:
    """Return the base URL of the vendor's other region, with the region's name."""
    if _host(base_url) == _host(CHINA):
        return f"{INTERNATIONAL} (all countries but China)"
    return f"{CHINA} (China)"


def _host(base_url: str) -> str:
    return (urlsplit(base_url).hostname or "").rstrip(".")


def status_path(kling_task_ids: Sequence[str], route: str) -> str:
    """
    Return the path of the status of jobs.

    An id that cannot be one is left out, so that it harms no other; :func:`is_one_id` is false for it.

    :param route: :data:`TASKS`, or a legacy route for one job.
    :raises KlingValidationError: if no id is left.
    """
    if route != TASKS:
        [kling_task_id] = kling_task_ids
        _refuse_unless(is_one_id(kling_task_id), kling_task_id)
        return task_path(route, kling_task_id)
    ids = [quote(kling_task_id, safe="") for kling_task_id in kling_task_ids if is_one_id(kling_task_id)]
    _refuse_unless(bool(ids), ", ".join(kling_task_ids))
    return f"{TASKS}?task_ids={','.join(ids)}"


def find_path(client_token: str, route: str) -> str:
    """Return the path that looks up a job by its client token."""
    if route == TASKS:
        return f"{TASKS}?external_task_ids={quote(client_token, safe='')}"
    return task_path(route, client_token)


def probe_path(route: str) -> str:
    """Return the path of the status of a job that cannot exist."""
    return f"{TASKS}?task_ids=0" if route == TASKS else task_path(route, PROBE_TASK_ID)


def is_one_id(text: str) -> bool:
    """Return whether a text is one id: servers split ids at commas, quoted ones too."""
    return 0 < len(text) <= _LONGEST_ID and "," not in text and text.isprintable()


def not_an_id(text: str) -> KlingValidationError:
    """Return the error for a text that is not an id."""
    return KlingValidationError(
        f"{text[:_LONGEST_ID]!r} is not a Kling task id",
        advice="Nothing was requested. Correct the id.",
    )


def _refuse_unless(is_right: bool, text: str) -> None:
    if not is_right:
        raise not_an_id(text)
