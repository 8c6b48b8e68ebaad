# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import io
from typing import Any

import pytest
from PIL import Image

URL = "https://example.com/a.png"
SHOTS = [{"index": 1, "prompt": "one", "duration": "2"}, {"index": 2, "prompt": "two", "duration": "3"}]
CUSTOM = {"prompt": None, "multi_shot": True, "shot_type": "customize", "multi_prompt": SHOTS}


def encoded(size: tuple[int, int] = (300, 300), kind: str = "PNG") -> str:
    data = io.BytesIO()
    Image.new("RGB", size).save(data, kind)
    return base64.b64encode(data.getvalue()).decode()


def refused(answer: Any, problem: str, status: int = 400, code: int = 1201) -> bool:
    body = answer.json()
    assert set(body) == {"code", "message", "request_id"}
    return (answer.status_code, body["code"]) == (status, code) and problem in body["message"]


class TestLegacy:
    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"model_name": None}, "model_name is required"),
            ({"prompt": None}, "prompt is required"),
            ({"prompt": 1}, "prompt must be a string"),
            ({"prompt": "a" * 2501}, "prompt must have at most 2500"),
            ({"negative_prompt": "a" * 2501}, "negative_prompt must have at most 2500"),
            ({"mode": "1080p"}, "mode must be one of std, pro, 4k"),
            ({"sound": True}, "sound must be one of on, off"),
            ({"duration": 5}, 'duration must be a string such as "5"'),
            ({"duration": "5.0"}, "duration must be a string"),
            ({"duration": "2"}, "duration 2 is not supported"),
            ({"duration": "16"}, "duration 16 is not supported"),
            ({"model_name": "kling-v2-6", "duration": "7"}, "duration 7 is not supported"),
            ({"aspect_ratio": "4:3"}, "aspect_ratio must be one of"),
            ({"cfg_scale": 1.1}, "cfg_scale must be a number from 0 to 1"),
            ({"cfg_scale": "0.5"}, "cfg_scale must be a number"),
            ({"model_name": "kling-v2-6", "cfg_scale": 0.5}, "cfg_scale is not supported"),
            ({"model_name": "kling-v2-6", "mode": "4k"}, "4k is not supported"),
            ({"model_name": "kling-v2-6", "sound": "on"}, "sound is not supported by kling-v2-6 in 720p"),
            ({"model_name": "kling-v2-5-turbo", "mode": "pro", "sound": "on"}, "sound is not supported"),
            ({"multi_shot": "true"}, "multi_shot must be true or false"),
            ({"shot_type": "customize"}, "shot_type is invalid when multi_shot is false"),
            ({"multi_prompt": SHOTS}, "multi_prompt is invalid when multi_shot is false"),
            ({"multi_shot": True}, "shot_type is required"),
            ({"multi_shot": True, "shot_type": "intelligent"}, "customize, intelligence"),
            ({"multi_shot": True, "shot_type": "intelligence", "prompt": ""}, "prompt is required"),
            ({"multi_shot": True, "shot_type": "customize", "multi_prompt": SHOTS}, "prompt is invalid"),
            ({**CUSTOM, "multi_prompt": None}, "1 to 6 shots"),
            ({**CUSTOM, "multi_prompt": SHOTS * 4}, "1 to 6 shots"),
            ({**CUSTOM, "multi_prompt": SHOTS[::-1]}, "multi_prompt[0].index must be 1"),
            ({**CUSTOM, "multi_prompt": [{**SHOTS[0], "duration": 2}]}, "multi_prompt[0].duration"),
            ({**CUSTOM, "multi_prompt": [{**SHOTS[0], "prompt": "a" * 513}]}, "at most 512"),
            ({**CUSTOM, "duration": "6"}, "the sum 6"),
            ({"model_name": "kling-v2-6", "multi_shot": True, "shot_type": "intelligence"}, "multi_shot is not"),
            ({"watermark_info": True}, "watermark_info must be an object"),
            ({"watermark_info": {"enabled": "yes"}}, "watermark_info.enabled must be true or false"),
            ({"external_task_id": 7}, "external_task_id must be a string"),
            ({"callback_url": 7}, "callback_url must be a string"),
        ],
    )
    def test_what_is_refused(self, caller: Any, fields: dict[str, Any], problem: str) -> None:
        answer = caller.legacy(**fields)
        assert refused(answer, problem), answer.text
        assert caller.sandbox.ledger() == []

    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"image": None}, "image is required"),
            ({"image": None, "image_tail": URL}, "image is required"),
            ({"image": "http://127.0.0.1/a.png"}, "image must be a public"),
            ({"image": "https://example.com/page.html"}, "Image format is invalid"),
            ({"image": f"data:image/png;base64,{encoded()}"}, "remove the data: prefix"),
            ({"image": "a.png"}, "image is neither a URL nor base64"),
            ({"image": base64.b64encode(b"text").decode()}, "Image format is invalid"),
            ({"image": encoded(kind="GIF")}, "Image format is invalid"),
            ({"image": encoded((299, 300))}, "at least 300 pixels"),
            ({"image": encoded((300, 751))}, "ratio of 1:2.5 to 2.5:1"),
            ({"image": base64.b64encode(bytes(10 * 2**20 + 1)).decode()}, "at most 10 MB"),
            ({"element_list": [{"element_id": n} for n in range(4)]}, "at most 3"),
            ({"element_list": [1]}, "element_list must be an array of objects"),
            ({"model_name": "kling-v2-6", "element_list": [{"element_id": 1}]}, "elements are not supported"),
            ({"model_name": "kling-v2-5-turbo", "image_tail": URL}, "last frame is not supported"),
            (
                {"model_name": "kling-v2-6", "image_tail": URL, "mode": "pro", "sound": "on"},
                "last frame is not supported by kling-v2-6 with sound",
            ),
        ],
    )
    def test_which_images_are_refused(self, caller: Any, fields: dict[str, Any], problem: str) -> None:
        answer = caller.image(**fields)
        assert refused(answer, problem), answer.text

    def test_a_model_that_does_not_exist(self, caller: Any) -> None:
        assert refused(caller.legacy(model_name="kling-v1"), "kling-v1 is not supported", 404, 1203)

    @pytest.mark.parametrize(
        ("body", "kind"), [(b"{", "application/json"), (b"[]", "application/json"), (b"{}", "text/plain")]
    )
    def test_a_body_that_is_no_object(self, caller: Any, body: bytes, kind: str) -> None:
        answer = caller.post("/v1/videos/text2video", None, data=body, headers={"Content-Type": kind})
        assert refused(answer, "")

    def test_defaults(self, caller: Any) -> None:
        caller.task()
        assert caller.effective() == {
            "path": "/v1/videos/text2video",
            "model": "kling-v3",
            "resolution": "720p",
            "audio": False,
            "seconds": 5,
            "multi_shot": False,
            "aspect_ratio": "16:9",
            "external_id": "",
            "watermark": False,
            "units": "3",
        }

    @pytest.mark.parametrize(
        ("fields", "made"),
        [
            ({"mode": "pro", "sound": "on", "duration": "10"}, {"resolution": "1080p", "units": "12"}),
            ({"mode": "std", "sound": "on", "duration": "3"}, {"audio": True, "units": "2.7"}),
            ({"model_name": "kling-v2-5-turbo", "mode": "pro"}, {"resolution": "1080p", "units": "2.5"}),
            (CUSTOM, {"multi_shot": True}),
            ({"multi_shot": True, "shot_type": "intelligence"}, {"multi_shot": True}),
            ({"cfg_scale": 0, "negative_prompt": "rain", "unheard_of": 1}, {"units": "3"}),
        ],
    )
    def test_what_is_made(self, caller: Any, fields: dict[str, Any], made: dict[str, Any]) -> None:
        caller.task(**fields)
        assert made.items() <= caller.effective().items()

    def test_the_ratio_of_an_image_counts(self, caller: Any) -> None:
        assert caller.image(aspect_ratio="9:16", image_tail=URL).status_code == 200
        assert caller.effective()["aspect_ratio"] is None

    def test_an_image_in_the_request_is_the_first_frame(self, caller: Any) -> None:
        task_id = caller.image(image=encoded((400, 300)), duration="3").json()["data"]["task_id"]
        video = caller.session.get(f"{caller.sandbox.base_url}/files/{task_id}.mp4", timeout=20)
        assert video.content[4:8] == b"ftyp"


class TestNew:
    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"prompt": ""}, "prompt is required"),
            ({"prompt": "a" * 3073}, "at most 3072"),
            ({"settings": []}, "settings must be an object"),
            ({"options": "x"}, "options must be an object"),
            ({"settings": {"duration": "5"}}, "settings.duration must be an integer"),
            ({"settings": {"duration": True}}, "settings.duration must be an integer"),
            ({"settings": {"duration": 16}}, "duration 16 is not supported"),
            ({"settings": {"resolution": "std"}}, "settings.resolution must be one of 720p"),
            ({"settings": {"audio": True}}, "settings.audio must be one of native, off"),
            ({"settings": {"multi_shot": "false"}}, "settings.multi_shot must be true or false"),
            ({"settings": {"aspect_ratio": "4:3"}}, "settings.aspect_ratio"),
            ({"options": {"external_task_id": 1}}, "options.external_task_id must be a string"),
            ({"model": "kling-3.0-turbo", "settings": {"resolution": "4k"}}, "4k is not supported"),
            ({"model": "kling-2.6", "settings": {"audio": "native"}}, "sound is not supported"),
            ({"model": "kling-2.5-turbo", "settings": {"multi_shot": True}}, "multi_shot is not supported"),
            ({"model": "kling-2.5-turbo", "settings": {"duration": 7}}, "only 5, 10"),
        ],
    )
    def test_what_is_refused(self, caller: Any, fields: dict[str, Any], problem: str) -> None:
        answer = caller.new(**fields)
        assert refused(answer, problem), answer.text
        assert caller.sandbox.ledger() == []

    def test_a_model_that_does_not_exist(self, caller: Any) -> None:
        assert refused(caller.new("kling-v3"), "kling-v3", 404, 1203)

    @pytest.mark.parametrize(
        ("part", "problem"),
        [
            ({"type": "text"}, "contents[1].type"),
            ({"type": "prompt", "text": "a" * 3073}, "at most 3072"),
            ({"type": "last_frame"}, "contents[1].url is required"),
            ({"type": "element"}, "contents[1].element_id is required"),
            ("a prompt", "contents[1] must be an object"),
        ],
    )
    def test_which_contents_are_refused(self, caller: Any, part: Any, problem: str) -> None:
        answer = caller.new_image(part)
        assert refused(answer, problem), answer.text

    def test_a_last_frame_needs_the_first(self, caller: Any) -> None:
        for contents in ([{"type": "last_frame", "url": URL}], "a.png", None):
            answer = caller.post("/image-to-video/kling-3.0", {"contents": contents})
            assert refused(answer, "contents must"), answer.text

    def test_a_turbo_model_takes_a_first_frame_only_and_always_has_sound(self, caller: Any) -> None:
        last = {"type": "last_frame", "url": URL}
        assert refused(caller.new_image(last, model="kling-3.0-turbo"), "last frame is not supported")
        assert caller.new_image(model="kling-3.0-turbo", settings={"audio": "off"}).ok
        assert (caller.effective()["audio"], caller.effective()["units"]) == (True, "4")

    def test_several_shots_are_the_default(self, caller: Any) -> None:
        made = []
        for settings in ({}, {"multi_shot": False}, {"multi_shot": True}):
            assert caller.new(settings=settings).ok
            made.append(caller.effective()["multi_shot"])
        assert caller.new("kling-2.6").ok
        assert [*made, caller.effective()["multi_shot"]] == [True, False, True, False]

    def test_fields_at_the_wrong_level_do_nothing(self, caller: Any) -> None:
        answer = caller.new(
            external_task_id="x",
            duration=10,
            negative_prompt="rain",
            mode="pro",
            settings={"external_task_id": "x", "prompt": "b"},
        )
        assert (answer.status_code, answer.json()["data"]["external_id"]) == (200, "")
        made = caller.effective()
        assert (made["external_id"], made["seconds"], made["resolution"]) == ("", 5, "720p")

    def test_what_is_made(self, caller: Any) -> None:
        caller.new_image(
            {"type": "prompt", "text": "a paper boat"},
            {"type": "last_frame", "url": URL},
            {"type": "element", "element_id": 1, "id": "boat"},
            settings={"resolution": "1080p", "audio": "native", "duration": 10, "multi_shot": False},
            options={"external_task_id": "x", "watermark_info": {"enabled": True}},
        )
        assert caller.effective() == {
            "path": "/image-to-video/kling-3.0",
            "model": "kling-3.0",
            "resolution": "1080p",
            "audio": True,
            "seconds": 10,
            "multi_shot": False,
            "aspect_ratio": None,
            "external_id": "x",
            "watermark": True,
            "units": "12",
        }
        assert caller.sandbox.jobs()[0]["prompt"] == "a paper boat"
