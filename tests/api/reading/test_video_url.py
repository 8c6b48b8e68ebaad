# SPDX-License-Identifier: Apache-2.0
"""Where the finished video lies: the shapes of public gateways, and what must never be taken for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.video_url import video_url
from airflow_provider_kling.api.response import Response

FILE = "https://cdn.example.com/out/1.mp4"
#: A signed URL whose path does not show what it is.
BARE = "https://cdn.example.com/o/8f3a?Expires=1&Signature=x"
INPUT = "https://in.example.com/first.mp4"
COVER = "https://cdn.example.com/out/cover"


def url_in(body: Any, task_id: str = "x") -> str | None:
    return read_status(Response(200, json.dumps(body).encode()), task_id).video_url


def done(**fields: Any) -> dict[str, Any]:
    return {"id": "x", "status": "completed", **fields}


@pytest.mark.parametrize("url", [FILE, BARE])
@pytest.mark.parametrize(
    "place",
    [
        lambda url: {"video": {"url": url}},
        lambda url: {"video": url},
        lambda url: {"videos": [{"url": url}]},
        lambda url: {"videos": [url]},
        lambda url: {"output": url},
        lambda url: {"output": [url]},
        lambda url: {"output": {"videos": [{"url": url}]}},
        lambda url: {"output": {"video_url": url}},
        lambda url: {"data": {"output": {"video": url}}},
        lambda url: {"outputs": [url]},
        lambda url: {"outputs": [{"type": "video", "url": url}]},
        lambda url: {"results": [{"url": url}]},
        lambda url: {"results": {"videos": [{"url": url}], "seed": 1}},
        lambda url: {"result": {"data": {"videoUrl": url}}},
        lambda url: {"response": {"resultUrls": [url]}},
        lambda url: {"resultJson": json.dumps({"resultUrls": [url]})},
        lambda url: {"content": {"video_url": url, "last_frame_url": COVER}},
        lambda url: {"assets": {"video": url, "image": COVER}},
        lambda url: {"creations": [{"id": "1", "url": url, "cover_url": COVER}]},
        lambda url: {"generations": [{"id": "1", "status": "succeed", "url": url, "mediaType": "video"}]},
        lambda url: {"works": [{"video": {"resource": url, "height": 720}, "cover": {"resource": COVER}}]},
        lambda url: {"generated_video": {"uri": url}},
        lambda url: {"file": {"download_url": url, "filename": "x"}},
        lambda url: {"outputs": {"mp4": url}},
        lambda url: {"result": {"hd": url}},
        lambda url: {"input_type": "image", "type": "image", "output": url},
        lambda url: {"generation_type": "REFERENCE_2_VIDEO", "files": [{"type": "image_to_video", "url": url}]},
        lambda url: {"videourl": url},
        lambda url: {"assets": [{"asset_type": "thumbnail", "url": COVER}, {"asset_type": "video", "url": url}]},
        lambda url: {"remixed_from_video_id": url},
        lambda url: {
            "files": [{"url": COVER, "content_type": "image/png"}, {"url": url, "content_type": "video/mp4"}]
        },
        lambda url: {"artifacts": [{"role": "cover", "url": COVER}, {"role": "video", "url": url}]},
        lambda url: {"video_list": [{"video_url": url, "thumbnail": COVER, "poster": COVER}]},
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_url_is_found(place: Any, url: str, wrapped: bool) -> None:
    body = done(**place(url))
    assert url_in({"code": 200, "msg": "success", "data": body} if wrapped else body) == url


@pytest.mark.parametrize(
    "body",
    [
        # new-api's record of a task keeps the URL of a success there
        {"code": "success", "data": {"task_id": "x", "status": "SUCCESS", "fail_reason": FILE}},
        {
            "code": 0,
            "data": {"task_id": "x", "task_status": "succeed", "task_result": {"videos": [{"url": FILE}]}},
        },
        {"request_id": "r", "output": {"task_id": "x", "task_status": "SUCCEEDED", "video_url": FILE}},
        {"status": "Succeed", "reason": "", "results": {"videos": [{"url": FILE}]}},
        {
            "code": 200,
            "data": {"taskId": "x", "state": "success", "resultJson": json.dumps({"resultUrls": [FILE]})},
        },
        {
            "code": 200,
            "data": {"task": {"id": "x", "status": "done"}, "works": [{"resource": {"resource": FILE}}]},
        },
        {"id": "x", "status": "succeeded", "output": FILE, "urls": {"get": BARE, "stream": BARE}},
        {"id": "x", "status": "COMPLETED", "response_url": BARE, "status_url": BARE, "video": {"url": FILE}},
        {
            "base_resp": {"status_msg": "success"},
            "task_id": "x",
            "status": "Success",
            "file": {"download_url": FILE},
        },
        {"id": "x", "status": "completed", "fail_reason": "https://gw.example.com/v1/videos/x/content"},
    ],
    ids=lambda body: json.dumps(body)[:70],
)
def test_whole_responses(body: dict[str, Any]) -> None:
    assert url_in(body) in (FILE, "https://gw.example.com/v1/videos/x/content")


@pytest.mark.parametrize(
    "echo",
    [
        {"image": INPUT},
        {"image_url": INPUT},
        {"imageUrls": [INPUT]},
        {"first_frame": INPUT},
        {"firstFrameUrl": INPUT},
        {"last_frame_url": INPUT},
        {"tail_image_url": INPUT},
        {"input": INPUT},
        {"input": {"video_url": INPUT}},
        {"input": [{"url": INPUT}]},
        {"input_video": INPUT},
        {"request": {"video": {"url": INPUT}}},
        {"params": json.dumps({"video_url": INPUT})},
        {"param": json.dumps({"input": {"video_url": INPUT}})},
        {"parameters": {"files": [{"url": INPUT}]}},
        {"reference_video": INPUT},
        {"source_video_url": INPUT},
        {"extra_body": {"video_url": INPUT}},
        {"element_list": [{"video": INPUT}]},
        {"keyframes": {"frame0": {"type": "image", "url": INPUT}}},
        {"content": [{"type": "image_url", "image_url": {"url": INPUT}}]},
        {"content": [{"type": "video", "role": "reference_video", "url": INPUT}]},
        {"prompt": INPUT},
        {"fields": [{"name": "image", "value": INPUT}]},
        {"image": INPUT, "url": INPUT},
        {"input": {"video_url": INPUT}, "output": INPUT},
        {"cover": INPUT},
        {"video_cover_url": INPUT},
        {"thumbnail_url": INPUT},
        {"poster": INPUT},
        {"preview": {"url": INPUT}},
        {"outputs": [{"type": "image", "url": INPUT}]},
        {"outputs": [{"content_type": "image/png", "url": INPUT}]},
        {"audio_url": INPUT},
        {"callback_url": "https://hooks.example.com/x"},
        {"webhook": "https://hooks.example.com/x"},
        {"status_url": BARE, "response_url": BARE, "cancel_url": BARE},
        {"urls": {"get": BARE, "cancel": BARE, "web": BARE}},
        {"video_url": "https://cdn.example.com/cover.png"},
        {"output": "https://cdn.example.com/a.jpg"},
        {"output": "a text with https://cdn.example.com/1.mp4 in it"},
        {"video_url": "pending", "url": "N/A", "output": "s3://bucket/1.mp4"},
        {"video": "ftp://cdn.example.com/1.mp4"},
        {"video": "https:///1.mp4"},
        {"note": BARE},
        {"coverurl": INPUT},
        {"imageurl": INPUT},
        {"firstframe": INPUT},
        {"inputvideo": INPUT},
        {"assets": [{"asset_type": "thumbnail", "url": INPUT}]},
    ],
    ids=lambda echo: json.dumps(echo)[:70],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_is_not_the_video_is_never_taken(echo: dict[str, Any], wrapped: bool) -> None:
    body = done(**echo)
    assert url_in({"code": 200, "data": body} if wrapped else body) is None
    if "output" not in echo:
        body = done(**{**echo, "output": {"video": FILE}})
        assert url_in({"code": 200, "data": body} if wrapped else body) == FILE


@pytest.mark.parametrize(
    ("place", "url"),
    [
        ({"videos": [{"watermark_url": BARE, "url": FILE}]}, FILE),
        ({"videos": [{"url_with_watermark": FILE, "url": BARE}]}, BARE),
        ({"video": {"resource": FILE, "resource_without_watermark": BARE}}, BARE),
        ({"watermarked": {"video": FILE}, "outputs": [BARE]}, BARE),
        ({"video_url": "https://cdn.example.com/1_watermark.mp4", "clean": {"video": FILE}}, FILE),
        (
            {"video": "https://cdn.example.com/no_watermark.mp4", "video_wm": BARE},
            "https://cdn.example.com/no_watermark.mp4",
        ),
        ({"videos": [{"watermark_url": FILE}]}, FILE),
        ({"nwm_video_url": BARE, "wm_video_url": FILE}, BARE),
    ],
)
def test_a_copy_with_a_watermark_is_the_last_choice(place: dict[str, Any], url: str) -> None:
    assert url_in(done(**place)) == url


def test_the_documented_place_goes_first() -> None:
    assert url_in(done(outputs=[FILE], video_url=BARE, url="https://x.example.com/2.mp4")) == BARE


def test_the_url_of_another_job_is_not_taken() -> None:
    jobs = [{"task_id": "a", "status": "SUCCESS", "url": FILE}, {"task_id": "x", "status": "SUCCESS"}]
    assert url_in({"data": jobs}) is None
    assert url_in({"data": jobs}, "a") == FILE


NAMES = st.sampled_from(["data", "output", "video", "videos", "url", "result", "task", "content", "files", "x"])
ECHOES = st.sampled_from(
    [
        "input",
        "image",
        "image_url",
        "first_frame",
        "firstFrameUrl",
        "reference_video",
        "request",
        "params",
        "prompt",
    ]
)
TREES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
)
#: An input somewhere below a name that repeats the request.
INPUTS = st.recursive(
    st.just(INPUT),
    lambda inner: st.lists(inner, min_size=1, max_size=2) | st.dictionaries(NAMES, inner, min_size=1, max_size=2),
    max_leaves=6,
)


@given(TREES, st.lists(st.tuples(NAMES, ECHOES, INPUTS), max_size=4))
def test_an_input_is_never_the_result(tree: Any, echoes: list[tuple[str, str, Any]]) -> None:
    body: dict[str, Any] = done(tree=tree)
    for around, name, value in echoes:
        body[name] = value
        body.setdefault(around, {name: value})
    assert video_url(body, body) is None
    assert url_in({"data": body, "more": echoes and {echoes[0][1]: echoes[0][2]}}) is None


@given(
    st.recursive(
        st.just(FILE),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=2) | st.dictionaries(NAMES, inner, min_size=1, max_size=2)
        ),
        max_leaves=4,
    )
)
def test_a_video_is_found_at_any_depth(tree: Any) -> None:
    assert url_in(done(output=tree)) == FILE
