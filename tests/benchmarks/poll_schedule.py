# SPDX-License-Identifier: Apache-2.0
"""Requests per video, and the delay until a finished video is noticed, against a check every 5 seconds.

A simulation with simulated time drives the objects that a triggerer drives: one ``Poller`` with a
``LearnedDelay`` for each video, all of one process sharing what it has learned. Videos are submitted at random,
one a second on average, into a process that knows nothing yet; it learns from each as it ends, never earlier.

Where a server tells no progress (or three steps, which tell next to nothing), there is a bound. If all that is
known of a video is how long its like take, no schedule can notice it as soon as a check every 5 seconds does with
less than a certain share of the requests: 73 % for durations that are log-normal with a sigma of 0.5. The table
gives the bound for each population; 55 % is beyond any schedule for the first two, and within reach of the third,
whose models vary less.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean, quantiles

from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.jobs.poll_schedule import Delay, Durations, FixedDelay, LearnedDelay
from airflow_provider_kling.jobs.polling import Finished, Poller
from tests.benchmarks.report import table, verdict

VIDEOS = 5000
FIXED = 5.0
PER_SECOND = 1.0
VIDEO_SECONDS = 5
#: Population -> model -> (median seconds, sigma of the logarithm).
POPULATIONS: dict[str, Mapping[str, tuple[float, float]]] = {
    "one model, median 90 s, sigma 0.5": {"a": (90, 0.5)},
    "four models, 45 to 180 s, sigma 0.5 each": {"a": (45, 0.5), "b": (75, 0.5), "c": (110, 0.5), "d": (180, 0.5)},
    "four models, 45 to 180 s, sigma 0.25 each": {
        "a": (45, 0.25),
        "b": (75, 0.25),
        "c": (110, 0.25),
        "d": (180, 0.25),
    },
}
Tell = Callable[[float], int | None]
#: What a server reports as progress when a job has done this fraction of its time.
PROGRESS: dict[str, Tell] = {
    "none": lambda done: None,
    "10, 20, 30 by status": lambda done: 10 if done < 0.05 else 20 if done < 0.15 else 30,
    "percent, even": lambda done: int(100 * done),
    "percent, uneven (f^1.3)": lambda done: int(100 * done**1.3),
}


@dataclass(frozen=True)
class Video:
    """A video to come: its model, when it is submitted, and how long it takes."""

    model: str
    submitted: float
    takes: float


@dataclass(frozen=True)
class Result:
    """What a schedule did: the requests for all videos, and how late each was noticed."""

    requests: int
    delays: list[float]

    @property
    def per_video(self) -> float:
        """Requests per video."""
        return self.requests / len(self.delays)


def videos_of(models: Mapping[str, tuple[float, float]]) -> list[Video]:
    """Return the videos of a population, the same ones at each call."""
    chance = random.Random(7)
    now = 0.0
    videos = []
    for _ in range(VIDEOS):
        now += chance.expovariate(PER_SECOND)
        model = chance.choice(list(models))
        median, sigma = models[model]
        videos.append(Video(model, now, chance.lognormvariate(math.log(median), sigma)))
    return videos


def simulate(videos: list[Video], tell: Tell, delay_of: Callable[[Video], Delay]) -> Result:
    """Wait for all videos at once, each with a schedule of its own, check by check in the order of time."""
    random.seed(3)
    pollers = [
        Poller(str(number), started_at=video.submitted, deadline=math.inf, delay=delay_of(video))
        for number, video in enumerate(videos)
    ]
    due = [(video.submitted, number) for number, video in enumerate(videos)]
    requests = 0
    delays = []
    while due:
        now, number = heapq.heappop(due)
        if now == videos[number].submitted:
            heapq.heappush(due, (now + pollers[number].first_pause(now=now), number))
            continue
        requests += 1
        decision = pollers[number].on_job(_answer(videos[number], now, tell), grace=GatewayApi.grace, now=now)
        if isinstance(decision, Finished):
            delays.append(now - videos[number].submitted - videos[number].takes)
        else:
            heapq.heappush(due, (now + decision.seconds, number))
    return Result(requests, delays)


def _learning(durations: Durations) -> Callable[[Video], Delay]:
    return lambda video: LearnedDelay(durations, VIDEO_SECONDS, video.model)


def _answer(video: Video, now: float, tell: Tell) -> VideoJob:
    done = (now - video.submitted) / video.takes
    if done >= 1:
        return VideoJob(
            kling_task_id="", status="completed", progress=100, model=video.model, video_url="https://"
        )
    return VideoJob(kling_task_id="", status="running", progress=tell(done), model=video.model)


def bound(models: Mapping[str, tuple[float, float]]) -> float:
    """
    Return the least share of fixed polling's requests that any schedule needs, if it knows each model's
    distribution and nothing more, at the same mean delay.

    With checks ``s(t)`` seconds apart, a video is noticed ``s/2`` late on average, and needs as many checks as the
    integral of ``survival/s``. The product of both is least where ``s`` falls with the square root of the hazard,
    and is then half the square of the integral of ``sqrt(density * survival)``; for a fixed interval it is half
    the mean duration.
    """
    spread = mean(_root_integral(median, sigma) for median, sigma in models.values())
    average = mean(median * math.exp(sigma**2 / 2) for median, sigma in models.values())
    return spread**2 / average


def _root_integral(median: float, sigma: float) -> float:
    width = 0.001
    total = 0.0
    for index in range(int(16 / width)):
        z = -8 + (index + 0.5) * width
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        survival = 0.5 * math.erfc(z / math.sqrt(2))
        # The integral over t = median * exp(sigma * z), with the density of t being that of z over sigma * t.
        total += math.sqrt(density * survival * sigma * median * math.exp(sigma * z)) * width
    return total


def main() -> None:
    """Simulate all populations with all kinds of progress and print their table."""
    rows = []
    notes = []
    for population, models in POPULATIONS.items():
        videos = videos_of(models)
        fixed = simulate(videos, PROGRESS["none"], lambda _: FixedDelay(FIXED))
        rows.append(_row(population, "any; a check every 5 s", fixed, fixed))
        for progress, tell in PROGRESS.items():
            learned = simulate(videos, tell, _learning(Durations()))
            rows.append(_row("", progress, learned, fixed))
            share = learned.requests / fixed.requests
            notes.append(verdict(f"{population}; progress {progress}:", 100 * share, 55, unit=" %"))
        least = bound(models)
        rows.append(("", "none; least that is possible", f"{least * fixed.per_video:.1f}", f"{least:.0%}", "", ""))
    print(f"{VIDEOS} videos each, {PER_SECOND:g} a second\n")
    head = ("population", "progress told", "requests per video", "to fixed", "mean delay", "95 % noticed within")
    print(table(head, rows), end="\n\n")
    print("\n".join(notes))


def _row(population: str, progress: str, result: Result, fixed: Result) -> tuple[str, ...]:
    return (
        population,
        progress,
        f"{result.per_video:.1f}",
        f"{result.requests / fixed.requests:.0%}",
        f"{mean(result.delays):.2f} s",
        f"{quantiles(result.delays, n=20)[-1]:.1f} s",
    )


if __name__ == "__main__":
    main()
