# SPDX-License-Identifier: Apache-2.0
"""
Every example DAG on a real Airflow, driven over REST, from the trigger to the file on disk.

Each runs against a gateway and against Kling's own platform; only the connection differs.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from PIL import Image

from airflow_provider_kling.api.request import REQUEST_FIELDS
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.fixtures.frames import ENDPOINT
from tests.system.airflow_api import AirflowApi, wait_for
from tests.system.airflow_cluster import AirflowCluster
from tests.system.bucket import Bucket
from tests.system.conftest import EXAMPLE_DAGS
from tests.system.examples import EXAMPLES, STAGED, VIDEOS, Example
from tests.system.play import Play
from tests.system.scene import set_connection
from tests.system.video import VideoFacts, difference, look_into, picture_at


@dataclass
class Runs:
    """One run of every example, all at once, and how things stood while all of their videos were being made."""

    folder: Path
    run_ids: dict[str, str]
    api: AirflowApi
    tasks: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pool: dict[str, Any] = field(default_factory=dict)
    unfinished_jobs: int = 0
    bought: int = 0

    def waiting(self) -> bool:
        """Tell whether every video's waiting task is deferred."""
        self.tasks = {
            dag_id: self.api.task_instances(dag_id, run_id, EXAMPLES[dag_id].waiting_task)
            for dag_id, run_id in self.run_ids.items()
        }
        states = [task["state"] for tasks in self.tasks.values() for task in tasks]
        return states.count("deferred") == VIDEOS

    def reports(self) -> str:
        return "\n".join(self.api.report(dag_id, run_id) for dag_id, run_id in self.run_ids.items())


@pytest.fixture(scope="module", params=["gateway", "official"])
def server(request: pytest.FixtureRequest, cluster: AirflowCluster, sandbox: Sandbox) -> Iterator[Sandbox]:
    """The server behind the connection of the examples: that of all tests, or Kling's own platform meanwhile."""
    if request.param == "gateway":
        yield sandbox
        return
    with Sandbox(api="official", run_seconds=3600) as platform:
        set_connection(cluster.api, "kling_default", json.loads(platform.connection_json))
        yield platform
    set_connection(cluster.api, "kling_default", json.loads(sandbox.connection_json))


@pytest.fixture(scope="module")
def runs(cluster: AirflowCluster, server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run all examples to their end, stopping to look while every video is still being made."""
    folder = tmp_path_factory.mktemp("videos")
    cluster.api.wait_for_dags(EXAMPLES.keys())
    # Other tests of this server have bought as well.
    before = len(server.ledger())
    run_ids = {
        dag_id: cluster.api.trigger_dag(dag_id, {"folder": f"file://{folder}/{dag_id}/"}) for dag_id in EXAMPLES
    }
    runs = Runs(folder, run_ids, cluster.api)
    try:
        wait_for(runs.waiting, "every video to be waited for", timeout=180)
        wait_for(lambda: not cluster.busy_workers(), "every worker process to be idle", timeout=30)
    except TimeoutError as error:
        pytest.fail(f"{error}\n{runs.reports()}")
    runs.pool = cluster.api.pool()
    runs.unfinished_jobs = sum(job["state"] != "completed" for job in server.jobs())
    for job in server.jobs():
        server.finish(job["id"])
    for dag_id, run_id in run_ids.items():
        cluster.api.wait_for_run(dag_id, run_id)
    runs.bought = len(server.ledger()) - before
    return runs


def test_no_worker_is_held_while_the_videos_are_made(runs: Runs) -> None:
    assert runs.unfinished_jobs == VIDEOS
    assert runs.pool["deferred_slots"] == VIDEOS
    assert runs.pool["running_slots"] == 0


@pytest.mark.parametrize("dag_id", EXAMPLES)
def test_the_run_succeeds(runs: Runs, dag_id: str) -> None:
    run_id = runs.run_ids[dag_id]
    assert runs.api.run(dag_id, run_id)["state"] == "success", runs.api.report(dag_id, run_id)


@pytest.mark.parametrize(("dag_id", "example"), EXAMPLES.items())
def test_every_video_is_a_file_of_its_own_name(runs: Runs, dag_id: str, example: Example) -> None:
    waited = runs.api.task_instances(dag_id, runs.run_ids[dag_id], example.waiting_task)
    videos = [
        runs.api.xcom(dag_id, runs.run_ids[dag_id], example.waiting_task, map_index=task["map_index"])
        for task in waited
    ]
    found = sorted(path.name for path in (runs.folder / dag_id).iterdir())
    named = [
        (video["path"] or f"{video['kling_task_id']}.mp4").rpartition("/")[2]  # or stored by the task after it
        for video in videos
    ]
    assert found == sorted(named)
    assert len(found) == example.count


@pytest.mark.parametrize(("dag_id", "example"), EXAMPLES.items())
def test_every_file_plays_as_asked_for(runs: Runs, dag_id: str, example: Example) -> None:
    for path in (runs.folder / dag_id).iterdir():
        facts = look_into(path)
        assert facts.seconds == pytest.approx(example.video.seconds, abs=0.1)
        assert facts == VideoFacts(**{**vars(example.video), "seconds": facts.seconds})


def test_nothing_is_paid_twice(runs: Runs) -> None:
    assert runs.run_ids.keys() == EXAMPLES.keys()
    assert runs.bought == VIDEOS


# ---- the examples that run in several steps, all at once ----------------------------------------------------

Staged = Callable[[AirflowCluster, Sandbox, Bucket, Path], None]
STAGES: dict[str, Staged] = {}


def staged(function: Staged) -> Staged:
    """Register a function that plays such an example."""
    STAGES[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def outcomes(
    cluster: AirflowCluster, server: Sandbox, runs: Runs, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[None]]]:
    """Start them once the other examples are through."""
    with ThreadPoolExecutor(len(STAGES)) as pool:
        yield {
            name: pool.submit(play, cluster, server, bucket, tmp_path_factory.mktemp(name))
            for name, play in STAGES.items()
        }


@staged
def a_film_is_made_of_the_shots_that_are_not_refused(
    cluster: AirflowCluster, server: Sandbox, bucket: Bucket, tmp_path: Path
) -> None:
    rows = [
        {"prompt": "A lighthouse in a storm.", "aspect_ratio": "16:9"},
        {"prompt": "What the vendor refuses in a film."},
        {"prompt": "A fox crosses a frozen lake.", "aspect_ratio": "9:16", "model": "kling-v3-std-silent"},
        {"prompt": "A market at noon.", "aspect_ratio": "1:1"},
    ]
    folder = f"reel-{server.base_url.rpartition(':')[2]}/"
    server.add_fault(Fault("submit", "refuse_content", match=rows[1]["prompt"]))
    play = Play.start(cluster, server, "example_kling_reel", rows=rows, folder=f"{bucket.url}/{folder}")
    play = play.with_jobs_of(*(row["prompt"] for row in rows))
    assert play.end() == "success", play.api.report(play.dag_id, play.run_id)
    assert play.states("generate") == ["success", "failed", "success", "success"]
    result = play.result("join")
    assert result["missing"] == [rows[1]["prompt"]]
    assert "goes without this shot" in play.api.task_log(play.dag_id, play.run_id, "join")
    files = bucket.files(folder, tmp_path)
    clips = [
        f"clips/{name}.mp4"
        for name in ("0-a-lighthouse-in-a-storm", "2-a-fox-crosses-a-frozen-lake", "3-a-market-at-noon")
    ]
    assert sorted(files) == sorted([*clips, "contact_sheet.jpg", "poster.jpg", "reel.mp4"])
    assert result["files"] == [
        f"{bucket.url}/{folder}{name}" for name in ("reel.mp4", "poster.jpg", "contact_sheet.jpg")
    ]
    facts = look_into(files["reel.mp4"])
    assert facts == VideoFacts("h264", 1280, 720, facts.seconds, "aac")
    assert facts.seconds == pytest.approx(result["seconds"], abs=1 / 24)
    assert facts.seconds == pytest.approx(3 * 3 - 2 * 0.5, abs=1 / 24)
    for index, name in enumerate(clips):
        fitted = Image.new("RGB", (1280, 720))
        clip = picture_at(files[name], 1.5)
        clip.thumbnail(fitted.size)
        fitted.paste(clip, ((1280 - clip.width) // 2, (720 - clip.height) // 2))
        assert difference(picture_at(files["reel.mp4"], 1.5 + 2.5 * index), fitted) < 3, name
        if index == 0:
            with Image.open(files["poster.jpg"]) as poster:
                assert difference(poster, fitted) < 3
    with Image.open(files["contact_sheet.jpg"]) as sheet:
        assert sheet.size == (992, 196)


@staged
def a_person_approves_what_is_published(
    cluster: AirflowCluster, server: Sandbox, _bucket: Bucket, tmp_path: Path
) -> None:
    review(cluster, server, tmp_path, prompt="A red kite at noon.", option="Approve", published="success")


@staged
def a_person_rejects_what_would_be_published(
    cluster: AirflowCluster, server: Sandbox, _bucket: Bucket, tmp_path: Path
) -> None:
    review(cluster, server, tmp_path, prompt="A red kite at dusk.", option="Reject", published="skipped")


def review(
    cluster: AirflowCluster, server: Sandbox, tmp_path: Path, *, prompt: str, option: str, published: str
) -> None:
    play = Play.start(cluster, server, "example_kling_review", folder=f"file://{tmp_path}/", prompt=prompt)
    play = play.with_jobs_of(prompt)
    play.until(lambda: play.states("approve")[0] in ("awaiting_input", "deferred"), "a person to be asked")
    video = play.result("generate")
    request = f"dags/{play.dag_id}/dagRuns/{quote(play.run_id, safe='')}/taskInstances/approve/-1/hitlDetails"
    asked = play.api.request("GET", request)
    assert f"[Watch it]({video['video_url']})" in asked["body"]
    assert video["path"] in asked["body"]
    assert f"Prompt: {prompt}" in asked["body"]
    assert requests.get(video["video_url"], timeout=20).content[4:8] == b"ftyp"
    assert not (tmp_path / "published").exists()
    # Airflow takes a task for lost that is queued again before its worker was seen to end. A person is slower.
    ended = f"TaskInstance Finished: dag_id={play.dag_id}, task_id=approve, run_id={play.run_id},"
    scheduler_log = cluster.log_path("scheduler")
    wait_for(lambda: ended in scheduler_log.read_text(), "the scheduler to see the worker's end", timeout=60)
    play.api.request("PATCH", request, json={"chosen_options": [option], "params_input": {}})
    assert play.end() == "success", play.api.report(play.dag_id, play.run_id)
    assert play.states("publish") == [published]
    name = f"{video['kling_task_id']}.mp4"
    assert (tmp_path / name).is_file()
    copy = tmp_path / "published" / name
    assert copy.exists() == (option == "Approve")
    if copy.exists():
        assert copy.read_bytes() == (tmp_path / name).read_bytes()
        assert play.result("publish") == f"file://{copy}"


@staged
def the_videos_of_a_day_are_catalogued(
    cluster: AirflowCluster, server: Sandbox, _bucket: Bucket, tmp_path: Path
) -> None:
    prompts = ["A harbour at dawn", "What the vendor refuses that day", "A tram in the rain", "Snow on a roof"]
    rows = [*(f"2026-03-01,{prompt},1:1" for prompt in prompts), "2026-03-02,A video of tomorrow,16:9"]
    (tmp_path / "prompts.csv").write_text("\n".join(["date,prompt,aspect_ratio", *rows]))
    waiting = (None, "scheduled")
    catalogued = {run["dag_run_id"] for run in runs_of(cluster.api, "example_kling_catalogue")}
    server.add_fault(Fault("submit", "refuse_content", match=prompts[1]))
    cluster.api.request("PATCH", "dags/example_kling_daily", json={"is_paused": False})
    try:
        play = Play.start(
            cluster,
            server,
            "example_kling_daily",
            prompts=f"file://{tmp_path}/prompts.csv",
            folder=f"file://{tmp_path}/videos/",
            day="2026-03-01",
        ).with_jobs_of(*prompts, "A video of tomorrow")
        play.until(
            lambda: play.states("generate") in [["deferred", "failed", "deferred", state] for state in waiting],
            "two videos to be made, and the last prompt to wait for its turn",
            finish_jobs=False,
        )
        assert play.end() == "failed"
    finally:
        cluster.api.request("PATCH", "dags/example_kling_daily", json={"is_paused": True})
    assert play.states("generate") == ["success", "failed", "success", "success"]
    assert len(play.bought()) == 3
    log = play.api.task_log(play.dag_id, play.run_id, "generate", map_index=1)
    assert "No video from generate[1]: KlingContentRefusedError: " in log
    videos = [play.result("generate", index) for index in (0, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "videos" / "2026-03-01").iterdir()) == [
        "0-a-harbour-at-dawn.mp4",
        "2-a-tram-in-the-rain.mp4",
        "3-snow-on-a-roof.mp4",
    ]

    def listed() -> list[dict[str, Any]]:
        new = [
            run for run in runs_of(cluster.api, "example_kling_catalogue") if run["dag_run_id"] not in catalogued
        ]
        return [
            row
            for run in new
            if run["state"] == "success"
            for row in cluster.api.xcom("example_kling_catalogue", run["dag_run_id"], "catalogue")
        ]

    wait_for(lambda: len(listed()) >= 3, "every video to be catalogued", timeout=120, pause=1)
    found = sorted(listed(), key=lambda row: str(row["path"]))
    for row, video, prompt in zip(found, videos, [prompts[0], *prompts[2:]], strict=True):
        names = ("path", "sha256", "seconds", "kling_task_id")
        assert {name: row[name] for name in names} == {name: video[name] for name in names}
        assert (row["model"], row["prompt"]) == ("kling-v3-std-silent", prompt)
        assert (
            row["sha256"] == hashlib.sha256(Path(video["path"].removeprefix("file://")).read_bytes()).hexdigest()
        )


def runs_of(api: AirflowApi, dag_id: str) -> list[dict[str, Any]]:
    return list(api.listing(f"dags/{dag_id}/dagRuns", "dag_runs"))


@staged
def each_shot_begins_where_the_one_before_ended(
    cluster: AirflowCluster, server: Sandbox, bucket: Bucket, tmp_path: Path
) -> None:
    folder = f"chain-{server.base_url.rpartition(':')[2]}/"
    play = Play.start(cluster, server, "example_kling_chain", folder=f"{bucket.url}/{folder}")
    play = play.with_jobs_of("A lighthouse at dusk", "The camera rises", "The camera turns")
    assert play.end() == "success", play.api.report(play.dag_id, play.run_id)
    files = bucket.files(folder, tmp_path)
    assert sorted(files) == ["shot-1.mp4", "shot-1.png", "shot-2.mp4", "shot-2.png", "shot-3.mp4"]
    requests_sent = [json.dumps(entry["request"]) for entry in play.bought()]
    assert len(requests_sent) == 3
    assert "shot-" not in requests_sent[0]
    for number in (1, 2):
        with Image.open(files[f"shot-{number}.png"]) as image:
            assert difference(picture_at(files[f"shot-{number}.mp4"], math.inf), image) < 2
        [url] = re.findall(rf'"({ENDPOINT}/films/{folder}shot-{number}\.png\?[^"]*)"', requests_sent[number])
        assert bucket.fetched(url) == files[f"shot-{number}.png"].read_bytes()


@pytest.mark.parametrize("name", STAGES)
def test_an_example_of_several_steps(name: str, outcomes: dict[str, Future[None]]) -> None:
    outcomes[name].result()


def test_the_examples_show_every_parameter_of_the_api() -> None:
    shown = {
        keyword.arg
        for path in EXAMPLE_DAGS.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
    }
    assert set(REQUEST_FIELDS) - {"extra_body"} <= shown


def test_every_example_is_run_here() -> None:
    assert {path.stem for path in EXAMPLE_DAGS.glob("*.py")} == EXAMPLES.keys() | STAGED
