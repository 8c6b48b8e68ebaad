# SPDX-License-Identifier: Apache-2.0
"""
The poll schedule: spend status requests where a finished video is likely.

The seconds between two checks that cost the fewest requests for a given mean delay fall with the square root of
the *hazard*: the chance that a job which still runs ends in the next second. It is taken from how long videos of
that model and length took in this process, and from the progress that the server reports, as far as progress has
proved to tell anything. Pure functions and plain statistics: time is passed in.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.api.job import VideoJob

#: Mean seconds between the end of a job and its being noticed that the schedule aims at; a check every 5 seconds
#: has 2.5. Jobs of many minutes may be noticed this fraction of their duration later.
AIM, AIM_FRACTION = 2.2, 0.01
SHORTEST, LONGEST = 2.0, 60.0
#: Seconds since the last look at a job after which its end is too uncertain to learn from, unless that look came
#: late in its life. Longer than any pause of this schedule.
LONGEST_GAP = LONGEST * 1.2
#: While nothing is learned, the next check comes after this fraction of the time elapsed at the latest.
GROWTH_UNLEARNED = 0.15

#: Before anything is learned: half of all videos within 100 s, and two thirds within 45 to 220 s.
_GUESS_MU, _GUESS_SIGMA, _GUESS_WEIGHT = math.log(100.0), 0.8, 4.0
_MIN_SIGMA = 0.05
#: Observations before a statistic is believed.
_ENOUGH = 5


@dataclass
class _Statistic:
    """Running mean and variance of logarithms (Welford)."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    def add(self, value: float) -> None:
        self.n += 1
        step = value - self.mean
        self.mean += step / self.n
        self.m2 += step * (value - self.mean)

    @property
    def sigma(self) -> float:
        return max(math.sqrt(self.m2 / max(self.n - 1, 1)), _MIN_SIGMA)


class Progress(NamedTuple):
    """Progress as first seen: percent, and the seconds since the submit."""

    percent: int
    elapsed: float


class Durations:
    """What one process has learned of how long jobs of one connection take."""

    def __init__(self) -> None:
        self._durations: dict[tuple[str | None, int | None], _Statistic] = {}
        #: By tens of percent, since progress seldom grows evenly: how far extrapolating it missed.
        self._progress: dict[int, _Statistic] = {}

    @property
    def learned(self) -> bool:
        """Whether anything is known of how long jobs take here."""
        known = self._durations.get((None, None))
        return known is not None and known.n >= _ENOUGH

    def learn(self, model: str | None, seconds: int | None, took: float, seen: Mapping[int, float]) -> None:
        """
        Take in a finished job.

        :param model: Its model.
        :param seconds: The length of its video, where known.
        :param took: Seconds from submit to end.
        :param seen: The progress that it reported on the way: percent, and when (seconds since the submit).
        """
        if took <= 0:
            return
        for key in {(model, seconds), (model, None), (None, None)}:
            self._durations.setdefault(key, _Statistic()).add(math.log(took))
        for report in starmap(Progress, seen.items()):
            if _tells(report):
                missed = math.log(took) - _extrapolated(report)
                self._progress.setdefault(report.percent // 10, _Statistic()).add(missed)

    def expected(self, model: str | None, seconds: int | None, progress: Progress | None) -> tuple[float, float]:
        """Return the log-normal (mu, sigma) of a job's whole duration."""
        mu, sigma = self._from_durations(model, seconds)
        if progress is None or not _tells(progress):
            return mu, sigma
        told = self._progress.get(progress.percent // 10)
        if told is None or told.n < _ENOUGH or told.sigma > sigma / 2:
            return mu, sigma
        weight, prior = told.sigma**-2, sigma**-2
        by_progress = _extrapolated(progress) + told.mean
        return (weight * by_progress + prior * mu) / (weight + prior), (weight + prior) ** -0.5

    def _from_durations(self, model: str | None, seconds: int | None) -> tuple[float, float]:
        for key in ((model, seconds), (model, None), (None, None)):
            known = self._durations.get(key)
            if known is not None and known.n >= _ENOUGH:
                break
        else:
            return _GUESS_MU, _GUESS_SIGMA
        total = known.n + _GUESS_WEIGHT
        mu = (known.n * known.mean + _GUESS_WEIGHT * _GUESS_MU) / total
        surprise = known.n * _GUESS_WEIGHT / total * (known.mean - _GUESS_MU) ** 2
        variance = (known.m2 + _GUESS_WEIGHT * _GUESS_SIGMA**2 + surprise) / total
        return mu, max(math.sqrt(variance), _MIN_SIGMA)


def next_check(elapsed: float, mu: float, sigma: float, *, longest: float = LONGEST) -> float:
    """
    Return the seconds to the next check, jittered so that jobs submitted together are not asked for together.

    :param elapsed: Seconds since the submit.
    :param mu: See :meth:`Durations.expected`.
    :param sigma: See :meth:`Durations.expected`.
    :param longest: Seconds that it may be away, before the jitter.
    """
    elapsed = max(elapsed, 0.0)
    # The next check lies where the integral of the hazard's square root has grown by the thrift.
    thrift = 2 * max(AIM, AIM_FRACTION * math.exp(mu)) / (math.exp(mu / 2) * _spread(round(sigma, 2)))
    step = max(0.5, elapsed * 0.02)
    waited = spent = 0.0
    while waited < longest:
        rate = math.sqrt(_hazard(elapsed + waited + step / 2, mu, sigma))
        if spent + rate * step >= thrift:
            waited += (thrift - spent) / rate
            break
        spent += rate * step
        waited += step
    return min(max(waited, SHORTEST), longest) * random.uniform(0.9, 1.1)


def _hazard(t: float, mu: float, sigma: float) -> float:
    """Return the hazard of a log-normal duration; one that is overdue is less and less certain to end soon."""
    late = math.log(t) - mu
    if late > 0:
        sigma += late / 2
    z = late / sigma
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return density / (t * sigma * 0.5 * math.erfc(z / math.sqrt(2)))


@lru_cache(maxsize=256)
def _spread(sigma: float) -> float:
    """
    Return the integral of ``sqrt(density * survival)`` over a log-normal duration of median 1.

    A schedule that spaces its checks by ``thrift / sqrt(hazard)`` has half of this times the thrift as its mean
    delay, and this over the thrift as its mean number of checks.
    """
    points = 120
    width = 12 / points
    total = 0.0
    for index in range(points):
        z = -6 + (index + 0.5) * width
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        total += math.sqrt(density * 0.5 * math.erfc(z / math.sqrt(2))) * math.exp(sigma * z / 2)
    return total * width * math.sqrt(sigma)


def _tells(report: Progress) -> bool:
    return 5 <= report.percent <= 95 and report.elapsed > 0


def _extrapolated(report: Progress) -> float:
    """Return the logarithm of the whole duration, if progress grew evenly."""
    return math.log(report.elapsed * 100 / report.percent)


@dataclass(frozen=True, slots=True)
class FixedDelay:
    """The schedule of a user who names the interval: that, and nothing else."""

    seconds: float

    def next_check(self, elapsed: float, job: VideoJob | None) -> float:
        """Return the seconds to the next check."""
        return self.seconds

    def ended(self, elapsed: float, job: VideoJob) -> None:
        """Learn nothing."""


class LearnedDelay:
    """
    The schedule that spends checks where a finished video is likely.

    :param durations: What this process has learned; it learns from this job too.
    :param video_seconds: The length of the video asked for, where known.
    :param model: The model asked for, where known; servers may tell it, but not before the first check.
    """

    def __init__(self, durations: Durations, video_seconds: int | None = None, model: str | None = None) -> None:
        self.durations = durations
        self.video_seconds = video_seconds
        self.model = model
        #: Percent, and when it was first seen (seconds since the submit).
        self.seen: dict[int, float] = {}
        self._looked_at = 0.0

    def next_check(self, elapsed: float, job: VideoJob | None) -> float:
        """Return the seconds to the next check."""
        if job is not None:
            self._looked_at = elapsed
            if job.progress is not None:
                self.seen.setdefault(job.progress, elapsed)
        last = Progress(*next(reversed(self.seen.items()))) if self.seen else None
        mu, sigma = self.durations.expected(self._model(job), self.video_seconds, last)
        # A guess is not worth a long silence: a server that makes videos in seconds shows it soon.
        longest = LONGEST if self.durations.learned else min(max(SHORTEST, elapsed * GROWTH_UNLEARNED), LONGEST)
        return next_check(elapsed, mu, sigma, longest=longest)

    def ended(self, elapsed: float, job: VideoJob) -> None:
        """Learn how long the job took, if it was looked at shortly before it ended."""
        if job.status == "completed" and elapsed - self._looked_at <= max(LONGEST_GAP, elapsed / 2):
            self.durations.learn(self._model(job), self.video_seconds, elapsed, self.seen)

    def _model(self, job: VideoJob | None) -> str | None:
        return self.model or (job.model if job else None)


Delay = FixedDelay | LearnedDelay


def delay_for(
    poll_interval: float | None,
    durations: Durations | None = None,
    video_seconds: int | None = None,
    model: str | None = None,
) -> Delay:
    """Return the fixed schedule of a user who names an interval (seconds), or else the learned one."""
    if poll_interval is not None:
        return FixedDelay(poll_interval)
    return LearnedDelay(Durations() if durations is None else durations, video_seconds, model)


#: What this process has learned, by connection; it outlives the clients.
_learned: dict[str, Durations] = {}


def learned_durations(conn_id: str) -> Durations:
    """Return what this process has learned of how long the jobs of a connection take."""
    return _learned.setdefault(conn_id, Durations())
