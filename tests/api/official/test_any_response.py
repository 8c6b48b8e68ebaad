# SPDX-License-Identifier: Apache-2.0
"""Whatever a server responds becomes a job or a named error, and never any other exception."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given

from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.official.envelope import client_token_in, job_id_in
from airflow_provider_kling.api.response import Response
from airflow_provider_kling.exceptions import KlingError, KlingUncertainSubmissionError
from tests.fixtures.official import RESPONSES, TOKEN, request, with_api_key, with_pair


@given(RESPONSES)
def test_to_a_submit(response: Response) -> None:
    for api in (with_api_key(), with_pair()):
        try:
            job = api.read_submit(response, request())
        except KlingError as error:
            # A success that was not understood may have bought a video.
            body = response.json
            if response.http_status == 200 and isinstance(body, dict) and body.get("code") == 0:
                assert "error" in body or isinstance(error, KlingUncertainSubmissionError)
            continue
        assert job.status in ("queued", "running")
        assert job.kling_task_id
        assert job.route


@given(RESPONSES)
def test_to_a_status_request(response: Response) -> None:
    for ids in (("8671",), ("8671", "8672", "8671,2")):
        with suppress(KlingError):
            found = with_api_key().read_status(response, ids)
            assert list(found) == list(ids)
            for name, job in found.items():
                assert isinstance(job, (VideoJob, KlingError))
                if isinstance(job, VideoJob):
                    assert job.kling_task_id == name


@given(RESPONSES)
def test_to_a_look_up(response: Response) -> None:
    with suppress(KlingError):
        job = with_api_key().read_find(response, TOKEN)
        if job is not None:
            data = response.json["data"]
            entries = data if isinstance(data, list) else [data]
            [*_, entry] = [each for each in entries if job_id_in(each) == job.kling_task_id]
            assert client_token_in(entry) == TOKEN


@given(RESPONSES)
def test_about_the_account(response: Response) -> None:
    with suppress(KlingError):
        assert all(str(pack) for pack in with_pair().read_account(response, now=1_790_000_000.0))


@given(RESPONSES)
def test_to_a_probe(response: Response) -> None:
    for api in (with_api_key(), with_pair()):
        works, why = api.describe_probe(response)
        assert why
        if works:
            assert response.http_status < 500
        with suppress(KlingError):
            api.read_probe(response)
        assert api.serves_route(response) in (True, False, None)
        assert api.may_be_on_another_route(response) in (True, False)
        assert api.wants_new_authorization(response) in (True, False)
