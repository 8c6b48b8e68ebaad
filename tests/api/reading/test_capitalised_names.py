# SPDX-License-Identifier: Apache-2.0
"""APIs in the style of .NET and Go write the names of fields with a capital."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.submit import read_submit
from airflow_provider_kling.api.response import Response

URL = "https://cdn.example.com/v.mp4"


def response(body: Any) -> Response:
    return Response(http_status=200, body=json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "status", "url", "error"),
    [
        ({"status": "success", "data": {"TaskId": "t1", "Status": "Processing"}}, "running", None, None),
        ({"Data": {"TaskId": "t1", "TaskStatus": "SUCCESS", "VideoUrl": URL}}, "completed", URL, None),
        ({"Result": {"Id": "t1", "State": "Succeeded", "Url": URL}}, "completed", URL, None),
        ({"Id": "t1", "Status": "Failed", "ErrorMessage": "boom"}, "failed", None, "boom"),
    ],
)
def test_a_status(body: Any, status: str, url: str | None, error: str | None) -> None:
    job = read_status(response(body), "t1")
    assert (job.status, job.video_url, job.error, job.has_id) == (status, url, error, True)


@pytest.mark.parametrize("body", [{"Data": {"TaskId": "t1"}}, {"TaskId": "t1"}, {"Id": "t1", "Status": "queued"}])
def test_a_submit(body: Any) -> None:
    assert read_submit(response(body)).kling_task_id == "t1"
