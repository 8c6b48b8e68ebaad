# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_kling.sandbox import DIALECTS, Dialect, Fault, Sandbox
from airflow_provider_kling.sandbox.dialects import put

if TYPE_CHECKING:
    from collections.abc import Callable

URL_PLACES = [
    "video_url",
    "url",
    "metadata.url",
    "metadata.video_url",
    "output_url",
    "data.result_url",
    "task_result.videos[0].url",
]


def at(answer: Any, path: str) -> Any:
    for step in path.replace("[0]", ".0").split("."):
        answer = answer[int(step) if isinstance(answer, list) else step]
    return answer


@pytest.mark.parametrize("path", URL_PLACES)
def test_the_url_sits_in_one_place_only(start: Callable[..., Any], path: str) -> None:
    caller = start(dialect={"url_at": path})
    task_id = caller.task()
    seen = caller.status(task_id).json()
    url = f"{caller.sandbox.base_url}/files/{task_id}.mp4"
    assert at(seen, path) == url
    assert str(seen).count(url) == 1


def test_what_is_there_stays_beside_a_stored_value() -> None:
    target: dict[str, Any] = {"metadata": {"a": 1}}
    put(target, "metadata.url", "u")
    assert target == {"metadata": {"a": 1, "url": "u"}}


@pytest.mark.parametrize("word", ["succeed", "SUCCESS", "Finished", "transmogrified"])
def test_any_word_as_it_is_given(start: Callable[..., Any], word: str) -> None:
    caller = start(dialect=Dialect(completed=word, queued="PENDING"))
    answer = caller.submit().json()
    assert answer["status"] == "PENDING"
    assert caller.status(answer["id"]).json()["status"] == word


def test_progress_as_text_or_not_at_all(start: Callable[..., Any]) -> None:
    percent, none = start(dialect={"progress": "percent"}), start(dialect={"progress": "none"})
    assert percent.status(percent.task()).json()["progress"] == "100%"
    assert "progress" not in none.status(none.task()).json()


def test_wrapped_with_loud_words_and_flat_errors(start: Callable[..., Any]) -> None:
    caller = start(dialect="wrapped")
    task_id = caller.submit().json()["data"]["task_id"]
    seen = caller.status(task_id).json()
    assert (seen["code"], seen["message"]) == ("success", "")
    assert (seen["data"]["status"], seen["data"]["progress"]) == ("SUCCESS", "100%")
    assert seen["data"]["result_url"].startswith(caller.sandbox.base_url)
    assert caller.status("task_none").json() == {
        "code": "task_not_exist",
        "message": "task_not_exist",
        "data": None,
    }


def test_ids_that_are_numbers(start: Callable[..., Any]) -> None:
    caller = start(dialect="numeric", run_seconds=3600)
    task_id = caller.submit().json()["id"]
    assert isinstance(task_id, int)
    caller.sandbox.finish(task_id)
    seen = caller.status(task_id).json()
    assert seen["id"] == seen["task_id"] == task_id
    assert caller.sandbox.ledger()[0]["id"] == str(task_id)
    caller.sandbox.add_fault(Fault(on="status", kind="error", match=str(task_id)))
    assert caller.status(task_id).status_code == 500


def test_a_task_id_that_is_not_the_id(start: Callable[..., Any]) -> None:
    caller = start(dialect={"identity": "differ"})
    submitted = caller.submit().json()
    seen = caller.status(submitted["id"]).json()
    assert seen["id"] == submitted["id"] == submitted["task_id"]
    assert seen["task_id"] != seen["id"]
    assert caller.status(seen["task_id"]).status_code == 400


@pytest.mark.parametrize(("identity", "missing"), [("id", "task_id"), ("task_id", "id")])
def test_one_of_the_two_ids_is_missing(start: Callable[..., Any], identity: str, missing: str) -> None:
    caller = start(dialect={"identity": identity})
    submitted = caller.submit().json()
    seen = caller.status(submitted[identity]).json()
    assert missing not in submitted
    assert missing not in seen
    assert seen[identity] == submitted[identity]


def test_a_bare_response_to_a_submit(start: Callable[..., Any]) -> None:
    assert set(start(dialect="bare").submit().json()) == {"task_id", "status"}


def test_milliseconds_in_status_answers_only(start: Callable[..., Any]) -> None:
    caller = start(dialect={"created_at": "ms"})
    submitted = caller.submit().json()
    assert caller.status(submitted["id"]).json()["created_at"] // 1000 == submitted["created_at"]


def test_a_link_to_the_gateway_itself(start: Callable[..., Any]) -> None:
    caller = start(dialect={"url_kind": "content"}, prefix="kling")
    task_id = caller.task()
    url = caller.status(task_id).json()["video_url"]
    assert url == f"{caller.sandbox.base_url}/v1/videos/{task_id}/content"
    assert caller.session.get(url, timeout=20).status_code == 401


@pytest.mark.parametrize("name", DIALECTS)
def test_each_named_dialect_reports_a_whole_life(start: Callable[..., Any], name: str) -> None:
    caller = start(dialect=name, run_seconds=3600)
    caller.submit()
    (job,) = caller.sandbox.jobs()
    dialect = DIALECTS[name]
    assert f'"{dialect.running}"' in caller.status(job["id"]).text
    caller.sandbox.finish(job["id"])
    assert f'"{dialect.completed}"' in caller.status(job["id"]).text


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="unknown dialect 'klingon'; known are documented"):
        Sandbox(dialect="klingon")
