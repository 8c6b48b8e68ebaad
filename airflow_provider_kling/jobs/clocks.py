# SPDX-License-Identifier: Apache-2.0
"""
Times from a worker's clock, read on a triggerer with another clock.

The two clocks may differ, by an hour where a time zone is set wrong. One fact is certain: a task was deferred
before its trigger runs. If the deferral is in the triggerer's future, the worker's clock is ahead, and all its
times are moved back together. A worker's clock that is behind looks like a triggerer that was down for that long.
Then the wait keeps a minimum of its time.
"""

from __future__ import annotations

from typing import NamedTuple

#: Minimum seconds of a wait in each process that resumes it, unless its whole timeout is shorter, even where the
#: deadline seems to have passed. Less than Airflow's own timeout allows after the deadline.
SHORTEST_WAIT = 300.0
#: Seconds that a deferral lasts longer than the end of the worker's run may be noticed late: where the scheduler
#: recognises a resumed run, and where it does not.
GUARDED_MARGIN, MARGIN = 2.0, 10.0
#: Maximum seconds of :func:`shortest_deferral`.
LONGEST_MINIMUM = 120.0


class WaitTimes(NamedTuple):
    """
    Start and end of a wait, by the clock of the process that reads them (epoch seconds).

    :param started_at: When the job was submitted or, if unknown, the wait started.
    :param deadline: When the wait times out.
    :param visible_from: Start of the seconds for which the server may not know the job yet.
    """

    started_at: float
    deadline: float
    visible_from: float


def wait_times(*, started_at: float, deadline: float, deferred_at: float | None, now: float) -> WaitTimes:
    """
    Convert the times of a wait from another machine's clock to this machine's clock.

    :param started_at: As written (epoch seconds).
    :param deadline: As written (epoch seconds).
    :param deferred_at: When the task was deferred, as written (epoch seconds). None, in triggers of earlier
        versions, leaves ``started_at`` as the only moment that is known to have passed.
    :param now: When this process resumes the wait, by this machine's clock (epoch seconds).
    """
    lead = max(0.0, (started_at if deferred_at is None else deferred_at) - now)
    started_at, deadline = min(started_at - lead, now), deadline - lead
    if deferred_at is None:
        return WaitTimes(started_at, deadline, started_at)
    deferred_at -= lead
    # A job that was new at the deferral may be just as new now, whatever the clocks show.
    visible_from = now - max(deferred_at - started_at, 0.0)
    return WaitTimes(started_at, max(deadline, now + min(deadline - deferred_at, SHORTEST_WAIT)), visible_from)


def shortest_deferral(*, min_heartbeat_interval: float, is_guarded: bool) -> float:
    """
    Return the minimum seconds of a deferral.

    The scheduler registers late that a worker has finished with a deferred task. If the task is queued again
    before that, it may be considered lost, and failed.

    :param min_heartbeat_interval: Airflow's ``[workers] min_heartbeat_interval`` (seconds): a worker notices the
        end of a task's process up to this late. 0 for an Airflow without it, which waits for the process itself.
    :param is_guarded: Whether this Airflow does not take a resumed task for the deferred run that has finished.
    """
    return min(min_heartbeat_interval + (GUARDED_MARGIN if is_guarded else MARGIN), LONGEST_MINIMUM)


def seconds_until(moment: float, *, now: float, at_most: float, deferred_at: float | None = None) -> float:
    """
    Return the seconds until a moment from another machine's clock.

    :param moment: As written (epoch seconds).
    :param now: The time by this machine's clock (epoch seconds).
    :param deferred_at: When the pause began, as written (epoch seconds). With it, each process that resumes the
        pause keeps its whole length, whatever this machine's clock shows.
    :param at_most: Maximum seconds: the length of the pause as it was planned.
    """
    return max(0.0, min(moment - (now if deferred_at is None else deferred_at), at_most))
