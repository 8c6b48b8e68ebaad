# SPDX-License-Identifier: Apache-2.0
"""Which errors fail an Airflow task without a retry, besides the permanent ones."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_kling.exceptions import KlingError, KlingPermanentError, KlingTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


class KlingSensorTimeoutError(KlingTimeoutError, AirflowSensorTimeout):
    """The video was not finished within the sensor's timeout. As with every sensor, no retry follows."""


@contextmanager
def as_task_failures(*, final: bool) -> Iterator[None]:
    """
    Raise every error from inside as :func:`task_failure` returns it.

    :param final: Whether no retry may follow, even if a retry could cure the error.
    """
    try:
        yield
    except KlingError as error:
        raise task_failure(error, final=final) from error.__cause__


def task_failure(error: KlingError, *, final: bool) -> KlingError:
    """Return the error; if no retry may follow, as a permanent one."""
    if final and error.retryable:
        details = error.details() | {"kind": error.kind}
        return KlingPermanentError(error.message, **details).with_traceback(error.__traceback__)
    return error


def sensor_failure(error: KlingError) -> KlingError:
    """Return the error to raise from a sensor: a timeout becomes one that Airflow does not retry."""
    if isinstance(error, KlingTimeoutError):
        return KlingSensorTimeoutError(error.message, **error.details()).with_traceback(error.__traceback__)
    return error
