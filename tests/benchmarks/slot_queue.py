# SPDX-License-Identifier: Apache-2.0
"""
The use of an account's slots, simulated with the decisions of this package: its queue and its poll schedule.

The time is simulated. Around the decisions are a vendor with a number of slots, jobs of log-normal durations (sigma
0.25, no progress reported), workers that take some seconds to start (log-normal around 3 s), a hint that tells new
tasks to wait, and triggerers: each task and each job is with one by chance, and they hand over ends to each other.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_kling.jobs.poll_schedule import Durations, LearnedDelay
from airflow_provider_kling.jobs.slot_queue import (
    HINT_SECONDS,
    LONGEST_HANDOVER,
    LONGEST_STAND_BY,
    LOOK_INTERVAL,
    SlotQueue,
    Waiter,
)
from tests.benchmarks.report import table, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Median seconds from a call to the POST, and their spread; from a deferral to the triggerer; from the decision to
#: a worker that stands by.
START, START_SIGMA, DEFERRAL, SIGNAL = 3.0, 0.35, 2.0, 0.6
#: Minimum seconds of a deferral.
SHORTEST_DEFERRAL = 15.0
#: Seconds until an end that is handed over can be read.
HANDOVER = 0.5


@dataclass(frozen=True)
class Scenario:
    """What is simulated."""

    videos: int
    slots: int
    seconds: float
    triggerers: int = 1
    limit: int | None = None
    #: New tasks that Airflow starts in a second.
    arrivals: float = 2.0
    #: Users of the account that run one job after the other.
    others: int = 0
    sigma: float = 0.25
    seed: int = 1

    @property
    def name(self) -> str:
        """What the scenario is called in the table."""
        name = f"{self.videos:,} of {self.seconds:g} s on {self.slots:,}"
        name += f", {self.triggerers} triggerers" if self.triggerers > 1 else ""
        name += ", limit known" if self.limit else ""
        return name + (f", {self.others} other users" if self.others else "")


@dataclass
class Result:
    """What came out."""

    use: float = 0.0
    steady_use: float = 0.0
    refusals: float = 0.0
    extra_runs: float = 0.0
    stand_by: float = 0.0
    checks: float = 0.0
    longest_wait: float = 0.0
    took: float = 0.0


@dataclass
class _Task:
    number: int
    since: float = 0.0
    accepted_at: float = math.nan
    ended_at: float = math.nan
    called_at: float = math.nan
    waiter: Waiter | None = None
    told: bool = False


@dataclass
class Simulation:
    """One scenario, event by event."""

    scenario: Scenario
    now: float = 0.0
    _events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        scenario = self.scenario
        self.random = random.Random(scenario.seed)
        random.seed(scenario.seed)
        self.queues = [SlotQueue(limit=scenario.limit) for _ in range(scenario.triggerers)]
        self.durations = [Durations() for _ in range(scenario.triggerers)]
        self.tasks = [_Task(number) for number in range(scenario.videos)]
        self.by_waiter: dict[Waiter, tuple[_Task, int]] = {}
        self.counts: Counter[str] = Counter()
        self.stand_by = 0.0
        self.busy = 0
        self.hint_at = -math.inf
        self.unfinished = scenario.videos
        #: When each of the ends was seen that were handed over and not taken.
        self.handed_over: list[float] = []

    def run(self) -> Result:
        """Simulate until all videos are finished."""
        began = time.monotonic()
        for task in self.tasks:
            self.after(task.number / self.scenario.arrivals, lambda task=task: self.first_run(task))
        for _ in range(self.scenario.others):
            self.after(0.0, self.other_user)
        self.after(1.0, self.tick)
        for triggerer in range(self.scenario.triggerers):
            self.after(triggerer / self.scenario.triggerers, lambda triggerer=triggerer: self.look(triggerer))
        while self._events and self.unfinished:
            self.now, _, event = heapq.heappop(self._events)
            event()
        return self.result(time.monotonic() - began)

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), do))

    def duration(self) -> float:
        return self.random.lognormvariate(math.log(self.scenario.seconds), self.scenario.sigma)

    def worker_start(self) -> float:
        return self.random.lognormvariate(math.log(START), START_SIGMA)

    # ---- the vendor

    def other_user(self) -> None:
        if self.busy < self.scenario.slots:
            self.busy += 1

            def end() -> None:
                self.busy -= 1
                self.after(self.random.expovariate(0.1), self.other_user)

            self.after(self.duration(), end)
        else:
            self.after(self.random.expovariate(0.1), self.other_user)

    # ---- a task in a worker

    def first_run(self, task: _Task) -> None:
        task.since = self.now
        limit = self.scenario.limit
        if self.now - self.hint_at < HINT_SECONDS or (limit is not None and task.number >= limit):
            self.wait(task)
        else:
            self.post(task)

    def post(self, task: _Task) -> None:
        self.counts["submits"] += 1
        if self.busy >= self.scenario.slots:
            self.counts["refusals"] += 1
            self.hint_at = self.now
            self.wait(task, refused_at=self.now)
            return
        self.busy += 1
        if any(self.queues):
            self.hint_at = self.now
        task.accepted_at = self.now
        triggerer = self.random.randrange(self.scenario.triggerers)
        seconds = self.duration()

        def end() -> None:
            task.ended_at = self.now
            self.busy -= 1

        self.after(seconds, end)
        self.after(DEFERRAL, lambda: self.watch(task, triggerer))

    def wait(self, task: _Task, refused_at: float | None = None) -> None:
        triggerer = self.random.randrange(self.scenario.triggerers)
        not_before = self.now + SHORTEST_DEFERRAL

        def join() -> None:
            def tell() -> None:
                self.after(SIGNAL / 2, lambda: setattr(task, "told", True))

            waiter = Waiter(task.number, since=task.since, not_before=not_before, tell=tell)
            self.by_waiter[waiter] = task, triggerer
            task.waiter = waiter
            self.queues[triggerer].join(waiter, now=self.now, refused_at=refused_at)
            self.decide(triggerer)

        self.counts["waits"] += 1
        self.after(DEFERRAL, join)

    def stand(self, task: _Task, triggerer: int, called_at: float) -> None:
        self.queues[triggerer].learn(self.now - called_at)
        began = self.now

        def look() -> None:
            if task.told:
                self.stand_by += self.now - began
                self.post(task)
            elif self.now - began >= LONGEST_STAND_BY:
                self.stand_by += self.now - began
                self.wait(task)
            else:
                self.after(0.5, look)

        look()

    # ---- a triggerer

    def watch(self, task: _Task, triggerer: int) -> None:
        queue, durations = self.queues[triggerer], self.durations[triggerer]
        delay = LearnedDelay(durations, is_awaited=lambda: len(queue) > 0)
        job = str(task.number)
        queue.started(
            job,
            task=task.number,
            started_at=task.accepted_at,
            now=self.now,
            expected=lambda: delay.expected(None),
            was_called=task.waiter is not None,
        )

        def check() -> None:
            self.counts["checks"] += 1
            if self.now >= task.ended_at:
                elapsed = self.now - task.accepted_at
                durations.learn(None, None, elapsed, {})
                queue.ended(job, now=self.now)
                self.unfinished -= 1
                self.decide(triggerer)
                seen = [self.now - age for age in queue.hand_over(now=self.now)]
                self.after(HANDOVER, lambda: self.handed_over.extend(seen))
            else:
                queue.seen(job)
                self.after(delay.next_check(self.now - task.accepted_at, None), check)

        self.after(max(delay.next_check(0.0, None) - (self.now - task.accepted_at), 0.0), check)

    def look(self, triggerer: int) -> None:
        """Take over the ends that other triggerers have handed over."""
        queue = self.queues[triggerer]
        if queue.has_other_triggerers(self.now) and len(queue) and self.handed_over:
            ages = (self.now - at for at in self.handed_over)
            queue.take_over([age for age in ages if age < LONGEST_HANDOVER], now=self.now)
            self.handed_over.clear()
            self.decide(triggerer)
        self.after(LOOK_INTERVAL, lambda: self.look(triggerer))

    def tick(self) -> None:
        for triggerer in range(self.scenario.triggerers):
            self.decide(triggerer)
        self.after(1.0, self.tick)

    def decide(self, triggerer: int) -> None:
        for call in self.queues[triggerer].calls(now=self.now):
            task, _ = self.by_waiter[call.waiter]
            if call.from_stand_by:
                call.waiter.tell()
            elif call.is_free:
                self.after(self.worker_start(), lambda task=task: self.post(task))
            else:
                task.told = False
                self.after(
                    self.worker_start(),
                    lambda task=task, at=self.now: self.stand(task, triggerer, at),
                )

    def result(self, took: float) -> Result:
        scenario, videos = self.scenario, self.scenario.videos
        first = min(task.accepted_at for task in self.tasks)
        last_accept = max(task.accepted_at for task in self.tasks)
        end = max(task.ended_at for task in self.tasks)
        used = sum(task.ended_at - task.accepted_at for task in self.tasks)
        steady = sum(min(task.ended_at, last_accept) - task.accepted_at for task in self.tasks)
        waited = sum(1 for task in self.tasks if task.waiter is not None)
        return Result(
            use=used / (scenario.slots * (end - first)),
            steady_use=steady / max(scenario.slots * (last_accept - first), 1e-9),
            refusals=self.counts["refusals"] / videos,
            extra_runs=(self.counts["waits"] - waited) / videos,
            stand_by=self.stand_by / videos,
            checks=self.counts["checks"] / videos,
            longest_wait=max(task.accepted_at - task.since for task in self.tasks),
            took=took,
        )


SCENARIOS = [
    *(Scenario(300, 5, seconds) for seconds in (60.0, 90.0, 180.0)),
    *(Scenario(1000, 20, seconds) for seconds in (60.0, 90.0, 180.0)),
    Scenario(3000, 100, 90.0),
    Scenario(300, 5, 60.0, limit=5),
    Scenario(300, 1, 90.0),
    Scenario(300, 5, 90.0, triggerers=2),
    Scenario(300, 5, 90.0, others=2),
]
LARGE = Scenario(100_000, 1000, 180.0, triggerers=10, arrivals=50.0)


def main() -> None:
    """Simulate all scenarios and print their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="without the one of 100,000 videos")
    options = parser.parse_args()
    found = {
        scenario: Simulation(scenario).run() for scenario in [*SCENARIOS, *([] if options.small else [LARGE])]
    }
    rows = [
        (
            scenario.name,
            f"{result.use:.1%}",
            f"{result.steady_use:.1%}",
            f"{result.refusals:.3f}",
            f"{result.extra_runs:.3f}",
            f"{result.stand_by:.1f} s",
            f"{result.checks:.1f}",
            f"{result.took:.1f} s",
        )
        for scenario, result in found.items()
    ]
    head = ("videos, jobs, slots", "in use", "until the last submit", "refusals", "extra worker runs", "stand-by")
    print(
        "All figures but the use are per video; the last column is what the simulation took. Extra worker runs are\n"
        "those beyond the first, the one that submits, and the one that finishes.\n"
    )
    print(table((*head, "status requests", "simulated in"), rows), end="\n\n")
    for scenario, result in found.items():
        if scenario.triggerers == 1 and not scenario.others and scenario.slots >= 5:
            least = 95 if scenario.seconds <= 60 else 97
            name = f"{scenario.name}: in use until the last submit"
            print(verdict(name, 100 * result.steady_use, least, at_most=False, unit=" %"))
            print(verdict(f"{scenario.name}: refusals", result.refusals, 0.05))
            print(verdict(f"{scenario.name}: extra worker runs", result.extra_runs, 0.3))


if __name__ == "__main__":
    main()
