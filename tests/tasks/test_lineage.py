# SPDX-License-Identifier: Apache-2.0
"""What a video was made from and where it was stored, as OpenLineage and Airflow's own collector get it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Sandbox
from airflow_provider_kling.tasks.lineage import dataset_name
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.conftest import TaskLog
from tests.task_context import TaskInstance, run

FRAME = "https://example.com/frames/first.png?X-Amz-Signature=0a1b2c3d4e5f60718293"
needs_openlineage = pytest.mark.skipif(
    importlib.util.find_spec("airflow.providers.openlineage") is None,
    reason="apache-airflow-providers-openlineage is not installed: its plugin would run in every test",
)


class Collector:
    """What Airflow's collector is told, where a plugin reads it."""

    def __init__(self) -> None:
        self.inputs: list[str] = []
        self.outputs: list[str] = []

    def add_input_asset(self, context: Any, uri: str) -> None:
        self.inputs.append(uri)

    def add_output_asset(self, context: Any, uri: str) -> None:
        self.outputs.append(uri)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    collector = Collector()
    monkeypatch.setattr(
        "airflow.providers.common.compat.lineage.hook.get_hook_lineage_collector", lambda: collector
    )
    return collector


def generate(folder: Path, **arguments: Any) -> KlingGenerateOperator:
    given: dict[str, Any] = {"prompt": "Waves", "image": FRAME, "poll_interval": 0.1, "timeout": 10} | arguments
    return KlingGenerateOperator(
        task_id="video", model="kling-v3-std-silent", save_to=f"file://{folder}/", **given
    )


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("s3://conn@bucket/clips/a.mp4", "s3://bucket", "clips/a.mp4"),
        ("s3a://bucket/a.mp4", "s3://bucket", "a.mp4"),
        ("gcs://bucket/a.mp4", "gs://bucket", "a.mp4"),
        ("gs://conn@bucket/a.mp4", "gs://bucket", "a.mp4"),
        ("abfs://nowhere@container/a.mp4", "abfss://container", "a.mp4"),
        ("file:///data/a.mp4", "file", "/data/a.mp4"),
        ("/data/a.mp4", "file", "/data/a.mp4"),
        (FRAME, "https://example.com", "frames/first.png"),
        ("https://user:password@example.com/a.png#x", "https://example.com", "a.png"),
    ],
)
def test_a_dataset_has_the_name_that_openlineage_gives_it(uri: str, namespace: str, name: str) -> None:
    assert dataset_name(uri) == (namespace, name)


@pytest.mark.parametrize("value", ["iVBORw0KGgo", "data:image/png;base64,iVBORw0KGgo", ""])
def test_what_is_no_address_is_no_dataset(value: str) -> None:
    assert dataset_name(value) is None


@pytest.mark.parametrize("way", [{}, {"deferrable": False}], ids=["deferred", "blocking"])
def test_the_collector_gets_frames_without_signatures_and_the_file(
    sandbox: Sandbox, connected: str, collector: Collector, tmp_path: Path, way: dict[str, Any]
) -> None:
    video = run(generate(tmp_path, **way))
    assert collector.inputs == ["https://example.com/frames/first.png"]
    assert collector.outputs == [video["path"]]


def test_a_collector_that_fails_fails_no_task(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog, tmp_path: Path
) -> None:
    monkeypatch.setattr("airflow.providers.common.compat.lineage.hook.get_hook_lineage_collector", None)
    assert run(generate(tmp_path))["path"]
    assert "cannot be reported" in task_log.text


def test_airflows_own_collector_takes_it(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lineage = pytest.importorskip(
        "airflow.sdk.lineage", reason="before Airflow 3.2 its collector needs a database"
    )
    collector = lineage.HookLineageCollector()
    monkeypatch.setattr("airflow.providers.common.compat.sdk.get_hook_lineage_collector", lambda: collector)
    video = run(generate(tmp_path))
    collected = collector.collected_assets
    assert [item.asset.uri for item in collected.outputs] == [video["path"]]
    assert [item.asset.uri for item in collected.inputs] == ["https://example.com/frames/first.png"]


def test_without_openlineage_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
    assert generate(tmp_path).get_openlineage_facets_on_start() is None


@needs_openlineage
def test_openlineage_gets_inputs_at_the_start_and_the_file_at_the_end(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    from airflow.providers.openlineage.extractors.base import DefaultExtractor

    task = generate(tmp_path)
    extractor = DefaultExtractor(task)
    started = extractor.extract()
    assert started is not None
    assert [(item.namespace, item.name) for item in started.inputs] == [
        ("https://example.com", "frames/first.png")
    ]
    assert started.outputs == []
    video = run(task)
    ended = extractor.extract_on_complete(TaskInstance())
    assert ended is not None
    assert ended.inputs == started.inputs
    assert [(item.namespace, item.name) for item in ended.outputs] == [("file", video["path"][len("file://") :])]


@needs_openlineage
def test_openlineage_gets_the_url_and_the_file_of_a_transfer(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    video = run(generate(tmp_path / "first"))
    task = KlingToObjectStorageOperator(task_id="store", video=video, path=f"file://{tmp_path}/second.mp4")
    run(task)
    facets = task.get_openlineage_facets_on_complete(TaskInstance())
    assert facets is not None
    assert [item.name for item in facets.outputs] == [f"{tmp_path}/second.mp4"]
    assert [item.namespace for item in facets.inputs] == [sandbox.base_url]
