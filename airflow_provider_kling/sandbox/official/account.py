# SPDX-License-Identifier: Apache-2.0
"""The jobs of the platform, the client's own ids for them, and the units of each account."""

from __future__ import annotations

import time
from collections import defaultdict
from decimal import Decimal
from typing import Any

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.jobs import Job, JobBook
from airflow_provider_kling.sandbox.official.order import BAD_PARAMETER, Order

USED_UP = 1102
#: Units of the pack of an account without a limit.
PLENTY = Decimal(1_000_000)
PACK_DAYS = 365
#: Days since the pack was bought: more than the month that a hasty client asks for.
PACK_AGE_DAYS = 40
DAY_MS = 86_400_000


def order_of(job: Job) -> Order:
    """Return what was ordered; every job of this platform has an order."""
    if not isinstance(job.order, Order):
        raise TypeError(f"job {job.id} has no order of Kling's own platform")
    return job.order


class AccountBook(JobBook):
    """
    The jobs of the platform.

    :param max_concurrent: Unfinished jobs that one account may have; None sets no limit.
    :param units: Units in the resource pack of each account; None sets no limit.
    :param frees_failed_ids: Whether an external id may be used again after its job failed.
    """

    def __init__(self, max_concurrent: int | None, *, units: Decimal | None, frees_failed_ids: bool) -> None:
        super().__init__(max_concurrent)
        self._units = units
        self._frees_failed_ids = frees_failed_ids
        self._by_external_id: dict[tuple[str, str], Job] = {}
        self._spent: defaultdict[str, Decimal] = defaultdict(Decimal)
        self._pending: defaultdict[str, list[Job]] = defaultdict(list)
        self._opened_ms = int(time.time() * 1000) - PACK_AGE_DAYS * DAY_MS

    def add(self, job: Job) -> None:
        super().add(job)
        self._pending[job.account].append(job)
        if external_id := order_of(job).external_id:
            self._by_external_id[job.account, external_id] = job

    def check(self, job: Job) -> None:
        """
        Check that the account may have one more job.

        :raises ApiError: with 400 and 1201 if its external id is in use; with 429 and 1102 if the resource pack
            is used up, or 1303 if no slot is free.
        """
        order = order_of(job)
        first = self.by_external_id(job.account, order.external_id) if order.external_id else None
        if first is not None and not (self._frees_failed_ids and first.at(job.accepted_at).state == "failed"):
            raise ApiError(400, BAD_PARAMETER, f"External_task_id {order.external_id} already exists")
        if self._units is not None and self._reserved(job) + order.units > self._units:
            raise ApiError(429, USED_UP, "Resource pack exhausted")
        super().check(job)

    def by_external_id(self, account: str, external_id: str) -> Job | None:
        """Return the last job with this external id, None if the account has none."""
        return self._by_external_id.get((account, external_id))

    def packs(self, account: str, now: float) -> list[dict[str, Any]]:
        """Return the account's resource packs in the form of ``/account/costs``; ``now`` is in epoch seconds."""
        self._settle(account, now)
        total = PLENTY if self._units is None else self._units
        left = total - self._spent[account]
        slots = "" if self.max_concurrent is None else f"{self.max_concurrent}Con-"
        return [
            {
                "resource_pack_name": f"Video-Sandbox-{slots}{PACK_DAYS}Days",
                "resource_pack_id": "sandbox-pack",
                "resource_pack_type": "decreasing_total",
                "total_quantity": float(total),
                "remaining_quantity": float(left),
                "purchase_time": self._opened_ms,
                "effective_time": self._opened_ms,
                "invalid_time": self._opened_ms + PACK_DAYS * DAY_MS,
                "status": "online" if left > 0 else "runOut",
            }
        ]

    def _reserved(self, job: Job) -> Decimal:
        """Return the units that the account's other jobs took or still may take."""
        self._settle(job.account, job.accepted_at)
        return sum((order_of(other).units for other in self._pending[job.account]), self._spent[job.account])

    def _settle(self, account: str, now: float) -> None:
        """Take the units of the jobs that succeeded; failed ones cost nothing."""
        pending = self._pending[account]
        self._pending[account] = [job for job in pending if job.ends_at > now]
        ended = (job for job in pending if job.ends_at <= now and not job.failure)
        self._spent[account] += sum((order_of(job).units for job in ended), Decimal(0))
