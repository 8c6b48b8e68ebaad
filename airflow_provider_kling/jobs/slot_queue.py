# SPDX-License-Identifier: Apache-2.0
"""
The queue for the slots of one account: which task submits next, and when.

An account has a few slots, each for one unfinished job, and any number of tasks that wait for one. Each end of a
job that this process sees is a free slot, and calls one task, first come first served. It takes a called task some
seconds to reach its POST: Airflow has to find a worker for it. So that a slot does not idle meanwhile, tasks are
also called ahead of the ends that are likely. They *stand by* in their workers, and the end of a job then lets one
of them go on at once.

A slot may get free unseen: another user of the account, or another triggerer, had it. So the first task of the
queue also *probes*, which is a call without a known slot; after a refusal, another task does. Probes get rare
while they are refused, so that nobody waits forever and the server is not flooded. A server may also refuse one
kind of request and take others: once a called task was refused, those of other kinds go first for a while.

Each triggerer has a queue of its own, and Airflow spreads tasks over them by chance. So that no slot idles because
nobody waits where its end was seen, such an end is *handed over* to another triggerer that serves the account.

Time is passed in; this module does not sleep, log, or do I/O.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kling.jobs.poll_schedule import probability_of_end

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

#: The XCom of a task that stands by; once it is the id of the call, the task goes on.
CALL_KEY = "kling_slot_call"
#: Seconds for which new tasks believe that others wait.
HINT_SECONDS = 120.0
#: Seconds without a call after which the first task of the queue probes; doubled after each refused probe, up to
#: the second number.
FIRST_PROBE, LONGEST_PROBE = 15.0, 300.0
#: Number of calls that postpone a probe. A called task may not submit; then its slot idles while ends are seen.
CALLS_PER_PROBE = 100
#: Maximum number of probes at once. It grows while they are accepted, as after an hour without a triggerer.
MOST_PROBES = 64
#: Seconds, and multiples of the learned latency, in which a called task has submitted, or was refused and is in
#: the queue again. Of one that is not heard of nothing is known: another triggerer may have what it did.
CALL_TIMEOUT, CALL_TIMEOUT_LATENCIES = 10.0, 5.0
#: Maximum seconds that a task stands by in its worker before it returns to the queue.
LONGEST_STAND_BY = 60.0
#: Seconds after its submit for which a job is taken to be unfinished.
NEW_JOB = 20.0
#: The tolerated probability that more jobs end, while a task is on its way, than tasks stand by.
RISK = 0.1
#: Seconds for which a sign of another triggerer that serves the account is believed.
OTHER_TRIGGERERS_SECONDS = 3600.0
#: Seconds between two looks for ends that other triggerers hand over, and the age up to which an end is used: the
#: slot of an older one is likely to have been found by a probe.
LOOK_INTERVAL, LONGEST_HANDOVER = 5.0, 60.0
#: Seconds for which an estimate of the ends that are likely is good enough.
ESTIMATE_INTERVAL = 0.5
#: Maximum number of jobs that an estimate looks at.
SAMPLED_JOBS = 200
#: Maximum number of tasks that stand by, as a fraction of the running jobs, rounded up.
STAND_BY_FRACTION = 0.2
#: Seconds from a call to the POST before anything is learned, and the weight of a new observation.
FIRST_LATENCY, LEARNING_WEIGHT = 3.0, 0.2
#: Longer latencies are learned as this one, and those beyond the second number not at all: the machine was down,
#: or two clocks differ.
MAX_LATENCY, MAX_PLAUSIBLE_LATENCY = 30.0, 600.0


@dataclass(eq=False)
class Waiter:
    """
    A task that waits for a slot.

    :param task: What identifies it, also when it returns; None if nothing does.
    :param since: When it first waited (epoch seconds): its place among those of the same priority.
    :param priority: Its ``priority_weight``; higher ones go first.
    :param not_before: When it may be called at the earliest, by the clock of the queue.
    :param tell: Tells the task, while it stands by, that a slot is free; None if it cannot be told.
    :param kind: What a server may refuse although it takes others: the model; None if it is not known.
    """

    task: Hashable | None = None
    since: float = 0.0
    priority: float = 0.0
    not_before: float = 0.0
    tell: Callable[[], None] | None = None
    kind: Hashable | None = None


class Call(NamedTuple):
    """
    A decision: this task goes to a worker, or on from there.

    :param waiter: The task.
    :param is_free: Whether it submits at once; if not, it stands by.
    :param from_stand_by: Whether it stands by already.
    """

    waiter: Waiter
    is_free: bool
    from_stand_by: bool = False


#: The place of a task in the queue: minus its priority, since when it waits, a number, and the task.
_Place = tuple[float, float, int, Waiter]


@dataclass
class _PutOff:
    """A kind of which called tasks were refused: others go first, for a while."""

    refusals: int = 0
    until: float = -math.inf


@dataclass
class _Called:
    waiter: Waiter
    at: float
    is_probe: bool = False


@dataclass
class _Running:
    started_at: float
    expected: Callable[[], tuple[float, float]]
    watchers: int = 0
    was_seen: bool = False
    """Whether it was unfinished when this process knew it already."""


@dataclass
class SlotQueue:
    """
    Decides who is called. All times are of one clock, in seconds.

    :param limit: The slots of the account, if they are known.
    """

    limit: int | None = None
    #: Seconds from a call to the POST, as learned.
    latency: float = FIRST_LATENCY
    #: Kind -> the tasks that may be called.
    _ready: dict[Hashable | None, list[_Place]] = field(default_factory=dict)
    _early: list[tuple[float, int, Waiter]] = field(default_factory=list)
    _waiting: set[Waiter] = field(default_factory=set)
    #: Called to submit, and not heard of since.
    _called: dict[Hashable, _Called] = field(default_factory=dict)
    #: Called to stand by, the earliest first.
    _standing: dict[Hashable, _Called] = field(default_factory=dict)
    _running: dict[str, _Running] = field(default_factory=dict)
    #: When the ends were seen whose slots nobody has been called for.
    _free: deque[float] = field(default_factory=deque)
    _next_probe: float = -math.inf
    _probe_pause: float = field(default_factory=lambda: FIRST_PROBE)
    _most_probes: int = 1
    _calls_since_probe: int = 0
    #: How often a called task was refused: a server may refuse one request, and take others.
    _refusals: Counter[Hashable] = field(default_factory=Counter)
    #: Kind -> how it was refused since the last time that one was accepted.
    _put_off: dict[Hashable | None, _PutOff] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)
    #: When the server last refused a submit.
    _refused_at: float = -math.inf
    #: When there was the last sign of another triggerer that serves the account.
    _other_triggerer_at: float = -math.inf
    #: How many tasks are to stand by, and until when that is not estimated again.
    _estimate: tuple[int, float] = (0, -math.inf)

    def __len__(self) -> int:
        """Return how many tasks wait and were not called."""
        return len(self._waiting)

    @property
    def unserved(self) -> int:
        """How many tasks wait, or stand by."""
        return len(self._waiting) + len(self._standing)

    # ---- what happens

    def join(self, waiter: Waiter, *, now: float, refused_at: float | None = None) -> None:
        """
        Add a task to the queue.

        :param waiter: The task.
        :param now: The time.
        :param refused_at: When the server refused its submit; None if it did not send one.
        """
        self._forget_unheard(now)
        called = self._called.pop(waiter.task, None)
        self._standing.pop(waiter.task, None)
        if called is None and not (self._waiting or self._called or self._standing):
            # What probes of an earlier batch have found says nothing of this one.
            self._probe_pause, self._most_probes = FIRST_PROBE, 1
            self._refusals.clear()
            self._put_off.clear()
        if refused_at is None:
            if called is not None and not called.is_probe:
                self._free.append(now)  # it was told of a slot, and had given up before
            elif self._others_were_refused(waiter.kind, now):
                # That says less of this one.
                self._probe_pause = FIRST_PROBE
                self._next_probe = min(self._next_probe, now + FIRST_PROBE)
        else:
            self._refused_at = max(refused_at, self._refused_at)
            while self._free and self._free[0] <= refused_at:
                self._free.popleft()
            self._most_probes = 1
            if called is not None:
                self._refusals[waiter.task] += 1
                # Of those that were called for slots, a burst of another user costs many one refusal each.
                if called.is_probe:
                    self._probe_pause = min(2 * self._probe_pause, LONGEST_PROBE)
            self._next_probe = max(self._next_probe, now + self._probe_pause)
            if called is not None:
                self._put_kind_off(waiter.kind, now)
        self._waiting.add(waiter)
        heapq.heappush(self._early, (waiter.not_before, next(self._numbers), waiter))

    def leave(self, waiter: Waiter, *, now: float) -> None:
        """Remove a task that does not wait any more; the slot that it may have been called for is free again."""
        self._waiting.discard(waiter)
        if (called := self._called.get(waiter.task)) and called.waiter is waiter:
            del self._called[waiter.task]
            if not called.is_probe:
                self._free.append(now)
        if (standing := self._standing.get(waiter.task)) and standing.waiter is waiter:
            del self._standing[waiter.task]

    def started(
        self,
        kling_task_id: str,
        *,
        task: Hashable | None,
        started_at: float,
        now: float,
        expected: Callable[[], tuple[float, float]],
        may_have_ended: bool = False,
        was_called: bool = False,
    ) -> None:
        """
        Note that somebody waits for a job.

        :param kling_task_id: The job.
        :param task: The task that waits for it.
        :param started_at: When it was submitted.
        :param now: The time.
        :param expected: Returns the distribution of its duration, see :meth:`.poll_schedule.Durations.expected`.
        :param may_have_ended: Whether it may have ended before, since ``started_at`` is only a guess.
        :param was_called: Whether the task was called for its slot, by whichever triggerer.
        """
        called = self._called.pop(task, None)
        if was_called and called is None and now - started_at < NEW_JOB:
            self._other_triggerer_at = now
        if called is not None:
            self._put_off.pop(called.waiter.kind, None)
            if called.is_probe:
                self._probe_succeeded(now)
        job = self._running.get(kling_task_id)
        if job is None:
            job = self._running[kling_task_id] = _Running(started_at, expected)
            job.was_seen = now - started_at < NEW_JOB and not may_have_ended
            if not was_called and called is None and self._free:
                self._free.popleft()  # it was submitted without a call, into a slot that was free
        job.watchers += 1

    def seen(self, kling_task_id: str) -> None:
        """Note that a job is unfinished."""
        if job := self._running.get(kling_task_id):
            job.was_seen = True

    def ended(self, kling_task_id: str, *, now: float) -> None:
        """Note that a job has ended: if it was seen unfinished, its slot has just become free."""
        job = self._running.pop(kling_task_id, None)
        if job is not None and job.was_seen:
            self._free.append(now)

    def left(self, kling_task_id: str) -> None:
        """Note that somebody waits for a job no longer; it may still run."""
        job = self._running.get(kling_task_id)
        if job is not None:
            job.watchers -= 1
            if job.watchers == 0:
                del self._running[kling_task_id]

    def has_other_triggerers(self, now: float) -> bool:
        """Return whether another triggerer seems to serve the account: tasks came from there, or went there."""
        return now - self._other_triggerer_at < OTHER_TRIGGERERS_SECONDS

    def hand_over(self, *, now: float) -> list[float]:
        """
        Return the ends that another triggerer may use, since nobody here does; they do not count here then.

        :return: How long ago (seconds) each was seen.
        """
        if self._waiting or next(self._stand_by(now), None) is not None or not self.has_other_triggerers(now):
            return []
        ages = [now - seen_at for seen_at in self._free]
        self._free.clear()
        return [age for age in ages if age < LONGEST_HANDOVER]

    def take_over(self, ages: Iterable[float], *, now: float) -> None:
        """
        Use the ends that another triggerer has handed over, but for those before a refusal.

        :param ages: How long ago (seconds) each was seen.
        """
        taken = (now - age for age in ages)
        self._free = deque(sorted([*self._free, *(seen_at for seen_at in taken if seen_at > self._refused_at)]))

    def learn(self, latency: float) -> None:
        """Learn from how long (seconds) a called task took to its POST, or until it stood by."""
        if 0 <= latency <= MAX_PLAUSIBLE_LATENCY:
            self.latency += LEARNING_WEIGHT * (min(latency, MAX_LATENCY) - self.latency)

    # ---- what to do

    def calls(self, *, now: float) -> Iterator[Call]:
        """Yield who is called now; each call is counted as made."""
        self._forget_unheard(now)
        self._move_ready(now)
        while self._has_slot() and (call := self._next_call(now)):
            if self._free:
                self._free.popleft()
            yield call
        if self._may_probe(now):
            probes = sum(called.is_probe for called in self._called.values())
            for prober in self._next_to_probe(now, at_most=self._most_probes - probes):
                self._next_probe, self._calls_since_probe = now + self._probe_pause, 0
                yield self._call(prober, now, is_probe=True)
        if now >= self._estimate[1]:
            self._estimate = self._wanted_to_stand_by(now), now + ESTIMATE_INTERVAL
        for _ in range(self._estimate[0] - len(self._standing)):
            next_one = self._first_ready(now, can_stand_by=True)
            if next_one is None:
                return
            self._standing[next_one.task] = _Called(next_one, now)
            self._waiting.discard(next_one)
            yield Call(next_one, is_free=False)

    def _move_ready(self, now: float) -> None:
        """Move the tasks that may be called by now; who has left is removed when it is first, or nobody waits."""
        if not self._waiting:
            self._early.clear()
            self._ready.clear()
        while self._early and self._early[0][0] <= now:
            _, number, waiter = heapq.heappop(self._early)
            place = (-waiter.priority, waiter.since, number, waiter)
            heapq.heappush(self._ready.setdefault(waiter.kind, []), place)

    def _next_call(self, now: float) -> Call | None:
        """Return the call for a free slot: of who stands by, or of the first in the queue."""
        waiter = next(self._stand_by(now), None)
        if waiter is not None:
            del self._standing[waiter.task]
            self._called[waiter.task] = _Called(waiter, now)
            self._postpone_probe(now)
            return Call(waiter, is_free=True, from_stand_by=True)
        waiter = self._first_ready(now)
        if waiter is None:
            return None
        self._postpone_probe(now)
        return self._call(waiter, now)

    def _stand_by(self, now: float) -> Iterator[Waiter]:
        """Yield who can be told of a slot; later they return to a queue, maybe that of another triggerer."""
        last = LONGEST_STAND_BY + self.latency
        return (standing.waiter for standing in self._standing.values() if now - standing.at < last)

    def _call(self, waiter: Waiter, now: float, *, is_probe: bool = False) -> Call:
        self._waiting.discard(waiter)
        self._called[waiter.task if waiter.task is not None else waiter] = _Called(waiter, now, is_probe)
        return Call(waiter, is_free=True)

    def _first_ready(self, now: float, *, can_stand_by: bool = False) -> Waiter | None:
        """Take the first task that may be called now; None if there is none, or if it cannot stand by."""
        first: list[tuple[bool, _Place]] = []
        for kind, places in self._ready.items():
            while places and places[0][-1] not in self._waiting:
                heapq.heappop(places)
            if places:
                first.append((self._is_put_off(kind, now), places[0]))
        if not first:
            return None
        waiter = min(first)[1][-1]
        if can_stand_by and waiter.tell is None:
            return None
        heapq.heappop(self._ready[waiter.kind])
        return waiter

    def _next_to_probe(self, now: float, *, at_most: int) -> list[Waiter]:
        """Return who probes: of those that were refused least often, the first."""
        ready = (
            (self._is_put_off(kind, now), self._refusals[place[-1].task], place)
            for kind, places in self._ready.items()
            for place in places
            if place[-1] in self._waiting
        )
        chosen: dict[Hashable, Waiter] = {}
        for _, _, (*_, waiter) in heapq.nsmallest(at_most, ready):
            # Of a kind that was refused, one is enough.
            chosen.setdefault(("kind", waiter.kind) if waiter.kind in self._put_off else waiter, waiter)
        return list(chosen.values())

    def _others_were_refused(self, kind: Hashable | None, now: float) -> bool:
        """Return whether all who wait were refused, and one of this kind may still be taken."""
        is_another = not self._is_put_off(kind, now)
        return all(
            self._refusals[other.task] or (is_another and self._is_put_off(other.kind, now))
            for other in self._waiting
        )

    def _is_put_off(self, kind: Hashable | None, now: float) -> bool:
        return kind in self._put_off and now < self._put_off[kind].until

    def _put_kind_off(self, kind: Hashable | None, now: float) -> None:
        put_off = self._put_off.setdefault(kind, _PutOff())
        pause = min(FIRST_PROBE * 2**put_off.refusals, LONGEST_PROBE)
        # The next probe is for another kind, whenever it is.
        put_off.until = max(now + pause, self._next_probe + CALL_TIMEOUT)
        put_off.refusals = min(put_off.refusals + 1, 16)

    @property
    def _occupied(self) -> int:
        return len(self._running) + len(self._called)

    def _has_slot(self) -> bool:
        if self.limit is not None and self._occupied >= self.limit:
            return False
        if self._free:
            return True
        # With a known number of slots, those that are not occupied are free until a refusal proves otherwise.
        return self.limit is not None and self._next_probe == -math.inf

    def _may_probe(self, now: float) -> bool:
        if self.limit is not None and self._occupied >= self.limit:
            return False
        return now >= self._next_probe

    def _postpone_probe(self, now: float) -> None:
        self._calls_since_probe += 1
        if self._next_probe > -math.inf and self._calls_since_probe <= CALLS_PER_PROBE:
            self._next_probe = max(self._next_probe, now + self._probe_pause)

    def _probe_succeeded(self, now: float) -> None:
        self._probe_pause, self._next_probe = FIRST_PROBE, (now if self.limit is None else -math.inf)
        self._most_probes = min(2 * self._most_probes, MOST_PROBES)

    def _forget_unheard(self, now: float) -> None:
        timeout = CALL_TIMEOUT + CALL_TIMEOUT_LATENCIES * self.latency
        for task, called in list(self._called.items()):
            if now - called.at <= timeout:
                continue
            del self._called[task]
            self._other_triggerer_at = now
            if not called.is_probe:
                # Until a task is heard of, no more of them are called for slots of which nobody has seen the end.
                self._next_probe = max(self._next_probe, now)
            elif self._refused_at >= called.at:
                # Another triggerer may have what it did, but the account was full since.
                self._probe_pause = min(2 * self._probe_pause, LONGEST_PROBE)
            elif not self._running:
                # It was not refused. Where nobody watches jobs, that is all that is known of an accepted submit.
                self._probe_pause = max(self._probe_pause / 2, FIRST_PROBE)
        for task, standing in list(self._standing.items()):
            # A task stands by from when its worker has started.
            if now - standing.at > LONGEST_STAND_BY + timeout:
                del self._standing[task]

    def _wanted_to_stand_by(self, now: float) -> int:
        """Return how many tasks are to stand by, or to be on their way to it."""
        if not self._waiting or not self._running:
            return 0
        # A sample is good enough, and ten thousand jobs would block an event loop.
        step = math.ceil(len(self._running) / SAMPLED_JOBS)
        mean = step * sum(
            probability_of_end(now - job.started_at, self.latency, *job.expected())
            for job in islice(self._running.values(), 0, None, step)
        )
        most = min(math.ceil(STAND_BY_FRACTION * len(self._running)), len(self._standing) + len(self._waiting))
        wanted, chance = 0, math.exp(-mean)
        covered = chance
        while wanted < most and 1 - covered > RISK:
            wanted += 1
            chance *= mean / wanted
            covered += chance
        return wanted
