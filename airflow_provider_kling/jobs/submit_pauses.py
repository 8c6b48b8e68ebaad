# SPDX-License-Identifier: Apache-2.0
"""How long to wait before a submit that bought nothing is sent again."""

from __future__ import annotations

import random

from airflow_provider_kling.exceptions import KlingConnectionError, KlingError, KlingServerError

#: Maximum number of POSTs that provably bought nothing, in one run of the task, about half a minute together.
ATTEMPTS_IN_PLACE = 6
#: Seconds to wait for a slot of the account, or for an unavailable API: the first pause, and the longest one.
FIRST_SLOT_PAUSE, LONGEST_SLOT_PAUSE = 15.0, 300.0


def pause_in_place(error: KlingError, attempt: int) -> float | None:
    """
    Return the seconds after which a submit may be sent again in place, or None if it may not.

    Only for a submit that provably bought nothing: it never reached the server, or a server error refused it.

    :param error: The error of the submit.
    :param attempt: The number of submits that ended with such an error, this one included.
    """
    if not isinstance(error, (KlingConnectionError, KlingServerError)) or attempt >= ATTEMPTS_IN_PLACE:
        return None
    return max(min(2.0 ** (attempt - 1), 16.0) * random.uniform(0.75, 1.25), min(error.retry_after or 0.0, 60.0))


def pause_for_slot(error: KlingError, refusals: int) -> float:
    """
    Return the seconds to wait for a slot of the account: growing, jittered, and at least the ``retry_after``.

    :param error: The refusal, with its ``retry_after``.
    :param refusals: The number of refusals in a row, this one included.
    """
    pause = min(FIRST_SLOT_PAUSE * 2.0 ** min(refusals - 1, 10), LONGEST_SLOT_PAUSE)
    return max(pause * random.uniform(0.75, 1.25), error.retry_after or 0.0)
