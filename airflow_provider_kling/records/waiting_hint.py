# SPDX-License-Identifier: Apache-2.0
"""
The hint that tasks wait for a slot of an account, in an Airflow Variable.

A task that has not submitted yet reads it, and joins them instead of being refused. Only workers write it: one
that was refused, and one that was called while others wait. Nothing depends on it, so no failure to read or to
write it is an error.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Variable

from airflow_provider_kling.jobs.slot_queue import HINT_SECONDS
from airflow_provider_kling.records import read_variable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)
#: Seconds for which a hint is new enough to stay as it is.
_NEW = HINT_SECONDS / 4


def hint_name(conn_id: str) -> str:
    """Return the name of the Variable for the account of a connection."""
    return f"kling_waiting_{conn_id}"


def others_wait(conn_id: str) -> bool:
    """Return whether tasks were seen to wait for a slot a moment ago."""
    age = _age(conn_id)
    return age is not None and age < HINT_SECONDS


def report_waiting(conn_id: str, *, waiting: bool) -> None:
    """
    Write the hint unless it is new, or delete it.

    :param conn_id: The connection.
    :param waiting: Whether tasks wait for a slot now.
    """
    age = _age(conn_id)
    if waiting and (age is None or age >= _NEW):
        write_hint(conn_id)
    elif not waiting and age is not None:
        _change(conn_id, Variable.delete)


def write_hint(conn_id: str) -> None:
    """Write the hint at once, without a look at the present one."""
    text, meaning = f"{time.time():.0f}", "Tasks wait for a slot of this account (epoch seconds)"
    _change(conn_id, lambda name: Variable.set(name, text, meaning))


def _change(conn_id: str, change: Callable[[str], None]) -> None:
    name = hint_name(conn_id)
    try:
        change(name)
    except Exception as error:  # noqa: BLE001 - other tasks write it too, and any backend may fail
        log.debug("The Variable %s could not be written: %s", name, error)


def _age(conn_id: str) -> float | None:
    """Return the age of the hint in seconds; None if there is none. Clocks of workers differ a little."""
    try:
        return abs(time.time() - float(read_variable(hint_name(conn_id)) or ""))
    except ValueError:
        return None
