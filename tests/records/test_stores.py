# SPDX-License-Identifier: Apache-2.0
"""Each store keeps a record complete, and a failing store never passes for an empty record."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.jobs.journal import Journal
from airflow_provider_kling.records import (
    Identity,
    forget_after_success,
    is_durable,
    read_variable,
    record_store,
)
from airflow_provider_kling.records.folder import FolderStore
from airflow_provider_kling.records.stores import (
    RECORD_KEY,
    BothStores,
    NoStore,
    Store,
    TaskStateStore,
    VariableStore,
)
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS
from tests.fixtures.record_events import intent, outcome
from tests.fixtures.variables import Variables, use_variables
from tests.task_context import StateStore, TaskInstance, context

IDENTITY = Identity("dag", "run", "task", 3)


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    book = use_variables(monkeypatch)
    monkeypatch.setattr("airflow_provider_kling.records.Variable", book)
    return book


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return f"file://{tmp_path}"


@pytest.fixture(params=["state", "variable", "folder", "both"])
def again(request: pytest.FixtureRequest, folder: str, variables: Variables) -> Callable[[], Store]:
    """A function that opens the same store as another attempt does."""
    state = StateStore()

    def state_store() -> Store:
        return TaskStateStore(state, prove=True)

    def folder_store() -> Store:
        return FolderStore(folder, IDENTITY, prove=True)

    return {
        "state": state_store,
        "variable": lambda: VariableStore(IDENTITY),
        "folder": folder_store,
        "both": lambda: BothStores(state_store(), folder_store()),
    }[request.param]


class TestEveryStore:
    def test_is_empty_at_first(self, again: Callable[[], Store]) -> None:
        assert list(again().load()) == []

    def test_shows_every_event_to_another_attempt(self, again: Callable[[], Store]) -> None:
        first, second = intent(), intent()
        again().append(first)
        again().append(second)
        again().append(outcome(first))
        submits = Journal(again().load()).submits
        assert {submit.id: submit.fate for submit in submits.values()} == {
            first["intent"]: "job",
            second["intent"]: "unknown",
        }

    def test_forgets_a_submit_and_no_other(self, again: Callable[[], Store]) -> None:
        kept, dropped = intent(), intent()
        for event in (kept, dropped, outcome(dropped, "refused", reason="slot")):
            again().append(event)
        again().forget(dropped["intent"])
        assert {event["intent"] for event in again().load()} == {kept["intent"]}
        again().forget(kept["intent"])
        assert list(again().load()) == []
        again().append(kept)
        assert len({event["id"] for event in again().load()}) == 1

    def test_keeps_what_it_does_not_know(self, again: Callable[[], Store]) -> None:
        event = {**intent(), "colour": "green"}
        again().append(event)
        again().append(outcome(event))
        assert {e.get("colour") for e in again().load()} == {"green", None}


class TestTheTaskStateStore:
    @pytest.mark.parametrize(
        "stored",
        [{}, "", [], {"submissions": []}, {"version": 1}, {"events": []}, {"version": "x", "events": []}, 0],
    )
    def test_takes_nothing_else_for_an_empty_record(self, stored: Any) -> None:
        with pytest.raises(KlingError, match="unreadable"):
            TaskStateStore(StateStore({RECORD_KEY: stored}), prove=False).load()

    def test_rejects_a_newer_version_with_a_message(self) -> None:
        state = StateStore({RECORD_KEY: {"version": 2, "events": []}})
        with pytest.raises(KlingError, match="newer version of this package"):
            TaskStateStore(state, prove=False).load()

    def test_keeps_what_a_document_has_besides(self) -> None:
        state = StateStore({RECORD_KEY: {"version": 1, "events": [], "colour": "green"}})
        TaskStateStore(state, prove=False).append(intent())
        assert state[RECORD_KEY]["colour"] == "green"

    def test_is_not_believed_to_be_empty_where_it_keeps_nothing(self) -> None:
        class Answers404(StateStore):
            """Another server behind the same balancer: it reports every key as missing."""

            def get(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
                return None

        assert list(TaskStateStore(Answers404(), prove=False).load()) == []
        with pytest.raises(OSError, match="did not return a value that was just written"):
            TaskStateStore(Answers404(), prove=True).load()

    def test_is_not_overwritten_where_it_seems_to_be_gone(self) -> None:
        class Away(StateStore):
            def get(self, *_: Any) -> Any:
                return None

        kept = StateStore()
        TaskStateStore(kept, prove=False).append(intent())
        away = Away(kept)
        with pytest.raises(OSError, match="did not return"):
            TaskStateStore(away, prove=True).append(intent())
        assert away[RECORD_KEY] == kept[RECORD_KEY]

    def test_is_read_again_after_its_proof(self) -> None:
        class OneBadMoment(StateStore):
            answers = 0

            def get(self, key: str, default: Any = None) -> Any:  # type: ignore[override]
                self.answers += 1
                return None if self.answers == 1 else super().get(key)

        state = OneBadMoment()
        TaskStateStore(StateStore(), prove=False)
        state.set(RECORD_KEY, {"version": 1, "events": [intent()]})
        assert len(TaskStateStore(state, prove=True).load()) == 1


class TestAVariable:
    def test_that_cannot_be_looked_up_is_not_taken_for_none(self, variables: Variables) -> None:
        VariableStore(IDENTITY).append(intent())
        variables.broken = 1
        assert len(VariableStore(IDENTITY).load()) == 1
        variables.broken = 99
        with pytest.raises(OSError, match="did not return"):
            VariableStore(IDENTITY).load()

    def test_is_not_overwritten_where_it_cannot_be_looked_up(self, variables: Variables) -> None:
        first = intent()
        VariableStore(IDENTITY).append(first)
        for broken in (1, 2, 3, 99):
            variables.broken = broken
            with suppress(OSError, KlingError):
                VariableStore(IDENTITY).append(outcome(first))
            variables.broken = 0
            assert first["intent"] in Journal(VariableStore(IDENTITY).load()).submits

    def test_that_is_found_once_and_then_not_is_not_overwritten(self, variables: Variables) -> None:
        first = intent()
        VariableStore(IDENTITY).append(first)
        get, looks = variables.get, iter([True])

        def find_once(key: str, default: Any = None) -> Any:
            return get(key, default) if next(looks, False) else default

        variables.get = find_once  # type: ignore[method-assign]
        with suppress(OSError):
            VariableStore(IDENTITY).append(intent())
        variables.get = get  # type: ignore[method-assign]
        assert first["intent"] in Journal(VariableStore(IDENTITY).load()).submits

    @pytest.mark.parametrize("text", ["", "null", "{}", '{"submissions": []}', "not JSON", '""'])
    def test_of_another_content_is_unreadable(self, variables: Variables, text: str) -> None:
        variables[VariableStore(IDENTITY).name] = text
        with pytest.raises(KlingError, match="unreadable"):
            VariableStore(IDENTITY).load()

    def test_names_its_task_and_is_deleted(self, variables: Variables) -> None:
        store = VariableStore(IDENTITY)
        store.append(intent())
        assert json.loads(variables[store.name])["task"]["run_id"] == "run"
        store.delete()
        assert variables == {}

    def test_belongs_to_one_task_instance(self) -> None:
        names = {VariableStore(IDENTITY._replace(**{part: "x"})).name for part in ("dag_id", "run_id", "task_id")}
        assert len(names | {VariableStore(IDENTITY).name, VariableStore(IDENTITY._replace(map_index=4)).name}) == 5


class TestAFolder:
    def test_that_is_not_there_has_not_no_records(self, tmp_path: Path) -> None:
        store = FolderStore(f"file://{tmp_path}/not-mounted", IDENTITY, prove=False)
        with pytest.raises(NotADirectoryError, match="state_path"):
            store.load()
        with pytest.raises(NotADirectoryError, match="state_path"):
            store.append(intent())

    def test_has_a_file_for_each_event_and_overwrites_none(self, tmp_path: Path, folder: str) -> None:
        event = intent()
        FolderStore(folder, IDENTITY, prove=False).append(event)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
        FolderStore(folder, IDENTITY, prove=False).append(outcome(event))
        after = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
        assert len(after) == 2
        assert before.items() <= after.items()
        assert {path.parent for path in after} == {tmp_path / "dag" / "run" / "task" / "3"}
        assert [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".json"] == []

    def test_takes_an_event_again_whose_writing_failed_half_way(
        self, folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The outcome of a paid job is written again and again until it is there."""
        store, event = FolderStore(folder, IDENTITY, prove=False), intent()

        def no_space(descriptor: int) -> None:
            raise OSError("no space")

        with monkeypatch.context() as full:
            full.setattr("os.fsync", no_space)
            with pytest.raises(OSError, match="no space"):
                store.append(event)
        assert list(store.load()) == []
        store.append(event)
        assert event["intent"] in Journal(store.load()).submits

    def test_with_half_an_event_is_unreadable(self, tmp_path: Path, folder: str) -> None:
        store = FolderStore(folder, IDENTITY, prove=False)
        store.append(intent())
        [path] = tmp_path.rglob("*.json")
        for content in (b"{half an ev", b"", b"null", b"[]"):
            path.write_bytes(content)
            with pytest.raises(KlingError, match="unreadable"):
                Journal(store.load())

    def test_in_which_a_paid_id_lost_its_intent_is_unreadable(self, tmp_path: Path, folder: str) -> None:
        store, event = FolderStore(folder, IDENTITY, prove=False), intent()
        store.append(event)
        store.append(outcome(event))
        next(tmp_path.rglob("*.intent.*")).unlink()
        with pytest.raises(KlingError, match=r"unreadable.*is missing"):
            Journal(store.load())

    @pytest.mark.parametrize(
        "name", ["视" * 90, "a/b", "a b", "..", "scheduled__2026-11-25T00:00:00+00:00", "x" * 250, "what?", "[1]*"]
    )
    def test_takes_any_id(self, folder: str, tmp_path: Path, name: str) -> None:
        identity = Identity(name, name, name, -1)
        FolderStore(folder, identity, prove=False).append(intent())
        assert len(FolderStore(folder, identity, prove=True).load()) == 1
        assert all(tmp_path in path.resolve().parents for path in tmp_path.rglob("*"))

    @pytest.mark.parametrize("part", ["dag_id", "run_id", "task_id"])
    def test_no_two_task_instances_share_a_record(self, folder: str, part: str) -> None:
        FolderStore(folder, IDENTITY, prove=False).append(intent())
        assert not FolderStore(folder, IDENTITY._replace(**{part: "other"}), prove=False).load()
        assert not FolderStore(folder, IDENTITY._replace(map_index=4), prove=False).load()


class Down(TaskStateStore):
    """A store that cannot be written or, optionally, read."""

    def __init__(self, *, readable: bool = True) -> None:
        super().__init__(StateStore(), prove=False)
        self.readable = readable

    def load(self) -> Any:
        if not self.readable:
            raise ConnectionError("down")
        return super().load()

    def append(self, event: Any) -> None:
        raise ConnectionError("down")


class TestTwoStoresTogether:
    def test_take_an_intent_both_or_not_at_all(self, folder: str) -> None:
        up = FolderStore(folder, IDENTITY, prove=False)
        for stores in ((up, Down()), (Down(), up)):
            with pytest.raises(ConnectionError):
                BothStores(*stores).append(intent())

    def test_take_an_outcome_if_one_does(self, folder: str) -> None:
        event = intent()
        up = FolderStore(folder, IDENTITY, prove=False)
        up.append(event)
        for stores in ((up, Down()), (Down(), up)):
            BothStores(*stores).append(outcome(event))
            assert Journal(BothStores(*stores).load()).submits[event["intent"]].fate == "job"
        with pytest.raises(ConnectionError):
            BothStores(Down(), Down()).append(outcome(event))

    def test_cannot_be_read_where_one_cannot(self, folder: str) -> None:
        up = FolderStore(folder, IDENTITY, prove=False)
        with pytest.raises(ConnectionError):
            BothStores(up, Down(readable=False)).load()

    def test_never_keep_an_intent_without_the_outcome_that_one_of_them_missed(self, folder: str) -> None:
        class CannotForget(TaskStateStore):
            def forget(self, intent: str) -> None:
                raise ConnectionError("down")

        up, other = FolderStore(folder, IDENTITY, prove=False), CannotForget(StateStore(), prove=False)
        event = intent()
        BothStores(up, other).append(event)
        up.append(outcome(event, "refused", reason="slot"))  # the other one was down
        with pytest.raises(ConnectionError):
            BothStores(up, other).forget(event["intent"])
        assert not Journal(BothStores(up, other).load()).unknown()


class TestNoStore:
    def store(self, try_number: int, **variables: str) -> NoStore:
        return NoStore(IDENTITY, conn_id="c", fingerprint="f", try_number=try_number, read_variable=variables.get)

    def names(self, store: NoStore) -> list[str]:
        from airflow_provider_kling.jobs.consent import variable_name

        return [variable_name(submit.id) for submit in Journal(store.load()).unknown()]

    def test_a_first_attempt_has_no_earlier_submit(self) -> None:
        assert list(self.store(1).load()) == []

    def test_a_later_attempt_reports_one_of_unknown_fate(self) -> None:
        assert len(self.names(self.store(2))) == 1

    def test_a_decision_counts_for_the_attempt_after_its_report_only(self) -> None:
        [reported] = self.names(self.store(2))
        assert self.names(self.store(3)) != [reported], "no decision: reported again"
        assert self.names(self.store(3, **{reported: "none"})) == [reported]
        assert self.names(self.store(4, **{reported: "none"})) != [reported]

    def test_a_decision_on_a_submit_of_an_attempt_is_found_by_the_next(self) -> None:
        from airflow_provider_kling.jobs.consent import variable_name

        first = self.store(1)
        name = variable_name(first.new_intent())
        assert self.names(self.store(2, **{name: "none"})) == [name]


class TestWhichStore:
    def of(self, context: Any) -> Store:
        return record_store(context, conn_id="c", fingerprint="f", is_first_look=True)

    def test_the_task_state_store_where_there_is_one(self) -> None:
        assert isinstance(self.of(context(store=StateStore())), TaskStateStore)

    def test_the_folder_as_well_where_one_is_named(self, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
        monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", folder)
        assert isinstance(self.of(context(store=StateStore())), BothStores)
        assert isinstance(self.of({**context(), "task_state_store": None}), FolderStore)

    def test_a_variable_without_any_set_up(self, variables: Variables) -> None:
        older = {**context(), "task_state_store": None}
        assert isinstance(self.of(older), VariableStore)
        assert is_durable(older)

    def test_none_if_that_is_turned_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__KLING__STATE", "None")
        older = {**context(TaskInstance(try_number=2)), "task_state_store": None}
        assert isinstance(self.of(older), NoStore)
        assert not is_durable(older)
        assert is_durable(context(store=StateStore()))

    @pytest.mark.parametrize("is_joined", [True, False])
    def test_a_record_from_before_airflow_had_task_state_stores_is_found(
        self, variables: Variables, is_joined: bool
    ) -> None:
        event, state = intent(), StateStore()
        self.of({**context(), "task_state_store": None}).append(event)
        newer = record_store(context(store=state), conn_id="c", fingerprint="f", is_first_look=False)
        assert newer.load() == [event]
        if is_joined:
            newer.append(outcome(event))
        variables.clear()
        again = record_store(context(store=state), conn_id="c", fingerprint="f", is_first_look=False)
        assert Journal(again.load()).submits[event["intent"]].fate == ("job" if is_joined else "unknown")

    def test_a_variable_that_cannot_be_looked_up_after_an_upgrade_is_not_taken_for_none(
        self, variables: Variables
    ) -> None:
        self.of({**context(), "task_state_store": None}).append(intent())
        variables.broken = 99
        newer = record_store(context(store=StateStore()), conn_id="c", fingerprint="f", is_first_look=False)
        with pytest.raises(OSError, match="did not return"):
            newer.load()

    def test_a_record_in_a_folder_from_before_an_upgrade_is_found(
        self, monkeypatch: pytest.MonkeyPatch, folder: str
    ) -> None:
        monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", folder)
        event = intent()
        self.of({**context(), "task_state_store": None}).append(event)
        newer = self.of(context(store=StateStore()))
        newer.append(outcome(event))
        assert Journal(newer.load()).submits[event["intent"]].fate == "job"


@pytest.mark.skipif(not AIRFLOW_V_3_0_PLUS, reason="Airflow 2 calls its listeners after the commit")
@pytest.mark.parametrize(("state", "stays"), [("success", False), ("restarting", True), (None, True)])
def test_a_variable_is_deleted_only_if_airflow_has_the_success(
    variables: Variables, state: str | None, stays: bool
) -> None:
    class Ti(TaskInstance):
        def get_task_states(self, **_: Any) -> dict[str, Any]:
            return {self.run_id: {self.task_id: state}} if state else {}

    ti = Ti()
    given: Any = {**context(ti), "task_state_store": None}
    VariableStore(Identity.of(given)).append(intent())
    task = BaseOperator(task_id="video")
    forget_after_success(task, given)
    for callback in task.on_success_callback:  # type: ignore[union-attr]
        callback(given)
    assert bool(variables) == stays


def test_a_failed_look_up_of_a_variable_is_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    class Denied:
        @staticmethod
        def get(name: str, default: Any) -> Any:
            raise PermissionError(name)

    monkeypatch.setattr("airflow_provider_kling.records.Variable", Denied)
    assert read_variable("kling_adopt_123") is None
