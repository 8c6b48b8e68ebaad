# SPDX-License-Identifier: Apache-2.0
"""Jobs whose state is computed from the clock, so that a poll costs only arithmetic."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from airflow_provider_kling.sandbox.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.sandbox.video import VideoRequest

State = Literal["queued", "running", "completed", "failed"]
KEY_SUFFIX_LENGTH = 4
OVER_CONCURRENCY = 1303


@dataclass(frozen=True)
class Failure:
    """
    Why a job ends as failed.

    :param message: The reason.
    :param code: The error's code; a number is a code of Kling's own platform.
    :param reason_at: The field of a gateway's status response with the reason; ``none`` for no field.
    """

    message: str
    code: int | str = ""
    reason_at: str = "error.message"


class Snapshot(NamedTuple):
    """The state of a job at one moment; ``ended_at`` is 0 until it ends."""

    state: State
    progress: int
    ended_at: float = 0.0


class JobOrder(Protocol):
    """What an API knows of a job beside the video."""

    @property
    def path(self) -> str:
        """The path of the create request."""

    @property
    def external_id(self) -> str:
        """The client's own id for the job; empty if there is none."""

    def effective(self) -> dict[str, Any]:
        """Return the values that apply, defaults included, for the ledger."""


@dataclass
class Job:
    """One accepted submit. All times are epoch seconds; an empty ``account`` is that of the key alone."""

    id: str
    key: str
    request: VideoRequest
    raw: Mapping[str, Any]
    accepted_at: float
    queue_seconds: float
    run_seconds: float
    dialect: Any  # a Dialect; its module imports this one
    failure: Failure | None = None
    stuck: bool = False
    finished_at: float | None = None
    answered: bool | None = None
    account: str = ""
    order: JobOrder | None = None
    only_watermark: bool = False

    def __post_init__(self) -> None:
        self.account = self.account or self.key

    @property
    def names(self) -> tuple[str, ...]:
        """The ids under which the job is known; scripted faults are matched against them."""
        return (self.id, self.order.external_id) if self.order and self.order.external_id else (self.id,)

    @property
    def ends_at(self) -> float:
        if self.finished_at is not None:
            return self.finished_at
        return float("inf") if self.stuck else self.accepted_at + self.queue_seconds + self.run_seconds

    def at(self, now: float) -> Snapshot:
        """Return state and progress (0 to 100) at ``now``."""
        if now >= self.ends_at:
            return Snapshot("failed" if self.failure else "completed", 100, self.ends_at)
        running_for = now - self.accepted_at - self.queue_seconds
        if running_for < 0:
            return Snapshot("queued", 0)
        done = running_for / self.run_seconds if self.run_seconds else 1.0
        return Snapshot("running", min(99, int(100 * done)))

    def ledger_entry(self) -> dict[str, Any]:
        entry = {
            "id": self.id,
            "request": self.raw,
            "key_suffix": self.key[-KEY_SUFFIX_LENGTH:],
            "accepted_at": self.accepted_at,
            "answered": self.answered,
        }
        return entry if self.order is None else {**entry, "effective": self.order.effective()}

    def summary(self, now: float) -> dict[str, Any]:
        seen = self.at(now)
        return {
            "id": self.id,
            "model": self.request.model,
            "prompt": self.request.text,
            "state": seen.state,
            "progress": seen.progress,
            "accepted_at": self.accepted_at,
        }


@dataclass
class JobBook:
    """
    All accepted jobs in order, and the slots of each account.

    :param max_concurrent: Unfinished jobs that one account may have; None sets no limit.
    """

    max_concurrent: int | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    _open: defaultdict[str, list[Job]] = field(default_factory=lambda: defaultdict(list))

    def accept(self, job: Job) -> None:
        """
        Add a new job.

        :raises ApiError: as :meth:`check`.
        """
        self.check(job)
        self.add(job)

    def add(self, job: Job) -> None:
        """Add a job that was accepted before."""
        self.jobs[job.id] = job
        if self.max_concurrent is not None:
            self._open[job.account].append(job)

    def check(self, job: Job) -> None:
        """
        Check that the account may have one more job.

        :raises ApiError: with 429 and the platform's 1303, if it has no free slot.
        """
        if self.max_concurrent is None:
            return
        still_open = [other for other in self._open[job.account] if other.ends_at > job.accepted_at]
        self._open[job.account] = still_open
        if len(still_open) >= self.max_concurrent:
            raise ApiError(429, OVER_CONCURRENCY, "parallel task over resource pack limit")
