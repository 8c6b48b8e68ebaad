# SPDX-License-Identifier: Apache-2.0
"""Defaults and units of a wait, which DAG files need as well; the decisions are in ``jobs.polling``."""

from __future__ import annotations

from datetime import timedelta

#: Version of the arguments of triggers and of their events. Airflow's database keeps them during an upgrade.
FORMAT = 1
#: Default seconds to wait for a video. Ten-minute jobs took over an hour on busy days.
DEFAULT_TIMEOUT = 4 * 3600.0
#: Lists the conditions, since another request, or another connection, buys another video.
STILL_RUNNING = (
    "The job continues at the vendor, and is billed. "
    "A retry, or a clear without on_clear='resubmit', waits for the same job. "
    "That needs the same request, connection and take (new signatures of media URLs aside). "
    "Otherwise, or if the task warned that its id is not recorded, it buys a second video."
)


def to_seconds(name: str, value: float | timedelta) -> float:
    """
    Return a duration in seconds.

    :raises ValueError: if it is not positive, or longer than dates can hold.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 < seconds < 1e9:
        raise ValueError(f"{name} must be a positive number of seconds (under 1e9), not {value!r}")
    return seconds
