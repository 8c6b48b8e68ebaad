# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred

from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.request import REQUEST_FIELDS
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingPermissionError,
    KlingTimeoutError,
    KlingUncertainSubmissionError,
    KlingValidationError,
    Problem,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.clocks import shortest_deferral
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.tasks import waiting
from airflow_provider_kling.triggers.kling import KlingSlotTrigger, KlingTaskTrigger
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS
from tests.conftest import Connect, TaskLog
from tests.fixtures.requests import PROMPT
from tests.task_context import DEFERRAL_TIMEOUT, StateStore, TaskInstance, context, event_of, run

GOOD: dict[str, Any] = {"model": "kling-v3-std-silent", "prompt": PROMPT}
IMAGE = "https://example.com/start-frame.png"
WAYS: dict[str, dict[str, Any]] = {"deferred": {}, "blocking": {"deferrable": False}}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())


def operator(**arguments: Any) -> KlingGenerateOperator:
    return KlingGenerateOperator(task_id="video", **GOOD | {"poll_interval": 0.1, "timeout": 20} | arguments)


class TestWhatADagFileIsRefusedFor:
    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"model": "kling-v3-std-silnt"}, "did you mean kling-v3-std-silent"),
            ({"model": None}, "model=None: is required"),
            ({"duration": 99}, "duration=99: must be a whole number of seconds from 3 to 15"),
            ({"duration": 5.5}, "duration=5.5"),
            ({"aspect_ratio": "4:3"}, "aspect_ratio='4:3': must be one of 16:9, 9:16, 1:1"),
            ({"shot_type": "wide"}, "shot_type='wide': must be one of customize, intelligent"),
            ({"model": "kling-v2-6", "duration": 7}, "makes 5 or 10 seconds; kling-v3 makes 3 to 15 seconds"),
            ({"mode": "std", "model": "kling-v3-pro-audio"}, "kling-v3-pro-audio means mode='pro'"),
            ({"sound": "off", "extra_body": {"model": "kling-v3-pro-audio"}, "model": None}, "means sound=True"),
            ({"sound": "loud"}, "sound='loud': must be true or false"),
            ({"mode": "hd"}, "mode='hd': must be one of std, pro, 4k"),
            ({"last_image": IMAGE}, "needs image too"),
            ({"prompt": None}, "give a prompt, or multi_prompt"),
            ({"prompt": ""}, "give a prompt, or multi_prompt"),
            ({"prompt": "None"}, "its template found nothing"),
            ({"image": IMAGE, "multi_prompt": ["x"]}, "excludes prompt in image mode"),
            (
                {"image": "http://192.168.1.10/a.png"},
                "a private or reserved address, which the vendor cannot reach",
            ),
            ({"image": "/tmp/a.png"}, "must be a public http(s) URL"),  # noqa: S108
            ({"cfg_scale": "much"}, "must be a number"),
            ({"extra_body": {"duration": 99}}, "duration=99"),
            ({"cfg_scale": 0.4, "extra_body": {"cfg_scale": 0.9}}, "differs from the argument cfg_scale=0.4"),
        ],
        ids=str,
    )
    def test_literal_values(self, wrong: dict[str, Any], words: str) -> None:
        with pytest.raises(KlingValidationError) as caught:
            operator(**wrong)
        assert words in str(caught.value)

    def test_all_of_them_at_once(self) -> None:
        with pytest.raises(KlingValidationError, match=r"(?s)4 problems.*duration=.*model=.*shot_type=.*image="):
            operator(model="x", duration=1, shot_type="x", image="x")

    def test_literal_values_beside_templated_ones(self) -> None:
        with pytest.raises(KlingValidationError, match="duration=99"):
            operator(prompt="{{ params.prompt }}", duration=99)

    def test_literal_values_of_a_mapped_task(self) -> None:
        with pytest.raises(KlingValidationError, match="duration=99"):
            KlingGenerateOperator.partial(task_id="video", model="kling-v3-std-silent", duration=99)

    def test_values_that_a_mapping_brings_fail_their_own_task_only_and_without_a_retry(self) -> None:
        mapped = KlingGenerateOperator.partial(task_id="video", **GOOD).expand(duration=[5, "{{ 99 }}"])
        with pytest.raises(KlingValidationError, match="duration=99") as caught:
            mapped.unmap({"duration": 99})
        assert isinstance(caught.value, AirflowFailException)
        assert mapped.unmap({"duration": 5}).duration == 5

    def test_literal_values_of_a_mapping(self) -> None:
        with pytest.raises(KlingValidationError, match="duration=99"):
            KlingGenerateOperator.partial(task_id="video", **GOOD).expand(duration=[5, 99])

    @pytest.mark.parametrize(
        "rows",
        [
            [{"prompt": "a cat"}, {"prompt": "a dog", "duration": 99}],
            [{"prompt": PROMPT, "extra_body": {"duration": 99}}],
        ],
        ids=["duration", "extra_body"],
    )
    def test_literal_rows_of_a_mapping(self, rows: list[dict[str, Any]]) -> None:
        with pytest.raises(KlingValidationError, match="duration=99"):
            KlingGenerateOperator.partial(task_id="video", model=GOOD["model"]).expand_kwargs(rows)

    def test_rows_that_are_right_or_not_known_yet_are_mapped(self) -> None:
        with DAG("rows", schedule=None):
            rows: list[Any] = [{"prompt": "a cat", "duration": 5}, {"prompt": "{{ params.prompt }}"}]
            mapped = KlingGenerateOperator.partial(task_id="video", model=GOOD["model"]).expand_kwargs(rows)
        assert mapped.task_id == "video"

    def test_literal_values_within_a_dag(self) -> None:
        with DAG("d", schedule=None, start_date=datetime(2026, 1, 1)), pytest.raises(KlingValidationError):  # noqa: DTZ001
            KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", prompt="x", duration=99)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("timeout", value) for value in (0, -1, float("inf"))),
            ("poll_interval", 0),
            ("submit_timeout", 0),
            ("on_clear", "maybe"),
            ("on_uncertain", "maybe"),
            ("take", "one"),
            ("take", 1.5),
        ],
    )
    def test_settings_that_cannot_be(self, name: str, value: Any) -> None:
        with pytest.raises((ValueError, KlingValidationError), match=name):
            operator(**{name: value})
        with pytest.raises((ValueError, KlingValidationError), match=name):
            KlingGenerateOperator.partial(task_id="video", **GOOD, **{name: value})


class TestWhatADagFileIsNotRefusedFor:
    @pytest.mark.parametrize("name", REQUEST_FIELDS)
    @pytest.mark.parametrize("template", ["{{ params.x }}", "{% if x %}y{% endif %}", "{# later #}"])
    def test_a_template_in_any_field(self, name: str, template: str) -> None:
        operator(**{name: template})

    @pytest.mark.parametrize("nested", [["{{ x }}"], [{"prompt": "{{ x }}"}], ("{{ x }}",)])
    def test_a_template_within_a_list(self, nested: Any) -> None:
        operator(multi_prompt=nested, element_list=nested)

    def test_a_template_within_extra_body(self) -> None:
        operator(extra_body={"duration": "{{ params.seconds }}"})

    def test_the_output_of_another_task_in_any_field(self) -> None:
        with DAG("d", schedule=None, start_date=datetime(2026, 1, 1)):  # noqa: DTZ001
            first = operator()
            for name in REQUEST_FIELDS:
                second = KlingGenerateOperator(task_id=f"video_{name}", **GOOD | {name: first.output})
                assert second.upstream_task_ids == {"video"}

    @pytest.mark.parametrize("later", ["prompt", "image", "model"])
    def test_what_a_mapping_brings_later(self, later: str) -> None:
        known = {"last_image": IMAGE, **GOOD, "image": IMAGE}
        value = known.pop(later)
        mapped = KlingGenerateOperator.partial(task_id="video", **known).expand(**{later: [value]})
        assert mapped.operator_class is KlingGenerateOperator


class TestTemplates:
    def test_every_field_of_the_request_is_one(self) -> None:
        assert set(REQUEST_FIELDS) <= set(KlingGenerateOperator.template_fields)
        assert "kling_conn_id" in KlingGenerateOperator.template_fields

    def test_what_they_render_to_is_sent_in_the_right_types(self, sandbox: Sandbox, connected: str) -> None:
        task = operator(
            model="{{ m }}",
            prompt="{{ p }}",
            image="{{ nothing }}",
            mode="{{ 'pro' }}",
            sound="{{ loud }}",
            duration="{{ n }}",
            cfg_scale="{{ c }}",
            element_list="{{ some }}",
            extra_body={"seed": "{{ n }}", "shot_type": "{{ s }}"},
        )
        values = {
            "m": "kling-v3-pro-audio",
            "loud": True,
            "p": PROMPT,
            "nothing": "",
            "n": 5,
            "c": 0.5,
            "some": [{"id": 7}],
            "s": "customize",
        }
        task.render_template_fields(values)  # type: ignore[arg-type]
        task.execute(context())
        assert sandbox.ledger()[0]["request"] == {
            "model": "kling-v3-pro-audio",
            "prompt": PROMPT,
            "duration": 5,
            "extra_body": {"cfg_scale": 0.5, "element_list": [{"id": 7}], "shot_type": "customize", "seed": "5"},
        }

    def test_what_they_render_to_is_checked_and_fails_without_a_retry(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        task = operator(duration="{{ n }}", aspect_ratio="{{ r }}")
        task.render_template_fields({"n": 99, "r": "4:3"})  # type: ignore[typeddict-unknown-key]
        with pytest.raises(KlingValidationError, match=r"(?s)2 problems.*duration=99.*aspect_ratio=") as caught:
            task.execute(context())
        assert isinstance(caught.value, AirflowFailException)
        assert sandbox.requests["submit"] == 0

    @pytest.mark.parametrize("sound", [True, "On", "TRUE", " yes"])
    def test_sound_and_mode_take_any_spelling(self, sandbox: Sandbox, connected: str, sound: Any) -> None:
        task = operator(model="{{ 'kling-v3' }}", mode="{{ 'pro' }}", sound="{{ sound }}")
        task.render_template_fields({"sound": sound})  # type: ignore[typeddict-unknown-key]
        task.execute(context())
        assert sandbox.ledger()[0]["request"]["model"] == "kling-v3-pro-audio"

    def test_a_mode_that_the_model_cannot_make_fails_without_a_retry(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        task = operator(model="kling-2.6", mode="{{ m }}", sound="{{ s }}")
        task.render_template_fields({"m": "4k", "s": "maybe"})  # type: ignore[typeddict-unknown-key]
        with pytest.raises(KlingValidationError, match=r"(?s)2 problems.*sound='maybe'.*kling-3.0 has mode std"):
            task.execute(context())
        assert sandbox.requests["submit"] == 0


class TestWithoutWaiting:
    def test_the_task_id_is_returned_and_pushed(self, sandbox: Sandbox, connected: str) -> None:
        ti = TaskInstance()
        returned = operator().execute(context(ti))
        [entry] = sandbox.ledger()
        assert returned == ti.pushed["kling_task_id"] == entry["id"]
        assert "video_url" not in ti.pushed
        assert sandbox.requests["status"] == 0

    def test_a_numeric_id_is_a_string_all_the_same(self, connect: Connect) -> None:
        with Sandbox(run_seconds=0, dialect="numeric") as sandbox:
            connect(sandbox.base_url)
            assert operator().execute(context()) == str(sandbox.ledger()[0]["id"])

    def test_the_request_is_the_one_described(self, sandbox: Sandbox, connected: str) -> None:
        operator(image=IMAGE, aspect_ratio="9:16", negative_prompt="blur", extra_body={"seed": 7}).execute(
            context()
        )
        assert sandbox.ledger()[0]["request"] == {
            **GOOD,
            "image": IMAGE,
            "aspect_ratio": "9:16",
            "extra_body": {"negative_prompt": "blur", "seed": 7},
        }

    def test_a_field_that_the_vendor_may_ignore_is_warned_of(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        operator(image=IMAGE, aspect_ratio="9:16").execute(context())
        assert "aspect_ratio='9:16' may not be honoured" in task_log.text

    def test_another_connection_may_be_named(self, sandbox: Sandbox, connect: Connect) -> None:
        connect(sandbox.base_url, conn_id="other")
        assert operator(kling_conn_id="other").execute(context())


class TestWaiting:
    @every_way
    def test_the_finished_video_is_returned(self, sandbox: Sandbox, connected: str, way: dict[str, Any]) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3))
        ti = TaskInstance()
        video = run(operator(wait_for_completion=True, **way), ti)
        [entry] = sandbox.ledger()
        assert (video["kling_task_id"], video["status"], video["model"]) == (
            entry["id"],
            "completed",
            GOOD["model"],
        )
        assert video["video_url"] == ti.pushed["video_url"] == f"{sandbox.base_url}/files/{entry['id']}.mp4"
        assert ti.pushed["kling_task_id"] == entry["id"]
        assert json.loads(json.dumps(video)) == video

    def test_the_configuration_is_the_default(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", "False")
        waiting = operator(wait_for_completion=True)
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3, times=None))
        with pytest.raises(TaskDeferred):
            waiting.execute(context())
        monkeypatch.setenv("AIRFLOW__KLING__DEFERRABLE", "False")
        assert operator(wait_for_completion=True).execute(context())["status"] == "completed"
        with pytest.raises(TaskDeferred):
            operator(wait_for_completion=True, deferrable=True).execute(context())

    def test_by_default_the_worker_is_freed(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        ti = TaskInstance()
        before = time.time()
        with pytest.raises(TaskDeferred) as deferred:
            operator(wait_for_completion=True, timeout=600, poll_interval=timedelta(seconds=7)).execute(
                context(ti)
            )
        trigger = deferred.value.trigger
        assert isinstance(trigger, KlingTaskTrigger)
        assert trigger.kling_task_id == ti.pushed["kling_task_id"] == sandbox.ledger()[0]["id"]
        assert (trigger.kling_conn_id, trigger.poll_interval) == ("kling_default", 7.0)
        assert before <= trigger.started_at <= time.time()
        assert trigger.deadline == pytest.approx(before + 600, abs=5)
        assert deferred.value.method_name == "execute_complete"
        assert deferred.value.timeout is not None
        assert deferred.value.timeout > timedelta(seconds=600)

    @every_way
    def test_a_failed_job_fails_the_task_by_name(
        self, sandbox: Sandbox, connected: str, way: dict[str, Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "job_fails", message="显存不足"))
        ti = TaskInstance()
        with pytest.raises(KlingGenerationFailedError, match="显存不足") as caught:
            run(operator(wait_for_completion=True, **way), ti)
        assert not isinstance(caught.value, AirflowFailException)
        assert caught.value.kling_task_id == ti.pushed["kling_task_id"]

    @every_way
    def test_content_refused_later_fails_it_without_a_retry(
        self, sandbox: Sandbox, connected: str, way: dict[str, Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "refuse_content", accepted=True))
        with pytest.raises(KlingContentRefusedError) as caught:
            run(operator(wait_for_completion=True, **way))
        assert isinstance(caught.value, AirflowFailException)

    @every_way
    def test_a_timeout_reports_that_the_job_goes_on_and_leaves_the_retries(
        self, sandbox: Sandbox, connected: str, way: dict[str, Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        ti = TaskInstance()
        with pytest.raises(KlingTimeoutError, match="The job continues at the vendor, and is billed") as caught:
            run(operator(wait_for_completion=True, timeout=0.3, **way), ti)
        assert not isinstance(caught.value, AirflowFailException)
        assert caught.value.kling_task_id == ti.pushed["kling_task_id"]

    @every_way
    def test_a_retry_joins_the_job_that_was_paid_for(
        self, sandbox: Sandbox, connected: str, way: dict[str, Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        task, ti, store = (
            operator(wait_for_completion=True, timeout=0.3, **way),
            TaskInstance(max_tries=1),
            StateStore(),
        )
        with pytest.raises(KlingTimeoutError):
            run(task, ti, store)
        [entry] = sandbox.ledger()
        sandbox.finish(entry["id"])
        ti.pushed.clear()  # as Airflow does at the start of every retry
        assert run(operator(wait_for_completion=True, **way), ti, store)["kling_task_id"] == entry["id"]
        assert len(sandbox.ledger()) == 1
        assert ti.pushed["kling_task_id"] == entry["id"]

    def test_an_event_of_another_trigger_is_a_named_error(self) -> None:
        with pytest.raises(KlingError, match="an unknown event"):
            operator().execute_complete(context(), {"status": "fine"})

    def test_the_event_that_was_stored_is_all_that_is_needed(self, sandbox: Sandbox, connected: str) -> None:
        """The task resumes in another process, with what the database holds."""
        with pytest.raises(TaskDeferred) as deferred:
            operator(wait_for_completion=True).execute(context())
        event = event_of(deferred.value)
        assert operator().execute_complete(context(), event)["video_url"]

    def test_a_killed_task_logs_that_its_job_goes_on(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        task = operator(wait_for_completion=True)
        with pytest.raises(TaskDeferred):
            task.execute(context())
        task.on_kill()
        assert f"Kling task {sandbox.ledger()[0]['id']} continues at the vendor, and is billed" in task_log.text

    def test_a_task_killed_during_its_submit_logs_so(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        sandbox.add_fault(Fault("submit", "delay_after", seconds=0.6))
        task = operator()

        def kill() -> None:
            sandbox.wait_for("submit", 1)
            task.on_kill()

        with ThreadPoolExecutor(1) as pool:
            killed = pool.submit(kill)
            assert task.execute(context()) == sandbox.ledger()[0]["id"]
            killed.result()
        assert "may have been accepted and billed" in task_log.text


def test_a_refused_submit_says_what_was_refused(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "refuse_content"))
    ti = TaskInstance()
    with pytest.raises(KlingContentRefusedError):
        run(operator(), ti)
    assert ti.pushed["kling_request"]["prompt"] == PROMPT
    assert ti.pushed["kling_model"] == "kling-v3-std-silent"


class TestTheShortestDeferral:
    """It follows from Airflow's own setting."""

    @pytest.mark.parametrize(
        "fault", [Fault("submit", "rate_limit"), Fault("submit", "stuck")], ids=["for a slot", "for the video"]
    )
    @pytest.mark.parametrize("seconds", [None, 1, 40])
    def test_is_longer_than_the_end_of_a_run_may_be_noticed_late(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, fault: Fault, seconds: int | None
    ) -> None:
        monkeypatch.setattr(waiting, "shortest_deferral", shortest_deferral)
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "LocalExecutor")
        if seconds is not None:
            monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", str(seconds))
        sandbox.add_fault(fault)
        with pytest.raises(TaskDeferred) as deferred:
            operator(wait_for_completion=True).execute(context())
        trigger = deferred.value.trigger
        assert isinstance(trigger, (KlingSlotTrigger, KlingTaskTrigger))
        assert trigger.not_before is not None
        assert trigger.deferred_at is not None
        if AIRFLOW_V_3_0_PLUS:
            expected = 15 if seconds is None else seconds + 10
        else:
            expected = 2 if seconds is None else seconds + 2  # it has no such setting
        assert trigger.not_before - trigger.deferred_at == pytest.approx(expected, abs=0.01)


class TestWaitingForASlot:
    def test_ends_in_a_submit(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("submit", "rate_limit"))
        task = operator()
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context())
        trigger = deferred.value.trigger
        assert isinstance(trigger, KlingSlotTrigger)
        # dag.test() passes the event only.
        assert task.submit_again(context(), {"status": "slot"}) == sandbox.ledger()[0]["id"]

    def test_is_told_apart_from_waiting_for_the_video(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        sandbox.add_fault(Fault("submit", "rate_limit"))
        ti, before = TaskInstance(), time.time()
        task = operator(wait_for_completion=True)
        with pytest.raises(TaskDeferred):
            task.execute(context(ti))
        assert "Waiting for a slot. " in task_log.text
        waiting = ti.pushed["kling_progress"]
        assert (waiting["phase"], waiting["submitted_at"], waiting["percent"]) == ("waiting_for_slot", None, None)
        assert ti.pushed["kling_request"]["prompt"] == task.prompt
        with pytest.raises(TaskDeferred) as deferred:
            task.submit_again(context(ti), {"status": "slot"})
        queued = ti.pushed["kling_progress"]
        assert (queued["phase"], queued["making_since"]) == ("queued", None)
        assert before < waiting["seen_at"] < queued["submitted_at"] <= queued["seen_at"] <= time.time()
        trigger = deferred.value.trigger
        assert isinstance(trigger, KlingTaskTrigger)
        assert trigger.submitted_at == queued["submitted_at"] == ti.pushed["kling_submitted_at"]

    def test_a_worker_that_waits_itself_shows_no_progress(self, sandbox: Sandbox, connected: str) -> None:
        ti = TaskInstance()
        operator(wait_for_completion=True, deferrable=False).execute(context(ti))
        assert "kling_progress" not in ti.pushed

    def test_a_progress_that_cannot_be_pushed_costs_nothing(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        class Full(TaskInstance):
            def xcom_push(self, key: str, value: Any) -> None:
                if key == "kling_progress":
                    raise RuntimeError("no space left")
                super().xcom_push(key, value)

        with pytest.raises(TaskDeferred):
            operator(wait_for_completion=True).execute(context(Full()))
        assert "XCom kling_progress could not be written: no space left" in task_log.text

    def test_a_deferral_that_airflow_ends_bought_nothing(self, connected: str) -> None:
        with pytest.raises(KlingTimeoutError, match="was waiting to submit") as caught:
            operator().resume_execution("__fail__", {"error": DEFERRAL_TIMEOUT}, context())
        assert "bills" not in str(caught.value)

    def test_after_a_crash_the_record_is_not_taken_for_new(self, sandbox: Sandbox, connected: str) -> None:
        class Away(StateStore):
            def get(self, *_: Any) -> Any:
                return None

        with pytest.raises(KlingError, match="cannot be read"):
            operator().resume_execution("__fail__", {"error": "Trigger failure"}, context(store=Away()))
        assert sandbox.requests["submit"] == 0

    def test_triggers_that_always_crash_bought_nothing(self, connected: str) -> None:
        ti = TaskInstance(pushed={"kling_trigger_crashes": 3})
        with pytest.raises(KlingError, match="crashed 4 times") as caught:
            operator().resume_execution("__fail__", {"error": "Trigger failure"}, context(ti))
        assert "bills" not in str(caught.value)


class TestASubmitThatFails:
    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault("submit", "error", status=401, message="无效的令牌"), KlingAuthenticationError),
            (Fault("submit", "error", status=403, code="insufficient_user_quota"), KlingBalanceError),
            (Fault("submit", "error", status=429, code=1102), KlingBalanceError),
            (Fault("submit", "error", status=403, code="access_denied"), KlingPermissionError),
            (Fault("submit", "error", status=400, code="invalid_request"), KlingValidationError),
            (Fault("submit", "refuse_content"), KlingContentRefusedError),
            (Fault("submit", "drop_after"), KlingUncertainSubmissionError),
            (Fault("submit", "delay_after", seconds=1.2), KlingUncertainSubmissionError),
            (Fault("submit", "proxy_error", status=504), KlingUncertainSubmissionError),
            (Fault("submit", "broken_json"), KlingUncertainSubmissionError),
        ],
        ids=lambda value: value.__name__ if isinstance(value, type) else value.kind,
    )
    def test_for_good_fails_the_task_without_a_retry(
        self, sandbox: Sandbox, connected: str, fault: Fault, kind: type[KlingError]
    ) -> None:
        sandbox.add_fault(fault)
        ti = TaskInstance()
        with pytest.raises(kind) as caught:
            operator().execute(context(ti))
        assert isinstance(caught.value, AirflowFailException)
        assert sandbox.requests["submit"] == 1
        assert "kling_task_id" not in ti.pushed

    def test_its_error_is_caught_by_its_public_name_and_shows_no_key(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        sandbox.add_fault(Fault("submit", "error", status=401))
        with pytest.raises(KlingAuthenticationError) as caught:
            operator().execute(context())
        assert type(caught.value).__name__ == "KlingAuthenticationError"
        assert sandbox.api_key not in f"{caught.value} {caught.value!r}"


def test_what_the_api_cannot_make_is_refused_before_anything_is_recorded_or_sent(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem("model", GOOD["model"], "is not served by this API")
    monkeypatch.setattr(GatewayApi, "check", lambda *_: [problem])
    store = StateStore()
    with pytest.raises(KlingValidationError, match="is not served by this API"):
        run(operator(), TaskInstance(), store)
    with pytest.raises(KlingValidationError, match="is not served by this API"):
        KlingHook().submit_video(GOOD)
    assert set(sandbox.requests.values()) == {0}
    assert store == {}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "kling-v3-std-silent"),
        ({"mode": "pro"}, "kling-v3-pro-silent"),
        ({"sound": "on"}, "kling-v3-std-audio"),
        ({"mode": "pro", "sound": True}, "kling-v3-pro-audio"),
        ({"extra_body": {"mode": "pro", "sound": "Yes"}}, "kling-v3-pro-audio"),
        ({"model": "kling-v3-pro-audio", "mode": "pro", "sound": True}, "kling-v3-pro-audio"),
    ],
)
def test_a_gateway_gets_mode_and_sound_in_the_name_of_the_model(
    sandbox: Sandbox, connected: str, arguments: dict[str, Any], name: str
) -> None:
    operator(**{"model": "kling-v3"} | arguments).execute(context())
    assert sandbox.ledger()[0]["request"] == {"model": name, "prompt": PROMPT}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"model": "kling-v3", "mode": "4k"}, "mode='4k': is not served .* nearest .* is kling-v3-pro-silent"),
        ({"model": "kling-3.0", "sound": True}, "model='kling-3.0': .* nearest .* is kling-v3-std-audio"),
        ({"model": "kling-3.0-turbo", "mode": "pro"}, "nearest that they serve is kling-v3-pro-audio"),
        ({"model": "kling-2.5-turbo"}, "nearest that they serve is kling-v3-std-silent"),
    ],
)
def test_a_gateway_is_not_sent_what_it_does_not_serve(
    sandbox: Sandbox, connected: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(KlingValidationError, match=words):
        operator(**arguments).execute(context())
    with pytest.raises(KlingValidationError, match=words):
        KlingHook().submit_video(GOOD | arguments)
    assert set(sandbox.requests.values()) == {0}
