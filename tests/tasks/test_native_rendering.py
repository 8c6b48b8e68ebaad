# SPDX-License-Identifier: Apache-2.0
"""A text stays the text that the user wrote, also in a DAG that renders templates to Python values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.tasks.rendered import render_texts
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.rendering import rendered

MODEL = "kling-v3-std-silent"
#: Texts that Python reads as something else.
TEXTS = [
    "2025",
    "007",
    "1_000",
    "1e5",
    "0x1F",
    "3.14",
    "-5",
    "True",
    "False",
    "[a]",
    "[1, 2]",
    "(1, 2)",
    "{'a': 1}",
    "{1, 2}",
    "'quoted'",
    '"A paper boat"',
    "b'bytes'",
    "2025-01-01",
    "1, 2, 3",
    "...",
    "A paper boat",
    "42 # not a comment",
]
MACROS: dict[str, Any] = {
    "texts": dict(enumerate(TEXTS)),
    "video": {"kling_task_id": "8e5", "video_url": "https://cdn.example.com/a.mp4"},
    "nothing": None,
    "words": ["a", "b"],
    "today": date(2026, 11, 3),
}


@pytest.fixture(params=[True, False], ids=["native", "text"])
def dag(request: pytest.FixtureRequest) -> Iterator[DAG]:
    with DAG(
        "dag",
        schedule=None,
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        render_template_as_native_obj=request.param,
        user_defined_macros=MACROS,
    ) as dag:
        yield dag


def sent(task: Any) -> VideoRequest:
    return VideoRequest.build(**rendered(task).task._arguments())


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_is_written_out(dag: DAG, name: str, text: str) -> None:
    task = KlingGenerateOperator(task_id="t", model=MODEL, **{"prompt": "x", name: text})
    assert getattr(sent(task), name) == text


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_a_text_that_a_template_finds(dag: DAG, number: int) -> None:
    task = KlingGenerateOperator(task_id="t", model=MODEL, prompt=f"{{{{ texts[{number}] }}}}")
    assert sent(task).prompt == TEXTS[number]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 2000 + 25 }}", "2025"),
        ("In {{ 2000 + 25 }}", "In 2025"),
        ("{{ 20 }}{{ 25 }}", "2025"),
        ("{{ 1 == 1 }}", "True"),
        ("{{ 0.5 }}", "0.5"),
        ("{{ today }}", "2026-11-03"),
        ("{% for word in words %}{{ word }}{% endfor %}", "ab"),
        ("{{ words }} in a row", "['a', 'b'] in a row"),
    ],
)
def test_what_a_template_computes(dag: DAG, template: str, text: str) -> None:
    assert sent(KlingGenerateOperator(task_id="t", model=MODEL, prompt=template)).prompt == text


def test_what_rendered_templates_shows(dag: DAG) -> None:
    shown = rendered(KlingGenerateOperator(task_id="t", model=MODEL, prompt="1e5", duration="{{ 5 }}")).stored
    assert shown["prompt"] == "1e5"
    assert str(shown["duration"]) == "5"


@pytest.mark.parametrize("text", ["2025", "1e5", "'quoted'", "[a]", "True"])
def test_the_prompt_of_a_shot_and_of_extra_body(dag: DAG, text: str) -> None:
    shots = [{"prompt": text, "duration": "{{ 2 + 3 }}"}]
    task = KlingGenerateOperator(
        task_id="t", model=MODEL, multi_prompt=shots, extra_body={"negative_prompt": text, "seed": "7"}
    )
    request = sent(task)
    assert request.multi_prompt is not None
    assert request.multi_prompt[0]["prompt"] == text
    assert str(request.multi_prompt[0]["duration"]) == "5"
    assert request.negative_prompt == text
    assert shots[0]["prompt"] == text


def test_a_mapped_task(dag: DAG) -> None:
    mapped = KlingGenerateOperator.partial(task_id="t", model=MODEL).expand(prompt=["2025", "1e5", "[a]"])
    assert [rendered(mapped, index).task.prompt for index in range(3)] == ["2025", "1e5", "[a]"]


@pytest.mark.parametrize("dag", [True], indirect=True)
class TestWhatIsNoText:
    @pytest.mark.parametrize("template", ["{{ words }}", "{{ video }}"])
    def test_a_container_is_refused_before_it_is_paid_for(self, dag: DAG, template: str) -> None:
        with pytest.raises(KlingValidationError, match="must be a string"):
            sent(KlingGenerateOperator(task_id="t", model=MODEL, prompt=template))

    def test_nothing_is_absent(self, dag: DAG) -> None:
        task = KlingGenerateOperator(task_id="t", model=MODEL, prompt="x", negative_prompt="{{ nothing }}")
        assert sent(task).negative_prompt is None

    def test_nothing_is_no_prompt(self, dag: DAG) -> None:
        with pytest.raises(KlingValidationError, match="prompt"):
            sent(KlingGenerateOperator(task_id="t", model=MODEL, prompt="{{ nothing }}"))

    def test_a_fault_in_a_template_is_raised_as_by_airflow(self, dag: DAG) -> None:
        with pytest.raises(Exception, match="division"):
            rendered(KlingGenerateOperator(task_id="t", model=MODEL, prompt="{{ 1 // 0 }}{{ words }}"))


@pytest.mark.parametrize("kling_task_id", ["88e12345", "0012", "1_2", "12345", "task_1"])
def test_a_task_id_keeps_its_digits(dag: DAG, kling_task_id: str) -> None:
    sensor = KlingTaskSensor(task_id="t", kling_task_id=kling_task_id)
    assert rendered(sensor).task.kling_task_id == kling_task_id
    transfer = KlingToObjectStorageOperator(task_id="u", video=kling_task_id, path="/videos/1e5")
    assert rendered(transfer).task.video == kling_task_id


@pytest.mark.parametrize(("output", "text"), [(2025, "2025"), (1.5, "1.5"), (date(2026, 11, 3), "2026-11-03")])
def test_the_output_of_another_task(dag: DAG, output: Any, text: str) -> None:
    task = KlingGenerateOperator(task_id="t", model=MODEL, prompt="x")
    task.prompt = output  # as an XComArg resolves to it, without a template
    assert sent(task).prompt == text


def test_a_finished_video_is_still_one(dag: DAG) -> None:
    from airflow_provider_kling.jobs.result import task_reference

    sensor = KlingTaskSensor(task_id="t", kling_task_id="{{ video }}")
    assert task_reference(rendered(sensor).task.kling_task_id) == ("8e5", "https://cdn.example.com/a.mp4")


def test_nothing_is_rendered_where_the_dag_renders_to_text(dag: DAG) -> None:
    env = dag.get_template_env(force_sandboxed=True)
    task = KlingGenerateOperator(task_id="t", model=MODEL, prompt="2025")
    assert render_texts(task, ["prompt"], {}, env) == set()
