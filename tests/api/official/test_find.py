# SPDX-License-Identifier: Apache-2.0
"""The free look-up of a submit whose response was lost."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingRateLimitError,
    KlingServerError,
    KlingValidationError,
)
from tests.fixtures.official import (
    IMAGE,
    TEXT,
    TOKEN,
    VIDEO_URL,
    error,
    legacy_job,
    new_job,
    outputs,
    raised,
    response,
    success,
    with_api_key,
    with_pair,
)


def test_it_asks_where_the_account_may_ask() -> None:
    assert with_api_key().find(TOKEN).path == f"/tasks?external_task_ids={TOKEN}"
    assert with_api_key().find(TOKEN, route=IMAGE).path == f"{IMAGE}/{TOKEN}"
    assert with_pair().find(TOKEN).path == f"{TEXT}/{TOKEN}"
    assert with_pair().find(TOKEN, route="/tasks").path == f"{TEXT}/{TOKEN}"


@pytest.mark.parametrize(
    "data",
    [legacy_job("processing"), [new_job("processing")], [new_job("failed", "1", "other"), new_job("processing")]],
)
def test_a_job_that_repeats_the_token_is_the_one(data: Any) -> None:
    job = with_api_key().read_find(response(success(data)), TOKEN)
    assert job is not None
    assert (job.kling_task_id, job.status, job.client_token) == ("8671", "running", TOKEN)


def test_its_state_is_read_too() -> None:
    job = with_api_key().read_find(
        response(success([new_job("succeeded", outputs=outputs(url=VIDEO_URL))])), TOKEN
    )
    assert job is not None
    assert (job.status, job.video_url) == ("completed", VIDEO_URL)


def test_a_job_without_a_status_is_found_as_well() -> None:
    job = with_api_key().read_find(response(success([{"id": "8671", "external_id": TOKEN}])), TOKEN)
    assert job is not None
    assert (job.kling_task_id, job.status) == ("8671", "queued")


@pytest.mark.parametrize(
    ("http_status", "body"),
    [
        (200, success([])),
        (400, error(1201, f"Task not found by id/external id: {TOKEN}")),
        (200, error(1201, f"Task not found by id/external id: {TOKEN}")),
        (404, error(1203, "Task not found")),
    ],
)
def test_the_platform_can_say_that_there_is_none(http_status: int, body: Any) -> None:
    assert with_api_key().read_find(response(body, http_status), TOKEN) is None


@pytest.mark.parametrize(
    ("http_status", "body", "kind"),
    [
        (200, success(legacy_job(token=None)), KlingServerError),
        (200, success(legacy_job(token="other")), KlingServerError),
        (200, success([new_job(token=None)]), KlingServerError),
        (200, success([new_job(token="other")]), KlingServerError),
        (200, success([{"external_id": TOKEN}]), KlingServerError),
        (200, success({}), KlingServerError),
        (200, success(None), KlingServerError),
        (200, success("8671"), KlingServerError),
        (201, success([]), KlingServerError),
        (200, {"code": False, "data": []}, KlingServerError),
        (200, [], KlingServerError),
        (200, b"", KlingServerError),
        (200, b"<html>", KlingServerError),
        (400, error(1201, "external_task_ids is invalid"), KlingValidationError),
        (401, error(1002, "no"), KlingAuthenticationError),
        (429, error(1302, "too fast"), KlingRateLimitError),
        (500, error(5000, "oops"), KlingServerError),
        (500, error(1201, "Task not found"), KlingError),
        (404, b"<html>", KlingError),
        (404, {"error": {"code": "task_not_exist", "message": "task_not_exist"}}, KlingError),
        (404, b"404 page not found", KlingError),
    ],
)
def test_whatever_else_proves_neither(http_status: int, body: Any, kind: type[KlingError]) -> None:
    found = raised(lambda: with_api_key().read_find(response(body, http_status), TOKEN))
    assert isinstance(found, kind)
    assert found.kling_task_id is None
