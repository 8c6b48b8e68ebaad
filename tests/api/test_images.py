# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.api.images import replace_images, stored_images
from airflow_provider_kling.api.request import VideoRequest

URL = "https://example.com/a.png"


def request(**arguments: Any) -> VideoRequest:
    return VideoRequest.build(**{"model": "kling-v3-std-silent", "prompt": "s3://bucket/prompt.png"} | arguments)


def test_each_image_has_its_place() -> None:
    video = request(
        image="s3://b/1.png",
        last_image="gs://b/2.png",
        element_list=[{"image": "s3://b/3.png", "n": 1}, "abfs://c/4.png", ["file:///5.png"], URL, None],
        extra_body={"a": {"b": [{"c": "s3://b/6.png"}]}, "d": URL, "x": "nope://b/7.png"},
    )
    assert stored_images(video) == {
        "image": "s3://b/1.png",
        "last_image": "gs://b/2.png",
        "element_list[0].image": "s3://b/3.png",
        "element_list[1]": "abfs://c/4.png",
        "element_list[2][0]": "file:///5.png",
        "extra_body.a.b[0].c": "s3://b/6.png",
    }
    replaced = replace_images(video, lambda place, uri: f"https://signed/{place}")
    assert replaced == video._replace(
        image="https://signed/image",
        last_image="https://signed/last_image",
        element_list=[
            {"image": "https://signed/element_list[0].image", "n": 1},
            "https://signed/element_list[1]",
            ["https://signed/element_list[2][0]"],
            URL,
            None,
        ],
        extra_body={
            "a": {"b": [{"c": "https://signed/extra_body.a.b[0].c"}]},
            "d": URL,
            "x": "nope://b/7.png",
        },
    )
    # The request itself is what is recorded.
    assert video.image == "s3://b/1.png"
    assert video.element_list is not None
    assert video.element_list[0]["image"] == "s3://b/3.png"


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"image": URL},
        {"prompt": None, "image": URL, "multi_prompt": ["s3://b/shot.png", {"prompt": "s3://b/shot.png"}]},
        {"negative_prompt": "s3://b/a.png"},
        {"extra_body": {"more": {"prompt": "s3://b/a.png", "negative_prompt": "s3://b/a.png"}}},
        {"extra_body": {"text": "see s3://b/a.png"}},
    ],
    ids=str,
)
def test_texts_and_urls_are_no_stored_images(arguments: dict[str, Any]) -> None:
    video = request(**arguments)
    assert stored_images(video) == {}
    assert replace_images(video, lambda place, uri: "?") == video


def test_any_depth_that_is_json_is_searched() -> None:
    deep: Any = "s3://b/a.png"
    for _ in range(400):
        deep = [deep]
    [uri] = stored_images(VideoRequest(model="m", extra_body={"deep": deep})).values()
    assert uri == "s3://b/a.png"
