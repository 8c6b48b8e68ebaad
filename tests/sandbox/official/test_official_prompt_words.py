# SPDX-License-Identifier: Apache-2.0
"""Words in a prompt, on both standards of Kling's own platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from collections.abc import Callable

STANDARDS = ["legacy", "new"]


@pytest.fixture
def caller(start: Callable[..., Any]) -> Any:
    """A sandbox that heeds the words, and whose jobs run for a minute."""
    return start(prompt_words=True, run_seconds=60.0)


def state(caller: Any) -> dict[str, Any]:
    """Return the only job, finished now."""
    [entry] = caller.sandbox.ledger()
    caller.sandbox.finish(entry["id"])
    [task] = caller.tasks(task_ids=entry["id"]).json()["data"]
    return dict(task)


@pytest.mark.parametrize("standard", STANDARDS)
def test_a_refused_prompt_makes_no_job(caller: Any, standard: str) -> None:
    answer = getattr(caller, standard)(prompt="A boat [refuse]")
    assert (answer.status_code, answer.json()["code"]) == (400, 1301)
    assert caller.sandbox.ledger() == []


@pytest.mark.parametrize("standard", STANDARDS)
def test_a_failing_job_is_accepted_first(caller: Any, standard: str) -> None:
    assert getattr(caller, standard)(prompt="A boat [fail]").status_code == 200
    task = state(caller)
    assert (task["status"], task["message"]) == ("failed", "generation failed: the prompt has the word [fail]")


@pytest.mark.parametrize("standard", STANDARDS)
def test_a_slow_job_runs_longer(caller: Any, standard: str) -> None:
    getattr(caller, standard)(prompt="A boat [slow]")
    assert [job.run_seconds for job in caller.sandbox.book.jobs.values()] == [300.0]
    assert state(caller)["status"] == "succeeded"


@pytest.mark.parametrize("standard", STANDARDS)
def test_a_job_whose_response_was_lost_can_be_looked_up(caller: Any, standard: str) -> None:
    own_id: dict[str, dict[str, Any]] = {
        "legacy": {"external_task_id": "mine"},
        "new": {"options": {"external_task_id": "mine"}},
    }
    with pytest.raises(requests.ConnectionError):
        getattr(caller, standard)(prompt="A boat [lost answer]", **own_id[standard])
    [entry] = caller.sandbox.ledger()
    [task] = caller.tasks(external_task_ids="mine").json()["data"]
    assert (task["id"], entry["answered"]) == (entry["id"], False)
    assert getattr(caller, standard)(prompt="A boat [lost answer]").status_code == 200
