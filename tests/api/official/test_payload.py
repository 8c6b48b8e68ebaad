# SPDX-License-Identifier: Apache-2.0
"""The create request of each standard, field by field, and what is refused before it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.api.official.payload import submit_call
from tests.fixtures.official import IMAGE, PICTURE, TEXT, TOKEN, request, with_api_key, with_pair

LAST = "https://example.com/last.png"
LEGACY = {"model_name": "kling-v3", "mode": "std", "sound": "off", "duration": "5"}
SETTINGS = {"resolution": "720p", "duration": 5, "audio": "off", "multi_shot": False}


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        ({}, TEXT, {**LEGACY, "prompt": "A traveler"}),
        (
            {"model": "kling-v3-pro-audio", "duration": 15, "aspect_ratio": "9:16"},
            TEXT,
            {
                **LEGACY,
                "mode": "pro",
                "sound": "on",
                "duration": "15",
                "aspect_ratio": "9:16",
                "prompt": "A traveler",
            },
        ),
        (
            {"model": "kling-v3-std-audio", "negative_prompt": "rain", "cfg_scale": 0.7},
            TEXT,
            {**LEGACY, "sound": "on", "prompt": "A traveler", "negative_prompt": "rain", "cfg_scale": 0.7},
        ),
        (
            {"mode": "4k", "sound": True},
            TEXT,
            {**LEGACY, "mode": "4k", "sound": "on", "prompt": "A traveler"},
        ),
        (
            {"model": "kling-v2-6", "mode": "pro", "sound": True, "duration": 10},
            TEXT,
            {
                "model_name": "kling-v2-6",
                "mode": "pro",
                "sound": "on",
                "duration": "10",
                "prompt": "A traveler",
            },
        ),
        (
            {"model": "kling-v2-5-turbo", "mode": "pro"},
            TEXT,
            {"model_name": "kling-v2-5-turbo", "mode": "pro", "duration": "5", "prompt": "A traveler"},
        ),
        (
            {"image": PICTURE, "last_image": LAST, "element_list": [{"element_id": 1}, 2], "aspect_ratio": "1:1"},
            IMAGE,
            {
                **LEGACY,
                "prompt": "A traveler",
                "image": PICTURE,
                "image_tail": LAST,
                "element_list": [{"element_id": 1}, {"element_id": 2}],
            },
        ),
        ({"shot_type": "customize"}, TEXT, {**LEGACY, "prompt": "A traveler"}),
        (
            {"shot_type": "intelligent"},
            TEXT,
            {**LEGACY, "prompt": "A traveler", "multi_shot": True, "shot_type": "intelligence"},
        ),
        (
            {"image": PICTURE, "multi_prompt": [{"prompt": "a", "duration": 2}, {"prompt": "b", "duration": "3"}]},
            IMAGE,
            {
                **LEGACY,
                "image": PICTURE,
                "multi_shot": True,
                "shot_type": "customize",
                "multi_prompt": [
                    {"index": 1, "prompt": "a", "duration": "2"},
                    {"index": 2, "prompt": "b", "duration": "3"},
                ],
            },
        ),
        (
            {
                "extra_body": {
                    "callback_url": "https://a.com/b",
                    "watermark_info": {"enabled": True},
                    "camera_control": {"type": "simple"},
                }
            },
            TEXT,
            {
                **LEGACY,
                "prompt": "A traveler",
                "callback_url": "https://a.com/b",
                "watermark_info": {"enabled": True},
                "camera_control": {"type": "simple"},
            },
        ),
        (
            {"model": "kling-3.0", "duration": 7, "aspect_ratio": "1:1", "sound": True, "mode": "4k"},
            "/text-to-video/kling-3.0",
            {
                "prompt": "A traveler",
                "settings": {
                    "resolution": "4k",
                    "aspect_ratio": "1:1",
                    "duration": 7,
                    "audio": "native",
                    "multi_shot": False,
                },
            },
        ),
        (
            {
                "model": "kling-3.0",
                "image": PICTURE,
                "last_image": LAST,
                "element_list": [{"element_id": 5}],
                "aspect_ratio": "1:1",
            },
            "/image-to-video/kling-3.0",
            {
                "contents": [
                    {"type": "prompt", "text": "A traveler"},
                    {"type": "first_frame", "url": PICTURE},
                    {"type": "last_frame", "url": LAST},
                    {"type": "element", "element_id": 5},
                ],
                "settings": SETTINGS,
            },
        ),
        (
            {"model": "kling-3.0", "image": PICTURE, "prompt": None},
            "/image-to-video/kling-3.0",
            {"contents": [{"type": "first_frame", "url": PICTURE}], "settings": SETTINGS},
        ),
        (
            {"model": "kling-3.0-turbo", "mode": "pro"},
            "/text-to-video/kling-3.0-turbo",
            {"prompt": "A traveler", "settings": {"resolution": "1080p", "duration": 5, "multi_shot": False}},
        ),
        (
            {"model": "kling-2.6", "mode": "pro", "sound": True},
            "/text-to-video/kling-2.6",
            {"prompt": "A traveler", "settings": {"resolution": "1080p", "duration": 5, "audio": "native"}},
        ),
        (
            {"model": "kling-2.5-turbo"},
            "/text-to-video/kling-2.5-turbo",
            {"prompt": "A traveler", "settings": {"resolution": "720p", "duration": 5}},
        ),
        (
            {
                "model": "kling-3.0",
                "extra_body": {
                    "callback_url": "https://a.com/b",
                    "settings": {"multi_shot": True, "seed": 5},
                    "options": {"watermark_info": {"enabled": True}},
                },
            },
            "/text-to-video/kling-3.0",
            {
                "prompt": "A traveler",
                "settings": {**SETTINGS, "multi_shot": True, "seed": 5},
                "options": {"callback_url": "https://a.com/b", "watermark_info": {"enabled": True}},
            },
        ),
    ],
)
def test_the_body(arguments: dict[str, Any], path: str, body: dict[str, Any]) -> None:
    call = with_api_key().submit(request(**arguments))
    assert (call.method, call.path, call.body) == ("POST", path, body)


def test_the_client_token_stands_where_each_standard_reads_it() -> None:
    legacy, new = (
        submit_call(request(model, extra_body={"callback_url": "https://a.com/b"}), TOKEN).body or {}
        for model in ("kling-v3", "kling-3.0")
    )
    assert legacy["external_task_id"] == TOKEN
    assert new["options"] == {"external_task_id": TOKEN, "callback_url": "https://a.com/b"}
    assert "external_task_id" not in new


@pytest.mark.parametrize(
    ("durations", "duration", "seconds", "total"),
    [
        ((2, 3), None, ("2", "3"), "5"),
        ((2, None), 10, ("2", "8"), "10"),
        ((None, None, None), 11, ("4", "4", "3"), "11"),
        ((None, None), None, ("3", "2"), "5"),
        (("4", None, "4"), 9, ("4", "1", "4"), "9"),
    ],
)
def test_shots_share_the_seconds_that_are_left(
    durations: tuple[Any, ...], duration: int | None, seconds: tuple[str, ...], total: str
) -> None:
    shots = [{"prompt": "a", **({} if each is None else {"duration": each})} for each in durations]
    wanted = request("kling-v3-std-silent", multi_prompt=shots, duration=duration, image=PICTURE)
    body = with_api_key().submit(wanted).body or {}
    assert tuple(shot["duration"] for shot in body["multi_prompt"]) == seconds
    assert [shot["index"] for shot in body["multi_prompt"]] == list(range(1, len(durations) + 1))
    assert body["duration"] == total == str(sum(map(int, seconds)))
    assert with_api_key().check(wanted) == []


@pytest.mark.parametrize(
    ("shots", "duration", "field"),
    [
        ([{"prompt": "a", "duration": 4}, {"prompt": "b"}], 4, "multi_prompt"),
        ([{"prompt": "a"}] * 6, None, "multi_prompt"),
        ([{"prompt": "a", "duration": 4}], 5, "duration"),
        ([{"prompt": "a", "duration": 2.5}, {"prompt": "b", "duration": 2.5}], 5, "multi_prompt[0].duration"),
        ([{"prompt": "a", "duration": "soon"}], 5, "multi_prompt[0].duration"),
        ([{"prompt": "a", "duration": 0}, {"prompt": "b"}], 5, "multi_prompt[0].duration"),
        ([{"prompt": "a", "duration": 5, "index": 2}], 5, "multi_prompt[0].index"),
        ([{"duration": 5}], 5, "multi_prompt[0].prompt"),
        ([{"prompt": "a", "duration": 20}], None, "duration"),
        ([{"prompt": "a", "duration": 1}] * 7, None, "multi_prompt"),
    ],
)
def test_shots_that_cannot_be_made_are_refused(shots: list[Any], duration: int | None, field: str) -> None:
    problems = with_api_key().check(request(multi_prompt=shots, duration=duration, image=PICTURE))
    assert field in [problem.field for problem in problems]


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        ({"duration": 2}, "duration", "3 to 15"),
        ({"model": "kling-v2-6", "duration": 7}, "duration", "5 or 10"),
        ({"model": "kling-v3-std-silent", "prompt": "x" * 2501}, "prompt", "2500"),
        ({"model": "kling-v3-std-silent", "cfg_scale": 1.5}, "cfg_scale", "0 to 1"),
        ({"model": "kling-3.0", "shot_type": "customize"}, "shot_type", "no such field"),
        ({"model": "kling-3.0", "negative_prompt": "rain"}, "negative_prompt", "no such field"),
        ({"prompt": "a", "multi_prompt": [{"prompt": "b", "duration": 5}]}, "multi_prompt", "excludes prompt"),
    ],
)
def test_limits_are_checked_before_anything_is_sent(arguments: dict[str, Any], field: str, words: str) -> None:
    [problem] = with_api_key().check(request(**arguments))
    assert problem.field == field
    assert words in problem.expected


@pytest.mark.parametrize(
    ("model", "legacy"),
    [
        ("kling-3.0", "kling-v3"),
        ("kling-3.0-turbo", "kling-v3"),
        ("kling-2.6", "kling-v2-6"),
        ("kling-2.5-turbo", "kling-v2-5-turbo"),
    ],
)
def test_an_access_key_is_told_the_nearest_model_that_it_may_use(model: str, legacy: str) -> None:
    [problem] = with_pair().check(request(model))
    assert (problem.field, problem.expected) == (
        "model",
        f"needs an API key; with an access key use {legacy}",
    )
    assert with_pair().check(request(legacy)) == []
    assert with_api_key().check(request(model)) == []


@pytest.mark.parametrize(
    ("model", "extra", "field", "words"),
    [
        ("kling-v3", {"external_task_id": "x"}, "extra_body.external_task_id", "set by this package"),
        (
            "kling-v3",
            {"a": [{"external_task_id": "x"}]},
            "extra_body.a[0].external_task_id",
            "set by this package",
        ),
        ("kling-3.0", {"external_task_id": "x"}, "extra_body.external_task_id", "set by this package"),
        (
            "kling-3.0",
            {"options": {"external_task_id": "x"}},
            "extra_body.options.external_task_id",
            "set by this",
        ),
        ("kling-v3", {"settings": {}}, "extra_body.settings", "new standard"),
        ("kling-v3", {"options": {}}, "extra_body.options", "new standard"),
        ("kling-v3", {"model_name": "kling-v1"}, "extra_body.model_name", "argument model"),
        ("kling-v3", {"image_tail": PICTURE}, "extra_body.image_tail", "argument last_image"),
        ("kling-v3", {"multi_shot": True}, "extra_body.multi_shot", "multi_prompt and shot_type"),
        ("kling-v3", {"resolution": "1080p"}, "extra_body.resolution", "argument mode"),
        ("kling-v3", {"audio": "native"}, "extra_body.audio", "argument sound"),
        ("kling-v3", {"duration": "5"}, "extra_body.duration", "argument duration"),
        ("kling-3.0", {"settings": {"resolution": "4k"}}, "extra_body.settings.resolution", "argument mode"),
        ("kling-3.0", {"settings": {"audio": "off"}}, "extra_body.settings.audio", "argument sound"),
        ("kling-3.0", {"settings": {"duration": 5}}, "extra_body.settings.duration", "argument duration"),
        ("kling-3.0", {"settings": {"multi_shot": "yes"}}, "extra_body.settings.multi_shot", "true or false"),
        ("kling-3.0", {"options": {"multi_shot": True}}, "extra_body.options.multi_shot", "inside settings"),
        ("kling-3.0", {"multi_shot": True}, "extra_body.multi_shot", "settings"),
        ("kling-3.0", {"contents": []}, "extra_body.contents", "argument prompt, image"),
        ("kling-3.0", {"seed": 5}, "extra_body.seed", "settings or options"),
        ("kling-3.0", {"settings": {"callback_url": "x"}}, "extra_body.settings.callback_url", "options"),
        ("kling-3.0", {"options": "x"}, "extra_body.options", "object"),
        (
            "kling-3.0",
            {"callback_url": "x", "options": {"callback_url": "y"}},
            "extra_body.options.callback_url",
            "give it once",
        ),
        ("kling-2.6", {"settings": {"multi_shot": True}}, "extra_body.settings.multi_shot", "one shot"),
    ],
)
def test_a_field_at_the_wrong_level_is_refused(model: str, extra: dict[str, Any], field: str, words: str) -> None:
    [problem] = with_api_key().check(request(model, extra_body=extra))
    assert problem.field == field
    assert words in problem.expected
