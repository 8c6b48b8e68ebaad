# SPDX-License-Identifier: Apache-2.0
"""What a task raises is what ``on_failure_callback`` gets: a named error that says which job, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.tasks import waiting
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS, TaskDeferralError
from tests.fixtures.requests import submit
from tests.task_context import DEFERRAL_TIMEOUT, TaskInstance, context, run

RESCHEDULE = pytest.param(
    {"deferrable": False, "mode": "reschedule"},
    marks=pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="in this mode Airflow 2 reads its database"),
)
WAYS: dict[str, dict[str, Any]] = {"deferred": {}, "blocking": {"deferrable": False}}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
CASES = {
    "the submit is refused for its content": (Fault("submit", "refuse_content"), "content_refused", False),
    "the key is refused": (Fault("submit", "error", status=401, times=None), "authentication", False),
    "the fate of the submit is unknown": (Fault("submit", "proxy_error", times=None), "uncertain", False),
    "the job fails": (Fault("submit", "job_fails"), "generation_failed", True),
    "a status check is forbidden": (Fault("status", "error", status=403, times=None), "permission", True),
    "the download fails": (Fault("content", "error", status=404, times=None), "download", True),
    "the job takes too long": (Fault("submit", "stuck"), "timeout", True),
}


def generate(folder: Path, **arguments: Any) -> KlingGenerateOperator:
    given: dict[str, Any] = {"prompt": "Waves", "duration": 3, "poll_interval": 0.1, "timeout": 3} | arguments
    model = "kling-v3-std-silent"
    return KlingGenerateOperator(task_id="video", model=model, save_to=f"file://{folder}/", **given)


def raised_by(task: Any, ti: TaskInstance) -> KlingError:
    with pytest.raises(KlingError) as caught:
        run(task, ti)
    return caught.value


@every_way
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_operator_names_kind_job_and_advice(
    sandbox: Sandbox,
    connected: str,
    tmp_path: Path,
    way: dict[str, Any],
    case: tuple[Fault, str, bool],
) -> None:
    fault, kind, has_job = case
    sandbox.add_fault(fault)
    ti = TaskInstance()
    error = raised_by(generate(tmp_path, **way), ti)
    assert (error.kind, error.kling_task_id) == (kind, ti.pushed["kling_task_id"] if has_job else None)
    assert error.advice or kind == "download"


def test_a_failure_that_no_retry_may_follow_keeps_its_kind(
    sandbox: Sandbox, connected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__STATE", "none")
    sandbox.add_fault(Fault("submit", "stuck"))
    with pytest.raises(AirflowFailException) as caught:
        generate(tmp_path, deferrable=False, timeout=1).execute({**context(), "task_state_store": None})
    assert isinstance(caught.value, KlingError)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize("mode", [{}, {"deferrable": False}, RESCHEDULE])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("submit", "stuck"), "timeout"),
        (Fault("submit", "job_fails"), "generation_failed"),
        (Fault("status", "error", status=403, times=None), "permission"),
    ],
)
def test_a_sensor_names_them_too(
    sandbox: Sandbox, connected: str, mode: dict[str, Any], fault: Fault, kind: str
) -> None:
    job = submit(sandbox, *([fault] if fault.on == "submit" else []))
    if fault.on != "submit":
        sandbox.add_fault(fault)
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=job, poke_interval=0.1, timeout=2, **mode)
    error = raised_by(sensor, TaskInstance())
    assert (error.kind, error.kling_task_id) == (kind, job)


def test_a_sensor_names_a_timeout_that_airflow_itself_finds(sandbox: Sandbox, connected: str) -> None:
    job = submit(sandbox, Fault("submit", "stuck"))
    sensor = KlingTaskSensor(task_id="wait", kling_task_id=job, poke_interval=0.1, timeout=0.3, deferrable=False)
    sensor._lasting_poller.deadline += 60
    error = raised_by(sensor, TaskInstance())
    assert isinstance(error, AirflowSensorTimeout)
    assert (error.kind, error.kling_task_id) == ("timeout", job)


def test_a_trigger_that_crashes_and_a_deferral_that_airflow_ends(
    sandbox: Sandbox, connected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_CRASHES", 0)
    for told, kind in ({"error": "Trigger failure"}, "trigger_crashed"), ({"error": DEFERRAL_TIMEOUT}, "timeout"):
        ti = TaskInstance(pushed={"kling_task_id": "task_1"})
        with pytest.raises(KlingError) as caught:
            generate(tmp_path).resume_execution("__fail__", told, context(ti))
        assert (caught.value.kind, caught.value.kling_task_id) == (kind, "task_1")
        assert not isinstance(caught.value, TaskDeferralError)


def test_a_transfer_names_the_job_of_every_error_that_follows_it(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    video = {"kling_task_id": "task_1", "video_url": "http://10.0.0.1/x.mp4"}
    transfer = KlingToObjectStorageOperator(task_id="store", video=video, path=f"file://{tmp_path}/")
    error = raised_by(transfer, TaskInstance())
    assert (error.kind, error.kling_task_id) == ("address_refused", "task_1")
