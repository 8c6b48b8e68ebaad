# SPDX-License-Identifier: Apache-2.0
"""Words in a prompt, on a gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def caller(start: Callable[..., Any]) -> Any:
    """A sandbox that heeds the words, and whose jobs run for a minute."""
    return start(prompt_words=True, run_seconds=60.0)


def running_times(caller: Any) -> list[float]:
    return [job.run_seconds for job in caller.sandbox.book.jobs.values()]


@pytest.mark.parametrize("prompt", ["A boat [refuse]", "[Refuse] a boat"])
def test_a_refused_prompt_makes_no_job(caller: Any, prompt: str) -> None:
    answer = caller.submit(prompt)
    assert answer.status_code == 400
    assert '"code":1301' in answer.json()["error"]["message"]
    assert "the word [refuse]" in answer.json()["error"]["message"]
    assert caller.sandbox.ledger() == []


def test_a_failing_job_is_accepted_and_fails_early(caller: Any) -> None:
    task_id = caller.task("A boat [fail]")
    assert caller.status(task_id).json()["status"] == "in_progress"
    assert running_times(caller) == [15.0]
    caller.sandbox.finish(task_id)
    seen = caller.status(task_id).json()
    assert (seen["status"], seen["error"]["message"]) == (
        "failed",
        "generation failed: the prompt has the word [fail]",
    )


def test_a_slow_job_runs_five_times_as_long(caller: Any) -> None:
    caller.task("A boat [slow]")
    caller.task("A boat")
    assert running_times(caller) == [300.0, 60.0]


def test_words_in_one_shot_of_several_count_together(caller: Any) -> None:
    task_id = caller.task(None, extra_body={"multi_prompt": ["A boat [slow]", "A storm [FAIL]"]})
    caller.sandbox.finish(task_id)
    assert running_times(caller) == [300.0]
    assert caller.status(task_id).json()["status"] == "failed"


def test_a_lost_response_is_that_of_an_accepted_job_and_a_repetition_is_answered(caller: Any) -> None:
    answered = []
    for _ in range(3):
        try:
            answered.append(caller.submit("A boat [lost answer]").status_code)
        except requests.ConnectionError:
            answered.append(0)
    assert answered == [0, 200, 0]
    assert [entry["answered"] for entry in caller.sandbox.ledger()] == [False, True, False]


def test_another_prompt_does_not_count_as_a_repetition(caller: Any) -> None:
    for prompt in ("A boat [lost answer]", "A ship [lost answer]"):
        with pytest.raises(requests.ConnectionError):
            caller.submit(prompt)


def test_a_scripted_fault_goes_first(caller: Any) -> None:
    caller.sandbox.add_fault(Fault("submit", "rate_limit"))
    assert [caller.submit("A boat [refuse]").status_code for _ in range(2)] == [429, 400]


def test_words_mean_nothing_unless_they_are_switched_on(start: Callable[..., Any]) -> None:
    caller = start(run_seconds=60.0)
    for word in ("[refuse]", "[fail]", "[slow]", "[lost answer]"):
        task_id = caller.task(f"A boat {word}")
        caller.sandbox.finish(task_id)
        assert caller.status(task_id).json()["status"] == "completed"
    assert running_times(caller) == [60.0] * 4
