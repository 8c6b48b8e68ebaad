# SPDX-License-Identifier: Apache-2.0
"""How a task waits for a slot of its account before it submits: in the queue, and standing by in its worker."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.exceptions import KlingError, KlingRateLimitError
from airflow_provider_kling.jobs.limits import FORMAT
from airflow_provider_kling.tasks.waiting import WaitingTask
from airflow_provider_kling.utils.text import as_mapping
from airflow_provider_kling.version_compat import is_test_run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from airflow.providers.common.compat.sdk import Context

#: Default seconds to keep trying to submit while the account has no free slot.
DEFAULT_SUBMIT_TIMEOUT = 24 * 3600.0
#: Seconds between two looks of a task that stands by.
_LOOK_INTERVAL = 0.5


class OthersWait(Exception):  # noqa: N818 - no error
    """The account is known to be full, so a submit would be refused."""


class QueueingTask(WaitingTask):
    """
    A mixin for an operator that submits, and waits for a slot if its account has none.

    Put it before Airflow's own class. The task has the attributes below, and a method ``submit_again`` that takes
    the trigger's event, and ``since`` and ``refusals`` as they are described here: when the task first tried
    (epoch seconds), which is its place in the queue, and how often it was refused.
    """

    if TYPE_CHECKING:
        log: Any
        model: str | None
        priority_weight: int
        submit_timeout: float

    #: Whether Airflow has ended the task.
    _is_killed = False

    def _check_queue(self, context: Context) -> None:
        """
        Raise if the account is known to be full, before a submit that would only find that out.

        :raises OthersWait: with how it is known.
        """
        from airflow_provider_kling.records.waiting_hint import others_wait

        if not self._is_deferrable or is_test_run(context):
            return
        limit = self._hook.connection.max_concurrent_jobs
        if limit is not None and (context["ti"].map_index or 0) >= limit:
            raise OthersWait(f"the account has {limit}, which are for the rows before this one")
        if others_wait(self.kling_conn_id):
            raise OthersWait("other tasks wait for one of the same account")

    def _await_slot(self, context: Context, error: KlingError, *, since: float, refusals: int) -> None:
        """Wait until the account may have a free slot, or the API is available; if deferrable, hold no worker."""
        from airflow_provider_kling.jobs.submit_pauses import pause_for_slot

        remaining = self._check_submit_timeout(since, refusals=refusals, error=error)
        if self._is_deferrable and isinstance(error, KlingRateLimitError):
            self.log.info("Waiting for a slot. %s", error)
            self._report_waiting(waiting=True)
            self._join_queue(context, since=since, refusals=refusals, error=error)
        pause = min(pause_for_slot(error, refusals), remaining)
        awaited = "a slot" if isinstance(error, KlingRateLimitError) else "the API"
        self.log.info("Waiting for %s, next submit in %.0f s at the latest. %s", awaited, pause, error)
        if not self._is_deferrable:
            time.sleep(pause)
            return
        self._defer_until_slot(context, pause=pause, at_most=pause, since=since, refusals=refusals)

    def _report_full(self) -> None:
        """Tell tasks that are about to submit that the account is full: a batch starts many at once."""
        from airflow_provider_kling.records.waiting_hint import write_hint

        if self._is_deferrable:
            write_hint(self.kling_conn_id)

    def _report_waiting(self, *, waiting: bool) -> None:
        """Tell tasks that have not submitted yet whether others wait."""
        from airflow_provider_kling.records.waiting_hint import report_waiting

        report_waiting(self.kling_conn_id, waiting=waiting)

    def _join_queue(
        self, context: Context, *, since: float, refusals: int, error: KlingError | None = None
    ) -> NoReturn:
        """
        Wait in the queue for the slots of the account.

        :param error: The refusal just now; None if it was not refused.
        """
        remaining = max(since + self.submit_timeout - time.time(), 0.0)
        self.log.info(
            "The task submits when %s has a free slot, and fails if it gets none for %.0f s (submit_timeout)",
            self.kling_conn_id,
            remaining,
        )
        self._defer_until_slot(
            context,
            pause=min(error.retry_after or 0.0, remaining) if error else 0.0,
            at_most=remaining,
            since=since,
            refusals=refusals,
            place={
                "since": since,
                "priority": float(self.priority_weight),
                "refused": error is not None,
                "model": self.model,
            },
        )

    def _defer_until_slot(
        self,
        context: Context,
        *,
        pause: float,
        at_most: float,
        since: float,
        refusals: int,
        place: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """
        Defer for ``pause`` to ``at_most`` seconds; ``submit_again`` receives the event.

        :param place: The place in the queue; None to wait outside of it.
        """
        from airflow_provider_kling.jobs.progress import waiting_for_slot
        from airflow_provider_kling.triggers.kling import KlingSlotTrigger

        now = time.time()
        self._push_progress(context, waiting_for_slot(now=now))
        self.defer(
            trigger=KlingSlotTrigger(
                kling_conn_id=self.kling_conn_id,
                not_before=now + max(self._shortest_deferral, pause),
                at_latest=now + at_most,
                deferred_at=now,
                **(place or {}),
            ),
            method_name="submit_again",
            kwargs={"since": since, "refusals": refusals, "version": FORMAT},
        )

    def _follow(
        self, context: Context, event: Mapping[str, Any], *, since: float, refusals: int
    ) -> Mapping[str, Any]:
        """
        Return the call of the queue, once a slot is free; an empty one for an event without.

        A task that was not called in time, or was told of no slot while it stood by, returns to the queue.

        :param event: The event of the ``KlingSlotTrigger``.
        :raises KlingError: if ``submit_timeout`` is over.
        """
        if event.get("status") == "no_slot":
            self._check_submit_timeout(since, refusals=refusals)
            self._join_queue(context, since=since, refusals=refusals)
        if call := as_mapping(event.get("call")):
            self._call_latency = time.time() - call["at"]
            if not call["is_free"] and not self._stand_by(context, call["id"]):
                self._join_queue(context, since=since, refusals=refusals)
        return call

    def _stand_by(self, context: Context, call_id: str) -> bool:
        """Wait in the worker until a slot is free; return whether one is."""
        from airflow_provider_kling.jobs.slot_queue import CALL_KEY, LONGEST_STAND_BY

        self.log.info("Standing by: a job of this account is likely to end soon")
        give_up_at = time.monotonic() + LONGEST_STAND_BY
        # Airflow 3 lets a task go on for some seconds after its end was requested.
        while time.monotonic() < give_up_at and not self._is_killed:
            with suppress(Exception):  # an XCom backend may raise anything; then the task is not told
                if self._pulled(context, CALL_KEY) == call_id:
                    return True
            time.sleep(_LOOK_INTERVAL)
        self.log.info("Not told of a free slot; back to the queue")
        return False

    def _check_submit_timeout(self, since: float, *, refusals: int, error: KlingError | None = None) -> float:
        """
        Return the seconds that are left to submit.

        :raises KlingError: the refusal, or a :class:`KlingRateLimitError`, if there are none.
        """
        waited = max(time.time() - since, 0.0)  # the worker that wrote it may have had a clock that is ahead
        if waited < self.submit_timeout:
            return self.submit_timeout - waited
        error = error or KlingRateLimitError("The account had no free slot")
        raise error.replace(
            message=f"{error.message}; {refusals} refusals in {waited:.0f} s "
            f"(submit_timeout={self.submit_timeout:g})",
            advice=f"{error.advice} Clear this task to wait anew, or raise submit_timeout.".lstrip(),
        )
