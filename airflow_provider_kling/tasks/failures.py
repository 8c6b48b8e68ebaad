# SPDX-License-Identifier: Apache-2.0
"""Which errors end an Airflow task at once, beside those that are permanent by themselves."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_kling.exceptions import KlingError, KlingPermanentError, KlingTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


class KlingSensorTimeoutError(KlingTimeoutError, AirflowSensorTimeout):
    """The video was not finished within the sensor's timeout, which is final as in every sensor."""


@contextmanager
def as_task_failures(*, final: bool) -> Iterator[None]:
    """
    Raise every error from inside as :func:`task_failure` returns it.

    :param final: Whether no retry may follow, whatever the error is.
    """
    try:
        yield
    except KlingError as error:
        raise task_failure(error, final=final) from error.__cause__


def task_failure(error: KlingError, *, final: bool) -> KlingError:
    """Return the error, as a permanent one if no retry may follow."""
    if final and error.retryable:
        return KlingPermanentError(error.message, **error.details()).with_traceback(error.__traceback__)
    return error


def sensor_failure(error: KlingError) -> KlingError:
    """Return the error to raise from a sensor: its timeout fails the task at once."""
    if isinstance(error, KlingTimeoutError):
        return KlingSensorTimeoutError(error.message, **error.details()).with_traceback(error.__traceback__)
    return error
