# SPDX-License-Identifier: Apache-2.0
"""The video and the reason are those of the job: not of another job, of the request, or of a log."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from airflow_provider_kling.api.reading.reason import failure_reason
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.video_url import video_url
from airflow_provider_kling.api.response import Response
from tests.fixtures.cpu import allowed_seconds

CDN = "https://cdn.example.com/"
V = CDN + "v.mp4"
#: A video that is not the result.
OTHER = CDN + "other.mp4"
WORDS = "CUDA out of memory"
LINES = [f"step {number}" for number in range(700)]


def job_in(body: Any) -> Any:
    return read_status(Response(200, json.dumps(body, ensure_ascii=False).encode()), "t1")


def done(**fields: Any) -> dict[str, Any]:
    return {"id": "t1", "status": "completed", **fields}


def failed(**fields: Any) -> Any:
    return job_in({"id": "t1", "status": "failed", **fields})


def short(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)[:80]


TASK = {"task": {"id": "t1", "status": "completed"}}


@pytest.mark.parametrize(
    "body",
    [
        {**TASK, "recent": [{"id": "zz", "video_url": OTHER}]},
        {**TASK, "history": [{"id": "zz", "video_url": OTHER}]},
        {**TASK, "previous": {"id": "zz", "status": "completed", "video_url": OTHER}},
        {**TASK, "parent": {"task_id": "zz", "video_url": OTHER}},
        {**TASK, "upstream": {"taskId": 9, "output": {"video": {"url": OTHER}}}},
        {**TASK, "latest": {"id": "zz", "status": "completed", "video": OTHER}},
        {**TASK, "queue": {"jobs": [{"job_id": "zz", "video_url": OTHER}]}},
        {
            "task": {
                "id": "t1",
                "status": "completed",
                "data": [{"id": "zz", "url": OTHER}, {"id": "yy", "url": V}],
            }
        },
        done(data=[{"id": "zz", "url": OTHER}, {"id": "yy", "url": OTHER}]),
        done(items=[{"task_id": "zz", "video": OTHER}, {"task_id": "yy", "video": OTHER}]),
        done(example={"video_url": OTHER}),
        done(tutorial_video=OTHER),
    ],
    ids=short,
)
def test_the_video_of_another_job_is_not_taken(body: dict[str, Any]) -> None:
    assert job_in(body).video_url is None
    assert job_in({**body, "video": {"url": CDN + "own.mp4"}}).video_url == CDN + "own.mp4"


@pytest.mark.parametrize(
    "body",
    [
        {**TASK, "videos": [{"id": "v9", "url": V}]},
        {**TASK, "works": [{"id": "w9", "status": "done", "resource": {"resource": V}}]},
        {**TASK, "video": {"task_id": "t1", "url": V}},
        {"task_id": "t1", "data": {"task_id": "up9", "task_status": "succeed", "video_url": V}},
        done(
            data={"task_id": "up9", "task_status": "succeed", "task_result": {"videos": [{"id": "1", "url": V}]}}
        ),
        done(data=[{"id": "f1", "url": V}]),
        done(videos=[{"id": "f1", "url": V}, {"id": "f2", "url": OTHER}]),
        done(data=[{"id": "t1", "url": V}, {"id": "zz", "url": OTHER}]),
    ],
    ids=short,
)
def test_what_belongs_to_the_job_is_taken_whatever_its_id(body: dict[str, Any]) -> None:
    assert job_in(body).video_url == V


def test_the_reason_of_another_job_is_not_taken() -> None:
    job = job_in({"task": {"id": "t1", "status": "failed"}, "previous": {"task_id": "zz", "error": "sensitive"}})
    assert (job.error, job.content_refused) == (None, False)


@pytest.mark.parametrize(
    "echo",
    [
        {"content": [{"type": "video_url", "video_url": {"url": OTHER}, "role": "reference_video"}]},
        {"content": [{"role": "reference", "video": {"file": {"url": OTHER, "type": "video/mp4"}}}]},
        {"items": [{"name": "input_video", "value": {"url": OTHER}}]},
        {"task_info": {"prompt": "p", "video_url": OTHER}},
        {"kwargs": {"prompt": "p", "video": OTHER}},
        {"kwargs": {"video": OTHER}},
        {"body": {"video_url": OTHER, "prompt": "p", "model": "m"}},
        {"properties": {"input": "p", "video_url": OTHER}},
        {"data": {"prompt": "p", "image": CDN + "i.png", "video": OTHER}},
        {"data": {"prompt": "p", "video_url": OTHER}},
        {"metadata": {"negative_prompt": "p", "video_url": OTHER}},
        {"job": {"first_frame_url": CDN + "i.png", "video_url": OTHER}},
        {"job": {"image_tail": CDN + "i.png", "files": [{"url": OTHER}]}},
        *({name: {"video_url": OTHER}} for name in ("req", "query", "submit", "settings", "spec", "form")),
        {"origin_task": {"video_url": OTHER}},
        {"messages": [{"role": "user", "content": [{"video_url": {"url": OTHER}}]}]},
        {"payload": {"prompt": "p", "video_url": OTHER}},
        {"payload": {"image_url": CDN + "i.png", "video_url": OTHER}},
        *(
            {name: OTHER}
            for name in (
                *("original_video_url", "origin_video", "base_video_url", "motion_video", "extend_video_url"),
                *(
                    "video_to_extend",
                    "driven_video_url",
                    "customer_video_url",
                    "parent_video_url",
                    "prev_video_url",
                ),
                *("uploaded_video", "user_upload", "previousVideoUrl"),
            )
        ),
    ],
    ids=short,
)
def test_a_video_of_the_request_is_not_taken(echo: dict[str, Any]) -> None:
    assert job_in(done(**echo)).video_url is None
    assert job_in(done(**echo, result={"video": {"url": V}})).video_url == V


@pytest.mark.parametrize(
    "place",
    [
        {"payload": {"video": {"url": V}}},
        {"reference_to_video": {"video": {"url": V}}},
        {"ref2video": {"url": V}},
        {"request_result": {"video_url": V}},
        {"output": {"prompt": "p", "video_url": V}},
        {"videos": [{"prompt": "p", "url": V}]},
        {"data": {"prompt": "p", "status": "completed", "video_url": V}},
        {"extended_video_url": V},
        {"video_url": V, "original_video_url": V},
        {"user_task": {"result": {"url": V}}},
        {"prompt": "p", "first_frame_url": CDN + "i.png", "video_url": V},
        {"output": {"type": "image", "video": {"url": V, "type": "video/mp4"}}},
    ],
    ids=short,
)
def test_a_result_that_resembles_a_request_is_taken(place: dict[str, Any]) -> None:
    assert job_in(done(**place)).video_url == V


def test_a_prompt_around_the_job_does_not_hide_the_video() -> None:
    assert job_in({"prompt": "p", "data": {"id": "t1", "status": "completed"}, "video": {"url": V}}).video_url == V


@pytest.mark.parametrize(
    "many",
    [
        {"logs": LINES},
        {"mask": [0.1] * 2000},
        {"seeds": list(range(2000))},
        {"steps": [{"at": number, "note": "x"} for number in range(400)]},
        {"a": LINES, "b": LINES, "c": LINES},
        {"boxes": [[0.5] * 100] * 300},
    ],
    ids=short,
)
def test_a_long_list_does_not_hide_the_rest(many: dict[str, Any]) -> None:
    assert job_in(done(**many, output={"video": {"url": V}})).video_url == V
    assert job_in(done(**many, result={"data": {"videos": [{"url": V}]}})).video_url == V
    job = failed(**many, error={"detail": {"message": "sensitive content"}})
    assert (job.error, job.content_refused) == ("sensitive content", True)


@pytest.mark.parametrize(
    "place",
    [
        {"videos": [{"url": OTHER, "watermark": True}, {"url": V, "watermark": False}]},
        {"videos": [{"url": OTHER, "no_watermark": False}, {"url": V, "no_watermark": True}]},
        {"videos": [{"url": OTHER, "has_watermark": True}, {"url": V}]},
        {"files": [{"name": "watermarked", "url": OTHER}, {"name": "original", "url": V}]},
        {"files": [{"type": "video_watermark", "url": OTHER}, {"type": "video", "url": V}]},
        {"url": OTHER, "no_watermark_url": V},
        {"video_url": OTHER, "video": {"url": OTHER, "url_without_watermark": V}},
        {"videos": [CDN + "watermark/x.mp4", V]},
        {"videos": [CDN + "wm/x.mp4", V]},
        {"resultWaterMarkUrls": [OTHER], "resultUrls": [V]},
        {"video_url": CDN + "v.m3u8", "output": {"video": V}},
        {"videos": [CDN + "v.mpd", V]},
        {"assets": {"progress_video": OTHER, "video": V}},
        {"output": ["/files/other.mp4", V]},
    ],
    ids=short,
)
def test_the_better_copy_is_taken(place: dict[str, Any]) -> None:
    assert job_in(done(**place)).video_url == V


@pytest.mark.parametrize("url", [CDN + "v.m3u8", CDN + "watermark/v.mp4", CDN + "v_watermark.mp4"])
def test_a_worse_copy_is_better_than_none(url: str) -> None:
    assert job_in(done(video_url=url)).video_url == url


def test_the_watermark_that_was_asked_for_says_nothing_of_a_copy() -> None:
    assert job_in(done(watermark=True, video_url=V, videos=[{"url": OTHER}])).video_url == V


@pytest.mark.parametrize(
    "name",
    [
        *(
            "upload_url",
            "presigned_upload_url",
            "callback_url",
            "webhook",
            "call_back_url",
            "put_url",
            "redirect_url",
        ),
        *("return_url", "success_url", "error_url", "license_url", "invoice_url", "payment_url", "lora_url"),
        *("bgm_url", "tts_url", "background_url", "garment_url", "callbackUrl", "webhook_url"),
    ],
)
@pytest.mark.parametrize("url", [V, CDN + "hook"])
def test_an_address_for_something_else_is_never_the_video(name: str, url: str) -> None:
    assert job_in(done(**{name: url})).video_url is None
    assert job_in(done(output={name: url})).video_url is None


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1/videos/t1",
        "https://api.example.com/v1/videos/t1/",
        "https://api.example.com/v1/videos/t1?x=1",
        "https://api.example.com/kling/v1/videos/image2video/t1",
        "https://api.example.com/v1/tasks/t1/status",
        "https://api.example.com/requests/t1/result",
        "https://cdn.example.com:abc/v.mp4",
        "https://cdn.example.com:99999/v.mp4",
    ],
)
@pytest.mark.parametrize("place", ["url", "video_url", "output", "result_url"])
def test_an_address_of_the_job_itself_or_none_at_all_is_not_the_video(place: str, url: str) -> None:
    assert job_in(done(**{place: url})).video_url is None
    assert job_in({"data": {"status": "completed", place: url}}).video_url is None


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com/v1/videos/t1/content",
        "https://cdn.example.com/videos/t1.mp4",
        "https://cdn.example.com/videos/t1/a.mp4",
        "https://cdn.example.com:8443/v.mp4",
        "https://cdn.example.com/o/t1",
    ],
)
def test_a_file_named_after_the_job_is_taken(url: str) -> None:
    assert job_in(done(video_url=url)).video_url == url


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ({"output": ["/files/v.mp4"]}, "/files/v.mp4"),
        ({"output": {"video_url": "/files/v.mp4"}}, "/files/v.mp4"),
        ({"videos": [{"url": "/v1/videos/t1/content"}]}, "/v1/videos/t1/content"),
        ({"video_url": CDN + "my v.mp4"}, CDN + "my%20v.mp4"),
        ({"output": [CDN + "a b c.mp4?x=1"]}, CDN + "a%20b%20c.mp4?x=1"),
    ],
)
def test_a_path_on_the_server_and_a_space(place: dict[str, Any], url: str) -> None:
    assert job_in(done(**place)).video_url == url


@pytest.mark.parametrize(
    "place",
    [
        {"output": ["/tmp/v.mp4"]},  # noqa: S108 (a path on the server's machine)
        {"output": "/files/cover"},
        {"note": "/files/v.mp4"},
        {"input": {"video_url": "/files/v.mp4"}},
        {"output": f"{V} {OTHER}"},
        {"output": f"{V} is your video"},
        {"output": f"{V}?a=b is your.mp4"},
        {"output": "https://cdn .example.com/v.mp4"},
        {"output": "https://cdn.example.com/a\tb.mp4"},
    ],
    ids=short,
)
def test_a_text_or_a_local_path_is_no_url(place: dict[str, Any]) -> None:
    assert job_in(done(**place)).video_url is None


@pytest.mark.parametrize(
    "place",
    [
        {"errors": {"prompt": [WORDS]}},
        {"error": {"prompt": WORDS}},
        {"error": {"params": {"image": WORDS}}},
        *({name: WORDS} for name in ("失败原因", "错误信息", "原因", "remark", "info")),
        {"msgs": [WORDS]},
        {"error": {"message": "task failed", "raw_message": WORDS}},
        {"error": {"message": "Video generation failed.", "detail": WORDS}},
        {"fail_reason": "任务失败", "message": WORDS},
        {"message": "Task status retrieved successfully", "remark": WORDS},
        {"message": "Your request was successful", "detail": WORDS},
        {"data": {"prompt": "p", "message": WORDS}},
        {"error": {"message": WORDS, "input": "a sensitive cat"}},
    ],
    ids=short,
)
def test_the_reason_is_found(place: dict[str, Any]) -> None:
    job = failed(**place)
    assert (job.error, job.content_refused) == (WORDS, False)


@pytest.mark.parametrize(
    "text",
    [
        "Task status retrieved successfully",
        "Your request was successful",
        "The request has been processed successfully",
        "Successfully fetched the status of the task",
        "The status of this task was read from the database of our server in the region successfully.",
        *("成功获取任务", "获取任务状态成功", "成功", "200 OK", "200", "0", "\x1b"),
    ],
)
def test_a_success_is_no_reason(text: str) -> None:
    assert failed(message=text).error is None
    assert failed(message=text, error={"detail": WORDS}).error == WORDS


@pytest.mark.parametrize(
    "text",
    [
        "The image was not downloaded successfully",
        "Failed to finish successfully",
        "Successfully submitted, but the model crashed",
        "Upload could not be successful",
        *("未能成功", "成功提交后超时", "task failed", "生成失败", "error 200"),
    ],
)
def test_a_failure_that_speaks_of_success_is_a_reason(text: str) -> None:
    assert failed(message=text).error == text


@pytest.mark.parametrize("name", ["title", "text", "description", "caption", "name", "safety_tolerance", "tags"])
def test_what_repeats_the_prompt_shows_no_refusal(name: str) -> None:
    assert not failed(**{name: "nsfw, a sensitive story"}, fail_reason=WORDS).content_refused
    assert failed(error={name: "nsfw content"}).content_refused


@pytest.mark.parametrize(
    "text",
    [
        "case-sensitive parameter mode: use std",
        "The parameter is case insensitive",
        "time-sensitive URL has expired",
        "Your key violates the rate limit",
        "prompt violates maximum length",
        "The request violates the schema",
        "value violates the JSON schema",
        "Content moderation service timed out",
        "moderation service is temporarily unavailable",
        "Moderation API error",
        "Failed to fetch image from https://x.example.com/unsafe/300x300/a.jpg",
        "cannot read https://x.example.com/nsfw/sensitive.png, try again",
    ],
)
def test_words_about_the_request_are_no_refusal_of_content(text: str) -> None:
    assert not failed(fail_reason=text).content_refused
    assert not failed(note=text, fail_reason=WORDS).content_refused


@pytest.mark.parametrize(
    "text",
    [
        "The image violates our guidelines",
        "The prompt violates the content policy and the length limit",
        "The output may contain sensitive content",
        "Rejected by moderation",
        "moderation failed",
        "https://x.example.com/a.png包含敏感内容",
        '{"url":"https://x.example.com/a.png","reason":"sensitive"}',
        "The parameter is case-sensitive; also the prompt was flagged as sensitive",
    ],
)
def test_a_refusal_of_content_beside_such_words_remains_one(text: str) -> None:
    assert failed(fail_reason=text).content_refused


@pytest.mark.alone
@pytest.mark.parametrize(
    "text",
    ["violates the " * 600, "moderation service " * 400, "https://" * 1000, "sensitive to " * 600, "/wm" * 2700],
    ids=lambda text: text[:12],
)
def test_long_texts_take_little_time(text: str) -> None:
    started = time.process_time()
    failure_reason({"status": "failed", "error": text})
    video_url({"status": "completed", "url": f"{CDN}{text}"})
    assert time.process_time() - started < allowed_seconds(0.5)
