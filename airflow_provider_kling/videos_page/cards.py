# SPDX-License-Identifier: Apache-2.0
"""
What the Videos page shows of each video: decisions without Airflow or I/O, with time passed in.

Any DAG author can write an XCom, so every value may be of any type and size. What does not have the expected form
is left out, texts are cut, and numbers are kept within limits.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_kling.utils.signed_urls import expires_at, mask_signatures
from airflow_provider_kling.utils.text import as_mapping, clean_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: The XComs that only tasks of this package write.
OWN_KEYS = (
    "kling_task_id",
    "kling_submitted_at",
    "kling_estimated_cost",
    "kling_request",
    "kling_model",
    "kling_uncertain",
    "kling_error",
    "kling_progress",
)
#: All XComs that the page reads.
KEYS = (*OWN_KEYS, "video_url", "return_value")

#: Maximum length of a prompt, of another text, and of a name or an id.
MAX_PROMPT, MAX_TEXT, MAX_NAME = 5_000, 2_000, 250
MAX_URL = 4_096
#: Longest time that is shown, in seconds: a year.
_LONGEST = 366 * 86_400.0
_LATEST = 32_503_680_000.0  # the year 3000
_LARGEST_AMOUNT = 1e9
_MAX_UNITS = 8
#: Objects of a request that are searched for its fields.
_MAX_OBJECTS = 200
#: Characters that turn the direction of a text, or break its lines.
_UNSEEN = re.compile(r"[\x80-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_INTENT = re.compile(r"kling_adopt_[0-9a-f]{12}")
_RATIO = re.compile(r"[0-9]{1,4}:[0-9]{1,4}")
_SOUNDLESS = ("off", "false", "none", "no")


class Status(StrEnum):
    """What a video is at; the value is used in the page's markup and addresses."""

    NOT_STARTED = "not_started"
    STARTING = "starting"
    WAITING_FOR_SLOT = "waiting_for_slot"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    STORING = "storing"
    SUBMITTED = "submitted"
    RETRYING = "retrying"
    UNCERTAIN = "uncertain"
    MADE = "made"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def label(self) -> str:
        return _LABELS[self]

    @property
    def group(self) -> Group:
        return _GROUPS[self]


class Group(StrEnum):
    """The statuses as the totals and the filter put them together."""

    MADE = "made"
    IN_PROGRESS = "in_progress"
    WAITING_FOR_SLOT = "waiting_for_slot"
    UNCERTAIN = "uncertain"
    FAILED = "failed"
    OTHER = "other"

    @property
    def label(self) -> str:
        return _GROUP_LABELS[self]


_LABELS = {
    Status.NOT_STARTED: "Not started",
    Status.STARTING: "Submitting",
    Status.WAITING_FOR_SLOT: "Waiting for a slot",
    Status.QUEUED: "Queued at Kling",
    Status.IN_PROGRESS: "Being made",
    Status.STORING: "Being stored",
    Status.SUBMITTED: "Submitted",
    Status.RETRYING: "Waiting to retry",
    Status.UNCERTAIN: "Needs a decision",
    Status.MADE: "Made",
    Status.FAILED: "Failed",
    Status.SKIPPED: "Skipped",
}
_GROUPS = {
    Status.NOT_STARTED: Group.OTHER,
    Status.STARTING: Group.IN_PROGRESS,
    Status.WAITING_FOR_SLOT: Group.WAITING_FOR_SLOT,
    Status.QUEUED: Group.IN_PROGRESS,
    Status.IN_PROGRESS: Group.IN_PROGRESS,
    Status.STORING: Group.IN_PROGRESS,
    Status.SUBMITTED: Group.OTHER,
    Status.RETRYING: Group.IN_PROGRESS,
    Status.UNCERTAIN: Group.UNCERTAIN,
    Status.MADE: Group.MADE,
    Status.FAILED: Group.FAILED,
    Status.SKIPPED: Group.OTHER,
}
_GROUP_LABELS = {
    Group.MADE: "Made",
    Group.IN_PROGRESS: "In progress",
    Group.WAITING_FOR_SLOT: "Waiting for a slot",
    Group.UNCERTAIN: "Needs a decision",
    Group.FAILED: "Failed",
    Group.OTHER: "Others",
}
#: Of several tasks of one video, the one with the first of these statuses decides.
_DECISIVE = (
    Status.UNCERTAIN,
    Status.FAILED,
    Status.RETRYING,
    Status.STORING,
    Status.IN_PROGRESS,
    Status.QUEUED,
    Status.WAITING_FOR_SLOT,
    Status.STARTING,
    Status.MADE,
    Status.SUBMITTED,
    Status.NOT_STARTED,
    Status.SKIPPED,
)
_PHASES = {
    "waiting_for_slot": Status.WAITING_FOR_SLOT,
    "queued": Status.QUEUED,
    "in_progress": Status.IN_PROGRESS,
}


@dataclass(frozen=True)
class TaskRow:
    """
    A task instance and its XComs.

    :param operator: The name of its operator class, or the name that the class chose for the UI.
    :param label: The label of a mapped task instance, if it has one.
    :param xcoms: Its XComs by key, of :data:`KEYS`.
    :param unread: Why some of its XComs could not be read; None if all were.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    state: str | None = None
    operator: str = ""
    label: str | None = None
    xcoms: Mapping[str, Any] = field(default_factory=dict)
    unread: str | None = None


class Amount(NamedTuple):
    """
    A cost.

    :param unit: A currency, or the vendor's own unit.
    """

    value: float
    unit: str


class Failure(NamedTuple):
    """
    Why a task failed.

    :param task_id: The task.
    :param happened: What happened.
    :param server_says: The server's own words, if there are any.
    :param advice: What to do.
    """

    task_id: str
    happened: str
    server_says: str | None
    advice: str | None


class Uncertain(NamedTuple):
    """
    A submit of unknown fate.

    :param name: The Airflow Variable for a person's decision.
    :param sent_at: When it was sent (epoch seconds), if known.
    :param conn_id: The connection with which it was sent, if known.
    """

    task_id: str
    map_index: int
    name: str
    sent_at: float | None
    conn_id: str | None


class StoredCopy(NamedTuple):
    """A stored file, and the task instance whose result names it."""

    path: str
    task_id: str
    map_index: int


@dataclass(frozen=True)
class Card:
    """
    One video.

    :param task_id: The task that stands for it: the one that submitted it, if it is in this run.
    :param status: What it is at.
    :param percent: How much of it is made, if the vendor reports it.
    :param sound: Whether it has sound; None if unknown.
    :param queue_seconds: Seconds from the submit to the beginning of the work; so far, if that has not begun.
    :param making_seconds: Seconds of the work; so far, if it has not ended.
    :param cost: What was billed or, if that is not known, the estimate.
    :param video_url: The vendor's URL of the finished video. It may hold a signature.
    :param has_expired: Whether that URL has expired.
    :param tasks: The other tasks of this video, with their states.
    :param members: The task and map index of each task instance of this video.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    status: Status
    label: str | None = None
    percent: int | None = None
    kling_task_id: str | None = None
    prompt: str | None = None
    model: str | None = None
    seconds: float | None = None
    sound: bool | None = None
    ratio: str | None = None
    queue_seconds: float | None = None
    making_seconds: float | None = None
    cost: tuple[Amount, ...] = ()
    is_estimate: bool = False
    stored: StoredCopy | None = None
    video_url: str | None = None
    has_expired: bool = False
    failure: Failure | None = None
    uncertain: Uncertain | None = None
    tasks: tuple[tuple[str, str], ...] = ()
    members: tuple[tuple[str, int], ...] = ()
    unread: str | None = None

    @property
    def key(self) -> str:
        """A short id for the markup: letters and digits only."""
        parts = "\0".join((self.dag_id, self.run_id, self.task_id, str(self.map_index)))
        return "c" + hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()[:16]

    @property
    def is_unfinished(self) -> bool:
        """Whether the card may change without anybody's doing."""
        return self.status.group in {Group.IN_PROGRESS, Group.WAITING_FOR_SLOT} or (
            self.status is Status.NOT_STARTED and self.failure is None
        )


@dataclass(frozen=True)
class Totals:
    """
    The totals of several videos.

    :param counts: Number of videos by group.
    :param seconds: Seconds of all videos that were made.
    :param cost: What all submitted videos cost, by unit.
    :param is_estimate: Whether an estimate is part of it.
    :param unknown_cost: Number of submitted videos whose cost is not known.
    """

    counts: Mapping[Group, int]
    seconds: float
    cost: tuple[Amount, ...]
    is_estimate: bool
    unknown_cost: int

    @property
    def videos(self) -> int:
        return sum(self.counts.values())


def totals_of(cards: Iterable[Card]) -> Totals:
    """Return the totals of these videos."""
    counts = dict.fromkeys(Group, 0)
    cost: dict[str, float] = {}
    seconds, estimated, unknown = 0.0, False, 0
    for card in cards:
        counts[card.status.group] += 1
        if card.status is Status.MADE:
            seconds += card.seconds or 0.0
        # What is not proven unspent counts as spent.
        if card.kling_task_id is not None or card.uncertain is not None:
            unknown += not card.cost
            estimated = estimated or (card.is_estimate and bool(card.cost))
            for amount in card.cost:
                cost[amount.unit] = cost.get(amount.unit, 0.0) + amount.value
    amounts = tuple(Amount(round(value, 9), unit) for unit, value in sorted(cost.items()))
    return Totals(counts, seconds, amounts, estimated, unknown)


def matching(cards: Iterable[Card], *, group: str = "", model: str = "", text: str = "") -> list[Card]:
    """
    Return the cards that a filter selects.

    :param group: The value of a :class:`Group`; empty for all.
    :param model: The model; empty for all.
    :param text: Words that the prompt, the label or the id contains, in any case; empty for all.
    """
    words = text.casefold().split()
    return [
        card
        for card in cards
        if (not group or card.status.group == group)
        and (not model or card.model == model)
        and all(word in _searched(card) for word in words)
    ]


def _searched(card: Card) -> str:
    texts = (card.prompt, card.label, card.kling_task_id, card.task_id)
    return "\n".join(text for text in texts if text).casefold()


def cards_of(rows: Sequence[TaskRow], now: float) -> list[Card]:
    """
    Return the videos of these tasks, in the order of the rows.

    Tasks with the same Kling task id, in the same run, share a card. A sensor or a transfer that has not
    reported its id yet has none: its video is the card of the task that submitted it.

    :param rows: The task instances.
    :param now: The time now (epoch seconds).
    """
    places: dict[tuple[str, str, str], int] = {}
    groups: list[list[TaskRow]] = []
    for row in rows:
        kling_task_id = kling_task_id_of(row)
        if kling_task_id is None:
            if makes_videos(row) or set(row.xcoms) & set(OWN_KEYS):
                groups.append([row])
            continue
        place = places.setdefault((row.dag_id, row.run_id, kling_task_id), len(groups))
        if place == len(groups):
            groups.append([])
        groups[place].append(row)
    return [_card(group, now) for group in groups]


def makes_videos(row: TaskRow) -> bool:
    """Return whether a task submits videos, by its operator: sensors and transfers do not."""
    name = row.operator.lower()
    return "kling" in name and "sensor" not in name and not _stores(row)


def _stores(row: TaskRow) -> bool:
    return "objectstorage" in row.operator.lower()


def kling_task_id_of(row: TaskRow) -> str | None:
    """Return the id of the job that a task instance is about, as far as it is known."""
    result = row.xcoms.get("return_value")
    progress, failure = as_mapping(row.xcoms.get("kling_progress")), as_mapping(row.xcoms.get("kling_error"))
    candidates = (
        row.xcoms.get("kling_task_id"),
        as_mapping(result).get("kling_task_id"),
        result if makes_videos(row) else None,
        progress.get("kling_task_id"),
        failure.get("kling_task_id"),
    )
    return next((found for candidate in candidates if (found := _name(candidate))), None)


def _card(rows: list[TaskRow], now: float) -> Card:
    # The one that submitted stands for the video, whatever comes first by its name.
    rows = sorted(rows, key=lambda row: not makes_videos(row))
    statuses = [_status(row) for row in rows]
    status = min(statuses, key=_DECISIVE.index)
    first = rows[0]
    results = [as_mapping(row.xcoms.get("return_value")) for row in rows]
    card = Card(
        dag_id=first.dag_id,
        run_id=first.run_id,
        task_id=first.task_id,
        map_index=first.map_index,
        status=status,
        label=_name(first.label),
        kling_task_id=next((found for row in rows if (found := kling_task_id_of(row))), None),
        tasks=tuple((row.task_id, row.state or "not started") for row in rows[1:]),
        members=tuple((row.task_id, row.map_index) for row in rows),
        unread=next((row.unread for row in rows if row.unread), None),
    )
    card = _with_request(card, rows, results)
    card = _with_times(card, rows, results, now)
    card = _with_cost(card, rows, results)
    card = _with_file(card, rows, results, now)
    return _with_problem(card, list(zip(rows, statuses, strict=True)))


def _status(row: TaskRow) -> Status:
    xcoms, state = row.xcoms, row.state
    if state == "success":
        return _status_of_success(row)
    if state in {"failed", "upstream_failed", "up_for_retry"}:
        if _intent(xcoms.get("kling_uncertain")):
            return Status.UNCERTAIN
        return Status.RETRYING if state == "up_for_retry" else Status.FAILED
    if state in {"skipped", "removed"}:
        return Status.SKIPPED
    if state in {"running", "deferred", "up_for_reschedule", "restarting"} or (
        state in {"queued", "scheduled"} and xcoms.get("kling_progress") is not None
    ):
        return _status_of_work(row)
    return Status.NOT_STARTED


def _status_of_success(row: TaskRow) -> Status:
    if _url(row.xcoms.get("video_url")) or _url(as_mapping(row.xcoms.get("return_value")).get("video_url")):
        return Status.MADE
    if as_mapping(row.xcoms.get("return_value")).get("path"):
        return Status.MADE
    return Status.SUBMITTED if kling_task_id_of(row) else Status.SKIPPED


def _status_of_work(row: TaskRow) -> Status:
    xcoms = row.xcoms
    if _url(xcoms.get("video_url")) or _stores(row):
        return Status.STORING
    phase = _phase(xcoms.get("kling_progress"))
    if phase is not None and not (phase is Status.WAITING_FOR_SLOT and kling_task_id_of(row)):
        return phase
    # The triggerer has not reported yet.
    return Status.IN_PROGRESS if kling_task_id_of(row) else Status.STARTING


def _phase(progress: Any) -> Status | None:
    phase = as_mapping(progress).get("phase")
    return _PHASES.get(phase) if isinstance(phase, str) else None


def _with_request(card: Card, rows: list[TaskRow], results: list[Mapping[str, Any]]) -> Card:
    requests = [as_mapping(row.xcoms.get("kling_request")) for row in rows]
    requests += [as_mapping(result.get("request")) for result in results]
    uncertain = [as_mapping(row.xcoms.get("kling_uncertain")) for row in rows]
    request = next(filter(None, requests), {})
    fields = _fields(request)
    made = next((result for result in results if result.get("path")), {})
    width, height = _number(made.get("width"), 1, 100_000), _number(made.get("height"), 1, 100_000)
    prompts = (_prompt(request), *(entry.get("prompt") for entry in uncertain))
    models = (
        *(row.xcoms.get("kling_model") for row in rows),
        fields.get("model"),
        fields.get("model_name"),
        *(result.get("model") for result in results),
        *(entry.get("model") for entry in uncertain),
    )
    seconds = (made.get("seconds"), fields.get("duration"), *(entry.get("seconds") for entry in uncertain))
    return replace(
        card,
        prompt=next((text for value in prompts if (text := _text(value, MAX_PROMPT))), None),
        model=next((name for value in models if (name := _name(value))), None),
        seconds=next((number for value in seconds if (number := _number(value, 0.1, 86_400)) is not None), None),
        sound=_sound(made, fields),
        ratio=_ratio(fields.get("aspect_ratio"), width, height),
    )


def _prompt(request: Mapping[str, Any]) -> Any:
    """Return the prompt of a request, of the first shot where there are several."""
    for found in _objects(request):
        prompt = found.get("text") if found.get("type") == "prompt" else found.get("prompt")
        if isinstance(prompt, str) and prompt.strip():
            return prompt
    return None


def _fields(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a request and of the objects inside; the outer ones count first."""
    fields: dict[str, Any] = {}
    for found in _objects(request):
        for name, value in islice(found.items(), _MAX_OBJECTS):
            if isinstance(value, (str, int, float, bool)):
                fields.setdefault(name, value)
    return fields


def _objects(value: Any) -> Iterable[Mapping[str, Any]]:
    """Yield the objects in a value, the outer ones first, and not more than a few."""
    waiting = [value]
    for _ in range(_MAX_OBJECTS):
        if not waiting:
            return
        found = waiting.pop(0)
        if isinstance(found, Mapping):
            yield found
            waiting += islice(found.values(), _MAX_OBJECTS)
        elif isinstance(found, list):
            waiting += found[:_MAX_OBJECTS]


def _sound(made: Mapping[str, Any], fields: Mapping[str, Any]) -> bool | None:
    if isinstance(made.get("has_audio"), bool):
        return bool(made["has_audio"])
    for name in ("sound", "audio", "generate_audio"):
        value = fields.get(name)
        if isinstance(value, bool):
            return value
        if isinstance(value, str):
            return value.lower() not in _SOUNDLESS
    model = fields.get("model")
    # The gateways' names of models say it.
    if isinstance(model, str) and model.endswith(("-silent", "-audio")):
        return model.endswith("-audio")
    return None


def _ratio(asked: Any, width: float | None, height: float | None) -> str | None:
    if isinstance(asked, str) and _RATIO.fullmatch(asked):
        return asked
    if width is None or height is None:
        return None
    for wide, high in ((16, 9), (9, 16), (1, 1)):
        if abs(width / height - wide / high) < 0.02:
            return f"{wide}:{high}"
    return f"{width:.0f} x {height:.0f}"


def _with_times(card: Card, rows: list[TaskRow], results: list[Mapping[str, Any]], now: float) -> Card:
    progress = _latest([as_mapping(row.xcoms.get("kling_progress")) for row in rows])
    is_over = not card.is_unfinished or card.status is Status.STORING
    submitted = next(
        (
            at
            for value in (*(row.xcoms.get("kling_submitted_at") for row in rows), progress.get("submitted_at"))
            if (at := _moment(value)) is not None
        ),
        None,
    )
    begun, seen = _moment(progress.get("making_since")), _moment(progress.get("seen_at"))
    ended = next((at for result in results if (at := _iso(result.get("completed_at"))) is not None), None)
    ended = (ended if ended is not None else seen) if is_over else now
    percent = _number(progress.get("percent"), 0, 100) if card.status is Status.IN_PROGRESS else None
    if submitted is None:
        return replace(card, percent=None if percent is None else int(percent))
    return replace(
        card,
        percent=None if percent is None else int(percent),
        queue_seconds=_span(submitted, begun if begun is not None else None if is_over else now),
        making_seconds=_span(begun, ended),
    )


def _latest(found: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(found, key=lambda progress: _moment(progress.get("seen_at")) or 0.0, default={})


def _span(begin: float | None, end: float | None) -> float | None:
    return None if begin is None or end is None else min(max(0.0, end - begin), _LONGEST)


def _with_cost(card: Card, rows: list[TaskRow], results: list[Mapping[str, Any]]) -> Card:
    for result in results:
        billed = _amounts(as_mapping(result.get("billed")))
        if billed:
            return replace(card, cost=billed)
    estimates = [as_mapping(row.xcoms.get("kling_estimated_cost")) for row in rows]
    estimates += [{"amount": each.get("estimated_cost"), "currency": each.get("currency")} for each in results]
    for each in estimates:
        cost = _amounts({_name(each.get("currency")) or "": each.get("amount")})
        if cost:
            return replace(card, cost=cost, is_estimate=True)
    return card


def _amounts(by_unit: Mapping[str, Any]) -> tuple[Amount, ...]:
    found = []
    for name, value in islice(by_unit.items(), _MAX_UNITS):
        unit, amount = _name(name, 20), _number(value, 0, _LARGEST_AMOUNT)
        if unit and amount is not None:
            found.append(Amount(amount, unit))
    return tuple(found)


def _with_file(card: Card, rows: list[TaskRow], results: list[Mapping[str, Any]], now: float) -> Card:
    stored = None
    for row, result in zip(rows, results, strict=True):
        if path := _text(result.get("path"), MAX_TEXT):
            stored = StoredCopy(path, row.task_id, row.map_index)
    urls = [_url(row.xcoms.get("video_url")) for row in rows] + [_url(each.get("video_url")) for each in results]
    url = next(filter(None, urls), None)
    expiry = expires_at(url) if url else None
    return replace(card, stored=stored, video_url=url, has_expired=expiry is not None and expiry < now)


def _with_problem(card: Card, rows: list[tuple[TaskRow, Status]]) -> Card:
    uncertain, failure = None, None
    for row, status in rows:
        if status not in {Status.UNCERTAIN, Status.FAILED, Status.RETRYING}:
            continue
        if status is Status.UNCERTAIN and uncertain is None:
            entry = as_mapping(row.xcoms.get("kling_uncertain"))
            name = _intent(entry)
            sent_at, conn_id = _iso(entry.get("sent_at")), _name(entry.get("conn_id"))
            uncertain = Uncertain(row.task_id, row.map_index, name, sent_at, conn_id) if name else None
        if failure is None:
            failure = _failure(row)
    return replace(card, uncertain=uncertain, failure=failure)


def _failure(row: TaskRow) -> Failure:
    error = as_mapping(row.xcoms.get("kling_error"))
    happened = _text(error.get("happened"), MAX_TEXT)
    if happened is None:
        if row.state == "upstream_failed":
            return Failure(
                row.task_id, "A task before this one failed.", None, "See that task; nothing was bought."
            )
        return Failure(row.task_id, "The task failed; it did not report why.", None, "See the log of the task.")
    return Failure(
        row.task_id, happened, _text(error.get("server_says"), MAX_TEXT), _text(error.get("advice"), MAX_TEXT)
    )


def _intent(entry: Any) -> str:
    name = as_mapping(entry).get("name")
    return name if isinstance(name, str) and _INTENT.fullmatch(name) else ""


def _text(value: Any, limit: int) -> str | None:
    """Return a text without control characters and credentials, cut; None for what is no text."""
    if not isinstance(value, str):
        return None
    # Dropped rather than replaced: a character in its place would hide a signature from the masking.
    text = mask_signatures(_UNSEEN.sub("", clean_text(value[: 2 * limit]))).strip()
    return (text if len(text) <= limit else text[: limit - 1] + "…") or None


def _name(value: Any, limit: int = MAX_NAME) -> str | None:
    """Return a text of one line that is short enough to be a name or an id; None for anything else."""
    text = _text(value, limit) if isinstance(value, str) and len(value) <= limit else None
    return " ".join(text.split()) if text else None


def _number(value: Any, low: float, high: float) -> float | None:
    """Return a number within limits; None for anything else. A duration may be a text of digits."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(value) if low <= value <= high else None


def _moment(value: Any) -> float | None:
    return _number(value, 1, _LATEST)


def _iso(value: Any) -> float | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        return _moment(datetime.fromisoformat(value).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def _url(value: Any) -> str | None:
    """Return a URL that a browser may load a video from; None for anything else."""
    if not isinstance(value, str) or len(value) > MAX_URL or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        is_good = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None
    except ValueError:
        return None
    return value if is_good and "\\" not in value else None
