# SPDX-License-Identifier: Apache-2.0
"""A ready retry policy for tasks that call Kling (Airflow 3.3 and later)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_kling.exceptions import (
    KlingRateLimitError,
    KlingServerError,
    KlingTimeoutError,
)

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy


def kling_retry_policy() -> ExceptionRetryPolicy:
    """
    Return a policy that spaces the retries of a task by their cause.

    It needs no rule for errors that a retry cannot cure: Airflow fails a task at once for
    :class:`~airflow_provider_kling.exceptions.KlingPermanentError`. For any error that the policy does not name,
    the task's own ``retries`` and ``retry_delay`` apply.

    :raises ImportError: on Airflow before 3.3, which has no retry policies.
    """
    from airflow.providers.common.compat.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

    return ExceptionRetryPolicy(
        rules=[
            RetryRule(
                exception=KlingRateLimitError,
                action=RetryAction.RETRY,
                retry_delay=timedelta(minutes=5),
                reason="Slots become free as running jobs finish",
            ),
            RetryRule(
                exception=KlingServerError,
                action=RetryAction.RETRY,
                retry_delay=timedelta(minutes=2),
                reason="The server had a problem",
            ),
            RetryRule(
                exception=KlingTimeoutError,
                action=RetryAction.RETRY,
                retry_delay=timedelta(seconds=10),
                reason="The job continues; the next attempt joins it",
            ),
        ]
    )
