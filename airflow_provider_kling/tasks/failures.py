# SPDX-License-Identifier: Apache-2.0
"""How a named error ends an Airflow task: with the retries that are left, or at once."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_kling.exceptions import KlingError, KlingTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


def task_failure(error: KlingError, *, final: bool = False) -> KlingError:
    """
    Return the error in the form to raise from a task: one that a retry cannot cure fails the task at once.

    Airflow asks the class for that, so the error is given one more base, ``AirflowFailException``, and stays
    what it is for callbacks and ``except`` clauses: ``isinstance(error, KlingBalanceError)`` still holds.

    :param error: The error.
    :param final: Whether no retry may follow, whatever the error is.
    """
    return error if error.retryable and not final else _also(error, AirflowFailException)


@contextmanager
def failing_the_task(*, final: bool = False) -> Iterator[None]:
    """Let every named error inside leave as :func:`task_failure` has it."""
    try:
        yield
    except KlingError as error:
        raise task_failure(error, final=final) from error.__cause__


def sensor_failure(error: KlingError) -> KlingError:
    """Return the error as :func:`task_failure` does; a sensor's timeout is final too, as in every sensor."""
    return _also(error, AirflowSensorTimeout) if isinstance(error, KlingTimeoutError) else task_failure(error)


def _also(error: KlingError, base: type[Exception]) -> KlingError:
    kind = type(error)
    mixed = type(kind.__name__, (kind, base), {"__module__": kind.__module__, "__doc__": kind.__doc__})
    failure: KlingError = mixed(error.what, **error.facts())
    return failure.with_traceback(error.__traceback__)
