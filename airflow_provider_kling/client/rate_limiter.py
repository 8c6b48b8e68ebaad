# SPDX-License-Identifier: Apache-2.0
"""The pace of requests on one connection: evenly spaced, and slower when told so."""

from __future__ import annotations

#: The slowest that refusals can make it, as a multiple of the wished spacing.
MOST_SLOWDOWN = 32.0
#: How much of the slowdown is left after each request that was not refused.
RECOVERY = 0.98


class RateLimiter:
    """
    Says when the next request may go.

    Throttle are taken one at a time, none is promised ahead: whatever the server answers counts for all who still
    wait, and whoever gives up waiting has used nothing.

    :param per_second: Requests per second at most; it may change.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.slowdown = 1.0
        self._next_turn = 0.0
        self._slowed_until = 0.0

    def acquire(self, *, now: float, late: float = 0.0) -> float:
        """
        Take the next turn if it has come.

        :param now: The time (monotonic).
        :param late: Seconds by which this taker may have been kept from a turn that had come; up to that, those
            who follow need not wait longer for it. None for one who has just come: idle time is not saved up.
        :return: Seconds until the next turn, or 0 if it was taken.
        """
        if now < self._next_turn:
            return self._next_turn - now
        self._next_turn = max(self._next_turn, now - late) + self.slowdown / self.per_second
        return 0.0

    def refused(self, *, now: float, retry_after: float | None) -> None:
        """Slow down for everybody: the server answered 429."""
        pause = 1.0 if retry_after is None else retry_after
        if now >= self._slowed_until:
            # Once for all the requests that were under way together.
            self.slowdown = min(self.slowdown * 2, MOST_SLOWDOWN)
            self._slowed_until = now + pause
        self._next_turn = max(self._next_turn, now + pause)

    def accepted(self) -> None:
        """Speed up again, slowly: the server answered something else."""
        if self.slowdown > 1.0:
            self.slowdown = max(self.slowdown * RECOVERY, 1.0)
