# SPDX-License-Identifier: Apache-2.0
"""A ready retry policy for tasks that call Kling (Airflow 3.3 and later)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_kling.exceptions import (
    KlingPermanentError,
    KlingRateLimitError,
    KlingServerError,
    KlingTimeoutError,
)

if TYPE_CHECKING:
    from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy


def kling_retry_policy() -> ExceptionRetryPolicy:
    """
    Return a policy that spends retries only where one can help.

    The operators of this package fail at once by themselves on what a retry cannot cure. The policy gives the same
    to tasks that call ``KlingHook`` on their own, and spaces the other retries by what went wrong. Whatever it
    does not name, the task's own ``retries`` and ``retry_delay`` decide.

    :raises ImportError: on Airflow before 3.3, which has no retry policies.
    """
    from airflow.providers.common.compat.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

    permanent = [*KlingPermanentError.__subclasses__(), KlingPermanentError]
    return ExceptionRetryPolicy(
        rules=[
            *(RetryRule(exception=kind, action=RetryAction.FAIL, reason=kind.__doc__) for kind in permanent),
            RetryRule(
                exception=KlingRateLimitError,
                action=RetryAction.RETRY,
                retry_delay=timedelta(minutes=5),
                reason="Slots free up as running jobs finish",
            ),
            RetryRule(
                exception=KlingServerError,
                action=RetryAction.RETRY,
                retry_delay=timedelta(minutes=2),
                reason="The server had trouble",
            ),
            RetryRule(
                exception=KlingTimeoutError,
                action=RetryAction.RETRY,
                retry_delay=timedelta(seconds=10),
                reason="The job goes on; the next attempt joins it",
            ),
        ]
    )
