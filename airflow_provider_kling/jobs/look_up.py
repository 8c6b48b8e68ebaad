# SPDX-License-Identifier: Apache-2.0
"""
Look up a submit whose response was lost, on a server that keeps a client token with each job.

A job is looked for at once, and again after a pause in which the server finishes what it was working on. A look-up
that fails proves nothing and is repeated, within a bounded time. The steps are those of careful clients of Kling's
own platform; https://app.klingai.com/global/dev/document-api documents ``external_task_id``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kling.exceptions import KlingAuthenticationError, KlingBalanceError, KlingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kling.api.job import VideoJob

#: Maximum number of look-ups in one call. Their pauses add up to about four minutes; each look-up
#: may take both timeouts of the connection besides.
MAX_LOOK_UPS = 10
#: Minimum seconds between the two look-ups that find nothing.
MIN_PAUSE = 10.0
#: Errors that a user cures first; then another attempt looks again.
_CURED_BY_USER = (KlingAuthenticationError, KlingBalanceError)


@dataclass(frozen=True, kw_only=True)
class LookUp:
    """
    How lost submits are looked up.

    :param find: Returns the job with a client token, None if the server says that there is none;
        ``KlingHook.find_video``.
    :param account: Returns a name of the current account and its server; a token says nothing in another one.
    :param server: The base URL of the server.
    :param is_honoured: Whether the server is known to refuse a second submit with the same token.
    :param pause: Seconds between the two look-ups that find nothing; the server is assumed to have finished with
        the submit by then.
    """

    find: Callable[[str], VideoJob | None]
    account: Callable[[], str]
    server: str
    is_honoured: bool
    pause: float = MIN_PAUSE

    def __call__(
        self,
        client_token: str,
        *,
        sleep: Callable[[float], None],
        log: Callable[[str], None],
        exists: bool = False,
    ) -> Finding:
        """
        Look up a submit.

        :param client_token: Its token.
        :param sleep: Waits in place.
        :param log: Writes a line to the task's log.
        :param exists: Whether the server has said that there is a job; then its absence means "not stored yet".
        :raises KlingError: if the account may not look it up, since its key is rejected, for example.
        """
        is_absent = False
        for look_up in range(1, MAX_LOOK_UPS + 1):
            try:
                job = self.find(client_token)
            except _CURED_BY_USER:
                raise
            except KlingError as error:
                log(f"The lost submit cannot be looked up now: {error}")
                if not error.retryable:
                    break  # it would fail again
                pause = pause_after_failure(look_up)
            else:
                if job is not None:
                    return Finding(job=job)
                if is_absent and not exists:
                    return Finding(is_absent=True)
                is_absent = True
                pause = pause_after_failure(look_up) if exists else self.pause
            if look_up < MAX_LOOK_UPS:
                sleep(pause)
        return Finding()


class Finding(NamedTuple):
    """
    What the look-ups found; neither a job nor its absence if they failed, as the log says.

    :param job: The job.
    :param is_absent: Whether the server said twice, with a pause between, that there is none.
    """

    job: VideoJob | None = None
    is_absent: bool = False


def pause_after_failure(look_up: int) -> float:
    """Return the seconds to wait after a look-up that failed, by its number from 1."""
    return min(2.0**look_up, 30.0)
