# SPDX-License-Identifier: Apache-2.0
"""What differs between the supported Airflow versions, 2.11 to 3.3. No other module knows about versions."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow import __version__

AIRFLOW_V_3_0_PLUS = int(__version__.partition(".")[0]) >= 3

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

    NEVER_EXPIRE: timedelta
else:
    try:
        from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
    except ImportError:  # Airflow 2
        from airflow.exceptions import TaskDeferralError, TaskDeferralTimeout
    try:
        from airflow.sdk import NEVER_EXPIRE
    except ImportError:  # before 3.3, where no state store asks for it
        NEVER_EXPIRE = timedelta.max

__all__ = ["AIRFLOW_V_3_0_PLUS", "NEVER_EXPIRE", "TaskDeferralError", "TaskDeferralTimeout", "task_state_store"]


def task_state_store(context: Context) -> Any | None:
    """Return Airflow's store that outlives a task's attempts, or None where there is none (before 3.3)."""
    return context.get("task_state_store")
