# SPDX-License-Identifier: Apache-2.0
"""The rate limit of one connection: evenly spaced requests, and fewer of them after a 429."""

from __future__ import annotations

#: Maximum slowdown by 429 responses, as a multiple of the configured spacing.
MOST_SLOWDOWN = 32.0
#: Maximum seconds between two requests after a slowdown, so that a low rate does not become one request every few
#: minutes. A configured spacing that is longer stays as it is.
LONGEST_SPACING = 2.0
#: Maximum seconds for which one 429 can stop all requests. A server may request an hour, in which videos would
#: finish unnoticed.
LONGEST_PAUSE = 60.0
#: Factor of the slowdown that is left after each request without a 429.
RECOVERY = 0.98


class RateLimiter:
    """
    Decides when the next request may be sent.

    Slots are granted on demand, never reserved: a 429 slows everything that still waits, and a cancelled waiter
    consumes nothing.

    :param per_second: Maximum requests per second; it may change.
    """

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self.slowdown = 1.0
        self._next_slot = 0.0
        self._slowed_until = 0.0

    def acquire(self, *, now: float, lateness: float = 0.0) -> float:
        """
        Acquire the next slot if it is due.

        :param now: The time (monotonic).
        :param lateness: How late (seconds) the caller may be served without delaying the next slot; 0 for a caller
            that did not queue, so that unused slots do not accumulate.
        :return: Seconds until the next slot, or 0 if it was acquired.
        """
        if now < self._next_slot:
            return self._next_slot - now
        self._next_slot = max(self._next_slot, now - lateness) + self._spacing
        return 0.0

    @property
    def _spacing(self) -> float:
        configured = 1.0 / self.per_second
        return max(configured, min(configured * self.slowdown, LONGEST_SPACING))

    def refused(self, *, now: float, retry_after: float | None) -> None:
        """
        Slow all requests down after a 429.

        :param now: The time (monotonic).
        :param retry_after: The response's Retry-After (seconds), if any; at most :data:`LONGEST_PAUSE` counts.
        """
        pause = 1.0 if retry_after is None else min(retry_after, LONGEST_PAUSE)
        if now >= self._slowed_until:
            # Once for all the requests that were in flight together.
            self.slowdown = min(self.slowdown * 2, MOST_SLOWDOWN)
            self._slowed_until = now + pause
        self._next_slot = max(self._next_slot, now + pause)

    def accepted(self) -> None:
        """Speed up again, slowly, after a response that was not a 429."""
        if self.slowdown > 1.0:
            self.slowdown = max(self.slowdown * RECOVERY, 1.0)
