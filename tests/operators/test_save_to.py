# SPDX-License-Identifier: Apache-2.0
"""One task submits, waits and stores: ``save_to``."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, ObjectStoragePath, TaskDeferred

from airflow_provider_kling.exceptions import KlingDownloadError, KlingError, KlingValidationError
from airflow_provider_kling.media import storing
from airflow_provider_kling.media.last_frame import last_frame_png
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.conftest import Connect, TaskLog
from tests.task_context import StateStore, TaskInstance, context, event_of, run

PROMPT = "Waves roll onto a black sand beach at dawn."
GOOD: dict[str, Any] = {"model": "kling-v3-std-silent", "prompt": PROMPT, "duration": 3}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "PAUSES", (0.01, 0.01))


@pytest.fixture
def connected(sandbox: Sandbox, connect: Connect) -> str:
    return connect(sandbox.base_url, sandbox.api_key, read_timeout=30)


def operator(save_to: str | ObjectStoragePath | None, **arguments: Any) -> KlingGenerateOperator:
    given = GOOD | {"poll_interval": 0.1, "timeout": 20} | arguments
    return KlingGenerateOperator(task_id="video", save_to=save_to, **given)


@pytest.mark.parametrize("way", [{}, {"deferrable": False}], ids=["deferred", "blocking"])
def test_one_task_makes_a_file(sandbox: Sandbox, connected: str, tmp_path: Path, way: dict[str, Any]) -> None:
    save_to = f"file://{tmp_path}/{{model}}/{{slug}}.{{ext}}"
    video = run(operator(save_to, sidecar=True, tags={"team": "ads"}, **way))
    file = tmp_path / "kling-v3-std-silent" / "waves-roll-onto-a-black-sand-beach-at-dawn.mp4"
    assert video["path"] == f"file://{file}"
    assert video["size_bytes"] == file.stat().st_size
    assert (video["request"]["prompt"], video["tags"]) == (PROMPT, {"team": "ads"})
    assert json.loads(file.with_suffix(".json").read_text()) == video
    assert len(sandbox.ledger()) == 1
    assert "team" not in str(sandbox.ledger())


def test_a_long_prompt_of_words_alone_names_the_file_and_is_shown(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    prompt = ("waves roll onto a black sand beach " * 70).strip()
    video = run(operator(f"file://{tmp_path}/{{slug}}.mp4", prompt=prompt))
    assert video["path"].rpartition("/")[2].startswith("waves-roll-onto-a-black-sand-beach")
    assert video["request"]["prompt"] == prompt


def test_the_last_frame_is_stored_beside_it(sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
    video = run(operator(f"file://{tmp_path}/{{slug}}.mp4", last_frame_to=f"file://{tmp_path}/{{slug}}.png"))
    frame = tmp_path / "waves-roll-onto-a-black-sand-beach-at-dawn.png"
    assert video["last_frame_path"] == f"file://{frame}"
    assert frame.read_bytes() == last_frame_png(frame.with_suffix(".mp4"))


def test_a_last_frame_that_cannot_be_stored_leaves_the_video(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    task = operator(f"file://{tmp_path}/clip.mp4", last_frame_to=f"file://{tmp_path}/x.png")
    store = StateStore()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(store=store))
    (tmp_path / "x.png").mkdir()
    given = {**(deferred.value.kwargs or {}), "event": event_of(deferred.value)}
    with pytest.raises(KlingError) as caught:
        task.resume_execution(deferred.value.method_name, given, context(store=store))
    assert f"is stored as file://{tmp_path}/clip.mp4, without what belongs to it" in str(caught.value)
    (tmp_path / "x.png").rmdir()
    again = operator(f"file://{tmp_path}/clip.mp4", last_frame_to=f"file://{tmp_path}/x.png")
    assert again.execute(context(TaskInstance(try_number=2), store))["last_frame_path"]
    assert len(sandbox.ledger()) == 1


def test_two_worker_starts_are_enough(sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
    task, ti, store = operator(f"file://{tmp_path}/"), TaskInstance(), StateStore()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(ti, store))
    given = {**(deferred.value.kwargs or {}), "event": event_of(deferred.value)}
    video = task.resume_execution(deferred.value.method_name, given, context(ti, store))
    assert Path(video["path"].removeprefix("file://")).exists()


def test_the_request_of_the_result_is_the_one_that_was_sent(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    """Airflow renders the templates again for the resumed task, and a Variable may have changed."""
    task, ti, store = operator(f"file://{tmp_path}/{{slug}}.mp4"), TaskInstance(), StateStore()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(ti, store))
    given = {**(deferred.value.kwargs or {}), "event": event_of(deferred.value)}
    task.prompt = "Something else"
    video = task.resume_execution(deferred.value.method_name, given, context(ti, store))
    assert video["request"]["prompt"] == PROMPT
    assert "waves" in video["path"]


def test_a_place_that_is_gone_does_not_keep_a_retry_from_the_paid_video(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    store, folder = StateStore(), tmp_path / "clips"
    sandbox.add_fault(Fault("content", "error", status=503, times=3))
    with pytest.raises(KlingDownloadError):
        run(operator(f"file://{folder}/clip.mp4"), store=store)
    folder.rmdir()
    folder.touch()
    ti = TaskInstance(try_number=2)
    with pytest.raises(KlingValidationError, match="cannot be stored"):
        run(operator(f"file://{folder}/clip.mp4"), ti, store)
    [bought] = sandbox.ledger()
    assert ti.pushed["kling_task_id"] == bought["id"]
    assert bought["id"] in ti.pushed["video_url"]


def test_a_path_that_another_row_took_meanwhile_does_not_hide_the_paid_video(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    """Airflow clears the claim of a row when its retry starts."""
    save_to, store = f"file://{tmp_path}/{{slug}}.mp4", StateStore()
    sandbox.add_fault(Fault("content", "error", status=503, times=3))
    with pytest.raises(KlingDownloadError):
        run(operator(save_to), TaskInstance(map_index=1), store)
    other, ti = TaskInstance(map_index=0), TaskInstance(map_index=1, try_number=2)
    other.rows = ti.rows = [other, ti]
    run(operator(save_to), other)
    with pytest.raises(KlingValidationError, match="which is the file of row 0"):
        run(operator(save_to), ti, store)
    assert ti.pushed["kling_task_id"] == sandbox.ledger()[0]["id"]
    # With a path of its own, the same task stores it.
    again = TaskInstance(map_index=1, try_number=3)
    video = run(operator(f"file://{tmp_path}/{{map_index}}.mp4"), again, store)
    assert video["kling_task_id"] == sandbox.ledger()[0]["id"]
    assert len(sandbox.ledger()) == 2


@pytest.mark.parametrize("tags", ["{'team': 'ads'}", ["ads"], "", {"team": "ads", "since": date(2026, 1, 1)}])
def test_tags_of_any_kind_do_not_keep_a_paid_video_from_its_file(
    sandbox: Sandbox, connected: str, tmp_path: Path, tags: Any
) -> None:
    """Templates are rendered again for the resumed task, and may say something else by then."""
    task, store = operator(f"file://{tmp_path}/clip.mp4", sidecar=True, tags={"team": "ads"}), StateStore()
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context(store=store))
    task.tags = tags
    given = {**(deferred.value.kwargs or {}), "event": event_of(deferred.value)}
    video = task.resume_execution(deferred.value.method_name, given, context(store=store))
    assert (tmp_path / "clip.json").exists()
    assert ((video["tags"] or {}).get("team") == "ads") is ("team" in tags)
    assert json.loads(json.dumps(video)) == video


def test_the_log_has_the_id_of_a_video_that_nothing_else_can_keep(
    sandbox: Sandbox, connected: str, task_log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unable(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            raise ConnectionError("no database")

    monkeypatch.setenv("AIRFLOW__KLING__STATE", "none")
    with pytest.raises(ConnectionError):
        operator(None).execute(context(Unable()) | {"task_state_store": None})
    assert f"Kling task {sandbox.ledger()[0]['id']} is this task's job" in task_log.text


def test_a_retry_after_a_failed_download_only_downloads(sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
    store = StateStore()
    sandbox.add_fault(Fault("content", "error", status=503, times=3))
    with pytest.raises(KlingDownloadError, match=r"is finished and paid for\. It is not stored\."):
        run(operator(f"file://{tmp_path}/clip.mp4"), TaskInstance(), store)
    assert list(tmp_path.iterdir()) == []
    checks = sandbox.requests["status"]
    again = operator(f"file://{tmp_path}/clip.mp4").execute(context(TaskInstance(try_number=2), store))
    assert Path(again["path"].removeprefix("file://")).exists()
    assert sandbox.requests["status"] == checks + 1
    assert len(sandbox.ledger()) == 1


def test_a_kill_while_storing_says_that_the_video_is_finished(
    sandbox: Sandbox, connected: str, tmp_path: Path, task_log: TaskLog
) -> None:
    task = operator(f"file://{tmp_path}/clip.mp4")
    sandbox.add_fault(Fault("content", "delay_before", seconds=5))

    def kill() -> None:
        sandbox.wait_for("content", 1)
        task.on_kill()

    # Airflow 2 runs a task in the main thread only.
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        run(task)
        killing.result()
    assert "It is finished and paid for; the next attempt stores it" in task_log.text


@pytest.mark.parametrize(
    ("save_to", "words"),
    [
        ("clips/x.mp4", "is not absolute"),
        ("nowhere://bucket/x.mp4", "nowhere"),
        ("file:///tmp/", None),
        ("", "names no file"),
        ("file:///dev/null", "is not a regular file"),
    ],
)
def test_a_place_that_takes_no_file_is_refused_before_a_cent_is_spent(
    sandbox: Sandbox, connected: str, save_to: str, words: str | None, tmp_path: Path
) -> None:
    if words is None:
        (tmp_path / "x.mp4").mkdir()
        save_to, words = f"file://{tmp_path}/x.mp4", "is a folder"
    with pytest.raises((KlingValidationError, KlingDownloadError)) as caught:
        run(operator(save_to))
    assert words in str(caught.value)
    assert sandbox.ledger() == []


def test_an_existing_file_that_may_not_be_replaced_is_named_before_the_submit(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"mine")
    with pytest.raises(KlingValidationError, match="exists, and overwrite=False"):
        run(operator(f"file://{tmp_path}/clip.mp4", overwrite=False))
    assert sandbox.ledger() == []


class TestNoFileReplacesAnother:
    @pytest.mark.parametrize(
        "case",
        [
            ("{folder}/a.mp4", {"last_frame_to": "{folder}/a.mp4"}, ("last_frame_to", "that of save_to")),
            ("file://{folder}/a.mp4", {"last_frame_to": "{folder}/./a.mp4"}, ("last_frame_to", "that of save_to")),
            ("{folder}/a.json", {"sidecar": True}, ("sidecar", "that of save_to")),
            (
                "{folder}/a.mp4",
                {"sidecar": True, "last_frame_to": "{folder}/a.json"},
                ("sidecar", "that of last_frame_to"),
            ),
        ],
    )
    def test_of_one_task(
        self, sandbox: Sandbox, connected: str, tmp_path: Path, case: tuple[str, dict[str, Any], tuple[str, ...]]
    ) -> None:
        save_to, arguments, words = json.loads(json.dumps(case).replace("{folder}", str(tmp_path)))
        with pytest.raises(KlingValidationError) as caught:
            run(operator(save_to, **arguments))
        assert all(word in str(caught.value) for word in words)
        assert sandbox.ledger() == []

    def test_in_one_folder(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        video = run(operator(f"file://{tmp_path}/", last_frame_to=f"file://{tmp_path}/", sidecar=True))
        names = [f"{video['kling_task_id']}.{ending}" for ending in ("json", "mp4", "png")]
        assert sorted(file.name for file in tmp_path.iterdir()) == names
        assert video["last_frame_path"].endswith(".png")

    @pytest.mark.parametrize("name", ["clip.mp4", "clip.json", "clip.png"])
    def test_that_may_not_be_replaced(self, sandbox: Sandbox, connected: str, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"mine")
        frame = f"file://{tmp_path}/clip.png"
        with pytest.raises(KlingValidationError, match="exists, and overwrite=False"):
            run(operator(f"file://{tmp_path}/clip.mp4", overwrite=False, sidecar=True, last_frame_to=frame))
        assert sandbox.ledger() == []

    def test_after_a_clear_that_would_buy_another_video(
        self, sandbox: Sandbox, connected: str, tmp_path: Path
    ) -> None:
        store, given = StateStore(), {"overwrite": False, "on_clear": "resubmit"}
        run(operator(f"file://{tmp_path}/clip.mp4", **given), TaskInstance(), store)
        with pytest.raises(KlingValidationError, match="exists, and overwrite=False"):
            run(operator(f"file://{tmp_path}/clip.mp4", **given), TaskInstance(try_number=2, max_tries=1), store)
        assert len(sandbox.ledger()) == 1


@pytest.mark.parametrize("name", ["save_to", "last_frame_to"])
@pytest.mark.parametrize("value", [None, "", "None"], ids=str)
def test_a_path_that_renders_to_nothing_buys_nothing(
    sandbox: Sandbox, connected: str, tmp_path: Path, name: str, value: str | None
) -> None:
    task = operator(f"file://{tmp_path}/clip.mp4", last_frame_to=f"file://{tmp_path}/clip.png")
    setattr(task, name, value)  # as Airflow does with the output of another task
    with pytest.raises(
        KlingValidationError, match=f"{name}='{value or ('None' if value is None else '')}' names no"
    ):
        run(task)
    assert sandbox.ledger() == []


def test_a_sidecar_that_takes_no_file_is_refused_before_a_cent_is_spent(
    sandbox: Sandbox, connected: str, tmp_path: Path
) -> None:
    (tmp_path / "clip.json").mkdir()
    with pytest.raises(KlingValidationError, match=r"sidecar=.*clip\.json' is a folder"):
        run(operator(f"file://{tmp_path}/clip.mp4", sidecar=True))
    assert sandbox.ledger() == []


def test_a_path_object_is_a_template_as_its_text_is() -> None:
    path = ObjectStoragePath("file:///v/{{ ds }}/{slug}.mp4")
    frame = ObjectStoragePath("file:///v/{{ ds }}/{slug}.png")
    task = operator(path, last_frame_to=frame)
    assert (task.save_to, task.last_frame_to) == ("file:///v/{{ ds }}/{slug}.mp4", "file:///v/{{ ds }}/{slug}.png")
    store = KlingToObjectStorageOperator(task_id="store", video="t1", path=path, last_frame_to=frame)
    assert (store.path, store.last_frame_to) == (task.save_to, task.last_frame_to)
    one = ObjectStoragePath("file:///v/clip.mp4")
    with pytest.raises(KlingValidationError, match="save_to=.*is one file for all rows"):
        KlingGenerateOperator.partial(task_id="video", model=GOOD["model"], save_to=one).expand(prompt=["a", "b"])
    with pytest.raises(KlingValidationError, match="path=.*is one file for all rows"):
        KlingToObjectStorageOperator.partial(task_id="store", path=one).expand(video=["t1", "t2"])
    with DAG("rows", schedule=None):
        rows = KlingGenerateOperator.partial(task_id="a", **GOOD).expand(save_to=[path])
    assert rows.expand_input.value == {"save_to": [task.save_to]}


class TestTags:
    @pytest.mark.parametrize("tags", ["team", ["a"], {("a", "b"): 1}, {"{{ x": {1: {(2,): 3}}}], ids=str)
    def test_that_are_no_names_with_texts_are_refused_before_a_cent_is_spent(
        self, sandbox: Sandbox, connected: str, tmp_path: Path, tags: Any
    ) -> None:
        with pytest.raises(KlingValidationError, match="tags="):
            run(operator(f"file://{tmp_path}/clip.mp4", tags=tags))
        assert sandbox.ledger() == []

    @pytest.mark.parametrize("as_text", [True, False])
    def test_are_stored_as_json(self, sandbox: Sandbox, connected: str, tmp_path: Path, as_text: bool) -> None:
        tags: Any = {
            "team": "ads",
            "on": datetime(2026, 1, 2, tzinfo=UTC),
            "size": float("nan"),
            "ids": {1},
            3: None,
        }
        known = {"team": "ads", "on": "2026-01-02 00:00:00+00:00", "size": "nan", "ids": "{1}", "3": None}
        given = json.dumps(known) if as_text else tags
        video = run(operator(f"file://{tmp_path}/clip.mp4", sidecar=True, tags=given))
        assert video["tags"] == known
        assert json.loads((tmp_path / "clip.json").read_text())["tags"] == known

    def test_that_are_wrong_only_after_the_purchase_do_not_keep_the_video(
        self, sandbox: Sandbox, connected: str, tmp_path: Path, task_log: TaskLog
    ) -> None:
        """Airflow renders the templates again for the resumed task."""
        task = operator(f"file://{tmp_path}/clip.mp4", tags={"team": "ads"})
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context())
        given = {**(deferred.value.kwargs or {}), "event": event_of(deferred.value)}
        task.tags = "team"
        video = task.resume_execution(deferred.value.method_name, given, context())
        assert (video["tags"], (tmp_path / "clip.mp4").exists()) == (None, True)
        assert "tags=" in task_log.text


class TestRows:
    def rows(self, count: int) -> list[TaskInstance]:
        rows: list[TaskInstance] = []
        rows += [TaskInstance(map_index=index, rows=rows) for index in range(count)]
        return rows

    def test_two_that_meet_at_one_path_cost_one_video(
        self, sandbox: Sandbox, connected: str, tmp_path: Path
    ) -> None:
        first, second, third = self.rows(3)
        path = f"file://{tmp_path}/{{slug}}.mp4"
        stored = run(operator(path), first)
        with pytest.raises(KlingValidationError, match=r"Row 1 would be stored as .*, which is the file of row 0"):
            run(operator(path), second)
        run(operator(path, prompt="Another"), third)
        assert len(sandbox.ledger()) == 2
        file = Path(stored["path"].removeprefix("file://"))
        assert hashlib.sha256(file.read_bytes()).hexdigest() == stored["sha256"] or stored["sha256"] is None

    @pytest.mark.parametrize("name", ["{map_index}.mp4", "{slug}-{kling_task_id}.mp4", ""])
    def test_with_names_of_their_own_all_are_stored(
        self, sandbox: Sandbox, connected: str, tmp_path: Path, name: str
    ) -> None:
        for row in self.rows(2):
            run(operator(f"file://{tmp_path}/{name}", take=row.map_index + 1), row)
        assert len(list(tmp_path.glob("*.mp4"))) == 2

    def test_whose_last_frames_meet_cost_one_video(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        first, second = self.rows(2)
        paths = f"file://{tmp_path}/{{map_index}}.mp4", f"file://{tmp_path}/{{slug}}.png"
        run(operator(paths[0], last_frame_to=paths[1]), first)
        with pytest.raises(KlingValidationError, match=r"Row 1 would be stored as .*png"):
            run(operator(paths[0], last_frame_to=paths[1], take=2), second)
        assert len(sandbox.ledger()) == 1

    def test_that_claim_it_at_the_same_moment_leave_it_to_one(self, connected: str, tmp_path: Path) -> None:
        first, second = self.rows(2)
        task, path = operator(f"file://{tmp_path}/{{slug}}.mp4"), f"file://{tmp_path}/x.mp4"
        # Both have written their claim before either reads.
        task._claim_path(context(second), "{slug}", path)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(task._claim_path, context(first), "{slug}", path)
            with pytest.raises(KlingValidationError):
                task._claim_path(context(second), "{slug}", path)
            waiting.result(timeout=10)

    @pytest.mark.parametrize("given", [{"save_to": "/v/clip.mp4"}, {"save_to": "/v/{model}.{ext}"}])
    def test_of_one_file_are_refused_when_the_dag_is_parsed(self, given: dict[str, Any]) -> None:
        with pytest.raises(KlingValidationError, match="is one file for all rows"):
            KlingGenerateOperator.partial(task_id="video", model=GOOD["model"], **given).expand(prompt=["a", "b"])
        with pytest.raises(KlingValidationError, match="is one file for all rows"):
            KlingGenerateOperator.partial(task_id="video", model=GOOD["model"], **given).expand_kwargs(
                [{"prompt": "a"}]
            )
        with pytest.raises(KlingValidationError, match="is one file for all rows"):
            KlingToObjectStorageOperator.partial(task_id="store", path=given["save_to"]).expand(video=["t1", "t2"])

    @pytest.mark.parametrize(
        "save_to", ["/v/", "/v/{slug}.mp4", "/v/{map_index}", "/v/{kling_task_id}.mp4", "{{ params.x }}"]
    )
    def test_of_many_files_are_not(self, save_to: str) -> None:
        with DAG("rows", schedule=None):
            KlingGenerateOperator.partial(task_id="a", model=GOOD["model"], save_to=save_to).expand(prompt=["a"])
            KlingGenerateOperator.partial(task_id="b", **GOOD).expand(save_to=["/v/1.mp4", "/v/2.mp4"])
            KlingToObjectStorageOperator.partial(task_id="c", path=save_to).expand(video=["t1"])


class TestLabels:
    def mapped(self, **arguments: Any) -> Any:
        with DAG("labels", schedule=None) as dag:
            KlingGenerateOperator.partial(task_id="generate", model=GOOD["model"], **arguments).expand(
                prompt=["a", "b"]
            )
            KlingTaskSensor.partial(task_id="wait").expand(kling_task_id=["t1"])
            KlingToObjectStorageOperator.partial(task_id="store", path="/v/").expand(video=["t1"])
        return dag

    def test_are_the_first_words_of_a_mapped_prompt(self) -> None:
        dag = self.mapped()
        for task_id in ("generate", "wait", "store"):
            template = dag.get_task(task_id).partial_kwargs["map_index_template"]
            assert "task.map_label" in template
        label = operator(None, prompt="word " * 30).map_label
        assert label.startswith("word word")
        assert len(label) <= 41
        assert KlingTaskSensor(task_id="wait", kling_task_id="t1").map_label == "t1"
        video = {"kling_task_id": "t1", "video_url": "https://h/x", "request": {"prompt": "A boat"}}
        assert KlingToObjectStorageOperator(task_id="s", path="/v/", video=video).map_label == "A boat"

    def test_of_the_user_are_kept(self) -> None:
        dag = self.mapped(map_index_template="{{ ti.map_index + 1 }}")
        assert dag.get_task("generate").partial_kwargs["map_index_template"] == "{{ ti.map_index + 1 }}"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"save_to": "/v/x.mp4", "wait_for_completion": False}, "wait_for_completion=False: contradicts save_to"),
        ({"save_to": "/v/{nr}.mp4"}, "{nr}"),
        ({"save_to": "/v/{{ slug }}.mp4"}, "write {slug}"),
        ({"save_to": "/v/x.mp4", "tags": "team"}, "tags='team': must be a dict"),
        ({"save_to": None, "sidecar": True}, "sidecar=True: needs save_to"),
        ({"save_to": None, "last_frame_to": "/v/x.png"}, "needs save_to"),
        ({"save_to": "/v/x.mp4", "last_frame_to": "/v/{frame}.png"}, "{frame}"),
    ],
    ids=str,
)
def test_what_a_dag_file_is_refused_for(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(KlingValidationError) as caught:
        operator(**wrong)
    assert words in str(caught.value)


@pytest.mark.parametrize("wrong", [{"max_bytes": 0}, {"max_bytes": True}, {"save_timeout": 0}])
def test_a_wrong_limit_is_refused_when_the_dag_is_parsed(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        operator("/v/x.mp4", **wrong)
