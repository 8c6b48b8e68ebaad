# SPDX-License-Identifier: Apache-2.0
"""Tasks that buy a video, fail right after, and are tried again; with the record in each place."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import DAG, Context

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from tests.system.perils import keep_record
from tests.versions.runs import RETRIED


class UnluckyGenerateOperator(KlingGenerateOperator):
    """In its first attempt it fails between the submit and the wait."""

    unlucky = False

    def execute(self, context: Context) -> Any:
        keep_record(context)
        self.unlucky = context["ti"].try_number == 1
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        keep_record(context)
        return super().resume_execution(next_method, next_kwargs, context)

    def defer(self, **kwargs: Any) -> NoReturn:
        if self.unlucky:
            raise RuntimeError("a misfortune after the submit")
        super().defer(**kwargs)


for dag_id, retried in RETRIED.items():
    with DAG(dag_id, schedule=None, params={"record": retried.record}):
        UnluckyGenerateOperator(
            task_id="generate",
            model="kling-v3-std-silent",
            prompt=retried.prompt,
            duration=3,
            wait_for_completion=True,
            retries=1,
            retry_delay=timedelta(0),
        )
