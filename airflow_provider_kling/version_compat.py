# SPDX-License-Identifier: Apache-2.0
"""What differs between the supported Airflow versions, 2.11 to 3.3. No other module knows about versions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow import __version__

_VERSION = tuple(map(int, __version__.split(".")[:2]))
AIRFLOW_V_3_0_PLUS = _VERSION >= (3, 0)
AIRFLOW_V_3_3_PLUS = _VERSION >= (3, 3)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

    NEVER_EXPIRE: timedelta
else:
    try:
        from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
    except ImportError:  # before 3.2
        from airflow.exceptions import TaskDeferralError

        try:
            from airflow.exceptions import TaskDeferralTimeout
        except ImportError:  # Airflow 2

            class TaskDeferralTimeout(TaskDeferralError):  # noqa: N818
                """Airflow ended a deferral at its timeout; see :func:`telling_timeouts`."""

    try:
        from airflow.sdk import NEVER_EXPIRE
    except ImportError:  # before 3.3, where no state store asks for it
        NEVER_EXPIRE = timedelta.max

__all__ = [
    "AIRFLOW_V_3_0_PLUS",
    "AIRFLOW_V_3_3_PLUS",
    "NEVER_EXPIRE",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "first_reschedule_date",
    "task_state_store",
    "telling_timeouts",
]


def task_state_store(context: Context) -> Any | None:
    """Return Airflow's store that outlives a task's attempts, or None where there is none (before 3.3)."""
    return context.get("task_state_store")


def first_reschedule_date(context: Context) -> datetime | None:
    """Return when a sensor was rescheduled first; None if it was not, or Airflow does not tell (before 3.0)."""
    find = getattr(context["ti"], "get_first_reschedule_date", None)
    found: datetime | None = find(context) if find else None
    return found


@contextmanager
def telling_timeouts() -> Iterator[None]:
    """
    Have a deferral that ran out of time raise ``TaskDeferralTimeout`` inside, and a crashed trigger not.

    Airflow 2 raises ``TaskDeferralError`` for both and tells them apart by words alone.
    """
    try:
        yield
    except TaskDeferralError as error:
        if str(error) == "Trigger/execution timeout":
            raise TaskDeferralTimeout(*error.args) from error
        raise
