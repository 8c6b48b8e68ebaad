# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.api.gateway.payload import model_name, payload_of
from airflow_provider_kling.api.models import SHOT_TYPES
from airflow_provider_kling.api.request import (
    ASPECT_RATIOS,
    MODELS,
    REQUEST_FIELDS,
    VideoRequest,
    find_problems,
)
from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.sandbox.contract import parse_request
from airflow_provider_kling.utils.addresses import unreachable_reason

GOOD: dict[str, Any] = {"model": "kling-v3-std-silent", "prompt": "A traveler in desert ruins"}
IMAGE = "https://example.com/start-frame.png"
SHOTS = [{"prompt": "A door opens", "duration": 2}, {"prompt": "A cat walks in", "duration": 3}]


def refusal(**arguments: Any) -> str:
    with pytest.raises(KlingValidationError) as caught:
        VideoRequest.build(**arguments)
    return str(caught.value)


class TestTheVendorsSamples:
    """The three requests of the vendor's page, from arguments to the exact JSON."""

    TEXT: dict[str, Any] = {
        "model": "kling-v3-std-silent",
        "prompt": "A wide cinematic shot of a traveler walking through dusty desert ruins, cloak moving in the "
        "wind, slow pullback, natural motion.",
        "aspect_ratio": "16:9",
        "duration": 5,
        "extra_body": {"cfg_scale": 0.5, "shot_type": "customize", "negative_prompt": "blur, low detail"},
    }
    IMAGE: dict[str, Any] = {
        "model": "kling-v3-pro-audio",
        "prompt": "The person writes naturally in a notebook, subtle hand detail, small thoughtful pauses, "
        "soft classroom depth of field.",
        "image": "https://example.com/start-frame.png",
        "aspect_ratio": "16:9",
        "duration": 6,
        "extra_body": {"cfg_scale": 0.6, "shot_type": "intelligent", "negative_prompt": "artifacts, distortion"},
    }
    FRAMES: dict[str, Any] = {
        "model": "kling-v3-pro-silent",
        "prompt": "The portrait subject slowly turns toward the camera while keeping identity stable and motion "
        "natural.",
        "image": "https://example.com/first-frame.png",
        "last_image": "https://example.com/last-frame.png",
        "duration": 8,
    }

    @pytest.mark.parametrize("sample", [TEXT, IMAGE, FRAMES], ids=["text", "image", "frames"])
    def test_flat_arguments_make_the_sample(self, sample: dict[str, Any]) -> None:
        flat = {**sample, **sample.get("extra_body", {})}
        flat.pop("extra_body", None)
        assert payload_of(VideoRequest.build(**flat)) == sample

    @pytest.mark.parametrize("sample", [TEXT, IMAGE, FRAMES], ids=["text", "image", "frames"])
    def test_the_sample_itself_makes_the_sample(self, sample: dict[str, Any]) -> None:
        assert payload_of(VideoRequest.build(**sample)) == sample


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("given", "nearest"),
        [
            ("kling-v3-std-silnt", "did you mean kling-v3-std-silent"),
            ("kling-v3-std", "kling-v3-std-silent"),
            ("KLING-V3-PRO-AUDIO", "must be one of"),
            ("sora", "must be one of kling-v3-std-silent, kling-v3-std-audio, kling-v3-pro-silent"),
            (5, "must be one of"),
            (["kling-v3-std-silent"], "must be one of"),
        ],
    )
    def test_an_unknown_model(self, given: Any, nearest: str) -> None:
        message = refusal(**GOOD | {"model": given})
        assert f"model={given!r}" in message
        assert nearest in message

    @pytest.mark.parametrize("given", [None, ""])
    def test_no_model(self, given: str | None) -> None:
        assert "model=None: is required; one of kling-v3-std-silent" in refusal(**GOOD | {"model": given})

    @pytest.mark.parametrize(
        "given", [2, 16, 0, -5, 5.5, "5.5", "five", "5 s", True, [5], {"s": 5}, 10**400, math.nan, math.inf, "nan"]
    )
    def test_a_duration_that_is_not_3_to_15_whole_seconds(self, given: Any) -> None:
        message = refusal(**GOOD, duration=given)
        assert f"duration={given!r}"[:100] in message
        assert "must be a whole number of seconds from 3 to 15" in message

    @pytest.mark.parametrize("given", ["4:3", "16x9", "16:10", 1, ["16:9"]])
    def test_an_unknown_aspect_ratio(self, given: Any) -> None:
        message = refusal(**GOOD, aspect_ratio=given)
        assert f"aspect_ratio={given!r}" in message
        assert "must be one of 16:9, 9:16, 1:1" in message

    @pytest.mark.parametrize("given", ["custom", "wide", 3])
    def test_an_unknown_shot_type(self, given: Any) -> None:
        message = refusal(**GOOD, shot_type=given)
        assert f"shot_type={given!r}" in message
        assert "must be one of customize, intelligent" in message

    def test_a_last_image_without_image(self) -> None:
        assert f"last_image={IMAGE!r}: needs image too" in refusal(**GOOD, last_image=IMAGE)

    @pytest.mark.parametrize("nothing", [{}, {"prompt": ""}, {"multi_prompt": []}, {"multi_prompt": "[]"}])
    def test_neither_prompt_nor_shots(self, nothing: dict[str, Any]) -> None:
        message = refusal(model=MODELS[0], **nothing)
        assert "prompt=None: give a prompt, or multi_prompt with the prompt of each shot" in message

    def test_a_blank_prompt(self) -> None:
        assert "prompt='  ': must not be blank" in refusal(**GOOD | {"prompt": "  "})

    def test_prompt_together_with_shots_in_image_mode(self) -> None:
        message = refusal(**GOOD, image=IMAGE, multi_prompt=SHOTS)
        assert "multi_prompt=[" in message
        assert "excludes prompt in image mode; give one of the two" in message

    @pytest.mark.parametrize("name", ["prompt", "negative_prompt", "image", "last_image"])
    @pytest.mark.parametrize("given", [5, ["text"], {"text": "text"}, True])
    def test_a_text_that_is_none(self, name: str, given: Any) -> None:
        message = refusal(**{"model": MODELS[0], "prompt": "x", "image": IMAGE, name: given})
        assert f"{name}={given!r}: must be a string" in message

    @pytest.mark.parametrize("name", ["multi_prompt", "element_list"])
    @pytest.mark.parametrize("given", [5, "one, two", "{}", {"prompt": "x"}, True])
    def test_a_list_that_is_none(self, name: str, given: Any) -> None:
        assert f"{name}=" in (message := refusal(**{**GOOD, name: given}))
        assert "must be a list" in message

    @pytest.mark.parametrize("given", ["much", True, [0.5], math.nan, math.inf])
    def test_a_cfg_scale_that_is_no_number(self, given: Any) -> None:
        message = refusal(**GOOD, cfg_scale=given)
        assert f"cfg_scale={given!r}: must be a number, usually 0 to 1" in message

    @pytest.mark.parametrize("given", ["text", "[1]", 5, [1]])
    def test_an_extra_body_that_is_no_object(self, given: Any) -> None:
        assert "must be an object (dict)" in refusal(**GOOD, extra_body=given)

    @pytest.mark.parametrize("given", [{"when": {1, 2}}, {"x": object()}, {"x": math.nan}, {"x": [math.inf]}])
    def test_an_extra_body_that_no_json_can_carry(self, given: Any) -> None:
        assert "extra_body=" in (message := refusal(**GOOD, extra_body=given))
        assert "must be plain JSON" in message

    @pytest.mark.parametrize("name", ["multi_prompt", "element_list"])
    def test_a_list_that_no_json_can_carry(self, name: str) -> None:
        assert "must be plain JSON" in refusal(**{**GOOD, name: [{1, 2}]})

    def test_an_argument_that_is_no_field(self) -> None:
        assert "seed=7: is not a field of the API" in refusal(**GOOD, seed=7)

    def test_a_payload_with_a_field_that_is_none(self) -> None:
        with pytest.raises(KlingValidationError, match="durration=5: is not a field of the API"):
            VideoRequest.build(**{**GOOD, "durration": 5})

    def test_all_problems_are_reported_at_once(self) -> None:
        message = refusal(
            model="kling-v9",
            duration=99,
            aspect_ratio="2:1",
            shot_type="wide",
            last_image="file:///frame.png",
            cfg_scale="x",
        )
        for name in ("model", "duration", "aspect_ratio", "shot_type", "last_image", "cfg_scale", "prompt"):
            assert f"\n  - {name}=" in message
        assert "Nothing was submitted or billed" in message


class TestWhatATemplateDidNotFind:
    """``{{ ti.xcom_pull(task_ids='typo') }}`` renders a word that would be made a video of."""

    @pytest.mark.parametrize("word", ["None", "null", "undefined", " None\n"])
    @pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
    def test_is_no_text(self, name: str, word: str) -> None:
        message = refusal(**GOOD | {name: word})
        assert f"{name}={word!r}: " in message
        assert "its template found nothing" in message

    @pytest.mark.parametrize(
        "shots",
        [
            [{"prompt": "A door opens"}, {"prompt": "None"}],
            ["A door opens", "null"],
            '[{"prompt": "A door opens"}, {"prompt": "undefined"}]',
            "['A door opens', None]",
        ],
    )
    def test_is_no_text_of_a_shot(self, shots: Any) -> None:
        message = refusal(model=GOOD["model"], multi_prompt=shots)
        assert "multi_prompt[1]=" in message
        assert "its template found nothing" in message

    def test_is_no_text_by_way_of_extra_body(self) -> None:
        assert "negative_prompt='None': " in refusal(**GOOD, extra_body={"negative_prompt": "None"})

    @pytest.mark.parametrize("name", ["negative_prompt", "image", "aspect_ratio", "cfg_scale", "multi_prompt"])
    @pytest.mark.parametrize("nothing", ["", None])
    def test_is_absent_if_it_renders_empty(self, name: str, nothing: str | None) -> None:
        assert payload_of(VideoRequest.build(**GOOD, **{name: nothing})) == GOOD

    @pytest.mark.parametrize("prompt", ["None of them looks up", "nullify", "none", "An undefined shape"])
    def test_is_distinguished_from_a_prompt_with_that_word(self, prompt: str) -> None:
        assert VideoRequest.build(**GOOD | {"prompt": prompt}).prompt == prompt


class TestImagesThatTheVendorCannotFetch:
    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("http://127.0.0.1/a.png", "a loopback address"),
            ("http://127.1/a.png", "a loopback address"),
            ("http://2130706433/a.png", "a loopback address"),
            ("http://0x7f000001/a.png", "a loopback address"),
            ("http://0177.0.0.1/a.png", "a loopback address"),
            ("http://127.0.0.1./a.png", "a loopback address"),
            ("http://[::1]/a.png", "a loopback address"),
            ("http://[::ffff:127.0.0.1]/a.png", "a loopback address"),
            ("http://localhost:8080/a.png", "a loopback name"),
            ("http://LOCALHOST/a.png", "a loopback name"),
            ("http://media.localhost/a.png", "a loopback name"),
            ("http://10.0.0.1/a.png", "a private or reserved address"),
            ("http://172.16.4.4/a.png", "a private or reserved address"),
            ("http://192.168.1.10/a.png", "a private or reserved address"),
            ("http://user:pw@192.168.1.10:8000/a.png", "a private or reserved address"),
            ("http://0.0.0.0/a.png", "a private or reserved address"),
            ("http://100.64.0.1/a.png", "a private or reserved address"),
            ("http://224.0.0.1/a.png", "a private or reserved address"),
            ("http://[fd00::1]/a.png", "a private or reserved address"),
            ("http://[ff0e::1]/a.png", "a private or reserved address"),
            ("http://[2002:7f00:1::]/a.png", "a loopback address"),
            ("http://[2002:a00:1::]/a.png", "a private or reserved address"),
            ("http://[64:ff9b::a9fe:a9fe]/a.png", "a link-local address"),
            ("http://[64:ff9b:1::1]/a.png", "a private or reserved address"),
            ("http://[::7f00:1]/a.png", "a loopback address"),
            ("http://[2001:0:7f00:1::]/a.png", "a loopback address"),  # Teredo, its server
            (
                "http://[2001:0:5db8:d822::f5ff:fffe]/a.png",
                "a private or reserved address",
            ),  # its client: 10.0.0.1
            ("http://[2001:db8::1]/a.png", "a private or reserved address"),
            ("http://[2001:2::1]/a.png", "a private or reserved address"),
            ("http://[3fff::1]/a.png", "a private or reserved address"),
            ("http://[fd00:ec2::254]/a.png", "a private or reserved address"),
            ("http://168.63.129.16/a.png", "a private or reserved address"),
            ("http://192.0.0.192/a.png", "a private or reserved address"),
            ("http://192.0.0.9/a.png", "a private or reserved address"),
            ("http://100.100.100.200/a.png", "a private or reserved address"),
            ("http://192.88.99.1/a.png", "a private or reserved address"),
            ("http://198.18.0.1/a.png", "a private or reserved address"),
            ("http://255.255.255.255/a.png", "a private or reserved address"),
            ("http://[::ffff:0:7f00:1]/a.png", "a private or reserved address"),
            ("http://[fec0::1]/a.png", "a private or reserved address"),
            ("http://169.254.169.254/latest/meta-data", "a link-local address"),
            ("http://[fe80::1%25eth0]/a.png", "a link-local address"),
            ("http://nas/a.png", "a name of a private network"),
            ("http://nas.local/a.png", "a name of a private network"),
            ("http://metadata.google.internal/a.png", "a name of a private network"),
            ("file://tmp/a.png", "is not absolute"),
            ("file:///", "names no object"),
            ("file:///tmp/", "is a folder"),
            ("ftp://example.com/a.png", "must be a public http(s) URL"),
            ("data:image/png;base64,AAAA", "must be a public http(s) URL"),
            ("s3://", "names no object"),
            ("s3://bucket", "names no object"),
            ("s3://conn@bucket/", "names no object"),
            ("s3://conn@bucket/folder/", "is a folder"),
            ("nope://bucket/a.png", "must be a public http(s) URL"),
            ("/tmp/a.png", "must be a public http(s) URL"),  # noqa: S108
            ("a.png", "must be a public http(s) URL"),
            ("C:\\frames\\a.png", "must be a public http(s) URL"),
            ("//example.com/a.png", "must be a public http(s) URL"),
            ("http:///a.png", "has no host"),
            ("https://", "has no host"),
            ("http://[::1", "is not a URL"),
        ],
    )
    @pytest.mark.parametrize("name", ["image", "last_image"])
    def test_the_reason_is_reported(self, name: str, url: str, reason: str) -> None:
        message = refusal(**GOOD | {"image": IMAGE} | {name: url})
        assert f"{name}={url!r}: " in message
        assert reason in message

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.com/a.png",
            "http://example.com/a.png",
            "HTTPS://EXAMPLE.COM/A.PNG",
            "https://example.com:8443/a.png?signature=x#top",
            "https://93.184.216.34/a.png",
            "https://[2606:2800:220:1:248:1893:25c8:1946]/a.png",
            "https://[64:ff9b::93.184.216.34]/a.png",
            "https://[2002:5db8:d822::1]/a.png",
            "https://mein-bücher.example/ä.png",
            "https://256.1.1.1.example/a.png",
            "https://localhost.example.com/a.png",
        ],
    )
    def test_what_it_can_fetch_is_let_through(self, url: str) -> None:
        assert unreachable_reason(url) is None

    @pytest.mark.parametrize(
        "uri",
        [
            "s3://bucket/a.png",
            "S3://conn@bucket/folder/a b.png",
            "gs://conn@bucket/a.png",
            "abfs://conn@container/a.png",
            "file:///tmp/a.png",
            "memory://folder/a.png",
            "sftp://conn@/a.png",
        ],
    )
    @pytest.mark.parametrize("name", ["image", "last_image"])
    def test_an_object_in_a_store_is_let_through(self, name: str, uri: str) -> None:
        assert getattr(VideoRequest.build(**GOOD | {"image": IMAGE} | {name: uri}), name) == uri

    @given(
        st.text()
        | st.builds("http://{}".format, st.text())
        | st.builds("https://[{}]:{}".format, st.text(), st.text())
    )
    def test_no_text_at_all_breaks_the_check(self, url: str) -> None:
        reason = unreachable_reason(url)
        assert reason is None or reason.startswith(("is ", "has ", "must "))


class TestRenderedTemplates:
    """Templates render to text; text that spells a value is taken as that value."""

    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("duration", "5", 5),
            ("duration", " 5 ", 5),
            ("duration", "5.0", 5),
            ("duration", 5.0, 5),
            ("cfg_scale", "0.5", 0.5),
            ("cfg_scale", 1, 1.0),
            ("multi_prompt", json.dumps(SHOTS), SHOTS),
            ("multi_prompt", tuple(SHOTS), SHOTS),
            ("element_list", "[1]", [1]),
            ("extra_body", '{"seed": 7}', {"seed": 7}),
        ],
    )
    def test_a_spelling_becomes_the_value(self, name: str, text: Any, value: Any) -> None:
        built = getattr(VideoRequest.build(**GOOD, **{name: text}), name)
        assert built == value
        assert type(built) is type(value)

    @pytest.mark.parametrize("name", sorted(set(REQUEST_FIELDS) - {"model", "prompt"}))
    @pytest.mark.parametrize("nothing", ["", None])
    def test_nothing_means_absent(self, name: str, nothing: str | None) -> None:
        assert payload_of(VideoRequest.build(**GOOD, **{name: nothing})) == GOOD

    def test_python_text_of_a_list_is_understood(self) -> None:
        assert VideoRequest.build(**GOOD, multi_prompt=str(SHOTS)).multi_prompt == SHOTS

    def test_python_text_of_a_dict_is_understood(self) -> None:
        assert VideoRequest.build(**GOOD, extra_body="{'seed': None, 'fast': True}").extra_body == {
            "seed": None,
            "fast": True,
        }


class TestExtraBody:
    def test_what_the_vendor_adds_tomorrow_passes_through(self) -> None:
        request = VideoRequest.build(**GOOD, cfg_scale=0.4, extra_body={"camera": {"zoom": 2}, "seed": 7})
        assert payload_of(request)["extra_body"] == {"camera": {"zoom": 2}, "seed": 7, "cfg_scale": 0.4}

    def test_a_known_field_in_it_is_checked_like_an_argument(self) -> None:
        assert "shot_type='wide'" in refusal(**GOOD, extra_body={"shot_type": "wide"})

    def test_a_known_field_in_it_goes_to_its_own_place(self) -> None:
        payload = payload_of(VideoRequest.build(**GOOD, extra_body={"duration": 5, "cfg_scale": 0.4}))
        assert payload == {**GOOD, "duration": 5, "extra_body": {"cfg_scale": 0.4}}

    def test_the_same_value_twice_is_fine(self) -> None:
        request = VideoRequest.build(**GOOD, shot_type="customize", extra_body={"shot_type": "customize"})
        assert payload_of(request)["extra_body"] == {"shot_type": "customize"}

    @pytest.mark.parametrize(("one", "other"), [("5", 5), (5, "5"), (5.0, 5)])
    def test_the_same_value_in_two_spellings_is_fine(self, one: Any, other: Any) -> None:
        assert VideoRequest.build(**GOOD, duration=one, extra_body={"duration": other}).duration == 5

    def test_two_values_for_one_field_are_an_error(self) -> None:
        message = refusal(**GOOD, cfg_scale=0.4, extra_body={"cfg_scale": 0.9})
        assert "extra_body.cfg_scale=0.9: differs from the argument cfg_scale=0.4; give it once" in message

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_nothing_in_it_does_not_fight_an_argument(self, nothing: str | None) -> None:
        assert VideoRequest.build(**GOOD, cfg_scale=0.4, extra_body={"cfg_scale": nothing}).cfg_scale == 0.4

    def test_a_null_that_the_vendor_may_understand_passes_through(self) -> None:
        request = VideoRequest.build(**GOOD, extra_body={"seed": None})
        assert payload_of(request)["extra_body"] == {"seed": None}

    def test_an_extra_body_within_it_passes_through(self) -> None:
        assert payload_of(VideoRequest.build(**GOOD, extra_body={"extra_body": 1}))["extra_body"] == {
            "extra_body": 1
        }


class TestWhatIsNotKnownYet:
    """What the check of a DAG file can say while some values are templates."""

    def test_a_missing_model_may_still_come(self) -> None:
        assert find_problems({"prompt": "x"}, unknown=["model"]) == []

    @pytest.mark.parametrize("unknown", ["prompt", "multi_prompt", "extra_body"])
    def test_a_missing_prompt_may_still_come(self, unknown: str) -> None:
        assert find_problems({"model": MODELS[0]}, unknown=[unknown]) == []

    @pytest.mark.parametrize("unknown", ["image", "extra_body"])
    def test_a_missing_image_may_still_come(self, unknown: str) -> None:
        assert find_problems({**GOOD, "last_image": IMAGE}, unknown=[unknown]) == []

    def test_known_problems_are_reported_all_the_same(self) -> None:
        problems = find_problems({"duration": 99, "image": "a.png"}, unknown=["model", "prompt", "extra_body"])
        assert {problem.field for problem in problems} == {"duration", "image"}


class TestWarnings:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"image": IMAGE, "aspect_ratio": "1:1"}, "aspect_ratio='1:1' may not be honoured"),
            ({"prompt": "x" * 2501}, "prompt has 2501 characters"),
            ({"negative_prompt": "x" * 2501}, "negative_prompt has 2501 characters"),
            ({"cfg_scale": 1.5}, "cfg_scale=1.5 is outside 0 to 1"),
            ({"cfg_scale": -0.1}, "cfg_scale=-0.1 is outside 0 to 1"),
            ({"element_list": [1, 2, 3, 4]}, "element_list has 4 elements"),
            ({"multi_prompt": SHOTS}, "multi_prompt is documented for image mode only"),
            ({"multi_prompt": ["x"] * 7}, "multi_prompt has 7 shots"),
            ({"multi_prompt": [{"prompt": "x", "duration": 0.5}]}, "shorter than 1 second"),
            ({"multi_prompt": SHOTS, "duration": 8}, "last 5 seconds together, not duration=8"),
        ],
    )
    def test_past_an_official_limit_is_warned_of_and_sent(self, arguments: dict[str, Any], words: str) -> None:
        request = VideoRequest.build(**GOOD | arguments)
        assert any(words in warning for warning in request.warnings())
        parse_request(payload_of(request))

    @pytest.mark.parametrize(
        "arguments",
        [
            {},
            {"aspect_ratio": "9:16", "duration": 15, "cfg_scale": 1, "prompt": "x" * 2500},
            {"image": IMAGE, "last_image": IMAGE, "element_list": [1, 2, 3]},
            {"image": IMAGE, "prompt": None, "multi_prompt": SHOTS, "duration": 5},
            {"image": IMAGE, "prompt": None, "multi_prompt": ["one", "two"], "duration": 5},
        ],
    )
    def test_what_the_vendor_honours_is_not_warned_of(self, arguments: dict[str, Any]) -> None:
        assert list(VideoRequest.build(**GOOD | arguments).warnings()) == []


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GARBAGE = JSON | st.sampled_from(
    [*MODELS, *ASPECT_RATIOS, *SHOT_TYPES, IMAGE, "5", "[1]", '{"a": 1}', 10**5000, b"x", {1}, object()]
)
SHOT = st.text(max_size=20) | st.fixed_dictionaries(
    {"prompt": st.text(max_size=20)}, optional={"duration": st.integers(1, 15) | st.floats(0.5, 15)}
)
PLAUSIBLE = st.fixed_dictionaries(
    {"model": st.sampled_from(MODELS)},
    optional={
        "prompt": st.text(),
        "mode": st.sampled_from(["std", "pro", "4k", "hd"]),
        "sound": st.booleans() | st.sampled_from(["on", "Off", "loud"]),
        "image": st.sampled_from([IMAGE, "http://10.0.0.1/a.png", "https://example.org/b.jpg"]),
        "last_image": st.sampled_from([IMAGE, "ftp://example.com/a.png"]),
        "aspect_ratio": st.sampled_from([*ASPECT_RATIOS, "4:3"]),
        "duration": st.integers(2, 16) | st.integers(3, 15).map(str) | st.floats(3, 15),
        "negative_prompt": st.text(),
        "cfg_scale": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2, 2).map(str),
        "multi_prompt": st.lists(SHOT, max_size=8) | st.lists(SHOT, max_size=3).map(json.dumps),
        "element_list": st.lists(JSON, max_size=4),
        "shot_type": st.sampled_from([*SHOT_TYPES, "wide"]),
        # Not multi_prompt: what a shot looks like, the vendor's page does not say, so any list is let through.
        "extra_body": st.dictionaries(
            st.text() | st.sampled_from([name for name in REQUEST_FIELDS if name != "multi_prompt"]),
            JSON,
            max_size=3,
        ),
    },
)


@given(PLAUSIBLE)
@example({"model": MODELS[0], "prompt": "\ud800"})
def test_whatever_is_accepted_is_valid_json_that_the_server_accepts(arguments: dict[str, Any]) -> None:
    try:
        request = VideoRequest.build(**arguments)
    except KlingValidationError:
        return
    if model_name(request) is None:
        return  # the gateway's own check refuses it
    payload = payload_of(request)
    parse_request(json.loads(json.dumps(payload, allow_nan=False)))
    assert payload_of(VideoRequest.build(**payload)) == payload
    assert all(isinstance(warning, str) for warning in request.warnings())


@given(st.dictionaries(st.sampled_from(REQUEST_FIELDS), GARBAGE))
@example({"model": "kling-v2-6", "prompt": "A model that gateways do not have"})
def test_garbage_builds_or_is_refused_by_name_and_nothing_else(arguments: dict[str, Any]) -> None:
    try:
        request = VideoRequest.build(**arguments)
    except KlingValidationError as error:
        assert error.http_status is None
        assert any(f"{name}=" in str(error) or f"{name}[" in str(error) for name in REQUEST_FIELDS)
    else:
        if model_name(request) is not None:  # the gateway's own check refuses the others
            json.dumps(payload_of(request), allow_nan=False)
        assert list(request.warnings()) is not None


@given(st.dictionaries(st.sampled_from(REQUEST_FIELDS), GARBAGE), st.sets(st.sampled_from(REQUEST_FIELDS)))
def test_what_a_dag_file_is_refused_for_is_refused_at_run_time_too(
    known: dict[str, Any], unknown: set[str]
) -> None:
    early = find_problems(known, unknown=unknown - known.keys())
    if early:
        refusal(**known)


@pytest.mark.parametrize("shot", ["", "  ", {"prompt": ""}, {"prompt": "\n", "duration": 2}], ids=str)
def test_a_blank_shot_is_refused_like_a_blank_prompt(shot: Any) -> None:
    with pytest.raises(KlingValidationError, match=r"multi_prompt\[1\]=.*must not be blank"):
        VideoRequest.build(
            model="kling-v3-std-silent", image="https://example.com/a.png", multi_prompt=["a cat", shot]
        )
