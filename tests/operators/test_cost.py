# SPDX-License-Identifier: Apache-2.0
"""What a video costs is estimated before it is bought; above ``max_cost`` nothing is bought."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred

from airflow_provider_kling.decorators.kling import kling_task
from airflow_provider_kling.exceptions import (
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import Connect, TaskLog
from tests.fixtures.attempts import Task, variable_in
from tests.fixtures.requests import PROMPT
from tests.rendering import rendered
from tests.task_context import StateStore, TaskInstance, context, event_of, run

MODEL = "kling-v3-std-silent"
PRICES = {"currency": "USD", MODEL: 0.084}
#: 0.42 USD.
VIDEO: dict[str, Any] = {"model": MODEL, "prompt": PROMPT, "duration": 5}


@pytest.fixture
def priced(sandbox: Sandbox, connect: Connect) -> str:
    return connect(sandbox.base_url, sandbox.api_key, connect_timeout=2, read_timeout=1, prices=PRICES)


def operator(**arguments: Any) -> KlingGenerateOperator:
    return KlingGenerateOperator(
        task_id="video", **VIDEO | {"poll_interval": 0.1, "timeout": 20, "wait_for_completion": True} | arguments
    )


class TestTheEstimate:
    @pytest.mark.parametrize("way", [{}, {"deferrable": False}], ids=["deferred", "blocking"])
    def test_is_logged_once_and_part_of_the_result(
        self, sandbox: Sandbox, priced: str, task_log: TaskLog, way: dict[str, Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3))
        video = run(operator(**way))
        assert (video["estimated_cost"], video["currency"], video["billed"]) == (0.42, "USD", None)
        assert task_log.text.count("Estimated cost: 0.42 USD") == 1

    def test_is_none_without_a_price(self, sandbox: Sandbox, connected: str, task_log: TaskLog) -> None:
        ti = TaskInstance()
        video = run(operator(), ti)
        assert (video["estimated_cost"], video["currency"]) == (None, None)
        assert "Estimated cost" not in task_log.text
        assert "kling_estimated_cost" not in ti.pushed
        assert ti.pushed["kling_model"] == MODEL

    def test_is_shown_to_whoever_decides_on_a_lost_submit(self, sandbox: Sandbox, priced: str) -> None:
        sandbox.add_fault(Fault("submit", "drop_after"))
        task = Task(**VIDEO)
        assert isinstance(task.until_it_ends(), KlingUncertainSubmissionError)
        assert task.ti.pushed["kling_estimated_cost"] == {"amount": 0.42, "currency": "USD"}

    def test_survives_a_crash_of_the_trigger(self, sandbox: Sandbox, priced: str) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3))
        ti, store = TaskInstance(), StateStore()

        @kling_task(model=MODEL, poll_interval=0.1, wait_for_completion=True)
        def idea() -> dict[str, Any]:
            return {"prompt": PROMPT, "duration": 5}

        with pytest.raises(TaskDeferred):
            idea().operator.execute(context(ti, store))
        resumed = idea().operator
        with pytest.raises(TaskDeferred) as deferred:
            resumed.resume_execution("__fail__", {"error": "Trigger failure"}, context(ti, store))
        video = idea().operator.execute_complete(context(ti, store), event_of(deferred.value))
        assert (video["estimated_cost"], video["currency"]) == (0.42, "USD")

    def test_is_not_logged_for_a_job_that_is_joined(
        self, sandbox: Sandbox, priced: str, task_log: TaskLog
    ) -> None:
        task = Task(**VIDEO, wait_for_completion=True)
        task.attempt()
        task.clear()
        task_log.lines.clear()
        task_log.standard.clear()
        assert task.attempt()["estimated_cost"] == 0.42
        assert "Estimated cost" not in task_log.text

    def test_is_not_logged_again_after_the_wait_for_a_slot(
        self, sandbox: Sandbox, priced: str, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.jobs.submit_pauses.pause_for_slot", lambda *_: 0.0)
        sandbox.add_fault(Fault("submit", "error", times=2, status=429, code=1303))
        run(operator(deferrable=False))
        assert task_log.text.count("Estimated cost") == 1


class TestTheLimit:
    @pytest.mark.parametrize("limit", [0.42, "0.42", 7])
    def test_lets_pass_what_costs_no_more(self, sandbox: Sandbox, priced: str, limit: Any) -> None:
        run(operator(max_cost=limit))
        assert len(sandbox.ledger()) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"duration": 6}, r"cost 0\.504 USD, more than max_cost=0\.42"),
            ({"model": "kling-v3", "duration": 6}, r"cost 0\.504 USD"),
            ({"model": "kling-v3", "sound": True}, "no price for this video.*'kling-v3-std-audio' or 'kling-v3'"),
        ],
    )
    def test_refuses_what_costs_more_or_has_no_price(
        self, sandbox: Sandbox, priced: str, arguments: dict[str, Any], words: str
    ) -> None:
        store = StateStore()
        with pytest.raises(KlingValidationError, match=f"(?s){words}.*max_cost") as caught:
            run(operator(**arguments, max_cost=0.42), TaskInstance(), store)
        assert isinstance(caught.value, AirflowFailException)
        assert set(sandbox.requests.values()) == {0}
        assert store == {}

    def test_needs_a_table(self, sandbox: Sandbox, connected: str) -> None:
        with pytest.raises(KlingValidationError, match="'kling_default' has no price"):
            run(operator(max_cost=9))
        assert sandbox.ledger() == []

    def test_holds_for_what_a_function_returns(self, sandbox: Sandbox, priced: str) -> None:
        @kling_task(model=MODEL, max_cost=0.42)
        def idea() -> dict[str, Any]:
            return {"prompt": PROMPT, "duration": 6}

        with pytest.raises(KlingValidationError, match="more than max_cost"):
            run(idea().operator)
        assert sandbox.ledger() == []

    @pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
    @pytest.mark.parametrize("template", ["{{ none }}", "{{ '' }}", "{{ 'much' }}", "{{ 0 }}"])
    def test_a_template_that_finds_none_does_not_lift_it(
        self, sandbox: Sandbox, priced: str, template: str, native: bool
    ) -> None:
        with DAG(
            "limits",
            schedule=None,
            start_date=datetime(2026, 1, 1),  # noqa: DTZ001
            render_template_as_native_obj=native,
            user_defined_macros={"none": None},
        ):
            task: Any = operator(max_cost=template)
        with pytest.raises(KlingValidationError, match="max_cost=.*: must be a positive number"):
            run(rendered(task).task)
        assert sandbox.ledger() == []

    def test_may_be_a_template(self, sandbox: Sandbox, priced: str) -> None:
        with DAG("limits", schedule=None, start_date=datetime(2026, 1, 1)):  # noqa: DTZ001
            task: Any = operator(max_cost="{{ 0.4 }}")
        with pytest.raises(KlingValidationError, match=r"more than max_cost=0\.4"):
            run(rendered(task).task)

    def test_may_be_mapped(self, sandbox: Sandbox, priced: str) -> None:
        mapped = KlingGenerateOperator.partial(task_id="video", **VIDEO).expand(max_cost=[0.1, 1])
        with pytest.raises(KlingValidationError, match="more than"):
            run(mapped.unmap({"max_cost": 0.1}))
        assert run(mapped.unmap({"max_cost": 1}))
        assert len(sandbox.ledger()) == 1


class TestWhatIsPaidAlready:
    """A limit stops a purchase, and nothing else."""

    def test_is_joined_whatever_it_costs(self, sandbox: Sandbox, priced: str, connect: Connect) -> None:
        task = Task(**VIDEO)
        bought = task.attempt()
        task.clear()
        task.arguments["max_cost"] = 0.01
        assert task.attempt() == bought
        task.arguments["max_cost"] = "{{ no number }}"
        assert task.attempt() == bought
        connect(sandbox.base_url, sandbox.api_key)
        assert task.attempt() == bought
        assert len(sandbox.ledger()) == 1

    def test_is_the_same_request_with_another_limit(self, sandbox: Sandbox, priced: str) -> None:
        task = Task(**VIDEO, max_cost=1)
        bought = task.attempt()
        task.arguments["max_cost"] = 2
        assert task.attempt() == bought
        assert len(sandbox.ledger()) == 1

    def test_is_waited_for_whatever_it_costs(self, sandbox: Sandbox, priced: str, connect: Connect) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3))
        ti, store = TaskInstance(), StateStore()
        with pytest.raises(TaskDeferred) as deferred:
            operator(max_cost=1).execute(context(ti, store))
        connect(sandbox.base_url, sandbox.api_key, prices={"currency": "USD", MODEL: 99})
        video = operator(max_cost=1).execute_complete(context(ti, store), event_of(deferred.value))
        assert video["estimated_cost"] == 0.42

    def test_another_purchase_for_it_is_refused(self, sandbox: Sandbox, priced: str) -> None:
        task = Task(**VIDEO, on_clear="resubmit")
        task.attempt()
        task.clear()
        task.arguments["max_cost"] = 0.01
        assert isinstance(task.until_it_ends(), KlingValidationError)
        assert len(sandbox.ledger()) == 1

    def test_a_submit_of_unknown_fate_is_reported_rather_than_its_cost(
        self, sandbox: Sandbox, priced: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sandbox.add_fault(Fault("submit", "drop_after"))
        task = Task(**VIDEO)
        first = task.until_it_ends()
        assert isinstance(first, KlingUncertainSubmissionError)
        task.arguments["max_cost"] = 0.01
        task.clear()
        assert str(task.until_it_ends()) == str(first)
        # What a person finds is joined; a person's "none" allows another purchase, within the limit.
        monkeypatch.setenv(f"AIRFLOW_VAR_{variable_in(first).upper()}", "none")
        assert isinstance(task.until_it_ends(), KlingValidationError)
        monkeypatch.setenv(f"AIRFLOW_VAR_{variable_in(first).upper()}", sandbox.ledger()[0]["id"])
        assert task.attempt() == sandbox.ledger()[0]["id"]
        assert len(sandbox.ledger()) == 1
