# SPDX-License-Identifier: Apache-2.0
"""Status word and id wherever they stand, whose they are, and what any body costs."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.status_words import status_of
from airflow_provider_kling.api.reading.submit import read_submit
from airflow_provider_kling.api.response import MAX_RESPONSE_BYTES, Response
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
)
from tests.fixtures.cpu import allowed_seconds

URL = "https://cdn.example.com/1.mp4"


def response(body: Any) -> Response:
    return Response(200, body if isinstance(body, bytes) else json.dumps(body).encode())


def read(body: Any, task_id: str = "x") -> VideoJob:
    return read_status(response(body), task_id)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        *[
            (word, "completed")
            for word in ("done", "DONE", "finish", "Finished", "successful", "成功", "生成成功")
        ],
        *[(word, "completed") for word in ("video_succeed", "task-succeeded", "TASK_SUCCESS", "run successful")],
        *[(word, "failed") for word in ("timedout", "timed_out", "Timed Out", "timed-out", "TimedOut", "timeout")],
        *[(word, "failed") for word in ("rejected", "失败", "生成失败", "generation_failed", "Generation Failed")],
        *[(word, "failed") for word in ("expired", "deleted", "DELETED")],
        *[(word, "running") for word in ("in progress", "IN-PROGRESS", "inProgress", "In Progress")],
        *[(word, "queued") for word in ("not start", "NOT-START")],
        *[
            (word, None)
            for word in ("not_succeeded", "未成功", "failsafe", "success_rate", "undone", "", "x_success_y")
        ],
    ],
)
def test_words(word: str, status: str | None) -> None:
    assert status_of(word) == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"id": "x", "state": "processing"}, "running"),
        ({"data": {"state": "processing"}}, "running"),
        ({"data": {"state": "success", "taskId": "x"}}, "completed"),
        ({"output": {"task_status": "RUNNING", "task_id": "x"}, "request_id": "r"}, "running"),
        ({"data": [{"status": "SUCCESS", "task_id": "x"}]}, "completed"),
        ([{"status": "SUCCESS", "task_id": "x"}], "completed"),
        ({"data": {"task": {"id": "x", "status": "done"}}}, "completed"),
        ({"task": {"taskStatus": "failed", "id": "x"}}, "failed"),
        ({"id": "x", "status": {"state": "processing"}}, "running"),
        ({"taskId": "x", "generations": [{"id": "g", "status": "processing"}]}, "running"),
        ({"status": "completed", "data": {"task_id": "x", "video_url": URL}}, "completed"),
        # The innermost object that holds the id decides.
        ({"status": "success", "data": {"taskId": "x", "state": "processing"}}, "running"),
        ({"status": "success", "data": {"data": {"task_id": "x", "status": "queued"}}}, "queued"),
        ({"id": "x", "status": "success", "data": {"id": "x", "status": "running"}}, "running"),
        ({"status": "error", "data": {"task_id": "x", "status": "processing"}}, "running"),
        ({"state": "success", "result": {"jobId": "x", "status": "失败"}}, "failed"),
        ({"status": "ok", "data": {"state": "processing"}}, "running"),
        ({"id": "x", "status": "success", "task_status": "processing"}, "running"),
        ({"status": "success", "data": {"task_id": "upstream", "state": "processing"}}, "running"),
        ({"data": [{"task_id": "a", "status": "FAILED"}, {"task_id": "x", "status": "running"}]}, "running"),
        ({"id": "x", "status": "processing", "input": {"id": "x", "status": "failed"}}, "running"),
        ({"id": "x", "status": "completed", "data": {"id": "file", "status": "uploading"}}, "completed"),
        ({"id": 7, "status": "completed", "task_id": 7}, "completed"),
    ],
    ids=lambda value: json.dumps(value)[:70],
)
def test_whose_word_decides(body: Any, status: str) -> None:
    task_id = "7" if isinstance(body, dict) and body.get("id") == 7 else "x"
    job = read(body, task_id)
    assert (job.status, job.kling_task_id) == (status, task_id)


@pytest.mark.parametrize(
    "body",
    [
        {"request_id": "r"},
        {"error": {"status": "NOT_FOUND", "details": "?"}},
        {"data": [{"task_id": "a", "status": 5}]},
        {"input": {"status": "completed"}},
        {"status": 200},
        [],
        "completed",
        None,
    ],
    ids=str,
)
def test_no_status_is_an_error_that_waiting_may_cure(body: Any) -> None:
    with pytest.raises(KlingServerError):
        read(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"status": "error", "message": "Too many requests, please try again later"}, KlingRateLimitError),
        ({"status": "fail", "msg": "请求过于频繁，请稍后再试"}, KlingRateLimitError),
        ({"status": "failed", "error": {"message": "Rate limit reached"}, "request_id": "r"}, KlingRateLimitError),
        ({"code": 429, "msg": "slow down"}, KlingRateLimitError),
        ({"status": "error", "code": 429, "message": "slow down"}, KlingRateLimitError),
        ({"status": "error", "code": "1303", "message": "no"}, KlingRateLimitError),
        ({"status": "error", "message": "task not found"}, KlingNotFoundError),
        ({"status": "error", "message": "任务不存在"}, KlingNotFoundError),
        ({"status": "error", "message": "Invalid token"}, KlingAuthenticationError),
        ({"status": "error", "message": "insufficient quota"}, KlingBalanceError),
        ({"status": "error", "message": "Internal server error"}, KlingServerError),
        ({"status": "error", "message": "系统繁忙，请稍后再试"}, KlingServerError),
        ({"state": "error", "code": 500, "message": "no"}, KlingServerError),
        ({"id": "req-1", "status": "error", "message": "Too many requests"}, KlingRateLimitError),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_error_of_the_request_is_none_of_the_job(body: Any, kind: type[KlingError]) -> None:
    with pytest.raises(kind) as caught:
        read(body)
    assert type(caught.value) is kind
    assert caught.value.kling_task_id == "x"


@pytest.mark.parametrize(
    "body",
    [
        {"id": "x", "status": "failed", "message": "Too many requests, please try again later"},
        {"data": {"task_id": "x", "status": "failed", "fail_reason": "rate limit of the upstream"}},
        {"status": "Failed", "reason": "out of memory", "results": {}},
        {"state": "failed", "err_code": "CreditInsufficient"},
        {"id": "x", "status": "failed", "reason": "internal error"},
        {"status": "error", "message": "the model broke"},
        {"status": "error", "message": "the prompt is sensitive; try again later"},
        {"status": "error"},
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_failed_job_stays_one(body: Any) -> None:
    assert read(body).status == "failed"


@pytest.mark.parametrize(
    ("body", "task_id", "other"),
    [
        ({"taskId": "x"}, "x", None),
        ({"output": {"task_id": "x", "task_status": "PENDING"}, "request_id": "r"}, "x", None),
        ({"code": 200, "data": {"taskId": "x"}}, "x", None),
        ({"data": [{"task_id": "x", "status": "submitted"}]}, "x", None),
        ({"task": {"id": "x"}}, "x", None),
        ({"id": "req", "output": {"task_id": "x"}}, "x", "req"),
        ({"id": "a", "task_id": "b"}, "b", "a"),
        ({"id": "a", "task_id": "a"}, "a", None),
        ({"data": {"id": 5, "task_id": "b"}}, "b", "5"),
    ],
    ids=str,
)
def test_the_id_of_a_submit_wherever_it_stands(body: Any, task_id: str, other: str | None) -> None:
    job = read_submit(response(body))
    assert (job.kling_task_id, job.other_id) == (task_id, other)


@pytest.mark.parametrize(
    "body", [{"request_id": "r"}, {"data": {"request_id": "r"}}, {"input": {"task_id": "t"}}, {"output": {"x": 1}}]
)
def test_no_id_at_a_submit_stops(body: Any) -> None:
    with pytest.raises(KlingUncertainSubmissionError):
        read_submit(response(body))


class TestAnUnknownWord:
    def test_means_running_and_keeps_the_url(self) -> None:
        job = read({"id": "x", "status": "dreamt", "progress": 100, "output": [URL]})
        assert (job.status, job.is_known_status, job.video_url) == ("running", False, URL)

    def test_progress_may_stand_around_the_job(self) -> None:
        job = read({"progress": "100%", "data": {"id": "x", "status": "dreamt", "url": URL}})
        assert (job.progress, job.video_url) == (100, URL)

    @pytest.mark.parametrize("fields", [{"progress": 99}, {}, {"progress": "half"}])
    def test_without_full_progress_nothing_is_looked_for(self, fields: dict[str, Any]) -> None:
        assert read({"id": "x", "status": "dreamt", "video_url": URL, **fields}).video_url is None

    def test_a_known_word_keeps_no_url(self) -> None:
        assert read({"id": "x", "status": "processing", "progress": 100, "video_url": URL}).video_url is None


@pytest.mark.parametrize("word", ["expired", "EXPIRED", "deleted"])
def test_a_file_that_is_gone_is_marked(word: str) -> None:
    assert read({"id": "x", "status": word}).is_gone
    assert not read({"id": "x", "status": "failed"}).is_gone


def test_a_completed_job_without_a_url_is_quoted() -> None:
    job = read({"id": "x", "status": "completed", "file_id": "9021", "prompt": "a cat"})
    assert "9021" in (job.excerpt or "")
    assert "a cat" not in (job.excerpt or "")
    assert read({"id": "x", "status": "completed", "video_url": URL}).excerpt is None


NAMES = st.sampled_from(
    [
        "id",
        "task_id",
        "status",
        "state",
        "data",
        "output",
        "error",
        "message",
        "code",
        "url",
        "video",
        "input",
        "result",
    ]
)
VALUES = st.sampled_from(
    [
        "x",
        "completed",
        "failed",
        "error",
        "expired",
        "processing",
        URL,
        "https://[",
        "http://\ud800",
        '{"error":"y"}',
        429,
        "1027",
    ]
)
BODIES = st.recursive(
    VALUES | st.none() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=8), inner, max_size=5),
    max_leaves=25,
)


@given(BODIES)
def test_no_body_raises_anything_but_a_named_error(body: Any) -> None:
    for ask in (read, lambda body: read_submit(response(body))):
        try:
            job = ask(body)
        except KlingError as error:
            json.dumps(error.to_dict(), ensure_ascii=False).encode()
        else:
            json.dumps(asdict(job), ensure_ascii=False).encode()
            assert (job.video_url is None) or job.status != "failed"


HOSTILE = {
    "lists": '"a":[' + "[]," * 43_000 + "0]",
    "objects": '"a":[' + '{"id":1},' * 14_000 + "0]",
    "strings": '"a":[' + '"x",' * 32_000 + "0]",
    "deep": '"a":' + "[" * 900 + "]" * 900,
    "deep objects": '"data":' * 1 + '{"data":' * 900 + "1" + "}" * 900,
    "names": ",".join(f'"errorMessage{n}":"https://a{n}"' for n in range(3500)),
    "long names": ",".join(f'"{str(n) * 400}_errorUrl":"https://a"' for n in range(60)),
    "urls": '"url":[' + ",".join(['"https://a/' + "wm_no" * 1500 + '"'] * 16) + "]",
    "codes": '"error":[' + ",".join(['"' + "code1" * 1600 + '"'] * 15) + "]",
    "open braces": '"error":[' + ",".join(['"' + "{" * 8000 + '"'] * 15) + "]",
    "nested json": '"error":[' + ",".join(['"[' + "[]," * 2500 + '0]"'] * 15) + "]",
    "nested objects": '"error":[' + ",".join([json.dumps('{"message":' * 700)] * 14) + "]",
    "signatures": '"message":[' + ",".join(['"' + "?token=&" * 1000 + '"'] * 15) + "]",
    "tags": '"message":"' + "<script" * 17_000 + '"',
    "humps": '"' + "aB" * 30_000 + '":{"' + "image_to_" * 6_000 + '":1}',
}


@pytest.mark.alone
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("word", ["processing", "completed", "failed", "dreamt", None])
def test_no_body_costs_more_than_milliseconds(kind: str, word: str | None) -> None:
    status = f'"id":"x","status":"{word}","progress":100,' if word else ""
    sent = response(f"{{{status}{HOSTILE[kind]}}}".encode())
    assert len(sent.body) <= MAX_RESPONSE_BYTES

    def seconds() -> float:
        started = time.process_time()
        with suppress(KlingError):
            read_status(sent, "x")
        return time.process_time() - started

    # The best of some: a collection of garbage takes as long as the work that is looked for.
    assert min(seconds() for _ in range(5)) < allowed_seconds(0.02)


@pytest.mark.alone
def test_a_running_job_is_read_without_a_search() -> None:
    body = {"id": "x", "task_id": "x", "object": "video", "model": "m", "status": "in_progress", "progress": 30}
    sent = response(body)
    started = time.process_time()
    for _ in range(1000):
        read_status(sent, "x")
    assert time.process_time() - started < allowed_seconds(0.2)
