# SPDX-License-Identifier: Apache-2.0
"""What a function returns is made into a video, with all that ``KlingGenerateOperator`` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, ObjectStoragePath, TaskDeferred

from airflow_provider_kling.decorators.kling import kling_task
from airflow_provider_kling.exceptions import (
    KlingError,
    KlingGenerationFailedError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.triggers.kling import KlingSlotTrigger, KlingTaskTrigger
from tests.conftest import TaskLog
from tests.fixtures.requests import PROMPT
from tests.rendering import rendered
from tests.task_context import StateStore, TaskInstance, context, event_of, run

MODEL = "kling-v3-std-silent"
IMAGE = "https://example.com/start-frame.png"
SIGNED = f"{IMAGE}?X-Amz-Signature=0123456789abcdef0123456789abcdef"


@pytest.fixture(params=[False, True], ids=["text", "native"])
def dag(request: pytest.FixtureRequest) -> Iterator[DAG]:
    with DAG(
        "dag",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        render_template_as_native_obj=request.param,
        user_defined_macros={"place": "Venice"},
    ) as dag:
        yield dag


def returning(value: Any, **arguments: Any) -> Any:
    """Return a task whose function returns this."""

    @kling_task(**{"model": MODEL, "poll_interval": 0.1, "timeout": 20} | arguments)
    def idea() -> Any:
        return value

    return idea().operator


def prepared(task: Any, map_index: int = -1) -> Any:
    """Return the task as a worker runs it: with its arguments rendered."""
    return rendered(task, map_index).task


def asked(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [entry["request"] for entry in sandbox.ledger()]


class TestWhatIsReturned:
    def test_a_text_is_the_prompt(self, sandbox: Sandbox, connected: str) -> None:
        assert run(returning(PROMPT)) == sandbox.ledger()[0]["id"]
        assert asked(sandbox) == [{"model": MODEL, "prompt": PROMPT}]

    def test_a_dict_is_the_request(self, sandbox: Sandbox, connected: str) -> None:
        fields = {"model": MODEL, "prompt": PROMPT, "duration": 3, "image": None, "extra_body": {"seed": 7}}
        run(returning(fields, model=None))
        assert asked(sandbox) == [
            {"model": MODEL, "prompt": PROMPT, "duration": 3, "extra_body": {"seed": 7}},
        ]

    def test_the_rest_may_be_arguments_and_the_same_value_may_be_both(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        run(returning({"image": IMAGE, "prompt": PROMPT, "duration": 3}, last_image=IMAGE, duration=3))
        assert asked(sandbox) == [
            {"model": MODEL, "prompt": PROMPT, "duration": 3, "image": IMAGE, "last_image": IMAGE}
        ]

    def test_the_finished_video_is_returned(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3))
        ti = TaskInstance()
        video = run(returning(PROMPT, wait_for_completion=True), ti)
        assert video["kling_task_id"] == sandbox.ledger()[0]["id"]
        assert video["video_url"] == ti.pushed["video_url"]

    @pytest.mark.parametrize(
        ("value", "arguments", "words"),
        [
            (None, {}, "'idea' returned: return=None: must be the prompt .* not NoneType"),
            (["a"], {}, r"return=\['a'\]: must be the prompt \(str\) or a dict of request fields, not list"),
            (7, {}, "return=7"),
            ({"prompt": PROMPT, "lenght": 5}, {}, "lenght=5: is no request field; they are model, prompt"),
            ({"prompt": PROMPT, "kling_conn_id": "x"}, {}, "'idea'.*kling_conn_id='x': is no request field"),
            ({"prompt": PROMPT, 1: 5}, {}, "1=5: is no request field"),
            (
                {"prompt": PROMPT, "duration": 5},
                {"duration": 10},
                "duration=5: differs from the argument duration=10",
            ),
            (PROMPT, {"prompt": "A boat"}, "prompt='A traveler.*differs from the argument prompt='A boat'"),
            ({"model": "kling-v3", "prompt": PROMPT}, {}, "model='kling-v3': differs from the argument model="),
            (PROMPT, {"model": None}, "model=None: is required"),
            ("", {}, "give a prompt, or multi_prompt"),
            (" ", {}, "must not be blank"),
            ({}, {}, "give a prompt, or multi_prompt"),
            ({"prompt": PROMPT, "duration": 99}, {}, "duration=99: must be a whole number"),
            ({"prompt": PROMPT, "image": "/tmp/a.png"}, {}, "must be a public http"),  # noqa: S108
        ],
        ids=str,
    )
    def test_what_is_no_request_fails_without_a_retry_and_buys_nothing(
        self, sandbox: Sandbox, connected: str, value: Any, arguments: dict[str, Any], words: str
    ) -> None:
        store = StateStore()
        with pytest.raises(KlingValidationError, match=f"(?s){words}") as caught:
            run(returning(value, **arguments), TaskInstance(), store)
        assert isinstance(caught.value, AirflowFailException)
        assert set(sandbox.requests.values()) == {0}
        assert store == {}

    def test_a_signature_is_not_shown(self, sandbox: Sandbox, connected: str) -> None:
        with pytest.raises(KlingValidationError) as caught:
            run(returning({"prompt": PROMPT, "image": SIGNED, "picture": SIGNED}, image=f"{SIGNED}0"))
        assert "2 problems" in str(caught.value)
        assert "0123456789" not in str(caught.value)

    @pytest.mark.parametrize(
        "value",
        [
            {"multi_prompt": "Ada Lovelace in her garden"},
            {"prompt": {"text": "Ada Lovelace in her garden"}},
            {"prompt": PROMPT, "extra_body": {"prompt": "Ada Lovelace in her garden"}},
        ],
        ids=str,
    )
    def test_a_hidden_prompt_is_in_no_error(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, value: Any
    ) -> None:
        monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")
        with pytest.raises(KlingValidationError) as caught:
            run(returning(value))
        assert "Lovelace" not in str(caught.value)
        assert sandbox.ledger() == []


class TestTemplates:
    def test_what_is_returned_is_rendered_as_with_task_bash(
        self, sandbox: Sandbox, connected: str, dag: DAG
    ) -> None:
        @kling_task(model=MODEL)
        def idea(colour: str) -> dict[str, Any]:
            return {"prompt": "A {{ colour }} boat in {{ place }}", "duration": "{{ 1 + 2 }}"}

        run(prepared(idea(colour="{{ 'blue' }}").operator))
        assert asked(sandbox) == [{"model": MODEL, "prompt": "A blue boat in Venice", "duration": 3}]

    def test_a_text_from_outside_is_not_rendered_if_a_template_brings_it(
        self, sandbox: Sandbox, connected: str, dag: DAG
    ) -> None:

        @kling_task(model=MODEL)
        def idea(text: str) -> dict[str, Any]:
            assert text == "{{ 1 + 1 }}"
            return {"prompt": "{{ text }}"}

        run(prepared(idea(text="{{ '{{ 1 + 1 }}' }}").operator))
        assert asked(sandbox)[0]["prompt"] == "{{ 1 + 1 }}"

    def test_an_argument_is_rendered_only_once(self, sandbox: Sandbox, connected: str, dag: DAG) -> None:
        run(prepared(returning(PROMPT, extra_body={"seed": "{{ '{{ place }}' }}"})))
        assert asked(sandbox)[0]["extra_body"] == {"seed": "{{ place }}"}

    @pytest.mark.parametrize("text", ["2025", "1e5", "[a]", "'quoted'"])
    def test_a_text_stays_a_text(self, sandbox: Sandbox, connected: str, dag: DAG, text: str) -> None:
        run(prepared(returning(text)))
        assert asked(sandbox)[0]["prompt"] == text

    def test_a_signature_that_a_function_returns_is_masked(
        self, sandbox: Sandbox, connected: str, dag: DAG, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        masked: list[str] = []
        monkeypatch.setattr("airflow.providers.common.compat.sdk.mask_secret", masked.extend)
        run(prepared(returning({"prompt": PROMPT, "image": SIGNED})))
        assert "0123456789abcdef0123456789abcdef" in masked

    def test_an_argument_of_the_function_stays_what_it_is(
        self, sandbox: Sandbox, connected: str, dag: DAG
    ) -> None:
        deep: Any = SIGNED
        for _ in range(8):
            deep = {"in": deep}

        @kling_task(model=MODEL)
        def idea(found: Any) -> str:
            assert found == deep
            return PROMPT

        assert run(prepared(idea(found=deep).operator))


class TestTheFunction:
    @pytest.fixture
    def calls(self) -> list[str]:
        return []

    @pytest.fixture
    def make(self, calls: list[str]) -> Callable[..., Any]:
        def make(**arguments: Any) -> Any:
            @kling_task(**{"poll_interval": 0.1, "timeout": 20, "wait_for_completion": True} | arguments)
            def idea() -> dict[str, Any]:
                calls.append("called")
                return {"model": MODEL, "prompt": PROMPT}

            return idea().operator

        return make

    def test_it_is_not_called_when_the_video_is_finished(
        self, sandbox: Sandbox, connected: str, calls: list[str], make: Callable[..., Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3))
        ti, store = TaskInstance(), StateStore()
        with pytest.raises(TaskDeferred) as deferred:
            make().execute(context(ti, store))
        trigger = deferred.value.trigger
        assert isinstance(trigger, KlingTaskTrigger)
        assert trigger.model == MODEL
        event = event_of(deferred.value)
        video = make().resume_execution("execute_complete", {"event": event}, context(ti, store))
        assert video["kling_task_id"] == sandbox.ledger()[0]["id"]
        assert calls == ["called"]

    def test_it_is_not_called_when_a_trigger_crashed_after_the_submit(
        self, sandbox: Sandbox, connected: str, calls: list[str], make: Callable[..., Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "pace", seconds=0.3))
        ti, store = TaskInstance(), StateStore()
        with pytest.raises(TaskDeferred):
            make().execute(context(ti, store))
        crash = {"error": "Trigger failure", "traceback": ["boom"]}
        with pytest.raises(TaskDeferred) as deferred:
            make().resume_execution("__fail__", crash, context(ti, store))
        assert event_of(deferred.value)["kling_task_id"] == sandbox.ledger()[0]["id"]
        assert calls == ["called"]
        assert len(sandbox.ledger()) == 1

    def test_it_is_called_again_to_submit_after_the_wait_for_a_slot(
        self, sandbox: Sandbox, connected: str, calls: list[str], make: Callable[..., Any]
    ) -> None:
        sandbox.add_fault(Fault("submit", "error", times=1, status=429, code=1303))
        ti, store = TaskInstance(), StateStore()
        with pytest.raises(TaskDeferred) as deferred:
            make().execute(context(ti, store))
        assert isinstance(deferred.value.trigger, KlingSlotTrigger)
        assert deferred.value.method_name == "submit_again"
        resumed = make(wait_for_completion=False)
        again = {**(deferred.value.kwargs or {}), "event": {"status": "retry"}}
        assert resumed.resume_execution("submit_again", again, context(ti, store)) == sandbox.ledger()[0]["id"]
        assert calls == ["called"] * 2
        assert len(sandbox.ledger()) == 1

    def test_another_return_value_of_a_second_call_counts(self, sandbox: Sandbox, connected: str) -> None:
        """Also where one process makes both calls, as ``dag.test()`` does."""
        prompts = iter(["A boat", "A cart"])

        @kling_task(model=MODEL)
        def idea() -> str:
            return next(prompts)

        sandbox.add_fault(Fault("submit", "error", times=1, status=429, code=1303))
        task = idea().operator
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context())
        task.resume_execution("submit_again", dict(deferred.value.kwargs or {}), context())
        assert [request["prompt"] for request in asked(sandbox)] == ["A cart"]

    def test_it_may_take_airflows_context(self, sandbox: Sandbox, connected: str) -> None:
        @kling_task(model=MODEL)
        def idea(ti: Any = None, *, place: str, **others: Any) -> str:
            return f"{ti.task_id} in {place}, {'task_state_store' in others}"

        run(idea(place="Rome").operator)
        assert asked(sandbox)[0]["prompt"] == "video in Rome, True"


class TestPaidOnce:
    def attempts(self, prompts: list[str], *faults: Fault, sandbox: Sandbox) -> list[Any]:
        """Return what each attempt of one task returned or raised; each has the next prompt."""
        for fault in faults:
            sandbox.add_fault(fault)
        outcomes: list[Any] = []
        store = StateStore()
        for number, prompt in enumerate(prompts, start=1):
            try:
                outcomes.append(run(returning(prompt), TaskInstance(try_number=number, max_tries=3), store))
            except KlingError as error:
                outcomes.append(error)
        return outcomes

    def test_a_retry_joins(self, sandbox: Sandbox, connected: str) -> None:
        one, other = self.attempts([PROMPT, PROMPT], sandbox=sandbox)
        assert one == other == sandbox.ledger()[0]["id"]
        assert len(sandbox.ledger()) == 1

    def test_a_function_that_returns_something_else_is_another_request(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        one, other = self.attempts(["A boat", "A cart"], sandbox=sandbox)
        assert one != other
        assert len(sandbox.ledger()) == 2
        assert "that job is not joined" in task_log.text

    def test_a_submit_of_unknown_fate_stops_it_all_the_same(self, sandbox: Sandbox, connected: str) -> None:
        outcomes = self.attempts(["A boat", "A cart"], Fault("submit", "drop_after"), sandbox=sandbox)
        assert [type(outcome) for outcome in outcomes] == [KlingUncertainSubmissionError] * 2
        assert len(sandbox.ledger()) == 1

    def test_a_failed_job_fails_it_by_name(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("submit", "job_fails", message="no"))
        with pytest.raises(KlingGenerationFailedError):
            run(returning(PROMPT, wait_for_completion=True))


class TestMapping:
    def test_the_arguments_of_the_function_are_mapped(self, sandbox: Sandbox, connected: str, dag: DAG) -> None:
        @kling_task(duration=3)
        def idea(model: str, colour: str) -> dict[str, Any]:
            return {"model": model, "prompt": f"A {colour} boat"}

        mapped = idea.partial(model=MODEL).expand(colour=["red", "blue"]).operator
        rows: Any = [{"model": MODEL, "colour": "green"}]
        by_rows = idea.override(task_id="rows", duration=5).expand_kwargs(rows).operator
        for task, index in ((mapped, 0), (mapped, 1), (by_rows, 0)):
            ti = TaskInstance(task_id=task.task_id, map_index=index)
            assert run(prepared(task, index), ti)
        assert [(request["prompt"], request["duration"]) for request in asked(sandbox)] == [
            ("A red boat", 3),
            ("A blue boat", 3),
            ("A green boat", 5),
        ]

    @pytest.mark.parametrize("name", ["save_to", "last_frame_to"])
    def test_one_file_for_all_rows_is_refused_when_the_dag_is_parsed(self, name: str, dag: DAG) -> None:
        def idea(colour: str) -> str:
            return colour

        def task(path: Any) -> Any:
            paths = {"save_to": "s3://b/clips/", name: path}
            return kling_task(idea, model=MODEL, **paths).override(task_id="other")

        for path in ("s3://b/clip.mp4", ObjectStoragePath("file:///tmp/clip.mp4")):
            with pytest.raises(KlingValidationError, match=f"{name}=.*is one file for all rows"):
                task(path).expand(colour=["red", "blue"])
            with pytest.raises(KlingValidationError, match=f"{name}=.*is one file for all rows"):
                task(path).expand_kwargs([{"colour": "red"}])
        task("s3://b/{slug}.mp4").expand(colour=["red", "blue"])
        task("s3://b/clip.mp4")("red")

    def test_the_defaults_of_the_dag_apply(self, sandbox: Sandbox, connected: str) -> None:
        with DAG("defaults", schedule=None, default_args={"model": MODEL, "duration": 3}):

            @kling_task
            def idea() -> str:
                return PROMPT

            task = idea().operator
        run(task)
        assert asked(sandbox) == [{"model": MODEL, "prompt": PROMPT, "duration": 3}]


class TestWhatADagFileIsRefusedFor:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"model": "kling-v3-std-silnt"}, "did you mean kling-v3-std-silent"),
            ({"duration": 99}, "duration=99"),
            ({"on_clear": "never"}, "on_clear='never'"),
            ({"model": "kling-v2-6", "duration": 7}, "makes 5 or 10 seconds"),
        ],
    )
    def test_a_literal_argument(self, arguments: dict[str, Any], words: str) -> None:
        with pytest.raises(KlingValidationError, match=words):
            kling_task(**arguments)(lambda: PROMPT)
        with pytest.raises(KlingValidationError, match=words):
            kling_task(lambda: PROMPT).override(task_id="video", **arguments)()

    def test_what_the_function_may_still_return_is_not_missed(self) -> None:
        assert returning({}, model=None, last_image=IMAGE, multi_prompt=None).last_image == IMAGE

    def test_an_unknown_argument(self) -> None:
        with pytest.raises(Exception, match="bogus"):  # the type depends on the Airflow version
            returning(PROMPT, bogus=1)

    def test_outputs_of_what_has_only_one(self) -> None:
        with pytest.raises(KlingValidationError, match="multiple_outputs=True: needs wait_for_completion=True"):
            returning(PROMPT, multiple_outputs=True)
        assert returning(PROMPT, multiple_outputs=True, wait_for_completion=True).multiple_outputs

    def test_the_return_type_of_the_function_is_not_that_of_the_task(self) -> None:
        @kling_task(model=MODEL)
        def idea() -> dict[str, str]:
            return {"prompt": PROMPT}

        assert idea().operator.multiple_outputs is False
