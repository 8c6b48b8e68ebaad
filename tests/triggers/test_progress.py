# SPDX-License-Identifier: Apache-2.0
"""What a triggerer writes to XCom of the videos that wait on it."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS
from tests.conftest import Connect, TaskLog
from tests.fixtures.event_loop import longest_lag, until
from tests.fixtures.requests import submit
from tests.fixtures.triggers import event_of, trigger_for

if not AIRFLOW_V_3_0_PLUS:
    pytest.skip("Airflow 2 has no supervisor", allow_module_level=True)

from tests.fixtures.triggerer import Supervisor, in_triggerer

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_kling.jobs.progress.CHANGE_INTERVAL", 0.3)


async def test_the_progress_of_a_video(rendered: Path, connect: Connect) -> None:
    with Sandbox(queue_seconds=2, run_seconds=3, cache_dir=rendered) as sandbox:
        connect(sandbox.base_url)
        task_id = submit(sandbox)
        before = time.time()
        async with Supervisor() as supervisor:
            trigger = in_triggerer(trigger_for(task_id, submitted_at=before), map_index=7)
            assert (await event_of(trigger))["status"] == "success"
    [place] = {
        tuple(message[name] for name in ("key", "dag_id", "run_id", "task_id")) for _, message in supervisor.writes
    }
    assert place == ("kling_progress", "reel", "manual__1", "clip")
    seen = supervisor.values(7)
    phases = [one["phase"] for one in seen]
    assert phases == sorted(phases, key=["queued", "in_progress"].index)
    assert set(phases) == {"queued", "in_progress"}
    assert {one["submitted_at"] for one in seen} == {before}
    making = [one["making_since"] for one in seen if one["phase"] == "in_progress"]
    assert len(set(making)) == 1
    assert before <= making[0] <= seen[-1]["seen_at"] <= time.time()
    percents = [one["percent"] for one in seen if one["percent"] is not None]
    assert len(set(percents)) > 2
    assert percents == sorted(percents)


@pytest.mark.alone
async def test_many_videos_share_five_writes_a_second(sandbox: Sandbox, connect: Connect) -> None:
    connect(sandbox.base_url, max_requests_per_second=1000)
    task_ids = [submit(sandbox, Fault("submit", "pace", seconds=4)) for _ in range(30)]
    async with Supervisor(0.02) as supervisor:
        events = await asyncio.gather(
            *(
                event_of(in_triggerer(trigger_for(task_id, poll_interval=0.2), map_index=index))
                for index, task_id in enumerate(task_ids)
            )
        )
    assert {event["status"] for event in events} == {"success"}
    moments = [moment for moment, _ in supervisor.writes]
    assert len(moments) >= 10
    assert all(later - earlier >= 0.19 for earlier, later in pairwise(moments))
    # Whoever is written for the first time goes before all who are written again.
    assert len({message["map_index"] for _, message in supervisor.writes}) == len(moments)


@pytest.mark.alone
async def test_a_busy_supervisor_delays_neither_the_loop_nor_a_wait(sandbox: Sandbox, connected: str) -> None:
    task_ids = [submit(sandbox, Fault("submit", "pace", seconds=1)) for _ in range(3)]
    async with Supervisor(2.0) as supervisor:
        watch = asyncio.create_task(longest_lag())
        started = time.monotonic()
        await asyncio.gather(*(event_of(in_triggerer(trigger_for(task_id))) for task_id in task_ids))
        assert time.monotonic() - started < 1.9
        watch.cancel()
        assert await watch < 0.5
    assert len(supervisor.writes) == 1


async def test_a_supervisor_that_never_responds_delays_no_wait(sandbox: Sandbox, connected: str) -> None:
    task_id = submit(sandbox, Fault("submit", "pace", seconds=1))
    async with Supervisor(None):
        assert (await event_of(in_triggerer(trigger_for(task_id))))["status"] == "success"


async def test_a_cancelled_trigger_leaves_the_connection_usable(sandbox: Sandbox, connected: str) -> None:
    """Airflow cancels a trigger whose task was killed. The response to its write must reach no other trigger."""
    stuck, lasting = submit(sandbox, Fault("submit", "stuck")), submit(sandbox, Fault("submit", "pace", seconds=2))
    async with Supervisor(0.5) as supervisor:
        cancelled = asyncio.create_task(event_of(in_triggerer(trigger_for(stuck), map_index=0)))
        await until(lambda: len(supervisor.writes) == 1)
        cancelled.cancel()
        assert (await event_of(in_triggerer(trigger_for(lasting), map_index=1)))["status"] == "success"
        await until(lambda: len(supervisor.values(1)) > 1)
    assert len(supervisor.values(0)) == 1


async def test_a_write_that_fails_is_logged_once_and_fails_no_wait(
    sandbox: Sandbox, connected: str, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_kling.jobs.progress.FIRST_REST", 0.1)
    task_id = submit(sandbox, Fault("submit", "pace", seconds=3))
    async with Supervisor(refuses=True) as supervisor:
        assert (await event_of(in_triggerer(trigger_for(task_id))))["status"] == "success"
    assert len(supervisor.writes) > 1
    assert task_log.text.count("was not written to XCom") == 1


@pytest.mark.parametrize("missing", ["task_instance", "trigger_id"])
async def test_outside_a_triggerer_nothing_is_written(sandbox: Sandbox, connected: str, missing: str) -> None:
    trigger: Any = in_triggerer(trigger_for(submit(sandbox, Fault("submit", "pace", seconds=0.5))))
    setattr(trigger, missing, None)
    async with Supervisor() as supervisor:
        assert (await event_of(trigger))["status"] == "success"
    assert supervisor.writes == []


async def test_a_supervisor_that_does_not_know_the_message_is_sent_none(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Airflow 3.0.0 to 3.0.4 it would not respond, and all triggers would wait for that."""
    monkeypatch.delattr("airflow.jobs.triggerer_job_runner.SetXCom")
    task_id = submit(sandbox, Fault("submit", "pace", seconds=0.5))
    async with Supervisor() as supervisor:
        assert (await event_of(in_triggerer(trigger_for(task_id))))["status"] == "success"
    assert supervisor.writes == []
