# SPDX-License-Identifier: Apache-2.0
"""A task whose template presigns its image anew at each attempt, from end to end."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_kling.exceptions import KlingError, KlingTimeoutError, KlingValidationError
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import TaskLog
from tests.task_context import StateStore, TaskInstance, context, run

FILE = "https://example.com/start-frame.png"
SECRET = "4f8e21c09b7d"


def presign() -> Any:
    """Return a function that signs a URL, differently each time."""
    number = count()
    return lambda url: (
        f"{url}{'&' if '?' in url else '?'}X-Amz-Date={next(number)}&X-Amz-Signature={SECRET}{next(number)}"
    )


def attempt(sign: Any, image: str = FILE, **arguments: Any) -> KlingGenerateOperator:
    """Return the task as the next attempt of it starts: rendered anew."""
    arguments = {"image": "{{ sign(image) }}", "prompt": "x", "poll_interval": 0.1, "timeout": 20} | arguments
    task = KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", **arguments)
    values: Any = {"sign": sign, "image": image}
    task.render_template_fields(values)
    return task


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"last_image": "{{ sign(image) }}"},
        {"element_list": [{"image": "{{ sign(image) }}"}]},
        {"extra_body": {"mask": "{{ sign(image) }}"}},
    ],
    ids=str,
)
def test_a_retry_joins(sandbox: Sandbox, connected: str, arguments: dict[str, Any]) -> None:
    sign, store = presign(), StateStore()
    ids = {run(attempt(sign, **arguments), store=store) for _ in range(3)}
    assert len(ids) == len(sandbox.ledger()) == 1
    # What was sent is a URL that works.
    assert SECRET in sandbox.ledger()[0]["request"]["image"]


def test_another_version_of_the_image_is_another_video(sandbox: Sandbox, connected: str) -> None:
    sign, store = presign(), StateStore()
    for version in (1, 2):
        run(attempt(sign, image=f"{FILE}?versionId={version}"), store=store)
    assert len(sandbox.ledger()) == 2


@pytest.mark.parametrize(
    "fault", [None, Fault("submit", "job_fails", message=f"no {FILE}?a=1&sig={SECRET}")], ids=str
)
def test_nothing_that_is_stored_or_logged_has_the_signature(
    sandbox: Sandbox, connected: str, task_log: TaskLog, fault: Fault | None
) -> None:
    if fault:
        sandbox.add_fault(fault)
    ti, store, shown = TaskInstance(), StateStore(), ""
    waiting = {"wait_for_completion": True, "deferrable": False, "extra_body": {"mask": "{{ sign(image) }}"}}
    try:
        returned = run(attempt(presign(), **waiting), ti, store)
    except KlingError as error:
        returned, shown = None, f"{error} {error.to_dict()} {error!r}"
    assert (fault is None) is (returned is not None)
    assert ti.pushed["kling_task_id"]
    for text in (json.dumps(returned), json.dumps(ti.pushed), json.dumps(store), task_log.text, shown):
        assert SECRET not in text


def test_neither_does_the_trigger(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "rate_limit", times=1))
    for waiting in ({}, {"wait_for_completion": True}):
        with pytest.raises(TaskDeferred) as deferred:
            attempt(presign(), **waiting).execute(context())
        assert SECRET not in f"{deferred.value.trigger.serialize()} {deferred.value.kwargs}"


@pytest.mark.parametrize("fault", ["error", "proxy_error"])
def test_neither_does_the_error_of_a_submit(
    sandbox: Sandbox, connected: str, task_log: TaskLog, fault: Any
) -> None:
    status = {"status": 400} if fault == "error" else {}
    sandbox.add_fault(Fault("submit", fault, message=f"cannot fetch {FILE}?X-Amz-Signature={SECRET}", **status))
    store = StateStore()
    with pytest.raises(KlingError) as caught:
        run(attempt(presign()), store=store)
    assert "X-Amz-Signature=***" in str(caught.value)
    assert SECRET not in f"{caught.value} {caught.value.to_dict()} {json.dumps(store)} {task_log.text}"


def test_neither_does_the_error_of_a_wrong_argument(sandbox: Sandbox, connected: str) -> None:
    with pytest.raises(KlingValidationError, match="image='http://10.0.0.1/a.png\\?X-Amz-Date=") as caught:
        run(attempt(presign(), image="http://10.0.0.1/a.png"))
    assert SECRET not in str(caught.value)
    with pytest.raises(KlingValidationError) as caught:
        KlingGenerateOperator(task_id="x", model="kling-v3-std-silent", image=f"/a?X-Amz-Signature={SECRET}")
    assert SECRET not in str(caught.value)


def test_a_timeout_promises_what_a_retry_then_does(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "pace", seconds=3.0))
    sign, store = presign(), StateStore()
    waiting = {"wait_for_completion": True, "deferrable": False}
    with pytest.raises(KlingTimeoutError, match="new signatures of media URLs aside"):
        run(attempt(sign, **waiting | {"timeout": 0.3}), store=store)
    assert run(attempt(sign, **waiting), store=store)["status"] == "completed"
    assert len(sandbox.ledger()) == 1
