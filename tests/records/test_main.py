# SPDX-License-Identifier: Apache-2.0
"""The command that lists and deletes the records in a folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.jobs.journal import Journal, new_event, new_id
from airflow_provider_kling.records import Identity
from airflow_provider_kling.records.__main__ import main
from airflow_provider_kling.records.folder import FolderStore

DAY = 86_400.0


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return f"file://{tmp_path}"


def record(
    folder: str, dag_id: str, *, days: float = 0, run_id: str = "run 1", ends: str | None = "submitted"
) -> None:
    store = FolderStore(folder, Identity(dag_id, run_id, "generate", 0), prove=False)
    at = time.time() - days * DAY
    intent = new_id()
    details = {
        "fingerprint": "f",
        "purchase": 0,
        "max_tries": 0,
        "conn_id": "c",
        "dag_id": dag_id,
        "model": "kling-v3-std-silent",
        "prompt": "a cat",
        "cites": {},
    }
    store.append(new_event("intent", intent, at=at, **details))
    if ends == "submitted":
        store.append(new_event("submitted", intent, at=at, kling_task_id=f"task_of_{dag_id}"))


def left(tmp_path: Path) -> set[str]:
    return {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.json")}


def test_list_prints_a_line_for_each_submit(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, "paid")
    record(folder, "lost", ends=None)
    assert main(["list", "--path", folder]) == 0
    lost, paid = capsys.readouterr().out.splitlines()
    assert lost.startswith("lost run_1-")
    assert "generate 0" in lost
    assert "UNCERTAIN  kling-v3-std-silent, “a cat”" in lost
    assert "Kling task task_of_paid" in paid


def test_list_and_delete_can_be_narrowed(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, "one", days=40)
    record(folder, "one", run_id="run 2")
    record(folder, "two", days=40)
    assert main(["list", "--path", folder, "--dag", "one", "--run", "run 2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["delete", "--path", folder, "--dag", "one", "--older-than", "30d"]) == 0
    assert "1 deleted, 0 kept" in capsys.readouterr().out
    assert left(tmp_path) == {"one", "two"}
    assert main(["delete", "--path", folder, "--older-than", "6w"]) == 0
    assert left(tmp_path) == {"one", "two"}
    assert main(["delete", "--path", folder, "--older-than", "5w"]) == 0
    assert left(tmp_path) == {"one"}
    assert not (tmp_path / "two").exists()


def test_what_is_uncertain_or_unreadable_is_deleted_only_by_force(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(folder, "lost", ends=None)
    record(folder, "broken")
    next((tmp_path / "broken").rglob("*.json")).write_text("{half")
    for dag_id in ("lost", "broken"):
        assert main(["delete", "--path", folder, "--dag", dag_id]) == 1
    assert "--force deletes it" in capsys.readouterr().out
    assert left(tmp_path) == {"lost", "broken"}
    for dag_id in ("lost", "broken"):
        assert main(["delete", "--path", folder, "--dag", dag_id, "--force"]) == 0
    assert left(tmp_path) == set()


def test_one_of_unknown_age_is_not_taken_for_old(folder: str, tmp_path: Path) -> None:
    record(folder, "newer-version")
    paid = next(tmp_path.rglob("*.submitted.*.json"))
    paid.write_text(paid.read_text().replace('"version": 1', '"version": 2'))
    assert main(["delete", "--path", folder, "--older-than", "90d", "--force"]) == 1
    assert left(tmp_path) == {"newer-version"}


def test_what_an_attempt_adds_meanwhile_stays(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(folder, "old", days=100)

    def journal(events: list[dict[str, Any]]) -> Journal:
        record(folder, "old", ends=None)
        return Journal(events)

    monkeypatch.setattr("airflow_provider_kling.records.__main__.Journal", journal)
    assert main(["delete", "--path", folder, "--older-than", "90d"]) == 0
    assert len(list(tmp_path.rglob("*.json"))) == 1


def test_a_forgotten_option_never_deletes_everything(
    folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(folder, "one")
    assert main(["delete", "--path", folder]) == 2
    assert main(["list", "--path", ""]) == 2
    with pytest.raises(SystemExit):
        main(["delete", "--path", folder, "--older-than", "0"])
    assert left(tmp_path) == {"one"}


def test_it_runs_as_a_module(folder: str) -> None:
    record(folder, "paid")
    command = [sys.executable, "-m", "airflow_provider_kling.records", "list", "--path", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "task_of_paid" in done.stdout
