# SPDX-License-Identifier: Apache-2.0
"""The shots of a multi-shot video in the legacy standard, where each has a number and whole seconds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from airflow_provider_kling.exceptions import Problem
from airflow_provider_kling.utils.coerce import parse_number

DEFAULT_SECONDS = 5


class Shots(NamedTuple):
    """
    Shots with their seconds.

    :param shots: The ``multi_prompt`` of the body.
    :param seconds: The duration of the video.
    """

    shots: list[dict[str, Any]]
    seconds: int


def timed_shots(multi_prompt: list[Any], duration: int | None) -> Shots:
    """
    Return the shots with their number and seconds; :func:`shot_problems` must have found none.

    Shots without a duration share what the others leave, in whole seconds; the first get one more.

    :param multi_prompt: The shots, each an object or its prompt.
    :param duration: Seconds of the video; by default the sum of its shots, or 5 if one has no duration.
    """
    shots = [dict(shot) if isinstance(shot, Mapping) else {"prompt": shot} for shot in multi_prompt]
    known = [_seconds(shot) for shot in shots]
    total = _total(known, duration)
    shares = iter(_shares(total - sum(filter(None, known)), known.count(None)))
    lengths = [next(shares) if seconds is None else seconds for seconds in known]
    timed = [
        {**shot, "index": number, "duration": str(seconds)}
        for number, (shot, seconds) in enumerate(zip(shots, lengths, strict=True), start=1)
    ]
    return Shots(timed, total)


def shot_problems(multi_prompt: list[Any], duration: int | None) -> Iterator[Problem]:
    """Yield the problems of shots, whose arguments are those of :func:`timed_shots`."""
    known = []
    for number, shot in enumerate(multi_prompt):
        given = shot if isinstance(shot, Mapping) else {"prompt": shot}
        where = f"multi_prompt[{number}]"
        if not isinstance(given.get("prompt"), str):
            yield Problem(f"{where}.prompt", given.get("prompt"), "must be the text of the shot")
        if given.get("index", number + 1) not in (number + 1, str(number + 1)):
            yield Problem(
                f"{where}.index", given["index"], f"must be {number + 1}, its place in the list; leave it out"
            )
        seconds = _seconds(given)
        if given.get("duration") is not None and (seconds is None or seconds < 1):
            yield Problem(f"{where}.duration", given["duration"], "must be a whole number of seconds, at least 1")
            return
        known.append(seconds)
    total, untimed = _total(known, duration), known.count(None)
    left = total - sum(filter(None, known))
    if untimed and left < untimed:
        expected = f"leave {left} of {total} seconds to {untimed} shots without a duration, which need 1 each"
        yield Problem("multi_prompt", multi_prompt, expected)
    elif not untimed and left:
        yield Problem("duration", duration, f"must be the {total - left} seconds of all shots together")


def _total(known: list[int | None], duration: int | None) -> int:
    if duration is not None:
        return duration
    return DEFAULT_SECONDS if None in known else sum(filter(None, known))


def _seconds(shot: Mapping[str, Any]) -> int | None:
    number = parse_number(shot.get("duration"))
    return int(number) if number is not None and number == int(number) else None


def _shares(seconds: int, shots: int) -> list[int]:
    if not shots:
        return []
    least, more = divmod(seconds, shots)
    return [least + (place < more) for place in range(shots)]
