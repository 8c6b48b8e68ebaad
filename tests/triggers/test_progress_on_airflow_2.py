# SPDX-License-Identifier: Apache-2.0
"""In Airflow 2 a triggerer writes XComs to the database itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS
from tests.conftest import TaskLog
from tests.fixtures.requests import submit
from tests.fixtures.triggers import event_of, trigger_for
from tests.task_context import TaskInstance

if AIRFLOW_V_3_0_PLUS:
    pytest.skip("Airflow 3 writes through the supervisor", allow_module_level=True)

pytestmark = pytest.mark.asyncio


@pytest.fixture
def database() -> Iterator[Any]:
    """The tables of Airflow, with one mapped task instance; yields the model of an XCom."""
    from airflow import models, settings
    from airflow.models.base import Base
    from airflow.utils import timezone
    from airflow.utils.session import create_session

    models.import_all_models()
    names = ("log_template", "dag_run", "trigger", "task_instance", "xcom")
    tables = [Base.metadata.tables[name] for name in names]
    Base.metadata.create_all(settings.engine, tables=tables)
    key = {"dag_id": "reel", "run_id": "manual__1"}
    now = timezone.utcnow()
    with create_session() as session:
        run = models.DagRun(**key, run_type="manual", execution_date=now)
        session.add(run)
        session.flush()
        ti = {**key, "task_id": "clip", "map_index": 7, "pool": "default_pool", "pool_slots": 1}
        session.execute(models.TaskInstance.__table__.insert().values(**ti))
    yield models.XCom
    Base.metadata.drop_all(settings.engine, tables=tables)


def in_triggerer(trigger: Any, map_index: int) -> Any:
    trigger.task_instance = TaskInstance(dag_id="reel", run_id="manual__1", task_id="clip", map_index=map_index)
    trigger.trigger_id = 1
    return trigger


async def test_the_progress_of_a_video(sandbox: Sandbox, connected: str, database: Any) -> None:
    task_id = submit(sandbox, Fault("submit", "pace", seconds=2))
    event = await event_of(in_triggerer(trigger_for(task_id, submitted_at=1.5), 7))
    assert event["status"] == "success"
    await asyncio.sleep(0.5)
    found = database.get_one(key="kling_progress", dag_id="reel", run_id="manual__1", task_id="clip", map_index=7)
    assert (found["phase"], found["submitted_at"]) == ("in_progress", 1.5)
    assert 0 <= found["percent"] <= 100


async def test_a_task_instance_that_is_gone_fails_no_wait(
    sandbox: Sandbox, connected: str, database: Any, task_log: TaskLog
) -> None:
    task_id = submit(sandbox, Fault("submit", "pace", seconds=2))
    assert (await event_of(in_triggerer(trigger_for(task_id), 8)))["status"] == "success"
    assert task_log.text.count("was not written to XCom") == 1


async def test_a_database_that_does_not_respond_delays_no_wait(
    sandbox: Sandbox, connected: str, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    monkeypatch.setattr(database, "set", lambda **_: answered.wait(20))
    task_id = submit(sandbox, Fault("submit", "pace", seconds=1))
    try:
        assert (await event_of(in_triggerer(trigger_for(task_id), 7)))["status"] == "success"
    finally:
        answered.set()
