# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_kling.exceptions import KlingBalanceError, KlingError, KlingServerError, KlingTimeoutError
from airflow_provider_kling.tasks.failures import failing_the_task, sensor_failure, task_failure


def test_what_a_retry_cannot_cure_fails_the_task_at_once_and_stays_what_it_is() -> None:
    error = task_failure(KlingBalanceError("No money", code="1102", http_status=429, task_id="t"))
    assert isinstance(error, AirflowFailException)
    assert isinstance(error, KlingBalanceError)
    assert type(error).__name__ == "KlingBalanceError"
    assert (error.code, error.http_status, error.task_id) == ("1102", 429, "t")
    assert str(error) == str(KlingBalanceError("No money", code="1102", http_status=429, task_id="t"))


def test_the_rest_is_left_to_the_retries() -> None:
    error = KlingServerError("Trouble")
    assert task_failure(error) is error
    assert not isinstance(error, AirflowFailException)


def test_the_timeout_of_a_sensor_is_final_as_in_every_sensor() -> None:
    error = sensor_failure(KlingTimeoutError("Late"))
    assert isinstance(error, AirflowSensorTimeout)
    assert isinstance(error, KlingTimeoutError)
    assert isinstance(sensor_failure(KlingBalanceError("No money")), AirflowFailException)


def test_inside_the_block_every_named_error_leaves_that_way_and_no_other() -> None:
    with pytest.raises(AirflowFailException), failing_the_task():
        raise KlingBalanceError("No money")
    with pytest.raises(ZeroDivisionError), failing_the_task():
        raise ZeroDivisionError


def test_a_failure_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(task_failure(KlingBalanceError("No money", code="1102"))))  # noqa: S301
    assert isinstance(error, KlingError)
    assert (type(error).__name__, error.code) == ("KlingBalanceError", "1102")
