# SPDX-License-Identifier: Apache-2.0
"""
What earlier versions left in databases and buckets is read by this one.

``tests/fixtures/formats/<number>`` holds samples, the newest in the folder with the greatest number. They are
never changed: what is written in another way from now on gets another folder. ``1`` holds single values, as the
first version wrote them. From ``2`` on, each file is a task under way; see ``tests/fixtures/stored_samples.py``.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_kling.exceptions import (
    KlingContentRefusedError,
    KlingError,
    KlingTimeoutError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.jobs.journal import VERSION, Journal
from airflow_provider_kling.jobs.limits import FORMAT
from airflow_provider_kling.jobs.look_up import LookUp
from airflow_provider_kling.jobs.polling import video_from_event
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.records.stores import RECORD_KEY, TaskStateStore
from airflow_provider_kling.sandbox import Sandbox
from airflow_provider_kling.version_compat import AIRFLOW_V_3_3_PLUS
from tests.fixtures.stored_samples import SCENARIOS, Sample, Task, connect, shape_of
from tests.fixtures.triggers import event_of
from tests.fixtures.variables import use_variables
from tests.task_context import StateStore, context

FORMATS = Path(__file__).parent / "fixtures" / "formats"
#: Epoch seconds, and nothing else in a sample, are greater.
_FIRST_TIME = 1.7e9


def sample(number: int, name: str) -> Any:
    return json.loads((FORMATS / str(number) / f"{name}.json").read_text(encoding="utf-8"))


def file_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


SAMPLES = sorted(path for path in FORMATS.glob("*/*.json") if path.parent.name != "1")
WITH_TRIGGER = [path for path in SAMPLES if "trigger" in json.loads(path.read_text())]
every_sample = pytest.mark.parametrize("path", SAMPLES, ids=file_of)
every_trigger = pytest.mark.parametrize("path", WITH_TRIGGER, ids=file_of)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up again at once, and wait for a slot for a moment only."""
    monkeypatch.setattr("airflow_provider_kling.jobs.slot_queue.FIRST_PROBE", 0.1)
    monkeypatch.setattr("airflow_provider_kling.jobs.look_up.pause_after_failure", lambda look_up: 0.0)
    monkeypatch.setattr(
        "airflow_provider_kling.hooks.kling.LookUp", lambda **fields: LookUp(**{**fields, "pause": 0.0})
    )


class Server:
    """
    The server that a task of a sample has submitted to: it has its jobs, under other ids.

    :param sandbox: A sandbox of the same API.
    :param path: The file of the sample.
    """

    def __init__(self, sandbox: Sandbox, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        stored: Sample = json.loads(text)
        connect(sandbox, stored["host"])
        for sent in stored["sent"]:
            url = f"http://127.0.0.1:{sandbox.port}{sent['path']}"
            headers = {"Authorization": f"Bearer {sandbox.api_keys[0]}"}
            requests.post(url, json=sent["body"], headers=headers, timeout=10).raise_for_status()
            text = text.replace(sent["id"], sandbox.ledger()[-1]["id"])
        self.sandbox = sandbox
        self.sample: Sample = moved(json.loads(text), by=time.time() - stored["written_at"])
        self.ids = [entry["id"] for entry in sandbox.ledger()]
        self.task = Task(stored["api"], StateStore(), kind=stored["operator"], **self.sample["arguments"])
        self.task.ti.try_number = 1
        # A retry, and no clear.
        self.task.ti.max_tries = max((event.get("max_tries", 0) for event in stored["history"]), default=0)

    @property
    def bought(self) -> list[str]:
        """The jobs that were bought since the sample was written."""
        return [entry["id"] for entry in self.sandbox.ledger()][len(self.ids) :]

    def attempt(self, **arguments: Any) -> Any:
        """Run the next attempt in a worker; return the id of its job, or the error that it ends with."""
        self.task.arguments |= {"deferrable": False, **arguments}
        return id_of(self.task.attempt())

    def resume(self, event: Any = None, **arguments: Any) -> Any:
        """Resume the task with the event of its trigger; it finds what it has pushed before its deferral."""
        self.task.arguments |= arguments
        self.task.ti.pushed |= self.sample["xcoms"]
        kwargs = self.sample["resume"]["kwargs"] | ({} if event is None else {"event": event})
        method = self.sample["resume"]["method"]
        return self.task.operator().resume_execution(method, kwargs, self.task.context())


def moved(value: Any, *, by: float) -> Any:
    """Return a sample in which all times are later by so many seconds."""
    if isinstance(value, dict):
        return {name: moved(item, by=by) for name, item in value.items()}
    if isinstance(value, list):
        return [moved(item, by=by) for item in value]
    is_time = isinstance(value, (int, float)) and value > _FIRST_TIME
    return value + by if is_time else value


def id_of(result: Any) -> Any:
    return result["kling_task_id"] if isinstance(result, dict) else result


@pytest.fixture
def server(path: Path, rendered: Path) -> Any:
    with Sandbox(api=json.loads(path.read_text())["api"], run_seconds=0, cache_dir=rendered) as sandbox:
        yield Server(sandbox, path)


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_written_now_has_a_sample(name: str, tmp_path: Path) -> None:
    """A change of what is stored fails here: others have it in their databases as it was before."""
    if name == "sensor_started_on_the_triggerer" and not AIRFLOW_V_3_3_PLUS:
        pytest.skip("Airflow before 3.3 starts no task on the triggerer")
    now = SCENARIOS[name]()
    stored = [path for path in SAMPLES if path.stem == name]
    newest = max(stored, key=lambda path: int(path.parent.name), default=None)
    if newest is not None and shape_of(now) == shape_of(json.loads(newest.read_text())):
        return
    new = tmp_path / f"{name}.json"
    new.write_text(json.dumps(now, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    number = max(int(folder.name) for folder in FORMATS.iterdir()) + 1
    old = "" if newest is None else "\n".join(differences(shape_of(json.loads(newest.read_text())), shape_of(now)))
    pytest.fail(
        f"{name} is stored in another form than in the newest sample, {newest}:\n{old}\n"
        "If that was not intended, undo it. If it was, keep the old sample: databases still hold what it shows. "
        f"Add what is written now, {new}, to a folder of this change, {FORMATS}/{number}, and read both."
    )


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Return what differs between two shapes, a line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted(old.keys() | new.keys())
            for line in differences(old.get(key, "(none)"), new.get(key, "(none)"), f"{place}.{key}")
        ]
    return [] if old == new else [f"  {place.lstrip('.')}: {json.dumps(old)} -> {json.dumps(new)}"]


def test_there_are_samples_of_each_version() -> None:
    numbers = {event["version"] for path in SAMPLES for event in json.loads(path.read_text())["history"]}
    assert numbers == set(range(1, VERSION + 1))
    stored = [json.loads(path.read_text())["trigger"]["kwargs"] for path in WITH_TRIGGER]
    # Without one are the arguments that Airflow reads from a DAG.
    assert {kwargs["version"] for kwargs in stored if "version" in kwargs} == set(range(1, FORMAT + 1))


STORES = ("state", "variable", "folder", "variable, before an upgrade to Airflow 3.3")
#: Samples of submits that only a person can decide on, and of a task that has bought nothing.
UNDECIDED, NOTHING_BOUGHT = ("lost", "withdrawn"), ("waiting_for_a_slot",)


@pytest.fixture
def kept_in(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that puts the record of a sample into one of the stores."""
    variables = use_variables(monkeypatch)

    def keep(store: str) -> None:
        record = server.sample["record"]
        if store == "state":
            server.task.state = StateStore({RECORD_KEY: record["state"]})
        elif store == "folder":
            server.task.state = None
            monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", f"file://{tmp_path}")
            for name, event in record["folder"].items():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(json.dumps(event))
        else:
            server.task.state = None if store == "variable" else StateStore()
            variables.update({name: json.dumps(value) for name, value in record["variable"].items()})

    return keep


@pytest.mark.parametrize("store", STORES)
@every_sample
def test_the_next_attempt_finds_what_was_bought(path: Path, store: str, server: Server, kept_in: Any) -> None:
    kept_in(store)
    result = server.attempt()
    if path.stem in NOTHING_BOUGHT:
        assert [result] == server.bought
        return
    if path.stem in UNDECIDED:
        assert isinstance(result, KlingUncertainSubmissionError)
    else:
        assert result == server.ids[-1], result
    assert server.bought == []


@pytest.mark.parametrize("form", [0, 1], ids=["one Variable", "kling_adopt"])
@pytest.mark.parametrize("path", [path for path in SAMPLES if path.stem == "lost"], ids=file_of)
def test_a_persons_decision_counts(server: Server, form: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in server.sample["decisions"][form].items():
        monkeypatch.setenv(f"AIRFLOW_VAR_{name.upper()}", text)
    server.task.state = StateStore({RECORD_KEY: server.sample["record"]["state"]})
    assert server.attempt() == server.ids[-1]
    assert server.bought == []


@every_trigger
def test_the_trigger_runs_and_the_task_goes_on(path: Path, server: Server) -> None:
    stored = server.sample["trigger"]
    module, _, name = stored["classpath"].rpartition(".")
    event = asyncio.run(event_of(getattr(import_module(module), name)(**stored["kwargs"])))
    result = server.resume(event, deferrable=False)
    if path.stem in NOTHING_BOUGHT:
        assert [id_of(result)] == server.bought
        return
    assert (id_of(result), server.bought) == (server.ids[-1], [])
    if path.stem.startswith("sensor"):
        return
    cost = server.sample["xcoms"]["kling_estimated_cost"]
    assert result["request"] == server.sample["xcoms"]["kling_request"]
    assert (result["estimated_cost"], result["currency"]) == (cost["amount"], cost["currency"])


@every_trigger
def test_a_stored_event_resumes_the_task(path: Path, server: Server) -> None:
    for status, event in server.sample.get("events", {}).items():
        if status == "success":
            video = server.resume(event)
            known = {name: value for name, value in event["video"].items() if value is not None}
            assert {name: video[name] for name in known} == known
            assert server.task.ti.pushed["kling_progress"] == event["progress"]
        elif status == "slot":
            assert id_of(server.resume(event, deferrable=False)) == server.bought[0]
        else:
            with pytest.raises(KlingError) as raised:
                server.resume(event)
            assert event["error"]["type"] in {each.__name__ for each in type(raised.value).__mro__}
            assert raised.value.kling_task_id == server.ids[-1]
    assert len(server.bought) == (path.stem in NOTHING_BOUGHT)


@every_trigger
def test_a_task_whose_trigger_crashes_goes_on(path: Path, server: Server) -> None:
    """An older triggerer does not know the arguments of a newer version, for example."""
    server.task.state = StateStore({RECORD_KEY: server.sample["record"]["state"]})
    server.sample["resume"] = {"method": "__fail__", "kwargs": {"error": "Trigger failure"}}
    result = server.resume(deferrable=False)
    expected = server.bought if path.stem in NOTHING_BOUGHT else server.ids[-1:]
    assert [id_of(result)] == expected
    assert len(server.bought) == (path.stem in NOTHING_BOUGHT)


class TestTheFirstVersion:
    """Values of ``1``, from before the samples were tasks."""

    def test_a_record(self) -> None:
        store = TaskStateStore(StateStore({RECORD_KEY: sample(1, "record")}), prove=True)
        submits = list(Journal(store.load()).submits.values())
        assert [submit.fate for submit in submits] == ["nothing", "nothing", "dismissed", "job", "job", "unknown"]
        lost, bought, adopted = submits[2:5]
        assert lost.dismissed_by == "kling_adopt_cccccccccccc"
        assert bought.kling_task_id == "task_697a1b"
        assert bought.tries_seen == {2, 5}
        assert adopted.kling_task_id == "task_found"
        assert bought.summary == "kling-v3-std-silent, 5 s, “A paper boat drifts down a rainy street”"

    def test_triggers(self) -> None:
        for class_path, arguments in sample(1, "triggers"):
            module, _, name = class_path.rpartition(".")
            trigger = getattr(import_module(module), name)(**arguments)
            written = trigger.serialize()
            assert written[0] == class_path
            assert arguments.items() <= written[1].items() | {("version", 1)}

    def test_events(self) -> None:
        finished, refused, late, _ = sample(1, "events")
        assert video_from_event(finished)["video_url"] == "https://cdn.example.com/clip.mp4"
        with pytest.raises(KlingContentRefusedError, match="风控"):
            video_from_event(refused)
        with pytest.raises(KlingTimeoutError):
            video_from_event(late)

    def test_a_task_that_waited_for_a_slot(self, sandbox: Sandbox, connected: str) -> None:
        operator = KlingGenerateOperator(
            task_id="generate", model="kling-v3-std-silent", prompt="A paper boat", submit_timeout=1e8
        )
        [(method, arguments)] = sample(1, "resume").items()
        event = sample(1, "events")[3]
        resumed = operator.resume_execution(method, {**arguments, "event": event}, context())
        assert resumed == sandbox.ledger()[0]["id"]
