# SPDX-License-Identifier: Apache-2.0
"""How a task fails: which errors no retry may follow, and what a person sees of an error in Airflow's UI."""

from __future__ import annotations

import re
import textwrap
import time
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow.providers.common.compat.sdk import AirflowSensorTimeout

from airflow_provider_kling.exceptions import KlingError, KlingPermanentError, KlingTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    P = ParamSpec("P")
    R = TypeVar("R")

#: Maximum characters of a line, so that Airflow's log viewer, which does not wrap, shows all of it.
LINE = 90
#: The gap between two sentences.
_GAP = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][”)])) +(?=[A-Z“])")


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


def reporting_failure(method: Callable[P, R]) -> Callable[P, R]:
    """
    Report the named error of a task's method in short ERROR lines and as XCom ``kling_error``, and raise it.

    Put it outermost on the methods that Airflow calls with the context as the last argument. Airflow logs the
    error as well; it is raised without the frames and causes inside this package, which are logged as DEBUG.
    """

    @wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except KlingError as error:
            try:
                _report(args[0], kwargs.get("context", args[-1]), error)
            finally:
                # Even if a timeout interrupts the report: a permanent error must not become one that is retried.
                raise error.with_traceback(None) from None

    return run


def _report(task: Any, context: Any, error: KlingError) -> None:
    task.log.debug("The error in full", exc_info=error)
    for line in error_lines(error):
        task.log.error("%s", line)
    from airflow.providers.common.compat.sdk import redact

    try:
        # Airflow masks the log by itself, and XComs not.
        context["ti"].xcom_push(key="kling_error", value=redact(_entry(error)))
    except Exception as failure:  # noqa: BLE001 - an XCom backend may raise anything
        task.log.warning("XCom kling_error could not be written: %s", type(failure).__name__)


def _entry(error: KlingError) -> dict[str, Any]:
    return {
        "kind": error.kind,
        "happened": error.message,
        "server_says": error.server_message or None,
        "advice": error.advice,
        "kling_task_id": error.kling_task_id,
        "at": time.time(),
    }


def error_lines(error: KlingError) -> list[str]:
    """
    Return an error as lines for a log, none longer than :data:`LINE` if its words permit.

    What happened comes first, then what the server reported, then what to do; ids are last. Each sentence of the
    advice has a line of its own.
    """
    happened = [line.strip() for line in error.message.splitlines() if line.strip()]
    server = [f"The server reported: “{error.server_message}”."] if error.server_message else []
    advice = [sentence for line in error.advice.splitlines() for sentence in _GAP.split(line.strip())]
    ids = [f"{ids}."] if (ids := error.ids()) else []
    happened[-1:] = [f"{last}." for last in happened[-1:]]
    sentences = [*happened, *server, *advice, *ids]
    return [line for sentence in sentences for line in _wrapped(sentence)]


def _wrapped(sentence: str) -> list[str]:
    return textwrap.wrap(sentence, LINE, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
