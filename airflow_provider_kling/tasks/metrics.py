# SPDX-License-Identifier: Apache-2.0
"""
Counters that a task reports through Airflow's own metrics (StatsD, Datadog or OpenTelemetry).

A metric that cannot be reported is logged, and fails no task.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from airflow_provider_kling.exceptions import KlingError, KlingUncertainSubmissionError

if TYPE_CHECKING:
    from collections.abc import Callable

    P = ParamSpec("P")
    R = TypeVar("R")

log = logging.getLogger(__name__)

#: Maximum length of a tag's name or value, in characters.
MAX_TAG = 50
#: Maximum length of all tags of a metric, in characters: StatsD appends Influx tags to the name of the metric, and
#: Airflow drops a metric whose name has 250.
MAX_TAGS = 225
#: Characters that are part of the format in one backend or another.
_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]")


def measured(method: Callable[P, R]) -> Callable[P, R]:
    """Count the failure of a task's method that raises a named error, and the API requests of its worker."""

    @wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        task: Any = args[0]
        try:
            return method(*args, **kwargs)
        except KlingError as error:
            _count(task, "kling.failed", kind=error.kind)
            if isinstance(error, KlingUncertainSubmissionError):
                _count(task, "kling.uncertain")
            raise
        finally:
            _count(task, "kling.requests", task.take_requests())

    return run


def count_submitted(task: Any) -> None:
    """Count a job that a task has bought; one that it joins is not counted again."""
    _count(task, "kling.submitted")


def count_finished(task: Any, video: Mapping[str, Any], *, submitted_at: float | None) -> None:
    """Count a finished video, and measure the time since its submit, where that is known (epoch seconds)."""
    _count(task, "kling.finished", video=video)
    if submitted_at is not None:
        wait = timedelta(seconds=max(0.0, time.time() - submitted_at))
        _report("timing", "kling.wait", wait, lambda: _tags(task, video))


def count_stored(task: Any, video: Mapping[str, Any]) -> None:
    """Count the bytes of a stored video and the seconds that it lasts, where the file tells them."""
    _count(task, "kling.bytes_stored", video["size_bytes"], video=video)
    _count(task, "kling.seconds_of_video", round(video["seconds"] or 0), video=video)


def _count(
    task: Any, name: str, count: int = 1, *, video: Mapping[str, Any] | None = None, kind: str | None = None
) -> None:
    if count:
        _report("incr", name, count, lambda: _tags(task, video or {}, kind=kind))


def _report(method: str, name: str, value: Any, tags: Callable[[], dict[str, str]]) -> None:
    try:
        from airflow.providers.common.compat.sdk import Stats

        getattr(Stats, method)(name, value, tags=tags())
    except Exception as error:  # noqa: BLE001 - a plugin for metrics may raise anything
        log.warning("The metric %s cannot be reported: %s", name, error)


def _tags(task: Any, video: Mapping[str, Any], *, kind: str | None = None) -> dict[str, str]:
    own = {
        "kind": kind,
        "model": getattr(task, "model", None) or video.get("model"),
        "conn_id": task.kling_conn_id,
        "dag_id": task.dag_id,
        "task_id": task.task_id,
    }
    users = getattr(task, "tags", None) or video.get("tags")
    tags: dict[str, str] = {}
    left = MAX_TAGS
    for given_name, given_value in (*own.items(), *(users.items() if isinstance(users, Mapping) else ())):
        name, value = _safe(given_name), _safe(given_value)
        length = len(f",{name}={value}")
        if name and value and name not in tags and length <= left:
            tags[name] = value
            left -= length
    return tags


def _safe(value: Any) -> str:
    return "" if value is None else _UNSAFE.sub("_", str(value))[:MAX_TAG]
