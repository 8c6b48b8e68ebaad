# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.gateway.payload import model_name, nearest_name, payload_of
from airflow_provider_kling.api.models import (
    GATEWAY_NAMES,
    MODES,
    PLATFORM_MODELS,
    SHOT_TYPES,
    Model,
    Resolved,
    model_problems,
    resolve,
)
from airflow_provider_kling.api.request import MODELS, VideoRequest, find_problems, limit_problems
from airflow_provider_kling.exceptions import KlingValidationError

IMAGE = "https://example.com/a.png"
SHOTS = [{"index": 1, "prompt": "A door opens", "duration": "2"}, {"prompt": "A cat walks in", "duration": 3}]
every_model = pytest.mark.parametrize("model", PLATFORM_MODELS.values(), ids=PLATFORM_MODELS.keys())
every_gateway_name = pytest.mark.parametrize("name", GATEWAY_NAMES)
#: Seconds that no model makes.
IMPOSSIBLE = (2, 16)
PAGE = Path(__file__).parents[2] / "docs" / "models.md"

#: A request that each limit refuses: the model, what it is given, the field, and all that is said of it.
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "kling-v2-6",
        {"duration": 7},
        "duration",
        "kling-v2-6 makes 5 or 10 seconds; kling-v3 makes 3 to 15 seconds",
    ),
    ("kling-2.6", {"duration": 3}, "duration", "kling-2.6 makes 5 or 10 seconds; kling-3.0 makes 3 to 15 seconds"),
    ("kling-v3", {"duration": 16}, "duration", "kling-v3 makes 3 to 15 seconds"),
    ("kling-v2-6", {"duration": 2}, "duration", "kling-v2-6 makes 5 or 10 seconds"),
    ("kling-2.6", {"mode": "4k"}, "mode", "kling-2.6 has mode std or pro; kling-3.0 has mode std, pro or 4k"),
    (
        "kling-3.0-turbo",
        {"mode": "4k"},
        "mode",
        "kling-3.0-turbo has mode std or pro; kling-3.0 has mode std, pro or 4k",
    ),
    (
        "kling-v2-5-turbo",
        {"mode": "4k"},
        "mode",
        "kling-v2-5-turbo has mode std or pro; kling-v3 has mode std, pro or 4k",
    ),
    ("kling-2.5-turbo", {"sound": True}, "sound", "kling-2.5-turbo has no sound; kling-3.0 has sound on or off"),
    (
        "kling-v2-5-turbo",
        {"sound": True, "mode": "pro"},
        "sound",
        "kling-v2-5-turbo has no sound; kling-v2-6 needs mode='pro' for sound",
    ),
    ("kling-2.6", {"sound": True}, "sound", "kling-2.6 needs mode='pro' for sound; kling-3.0 has sound on or off"),
    (
        "kling-3.0-turbo",
        {"sound": False},
        "sound",
        "kling-3.0-turbo always has sound; kling-3.0 has sound on or off",
    ),
    (
        "kling-v2-5-turbo",
        {"image": IMAGE, "last_image": IMAGE},
        "last_image",
        "kling-v2-5-turbo needs mode='pro' for a last frame; kling-v3 takes a last frame",
    ),
    (
        "kling-2.6",
        {"image": IMAGE, "last_image": IMAGE, "mode": "pro", "sound": True},
        "last_image",
        "kling-2.6 needs mode='pro' and sound=False for a last frame; kling-3.0 takes a last frame",
    ),
    (
        "kling-3.0-turbo",
        {"image": IMAGE, "last_image": IMAGE},
        "last_image",
        "kling-3.0-turbo takes a first frame only; kling-3.0 takes a last frame",
    ),
    (
        "kling-v3",
        {"prompt": "x" * 2501},
        "prompt",
        "kling-v3 takes a prompt of at most 2500 characters; kling-3.0 takes a prompt of at most 3072 characters",
    ),
    ("kling-2.6", {"prompt": "x" * 3073}, "prompt", "kling-2.6 takes a prompt of at most 3072 characters"),
    (
        "kling-3.0",
        {"negative_prompt": "blur"},
        "negative_prompt",
        "kling-3.0 has no such field; kling-v3 takes one of at most 2500 characters",
    ),
    (
        "kling-2.6",
        {"negative_prompt": "blur"},
        "negative_prompt",
        "kling-2.6 has no such field; kling-v2-6 takes one of at most 2500 characters",
    ),
    (
        "kling-v2-6",
        {"negative_prompt": "x" * 2501},
        "negative_prompt",
        "kling-v2-6 takes one of at most 2500 characters",
    ),
    ("kling-3.0", {"cfg_scale": 0.5}, "cfg_scale", "kling-3.0 has no such field; kling-v3 takes 0 to 1"),
    ("kling-v2-6", {"cfg_scale": 0.5}, "cfg_scale", "kling-v2-6 has no such field; kling-v3 takes 0 to 1"),
    ("kling-v3", {"cfg_scale": 1.5}, "cfg_scale", "kling-v3 takes 0 to 1"),
    (
        "kling-3.0-turbo",
        {"image": IMAGE, "element_list": [1]},
        "element_list",
        "kling-3.0-turbo takes no elements; kling-3.0 takes at most 3 elements",
    ),
    (
        "kling-v3",
        {"image": IMAGE, "element_list": [1, 2, 3, 4]},
        "element_list",
        "kling-v3 takes at most 3 elements",
    ),
    ("kling-v3", {"element_list": [1]}, "element_list", "needs image too on Kling's platform"),
    *(
        (
            "kling-v3",
            {"image": IMAGE, "element_list": [1, {"element_id": "2"}, element]},
            "element_list[2]",
            "needs an element_id on Kling's platform",
        )
        for element in ({"id": 5}, {"element_id": None}, {"element_id": ""}, {"element_id": True}, None, [1])
    ),
    (
        "kling-3.0",
        {"prompt": None, "multi_prompt": SHOTS, "duration": 5},
        "multi_prompt",
        "kling-3.0 has no such field: describe the shots in the prompt; kling-v3 takes 1 to 6 shots",
    ),
    (
        "kling-v2-6",
        {"prompt": None, "multi_prompt": SHOTS, "duration": 5},
        "multi_prompt",
        "kling-v2-6 makes one shot only; kling-v3 takes 1 to 6 shots",
    ),
    (
        "kling-v3",
        {"prompt": None, "multi_prompt": [{"prompt": "x", "duration": 1}] * 7, "duration": 7},
        "multi_prompt",
        "kling-v3 takes 1 to 6 shots",
    ),
    (
        "kling-3.0",
        {"shot_type": "intelligent"},
        "shot_type",
        "kling-3.0 has no such field: describe the shots in the prompt; kling-v3 takes it",
    ),
    (
        "kling-v3",
        {"multi_prompt": SHOTS, "duration": 5, "shot_type": "intelligent"},
        "multi_prompt",
        "shot_type='intelligent' makes the shots from prompt alone",
    ),
    (
        "kling-v3",
        {"multi_prompt": SHOTS, "duration": 5},
        "multi_prompt",
        "excludes prompt on Kling's platform; give one of the two",
    ),
    (
        "kling-v3",
        {"prompt": None, "multi_prompt": [{"prompt": "x" * 513, "duration": 5}], "duration": 5},
        "multi_prompt[0]",
        "takes at most 512 characters",
    ),
    (
        "kling-v3",
        {"prompt": None, "multi_prompt": [*SHOTS, {"prompt": "x", "duration": 0.5}], "duration": 5},
        "multi_prompt[2]",
        "needs a duration of at least 1 second",
    ),
    (
        "kling-v3",
        {"prompt": None, "multi_prompt": SHOTS, "duration": 6},
        "duration",
        "must be the 5 seconds of all shots together",
    ),
    (
        "kling-3.0",
        {"image": IMAGE, "aspect_ratio": "1:1"},
        "aspect_ratio",
        "Kling's platform takes none with an image: the video follows the image's ratio",
    ),
]
refused = pytest.mark.parametrize(("model", "arguments", "field", "expected"), REFUSED)


class TestWhatAModelCannotMake:
    @refused
    def test_is_refused_with_the_nearest_model_that_can(
        self, model: str, arguments: dict[str, Any], field: str, expected: str
    ) -> None:
        problems = find_problems({"model": model, "prompt": "x"} | arguments)
        assert [(problem.field, problem.expected) for problem in problems] == [(field, expected)]

    @refused
    def test_is_refused_when_the_dag_file_is_parsed_unless_it_may_still_change(
        self, model: str, arguments: dict[str, Any], field: str, expected: str
    ) -> None:
        given = {"model": model, "prompt": "x"} | arguments
        assert find_problems(given, unknown=["kling_conn_id"])
        if given.get("duration") not in IMPOSSIBLE:
            assert find_problems({**given, "model": None}, unknown=["model"]) == []

    @refused
    def test_is_left_to_the_vendor_of_a_gateway(
        self, model: str, arguments: dict[str, Any], field: str, expected: str
    ) -> None:
        given = {"prompt": "x"} | arguments | {"model": "kling-v3-std-silent"}
        unlimited = {"mode", "sound"} | ({"duration"} if given.get("duration") in IMPOSSIBLE else set())
        assert {problem.field for problem in find_problems(given)} <= unlimited

    @pytest.mark.parametrize(
        ("arguments", "unknown"),
        [
            ({"model": "kling-2.6", "sound": True}, "mode"),
            ({"model": "kling-v2-5-turbo", "image": IMAGE, "last_image": IMAGE}, "mode"),
            ({"model": "kling-v2-5-turbo", "image": IMAGE, "last_image": IMAGE}, "extra_body"),
            ({"model": "kling-2.6", "image": IMAGE, "last_image": IMAGE}, "sound"),
            ({"model": "kling-v3", "element_list": [1]}, "image"),
            ({"model": "kling-v3", "element_list": [1]}, "extra_body"),
        ],
    )
    def test_is_not_refused_while_a_template_may_cure_it(self, arguments: dict[str, Any], unknown: str) -> None:
        given = {"prompt": "x"} | arguments
        assert find_problems(given)
        assert find_problems(given, unknown=[unknown]) == []

    def test_is_refused_in_the_place_of_a_field_in_extra_body(self) -> None:
        [problem] = find_problems({"model": "kling-2.6", "prompt": "x", "extra_body": {"mode": "4k"}})
        assert (problem.field, problem.value) == ("mode", "4k")

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"model": "kling-3.0", "multi_prompt": SHOTS}, "multi_prompt"),
            ({"model": "kling-v3", "multi_prompt": SHOTS, "duration": 5, "image": IMAGE}, "multi_prompt"),
            ({"model": "kling-2.6", "duration": True}, "duration"),
            ({"model": "kling-2.6", "mode": "8k"}, "mode"),
            ({"model": "kling-3.0", "shot_type": "wide"}, "shot_type"),
        ],
    )
    def test_is_reported_once(self, arguments: dict[str, Any], field: str) -> None:
        assert [problem.field for problem in find_problems({"prompt": "x"} | arguments)] == [field]

    def test_suggests_one_model_for_all_problems_where_one_can(self) -> None:
        problems = find_problems({"model": "kling-2.6", "prompt": "x", "duration": 7, "negative_prompt": "blur"})
        assert [problem.expected.partition("; ")[2].split()[0] for problem in problems] == ["kling-v3"] * 2


class TestWhatAModelMakes:
    @every_model
    def test_everything_that_its_row_allows(self, model: Model) -> None:
        base: dict[str, Any] = {"model": model.name, "prompt": "x" * model.max_prompt}
        for mode in model.modes:
            for seconds in model.seconds:
                assert find_problems({**base, "mode": mode, "duration": seconds}) == []
        for mode in model.sound:
            assert find_problems({**base, "mode": mode, "sound": True}) == []
        for mode in model.last_frame:
            frames = {"image": IMAGE, "last_image": IMAGE, "mode": mode}
            assert find_problems({**base, **frames}) == []
            assert bool(find_problems({**base, **frames, "sound": True})) is not (
                model.last_frame_sound and mode in model.sound
            )
        assert bool(find_problems({**base, "sound": False})) is not model.silent

    @pytest.mark.parametrize(
        "arguments",
        [
            {"prompt": "x", "cfg_scale": 1, "negative_prompt": "x" * 2500, "mode": "4k", "sound": True},
            {"prompt": "x", "shot_type": "intelligent"},
            {"prompt": "x", "image": IMAGE, "element_list": [{"element_id": 1}] * 3},
            {"multi_prompt": SHOTS, "duration": 5, "shot_type": "customize"},
            {"multi_prompt": SHOTS, "duration": 5, "image": IMAGE, "element_list": [1]},
            {"multi_prompt": SHOTS},
            {"multi_prompt": ["A door opens", "A cat walks in"], "duration": 7},
            {"multi_prompt": [{"prompt": "x", "duration": s} for s in (1.1, 2.3, 2.3, 1.3)], "duration": 7},
            {"prompt": "x", "multi_prompt": [], "element_list": []},
        ],
    )
    def test_kling_v3_makes_the_rest(self, arguments: dict[str, Any]) -> None:
        assert find_problems({"model": "kling-v3"} | arguments) == []


class TestTheNamesOfGateways:
    @every_gateway_name
    def test_contain_mode_and_sound(self, name: str) -> None:
        tier, audio = name.removeprefix("kling-v3-").split("-")
        assert resolve(name) == ("kling-v3", tier, audio == "audio")

    @every_gateway_name
    def test_may_be_repeated_by_the_arguments_and_stay_the_same_request(self, name: str) -> None:
        plain = VideoRequest.build(model=name, prompt="x")
        meaning = resolve(name)
        assert VideoRequest.build(model=name, prompt="x", mode=meaning.mode, sound=meaning.sound) == plain

    @pytest.mark.parametrize(
        ("name", "arguments", "message"),
        [
            (
                "kling-v3-pro-audio",
                {"mode": "std"},
                "kling-v3-pro-audio means mode='pro'; use model='kling-v3-std-audio', or leave mode out",
            ),
            (
                "kling-v3-pro-audio",
                {"sound": False},
                "kling-v3-pro-audio means sound=True; use model='kling-v3-pro-silent', or leave sound out",
            ),
            (
                "kling-v3-std-silent",
                {"sound": "on"},
                "kling-v3-std-silent means sound=False; use model='kling-v3-std-audio', or leave sound out",
            ),
            (
                "kling-v3-std-silent",
                {"mode": "4k"},
                "kling-v3-std-silent means mode='std'; use model='kling-v3' with mode='4k', or leave mode out",
            ),
            (
                "kling-v3-std-silent",
                {"extra_body": {"mode": "pro"}},
                "kling-v3-std-silent means mode='std'; use model='kling-v3-pro-silent', or leave mode out",
            ),
        ],
    )
    def test_may_not_be_contradicted(self, name: str, arguments: dict[str, Any], message: str) -> None:
        [problem] = find_problems({"model": name, "prompt": "x"} | arguments)
        assert problem.expected == message

    @pytest.mark.parametrize("extra", [{"mode": "pro", "sound": "on"}, {"sound": True}, {"mode": None}])
    def test_leave_mode_and_sound_in_extra_body_as_they_were_sent_before(self, extra: dict[str, Any]) -> None:
        body = {"model": "kling-v3-pro-audio", "prompt": "x", "extra_body": extra}
        request = VideoRequest.build(**body)
        assert payload_of(request) == body
        assert (request.mode, request.sound) == (None, None)

    @pytest.mark.parametrize(
        ("arguments", "fields"),
        [
            ({}, []),
            ({"prompt": "x" * 2501}, ["prompt"]),
            ({"cfg_scale": 2}, ["cfg_scale"]),
            ({"image": IMAGE, "aspect_ratio": "1:1"}, ["aspect_ratio"]),
            ({"element_list": [1]}, ["element_list"]),
            ({"shot_type": "customize"}, []),
            (
                {"prompt": None, "image": IMAGE, "multi_prompt": [{"prompt": "x", "duration": 0.5}]},
                ["multi_prompt[0]"],
            ),
            ({"image": IMAGE, "last_image": IMAGE}, []),
        ],
    )
    @every_gateway_name
    def test_have_the_limits_of_kling_v3_on_the_platform(
        self, name: str, arguments: dict[str, Any], fields: list[str]
    ) -> None:
        request = VideoRequest.build(**{"model": name, "prompt": "x"} | arguments)
        assert [problem.field for problem in limit_problems(request)] == fields

    def test_are_the_only_ones_without_these_limits(self) -> None:
        for name in PLATFORM_MODELS:
            assert limit_problems(VideoRequest.build(model=name, prompt="x")) == []


class TestResolve:
    @given(st.sampled_from(MODELS), st.none() | st.sampled_from(MODES), st.none() | st.booleans())
    def test_is_idempotent(self, model: str, mode: str | None, sound: bool | None) -> None:
        meaning = resolve(model, mode, sound)
        assert resolve(*meaning) == meaning

    @pytest.mark.parametrize(
        ("given", "meaning"),
        [
            (("kling-v3",), ("kling-v3", "std", False)),
            (("kling-v3", "4k", True), ("kling-v3", "4k", True)),
            (("kling-v3-pro-audio",), ("kling-v3", "pro", True)),
            (("kling-3.0-turbo",), ("kling-3.0-turbo", "std", True)),
            (("kling-2.6", "pro"), ("kling-2.6", "pro", False)),
        ],
    )
    def test_fills_in_the_defaults(self, given: tuple[Any, ...], meaning: tuple[str, str, bool]) -> None:
        assert resolve(*given) == meaning


class TestAGateway:
    @given(st.sampled_from([None, "std", "pro"]), st.none() | st.booleans())
    def test_has_a_name_for_every_video_of_kling_v3_in_hd(self, mode: str | None, sound: bool | None) -> None:
        request = VideoRequest.build(model="kling-v3", prompt="x", mode=mode, sound=sound)
        name = model_name(request)
        assert name is not None
        assert GATEWAY_NAMES[name] == Resolved("kling-v3", mode or "std", bool(sound))
        assert payload_of(request) == {"model": name, "prompt": "x"}

    @given(st.sampled_from(MODELS), st.none() | st.sampled_from(MODES), st.none() | st.booleans())
    def test_has_a_nearest_name_for_every_request(self, model: str, mode: str | None, sound: bool | None) -> None:
        try:
            request = VideoRequest.build(model=model, prompt="x", mode=mode, sound=sound)
        except KlingValidationError:
            return
        meaning = resolve(model, mode, sound)
        assert GATEWAY_NAMES[nearest_name(request)].sound is meaning.sound
        if name := model_name(request):
            assert nearest_name(request) == name


VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.text(max_size=5) | st.fixed_dictionaries({"duration": st.integers() | st.text(max_size=3)}))
    | st.sampled_from(
        [*MODES, *SHOT_TYPES, "on", "intelligence", IMAGE, [[]], [{"prompt": 5}], {"mode": "4k"}, object()]
    )
)
FIELDS = st.dictionaries(st.sampled_from(VideoRequest._fields), VALUES)


@given(st.sampled_from(MODELS), FIELDS, st.sets(st.sampled_from(VideoRequest._fields)))
def test_no_values_break_the_rules(model: str, values: dict[str, Any], unknown: set[str]) -> None:
    early = model_problems({**values, "model": model}, unknown)
    # What is refused early must be refused later too, whatever comes.
    late = {problem.field for problem in model_problems({**values, "model": model})}
    assert {problem.field for problem in early} <= late


@given(st.sampled_from(MODELS), FIELDS)
def test_what_is_accepted_keeps_the_limits(model: str, values: dict[str, Any]) -> None:
    try:
        request = VideoRequest.build(**{"prompt": "x", **values, "model": model})
    except KlingValidationError:
        return
    if model in PLATFORM_MODELS:
        assert limit_problems(request) == []


@pytest.mark.parametrize("given_type", ["intelligence", "intelligent"])
def test_the_platforms_spelling_of_a_shot_type_is_understood(given_type: str) -> None:
    request = VideoRequest.build(model="kling-v3", prompt="x", shot_type=given_type)
    assert request.shot_type == "intelligent"


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", True), ("OFF", False), ("true", True), ("False", False), (" Yes ", True), ("no", False), (True, True)],
)
def test_sound_is_read_from_text(text: Any, value: bool) -> None:
    assert VideoRequest.build(model="kling-v3", prompt="x", sound=text).sound is value


@pytest.mark.parametrize("value", ["loud", 1, 0, "1", [True], "None"])
def test_any_other_sound_is_refused(value: Any) -> None:
    [problem] = find_problems({"model": "kling-v3", "prompt": "x", "sound": value})
    assert (problem.field, problem.value) == ("sound", value)


def cells(model: Model) -> str:
    """The row of a model in the table of the page."""
    seconds = model.seconds
    frames = "pro" if len(model.last_frame) < len(model.modes) else "yes"
    return " | ".join(
        (
            f"`{model.name}`",
            model.standard,
            ", ".join(map(str, seconds)) if len(seconds) < 3 else f"{seconds[0]} to {seconds[-1]}",
            ", ".join(model.modes),
            {(): "no", ("pro",): "pro only", model.modes: "on, off" if model.silent else "always"}[model.sound],
            (frames if model.last_frame_sound else f"{frames}, silent") if model.last_frame else "no",
            {"multi_prompt": "`multi_prompt`", "prompt": "in the prompt", None: "no"}[model.shots],
            "3" if model.elements else "no",
            "0 to 1" if model.cfg_scale else "no",
            "yes" if model.negative_prompt else "no",
            str(model.max_prompt),
        )
    )


def test_the_page_has_the_table() -> None:
    _, _, table = PAGE.read_text().partition("## What each model can do")
    rows = [line for line in table.splitlines() if line.startswith("| `kling-")]
    assert rows == [f"| {cells(model)} |" for model in PLATFORM_MODELS.values()]


def test_the_page_has_all_names_of_gateways() -> None:
    for name, meaning in GATEWAY_NAMES.items():
        row = f'| `{name}` | `{meaning.model}` with `mode="{meaning.mode}"`, `sound={meaning.sound}` | yes | yes |'
        assert row in PAGE.read_text()
