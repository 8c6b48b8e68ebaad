# SPDX-License-Identifier: Apache-2.0
"""
The submission decision: which job is bought, which is joined, and what may be sent again.

Each accepted submit is billed and none can be cancelled. So a record is written before the POST (*intent*) and
right after its answer (*submitted*, with the id), and whoever comes next reads it: a retry, a restarted worker, a
cleared task. The record outlives the process; this module decides on it and knows neither Airflow nor HTTP. Its
rules are few: a POST that may have been accepted is never sent again on a guess, and no id is ever forgotten.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from airflow_provider_kling.exceptions import (
    KlingConnectionError,
    KlingError,
    KlingNotFoundError,
    KlingServerError,
    KlingUncertainSubmissionError,
    shown,
)
from airflow_provider_kling.fingerprint import fingerprint_of as fingerprint_of  # noqa: PLC0414
from airflow_provider_kling.polling import VISIBILITY_GRACE

if TYPE_CHECKING:
    from airflow_provider_kling.wire.answer import VideoJob
    from airflow_provider_kling.wire.request import VideoRequest

OnClear = Literal["reuse", "resubmit"]
OnUncertain = Literal["fail", "resubmit"]

#: Attempts at a submit that was surely not accepted, within one run of the task: about half a minute together.
ATTEMPTS_IN_PLACE = 6
#: Attempts to write the id of a paid job down, before the task goes on with the id in memory alone.
ATTEMPTS_TO_RECORD = 5
#: Seconds to wait for a slot of the account: at first, and at most.
FIRST_SLOT_PAUSE, LONGEST_SLOT_PAUSE = 15.0, 300.0


def summary_of(request: VideoRequest) -> str:
    """Return a request as a person recognises it in the vendor's console."""
    text = " ".join((request.prompt or f"{len(request.multi_prompt or [])} shots").split())
    seconds = f"{request.duration} s, " if request.duration else ""
    return f"{request.model}, {seconds}“{text if len(text) <= 80 else text[:79] + '…'}”"


@dataclass(frozen=True, kw_only=True)
class Submission:
    """
    What is known of one purchase.

    :param fingerprint: Of the request and the connection.
    :param state: ``intent`` (a POST is under way, or its process died), ``uncertain`` (reported as such),
        ``refused`` (surely no job), ``submitted`` (a job with an id).
    :param at: When it was sent or, with an id, when the id arrived (epoch seconds).
    :param max_tries: Airflow's ``max_tries`` then: it stays on a retry and rises when a user clears the task.
    :param what: The request as a person recognises it.
    :param task_id: The id of the job.
    :param earlier: Ids of jobs that the same request bought before.
    """

    fingerprint: str
    state: Literal["intent", "uncertain", "refused", "submitted"]
    at: float
    max_tries: int
    what: str
    task_id: str | None = None
    earlier: tuple[str, ...] = ()


@dataclass
class Record:
    """All purchases of one task instance, the newest last: one for each request it ever had."""

    submissions: dict[str, Submission] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> Record:
        """
        Return the record that was stored.

        :raises KlingError: if this is no record; "unreadable" must never pass for "none".
        """
        if data is None:
            return cls()
        try:
            entries = [
                Submission(**{**entry, "earlier": tuple(entry["earlier"])}) for entry in data["submissions"]
            ]
        except (KeyError, TypeError) as error:
            raise KlingError(
                f"The record of this task's submits is unreadable ({shown(data)})",
                advice="Nothing was submitted. Remove the record if you know what the task has bought.",
            ) from error
        return cls({entry.fingerprint: entry for entry in entries})

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON."""
        entries = [{**asdict(entry), "earlier": list(entry.earlier)} for entry in self.submissions.values()]
        return {"submissions": entries}

    def put(self, entry: Submission) -> None:
        """Set the newest state of one purchase."""
        self.submissions.pop(entry.fingerprint, None)
        self.submissions[entry.fingerprint] = entry


class RecordStore(Protocol):
    """Where a record outlives its process. A failure to read raises; only a record never written is None."""

    @property
    def lasts(self) -> bool:
        """Whether the next attempt will find what is saved."""
        ...

    def load(self) -> Mapping[str, Any] | None: ...

    def save(self, record: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Purchase:
    """
    One wish for a video, and everything that decides how it is met.

    :param request: What to ask for.
    :param fingerprint: See :func:`fingerprint_of`.
    :param max_tries: Airflow's ``max_tries`` of the running attempt.
    :param on_clear: After a clear, join the job that was bought (``reuse``) or buy another (``resubmit``).
    :param on_uncertain: With a submit whose fate is unknown, ``fail`` or buy another (``resubmit``).
    :param adopt_hint: Tells, for a fingerprint, how a user hands over the id of a job found at the vendor.
    """

    request: VideoRequest
    fingerprint: str
    max_tries: int
    on_clear: OnClear = "reuse"
    on_uncertain: OnUncertain = "fail"
    adopt_hint: Callable[[str], str] = lambda fingerprint: f"hand over its id for {fingerprint}"


@dataclass(frozen=True)
class Obtained:
    """
    A job that is ours.

    :param task_id: Its id.
    :param submitted_at: When it was submitted (epoch seconds).
    :param job: Its state, where it is known.
    """

    task_id: str
    submitted_at: float
    job: VideoJob | None = None


class Submitter:
    """
    Meets one :class:`Purchase`: joins the job that an earlier attempt bought, or buys one.

    :param store: Where the record lives.
    :param send: Submits once; ``KlingHook.submit_video``.
    :param look: Asks for a job's state once; ``KlingHook.get_video``.
    :param adopted_id: Returns the id of a job that a user found at the vendor for a fingerprint, if one did.
    :param log: Takes a line for the task's log.
    :param now: The wall clock.
    :param sleep: Waits in place.
    """

    def __init__(
        self,
        *,
        store: RecordStore,
        send: Callable[[VideoRequest], VideoJob],
        look: Callable[[str], VideoJob],
        adopted_id: Callable[[str], str | None] = lambda fingerprint: None,
        log: Callable[[str], None] = lambda line: None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.send = send
        self.look = look
        self.adopted_id = adopted_id
        self.log = log
        self.now = now
        self.sleep = sleep
        self.record = Record()

    def obtain(self, purchase: Purchase) -> Obtained:
        """
        Return the job for a purchase.

        :raises KlingUncertainSubmissionError: if a submit's fate is unknown and nothing says to buy another.
        :raises KlingRateLimitError: if the account has no slot free; ask again later.
        :raises KlingError: any other refusal, by name; no job was made.
        """
        self.record = Record.from_json(self._load())
        known = self.record.submissions.get(purchase.fingerprint)
        self._look_at_others(purchase)
        if known is None and not self.store.lasts and (adopted := self.adopted_id(purchase.fingerprint)):
            # With nothing on record, the user's word is all there is of a submit whose answer was lost.
            known = self._new(purchase)
            return self._adopt(purchase, known, adopted)
        if known is None or known.state == "refused":
            return self._submit(purchase, known)
        cleared = purchase.max_tries != known.max_tries
        if known.state == "submitted":
            if cleared and purchase.on_clear == "resubmit":
                self.log(f"Cleared with on_clear='resubmit': not joining Kling task {known.task_id}")
                return self._submit(purchase, known)
            return self._join(purchase, known, cleared=cleared)
        return self._resolve(purchase, known, cleared=cleared)

    def _join(self, purchase: Purchase, known: Submission, *, cleared: bool) -> Obtained:
        """Return the job bought earlier; one that failed is bought again, unless it would only fail again."""
        task_id = known.task_id or ""
        job = self._state_of(known)
        if job is not None and job.status == "failed":
            failure = job.failure()
            if not failure.retryable and not cleared:
                raise failure
            self.log(f"{failure} Submitting again.")
            return self._submit(purchase, known)
        state = (job.status_word or job.status) if job else "in a state that could not be asked for"
        self.log(
            f"Joining Kling task {task_id}, which this task bought before ({state}). For a new video from the "
            "same request, set another take, or on_clear='resubmit' and clear the task"
        )
        if cleared:
            # From here on another attempt without another clear is a retry.
            self._note(replace(known, max_tries=purchase.max_tries))
        return Obtained(task_id, known.at, job)

    def _state_of(self, known: Submission) -> VideoJob | None:
        """Return the job's state, or None where only patience will tell it."""
        try:
            return self.look(known.task_id or "")
        except KlingNotFoundError as error:
            if self.now() - known.at < VISIBILITY_GRACE:
                return None
            error.advice = (
                f"It was submitted {_iso(known.at)} and may be gone at the vendor by now. For a new video, set "
                "another take, or on_clear='resubmit' and clear the task."
            )
            raise
        except KlingError as error:
            if not error.retryable:
                raise
            self.log(f"The state of Kling task {known.task_id} cannot be asked for now: {error}")
            return None

    def _resolve(self, purchase: Purchase, known: Submission, *, cleared: bool) -> Obtained:
        """Decide on a submit whose fate is unknown: adopt, buy again because a user said so, or stop."""
        adopted = self.adopted_id(purchase.fingerprint)
        if adopted and adopted not in known.earlier:
            return self._adopt(purchase, known, adopted)
        # Only a clear *after* the failure that reported it says "I looked": a clear may also have hit the submit.
        looked = known.state == "uncertain" and cleared
        if looked or purchase.on_uncertain == "resubmit":
            why = "the task was cleared since" if looked else "on_uncertain='resubmit'"
            self.log(
                f"The submit of {_iso(known.at)} has an unknown fate; {why}, and no job found at the vendor was "
                "named, so submitting again"
            )
            return self._submit(purchase, known)
        raise self._report(known, purchase)

    def _adopt(self, purchase: Purchase, known: Submission, task_id: str) -> Obtained:
        """Join the job that a user found at the vendor, once the server knows it."""
        try:
            job = self.look(task_id)
        except KlingNotFoundError as error:
            error.what = f"The server does not know Kling task {task_id}, which was named for adoption"
            hint = purchase.adopt_hint(known.fingerprint)
            error.advice = f"Correct it ({hint}) or take it back, and clear the task."
            raise
        self.log(f"Adopting Kling task {task_id}, which a user found at the vendor")
        self._note(replace(known, state="submitted", task_id=task_id, max_tries=purchase.max_tries))
        return Obtained(task_id, known.at, job)

    def _submit(self, purchase: Purchase, known: Submission | None) -> Obtained:
        """Buy a job: send, and send again in place only what was surely not accepted."""
        earlier = known.earlier if known else ()
        if known and known.task_id:
            earlier = (*earlier, known.task_id)
        attempt, sent_anew = 0, False
        while True:
            entry = self._new(purchase, earlier)
            self._note(entry)
            try:
                job = self.send(purchase.request)
            except KlingUncertainSubmissionError as error:
                if purchase.on_uncertain == "fail" or sent_anew:
                    raise self._report(entry, purchase, error) from error
                sent_anew = True
                self.log(f"{error.what}; on_uncertain='resubmit', so submitting once more, which may pay twice")
            except KlingError as error:
                refused = replace(entry, state="refused")
                self._note(refused)
                attempt += 1
                pause = pause_in_place(error, attempt)
                if pause is None:
                    raise
                self.log(f"{error} Nothing was bought; sending again in {pause:.0f} s ({attempt})")
                self.sleep(pause)
                self._refuse_to_overtake(refused)
            else:
                self._note_id(replace(entry, state="submitted", at=self.now(), task_id=job.task_id))
                return Obtained(job.task_id, self.now(), job)

    def _new(self, purchase: Purchase, earlier: tuple[str, ...] = ()) -> Submission:
        return Submission(
            fingerprint=purchase.fingerprint,
            state="intent",
            at=self.now(),
            max_tries=purchase.max_tries,
            what=summary_of(purchase.request),
            earlier=earlier,
        )

    def _refuse_to_overtake(self, ours: Submission) -> None:
        """
        Raise if another attempt has written since; one that Airflow takes for dead may be asleep here.

        :raises KlingError: saying so.
        """
        found = Record.from_json(self._load()).submissions.get(ours.fingerprint)
        if self.store.lasts and found != ours:
            raise KlingError(
                "Another attempt of this task has submitted meanwhile",
                advice="Nothing was sent again by this one.",
            )

    def _report(
        self, known: Submission, purchase: Purchase, cause: KlingError | None = None
    ) -> KlingUncertainSubmissionError:
        """Return the error for a submit of unknown fate, and note that a user was told."""
        error = _uncertain(known, purchase, cause)
        # Told first, noted second: a later clear counts as "I looked" only because somebody could know.
        self.log(str(error))
        self._note(replace(known, state="uncertain", max_tries=purchase.max_tries))
        return error

    def _load(self) -> Mapping[str, Any] | None:
        try:
            return self.store.load()
        except Exception as error:
            raise KlingError(
                f"The record of this task's submits cannot be read ({type(error).__name__}: {error})",
                advice="Nothing was submitted. A retry goes on once the record can be read again.",
            ) from error

    def _note(self, entry: Submission) -> None:
        self.record.put(entry)
        self.store.save(self.record.to_json())

    def _note_id(self, entry: Submission) -> None:
        """
        Write the id of a paid job down, whatever it takes.

        If it cannot be written, the attempt goes on with the id in memory: it is in the log, and in the trigger.
        The intent stays on record, so that a later attempt stops and asks rather than buys.
        """
        for attempt in range(1, ATTEMPTS_TO_RECORD + 1):
            try:
                return self._note(entry)
            except BaseException as error:
                self.log(f"Kling task {entry.task_id} is bought, but could not be recorded ({attempt}): {error!r}")
                if not isinstance(error, Exception):
                    raise
                if attempt < ATTEMPTS_TO_RECORD:
                    self.sleep(2.0 ** (attempt - 1))
        return None

    def _look_at_others(self, purchase: Purchase) -> None:
        """
        Say what this task bought for other requests; it bills on, and nobody else will say it.

        :raises KlingUncertainSubmissionError: if the fate of one is unknown and no user was told: a template that
            differs at every attempt must not bury it under the next purchase.
        """
        for other in self.record.submissions.values():
            if other.fingerprint == purchase.fingerprint or other.state == "refused":
                continue
            told = other.state == "uncertain" and other.max_tries != purchase.max_tries
            if other.state != "submitted" and not told and purchase.on_uncertain == "fail":
                raise self._report(other, purchase)
            job = f"as Kling task {other.task_id}" if other.task_id else "with an unknown fate"
            self.log(
                f"The request differs from {other.what}, which this task submitted {_iso(other.at)} {job}: that "
                "job is not joined"
            )


def pause_in_place(error: KlingError, attempt: int) -> float | None:
    """
    Return the seconds after which a submit may be sent again in place, or None if it may not.

    Only for what surely bought nothing: never reached the server, or refused by it for trouble of its own.

    :param error: How the submit ended.
    :param attempt: How many submits ended so, this one included.
    """
    if not isinstance(error, (KlingConnectionError, KlingServerError)) or attempt >= ATTEMPTS_IN_PLACE:
        return None
    return max(min(2.0 ** (attempt - 1), 16.0) * random.uniform(0.75, 1.25), min(error.retry_after or 0.0, 60.0))


def pause_for_slot(error: KlingError, refusals: int) -> float:
    """
    Return the seconds to wait for a slot of the account: growing, jittered, and no less than the server asks.

    :param error: The refusal, with its ``retry_after``.
    :param refusals: How many refusals in a row there were, this one included.
    """
    pause = min(FIRST_SLOT_PAUSE * 2.0 ** min(refusals - 1, 10), LONGEST_SLOT_PAUSE)
    return max(pause * random.uniform(0.75, 1.25), error.retry_after or 0.0)


def _uncertain(
    known: Submission, purchase: Purchase, error: KlingError | None = None
) -> KlingUncertainSubmissionError:
    if error is not None:
        how = error.what
    elif known.state == "uncertain":
        how = "an earlier attempt told why"
    else:
        how = "the process that sent it ended, or its store failed, before one was written"
    advice = (
        "It is not sent again on a guess. Look in the log of the earlier attempts, and in the vendor's console "
        "(task list, billing), for a job of that time. "
    )
    if known.fingerprint == purchase.fingerprint:
        hint = purchase.adopt_hint(known.fingerprint)
        advice += (
            "If there is none, clear this task: it then submits again. If there is one, "
            f"{hint}, then clear this task: it then joins that job."
        )
    else:
        advice += "The request has changed since; clear this task to submit it as it is now."
    return KlingUncertainSubmissionError(
        f"The submit of {known.what}, sent {_iso(known.at)}, may have been accepted and billed, but no task id is "
        f"on record: {how}",
        http_status=error.http_status if error else None,
        code=error.code if error else None,
        server_message=error.server_message if error else None,
        advice=advice,
    )


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, tz=UTC).isoformat(sep=" ", timespec="seconds")
