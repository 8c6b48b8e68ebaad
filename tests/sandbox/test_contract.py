# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.sandbox.contract import ApiError, Shot, parse_request

TEXT = {"model": "kling-v3-std-silent", "prompt": "a traveler"}
IMAGE = {**TEXT, "image": "https://example.com/start.png"}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ([], "JSON object"),
        ({**TEXT, "extra_body": "x"}, "extra_body"),
        ({"prompt": "a"}, "model"),
        ({**TEXT, "model": "kling-v2"}, "kling-v3-pro-audio"),
        ({**TEXT, "model": ["kling-v3-std-silent"]}, "model"),
        ({**TEXT, "duration": 2}, "duration"),
        ({**TEXT, "duration": 16}, "duration"),
        ({**TEXT, "duration": 0}, "duration"),
        ({**TEXT, "duration": 5.0}, "duration"),
        ({**TEXT, "duration": "5"}, "duration"),
        ({**TEXT, "duration": True}, "duration"),
        ({**TEXT, "aspect_ratio": "4:3"}, "aspect_ratio"),
        ({**TEXT, "extra_body": {"shot_type": "single"}}, "shot_type"),
        ({**TEXT, "extra_body": {"cfg_scale": "0.5"}}, "cfg_scale"),
        ({**TEXT, "extra_body": {"negative_prompt": 1}}, "negative_prompt"),
        ({**TEXT, "extra_body": {"element_list": {}}}, "element_list"),
        ({**TEXT, "extra_body": {"multi_prompt": "a"}}, "multi_prompt"),
        ({**TEXT, "extra_body": {"multi_prompt": [{"duration": 2}]}}, "multi_prompt"),
        ({**TEXT, "extra_body": {"multi_prompt": [{"prompt": "a", "duration": "soon"}]}}, "multi_prompt"),
        ({**TEXT, "extra_body": {"multi_prompt": [{"prompt": "a", "duration": "nan"}]}}, "multi_prompt"),
        ({**TEXT, "prompt": 1}, "prompt"),
        ({**TEXT, "prompt": ""}, "prompt"),
        ({"model": "kling-v3-std-silent"}, "required"),
        ({**TEXT, "last_image": "https://example.com/end.png"}, "last_image needs image"),
        ({**IMAGE, "extra_body": {"multi_prompt": ["a", "b"]}}, "image mode"),
    ],
)
def test_what_the_vendor_refuses(body: Any, problem: str) -> None:
    with pytest.raises(ApiError, match=problem) as caught:
        parse_request(body)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(ApiError, match=r"model.*duration.*aspect_ratio.*image.*prompt"):
        parse_request({"duration": 99, "aspect_ratio": "2:1", "image": "file:///etc/passwd"})


@pytest.mark.parametrize(
    "url",
    [
        "start.png",
        "/data/start.png",
        "file:///data/start.png",
        "ftp://example.com/start.png",
        "data:image/png;base64,AAAA",
        "http://localhost/start.png",
        "http://localhost:8080/start.png",
        "http://intranet/start.png",
        "http://nas.local/start.png",
        "http://files.internal./start.png",
        "http://127.0.0.1/start.png",
        "http://127.1/start.png",
        "http://2130706433/start.png",
        "http://10.0.0.1/start.png",
        "http://192.168.1.2:9000/start.png",
        "http://169.254.169.254/latest",
        "http://[::1]/start.png",
        "http://[fe80::1]/start.png",
        "http://[broken/start.png",
        "https://",
        7,
    ],
)
def test_images_that_no_vendor_could_fetch(url: object) -> None:
    with pytest.raises(ApiError, match="image must be a public"):
        parse_request({**TEXT, "image": url})


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "http://8.8.8.8/a.png", "https://cdn.shop.de:444/a?b"]
)
def test_public_images_pass(url: str) -> None:
    assert parse_request({**TEXT, "image": url, "last_image": url}).last_image == url


def test_defaults() -> None:
    request = parse_request({**TEXT, "duration": None, "extra_body": None, "unheard_of": 1})
    assert (request.seconds, request.aspect_ratio, request.short_side, request.audio) == (5, "16:9", 720, False)
    assert request.shots == (Shot("a traveler", 5.0),)


def test_pro_audio() -> None:
    request = parse_request({**TEXT, "model": "kling-v3-pro-audio"})
    assert (request.short_side, request.audio) == (1080, True)


def test_shots_share_the_duration() -> None:
    shots = ["a", {"prompt": "b", "duration": "3"}, {"prompt": "c", "duration": 1}]
    request = parse_request({**IMAGE, "prompt": None, "duration": 10, "extra_body": {"multi_prompt": shots}})
    assert request.shots == (Shot("a", 2.0), Shot("b", 6.0), Shot("c", 2.0))


def test_text_mode_shows_the_main_prompt_with_each_shot() -> None:
    request = parse_request({**TEXT, "extra_body": {"multi_prompt": ["left", "right"]}})
    assert [shot.prompt for shot in request.shots] == ["a traveler\n\nleft", "a traveler\n\nright"]


def test_half_a_letter_is_made_drawable() -> None:
    assert parse_request({**TEXT, "prompt": "a \ud83d b"}).text == "a ? b"
