# SPDX-License-Identifier: Apache-2.0
"""With ``[kling] show_prompts = false`` no prompt is written down, and the same is sent and bought as ever."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred, redact

from airflow_provider_kling.exceptions import (
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.jobs.shown_prompt import prompt_hash
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.records.__main__ import main
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.shown_prompts import WITHHELD
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.conftest import Connect, TaskLog
from tests.rendering import rendered
from tests.task_context import StateStore, TaskInstance, context, event_of

PROMPT = "A portrait of Mrs Jane Doe, 3 Elm Street, with her “cat”."
NEGATIVE = "Mrs Jane Doe in a wheelchair"
HASH, NEGATIVE_HASH = prompt_hash(PROMPT), prompt_hash(NEGATIVE)
PERSONAL = re.compile(r"Jane|Doe|Elm.?Street|wheelchair", re.IGNORECASE)
GOOD: dict[str, Any] = {
    "model": "kling-v3-std-silent",
    "prompt": PROMPT,
    "negative_prompt": NEGATIVE,
    "duration": 3,
}
WAYS = pytest.mark.parametrize("way", [{}, {"deferrable": False}], ids=["deferred", "blocking"])


@pytest.fixture(autouse=True)
def _hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")


@pytest.fixture(autouse=True)
def connected(sandbox: Sandbox, connect: Connect) -> str:
    return connect(sandbox.base_url, sandbox.api_key, read_timeout=30)


class Variables(dict[str, str]):
    """Airflow's Variables."""

    def set(self, name: str, value: str, **_: Any) -> None:
        self[name] = value

    def delete(self, name: str) -> None:
        self.pop(name, None)


@dataclass
class Runs:
    """The attempts of one task, and all that Airflow and this package keep of them."""

    log: TaskLog
    ti: TaskInstance = field(default_factory=TaskInstance)
    store: Any = field(default_factory=StateStore)
    kept: list[Any] = field(default_factory=list)
    """Results, XComs, triggers, what a task is resumed with, and errors."""

    def run(self, task: Any) -> Any:
        arguments: dict[str, Any] = {}
        method = "execute"
        while True:
            given = {**context(self.ti), "task_state_store": self.store}
            try:
                result = (
                    task.execute(given) if method == "execute" else task.resume_execution(method, arguments, given)
                )
            except TaskDeferred as deferred:
                event = event_of(deferred)
                self.kept += [deferred.trigger.serialize(), deferred.kwargs, event]
                method, arguments = deferred.method_name, {**(deferred.kwargs or {}), "event": event}
                continue
            except KlingError as error:
                self.kept += [repr(error), str(error), error.to_dict(), *traceback.format_exception(error)]
                self.kept += [*map(str, (error.__cause__, error.__context__)), dict(self.ti.pushed)]
                raise
            self.kept += [result, dict(self.ti.pushed)]
            return result

    @property
    def logged(self) -> str:
        """The log, without the lines of the sandbox, which is a server that happens to run in this process."""
        records = [record for record in self.log.standard.records if "sandbox" not in record.name]
        return "\n".join((*map(str, self.log.lines), *map(logging.Formatter().format, records)))

    @property
    def text(self) -> str:
        return "\n".join(
            (*(json.dumps(part, ensure_ascii=False) for part in self.kept), json.dumps(self.store), self.logged)
        )


@pytest.fixture
def runs(task_log: TaskLog) -> Runs:
    return Runs(task_log)


@pytest.fixture(params=["task state store", "folder", "Variable"])
def record(
    request: pytest.FixtureRequest, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """Keep the record in one of its stores; return a function that returns all that is in there."""
    if request.param == "folder":
        folder = tmp_path / "record"
        folder.mkdir()
        monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", f"file://{folder}")
        return lambda: "\n".join(path.read_text() for path in folder.rglob("*.json"))
    variables = Variables()
    monkeypatch.setattr("airflow_provider_kling.records.stores.Variable", variables)
    monkeypatch.setattr("airflow_provider_kling.records.Variable", variables)
    if request.param == "Variable":
        runs.store = None  # then a Variable is used
        return lambda: json.dumps(variables)
    return lambda: json.dumps(runs.store)


def operator(**arguments: Any) -> KlingGenerateOperator:
    return KlingGenerateOperator(task_id="video", **GOOD | {"poll_interval": 0.1, "timeout": 20} | arguments)


def assert_sent(sandbox: Sandbox, times: int = 1) -> None:
    """The server got the prompts whole."""
    requests = [entry["request"] for entry in sandbox.ledger()]
    assert len(requests) == times
    for request in requests:
        assert (request["prompt"], request["extra_body"]["negative_prompt"]) == (PROMPT, NEGATIVE)


def assert_hidden(text: str) -> None:
    found = PERSONAL.search(text)
    assert found is None, text[max(0, found.start() - 200) :][:400]


@WAYS
def test_a_stored_video_shows_the_hash(
    sandbox: Sandbox,
    tmp_path: Path,
    way: dict[str, Any],
    runs: Runs,
    record: Callable[[], str],
) -> None:
    clips = tmp_path / "clips"
    video = runs.run(operator(save_to=f"file://{clips}/{{slug}}.{{ext}}", sidecar=True, **way))
    assert video["request"]["prompt"] == HASH
    assert video["request"]["extra_body"]["negative_prompt"] == NEGATIVE_HASH
    assert sorted(path.name for path in clips.iterdir()) == [f"{HASH}.json", f"{HASH}.mp4"]
    assert json.loads((clips / f"{HASH}.json").read_text())["request"] == video["request"]
    assert HASH in record()
    assert_hidden(runs.text + record() + (clips / f"{HASH}.json").read_text())
    assert_sent(sandbox)


def test_the_command_lists_the_hash(
    sandbox: Sandbox,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = f"file://{tmp_path}"
    monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", folder)
    runs.run(operator())
    main(["list", "--path", folder])
    assert f"“{HASH}”" in capsys.readouterr().out


def test_a_lost_submit_is_reported_with_the_hash(sandbox: Sandbox, runs: Runs, record: Callable[[], str]) -> None:
    message = f"upstream timed out on {json.dumps(PROMPT)}"
    sandbox.add_fault(Fault("submit", "error", status=504, accepted=True, message=message))
    with pytest.raises(KlingUncertainSubmissionError) as caught:
        runs.run(operator())
    assert f"“{HASH}”" in str(caught.value)
    assert "upstream timed out on" in str(caught.value)
    assert runs.ti.pushed["kling_uncertain"]["prompt"] == HASH
    assert_hidden(runs.text + record())
    assert "upstream timed out on" in record()
    assert_sent(sandbox)


@pytest.mark.parametrize(
    "quote",
    [
        PROMPT,
        PROMPT.upper(),
        json.dumps(PROMPT),
        json.dumps({"prompt": PROMPT}, ensure_ascii=False),
        f"{PROMPT[:40]}...",
        "…of Mrs Jane Doe, 3 Elm St…",
        *(f"{'x' * length} {PROMPT}" for length in range(455, 471, 5)),
    ],
)
def test_a_refusal_that_quotes_the_prompt_has_the_hash(sandbox: Sandbox, runs: Runs, quote: str) -> None:
    message = f"This is not allowed: {quote} and {NEGATIVE}"
    sandbox.add_fault(Fault("submit", "refuse_content", message=message))
    with pytest.raises(KlingContentRefusedError) as caught:
        runs.run(operator())
    assert "This is not allowed:" in str(caught.value)
    assert HASH in str(caught.value)
    assert_hidden(runs.text)


@WAYS
def test_a_job_that_fails_over_its_prompt_names_the_reason(
    sandbox: Sandbox, runs: Runs, way: dict[str, Any]
) -> None:
    sandbox.add_fault(Fault("submit", "job_fails", message=f"Cannot show “{PROMPT}”"))
    with pytest.raises(KlingGenerationFailedError) as caught:
        runs.run(operator(wait_for_completion=True, **way))
    assert f"Cannot show “{HASH}" in str(caught.value)
    assert_hidden(runs.text)
    assert_sent(sandbox)


@WAYS
def test_a_sensor_does_not_know_the_prompt_and_withholds_what_may_quote_it(
    sandbox: Sandbox, runs: Runs, way: dict[str, Any]
) -> None:
    sandbox.add_fault(Fault("submit", "job_fails", message=f"Cannot show “{PROMPT}”"))
    kling_task_id = runs.run(operator())
    with pytest.raises(KlingGenerationFailedError) as caught:
        runs.run(KlingTaskSensor(task_id="wait", kling_task_id=kling_task_id, poke_interval=0.1, **way))
    assert WITHHELD in str(caught.value)
    assert_hidden(runs.text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": [PROMPT]},
        {"multi_prompt": PROMPT},
        {"multi_prompt": [{"prompt": PROMPT, "duration": float("nan")}]},
        {"extra_body": {"prompt": f"{PROMPT} again"}},
        {"extra_body": {"other_prompt": PROMPT, "other": float("nan")}},
    ],
)
def test_a_wrong_argument_is_named_without_the_prompt(sandbox: Sandbox, runs: Runs, wrong: dict[str, Any]) -> None:
    task = operator()
    for name, value in wrong.items():
        setattr(task, name, value)
    with pytest.raises(KlingValidationError) as caught:
        runs.run(task)
    assert next(iter(wrong)) in str(caught.value)
    assert_hidden(runs.text)
    with pytest.raises(KlingValidationError) as caught:
        operator(**wrong)
    assert_hidden("".join(traceback.format_exception(caught.value)))
    assert sandbox.ledger() == []


def test_a_retry_joins_whether_prompts_are_shown_or_not(
    sandbox: Sandbox, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "True")
    first = runs.run(operator())
    assert PERSONAL.search(json.dumps(runs.store))
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")
    runs.ti.try_number = 2
    assert runs.run(operator()) == first
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "True")
    runs.ti.try_number = 3
    assert runs.run(operator()) == first
    assert_sent(sandbox)


def test_a_prompt_that_was_recorded_in_words_is_reported_as_its_hash(
    sandbox: Sandbox, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "True")
    sandbox.add_fault(Fault("submit", "drop_after"))
    with pytest.raises(KlingUncertainSubmissionError):
        runs.run(operator())
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")
    later = Runs(runs.log, TaskInstance(try_number=2), runs.store)
    runs.log.standard.clear()
    runs.log.lines.clear()
    with pytest.raises(KlingUncertainSubmissionError):
        later.run(operator(prompt="Another one"))
    later.store = {}  # the record keeps what an earlier attempt wrote
    assert_hidden(later.text)


def test_a_request_that_was_deferred_before_the_option_was_set_is_hidden(
    sandbox: Sandbox, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "True")
    task = operator(save_to=f"file://{tmp_path}/{{slug}}.mp4")
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(runs.ti, runs.store))
    assert PERSONAL.search(str(runs.ti.pushed["kling_request"]))
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")
    given = {**(deferred.value.kwargs or {}), "event": event_of(deferred.value)}
    video = task.resume_execution(deferred.value.method_name, given, context(runs.ti, runs.store))
    assert video["request"]["prompt"] == HASH
    assert video["path"].endswith(f"/{HASH}.mp4")


@pytest.mark.parametrize("earlier", ["True", "False"])
def test_the_task_that_stores_takes_the_hash(
    sandbox: Sandbox, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, earlier: str
) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", earlier)
    video = Runs(runs.log).run(operator(wait_for_completion=True))
    monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")
    task = KlingToObjectStorageOperator(
        task_id="store", video=video, path=f"file://{tmp_path}/{{slug}}.mp4", sidecar=True
    )
    assert task.map_label == f"prompt {HASH}"
    stored = runs.run(task)
    assert stored["path"] == f"file://{tmp_path}/{HASH}.mp4"
    assert_hidden(json.dumps(runs.kept) + (tmp_path / f"{HASH}.json").read_text())


def test_shots_are_hidden_each(sandbox: Sandbox, runs: Runs) -> None:
    shots = [{"index": 1, "prompt": PROMPT, "duration": "3"}, {"index": 2, "prompt": NEGATIVE, "duration": "2"}]
    image = "https://media.example.com/a.png"
    task = operator(prompt=None, negative_prompt=None, image=image, multi_prompt=shots, wait_for_completion=True)
    task.duration = 5
    video = runs.run(task)
    shown = video["request"]["extra_body"]["multi_prompt"]
    assert shown == [
        {"index": 1, "prompt": HASH, "duration": "3"},
        {"index": 2, "prompt": NEGATIVE_HASH, "duration": "2"},
    ]
    assert HASH in json.dumps(runs.store)
    assert_hidden(runs.text)
    [entry] = sandbox.ledger()
    assert entry["request"]["extra_body"]["multi_prompt"] == shots


def test_a_label_is_the_hash() -> None:
    assert operator().map_label == f"prompt {HASH}"
    assert operator(prompt=None, multi_prompt=[{"prompt": PROMPT}]).map_label == ""


class TestRenderedTemplates:
    @pytest.fixture(autouse=True)
    def _nothing_masked_yet(self) -> Iterator[None]:
        masker: Any = pytest.importorskip("airflow.sdk._shared.secrets_masker")._secrets_masker()
        patterns, replacer = set(masker.patterns), masker.replacer
        yield
        masker.patterns, masker.replacer = patterns, replacer

    @pytest.fixture
    def dag(self) -> Iterator[DAG]:
        macros = {"name": lambda: "Mrs Jane Doe", "shots": lambda: json.dumps([{"prompt": PROMPT}])}
        start = datetime(2026, 1, 1, tzinfo=UTC)
        with DAG("dag", schedule=None, start_date=start, user_defined_macros=macros) as dag:
            yield dag

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"prompt": PROMPT.replace("Mrs Jane Doe", "{{ name() }}")},
            {"prompt": None, "image": "https://a.example.com/a.png", "multi_prompt": "{{ shots() }}"},
            {"extra_body": {"a": {"b": {"c": {"d": {"e": {"prompt": PROMPT}}}}}}},
        ],
        ids=["literal", "template", "JSON", "deep"],
    )
    @pytest.mark.parametrize("is_mapped", [False, True])
    def test_show_no_prompt(self, dag: DAG, arguments: dict[str, Any], is_mapped: bool) -> None:
        given = GOOD | arguments
        if is_mapped:
            prompt = given.pop("negative_prompt")
            task = KlingGenerateOperator.partial(task_id="video", **given).expand(negative_prompt=[prompt])
            found = rendered(task, map_index=0)
        else:
            found = rendered(KlingGenerateOperator(task_id="video", **given))
        assert_hidden(json.dumps(found.stored))
        assert found.task.negative_prompt == NEGATIVE
        assert_hidden(str(redact(f"a line of a log with {NEGATIVE!r}")))


class TestByDefault:
    """The prompts are shown, as ever."""

    @pytest.fixture(autouse=True)
    def _shown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AIRFLOW__KLING__SHOW_PROMPTS")

    def test_a_result_has_them(self, sandbox: Sandbox, runs: Runs, tmp_path: Path) -> None:
        video = runs.run(operator(save_to=f"file://{tmp_path}/{{slug}}.mp4"))
        assert video["request"]["prompt"] == PROMPT
        assert "a-portrait-of-mrs-jane-doe" in video["path"]
        assert PROMPT in json.dumps(runs.store, ensure_ascii=False)
        assert HASH not in runs.text
        assert operator().map_label.startswith("A portrait of Mrs Jane Doe")
        assert_sent(sandbox)

    @WAYS
    def test_an_error_has_them(self, sandbox: Sandbox, runs: Runs, way: dict[str, Any]) -> None:
        sandbox.add_fault(Fault("submit", "job_fails", message=f"Cannot show {PROMPT}"))
        with pytest.raises(KlingGenerationFailedError, match=re.escape(f"Cannot show {PROMPT}")):
            runs.run(operator(wait_for_completion=True, **way))

    def test_a_wrong_argument_is_quoted(self) -> None:
        with pytest.raises(KlingValidationError, match="Jane Doe"):
            operator(extra_body={"prompt": PROMPT + "!"})
