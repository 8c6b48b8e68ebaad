# SPDX-License-Identifier: Apache-2.0
"""
The poll schedule: check when a finished video is likely.

For a given mean delay, the fewest requests are needed if the interval between two checks is inversely proportional
to the square root of the *hazard*: the probability that a running job ends in the next second. The hazard is
estimated from how long videos of that model and length took in this process, and from the progress that the server
reports, if progress has proved to be a good predictor. Pure functions and plain statistics: time is passed in.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import starmap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_kling.api.job import VideoJob

#: The target of the schedule: the mean delay, in seconds, from the end of a job to the check that sees it. With a
#: check every 5 seconds it is 2.5. For jobs of many minutes the target is this fraction of their duration.
AIM, AIM_FRACTION = 2.2, 0.01
#: The same while a task waits for the slot of the job.
AIM_IF_AWAITED, AIM_FRACTION_IF_AWAITED = 1.0, 0.0075
SHORTEST, LONGEST = 2.0, 60.0
#: If the last check before the end of a job is more seconds ago than this, the end is too uncertain to learn from,
#: unless that check was late in the job's life. Longer than any pause of this schedule.
LONGEST_GAP = LONGEST * 1.2
#: Before anything is learned, the next check comes at the latest after this fraction of the elapsed time.
GROWTH_UNLEARNED = 0.15

#: The prior before anything is learned: half of all videos within 100 s, and two thirds within 45 to 220 s.
_GUESS_MU, _GUESS_SIGMA, _GUESS_WEIGHT = math.log(100.0), 0.8, 4.0
_MIN_SIGMA = 0.05
#: Minimum number of observations before a statistic is used.
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
    """A progress report: percent, and the seconds since the submit at which it was first seen."""

    percent: int
    elapsed: float


class Durations:
    """Durations of the jobs of one connection, as one process has observed them."""

    def __init__(self) -> None:
        self._durations: dict[tuple[str | None, int | None], _Statistic] = {}
        #: Error of the extrapolation from progress, by tens of percent, since progress seldom grows evenly.
        self._progress: dict[int, _Statistic] = {}

    @property
    def learned(self) -> bool:
        """Whether enough jobs have been observed to estimate durations."""
        known = self._durations.get((None, None))
        return known is not None and known.n >= _ENOUGH

    def learn(self, model: str | None, seconds: int | None, took: float, seen: Mapping[int, float]) -> None:
        """
        Add a finished job to the statistics.

        :param model: Its model.
        :param seconds: The length of its video, if known.
        :param took: Seconds from submit to end.
        :param seen: The progress reported meanwhile: percent, and when (seconds since the submit).
        """
        if took <= 0:
            return
        for key in {(model, seconds), (model, None), (None, None)}:
            self._durations.setdefault(key, _Statistic()).add(math.log(took))
        for report in starmap(Progress, seen.items()):
            if _is_usable(report):
                error = math.log(took) - _extrapolated(report)
                self._progress.setdefault(report.percent // 10, _Statistic()).add(error)

    def expected(self, model: str | None, seconds: int | None, progress: Progress | None) -> tuple[float, float]:
        """
        Return the log-normal distribution (mu, sigma) of a job's whole duration.

        :param model: Its model.
        :param seconds: The length of its video, if known.
        :param progress: The progress that was reported last, if any.
        """
        mu, sigma = self._from_durations(model, seconds)
        if progress is None or not _is_usable(progress):
            return mu, sigma
        error = self._progress.get(progress.percent // 10)
        if error is None or error.n < _ENOUGH or error.sigma > sigma / 2:
            return mu, sigma
        weight, prior = error.sigma**-2, sigma**-2
        by_progress = _extrapolated(progress) + error.mean
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


def next_check(
    elapsed: float, mu: float, sigma: float, *, longest: float = LONGEST, is_awaited: bool = False
) -> float:
    """
    Return the seconds to the next check, jittered so that jobs submitted together are not checked together.

    :param elapsed: Seconds since the submit.
    :param mu: See :meth:`Durations.expected`.
    :param sigma: See :meth:`Durations.expected`.
    :param longest: Maximum seconds to the next check, before the jitter.
    :param is_awaited: Whether a task waits for the slot of the job.
    """
    elapsed = max(elapsed, 0.0)
    # The next check is due when the integral of the hazard's square root has grown by this budget.
    least, fraction = (AIM_IF_AWAITED, AIM_FRACTION_IF_AWAITED) if is_awaited else (AIM, AIM_FRACTION)
    aim = max(least, fraction * math.exp(mu))
    budget = 2 * aim / (math.exp(mu / 2) * _spread(round(sigma, 2)))
    step = max(0.5, elapsed * 0.02)
    waited = integral = 0.0
    while waited < longest:
        rate = math.sqrt(_hazard(elapsed + waited + step / 2, mu, sigma))
        if integral + rate * step >= budget:
            waited += (budget - integral) / rate
            break
        integral += rate * step
        waited += step
    return min(max(waited, SHORTEST), longest) * random.uniform(0.9, 1.1)


def probability_of_end(elapsed: float, seconds: float, mu: float, sigma: float) -> float:
    """
    Return the probability that a running job ends soon.

    :param elapsed: Seconds since its submit.
    :param seconds: Within how many seconds.
    :param mu: See :meth:`Durations.expected`.
    :param sigma: See :meth:`Durations.expected`.
    """
    return 1 - math.exp(-seconds * _hazard(max(elapsed, 0.0) + seconds / 2, mu, sigma))


def _hazard(t: float, mu: float, sigma: float) -> float:
    """Return the hazard of a log-normal duration; for an overdue job, sigma grows with the lateness."""
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

    A schedule with intervals of ``budget / sqrt(hazard)`` has a mean delay of half this integral times the budget,
    and a mean number of checks of this integral divided by the budget.
    """
    points = 120
    width = 12 / points
    total = 0.0
    for index in range(points):
        z = -6 + (index + 0.5) * width
        density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        total += math.sqrt(density * 0.5 * math.erfc(z / math.sqrt(2))) * math.exp(sigma * z / 2)
    return total * width * math.sqrt(sigma)


def _is_usable(report: Progress) -> bool:
    return 5 <= report.percent <= 95 and report.elapsed > 0


def _extrapolated(report: Progress) -> float:
    """Return the logarithm of the whole duration, assuming that progress grows evenly."""
    return math.log(report.elapsed * 100 / report.percent)


@dataclass(frozen=True, slots=True)
class FixedDelay:
    """
    The schedule with a fixed interval, which the user has set.

    :param seconds: Seconds between two checks.
    :param durations: The durations that this process has observed; this job is added to them.
    :param video_seconds: The requested length of the video, if known.
    :param model: The requested model, if known.
    """

    seconds: float
    durations: Durations = field(default_factory=Durations)
    video_seconds: int | None = None
    model: str | None = None

    def next_check(self, elapsed: float, job: VideoJob | None) -> float:
        """Return the seconds to the next check."""
        return self.seconds

    def ended(self, elapsed: float, job: VideoJob) -> None:
        """Learn how long the job took."""
        if job.status == "completed":
            self.durations.learn(self.model or job.model, self.video_seconds, elapsed, {})

    def expected(self, job: VideoJob | None) -> tuple[float, float]:
        """Return the distribution of the job's whole duration, see :meth:`Durations.expected`."""
        return self.durations.expected(self.model or (job.model if job else None), self.video_seconds, None)


class LearnedDelay:
    """
    The schedule that checks when a finished video is likely.

    :param durations: The durations that this process has observed; this job is added to them.
    :param video_seconds: The requested length of the video, if known.
    :param model: The requested model, if known; a server may report it, but not before the first check.
    :param is_awaited: Returns whether a task waits for the slot of the job.
    """

    def __init__(
        self,
        durations: Durations,
        video_seconds: int | None = None,
        model: str | None = None,
        is_awaited: Callable[[], bool] = lambda: False,
    ) -> None:
        self.durations = durations
        self.is_awaited = is_awaited
        self.video_seconds = video_seconds
        self.model = model
        #: Percent, and when it was first seen (seconds since the submit).
        self.seen: dict[int, float] = {}
        self._last_check = 0.0

    def next_check(self, elapsed: float, job: VideoJob | None) -> float:
        """Return the seconds to the next check."""
        if job is not None:
            self._last_check = elapsed
            if job.progress is not None:
                self.seen.setdefault(job.progress, elapsed)
        mu, sigma = self.expected(job)
        # The prior does not justify a long pause: a server may make videos in seconds, as the first jobs will
        # show.
        longest = LONGEST if self.durations.learned else min(max(SHORTEST, elapsed * GROWTH_UNLEARNED), LONGEST)
        return next_check(elapsed, mu, sigma, longest=longest, is_awaited=self.is_awaited())

    def expected(self, job: VideoJob | None) -> tuple[float, float]:
        """Return the distribution of the job's whole duration, see :meth:`Durations.expected`."""
        last = Progress(*next(reversed(self.seen.items()))) if self.seen else None
        return self.durations.expected(self._model(job), self.video_seconds, last)

    def ended(self, elapsed: float, job: VideoJob) -> None:
        """Learn how long the job took, if it was checked shortly before it ended."""
        if job.status == "completed" and elapsed - self._last_check <= max(LONGEST_GAP, elapsed / 2):
            self.durations.learn(self._model(job), self.video_seconds, elapsed, self.seen)

    def _model(self, job: VideoJob | None) -> str | None:
        return self.model or (job.model if job else None)


Delay = FixedDelay | LearnedDelay


def delay_for(
    poll_interval: float | None,
    durations: Durations | None = None,
    video_seconds: int | None = None,
    model: str | None = None,
    is_awaited: Callable[[], bool] = lambda: False,
) -> Delay:
    """
    Return the fixed schedule if an interval is set, otherwise the learned one.

    :param poll_interval: The user's interval in seconds, or None.
    :param durations: The durations to learn from; new ones if None.
    :param video_seconds: The requested length of the video, if known.
    :param model: The requested model, if known.
    :param is_awaited: Returns whether a task waits for the slot of the job.
    """
    durations = Durations() if durations is None else durations
    if poll_interval is not None:
        return FixedDelay(poll_interval, durations, video_seconds, model)
    return LearnedDelay(durations, video_seconds, model, is_awaited)


#: The durations that this process has observed, by connection. They outlive the clients.
_learned: dict[str, Durations] = {}


def learned_durations(conn_id: str) -> Durations:
    """Return the durations that this process has observed for the jobs of a connection."""
    return _learned.setdefault(conn_id, Durations())
