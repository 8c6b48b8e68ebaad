# SPDX-License-Identifier: Apache-2.0
"""A task that buys a video, fails right after, and is tried again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import Context, dag

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from tests.versions.runs import RETRIED_PROMPT


class UnluckyGenerateOperator(KlingGenerateOperator):
    """In its first attempt it fails between the submit and the wait."""

    unlucky = False

    def execute(self, context: Context) -> Any:
        self.unlucky = context["ti"].try_number == 1
        return super().execute(context)

    def defer(self, **kwargs: Any) -> NoReturn:
        if self.unlucky:
            raise RuntimeError("a misfortune after the submit")
        super().defer(**kwargs)


@dag(schedule=None)
def retry_joins() -> None:
    UnluckyGenerateOperator(
        task_id="generate",
        model="kling-v3-std-silent",
        prompt=RETRIED_PROMPT,
        duration=3,
        wait_for_completion=True,
        retries=1,
        retry_delay=timedelta(0),
    )


retry_joins()
