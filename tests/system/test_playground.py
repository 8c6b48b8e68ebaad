# SPDX-License-Identifier: Apache-2.0
"""``make airflow`` as a user has it: one's own DAG, trouble by words, an edited connection, a restart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.docs.pages import read_page
from tests.system.airflow_api import AirflowApi
from tests.system.airflow_cluster import free_port
from tests.system.playground import CHECKOUT, CONN_ID, Playground, connect, greeting, parse, playground
from tests.system.video import look_into

PATIENCE = 240.0
"""Seconds to wait for anything; far more than needed, for a busy machine."""
README_FOLDER = "file:///tmp/clips/"


class Restarts:
    """A playground, started again and again in the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "kept"
        self.own_dags = folder / "dags"
        self.arguments = ["--port", str(free_port()), "--queue-seconds", "0", "--run-seconds", "2"]
        self._stack = ExitStack()

    def start(self) -> Playground:
        """Stop the one that runs, if any, and start the next."""
        self._stack.close()
        options = parse(self.arguments, self.folder)
        return self._stack.enter_context(
            playground(options, folder=self.folder, own_dags=self.own_dags, port=free_port())
        )

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def restarts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restarts]:
    restarts = Restarts(tmp_path_factory.mktemp("playground"))
    yield restarts
    restarts.close()


@pytest.fixture(scope="module")
def first(restarts: Restarts) -> Playground:
    return restarts.start()


def run(api: AirflowApi, dag_id: str, **conf: Any) -> str:
    """Start a run as the UI's button does, and return its id."""
    api.wait_for_dags({dag_id}, timeout=PATIENCE)
    return api.trigger_dag(dag_id, conf, logical_date=datetime.now(UTC).isoformat())


def read_me() -> str:
    """Return the first DAG of the README."""
    page = read_page(CHECKOUT / "README.md", "README.md")
    return next(block.code for block in page.blocks if block.language == "python")


def test_the_first_dag_of_the_readme_runs_as_printed(
    first: Playground, restarts: Restarts, tmp_path: Path
) -> None:
    code = read_me()
    assert code.count(README_FOLDER) == 1
    # Only its folder is another one: what lies in /tmp is not the test's.
    (restarts.own_dags / "daily_clips.py").write_text(code.replace(README_FOLDER, f"file://{tmp_path}/"))
    api = first.cluster.api
    run_id = run(api, "daily_clips")
    assert api.wait_for_run("daily_clips", run_id, timeout=PATIENCE) == "success", api.report(
        "daily_clips", run_id
    )
    files = sorted(tmp_path.rglob("*.mp4"))
    day = str(datetime.now(UTC).date())
    assert [path.name for path in files] == [
        "a-paper-boat-drifts-down-a-rainy-street.mp4",
        "waves-roll-onto-a-black-sand-beach.mp4",
    ]
    assert {path.parent.name for path in files} == {day}
    assert all(abs(look_into(path).seconds - 5) < 0.1 for path in files)


def test_words_in_prompts_make_trouble(first: Playground, tmp_path: Path) -> None:
    api = first.cluster.api
    prompts = ["A boat. [refuse]", "A raft. [fail]", "A ship. [slow]"]
    run_id = run(api, "example_kling_batch", prompts=prompts, folder=f"file://{tmp_path}/")
    api.wait_for_run("example_kling_batch", run_id, timeout=PATIENCE)
    states = [task["state"] for task in api.task_instances("example_kling_batch", run_id, "generate")]
    assert states == ["failed", "failed", "success"], api.report("example_kling_batch", run_id)


def test_a_second_one_in_the_same_folder_does_not_start(first: Playground, restarts: Restarts) -> None:
    options = parse(["--port", "0"], restarts.folder)
    with pytest.raises(BlockingIOError), playground(options, folder=restarts.folder, own_dags=restarts.own_dags):
        pass


def test_a_connection_follows_the_sandbox_until_it_is_edited(first: Playground, tmp_path: Path) -> None:
    api, memory = first.cluster.api, tmp_path / "connection.json"
    before = api.connection(CONN_ID)
    api.request("DELETE", f"connections/{CONN_ID}")
    wanted = {"conn_type": "kling", "host": "http://127.0.0.1:1", "password": "sk-one"}
    moved = {**wanted, "host": "http://127.0.0.1:2", "extra": {"api": "official"}}

    def shown() -> Any:
        found = api.connection(CONN_ID) or {}
        return found.get("host"), json.loads(found.get("extra") or "{}")

    try:
        assert connect(api, wanted, memory) is None
        assert shown() == ("http://127.0.0.1:1", {})
        assert connect(api, moved, memory) is None
        assert shown() == ("http://127.0.0.1:2", {"api": "official"})
        assert "sk-one" not in memory.read_text()
        edited = {**(api.connection(CONN_ID) or {}), "host": "http://127.0.0.1:3"}
        del edited["password"]
        api.request("PATCH", f"connections/{CONN_ID}", json=edited, params={"update_mask": "host"})
        assert connect(api, wanted, memory) == "http://127.0.0.1:3"
        assert shown() == ("http://127.0.0.1:3", {"api": "official"})
    finally:
        api.request("DELETE", f"connections/{CONN_ID}")
        connect(api, json.loads(first.sandbox.connection_json), tmp_path / "restored.json")
        assert api.connection(CONN_ID) == before


def test_runs_videos_and_an_edited_connection_outlive_a_restart(first: Playground, restarts: Restarts) -> None:
    api, dag_id = first.cluster.api, "example_kling_text_to_video"
    done = run(api, dag_id, prompt="A lighthouse.", folder=f"file://{restarts.folder}/videos/")
    assert api.wait_for_run(dag_id, done, timeout=PATIENCE) == "success", api.report(dag_id, done)
    # Long enough for a stop in between.
    first.sandbox.run_seconds = 20.0
    waiting = run(api, dag_id, prompt="A harbour.", folder=f"file://{restarts.folder}/videos/")
    api.wait_for_task(dag_id, waiting, "generate", states={"deferred"}, timeout=PATIENCE)
    ledger, video = first.sandbox.ledger(), api.xcom(dag_id, done, "generate")
    film = get(video["video_url"])
    api.request("PATCH", f"connections/{CONN_ID}", json=edited(api), params={"update_mask": "description"})

    second = restarts.start()
    api = second.cluster.api
    assert second.sandbox.ledger() == ledger
    assert get(video["video_url"]) == film
    assert (api.connection(CONN_ID) or {})["description"] == "mine"
    assert "was edited" in greeting(second)
    assert api.run(dag_id, done)["state"] == "success"
    assert api.wait_for_run(dag_id, waiting, timeout=PATIENCE) == "success", api.report(dag_id, waiting)
    assert second.sandbox.ledger() == ledger


def edited(api: AirflowApi) -> dict[str, Any]:
    """Return the connection with a description, in the form for a change."""
    found = api.connection(CONN_ID) or {}
    return {"connection_id": CONN_ID, "conn_type": found["conn_type"], "description": "mine"}


def get(url: str) -> bytes:
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(url, timeout=30)
    answer.raise_for_status()
    return answer.content
