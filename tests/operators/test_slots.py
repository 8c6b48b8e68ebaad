# SPDX-License-Identifier: Apache-2.0
"""What a task does before its submit where others wait for a slot of the account, and after it is called."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

from airflow_provider_kling.exceptions import KlingRateLimitError, KlingUncertainSubmissionError
from airflow_provider_kling.jobs.slot_queue import HINT_SECONDS
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.records import read_variable
from airflow_provider_kling.records.stores import RECORD_KEY
from airflow_provider_kling.records.waiting_hint import others_wait, report_waiting
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.triggers.kling import KlingSlotTrigger, KlingTaskTrigger
from tests.conftest import Connect, TaskLog
from tests.fixtures.attempts import variable_in
from tests.fixtures.requests import PROMPT
from tests.task_context import StateStore, TaskInstance, context


def operator(**arguments: Any) -> KlingGenerateOperator:
    return KlingGenerateOperator(
        task_id="video", **{"model": "kling-v3-std-silent", "prompt": PROMPT, "poll_interval": 0.1} | arguments
    )


def deferred_by(task: KlingGenerateOperator, ti: TaskInstance, **resumed: Any) -> TaskDeferred:
    start = task.submit_again if resumed else task.execute
    with pytest.raises(TaskDeferred) as caught:
        start(context(ti), **resumed)
    return caught.value


def test_one_that_is_refused_joins_it_and_tells_those_that_come_after_it(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "rate_limit"))
    first = deferred_by(operator(priority_weight=7), TaskInstance())
    assert isinstance(first.trigger, KlingSlotTrigger)
    assert (first.trigger.refused, first.trigger.priority) == (True, 7.0)
    assert first.trigger.model == "kling-v3-std-silent"
    second = deferred_by(operator(prompt="Another one."), TaskInstance(map_index=1))
    assert isinstance(second.trigger, KlingSlotTrigger)
    assert not second.trigger.refused
    assert first.trigger.since < second.trigger.since
    assert sandbox.requests["submit"] == 1


class WatchedStore(StateStore):
    """Calls a function with the kinds of the events on record, each time that they are written."""

    def __init__(self, watch: Callable[[list[str]], None] = lambda kinds: None) -> None:
        super().__init__()
        self.watch = watch

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        super().set(key, value, retention=retention)
        if key == RECORD_KEY:
            self.watch([event["event"] for event in value["events"]])


def tell_after(kind: str) -> Callable[[list[str]], None]:
    """Return a watch that says that others wait once the record ends with such an event."""
    return lambda kinds: report_waiting("kling_default", waiting=True) if kinds[-1:] == [kind] else None


def called() -> dict[str, Any]:
    """Return the event that calls a task to submit."""
    return {"status": "slot", "call": {"id": "c", "is_free": True, "waiting": 0, "at": time.time()}}


def test_one_that_is_told_while_it_records_its_submit_does_not_submit(sandbox: Sandbox, connected: str) -> None:
    """Many tasks of a batch start at once: one of them is refused while the others record theirs."""
    store = WatchedStore(tell_after("intent"))
    with pytest.raises(TaskDeferred) as caught:
        operator().execute(context(TaskInstance(), store))
    assert isinstance(caught.value.trigger, KlingSlotTrigger)
    assert not caught.value.trigger.refused
    assert sandbox.requests["submit"] == 0
    # Nothing that a person would have to decide on stays on record.
    operator().submit_again(context(TaskInstance(), store), called(), **(caught.value.kwargs or {}))
    assert sandbox.requests["submit"] == len(sandbox.ledger()) == 1


def test_one_that_is_refused_tells_others_as_soon_as_that_is_on_record(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "rate_limit"))
    seen: list[tuple[list[str], bool]] = []
    store = WatchedStore(lambda kinds: seen.append((kinds, others_wait("kling_default"))))
    with pytest.raises(TaskDeferred):
        operator().execute(context(TaskInstance(), store))
    assert seen == [(["intent"], False), (["intent", "refused"], False), ([], True)]


@pytest.mark.parametrize("when", ["it looks", "it tells"])
def test_one_that_is_interrupted_while_it_looks_or_tells_asks_nobody(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    store = WatchedStore()

    def interrupted(*_: Any, **__: Any) -> Any:
        raise AirflowTaskTimeout("too long")

    def look(conn_id: str) -> bool:
        if store:  # the second time: a submit is on record
            interrupted()
        return False

    with monkeypatch.context() as patched:
        if when == "it looks":
            patched.setattr("airflow_provider_kling.records.waiting_hint.others_wait", look)
        else:
            sandbox.add_fault(Fault("submit", "rate_limit"))
            patched.setattr("airflow_provider_kling.records.waiting_hint.write_hint", interrupted)
        with pytest.raises(AirflowTaskTimeout):
            operator().execute(context(TaskInstance(), store))
    assert sandbox.requests["submit"] == (when == "it tells")
    operator().execute(context(TaskInstance(try_number=2), store))
    assert len(sandbox.ledger()) == 1


def test_only_the_first_submit_of_a_task_gives_way_to_others(sandbox: Sandbox, connected: str) -> None:
    """A response that was lost is answered for by the task itself, whoever waits."""
    sandbox.add_fault(Fault("submit", "drop_after"))
    operator(on_uncertain="resubmit").execute(context(TaskInstance(), WatchedStore(tell_after("uncertain"))))
    assert sandbox.requests["submit"] == len(sandbox.ledger()) == 2


def test_a_submit_that_gives_way_does_not_use_up_the_consent_to_pay_twice(
    sandbox: Sandbox, connected: str
) -> None:
    sandbox.add_fault(Fault("submit", "drop_after", times=None))
    store = WatchedStore()
    with pytest.raises(KlingUncertainSubmissionError):
        operator().execute(context(TaskInstance(), store))
    store.watch = tell_after("intent")
    with pytest.raises(TaskDeferred) as caught:
        operator(on_uncertain="resubmit").execute(context(TaskInstance(try_number=2), store))
    assert len(sandbox.ledger()) == 1
    for _ in range(2):
        with pytest.raises(KlingUncertainSubmissionError):
            operator(on_uncertain="resubmit").submit_again(
                context(TaskInstance(try_number=2), store), called(), **(caught.value.kwargs or {})
            )
        assert len(sandbox.ledger()) == 2


@pytest.mark.parametrize("word", ["the job", None])
def test_a_submit_that_gave_way_and_stays_on_record_hides_no_other(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, word: str | None
) -> None:
    """What a person says of the submit before it still counts, and without a word the task still asks."""
    sandbox.add_fault(Fault("submit", "drop_after"))
    store = WatchedStore()
    with pytest.raises(KlingUncertainSubmissionError) as first:
        operator().execute(context(TaskInstance(), store))

    def killed_before_it_is_removed(kinds: list[str]) -> None:
        if kinds[-1] == "intent":
            report_waiting("kling_default", waiting=True)
        elif kinds[-1] == "withdrawn":
            raise AirflowTaskTimeout("killed")

    store.watch = killed_before_it_is_removed
    with pytest.raises(AirflowTaskTimeout):
        operator(on_uncertain="resubmit").execute(context(TaskInstance(try_number=2), store))
    store.watch = lambda kinds: None
    [job] = sandbox.ledger()
    if word:
        decisions = {variable_in(first.value): job["id"]}
        monkeypatch.setattr("airflow_provider_kling.records.read_variable", decisions.get)
        operator().submit_again(context(TaskInstance(try_number=3), store), called())
    else:
        with pytest.raises(KlingUncertainSubmissionError):
            operator().submit_again(context(TaskInstance(try_number=3), store), called())
    assert len(sandbox.ledger()) == 1


@pytest.mark.parametrize("refused", [True, False])
def test_one_that_waits_says_for_what_and_for_how_long(
    sandbox: Sandbox, connected: str, task_log: TaskLog, *, refused: bool
) -> None:
    if refused:
        sandbox.add_fault(Fault("submit", "rate_limit"))
    else:
        report_waiting("kling_default", waiting=True)
    deferred_by(operator(submit_timeout=600), TaskInstance())
    assert "submits when kling_default has a free slot, and fails if it gets none for 600 s" in task_log.text


def test_one_that_was_called_submits_whoever_waits(sandbox: Sandbox, connected: str) -> None:
    report_waiting("kling_default", waiting=True)
    ti = TaskInstance()
    waiting = deferred_by(operator(), ti)
    assert sandbox.requests["submit"] == 0
    event = {"status": "slot", "call": {"id": "c", "is_free": True, "waiting": 3, "at": time.time() - 2.5}}
    task = operator(wait_for_completion=True)
    submitted = deferred_by(task, ti, event=event, **waiting.kwargs)
    assert isinstance(submitted.trigger, KlingTaskTrigger)
    assert submitted.trigger.call_latency == pytest.approx(2.5, abs=1)
    assert others_wait("kling_default")


def test_the_last_one_lets_new_tasks_submit_at_once(sandbox: Sandbox, connected: str) -> None:
    report_waiting("kling_default", waiting=True)
    event = {"status": "slot", "call": {"id": "c", "is_free": True, "waiting": 0, "at": time.time()}}
    operator().submit_again(context(TaskInstance()), event)
    assert not others_wait("kling_default")
    operator(prompt="Another one.").execute(context(TaskInstance(map_index=1)))
    assert sandbox.requests["accepted"] == 2


def test_an_old_hint_is_no_reason_to_wait(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report_waiting("kling_default", waiting=True)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + HINT_SECONDS + 1)
    operator().execute(context(TaskInstance()))
    assert sandbox.requests["accepted"] == 1


@pytest.mark.parametrize(("row", "waits"), [(1, False), (2, True)])
def test_a_row_beyond_the_slots_of_the_account_waits_for_those_before_it(
    sandbox: Sandbox, connect: Connect, row: int, waits: bool
) -> None:
    connect(sandbox.base_url, sandbox.api_key, max_concurrent_jobs=2)
    if waits:
        deferred = deferred_by(operator(), TaskInstance(map_index=row))
        assert isinstance(deferred.trigger, KlingSlotTrigger)
    else:
        operator().execute(context(TaskInstance(map_index=row)))
    assert sandbox.requests["submit"] == (not waits)


def test_a_job_that_was_bought_is_joined_whoever_waits(sandbox: Sandbox, connected: str) -> None:
    store = StateStore()
    bought = operator().execute(context(TaskInstance(), store=store))
    report_waiting("kling_default", waiting=True)
    assert operator().execute(context(TaskInstance(try_number=2), store=store)) == bought
    assert sandbox.requests["submit"] == 1


def test_one_that_stands_by_submits_when_it_is_told(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ti = TaskInstance()
    seen: list[int] = []

    def tell(_: float) -> None:
        seen.append(sandbox.requests["submit"])
        ti.pushed["kling_slot_call"] = "this call" if len(seen) == 3 else "an earlier call"

    monkeypatch.setattr(time, "sleep", tell)
    event = {"status": "slot", "call": {"id": "this call", "is_free": False, "waiting": 1, "at": time.time()}}
    operator().submit_again(context(ti), event)
    assert seen == [0, 0, 0]
    assert sandbox.requests["accepted"] == 1


def test_one_that_is_not_told_returns_to_its_place(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_kling.jobs.slot_queue.LONGEST_STAND_BY", 0.1)
    event = {"status": "slot", "call": {"id": "c", "is_free": False, "waiting": 1, "at": time.time()}}
    since = time.time() - 500
    deferred = deferred_by(operator(), TaskInstance(), event=event, since=since, refusals=0)
    assert isinstance(deferred.trigger, KlingSlotTrigger)
    assert (deferred.trigger.since, deferred.trigger.refused) == (since, False)
    assert sandbox.requests["submit"] == 0


def test_one_that_is_killed_while_it_stands_by_does_not_submit(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 3 calls ``on_kill``, and ends the process some seconds later."""
    ti, task = TaskInstance(), operator()

    def kill(_: float) -> None:
        task.on_kill()
        ti.pushed["kling_slot_call"] = "c"

    monkeypatch.setattr(time, "sleep", kill)
    event = {"status": "slot", "call": {"id": "c", "is_free": False, "waiting": 1, "at": time.time()}}
    assert isinstance(deferred_by(task, ti, event=event).trigger, KlingSlotTrigger)
    assert sandbox.requests["submit"] == 0


def test_one_that_was_never_called_fails_at_its_time_without_a_submit(sandbox: Sandbox, connected: str) -> None:
    task = operator(submit_timeout=60)
    with pytest.raises(
        KlingRateLimitError, match=r"no free slot; 1 refusals in \d+ s \(submit_timeout=60\)"
    ) as caught:
        task.submit_again(context(TaskInstance()), {"status": "no_slot"}, since=time.time() - 61, refusals=1)
    assert "Clear this task to wait anew, or raise submit_timeout." in caught.value.advice
    assert sandbox.requests["submit"] == 0


def test_one_that_was_not_called_because_a_clock_is_ahead_returns(sandbox: Sandbox, connected: str) -> None:
    deferred = deferred_by(
        operator(submit_timeout=60), TaskInstance(), event={"status": "no_slot"}, since=time.time() - 10
    )
    assert isinstance(deferred.trigger, KlingSlotTrigger)
    assert deferred.trigger.at_latest == pytest.approx(time.time() + 50, abs=5)


def test_a_backend_that_fails_is_no_reason_to_wait_or_to_fail(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no backend")

    monkeypatch.setattr("airflow_provider_kling.records.Variable.get", broken)
    monkeypatch.setattr("airflow_provider_kling.records.waiting_hint.read_variable", read_variable)
    monkeypatch.setattr("airflow_provider_kling.records.waiting_hint.Variable.set", broken)
    operator().execute(context(TaskInstance()))
    sandbox.add_fault(Fault("submit", "rate_limit"))
    deferred = deferred_by(operator(prompt="Another one."), TaskInstance(map_index=1))
    assert isinstance(deferred.trigger, KlingSlotTrigger)


def test_the_id_is_kept_before_others_are_told(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise AirflowTaskTimeout("too long")

    monkeypatch.setattr("airflow_provider_kling.records.waiting_hint.Variable.set", interrupted, raising=False)
    ti = TaskInstance()
    event = {"status": "slot", "call": {"id": "c", "is_free": True, "waiting": 3, "at": time.time()}}
    with pytest.raises(AirflowTaskTimeout):
        operator().submit_again(context(ti), event, since=time.time(), refusals=0)
    assert ti.pushed["kling_task_id"] == sandbox.ledger()[0]["id"]
