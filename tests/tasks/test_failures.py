# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_kling.exceptions import (
    KlingBalanceError,
    KlingError,
    KlingPermanentError,
    KlingServerError,
    KlingTimeoutError,
)
from airflow_provider_kling.tasks.failures import as_task_failures, sensor_failure, task_failure


def test_a_permanent_error_fails_the_task_at_once_and_a_retryable_one_does_not() -> None:
    assert isinstance(KlingBalanceError("No money"), AirflowFailException)
    assert not isinstance(KlingServerError("Trouble"), AirflowFailException)


def test_only_a_final_failure_becomes_permanent() -> None:
    error = KlingServerError("Trouble", code="5000", http_status=502, kling_task_id="t")
    assert task_failure(error, final=False) is error
    final = task_failure(error, final=True)
    assert isinstance(final, AirflowFailException)
    assert type(final) is KlingPermanentError
    assert (str(final), final.kind) == (str(error), "server_error")
    permanent = KlingBalanceError("No money")
    assert task_failure(permanent, final=True) is permanent


def test_the_timeout_of_a_sensor_is_final_as_in_every_sensor() -> None:
    error = sensor_failure(KlingTimeoutError("Late", kling_task_id="t"))
    assert isinstance(error, AirflowSensorTimeout)
    assert isinstance(error, KlingTimeoutError)
    assert error.kind == "timeout"
    assert (str(error), error.kling_task_id) == (str(KlingTimeoutError("Late", kling_task_id="t")), "t")
    other = KlingServerError("Trouble")
    assert sensor_failure(other) is other


def test_inside_the_block_every_named_error_is_final_and_no_other() -> None:
    with pytest.raises(AirflowFailException, match="Trouble"), as_task_failures(final=True):
        raise KlingServerError("Trouble")
    with pytest.raises(KlingServerError), as_task_failures(final=False):
        raise KlingServerError("Trouble")
    with pytest.raises(ZeroDivisionError), as_task_failures(final=True):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "error",
    [
        sensor_failure(KlingTimeoutError("Late")),
        task_failure(KlingServerError("Trouble"), final=True),
        KlingBalanceError("No money", code="1102"),
    ],
)
def test_a_failure_survives_pickling_with_its_class(error: KlingError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert again.to_dict() == error.to_dict()
    assert again.kind == error.kind
