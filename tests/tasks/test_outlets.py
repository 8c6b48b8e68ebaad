# SPDX-License-Identifier: Apache-2.0
"""The asset event of a stored video carries what a DAG scheduled on the asset needs; the user codes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, AssetAlias, TaskDeferred

from airflow_provider_kling.jobs.result import complete_video
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Sandbox
from airflow_provider_kling.tasks.outlets import MAX_TAGS, MAX_TEXT, describe_outlets
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.conftest import TaskLog
from tests.task_context import StateStore, TaskInstance, context, event_of

CLIPS = Asset("s3://bucket/clips")
PROMPT = "Waves roll onto a black sand beach."
FACTS = {"path", "sha256", "seconds", "model", "kling_task_id", "prompt", "tags"}


def generate(folder: Path, **arguments: Any) -> KlingGenerateOperator:
    given: dict[str, Any] = {"prompt": PROMPT, "duration": 3, "poll_interval": 0.1, "outlets": [CLIPS]} | arguments
    model = "kling-v3-std-silent"
    return KlingGenerateOperator(task_id="video", model=model, save_to=f"file://{folder}/", **given)


def stored(**facts: Any) -> Any:
    return complete_video({"kling_task_id": "t", "video_url": "https://x", "path": "s3://c@b/v.mp4"} | facts)


def described(video: Any, outlets: list[Any]) -> Any:
    given = context()
    describe_outlets(outlets, given, video, model="kling-v3")
    return given["outlet_events"]


def alias_events(accessor: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return URI and extra of each event that an alias got, on any Airflow."""
    if hasattr(accessor, "asset_alias_events"):
        return [(event.dest_asset_key.uri, event.extra) for event in accessor.asset_alias_events]
    return [(event["dest_dataset_uri"], event["extra"]) for event in accessor.dataset_alias_events]


class TestATask:
    def test_that_blocks(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        given = context()
        video = generate(tmp_path, deferrable=False, tags={"team": "ads"}).execute(given)
        extra = given["outlet_events"][CLIPS].extra
        assert extra.keys() >= FACTS
        assert extra["path"] == video["path"]
        assert extra["kling_task_id"] == video["kling_task_id"]
        assert (extra["prompt"], extra["tags"]) == (PROMPT, {"team": "ads"})
        assert extra["model"].startswith("kling-v3")

    def test_that_was_deferred(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        ti, store, resumed = TaskInstance(map_index=3), StateStore(), context()
        with pytest.raises(TaskDeferred) as deferred:
            generate(tmp_path).execute(context(ti, store))
        told = {"event": event_of(deferred.value)}
        given = {**resumed, "ti": ti, "task_state_store": store}
        video = generate(tmp_path).resume_execution(deferred.value.method_name, told, given)
        assert given["outlet_events"][CLIPS].extra["path"] == video["path"]

    def test_that_transfers(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        made = generate(tmp_path / "first", deferrable=False).execute(context())
        given = context()
        path = f"file://{tmp_path}/second.mp4"
        KlingToObjectStorageOperator(task_id="store", video=made, path=path, outlets=[CLIPS]).execute(given)
        assert given["outlet_events"][CLIPS].extra["path"] == path
        assert given["outlet_events"][CLIPS].extra["prompt"] == PROMPT


class TestAnEvent:
    def test_is_small_json_whatever_the_video_says(self) -> None:
        tags = {f"{number} {'x' * 300}": {"deep": "y" * 300} for number in range(50)}
        [extra] = [
            described(stored(tags=tags, request={"prompt": "z" * 2500}), [CLIPS])[CLIPS].extra,
        ]
        assert json.loads(json.dumps(extra)) == extra
        assert len(extra["prompt"]) == MAX_TEXT
        assert len(extra["tags"]) == MAX_TAGS
        assert len(json.dumps(extra)) < (2 * MAX_TAGS + 3) * (MAX_TEXT + 50)

    def test_has_the_costs_where_they_are_known(self) -> None:
        costs = {"billed": {"units": 3.0}, "estimated_cost": 0.42, "currency": "USD"}
        extra = described({**stored(), **costs}, [CLIPS])[CLIPS].extra
        assert {name: extra[name] for name in costs} == costs
        assert not costs.keys() & described(stored(), [CLIPS])[CLIPS].extra.keys()

    def test_keeps_what_a_hook_of_the_user_wrote(self) -> None:
        given = context()
        given["outlet_events"][CLIPS].extra["campaign"] = 7
        describe_outlets([CLIPS], given, stored(), model="kling-v3")
        assert given["outlet_events"][CLIPS].extra["campaign"] == 7
        assert given["outlet_events"][CLIPS].extra["model"] == "kling-v3"

    def test_of_an_alias_is_one_of_the_file(self) -> None:
        alias = AssetAlias("clips")
        [(uri, extra)] = alias_events(described(stored(), [alias])[alias])
        assert uri == "s3://b/v.mp4"
        assert extra.keys() >= FACTS

    def test_that_cannot_be_described_fails_no_task(self, task_log: TaskLog) -> None:
        describe_outlets([object(), CLIPS], {}, stored(), model=None)  # type: ignore[typeddict-item]
        assert "says nothing of the video" in task_log.text
