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
    Return a policy that retries only errors that a retry can cure.

    The operators of this package need no policy to fail at once on an error that a retry cannot cure. The policy
    gives the same behaviour to tasks that call ``KlingHook`` themselves, and spaces the other retries by their
    cause. For any error that it does not name, the task's own ``retries`` and ``retry_delay`` apply.

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
