# SPDX-License-Identifier: Apache-2.0
"""
Times that a worker's clock wrote and a triggerer's clock reads.

The two clocks may differ, by an hour where a time zone is set wrong. What is certain: a task was deferred before
its trigger runs. If the deferral lies in the triggerer's future, then the worker's clock is ahead, and all times
that it wrote move back together. A worker's clock that is behind looks like a triggerer that was away for as long.
Then the wait keeps a minimum of its time.
"""

from __future__ import annotations

from typing import NamedTuple

#: Seconds that a wait lasts in each process that takes it up, if it was meant to last that long, even where its
#: deadline seems to have passed. Less than Airflow's own timeout leaves after the deadline.
SHORTEST_WAIT = 300.0
#: Seconds that a deferral lasts at least. The scheduler learns 5 seconds late, and later on a busy machine, that a
#: worker is through with a task that deferred; a task that is queued again by then is taken for lost, and failed.
SHORTEST_DEFERRAL = 15.0


class WaitTimes(NamedTuple):
    """
    When a wait began and ends, by the clock that reads it (epoch seconds).

    :param started_at: When the job was submitted or, if unknown, the wait began.
    :param deadline: When to give up.
    :param visible_from: When to begin to count the seconds for which the server may not know the job yet.
    """

    started_at: float
    deadline: float
    visible_from: float


def wait_times(*, started_at: float, deadline: float, deferred_at: float | None, now: float) -> WaitTimes:
    """
    Return the times of a wait that another machine's clock wrote, by this machine's clock.

    :param started_at: As written (epoch seconds).
    :param deadline: As written (epoch seconds).
    :param deferred_at: When the task was deferred, as written (epoch seconds). None, in triggers of earlier
        versions, leaves ``started_at`` as the only moment that is known to have passed.
    :param now: When the wait is taken up in this process, by this machine's clock (epoch seconds).
    """
    lead = max(0.0, (started_at if deferred_at is None else deferred_at) - now)
    started_at, deadline = min(started_at - lead, now), deadline - lead
    if deferred_at is None:
        return WaitTimes(started_at, deadline, started_at)
    deferred_at -= lead
    # A job that was new at the deferral may be as new now, whatever the clocks say.
    visible_from = now - max(deferred_at - started_at, 0.0)
    return WaitTimes(started_at, max(deadline, now + min(deadline - deferred_at, SHORTEST_WAIT)), visible_from)


def seconds_until(moment: float, *, now: float, at_most: float) -> float:
    """
    Return the seconds until a moment that another machine's clock wrote.

    :param moment: As written (epoch seconds).
    :param now: The time by this machine's clock (epoch seconds).
    :param at_most: Seconds that the pause was meant to last when it was written.
    """
    return max(0.0, min(moment - now, at_most))
