# SPDX-License-Identifier: Apache-2.0
"""The pace of requests on one connection: evenly spaced, first come first served, slower when told so."""

from __future__ import annotations

#: The slowest that refusals can make it, as a multiple of the wished spacing.
MOST_SLOWDOWN = 32.0
#: How much of the slowdown is left after each request that was not refused.
RECOVERY = 0.98


class Pace:
    """
    Gives every request its turn.

    Each caller is told how long to wait and has its turn reserved by that, so turns are handed out in the order in
    which they are asked for: no trigger can crowd out another.

    :param per_second: Requests per second at most.
    """

    def __init__(self, per_second: float) -> None:
        self.spacing = 1.0 / per_second
        self.slowdown = 1.0
        self._next_turn = 0.0
        self._slowed_until = 0.0

    def reserve(self, *, now: float) -> float:
        """Return the seconds to wait for one's turn; the next caller's comes after it (``now``: monotonic)."""
        turn = max(self._next_turn, now)
        self._next_turn = turn + self.spacing * self.slowdown
        return turn - now

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
