# SPDX-License-Identifier: Apache-2.0
"""
The submission logic against a world that refuses, loses answers, kills processes and loses its store.

The server keeps its own books, so what is asserted is what was really bought, not what the code believes.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from airflow_provider_kling.exceptions import (
    KlingBalanceError,
    KlingConnectionError,
    KlingContentRefusedError,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.submission import Purchase, Record, Submitter, fingerprint_of
from airflow_provider_kling.wire.answer import VideoJob
from airflow_provider_kling.wire.request import VideoRequest


class Killed(BaseException):
    """SIGKILL: no handler of ours sees it as an Exception."""


class StoreDownError(Exception):
    """The record's place cannot be reached."""


REFUSALS = {
    "server trouble": KlingServerError,
    "no slot": KlingRateLimitError,
    "no money": KlingBalanceError,
    "refused content": KlingContentRefusedError,
    "not sent": KlingConnectionError,
}
SENDS = (
    "accepted",
    "accepted, answer lost",
    "accepted, killed",
    "lost before acceptance",
    "killed before acceptance",
    *REFUSALS,
)
LOOKS = ("running", "completed", "failed", "failed for good", "network trouble", "killed")
SAVES = ("saved", "saved", "saved", "saved", "down", "killed before", "killed after")


@dataclass
class World:
    """The server's books, the store's content, and the dice."""

    lasts: ClassVar[bool] = True
    data: st.DataObject
    stored: dict[str, Any] | None = None
    accepted: list[tuple[str, str]] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)
    fingerprint: str = ""
    calm: bool = False

    def roll(self, outcomes: tuple[str, ...], calm: str) -> str:
        outcome = calm if self.calm else self.data.draw(st.sampled_from(outcomes))
        event(outcome)
        return outcome

    def load(self) -> dict[str, Any] | None:
        if self.roll(("read", "read", "read", "down"), calm="read") == "down":
            raise StoreDownError
        return copy.deepcopy(self.stored)

    def save(self, record: dict[str, Any]) -> None:
        outcome = self.roll(SAVES, calm="saved")
        if outcome == "down":
            raise StoreDownError
        if outcome == "killed before":
            raise Killed
        self.stored = copy.deepcopy(record)
        if outcome == "killed after":
            raise Killed

    def send(self, request: VideoRequest) -> VideoJob:
        outcome = self.roll(SENDS, calm="accepted")
        if outcome in REFUSALS:
            raise REFUSALS[outcome](outcome)
        if outcome == "killed before acceptance":
            raise Killed
        if outcome == "lost before acceptance":
            raise KlingUncertainSubmissionError(outcome)
        task_id = f"task_{len(self.accepted)}"
        self.accepted.append((self.fingerprint, task_id))
        if outcome == "accepted, killed":
            raise Killed
        if outcome == "accepted, answer lost":
            raise KlingUncertainSubmissionError(outcome)
        self.delivered.add(task_id)
        return VideoJob(task_id=task_id, status="queued", status_word="queued")

    def look(self, task_id: str) -> VideoJob:
        if task_id not in {accepted for _, accepted in self.accepted}:
            raise KlingNotFoundError("no such task", task_id=task_id)
        outcome = self.roll(LOOKS, calm="running")
        if outcome == "killed":
            raise Killed
        if outcome == "network trouble":
            raise KlingConnectionError(outcome)
        if outcome.startswith("failed"):
            self.failed.add(task_id)
            reason = "content policy" if outcome.endswith("good") else None
            return VideoJob(task_id=task_id, status="failed", status_word="failed", error=reason)
        return VideoJob(task_id=task_id, status=outcome, status_word=outcome)

    def recorded_ids(self) -> set[str]:
        entries = (self.stored or {"submissions": []})["submissions"]
        return {e["task_id"] for e in entries if e["task_id"]} | {i for e in entries for i in e["earlier"]}

    def state_of(self, fingerprint: str) -> str | None:
        entry = Record.from_json(self.stored).submissions.get(fingerprint)
        return entry.state if entry else None


REQUESTS = [VideoRequest.build(model="kling-v3-std-silent", prompt=prompt) for prompt in ("a cat", "a dog")]


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_nothing_is_bought_twice_and_no_id_is_forgotten(data: st.DataObject) -> None:
    world = World(data)
    on_clear = data.draw(st.sampled_from(["reuse", "resubmit"]))
    on_uncertain = data.draw(st.sampled_from(["fail", "fail", "resubmit"]))
    max_tries = 3
    reported: set[str] = set()  # fingerprints whose unknown fate a user has been told of
    bought_at: dict[str, int] = {}  # max_tries at the last purchase
    ever_recorded: set[str] = set()
    for _ in range(data.draw(st.integers(1, 8))):
        max_tries += data.draw(st.booleans())  # a clear
        request = data.draw(st.sampled_from(REQUESTS))
        take = data.draw(st.integers(1, 2))
        fingerprint = world.fingerprint = fingerprint_of(request, conn_id="c", base_url="https://k", take=take)
        before = len(world.accepted)
        state_before = world.state_of(fingerprint)
        bought_before = [task_id for owner, task_id in world.accepted if owner == fingerprint]

        def log(line: str, fingerprint: str = fingerprint) -> None:
            if "The request has changed since" in line:
                entries = Record.from_json(world.stored).submissions.values()
                reported.update(entry.fingerprint for entry in entries if entry.state in ("intent", "uncertain"))
            elif "may have been accepted and billed" in line:
                reported.add(fingerprint)

        submitter = Submitter(
            store=world, send=world.send, look=world.look, log=log, now=lambda: 1e9, sleep=lambda s: None
        )
        purchase = Purchase(
            request=request,
            fingerprint=fingerprint,
            max_tries=max_tries,
            on_clear=on_clear,
            on_uncertain=on_uncertain,
        )
        obtained = None
        with suppress(KlingError, StoreDownError, Killed):
            obtained = submitter.obtain(purchase)
        bought = world.accepted[before:]

        most = 2 if on_uncertain == "resubmit" else 1
        assert len(bought) <= most, "one attempt buys one job, and one more only if the user said so"
        assert all(owner == fingerprint for owner, _ in bought)
        if bought and bought_before:
            last = bought_before[-1]
            user_said_so = (
                (max_tries > bought_at[fingerprint] and on_clear == "resubmit")  # cleared since
                or on_uncertain == "resubmit"
                # The user was told that the fate is unknown, and cleared the task (now or in an attempt between).
                or (fingerprint in reported and state_before in ("uncertain", "refused", "intent"))
            )
            assert last in world.failed or user_said_so, "bought a second job that nobody asked for"
        if bought:
            bought_at[fingerprint] = max_tries
        if obtained is not None:
            assert (fingerprint, obtained.task_id) in world.accepted
            assert obtained.task_id in world.delivered

        now_recorded = world.recorded_ids()
        assert ever_recorded <= now_recorded, "an id that was on record is gone"
        ever_recorded |= now_recorded
        for owner, task_id in world.accepted:
            known = task_id in now_recorded or (obtained is not None and obtained.task_id == task_id)
            told = owner in reported or on_uncertain == "resubmit"
            assert known or told or world.state_of(owner) in ("intent", "uncertain"), (
                "a job that was bought is neither on record nor reported as uncertain"
            )


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_quiet_retry_after_any_first_attempt_joins_or_stops(data: st.DataObject) -> None:
    """Without a clear, a second attempt never adds a purchase to one that stands."""
    world = World(data)
    request = REQUESTS[0]
    world.fingerprint = fingerprint_of(request, conn_id="c", base_url="https://k")
    purchase = Purchase(request=request, fingerprint=world.fingerprint, max_tries=1)

    def attempt() -> str | None:
        submitter = Submitter(store=world, send=world.send, look=world.look, now=lambda: 1e9, sleep=lambda s: None)
        return submitter.obtain(purchase).task_id

    with suppress(KlingError, StoreDownError, Killed):
        attempt()
    stands = len(world.accepted)
    world.calm = True
    if world.state_of(world.fingerprint) in ("intent", "uncertain"):
        with pytest.raises(KlingUncertainSubmissionError, match="clear this task"):
            attempt()
        assert world.state_of(world.fingerprint) == "uncertain"
        assert len(world.accepted) == stands
    else:
        joined = attempt()
        assert len(world.accepted) == max(stands, 1)
        assert joined == world.accepted[-1][1]
