# SPDX-License-Identifier: Apache-2.0
"""
The ends of jobs that one triggerer hands over to the others, in an Airflow Variable for each account.

Only triggerers use it, and only while several serve one account. Two that change it in the same moment may lose an
end, which a probe makes good, or use it twice, which costs one refusal. So no failure to read or to write it is an
error.
"""

from __future__ import annotations

import json
import logging
import time
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Variable

from airflow_provider_kling.jobs.slot_queue import LONGEST_HANDOVER

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)


def handover_name(conn_id: str) -> str:
    """Return the name of the Variable for the account of a connection."""
    return f"kling_free_{conn_id}"


def hand_over(conn_id: str, ages: Sequence[float]) -> None:
    """
    Let another triggerer use the slots of these ends.

    :param conn_id: The connection.
    :param ages: How long ago (seconds) each end was seen.
    """
    name, now = handover_name(conn_id), time.time()
    try:
        before = _usable(Variable.get(name, None), now=now)
        times = [round(now - age, 2) for age in (*before, *ages)]
        Variable.set(name, json.dumps(times), "Free slots of this account, for another triggerer (epoch seconds)")
    except Exception as error:  # noqa: BLE001 - any backend may fail
        log.debug("The Variable %s could not be written: %s", name, error)


def take_over(conn_id: str) -> list[float]:
    """Return how long ago (seconds) each end was seen that other triggerers have handed over; it is ours now."""
    name = handover_name(conn_id)
    try:
        text = Variable.get(name, None)
        if text is not None:
            Variable.delete(name)
    except Exception as error:  # noqa: BLE001 - any backend may fail
        log.debug("The Variable %s could not be taken: %s", name, error)
        return []
    return _usable(text, now=time.time())


def _usable(text: str | None, *, now: float) -> list[float]:
    """Return the ages of the ends that may be used. The clocks of triggerers differ a little."""
    try:
        ages = [now - at for at in json.loads(text or "[]")]
    except (TypeError, ValueError, OverflowError):
        return []
    return [max(age, 0.0) for age in ages if abs(age) < LONGEST_HANDOVER]
