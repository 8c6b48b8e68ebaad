# SPDX-License-Identifier: Apache-2.0
"""The pace of requests on one connection: evenly spaced, and slower when told so."""

from __future__ import annotations

#: The slowest that refusals can make it, as a multiple of the wished spacing.
MOST_SLOWDOWN = 32.0
#: Seconds between two requests beyond which refusals do not slow it down, so that a low rate does not become one
#: request every few minutes. A wished spacing that is longer stays as it is.
LONGEST_SPACING = 2.0
#: Seconds that one refusal can hold all requests up. A server may ask for an hour in which videos finish unseen.
LONGEST_PAUSE = 60.0
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
        self._next_turn = max(self._next_turn, now - late) + self._spacing
        return 0.0

    @property
    def _spacing(self) -> float:
        wished = 1.0 / self.per_second
        return max(wished, min(wished * self.slowdown, LONGEST_SPACING))

    def refused(self, *, now: float, retry_after: float | None) -> None:
        """
        Slow down for everybody: the server answered 429.

        :param now: The time (monotonic).
        :param retry_after: Seconds that the server asks to wait, if it does. :data:`LONGEST_PAUSE` caps them.
        """
        pause = 1.0 if retry_after is None else min(retry_after, LONGEST_PAUSE)
        if now >= self._slowed_until:
            # Once for all the requests that were under way together.
            self.slowdown = min(self.slowdown * 2, MOST_SLOWDOWN)
            self._slowed_until = now + pause
        self._next_turn = max(self._next_turn, now + pause)

    def accepted(self) -> None:
        """Speed up again, slowly: the server answered something else."""
        if self.slowdown > 1.0:
            self.slowdown = max(self.slowdown * RECOVERY, 1.0)
