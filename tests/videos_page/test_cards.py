# SPDX-License-Identifier: Apache-2.0
"""What the page shows of a video, decided without Airflow."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.videos_page.cards import (
    KEYS,
    MAX_PROMPT,
    MAX_TEXT,
    MAX_URL,
    Amount,
    Card,
    Failure,
    Group,
    Status,
    StoredCopy,
    TaskRow,
    Uncertain,
    cards_of,
    matching,
    totals_of,
)

NOW = 1_800_000_000.0
ID = "task_697a1f"
REQUEST = {"model": "kling-v3-std-audio", "prompt": "A traveler", "duration": 5, "aspect_ratio": "16:9"}
SUBMITTED = {
    "kling_task_id": ID,
    "kling_submitted_at": NOW - 100,
    "kling_estimated_cost": {"amount": 0.42, "currency": "USD"},
    "kling_request": REQUEST,
}
URL = "https://cdn.example.com/a.mp4"
RESULT = {
    "kling_task_id": ID,
    "video_url": URL,
    "path": "s3://videos/a.mp4",
    "seconds": 5.04,
    "width": 1080,
    "height": 1920,
    "has_audio": False,
    "completed_at": "2027-01-15T07:59:50+00:00",
    "request": REQUEST,
}
INTENT = {
    "name": "kling_adopt_0123456789ab",
    "sent_at": "2027-01-15T07:55:00+00:00",
    "conn_id": "kling_default",
    "model": "kling-v3",
    "seconds": 5,
    "prompt": "A",
}


def row(
    xcoms: dict[str, Any] | None = None,
    state: str | None = "success",
    *,
    task_id: str = "generate",
    operator: str = "KlingGenerateOperator",
    map_index: int = -1,
) -> TaskRow:
    return TaskRow("reel", "manual", task_id, map_index, state, operator, xcoms=xcoms or {})


def card(*rows: TaskRow) -> Card:
    [found] = cards_of(rows, NOW)
    return found


def progress(phase: str, **more: Any) -> dict[str, Any]:
    return {"phase": phase, "percent": None, "submitted_at": NOW - 100, "seen_at": NOW - 2, **more}


@pytest.mark.parametrize(
    ("state", "xcoms", "status"),
    [
        (None, {}, Status.NOT_STARTED),
        ("scheduled", {}, Status.NOT_STARTED),
        ("queued", {}, Status.NOT_STARTED),
        ("running", {}, Status.STARTING),
        ("deferred", {"kling_progress": progress("waiting_for_slot")}, Status.WAITING_FOR_SLOT),
        # A task that waited for a slot is resumed on a worker.
        ("queued", {"kling_progress": progress("waiting_for_slot")}, Status.WAITING_FOR_SLOT),
        # The job is submitted since, and the triggerer has not reported yet.
        ("deferred", {**SUBMITTED, "kling_progress": progress("waiting_for_slot")}, Status.IN_PROGRESS),
        ("deferred", SUBMITTED, Status.IN_PROGRESS),
        ("deferred", {**SUBMITTED, "kling_progress": progress("queued")}, Status.QUEUED),
        ("deferred", {**SUBMITTED, "kling_progress": progress("in_progress", percent=23)}, Status.IN_PROGRESS),
        ("deferred", {**SUBMITTED, "kling_progress": progress("dancing")}, Status.IN_PROGRESS),
        ("running", {**SUBMITTED, "video_url": URL}, Status.STORING),
        ("success", {**SUBMITTED, "video_url": URL}, Status.MADE),
        ("success", {**SUBMITTED, "return_value": RESULT}, Status.MADE),
        ("success", {**SUBMITTED, "return_value": ID}, Status.SUBMITTED),
        ("success", {}, Status.SKIPPED),
        ("failed", SUBMITTED, Status.FAILED),
        ("upstream_failed", {}, Status.FAILED),
        ("up_for_retry", SUBMITTED, Status.RETRYING),
        ("failed", {"kling_uncertain": INTENT}, Status.UNCERTAIN),
        ("up_for_retry", {"kling_uncertain": INTENT}, Status.UNCERTAIN),
        # The next attempt goes on: there is nothing to decide now.
        ("running", {"kling_uncertain": INTENT}, Status.STARTING),
        ("failed", {"kling_uncertain": {**INTENT, "name": "another_variable"}}, Status.FAILED),
        ("skipped", {}, Status.SKIPPED),
        ("a state of a later Airflow", {}, Status.NOT_STARTED),
    ],
)
def test_the_status_follows_from_the_state_and_the_xcoms(
    state: str | None, xcoms: dict[str, Any], status: Status
) -> None:
    assert card(row(xcoms, state)).status is status


def test_a_finished_video_shows_what_its_file_says() -> None:
    times = progress("in_progress", making_since=NOW - 70, seen_at=NOW - 20)
    found = card(row({**SUBMITTED, "kling_progress": times, "return_value": RESULT, "video_url": URL}))
    assert (found.prompt, found.model, found.kling_task_id) == ("A traveler", "kling-v3-std-audio", ID)
    assert (found.seconds, found.sound, found.ratio) == (5.04, False, "16:9")
    assert found.stored == StoredCopy("s3://videos/a.mp4", "generate", -1)
    assert found.cost == (Amount(0.42, "USD"),)
    assert found.is_estimate
    assert (found.queue_seconds, found.making_seconds) == (30.0, 60.0)
    assert (found.video_url, found.has_expired, found.percent) == (URL, False, None)
    assert not found.is_unfinished


def test_the_times_of_a_video_in_the_making_go_on() -> None:
    waiting = card(row({**SUBMITTED, "kling_progress": progress("queued")}, "deferred"))
    assert (waiting.queue_seconds, waiting.making_seconds) == (100.0, None)
    made = progress("in_progress", percent=23, making_since=NOW - 70)
    making = card(row({**SUBMITTED, "kling_progress": made}, "deferred"))
    assert (making.queue_seconds, making.making_seconds, making.percent) == (30.0, 70.0, 23)
    assert waiting.is_unfinished
    assert making.is_unfinished


def test_the_model_that_was_asked_for_is_shown_where_the_request_does_not_name_it() -> None:
    found = card(row({**SUBMITTED, "kling_model": "kling-v3", "kling_request": {"prompt": "A", "settings": {}}}))
    assert found.model == "kling-v3"


def test_what_was_billed_counts_before_the_estimate() -> None:
    found = card(row({**SUBMITTED, "return_value": {**RESULT, "billed": {"units": 3.0}}}))
    assert (found.cost, found.is_estimate) == ((Amount(3.0, "units"),), False)


@pytest.mark.parametrize(
    "request_",
    [
        {"model_name": "kling-v2-6", "prompt": "A fox", "duration": "10", "sound": "on", "aspect_ratio": "1:1"},
        {
            "model": "kling-v2-6",
            "contents": [{"type": "prompt", "text": "A fox"}, {"type": "first_frame", "url": "s3://a/b.png"}],
            "settings": {"duration": 10, "audio": "native", "aspect_ratio": "1:1"},
        },
        {
            "model": "kling-v2-6",
            "duration": 10,
            "aspect_ratio": "1:1",
            "extra_body": {"prompt": "A fox"},
            "sound": 1,
        },
    ],
)
def test_the_request_of_every_api_is_understood(request_: dict[str, Any]) -> None:
    found = card(row({**SUBMITTED, "kling_request": request_}))
    assert (found.prompt, found.model, found.seconds, found.ratio) == ("A fox", "kling-v2-6", 10, "1:1")
    assert found.sound is (None if request_.get("sound") == 1 else True)


def test_the_tasks_of_one_video_share_a_card() -> None:
    rows = [
        row({"return_value": RESULT, "video_url": URL}, task_id="await", operator="KlingTaskSensor", map_index=1),
        row({**SUBMITTED, "return_value": ID}, map_index=1),
        row({**SUBMITTED, "kling_task_id": "task_2", "return_value": "task_2"}, map_index=2),
        row({"return_value": RESULT}, task_id="store", operator="KlingToObjectStorageOperator", map_index=1),
        row(task_id="store", operator="KlingToObjectStorageOperator", map_index=2, state=None),
    ]
    first, second = cards_of(rows, NOW)
    assert (first.task_id, first.map_index, first.status) == ("generate", 1, Status.MADE)
    assert first.tasks == (("await", "success"), ("store", "success"))
    assert first.stored == StoredCopy("s3://videos/a.mp4", "store", 1)
    assert (second.kling_task_id, second.status, second.tasks) == ("task_2", Status.SUBMITTED, ())


def test_a_sensor_that_waits_shows_the_progress_of_the_video() -> None:
    seen = {"kling_task_id": ID, "kling_progress": progress("in_progress", percent=50)}
    found = card(
        row({**SUBMITTED, "return_value": ID}),
        row(seen, "deferred", task_id="await", operator="KlingTaskSensor"),
    )
    assert (found.status, found.percent, found.task_id) == (Status.IN_PROGRESS, 50, "generate")


def test_a_running_transfer_stores_the_video() -> None:
    found = card(
        row({**SUBMITTED, "return_value": {**RESULT, "path": None}}),
        row({"kling_task_id": ID}, "running", task_id="store", operator="KlingToObjectStorageOperator"),
    )
    assert (found.status, found.video_url) == (Status.STORING, URL)


def test_equal_ids_in_two_runs_are_two_cards() -> None:
    other = TaskRow("reel", "second", "generate", -1, "success", "KlingGenerateOperator", xcoms=SUBMITTED)
    assert len(cards_of([row(SUBMITTED), other], NOW)) == 2


def test_a_failed_transfer_keeps_the_player_and_says_why() -> None:
    error = {"happened": "The bucket is gone.", "server_says": None, "advice": "Make it.", "kling_task_id": ID}
    found = card(
        row({**SUBMITTED, "return_value": {**RESULT, "path": None}}),
        row({"kling_error": error}, "failed", task_id="store", operator="KlingToObjectStorageOperator"),
    )
    assert (found.status, found.video_url) == (Status.FAILED, URL)
    assert found.failure == Failure("store", "The bucket is gone.", None, "Make it.")


def test_a_failure_without_a_report_says_where_to_look() -> None:
    [failure] = [card(row({}, "failed")).failure]
    assert failure
    assert "log" in str(failure.advice)


def test_an_uncertain_submit_names_its_task() -> None:
    found = card(row({"kling_uncertain": INTENT}, "failed", map_index=3))
    assert found.uncertain == Uncertain("generate", 3, "kling_adopt_0123456789ab", NOW - 300, "kling_default")
    assert (found.prompt, found.model, found.seconds) == ("A", "kling-v3", 5)


def test_tasks_of_others_have_no_card() -> None:
    assert cards_of([row({"return_value": {"a": 1}}, operator="PythonOperator")], NOW) == []


def test_cards_keep_the_order_of_the_rows() -> None:
    rows = [row({"kling_task_id": f"task_{index}"}, map_index=index) for index in range(300)]
    assert [found.map_index for found in cards_of(rows, NOW)] == list(range(300))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:video/mp4;base64,AAAA",
        "file:///etc/passwd",
        "//cdn.example.com/a.mp4",
        "https://user:password@cdn.example.com/a.mp4",
        "https://",
        "https://a b/c",
        "https://cdn.example.com/\n",
        "https:\\\\cdn.example.com/a",
        "https://[/a",
        "https://cdn.example.com/" + "a" * MAX_URL,
        7,
        ["https://cdn.example.com/a.mp4"],
    ],
)
def test_only_a_web_address_is_played(url: Any) -> None:
    assert card(row({**SUBMITTED, "video_url": url})).video_url is None


def test_a_link_that_has_expired_is_known() -> None:
    url = f"{URL}?X-Amz-Signature=abcdefghijklmnopqr&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60"
    assert card(row({**SUBMITTED, "video_url": url})).has_expired


def test_no_text_has_a_signature() -> None:
    secret = "abcdefghijklmnopqrstuvwxyz"
    text = f"see https://cdn.example.com/a.mp4?X-Amz-Signature={secret} "
    error = {"happened": text, "server_says": text, "advice": text}
    request = {**REQUEST, "prompt": text, "model": text}
    result = {**RESULT, "path": text}
    found = card(
        row({**SUBMITTED, "kling_error": error, "kling_request": request, "return_value": result}, "failed")
    )
    assert found.failure
    assert found.prompt
    assert secret not in repr(found)


def test_texts_are_cut_and_have_no_hidden_characters() -> None:
    error = {"happened": "x" * 10 * MAX_TEXT, "advice": "a\x00b\u202ec\ud800d\u2066e"}
    request = {"prompt": "first line\nsecond line" + "y" * 10 * MAX_PROMPT}
    found = card(row({"kling_error": error, "kling_request": request}, "failed"))
    assert found.failure
    assert len(found.failure.happened) == MAX_TEXT
    assert found.failure.advice == "abcde"
    assert found.prompt
    assert len(found.prompt) == MAX_PROMPT
    assert found.prompt.startswith("first line\nsecond line")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
names_of_fields = st.sampled_from(
    [*RESULT, *REQUEST, *INTENT, "amount", "currency", "phase", "percent", "making_since", "seen_at", "billed",
     "happened", "server_says", "advice", "text", "type"]
)  # fmt: skip
hostile = json_values | st.dictionaries(names_of_fields, json_values | st.just(URL) | st.just(ID), max_size=8)
states = st.sampled_from(
    [None, "success", "failed", "running", "deferred", "queued", "up_for_retry", "skipped", "upstream_failed"]
)
rows_of_anybody = st.builds(
    row,
    st.dictionaries(st.sampled_from(KEYS), hostile, max_size=len(KEYS)),
    states,
    operator=st.sampled_from(["KlingGenerateOperator", "KlingTaskSensor", "PythonOperator"]),
    map_index=st.integers(-1, 3),
)


@given(st.lists(rows_of_anybody, max_size=5))
def test_nothing_that_an_author_writes_breaks_a_page(rows: list[TaskRow]) -> None:
    cards = cards_of(rows, NOW)
    totals = totals_of(cards)
    assert totals.videos == len(cards) <= len(rows)
    for found in cards:
        for number in (found.seconds, found.queue_seconds, found.making_seconds, found.percent):
            assert number is None or (math.isfinite(number) and number >= 0)
        assert all(isinstance(amount.unit, str) and 0 <= amount.value <= 1e9 for amount in found.cost)
        assert found.video_url is None or found.video_url.startswith(("http://", "https://"))
        # Encodable, and of plain values: fit for a page.
        json.dumps(asdict(found)).encode()
        assert len(repr(found)) < 100_000


@pytest.mark.parametrize("key", KEYS)
def test_a_value_that_is_deep_or_huge_is_bounded(key: str) -> None:
    deep: Any = {"prompt": "x"}
    for _ in range(5_000):
        deep = {"a": deep}
    huge = {str(index): {"prompt": ["x"] * 100} for index in range(5_000)}
    for value in (deep, huge, "x" * 5_000_000, 10**5_000, [[]] * 10_000):
        [found] = cards_of([row({key: value}, "failed")], NOW)
        assert len(repr(found)) < 20_000


def test_totals_count_what_was_submitted() -> None:
    cards = cards_of(
        [
            row({**SUBMITTED, "kling_task_id": "a", "return_value": {**RESULT, "kling_task_id": "a"}}),
            row({**SUBMITTED, "kling_task_id": "b", "kling_progress": progress("queued")}, "deferred"),
            row({"kling_progress": progress("waiting_for_slot")}, "deferred"),
            # A failure does not prove that it was free.
            row({**SUBMITTED, "kling_task_id": "c"}, "failed"),
            row({"kling_uncertain": INTENT}, "failed"),
            row({}, None),
        ],
        NOW,
    )
    totals = totals_of(cards)
    assert totals.counts == {
        Group.MADE: 1,
        Group.IN_PROGRESS: 1,
        Group.WAITING_FOR_SLOT: 1,
        Group.FAILED: 1,
        Group.UNCERTAIN: 1,
        Group.OTHER: 1,
    }
    assert (totals.seconds, totals.cost) == (5.04, (Amount(1.26, "USD"),))
    assert totals.is_estimate
    assert totals.unknown_cost == 1


def test_a_filter_selects_by_status_model_and_words() -> None:
    fox = {**SUBMITTED, "kling_task_id": "a", "kling_request": {"model": "m1", "prompt": "A red FOX\nruns"}}
    owl = {**SUBMITTED, "kling_task_id": "b", "kling_request": {"model": "m2", "prompt": "An owl"}}
    cards = cards_of([row(fox, "deferred"), row(owl, "failed")], NOW)
    assert matching(cards) == cards
    assert matching(cards, text="runs fox") == cards[:1]
    assert matching(cards, model="m2") == cards[1:]
    assert matching(cards, group="failed") == cards[1:]
    assert matching(cards, group="failed", text="fox") == []
    assert len({found.key for found in cards}) == 1  # by task instance, and both have the same one here


def test_each_group_has_a_status() -> None:
    assert {status.group for status in Status} == set(Group)
    assert all(status.label and status.group.label for status in Status)
