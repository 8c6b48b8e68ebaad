# SPDX-License-Identifier: Apache-2.0
"""
The submission logic against a world that refuses, loses answers, kills processes and loses its store.

The server keeps its own books, so what is asserted is what was really bought, not what the code believes.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import product
from threading import Condition, Thread
from typing import Any, ClassVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import (
    KlingBalanceError,
    KlingConnectionError,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
    KlingServerError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.jobs.consent import variable_name
from airflow_provider_kling.jobs.fingerprint import fingerprint_of
from airflow_provider_kling.jobs.journal import Journal, new_id
from airflow_provider_kling.jobs.submission import Submitter
from airflow_provider_kling.jobs.submit_request import SubmitRequest, SubmitResult


class Killed(BaseException):
    """SIGKILL: no handler of ours sees it as an Exception."""


class StoreDownError(Exception):
    """The record's place cannot be reached."""


REFUSALS = {
    "server trouble": KlingServerError,
    "no slot": KlingRateLimitError,
    "no money": KlingBalanceError,
    "not sent": KlingConnectionError,
}
#: How a submit ends: whether the gateway accepts it, and what it answers, are two things.
SUBMITS = (
    "accepted",
    "accepted, answer lost",
    "accepted, killed",
    "lost before acceptance",
    "killed before acceptance",
    *REFUSALS,
)
LOOKS = ("running", "completed", "failed", "failed for good", "network trouble", "killed")
WRITES = ("written", "written", "written", "written", "down", "killed before", "killed after")


@dataclass
class World:
    """The server's books, the store's content, and the dice."""

    durable: ClassVar[bool] = True
    data: st.DataObject
    stored: list[dict[str, Any]] = field(default_factory=list)
    #: What was accepted: the intent that was on record, its fingerprint, and the id.
    accepted: list[tuple[str, str, str]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    variables: dict[str, str] = field(default_factory=dict)
    calm: bool = False
    now: float = 1e9

    def roll(self, outcomes: tuple[str, ...], calm: str) -> str:
        outcome = calm if self.calm else self.data.draw(st.sampled_from(outcomes))
        event(outcome)
        return outcome

    def new_intent(self) -> str:
        return new_id()

    def load(self) -> list[dict[str, Any]]:
        if self.roll(("read", "read", "read", "down"), calm="read") == "down":
            raise StoreDownError
        return copy.deepcopy(self.stored)

    def append(self, entry: Any) -> None:
        outcome = self.roll(WRITES, calm="written")
        if outcome == "down":
            raise StoreDownError
        if outcome == "killed before":
            raise Killed
        self.stored.append(copy.deepcopy(entry))
        if outcome == "killed after":
            raise Killed

    def forget(self, intent: str) -> None:
        if self.roll(("done", "down"), calm="done") == "down":
            raise StoreDownError
        self.stored = [entry for entry in self.stored if entry["intent"] != intent]

    @contextmanager
    def connect(self) -> Iterator[World]:
        yield self

    def probe(self) -> None:
        if self.roll(("there", "there", "there", "absent"), calm="there") == "absent":
            raise KlingUnavailableError("a page")

    def submit(
        self, request: VideoRequest, *, age: Callable[[], float], client_token: str | None = None
    ) -> VideoJob:
        intent = max(self.journal.unknown(), key=lambda submit: submit.sent_at)
        outcome = self.roll(SUBMITS, calm="accepted")
        if outcome in REFUSALS:
            raise REFUSALS[outcome](outcome)
        if outcome == "killed before acceptance":
            raise Killed
        if outcome == "lost before acceptance":
            raise KlingUncertainSubmissionError(outcome)
        task_id = f"task_{len(self.accepted)}"
        self.accepted.append((intent.id, intent.fingerprint, task_id))
        if outcome == "accepted, killed":
            raise Killed
        if outcome == "accepted, answer lost":
            raise KlingUncertainSubmissionError(outcome)
        return VideoJob(kling_task_id=task_id, status="queued", raw_status="queued")

    def look(self, task_id: str) -> VideoJob:
        owner = next((owner for _, owner, accepted in self.accepted if accepted == task_id), None)
        if owner is None:
            raise KlingNotFoundError("no such task", kling_task_id=task_id)
        outcome = self.roll(LOOKS, calm="running")
        if outcome == "killed":
            raise Killed
        if outcome == "network trouble":
            raise KlingConnectionError(outcome)
        if outcome.startswith("failed"):
            self.failed[owner] += 1
            reason = "content policy" if outcome.endswith("good") else None
            return VideoJob(kling_task_id=task_id, status="failed", raw_status="failed", error=reason)
        return VideoJob(kling_task_id=task_id, status=outcome, raw_status=outcome)

    @property
    def journal(self) -> Journal:
        return Journal(self.stored)

    def tick(self) -> float:
        self.now += 1
        return self.now

    def attempt(self, purchase: SubmitRequest) -> SubmitResult:
        submitter = Submitter(
            store=self,
            connect=self.connect,
            get_job=self.look,
            grace=Grace(visibility=60.0, url=60.0),
            read_variable=self.variables.get,
            now=self.tick,
            sleep=lambda seconds: None,
        )
        return submitter.submit_or_join(purchase)


REQUESTS = [VideoRequest.build(model="kling-v3-std-silent", prompt=prompt) for prompt in ("a cat", "a dog")]


def purchase_of(
    request: VideoRequest,
    *,
    take: int = 1,
    max_tries: int = 1,
    on_clear: Any = "reuse",
    on_uncertain: Any = "fail",
) -> SubmitRequest:
    return SubmitRequest(
        video=request,
        fingerprint=fingerprint_of(request, conn_id="c", base_url="https://k", take=take),
        conn_id="c",
        dag_id="d",
        max_tries=max_tries,
        on_clear=on_clear,
        on_uncertain=on_uncertain,
    )


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_purchases_never_exceed_the_policy_and_no_id_is_on_no_record(data: st.DataObject) -> None:
    world = World(data)
    on_clear = data.draw(st.sampled_from(["reuse", "resubmit"]))
    on_uncertain = data.draw(st.sampled_from(["fail", "fail", "resubmit"]))
    max_tries, clears, words = 3, 0, Counter[str]()
    for _ in range(data.draw(st.integers(1, 9))):
        cleared = data.draw(st.booleans())
        max_tries, clears = max_tries + cleared, clears + cleared
        for submit in world.journal.unknown():
            said = data.draw(st.sampled_from(["nothing", "nothing", "none", "its job", "nonsense"]))
            job = next((task_id for intent, _, task_id in world.accepted if intent == submit.id), "none")
            word = {"none": "none", "its job": job, "nonsense": "what?"}.get(said)
            name = variable_name(submit.id)
            if word is not None and world.variables.get(name) != "none":
                world.variables[name] = word
                words[submit.fingerprint] += word == "none"
        request, take = data.draw(st.sampled_from(REQUESTS)), data.draw(st.integers(1, 2))
        purchase = purchase_of(
            request, take=take, max_tries=max_tries, on_clear=on_clear, on_uncertain=on_uncertain
        )
        obtained = None
        with suppress(KlingError, Killed):
            obtained = world.attempt(purchase)

        if obtained is not None:
            assert any(
                (owner, task_id) == (purchase.fingerprint, obtained.kling_task_id)
                for _, owner, task_id in world.accepted
            )
        submits = world.journal.submits
        for intent, _, task_id in world.accepted:
            assert submits[intent].fate in ("job", "unknown", "dismissed"), f"{task_id} is on no record"
        for fingerprint, bought in Counter(owner for _, owner, _ in world.accepted).items():
            purchases = 1 + world.failed[fingerprint] + (clears if on_clear == "resubmit" else 0)
            allowed = purchases * (2 if on_uncertain == "resubmit" else 1) + words[fingerprint]
            assert bought <= allowed, f"{bought} bought, {allowed} allowed"


@settings(max_examples=300, deadline=None)
@given(data=st.data(), clears=st.integers(0, 3))
def test_without_a_word_later_attempts_join_or_stop_whatever_happened_to_the_first(
    data: st.DataObject, clears: int
) -> None:
    world = World(data)
    with suppress(KlingError, Killed):
        world.attempt(purchase_of(REQUESTS[0]))
    stands = len(world.accepted)
    world.calm = True
    for attempt in range(1, 4):
        purchase = purchase_of(REQUESTS[0], max_tries=1 + min(attempt, clears))
        if world.journal.unknown():
            with pytest.raises(KlingUncertainSubmissionError, match=r"\nLook for it at the vendor"):
                world.attempt(purchase)
            assert len(world.accepted) == stands
        else:
            assert world.attempt(purchase).kling_task_id == world.accepted[-1][2]
            assert len(world.accepted) == max(stands, 1)


@given(data=st.data())
def test_the_state_does_not_depend_on_the_order_or_the_number_of_events(data: st.DataObject) -> None:
    world = World(data)
    for _ in range(data.draw(st.integers(1, 5))):
        with suppress(KlingError, Killed):
            world.attempt(purchase_of(data.draw(st.sampled_from(REQUESTS)), on_uncertain="resubmit"))
    events = data.draw(st.permutations(world.stored + world.stored[: data.draw(st.integers(0, 3))]))
    assert Journal(events).submits == Journal(world.stored).submits


# ---- two attempts at once -----------------------------------------------------------------------------------


class Stage:
    """Lets two threads take their steps in a given order."""

    def __init__(self, order: tuple[int, ...]) -> None:
        self._order = list(order)
        self._alive = {0, 1}
        self._changed = Condition()
        self._turn: int | None = None

    def step(self, who: int) -> None:
        """Wait for the turn of this thread; it lasts until the thread's next step, or its end."""
        with self._changed:
            self._release(who)
            self._changed.wait_for(lambda: self._turn in (None, who) and self._next() == who)
            if self._order:
                self._order.pop(0)
            self._turn = who

    def end(self, who: int) -> None:
        with self._changed:
            self._alive.discard(who)
            self._release(who)

    def _release(self, who: int) -> None:
        if self._turn == who:
            self._turn = None
        self._changed.notify_all()

    def _next(self) -> int:
        """Return whose turn it is; when the order is used up, or one has ended, the other goes on."""
        while self._order and self._order[0] not in self._alive:
            self._order.pop(0)
        return self._order[0] if self._order else min(self._alive)


class Shared:
    """One store and one server for two attempts, whose every operation is a step."""

    def __init__(self, stage: Stage, lost: tuple[bool, bool]) -> None:
        self.stage = stage
        self.lost = lost
        self.stored: list[dict[str, Any]] = []
        self.accepted: list[str] = []

    def seen_by(self, who: int) -> Any:
        shared = self

        class Seen:
            durable = True
            new_intent = staticmethod(new_id)

            def load(self) -> list[dict[str, Any]]:
                shared.stage.step(who)
                return copy.deepcopy(shared.stored)

            def append(self, entry: Any) -> None:
                shared.stage.step(who)
                shared.stored.append(copy.deepcopy(entry))

            def forget(self, intent: str) -> None:
                shared.stage.step(who)
                shared.stored = [entry for entry in shared.stored if entry["intent"] != intent]

            @contextmanager
            def connect(self) -> Iterator[Any]:
                yield self

            def probe(self) -> None:
                pass

            def submit(
                self, request: VideoRequest, *, age: Callable[[], float], client_token: str | None = None
            ) -> VideoJob:
                shared.stage.step(who)
                task_id = f"task_{len(shared.accepted)}"
                shared.accepted.append(task_id)
                if shared.lost[who]:
                    raise KlingUncertainSubmissionError("its response was lost")
                return VideoJob(kling_task_id=task_id, status="queued", raw_status="queued")

            def look(self, task_id: str) -> VideoJob:
                return VideoJob(kling_task_id=task_id, status="running", raw_status="running")

        return Seen()


def attempt_of(seen: Any) -> SubmitResult:
    submitter = Submitter(
        store=seen,
        connect=seen.connect,
        get_job=seen.look,
        grace=Grace(visibility=60.0, url=60.0),
        sleep=lambda seconds: None,
    )
    return submitter.submit_or_join(purchase_of(REQUESTS[0]))


def in_threads(stage: Stage, *attempts: Callable[[], SubmitResult]) -> list[SubmitResult | KlingError]:
    outcomes: dict[int, SubmitResult | KlingError] = {}

    def play(who: int) -> None:
        try:
            outcomes[who] = attempts[who]()
        except KlingError as error:
            outcomes[who] = error
        finally:
            stage.end(who)

    threads = [Thread(target=play, args=(who,)) for who in range(len(attempts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [outcomes[who] for who in sorted(outcomes)]


STEPS = 7
ORDERS = [order for order in product((0, 1), repeat=2 * STEPS) if sum(order) == STEPS]


@pytest.mark.parametrize("lost", list(product((False, True), repeat=2)))
def test_two_attempts_at_once_buy_one_video_in_every_order_of_their_steps(lost: tuple[bool, bool]) -> None:
    endings = Counter[str]()
    for order in ORDERS:
        stage = Stage(order)
        shared = Shared(stage, lost)
        first, second = (shared.seen_by(who) for who in (0, 1))
        outcomes = in_threads(
            stage, lambda first=first: attempt_of(first), lambda second=second: attempt_of(second)
        )
        assert len(outcomes) == 2
        assert len(shared.accepted) <= 1, f"{order}: bought {shared.accepted}"
        journal = Journal(shared.stored)
        for task_id in shared.accepted:
            recorded = any(task_id in submit.kling_task_ids for submit in journal.submits.values())
            assert recorded or journal.unknown(), f"{order}: {task_id} is on no record"
        endings.update(type(outcome).__name__ for outcome in outcomes)
        # Whatever happened, the next attempt joins, stops, or buys a video that was not bought.
        alone = shared.stage = Stage(())
        alone.end(1)
        [after] = in_threads(alone, lambda first=first: attempt_of(first))
        assert len(shared.accepted) == 1, order
        assert isinstance(after, SubmitResult) != bool(Journal(shared.stored).unknown()), (order, after)
    assert endings["KlingError"], "they met"
    if not any(lost):
        assert endings["SubmitResult"]
