# SPDX-License-Identifier: Apache-2.0
"""The metrics of a task, as a StatsD server receives them from Airflow's own client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Stats

from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.jobs.result import complete_video
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.tasks.metrics import MAX_TAG, MAX_TAGS, count_stored
from tests.conftest import TaskLog
from tests.fixtures.requests import submit
from tests.system.airflow_api import wait_for
from tests.system.metrics import Metrics
from tests.task_context import StateStore, TaskInstance, run

try:
    from airflow.sdk.observability.metrics.statsd_logger import get_statsd_logger
except ImportError:  # before Airflow 3.2
    from airflow.metrics.statsd_logger import get_statsd_logger

Received = Callable[[], dict[str, list[str]]]


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    """A function that returns what a server received: name with its tags -> values."""
    with Metrics() as metrics:
        for name, value in {**metrics.environment, "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True"}.items():
            monkeypatch.setenv(name, value)
        logger = get_statsd_logger(
            *([None] if signature(get_statsd_logger).parameters else [])
        )  # before Airflow 3
        use(logger, monkeypatch)

        def look() -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            logger.incr("last")  # one socket and one listener: what was sent before has arrived before
            wait_for(lambda: any(b"last" in datagram for datagram in metrics.received), "the metrics", timeout=10)
            for datagram in list(metrics.received):
                name, _, value = datagram.decode().partition(":")
                found.setdefault(name.removeprefix("airflow."), []).append(value)
            return found

        yield look
        logger.statsd.close()


def use(logger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow's metrics go to a logger, as its configuration would."""
    for method in ("incr", "timing"):
        monkeypatch.setattr(Stats, method, getattr(logger, method), raising=False)


def named(received: dict[str, list[str]], name: str) -> dict[str, str]:
    """Return the tags of a metric that was received once, and its value under an empty key."""
    [(key, [value])] = [(key, values) for key, values in received.items() if key.split(",")[0] == name]
    return {"": value} | dict(tag.split("=") for tag in key.split(",")[1:])


def generate(**arguments: Any) -> KlingGenerateOperator:
    given: dict[str, Any] = {"prompt": "Waves", "duration": 3, "poll_interval": 0.1, "timeout": 10} | arguments
    return KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", **given)


@pytest.mark.parametrize("way", [{}, {"deferrable": False}], ids=["deferred", "blocking"])
def test_a_video_from_its_submit_to_its_file(
    sandbox: Sandbox, connected: str, received: Received, tmp_path: Path, way: dict[str, Any]
) -> None:
    video = run(generate(save_to=f"file://{tmp_path}/", tags={"team": "ads, x=1"}, **way))
    found = received()
    names = {key.split(",")[0] for key in found}
    assert names >= {"kling.submitted", "kling.finished", "kling.wait", "kling.bytes_stored", "kling.requests"}
    assert not names & {"kling.failed", "kling.uncertain"}
    tags = named(found, "kling.submitted")
    assert tags.pop("dag_id")
    assert tags == {
        "": "1|c",
        "model": "kling-v3-std-silent",
        "conn_id": connected,
        "task_id": "video",
        "team": "ads__x_1",
    }
    assert named(found, "kling.bytes_stored")[""] == f"{video['size_bytes']}|c"
    assert re.fullmatch(r"[\d.]+\|ms", named(found, "kling.wait")[""])
    sent = [
        int(value.removesuffix("|c")) for key, values in found.items() if "requests" in key for value in values
    ]
    in_the_triggerer = 0 if way else 1
    asked = sandbox.requests
    assert sum(sent) == asked["submit"] + asked["probe"] + asked["status"] - in_the_triggerer


def test_a_job_that_a_retry_joins_is_submitted_once(sandbox: Sandbox, connected: str, received: Received) -> None:
    store = StateStore()
    run(generate(), None, store)
    run(generate(), TaskInstance(try_number=2), store)
    assert named(received(), "kling.submitted")[""] == "1|c"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault("submit", "refuse_content"), "content_refused"),
        (Fault("submit", "job_fails"), "generation_failed"),
        (Fault("submit", "proxy_error", times=None), "uncertain"),
    ],
)
def test_a_failure_has_its_kind(
    sandbox: Sandbox, connected: str, received: Received, fault: Fault, kind: str
) -> None:
    sandbox.add_fault(fault)
    with pytest.raises(Exception, match=r"."):
        run(generate(wait_for_completion=True))
    found = received()
    assert named(found, "kling.failed")["kind"] == kind
    assert any(key.startswith("kling.uncertain") for key in found) == (kind == "uncertain")
    assert any(key.startswith("kling.submitted") for key in found) == (kind == "generation_failed")


@pytest.mark.parametrize("mode", [{}, {"deferrable": False}])
def test_a_sensor_counts_what_it_waited_for(
    sandbox: Sandbox, connected: str, received: Received, mode: dict[str, Any]
) -> None:
    run(KlingTaskSensor(task_id="wait", kling_task_id=submit(sandbox), poke_interval=0.1, **mode))
    assert named(received(), "kling.finished")["task_id"] == "wait"


def test_tags_are_bounded_and_replace_none_of_the_tasks_own(received: Received) -> None:
    tags = {f"tag{number}": "x" * 200 for number in range(50)}
    video = complete_video({"kling_task_id": "t", "video_url": "u", "size_bytes": 7, "seconds": 5.04})
    count_stored(generate(tags={"conn_id": "mine", **tags, "empty": ""}), video)
    sent = named(received(), "kling.seconds_of_video")
    assert (sent[""], sent["conn_id"]) == ("5|c", "kling_default")
    assert sent["tag0"] == "x" * MAX_TAG
    assert sum(map(len, sent.values())) < MAX_TAGS


def test_a_metric_that_cannot_be_reported_fails_no_task(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, task_log: TaskLog
) -> None:
    class Broken:
        def incr(self, *_: Any, **__: Any) -> None:
            raise OSError("no such host")

        timing = incr

    use(Broken(), monkeypatch)
    assert run(generate(wait_for_completion=True))["status"] == "completed"
    assert "The metric kling.submitted cannot be reported: no such host" in task_log.text


def test_a_tag_that_has_no_text_is_refused_before_a_purchase(sandbox: Sandbox, connected: str) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    task = generate()
    task.tags = {"team": Broken()}
    with pytest.raises(KlingValidationError, match="tags"):
        run(task)
    assert sandbox.ledger() == []
