# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingTimeoutError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.result import KlingVideo
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import POKE_INTERVAL, KlingTaskSensor
from airflow_provider_kling.tasks import waiting
from airflow_provider_kling.triggers.kling import KlingTaskTrigger
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS, TaskDeferralError
from tests.conftest import Connect, TaskLog
from tests.fixtures.requests import submit
from tests.raw_server import free_port
from tests.task_context import DEFERRAL_TIMEOUT, TaskInstance, context, run

MODES: dict[str, dict[str, Any]] = {
    "deferrable": {},
    "poke": {"deferrable": False, "mode": "poke"},
    "reschedule": {"deferrable": False, "mode": "reschedule"},
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())


@pytest.fixture(autouse=True)
def _no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Airflow 2 from querying its database for when a sensor was rescheduled first."""
    if not AIRFLOW_V_3_0_PLUS:
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda *_, **__: None)


def sensor(kling_task_id: str = "task_1", **arguments: Any) -> KlingTaskSensor:
    return KlingTaskSensor(
        task_id="wait", **{"kling_task_id": kling_task_id, "poke_interval": 0.1, "timeout": 20} | arguments
    )


class TestAVideo:
    @every_mode
    def test_that_is_finished_already_is_returned_at_once(
        self, sandbox: Sandbox, connected: str, mode: dict[str, Any]
    ) -> None:
        task_id, ti = submit(sandbox), TaskInstance()
        video = sensor(task_id, **mode).execute(context(ti))
        url = f"{sandbox.base_url}/files/{task_id}.mp4"
        assert (video["kling_task_id"], video["status"], video["video_url"]) == (task_id, "completed", url)
        assert ti.pushed["video_url"] == url
        assert sandbox.requests["status"] == 1

    @every_mode
    def test_that_takes_a_while_is_waited_for(
        self, sandbox: Sandbox, connected: str, mode: dict[str, Any]
    ) -> None:
        task_id, ti = submit(sandbox, Fault("submit", "pace", seconds=0.3)), TaskInstance()
        video = run(sensor(task_id, **mode), ti)
        assert (video["kling_task_id"], video["status"]) == (task_id, "completed")
        assert ti.pushed["video_url"] == video["video_url"]
        assert sandbox.requests["status"] >= 2
        assert sandbox.requests["submit"] == 1

    @every_mode
    def test_is_the_same_plain_dict_in_every_mode(
        self, sandbox: Sandbox, connected: str, mode: dict[str, Any]
    ) -> None:
        video = run(sensor(submit(sandbox, Fault("submit", "pace", seconds=0.2)), **mode))
        assert set(video) == set(KlingVideo.__annotations__)
        assert json.loads(json.dumps(video)) == video


class TestDeferral:
    def test_frees_the_worker_with_a_trigger_that_knows_what_to_do(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"))
        now = time.time()
        with pytest.raises(TaskDeferred) as deferred:
            sensor(task_id, poke_interval=7, timeout=600, kling_conn_id=connected).execute(context())
        trigger = deferred.value.trigger
        assert isinstance(trigger, KlingTaskTrigger)
        assert (trigger.kling_task_id, trigger.kling_conn_id, trigger.poll_interval) == (task_id, connected, 7.0)
        assert trigger.deadline == pytest.approx(now + 600, abs=5)
        assert trigger.deferred_at == pytest.approx(now, abs=5)
        assert deferred.value.method_name == "execute_complete"

    def test_leaves_the_progress_that_it_saw(self, sandbox: Sandbox, connected: str) -> None:
        ti, task_id = TaskInstance(), submit(sandbox, Fault("submit", "stuck"))
        with pytest.raises(TaskDeferred):
            sensor(task_id).execute(context(ti))
        progress = ti.pushed["kling_progress"]
        assert (progress["phase"], progress["submitted_at"], progress["making_since"]) == (
            "in_progress",
            None,
            None,
        )
        assert progress["seen_at"] == pytest.approx(time.time(), abs=5)

    def test_ends_with_the_progress_that_the_triggerer_saw_last(self, rendered: Path, connect: Connect) -> None:
        """Even if it had no time to write it."""
        with Sandbox(queue_seconds=0.5, run_seconds=1, cache_dir=rendered) as sandbox:
            connect(sandbox.base_url)
            ti = TaskInstance()
            run(sensor(submit(sandbox), poke_interval=0.1), ti)
        progress = ti.pushed["kling_progress"]
        assert progress["phase"] == "in_progress"
        assert progress["percent"] > 0
        assert time.time() - 20 < progress["making_since"] <= progress["seen_at"] <= time.time()

    def test_airflows_own_timeout_comes_after_the_triggers(self, sandbox: Sandbox, connected: str) -> None:
        """Airflow's timeout has no message; that of the trigger names the job."""
        task_id = submit(sandbox, Fault("submit", "stuck"))
        with pytest.raises(TaskDeferred) as deferred:
            sensor(task_id, timeout=600).execute(context())
        assert deferred.value.timeout is not None
        assert deferred.value.timeout > timedelta(seconds=600)

    def test_lasts_until_the_scheduler_has_noticed_it(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "shortest_deferral", lambda **_: 0.4)
        before = time.time()
        run(sensor(submit(sandbox, Fault("submit", "pace", seconds=0.1)), poke_interval=0.1))
        assert time.time() - before >= 0.4

    def test_without_an_interval_the_provider_paces_itself(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"))
        with pytest.raises(TaskDeferred) as deferred:
            sensor(task_id, poke_interval=None).execute(context())
        assert isinstance(deferred.value.trigger, KlingTaskTrigger)
        assert deferred.value.trigger.poll_interval is None

    def test_also_while_the_server_is_away(self, connect: Connect) -> None:
        connect(f"http://127.0.0.1:{free_port()}")
        with pytest.raises(TaskDeferred):
            sensor().execute(context())

    def test_is_resumed_after_a_trigger_crashed(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox)
        crash = {"error": "Trigger failure", "traceback": ["boom"]}
        task = sensor(task_id, soft_fail=True)
        assert task.resume_execution("__fail__", crash, context())["kling_task_id"] == task_id

    def test_that_airflow_itself_ended_reports_that_the_job_goes_on(self, connected: str) -> None:
        with pytest.raises(KlingTimeoutError, match="The job continues at the vendor") as caught:
            sensor().resume_execution("__fail__", {"error": DEFERRAL_TIMEOUT}, context())
        assert isinstance(caught.value, AirflowSensorTimeout)
        assert not isinstance(caught.value, TaskDeferralError)


class TestAnEndThatIsNoVideo:
    CASES = pytest.mark.parametrize(
        ("fault", "kind", "final"),
        [
            (Fault("submit", "job_fails", message="显存不足"), KlingGenerationFailedError, False),
            (Fault("submit", "refuse_content", accepted=True), KlingContentRefusedError, True),
            (Fault("status", "error", status=401, times=None), KlingAuthenticationError, True),
        ],
        ids=["failed", "content", "key"],
    )

    @every_mode
    @CASES
    def test_fails_the_task_by_name(  # noqa: PLR0917
        self,
        sandbox: Sandbox,
        connected: str,
        mode: dict[str, Any],
        fault: Fault,
        kind: type[KlingError],
        final: bool,
    ) -> None:
        with pytest.raises(kind) as caught:
            run(sensor(submit(sandbox, fault), **mode))
        assert isinstance(caught.value, AirflowFailException) is final

    @every_mode
    @CASES
    def test_skips_the_task_with_soft_fail(  # noqa: PLR0917
        self,
        sandbox: Sandbox,
        connected: str,
        mode: dict[str, Any],
        fault: Fault,
        kind: type[KlingError],
        final: bool,
    ) -> None:
        with pytest.raises(AirflowSkipException, match="Kling task"):
            run(sensor(submit(sandbox, fault), soft_fail=True, **mode))

    def test_also_if_it_comes_while_the_task_is_deferred(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(
            sandbox, Fault("submit", "pace", seconds=0.2), Fault("submit", "job_fails", message="out of memory")
        )
        with pytest.raises(KlingGenerationFailedError, match="out of memory"):
            run(sensor(task_id))

    @every_mode
    @pytest.mark.parametrize("nothing", [None, "None", "null", "undefined"])
    def test_an_id_that_a_template_did_not_find_costs_no_request(
        self, sandbox: Sandbox, connected: str, mode: dict[str, Any], nothing: Any
    ) -> None:
        with pytest.raises(KlingValidationError, match="its template found nothing") as caught:
            sensor(nothing, **mode).execute(context())
        assert isinstance(caught.value, AirflowFailException)
        assert sandbox.requests.get("status", 0) == 0

    @every_mode
    def test_an_unknown_id_is_waited_for_briefly(
        self, sandbox: Sandbox, connected: str, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A job may be invisible just after its submit, so the sensor gives it a minute (here less)."""
        monkeypatch.setattr(GatewayApi, "grace", Grace(visibility=1.0, url=60.0))
        with pytest.raises(KlingNotFoundError) as caught:
            run(sensor("task_unknown", **mode))
        assert caught.value.server_message == "task_not_exist"
        assert isinstance(caught.value, AirflowFailException)
        assert sandbox.requests["probe"] > 1


class TestTimeout:
    @every_mode
    def test_fails_the_task_for_good_as_in_every_sensor(
        self, sandbox: Sandbox, connected: str, mode: dict[str, Any]
    ) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"))
        with pytest.raises(AirflowSensorTimeout):
            run(sensor(task_id, timeout=0.4, **mode))

    @every_mode
    def test_skips_the_task_with_soft_fail(self, sandbox: Sandbox, connected: str, mode: dict[str, Any]) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"))
        with pytest.raises(AirflowSkipException):
            run(sensor(task_id, timeout=0.4, soft_fail=True, **mode))

    def test_says_that_the_job_goes_on(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"))
        with pytest.raises(KlingTimeoutError, match="The job continues at the vendor, and is billed") as caught:
            run(sensor(task_id, timeout=0.3))
        assert caught.value.kling_task_id == task_id


class TestArguments:
    def test_the_defaults(self) -> None:
        task = KlingTaskSensor(task_id="wait", kling_task_id="task_1")
        assert (task.deferrable, task.kling_conn_id, task.timeout) == (None, "kling_default", 4 * 3600)
        assert task.poke_interval == POKE_INTERVAL

    def test_durations_may_be_timedeltas(self) -> None:
        task = sensor(poke_interval=timedelta(minutes=1), timeout=timedelta(hours=1))
        assert (task.poke_interval, task.timeout) == (60, 3600)

    @pytest.mark.parametrize("name", ["poke_interval", "timeout"])
    @pytest.mark.parametrize("value", [0, -1, float("nan")])
    def test_a_duration_that_is_none_is_refused_at_parse(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=name):
            sensor(**{name: value})

    def test_id_and_connection_are_templates(self) -> None:
        assert set(KlingTaskSensor.template_fields) == {"kling_task_id", "kling_conn_id"}
        task = sensor("{{ run_id }}", kling_conn_id="{{ ds }}")
        task.render_template_fields({"run_id": "task_7", "ds": "other"})  # type: ignore[typeddict-unknown-key]
        assert (task.kling_task_id, task.kling_conn_id) == ("task_7", "other")

    def test_it_can_be_mapped(self) -> None:
        mapped = KlingTaskSensor.partial(task_id="wait", timeout=60).expand(kling_task_id=["a", "b"])
        assert mapped.operator_class is KlingTaskSensor


def test_each_change_is_logged(sandbox: Sandbox, connected: str, task_log: TaskLog) -> None:
    task_id = submit(sandbox)
    sensor(task_id).execute(context())
    assert f"Finished after 0 s ({task_id})" in task_log.text
    assert f"Kling task {task_id} is finished: http" in task_log.text


@pytest.mark.parametrize("mode", [MODES["poke"], MODES["reschedule"]], ids=["poke", "reschedule"])
def test_a_connection_that_cannot_be_looked_up_does_not_end_a_wait(
    sandbox: Sandbox, connected: str, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sensor(submit(sandbox), **mode)
    with monkeypatch.context() as outage:
        outage.setattr(KlingHook, "get_connection", Mock(side_effect=ConnectionError("the backend is down")))
        assert task.poke(context()) is False
    assert task.poke(context()).is_done
