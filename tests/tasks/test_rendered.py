# SPDX-License-Identifier: Apache-2.0
"""No signature of a URL is in what Airflow stores of rendered templates, or in what it logs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, redact

from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.tasks.rendered import MASKED_LEVELS
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.fixtures.secrets_masker import nothing_masked
from tests.fixtures.signed_urls import FILE, SIGNATURE, SIGNED, TOKEN
from tests.rendering import rendered

READ = "dGhlIHNpZ25hdHVyZSBv+k="
REQUEST: dict[str, Any] = {"model": "kling-v3-std-silent", "prompt": "A traveler in desert ruins"}
AWS, AZURE = (f"{FILE}?{SIGNED[name].format(signature=SIGNATURE, token=TOKEN)}" for name in ("AWS V4", "Azure"))
#: Ways to give an image: as it is, and by a template.
WAYS = {"literal": AWS, "templated": "{{ presign('aws') }}", "partly": AWS.replace("frame", "{{ 'frame' }}")}


@pytest.fixture(autouse=True)
def _nothing_masked_yet() -> Iterator[None]:
    """Remove the secrets that a test has registered with Airflow's masker."""
    with nothing_masked():
        assert redact(AWS) == AWS
        yield


@pytest.fixture
def dag() -> Iterator[DAG]:
    macros = {"presign": lambda name: {"aws": AWS, "azure": AZURE}[name], "as_json": json.dumps}
    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), user_defined_macros=macros) as dag:
        yield dag


def assert_nothing_shows(stored: dict[str, Any]) -> None:
    text = json.dumps(stored)
    for secret in (SIGNATURE, SIGNATURE[:-6], READ, TOKEN):
        assert secret not in text
    assert "X-Amz-Signature=***" in text or "sig=***" in text
    # What is no secret stays readable.
    assert FILE in text


@pytest.mark.parametrize("image", WAYS.values(), ids=WAYS.keys())
def test_of_a_task(dag: DAG, image: str) -> None:
    task = KlingGenerateOperator(task_id="video", image=image, **REQUEST)
    found = rendered(task)
    assert_nothing_shows(found.stored)
    assert found.stored["prompt"] == REQUEST["prompt"]
    # The task itself has the URL whole.
    assert found.task.image == AWS


@pytest.mark.parametrize("image", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("map_index", [0, 1])
def test_of_a_mapped_task(dag: DAG, image: str, map_index: int) -> None:
    task = KlingGenerateOperator.partial(task_id="video", **REQUEST).expand(image=[image, image])
    found = rendered(task, map_index)
    assert_nothing_shows(found.stored)
    assert found.task.image == AWS


def test_of_a_mapped_task_whose_image_is_for_all(dag: DAG) -> None:
    task = KlingGenerateOperator.partial(task_id="video", image="{{ presign('aws') }}", **REQUEST)
    found = rendered(task.expand(duration=[5, 6]), map_index=1)
    assert_nothing_shows(found.stored)
    assert (found.task.image, found.task.duration) == (AWS, 6)


@pytest.mark.parametrize(
    "arguments",
    [
        {"element_list": [{"image": "{{ presign('azure') }}"}]},
        {"element_list": "{{ as_json([{'image': presign('azure')}]) }}"},
        {"extra_body": {"a": [{"b": "{{ presign('azure') }}"}]}},
        {"extra_body": "{{ {'a': presign('azure')} | tojson }}"},
        {"image": "{{ presign('aws') }}", "last_image": "{{ presign('azure') }}"},
        {"prompt": "{{ presign('azure') }} " + "x" * 5000},
        {"prompt": f"See {FILE}?a=1&amp;sig={SIGNATURE}"},
    ],
    ids=str,
)
def test_of_any_field(dag: DAG, arguments: dict[str, Any]) -> None:
    task = KlingGenerateOperator(task_id="video", **REQUEST | arguments)
    assert_nothing_shows(rendered(task).stored)


@pytest.mark.parametrize("depth", [1, 4, 5, 6, 7, 30])
@pytest.mark.parametrize("holder", [lambda inner: {"a": inner}, lambda inner: [inner, 5.5]], ids=["dict", "list"])
def test_at_any_depth(dag: DAG, depth: int, holder: Callable[[Any], Any]) -> None:
    def extra_body(inner: str) -> Any:
        value: Any = inner
        for _ in range(depth - 1):
            value = holder(value)
        return {"x": value}

    task = KlingGenerateOperator(task_id="video", extra_body=extra_body("{{ presign('azure') }}"), **REQUEST)
    found = rendered(task)
    assert_nothing_shows(found.stored)
    assert VideoRequest.build(**found.task._arguments()).extra_body == extra_body(AZURE)
    # What Airflow masks by itself keeps its form.
    assert isinstance(found.task.extra_body, str) is (depth > MASKED_LEVELS)


def test_of_a_url_that_is_a_key(dag: DAG) -> None:
    found = rendered(KlingGenerateOperator(task_id="video", extra_body={"weights": {AZURE: 0.5}}, **REQUEST))
    assert_nothing_shows(found.stored)
    assert VideoRequest.build(**found.task._arguments()).extra_body == {"weights": {AZURE: 0.5}}


def test_what_is_no_json_is_left_to_the_check_of_the_request(dag: DAG) -> None:
    task = KlingGenerateOperator(task_id="video", extra_body={AZURE: datetime(2026, 1, 1, tzinfo=UTC)}, **REQUEST)
    assert isinstance(rendered(task).task.extra_body, dict)


VIDEO = {"kling_task_id": "t", "video_url": AWS}


@pytest.mark.parametrize(
    "make",
    [
        lambda: KlingToObjectStorageOperator(task_id="store", video=VIDEO, path="file:///x/"),
        lambda: KlingToObjectStorageOperator(task_id="store", video=f"{VIDEO}", path="file:///x/"),
        lambda: KlingTaskSensor(task_id="wait", kling_task_id=json.dumps(VIDEO)),
    ],
)
def test_of_a_finished_video_that_is_handed_on(dag: DAG, make: Callable[[], Any]) -> None:
    assert_nothing_shows(rendered(make()).stored)


def test_a_short_signature_is_masked_and_the_same_word_elsewhere_is_not(dag: DAG) -> None:
    task = KlingGenerateOperator(
        task_id="video", image=f"{FILE}?sig=desert&sv=1&se=2", **REQUEST | {"negative_prompt": "sig"}
    )
    stored = rendered(task).stored
    assert stored["image"] == f"{FILE}?***&sv=1&se=2"
    assert stored["prompt"] == REQUEST["prompt"]


def test_what_is_logged_afterwards_is_masked(dag: DAG) -> None:
    rendered(KlingGenerateOperator(task_id="video", image="{{ presign('aws') }}", **REQUEST))
    assert redact(f"It is {READ} or {SIGNATURE}.") == "It is *** or ***."


def test_a_template_that_fails_is_logged_without_the_signature_in_it(
    dag: DAG, caplog: pytest.LogCaptureFixture
) -> None:
    task = KlingGenerateOperator(task_id="video", image=f"{AWS}&x={{{{ 1 / 0 }}}}", **REQUEST)
    with pytest.raises(ZeroDivisionError):
        rendered(task)
    assert redact(AWS).count("***") >= 2
    assert SIGNATURE not in redact(caplog.text)
