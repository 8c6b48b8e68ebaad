# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_kling import exceptions
from airflow_provider_kling.exceptions import KlingError, KlingPermanentError
from airflow_provider_kling.tasks.failures import task_failure

retry_policy = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow before 3.3")


def test_only_what_a_retry_can_cure_is_retried() -> None:
    from airflow_provider_kling.retry_policy import kling_retry_policy

    policy = kling_retry_policy()
    restored = type(policy).deserialize(policy.serialize())
    for kind in [*KlingError.__subclasses__(), *KlingPermanentError.__subclasses__()]:
        for error in (kind("x"), task_failure(kind("x"), final=not kind.retryable)):
            action = restored.evaluate(error, 1, 3).action
            assert (action is retry_policy.RetryAction.FAIL) is (not kind.retryable), kind


def test_a_full_account_is_given_time() -> None:
    from airflow_provider_kling.retry_policy import kling_retry_policy

    decision = kling_retry_policy().evaluate(exceptions.KlingRateLimitError("x"), 1, 3)
    assert decision.action is retry_policy.RetryAction.RETRY
    assert decision.retry_delay is not None
    assert decision.retry_delay.total_seconds() >= 60
