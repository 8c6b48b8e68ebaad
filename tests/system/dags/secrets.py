# SPDX-License-Identifier: Apache-2.0
"""Every way to use a connection whose key is searched for afterwards, and an image whose signature is."""

from __future__ import annotations

from hashlib import sha256

from airflow.sdk import DAG, Param

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator

CONNECTION = "kling_secret"
PARAMS = {"prompt": Param("", type="string"), "folder": Param("", type="string")}


def presign() -> str:
    """Return the URL of an image with a signature that stands in no file."""
    return f"https://example.com/first.png?X-Amz-Signature={sha256(b'first.png').hexdigest()}"


def generate(**arguments: object) -> KlingGenerateOperator:
    return KlingGenerateOperator(
        task_id="generate",
        model="kling-v3-std-silent",
        prompt="{{ params.prompt }}",
        duration=3,
        kling_conn_id=CONNECTION,
        poll_interval=1,
        **arguments,
    )


with DAG("secrets_deferred", schedule=None, params=PARAMS):
    KlingToObjectStorageOperator(
        task_id="store",
        video=generate(wait_for_completion=True).output,
        path="{{ params.folder }}",
        kling_conn_id=CONNECTION,
    )

with DAG("secrets_blocking", schedule=None, params=PARAMS):
    generate(wait_for_completion=True, deferrable=False)

with DAG("secrets_impatient", schedule=None, params=PARAMS):
    generate(wait_for_completion=True, timeout=30)

with DAG("secrets_sensor", schedule=None, params=PARAMS):
    KlingTaskSensor(
        task_id="wait", kling_task_id=generate().output, kling_conn_id=CONNECTION, poke_interval=1, timeout=60
    )

with DAG("secrets_signed", schedule=None, params=PARAMS, user_defined_macros={"presign": presign}):
    generate(image="{{ presign() }}", wait_for_completion=True)
    KlingGenerateOperator.partial(
        task_id="generate_each",
        model="kling-v3-std-silent",
        prompt="{{ params.prompt }}",
        kling_conn_id=CONNECTION,
        poll_interval=1,
        wait_for_completion=True,
    ).expand(image=["{{ presign() }}", "{{ presign() }}&versionId=2"])
