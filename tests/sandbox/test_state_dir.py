# SPDX-License-Identifier: Apache-2.0
"""A sandbox that keeps its jobs for the next one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def restart(start: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Stop the last sandbox, if any, and start another one in the same folder."""
    callers: list[Any] = []

    def restart(**options: Any) -> Any:
        for caller in callers:
            caller.sandbox.stop()
        callers.append(start(**{"state_dir": tmp_path / "state", "cache_dir": None, **options}))
        return callers[-1]

    return restart


def test_ledger_jobs_and_videos_outlive_the_sandbox(restart: Callable[..., Any], tmp_path: Path) -> None:
    first = restart(dialect="shouting")
    task_id = first.task("A boat", duration=3)
    film = first.video(task_id).content
    first.sandbox.add_fault(Fault("submit", "job_fails", message="bad luck"))
    failed = first.task("A ship", duration=3)
    ledger, jobs = first.sandbox.ledger(), first.sandbox.jobs()

    second = restart()
    assert second.sandbox.ledger() == ledger
    assert second.sandbox.jobs() == jobs
    assert second.status(task_id).json()["status"] == "COMPLETED"
    assert "bad luck" in second.status(failed).text
    assert second.video(task_id).content == film
    assert len(list((tmp_path / "state" / "videos").iterdir())) == 1


def test_what_became_of_a_job_is_kept_as_well(restart: Callable[..., Any]) -> None:
    first = restart(run_seconds=3600)
    finished, lost, going = first.task("finished"), first.task("given up"), first.task("going on")
    first.sandbox.finish(finished)
    first.sandbox.add_fault(Fault("status", "job_fails", message="given up", match=lost))
    first.status(lost)
    first.sandbox.finish(lost)
    first.sandbox.add_fault(Fault("submit", "drop_after"))
    with pytest.raises(requests.ConnectionError):
        first.submit("lost answer")

    second = restart(run_seconds=0)
    states = {job["id"]: job["state"] for job in second.sandbox.jobs()}
    assert list(states.values()) == ["completed", "failed", "running", "running"]
    assert states[going] == "running"
    assert [entry["answered"] for entry in second.sandbox.ledger()] == [True, True, True, False]


def test_a_job_that_goes_on_holds_its_slot(restart: Callable[..., Any]) -> None:
    restart(run_seconds=3600).task()
    caller = restart(max_concurrent=1, run_seconds=3600)
    assert caller.submit().status_code == 429


def test_a_job_belongs_to_its_key_and_the_folder_holds_no_key(restart: Callable[..., Any], tmp_path: Path) -> None:
    keys = ("sk-a-long-secret-one", "sk-a-long-secret-two")
    task_id = restart(api_keys=keys).task()
    caller = restart(api_keys=keys)
    assert caller.status(task_id).status_code == 200
    assert caller.sandbox.ledger()[0]["key_suffix"] == "-one"
    caller.key = keys[1]
    assert caller.status(task_id).status_code == 400
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert files
    assert not any(b"long-secret" in path.read_bytes() for path in files)


def test_a_reset_is_for_good(restart: Callable[..., Any]) -> None:
    first = restart()
    first.task()
    first.sandbox.reset()
    first.task("after the reset")
    assert [job["prompt"] for job in restart().sandbox.jobs()] == ["after the reset"]


def test_what_was_not_written_to_its_end_costs_only_that(
    restart: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = restart()
    kept = [first.task("one"), first.task("two")]
    first.sandbox.stop()
    with (tmp_path / "state" / "gateway-jobs.jsonl").open("a") as file:
        file.write('{"id": "task_three", "request": {"mod')
    with caplog.at_level(logging.WARNING):
        second = restart()
    assert "not written to its end" in caplog.text
    kept.append(second.task("three"))
    assert [job["id"] for job in restart().sandbox.jobs()] == kept


def test_each_api_keeps_its_own_jobs(restart: Callable[..., Any], tmp_path: Path) -> None:
    task_id = restart().task()
    assert restart(api="official").sandbox.jobs() == []
    assert [job["id"] for job in restart().sandbox.jobs()] == [task_id]


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Sandbox(state_dir=tmp_path / "file")


def test_without_a_folder_all_is_forgotten(start: Callable[..., Any]) -> None:
    start().task()
    assert start().sandbox.jobs() == []
