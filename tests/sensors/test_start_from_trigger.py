# SPDX-License-Identifier: Apache-2.0
"""A sensor that begins on the triggerer: what Airflow makes of it, without a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from airflow_provider_kling.jobs.polling import video_from_event
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.tasks.waiting import BACKSTOP
from airflow_provider_kling.triggers.kling import KlingTaskTrigger
from airflow_provider_kling.version_compat import AIRFLOW_V_3_3_PLUS
from tests.fixtures.requests import submit

if not AIRFLOW_V_3_3_PLUS:
    pytest.skip("Airflow before 3.3 cannot render on the triggerer", allow_module_level=True)

UPSTREAM = "{{ ti.xcom_pull(task_ids='generate', key='return_value', map_indexes=-1) }}"


@pytest.fixture(autouse=True)
def dag() -> Iterator[Any]:
    """The DAG that all tasks of a test belong to."""
    from airflow.sdk import DAG

    with DAG("dag", schedule=None) as dag:
        yield dag


def as_stored(sensor: KlingTaskSensor) -> Any:
    """Return what the scheduler has of a sensor: its DAG went through the database, as JSON."""
    from airflow.serialization.serialized_objects import DagSerialization

    stored = json.loads(json.dumps(DagSerialization.to_dict(sensor.dag)))
    return DagSerialization.from_dict(stored).get_task("wait")


def trigger_of(sensor: KlingTaskSensor, **rendered: Any) -> KlingTaskTrigger:
    """Return the trigger as a triggerer makes it from the database."""
    from airflow.models.trigger import Trigger

    arguments = as_stored(sensor).start_trigger_args
    module, _, name = arguments.trigger_cls.rpartition(".")
    row = Trigger(classpath=arguments.trigger_cls, kwargs=arguments.trigger_kwargs)
    trigger: KlingTaskTrigger = getattr(import_module(module), name)(**row.kwargs)
    for field, value in rendered.items():
        setattr(trigger, field, value)
    return trigger


async def event_of(trigger: KlingTaskTrigger) -> dict[str, Any]:
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    return dict(events[0])


class TestWhatTheSchedulerSees:
    def test_a_sensor_that_starts_on_the_triggerer(self) -> None:
        stored = as_stored(
            KlingTaskSensor(task_id="wait", kling_task_id="task_1", start_from_trigger=True, timeout=60)
        )
        assert stored.start_from_trigger is True
        assert stored.start_trigger_args.next_method == "execute_complete"
        assert stored.start_trigger_args.timeout.total_seconds() == 60 + BACKSTOP.total_seconds()

    @pytest.mark.parametrize("arguments", [{}, {"start_from_trigger": True, "deferrable": False}])
    def test_any_other_sensor_starts_on_a_worker(self, arguments: dict[str, Any]) -> None:
        stored = as_stored(KlingTaskSensor(task_id="wait", kling_task_id="task_1", **arguments))
        assert stored.start_from_trigger is False
        assert stored.start_trigger_args is None

    def test_the_output_of_a_task_becomes_a_template_that_a_triggerer_can_render(self) -> None:
        generate = KlingGenerateOperator(task_id="generate", model="kling-v3-std-silent", prompt="A traveler")
        sensor = KlingTaskSensor(task_id="wait", kling_task_id=generate.output, start_from_trigger=True)
        assert trigger_of(sensor).kling_task_id == UPSTREAM
        assert sensor.upstream_task_ids == {"generate"}

    def test_one_sensor_does_not_change_another(self) -> None:
        KlingTaskSensor(task_id="wait", kling_task_id="task_1", start_from_trigger=True)
        assert KlingTaskSensor.start_from_trigger is False
        assert KlingTaskSensor.start_trigger_args is None


class TestWhatIsRefused:
    def test_mapping(self) -> None:
        with pytest.raises(ValueError, match="mapped"):
            KlingTaskSensor.partial(task_id="wait", start_from_trigger=True)

    def test_mapping_without_it_is_not(self) -> None:
        mapped = KlingTaskSensor.partial(task_id="wait").expand(kling_task_id=["task_1", "task_2"])
        assert mapped.start_from_trigger is False

    @pytest.mark.parametrize("wrong", ["{{ ti.xcom_pull('generate') }}", ["task_1"], 7])
    def test_what_a_triggerer_cannot_render(self, wrong: Any) -> None:
        with pytest.raises(ValueError, match="map_indexes=-1"):
            KlingTaskSensor(task_id="wait", kling_task_id=wrong, start_from_trigger=True)

    def test_a_template_that_names_the_map_index_is_not(self) -> None:
        sensor = KlingTaskSensor(task_id="wait", kling_task_id=UPSTREAM, start_from_trigger=True)
        assert trigger_of(sensor).kling_task_id == UPSTREAM


@pytest.mark.asyncio
class TestTheTrigger:
    async def test_waits_for_the_video(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox)
        sensor = KlingTaskSensor(task_id="wait", kling_task_id=UPSTREAM, start_from_trigger=True)
        video = video_from_event(await event_of(trigger_of(sensor, kling_task_id=task_id)))
        assert (video["kling_task_id"], video["status"]) == (task_id, "completed")

    async def test_takes_a_finished_video_as_well(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox)
        sensor = KlingTaskSensor(task_id="wait", kling_task_id=UPSTREAM, start_from_trigger=True)
        rendered = str({"kling_task_id": task_id, "video_url": "https://example.com/1.mp4"})
        assert (await event_of(trigger_of(sensor, kling_task_id=rendered)))["kling_task_id"] == task_id

    async def test_reports_a_missing_id_as_a_named_error(self, sandbox: Sandbox, connected: str) -> None:
        sensor = KlingTaskSensor(task_id="wait", kling_task_id=UPSTREAM, start_from_trigger=True)
        event = await event_of(trigger_of(sensor, kling_task_id=" "))
        assert (event["status"], event["error"]["type"]) == ("error", "KlingValidationError")

    async def test_counts_its_timeout_from_when_it_runs(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.run_seconds = 3600
        task_id = submit(sandbox)
        sensor = KlingTaskSensor(
            task_id="wait", kling_task_id=task_id, start_from_trigger=True, timeout=0.4, poke_interval=0.1
        )
        trigger = trigger_of(sensor)
        started = time.monotonic()
        event = await event_of(trigger)
        assert event["status"] == "timeout"
        assert time.monotonic() - started >= 0.4
