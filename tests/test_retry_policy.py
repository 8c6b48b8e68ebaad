# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kling import exceptions
from airflow_provider_kling.exceptions import KlingPermanentError

retry_policy = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow before 3.3")


def test_it_leaves_permanent_errors_to_airflow_and_survives_serialization() -> None:
    from airflow_provider_kling.retry_policy import kling_retry_policy

    policy = kling_retry_policy()
    restored = type(policy).deserialize(policy.serialize())
    for kind in KlingPermanentError.__subclasses__():
        assert issubclass(kind, AirflowFailException)
        assert restored.evaluate(kind("x"), 1, 3).action is retry_policy.RetryAction.DEFAULT
    decision = restored.evaluate(exceptions.KlingTimeoutError("x"), 1, 3)
    assert decision.action is retry_policy.RetryAction.RETRY


def test_a_full_account_is_given_time() -> None:
    from airflow_provider_kling.retry_policy import kling_retry_policy

    decision = kling_retry_policy().evaluate(exceptions.KlingRateLimitError("x"), 1, 3)
    assert decision.action is retry_policy.RetryAction.RETRY
    assert decision.retry_delay is not None
    assert decision.retry_delay.total_seconds() >= 60
