# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.records import (
    ObjectStorageRecord,
    StateStoreRecord,
    adoption_variable,
    identity_of,
    record_store,
)
from tests.task_context import StateStore, TaskInstance, context

RECORD: dict[str, Any] = {"submissions": []}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return f"file://{tmp_path}"


class TestObjectStorage:
    def test_what_was_saved_is_loaded_by_another_attempt(self, folder: str) -> None:
        ObjectStorageRecord(folder, context(TaskInstance(try_number=1))).save(RECORD)
        assert ObjectStorageRecord(folder, context(TaskInstance(try_number=2))).load() == RECORD

    def test_a_folder_that_is_not_there_has_not_no_records(self, tmp_path: Path) -> None:
        with pytest.raises(NotADirectoryError, match="state_path"):
            ObjectStorageRecord(f"file://{tmp_path}/not-mounted", context()).load()

    def test_a_record_never_written_is_none(self, folder: str) -> None:
        assert ObjectStorageRecord(folder, context()).load() is None

    def test_a_record_that_cannot_be_read_is_not_none(self, tmp_path: Path) -> None:
        store = ObjectStorageRecord(f"file://{tmp_path}", context())
        store.save(RECORD)
        path = Path(store.path.path)
        path.write_bytes(b"{half a rec")
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            store.load()
        path.unlink()
        path.mkdir()
        with pytest.raises(OSError, match="directory"):
            store.load()

    def test_no_half_record_is_left_by_a_write_that_fails(self, tmp_path: Path) -> None:
        store = ObjectStorageRecord(f"file://{tmp_path}", context())
        store.save(RECORD)
        with pytest.raises(TypeError):
            store.save({"not": {"plain", "json"}})
        assert store.load() == RECORD

    @pytest.mark.parametrize("part", ["dag_id", "run_id", "task_id"])
    def test_no_two_task_instances_share_a_record(self, folder: str, part: str) -> None:
        ObjectStorageRecord(folder, context()).save(RECORD)
        assert ObjectStorageRecord(folder, context(TaskInstance(**{part: "other"}))).load() is None
        assert ObjectStorageRecord(folder, context(TaskInstance(map_index=3))).load() is None


def test_names_that_differ_only_in_where_they_are_cut_are_not_confused() -> None:
    first = context(TaskInstance(dag_id="etl", task_id="load_data"))
    second = context(TaskInstance(dag_id="etl_load", task_id="data"))
    assert identity_of(first) != identity_of(second)
    assert adoption_variable(first, "f") != adoption_variable(second, "f")
    assert adoption_variable(first, "f") != adoption_variable(first, "g")


def test_the_task_state_store_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", f"file://{tmp_path}")
    assert isinstance(record_store(context(store=StateStore())), StateStoreRecord)


def test_without_one_the_configuration_names_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    older = {**context(), "task_state_store": None}
    assert record_store(older) is None
    monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", f"file://{tmp_path}")
    assert isinstance(record_store(older), ObjectStorageRecord)


def test_the_state_store_keeps_a_record() -> None:
    store = StateStore()
    StateStoreRecord(store).save(RECORD)
    assert StateStoreRecord(store).load() == RECORD


def test_a_record_from_before_an_upgrade_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", f"file://{tmp_path}")
    before = record_store({**context(), "task_state_store": None})
    assert before is not None
    before.save(RECORD)
    newer = record_store(context(store=StateStore()))
    assert newer is not None
    assert newer.load() == RECORD
    newer.save(RECORD | {"submissions": [1]})
    assert newer.load() == RECORD | {"submissions": [1]}
    assert before.load() == RECORD
