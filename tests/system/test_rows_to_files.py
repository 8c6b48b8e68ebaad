# SPDX-License-Identifier: Apache-2.0
"""
From rows to files on a real Airflow with a real S3 server: frames in, files out, and what others learn of it.

Three DAGs run at once: one of the operator, one whose prompts may not be written down, and one of the decorator.
Each has rows that fail.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests

from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.fixtures.frames import image
from tests.system.airflow_cluster import AirflowCluster
from tests.system.bucket import Bucket
from tests.system.conftest import CHECKOUT
from tests.system.database import all_rows
from tests.system.metrics import Metrics
from tests.system.play import Play
from tests.system.scene import set_connection
from tests.system.video import look_into

PRICES = {"currency": "USD", "kling-v3-std-silent": 0.084}
STORED, REFUSED, CUT, FAILS, EXPENSIVE = range(5)
ROWS: list[dict[str, Any]] = [
    {"prompt": "A lighthouse in a storm.", "duration": 3},
    {"prompt": "What the vendor refuses.", "duration": 3},
    {"prompt": "A fox crosses a frozen lake, slowly and without a sound.", "duration": 3},
    {"prompt": "A market that is never finished.", "duration": 3},
    {"prompt": "A market at noon, for too much money.", "duration": 5},
]
#: The second one is refused, in words that quote it.
HIDDEN: list[dict[str, Any]] = [
    {"prompt": "Ms Okonkwo waves from her garden.", "duration": 3},
    {"prompt": "Mr Lindqvist sits in his kitchen.", "duration": 3},
]
#: The first download of the first one fails, and the response to the submit of the third one is lost. The second
#: and the last one would be one file.
SUBJECTS = ["a glass kite", "a tram", "an owl that nobody heard of again", "a tram"]
LOST = 2


@dataclass
class Sightings:
    """Three runs, and what was seen of them."""

    rows: Play
    hidden: Play
    decorated: Play
    server: Sandbox
    bucket: Bucket
    reasons: Path
    folder: Path
    while_waiting: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    database: list[bytes] = field(default_factory=list)
    metrics: dict[str, Counter[str]] = field(default_factory=dict)
    requested: dict[int, list[str | None]] = field(default_factory=dict)

    def plays(self) -> list[Play]:
        return [self.rows, self.hidden, self.decorated]

    def states(self) -> list[list[str | None]]:
        """Return the states of all rows; of the two that want one file, in alphabetical order."""
        *others, decorated = [play.states("generate") for play in self.plays()]
        if len(decorated) == len(SUBJECTS):
            decorated[1], decorated[3] = sorted((decorated[1], decorated[3]), key=str)
        return [*others, decorated]

    def tasks(self, play: Play) -> list[dict[str, Any]]:
        return play.api.task_instances(play.dag_id, play.run_id, "generate")

    def log(self, play: Play, row: int, attempt: int = 1) -> str:
        return play.api.task_log(play.dag_id, play.run_id, "generate", map_index=row, try_number=attempt)

    def reason(self, play: Play, row: int) -> dict[str, Any]:
        """Return what the callback of a failed row was given."""
        return dict(json.loads((self.reasons / f"{play.dag_id}-{row}.json").read_text()))

    def job(self, row: int) -> dict[str, Any]:
        """Return the ledger's only entry for a row."""
        [entry] = [job for job in self.server.ledger() if job["request"]["prompt"] == ROWS[row]["prompt"]]
        return entry

    def ranges(self, row: int) -> list[str | None]:
        """Return which parts of the file of a row were requested, in order."""
        return [
            seen["headers"].get("Range")
            for seen in self.server.seen()
            if seen["route"] == "content" and self.job(row)["id"] in seen["path"]
        ]

    def file(self, row: int) -> bytes:
        """Return the file of a row as the vendor has it."""
        response = requests.get(f"{self.server.base_url}/files/{self.job(row)['id']}.mp4", timeout=20)
        response.raise_for_status()
        return response.content

    def events(self, play: Play) -> list[dict[str, Any]]:
        """Return the asset events of a run, by row."""
        parameters = {"source_dag_id": play.dag_id, "source_run_id": play.run_id}
        found = play.api.request("GET", "assets/events", params=parameters)["asset_events"]
        return sorted(found, key=lambda event: int(event["source_map_index"]))

    def xcoms(self, play: Play, row: int) -> dict[str, Any]:
        """Return all XComs of a row."""
        path = f"dags/{play.dag_id}/dagRuns/{quote(play.run_id)}/taskInstances/generate/xcomEntries"
        entries = play.api.request("GET", path, params={"map_index": row})["xcom_entries"]
        return {
            entry["key"]: play.api.xcom(play.dag_id, play.run_id, "generate", key=entry["key"], map_index=row)
            for entry in entries
        }

    def shown(self, play: Play) -> dict[str, str]:
        """Return place -> what a user of Airflow, and of the bucket, is shown there of the rows of a run."""
        tasks = self.tasks(play)
        rows = [task["map_index"] for task in tasks]
        files = self.bucket.files(f"{play.dag_id}/", self.folder)
        sidecars = [file.read_text() for name, file in files.items() if name.endswith(".json")]
        return {
            "labels": json.dumps([task["rendered_map_index"] for task in tasks]),
            "rendered templates": json.dumps([task["rendered_fields"] for task in tasks]),
            "XComs": json.dumps([self.xcoms(play, row) for row in rows]),
            "asset events": json.dumps(self.events(play)),
            "logs": "\n".join(self.log(play, row) for row in rows),
            "names of files": json.dumps(list(files)),
            "sidecar files": "\n".join(sidecars),
        }


@pytest.fixture(scope="module")
def sightings(
    cluster: AirflowCluster,
    sandbox: Sandbox,
    bucket: Bucket,
    *,
    metrics: Metrics,
    database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sightings]:
    """Run all three DAGs to their end, stopping to look while the videos are being made."""
    reasons = tmp_path_factory.mktemp("reasons")
    frame = bucket.put("private/first.png", image(size=(640, 360)))
    with Sandbox(api="official", run_seconds=3600) as server:
        connection = json.loads(server.connection_json)
        set_connection(
            cluster.api, "kling_priced", {**connection, "extra": {**connection["extra"], "prices": PRICES}}
        )
        quoting = f"We do not show this: {HIDDEN[1]['prompt']}"
        for fault in (
            Fault("submit", "refuse_content", match=ROWS[REFUSED]["prompt"]),
            Fault("submit", "job_fails", match=ROWS[FAILS]["prompt"], message="out of memory"),
            Fault("content", "truncate", match=ROWS[CUT]["prompt"]),
            Fault("submit", "refuse_content", match=HIDDEN[1]["prompt"], message=quoting),
        ):
            server.add_fault(fault)
        sandbox.add_fault(Fault("submit", "drop_after", match=SUBJECTS[LOST]))
        # Once more, for the URL is requested again, and is the same.
        sandbox.add_fault(Fault("content", "error", status=403, match=f"A slow shot of {SUBJECTS[0]}", times=2))

        def start(dag_id: str, rows: list[Any], kling: Sandbox, **conf: Any) -> Play:
            return Play.start(cluster, kling, dag_id, rows=rows, folder=f"{bucket.url}/{dag_id}/", **conf)

        found = Sightings(
            start("rows_to_files", ROWS, server, frame=frame, reasons=str(reasons)),
            start("hidden_prompts", HIDDEN, server),
            start("rows_to_files_decorated", SUBJECTS, sandbox, reasons=str(reasons)),
            server,
            bucket,
            reasons,
            tmp_path_factory.mktemp("shown"),
        )
        waiting = [
            ["deferred", "failed", "deferred", "deferred", "failed"],
            ["deferred", "failed"],
            ["deferred", "deferred", "failed", "failed"],
        ]
        found.rows.until(lambda: found.states() == waiting, "every video to be waited for", finish_jobs=False)
        found.while_waiting = {play.dag_id: found.tasks(play) for play in found.plays()}
        found.database += all_rows(database)
        for play in found.plays():
            assert play.end() == "failed", play.api.report(play.dag_id, play.run_id)
        found.database += all_rows(database)
        found.metrics = counts_by_dag(metrics)
        found.requested = {row: found.ranges(row) for row in (STORED, CUT)}
        yield found


def counts_by_dag(metrics: Metrics) -> dict[str, Counter[str]]:
    """Return the DAG's id -> name of a metric of this provider, with the kind of a failure -> its sum."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for datagram in list(metrics.received):
        name, _, value = datagram.decode().partition(":")
        name, _, rest = name.removeprefix("airflow.").partition(",")
        if name.startswith("kling."):
            tags = dict(tag.split("=") for tag in rest.split(","))
            number, kind = value.split("|")[:2]
            key = f"{name} {tags['kind']}" if "kind" in tags else name
            found[tags["dag_id"]][key] += int(number) if kind == "c" else 1
    return found


def test_a_row_that_fails_costs_the_others_nothing(sightings: Sightings) -> None:
    assert sightings.states() == [
        ["success", "failed", "success", "failed", "failed"],
        ["success", "failed"],
        ["success", "failed", "failed", "success"],
    ]
    tries = [[task["try_number"] for task in sightings.tasks(play)] for play in sightings.plays()]
    assert tries == [[1, 1, 1, 1, 1], [1, 1], [2, 1, 1, 1]]
    bought = Counter(job["request"]["prompt"] for job in sightings.server.ledger())
    assert bought == {
        **{ROWS[row]["prompt"]: 1 for row in (STORED, CUT, FAILS)},
        HIDDEN[0]["prompt"]: 1,
    }


@pytest.mark.parametrize("row", [STORED, CUT])
def test_the_result_has_all_facts_of_the_file(sightings: Sightings, row: int, tmp_path: Path) -> None:
    result = sightings.rows.result("generate", row)
    slug = {STORED: "a-lighthouse-in-a-storm", CUT: "a-fox-crosses-a-frozen-lake-slowly-and-without-a-sound"}[row]
    files = sightings.bucket.files("rows_to_files/", tmp_path)
    content = files[f"{slug}-{row}.mp4"].read_bytes()
    seen = look_into(files[f"{slug}-{row}.mp4"])
    sent = sightings.job(row)["request"]
    del sent["external_task_id"]
    assert content == sightings.file(row)
    assert sightings.bucket.head(f"rows_to_files/{slug}-{row}.mp4")["ContentType"] == "video/mp4"
    expected = {
        "path": f"{sightings.bucket.url}/rows_to_files/{slug}-{row}.mp4",
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "seconds": 3.0,
        "width": seen.width,
        "height": seen.height,
        "fps": 24.0,
        "video_codec": seen.codec,
        "has_audio": False,
        "audio_codec": None,
        "estimated_cost": 0.252,
        "currency": "USD",
        "tags": {"team": "ads", "run": sightings.rows.run_id},
        "kling_task_id": sightings.job(row)["id"],
        "request": {**sent, "image": f"{sightings.bucket.url}/private/first.png"},
    }
    assert {name: result[name] for name in expected} == expected
    assert result["billed"]
    beside = json.loads(files[f"{slug}-{row}.json"].read_text())
    assert beside == result


def test_a_private_frame_is_signed_for_the_vendor_alone(sightings: Sightings, cluster: AirflowCluster) -> None:
    url = sightings.job(STORED)["request"]["image"]
    assert sightings.bucket.fetched(url) == image(size=(640, 360))
    [signature] = parse_qs(urlsplit(url).query)["X-Amz-Signature"]
    shown = sightings.shown(sightings.rows)
    assert f"{sightings.bucket.url}/private/first.png" in shown["rendered templates"]
    assert {place for place, text in shown.items() if signature in text} == set()
    assert tables_with(signature, sightings.database) == set()
    assert logs_with(signature, cluster) == set()


def tables_with(text: str, rows: list[bytes]) -> set[str]:
    """Return the tables that have a text, in whatever case; of the XComs, those of the tasks that make videos."""
    found = [row for row in rows if text.lower().encode() in row.lower()]
    return {
        row.split(b"\t")[0].decode() for row in found if not (row.startswith(b"xcom\t") and b"\trows\t" in row)
    }


def logs_with(text: str, cluster: AirflowCluster) -> set[Path]:
    """Return the log files of all components and tasks that have a text, in whatever case."""
    files = [path for path in (cluster.home / "logs").rglob("*.log") if path.is_file()]
    assert any("task_id=generate" in str(path) for path in files)
    return {path for path in files if text.lower() in path.read_text(errors="replace").lower()}


def test_what_is_too_expensive_is_not_bought(sightings: Sightings) -> None:
    log = sightings.log(sightings.rows, STORED)
    assert log.index("Estimated cost: 0.252 USD") < log.index("is this task's job")
    log = sightings.log(sightings.rows, EXPENSIVE)
    assert "Estimated cost: 0.42 USD" in log
    assert "The video is estimated to cost 0.42 USD, more than max_cost=0.3" in log
    assert sightings.server.requests["submit"] == len([*ROWS, *HIDDEN]) - 1


def test_a_callback_gets_the_named_error_and_what_resolves_it(sightings: Sightings) -> None:
    reasons = {row: sightings.reason(sightings.rows, row) for row in (REFUSED, FAILS, EXPENSIVE)}
    found = {row: (reason["class"], reason["kind"], reason["kling_task_id"]) for row, reason in reasons.items()}
    assert found == {
        REFUSED: ("KlingContentRefusedError", "content_refused", None),
        FAILS: ("KlingGenerationFailedError", "generation_failed", sightings.job(FAILS)["id"]),
        EXPENSIVE: ("KlingValidationError", "validation", None),
    }
    assert "Change the prompt or the image" in reasons[REFUSED]["advice"]
    assert "The vendor decides whether it is billed" in reasons[FAILS]["advice"]
    assert "out of memory" in reasons[FAILS]["text"]
    assert "Raise max_cost" in reasons[EXPENSIVE]["advice"]
    lost = sightings.reason(sightings.decorated, LOST)
    assert (lost["class"], lost["kind"]) == ("KlingUncertainSubmissionError", "uncertain")
    assert sightings.xcoms(sightings.decorated, LOST)["kling_uncertain"]["name"] in lost["advice"]
    # Only those who failed, each in the process of its task.
    assert len(list(sightings.reasons.iterdir())) == 5
    pids = {task["map_index"]: task["pid"] for task in sightings.tasks(sightings.rows)}
    assert {row: reason["pid"] for row, reason in reasons.items()} == {row: pids[row] for row in reasons}


def test_a_row_is_called_by_its_prompt_as_long_as_it_is_shown(sightings: Sightings) -> None:
    labels = [
        "A lighthouse in a storm.",
        "What the vendor refuses.",
        "A fox crosses a frozen lake, slowly and…",
        "A market that is never finished.",
        "A market at noon, for too much money.",
    ]
    for tasks in (sightings.while_waiting[sightings.rows.dag_id], sightings.tasks(sightings.rows)):
        assert [task["rendered_map_index"] for task in tasks] == labels


def test_each_stored_video_is_an_asset_event(sightings: Sightings) -> None:
    events = sightings.events(sightings.rows)
    assert [event["source_map_index"] for event in events] == [STORED, CUT]
    for event in events:
        result = sightings.rows.result("generate", event["source_map_index"])
        names = ("path", "sha256", "seconds", "kling_task_id", "tags", "estimated_cost", "currency", "billed")
        assert event["extra"] == {
            **{name: result[name] for name in names},
            "model": "kling-v3-std-silent",
            "prompt": ROWS[event["source_map_index"]]["prompt"],
        }


def test_the_metrics_are_those_of_the_page(sightings: Sightings, metrics: Metrics) -> None:
    page = (CHECKOUT / "docs" / "events-and-metrics.md").read_text()
    counts = {play.dag_id: sightings.metrics[play.dag_id] for play in sightings.plays()}
    names = {name.split()[0] for count in counts.values() for name in count}
    assert names == set(re.findall(r"^\| `(kling\.\w+)`", page, re.MULTILINE))
    assert counts["rows_to_files"].pop("kling.requests") >= len(ROWS) - 1
    assert counts["rows_to_files"] == {
        "kling.submitted": 3,
        "kling.finished": 2,
        "kling.wait": 2,
        "kling.failed content_refused": 1,
        "kling.failed generation_failed": 1,
        "kling.failed validation": 1,
        "kling.bytes_stored": len(sightings.file(STORED)) + len(sightings.file(CUT)),
        "kling.seconds_of_video": 6,
    }
    lost = counts["rows_to_files_decorated"]
    assert (lost["kling.submitted"], lost["kling.uncertain"], lost["kling.failed uncertain"]) == (2, 1, 1)
    tags = "model=kling-v3-std-silent,conn_id=kling_priced,dag_id=rows_to_files,task_id=generate,team=ads"
    assert any(f"kling.bytes_stored,{tags}".encode() in datagram for datagram in metrics.received)


def test_a_download_that_was_cut_is_continued(sightings: Sightings) -> None:
    assert sightings.requested[STORED] == [None]
    [whole, rest] = sightings.requested[CUT]
    assert whole is None
    match = re.fullmatch(r"bytes=(\d+)-", rest or "")
    assert match
    assert 0 < int(match[1]) <= len(sightings.file(CUT)) / 2


def test_hidden_prompts_are_shown_nowhere(sightings: Sightings, cluster: AirflowCluster) -> None:
    play = sightings.hidden
    hashes = [hashlib.sha256(row["prompt"].encode()).hexdigest()[:8] for row in HIDDEN]
    shown = sightings.shown(play)
    for name in ("Okonkwo", "Lindqvist"):
        assert {place for place, text in shown.items() if name.lower() in text.lower()} == set()
        # What the run was given is Airflow's own to show.
        assert tables_with(name, sightings.database) <= {"dag_run", "log"}
        assert logs_with(name, cluster) == set()
    assert json.loads(shown["labels"]) == [f"prompt {digits}" for digits in hashes]
    waiting = [task["rendered_map_index"] for task in sightings.while_waiting[play.dag_id]]
    assert waiting == json.loads(shown["labels"])
    assert json.loads(shown["names of files"]) == [f"{hashes[0]}-0.json", f"{hashes[0]}-0.mp4"]
    assert play.result("generate", 0)["request"]["prompt"] == hashes[0]
    assert [event["extra"]["prompt"] for event in sightings.events(play)] == [hashes[0]]
    assert f"We do not show this: {hashes[1]}" in shown["logs"]
    # The same search finds what is not hidden.
    places = {place for place, text in sightings.shown(sightings.rows).items() if "lighthouse" in text}
    assert places >= {"labels", "rendered templates", "XComs", "asset events", "names of files", "sidecar files"}
    assert tables_with("lighthouse", sightings.database) >= {
        "rendered_task_instance_fields",
        "xcom",
        "asset_event",
    }


def test_a_function_makes_the_rows_of_the_decorator(sightings: Sightings, tmp_path: Path) -> None:
    play = sightings.decorated
    files = sightings.bucket.files(f"{play.dag_id}/", tmp_path)
    assert sorted(files) == ["a-slow-shot-of-a-glass-kite.mp4", "a-slow-shot-of-a-tram.mp4"]
    stored = [row for row, state in enumerate(play.states("generate")) if state == "success"]
    for row, name in zip(stored, sorted(files), strict=True):
        result = play.result("generate", row)
        assert result["request"]["prompt"] == f"A slow shot of {SUBJECTS[row]}"
        assert result["path"] == f"{sightings.bucket.url}/{play.dag_id}/{name}"
        assert look_into(files[name]).seconds == pytest.approx(3, abs=0.1)


def test_a_retry_after_a_failed_download_only_downloads(sightings: Sightings) -> None:
    log = sightings.log(sightings.decorated, 0)
    assert "error The video is finished and paid for." in log
    assert "error It is not stored." in log
    assert "KlingDownloadError" in log
    assert bought_for(sightings, SUBJECTS[0]) == 1


def test_two_rows_that_meet_at_one_path_get_one_video(sightings: Sightings) -> None:
    play = sightings.decorated
    states = play.states("generate")
    [failed] = [row for row in (1, 3) if states[row] == "failed"]
    [stored] = [row for row in (1, 3) if states[row] == "success"]
    reason = sightings.reason(play, failed)
    path = play.result("generate", stored)["path"].replace("store@", "")
    assert f"Row {failed} would be stored as" in reason["text"]
    assert f"{path}, which is the file of row {stored}" in reason["text"].replace("store@", "")
    assert "Write {map_index} or {kling_task_id} into the path" in reason["advice"]
    assert bought_for(sightings, SUBJECTS[stored]) == 1


def bought_for(sightings: Sightings, subject: str) -> int:
    """Return how many jobs were accepted for a subject."""
    prompts = [job["request"].get("prompt") for job in sightings.decorated.server.ledger()]
    return prompts.count(f"A slow shot of {subject}")


def test_a_file_that_is_there_is_not_fetched_again(sightings: Sightings) -> None:
    play, before = sightings.rows, sightings.rows.result("generate", STORED)
    key = before["path"].removeprefix(f"{sightings.bucket.url}/")
    object_before, requested_before = sightings.bucket.head(key), len(sightings.ranges(STORED))
    bought = len(sightings.server.ledger())
    play.api.clear_task(play.dag_id, play.run_id, "generate", map_indexes=[STORED])
    play.until(lambda: sightings.tasks(play)[STORED]["try_number"] == 2, "the row to be tried again")
    assert play.end() == "failed"
    assert play.states("generate") == ["success", "failed", "success", "failed", "failed"]
    assert "is this video already; it is not downloaded again" in sightings.log(play, STORED, attempt=2)
    # Only the beginning is requested, which is compared.
    assert sightings.ranges(STORED)[requested_before:] == ["bytes=0-65535"]
    assert sightings.bucket.head(key)["LastModified"] == object_before["LastModified"]
    assert len(sightings.server.ledger()) == bought
    assert play.result("generate", STORED) == before
