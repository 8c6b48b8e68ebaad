# SPDX-License-Identifier: Apache-2.0
"""Parse the times in server responses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

#: The range of plausible times of a video. Outside are the zero values of languages and databases: 1970, year 1,
#: year 9999.
EARLIEST, LATEST = datetime(2015, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
#: Units of the numbers that servers send: seconds, milliseconds, microseconds and nanoseconds. Within the range
#: above, a number is plausible in one unit only.
_UNITS = (1, 10**3, 10**6, 10**9)


def parse_instant(value: Any) -> datetime | None:
    """
    Return the moment that a value represents, in UTC; None if it is not a plausible time of a video.

    :param value: A number since 1970, or its text, in any unit of :data:`_UNITS`; or a text in ISO 8601, which is
        UTC if it has no time zone.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return _from_text(value) if isinstance(value, str) else None
    for unit in _UNITS:
        if EARLIEST.timestamp() <= number / unit < LATEST.timestamp():
            return datetime.fromtimestamp(number / unit, tz=UTC)
    return None


def _from_text(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment if EARLIEST <= moment < LATEST else None
