# SPDX-License-Identifier: Apache-2.0
"""
One process of a race: an attempt for each run id that it reads from its input.

``python -m tests.records.race <sandbox> <key> <s3 server>``; it prints ``ready``, and a line for each attempt.
"""

from __future__ import annotations

import sys

import airflow  # noqa: F401 -- first of all, since it loads the secrets backend of the tests
from airflow.sdk.io import attach
from s3fs import S3FileSystem

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.fingerprint import fingerprint_of
from airflow_provider_kling.jobs.submission import Submitter
from airflow_provider_kling.jobs.submit_request import SubmitRequest
from airflow_provider_kling.records import Identity
from airflow_provider_kling.records.folder import FolderStore
from tests.connections import BOOK
from tests.s3_server import NAME, REGION

FOLDER = "s3://race@kling/state"


def main() -> None:
    url, key, s3_url = sys.argv[1:]
    BOOK.add("kling_default", {"conn_type": "kling", "host": url, "password": key})
    files = S3FileSystem(key=NAME, secret=NAME, endpoint_url=s3_url, client_kwargs={"region_name": REGION})
    attach("s3", "race", fs=files)
    hook = KlingHook()
    with hook.client.session:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            sys.stdout.write(f"{attempt(hook, line.strip())}\n")
            sys.stdout.flush()


def attempt(hook: KlingHook, run_id: str) -> str:
    request = VideoRequest.build(model="kling-v3-std-silent", prompt=f"Run <{run_id}>")
    submitter = Submitter(
        store=FolderStore(FOLDER, Identity("dag", run_id, "generate", -1), prove=True),
        connect=hook.submitting,
        get_job=hook.get_video,
        grace=Grace(visibility=60.0, url=60.0),
    )
    purchase = SubmitRequest(
        video=request,
        fingerprint=fingerprint_of(request, conn_id="kling_default", base_url=hook.connection.base_url),
        conn_id="kling_default",
        dag_id="dag",
        max_tries=0,
    )
    try:
        return submitter.submit_or_join(purchase).kling_task_id
    except KlingError as error:
        return f"{type(error).__name__}: {error}".replace("\n", " ")


if __name__ == "__main__":
    main()
