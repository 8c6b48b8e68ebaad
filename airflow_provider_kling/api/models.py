# SPDX-License-Identifier: Apache-2.0
"""
What each model can do, from the documentation of Kling's platform.

The platform has two standards, each with its own names for the same models: ``kling-v3`` of the legacy standard is
``kling-3.0`` of the new one. Gateways sell ``kling-v3`` under four names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from airflow_provider_kling.exceptions import Problem
from airflow_provider_kling.utils.coerce import parse_number

#: 720p, 1080p and 4k.
MODES = ("std", "pro", "4k")
SHOT_TYPES = ("customize", "intelligent")
#: All modes but 4k.
_HD = ("std", "pro")
_PRO = ("pro",)
_SHORT = (5, 10)
_LONG = tuple(range(3, 16))

MAX_NEGATIVE_PROMPT = 2500
MAX_ELEMENTS = 3
MAX_SHOTS = 6
MAX_SHOT_PROMPT = 512
MIN_SHOT_SECONDS = 1


class Model(NamedTuple):
    """
    One model, and what it can do.

    :param name: Its name.
    :param standard: The standard of the platform that serves it.
    :param version: Its version; a model is near to another if their versions are.
    :param seconds: The durations of a video.
    :param modes: Its resolutions, some of :data:`MODES`.
    :param sound: The modes in which it can make sound.
    :param last_frame: The modes in which it takes a last frame beside the first.
    :param max_prompt: Maximum length of the prompt in characters.
    :param silent: Whether it can make a video without sound.
    :param last_frame_sound: Whether a video with a last frame can have sound.
    :param shots: Where the shots of a multi-shot video are described; None if it makes one shot only.
    :param elements: Whether it takes element references, with an image.
    :param cfg_scale: Whether it has this field.
    :param negative_prompt: Whether it has this field.
    """

    name: str
    standard: Literal["legacy", "new"]
    version: float
    seconds: tuple[int, ...]
    modes: tuple[str, ...]
    sound: tuple[str, ...]
    last_frame: tuple[str, ...]
    max_prompt: int
    silent: bool = True
    last_frame_sound: bool = True
    shots: Literal["multi_prompt", "prompt"] | None = None
    elements: bool = False
    cfg_scale: bool = False
    negative_prompt: bool = False


_LEGACY = (
    Model(
        "kling-v3", "legacy", 3.0, _LONG, MODES, sound=MODES, last_frame=MODES, max_prompt=2500,
        shots="multi_prompt", elements=True, cfg_scale=True, negative_prompt=True,
    ),
    Model(
        "kling-v2-6", "legacy", 2.6, _SHORT, _HD, sound=_PRO, last_frame=_PRO, max_prompt=2500,
        last_frame_sound=False, negative_prompt=True,
    ),
    Model(
        "kling-v2-5-turbo", "legacy", 2.5, _SHORT, _HD, sound=(), last_frame=_PRO, max_prompt=2500,
        negative_prompt=True,
    ),
)  # fmt: skip
_NEW = (
    Model(
        "kling-3.0", "new", 3.0, _LONG, MODES, sound=MODES, last_frame=MODES, max_prompt=3072,
        shots="prompt", elements=True,
    ),
    Model(
        "kling-3.0-turbo", "new", 3.0, _LONG, _HD, sound=_HD, last_frame=(), max_prompt=3072,
        silent=False, shots="prompt",
    ),
    Model(
        "kling-2.6", "new", 2.6, _SHORT, _HD, sound=_PRO, last_frame=_PRO, max_prompt=3072,
        last_frame_sound=False,
    ),
    Model("kling-2.5-turbo", "new", 2.5, _SHORT, _HD, sound=(), last_frame=_PRO, max_prompt=3072),
)  # fmt: skip

#: The platform's own models by name. Of two that are equally near, the first is suggested.
PLATFORM_MODELS = {model.name: model for model in (*_LEGACY, *_NEW)}


class Resolved(NamedTuple):
    """
    What a request asks for, whatever the name of its model says.

    :param model: One of :data:`PLATFORM_MODELS`.
    :param mode: One of :data:`MODES`.
    :param sound: Whether the video has sound.
    """

    model: str
    mode: str
    sound: bool


#: The names of gateways, which contain mode and sound.
GATEWAY_NAMES = {
    "kling-v3-std-silent": Resolved("kling-v3", "std", sound=False),
    "kling-v3-std-audio": Resolved("kling-v3", "std", sound=True),
    "kling-v3-pro-silent": Resolved("kling-v3", "pro", sound=False),
    "kling-v3-pro-audio": Resolved("kling-v3", "pro", sound=True),
}


def resolve(model: str, mode: str | None = None, sound: bool | None = None) -> Resolved:
    """
    Return what a model's name, mode and sound mean.

    :param model: A name of :data:`GATEWAY_NAMES`, whose own mode and sound apply, or of :data:`PLATFORM_MODELS`.
    :param mode: ``std`` by default.
    :param sound: Off by default; on for a model that always has sound.
    :raises KeyError: for an unknown name.
    """
    if model in GATEWAY_NAMES:
        return GATEWAY_NAMES[model]
    always = not PLATFORM_MODELS[model].silent
    return Resolved(model, mode or "std", always if sound is None else sound)


def model_problems(values: Mapping[str, Any], unknown: Collection[str] = ()) -> list[Problem]:
    """
    Return the problems of a request that come from its model's limits, each with the nearest model without it.

    The names of gateways have no limits here, except that ``mode`` and ``sound`` must agree with them: each vendor
    decides what it takes.

    :param values: The known fields of a request, each of its type. A value of another type is no problem here.
    :param unknown: Names of fields whose value comes later. ``extra_body`` may contain any field.
    """
    name = values.get("model")
    if not isinstance(name, str):
        return []
    if name in GATEWAY_NAMES:
        return list(_name_problems(name, values))
    if name not in PLATFORM_MODELS:
        return []
    wanted = {field: value for field, value in values.items() if _is_usable(field, value)}
    later = {*unknown, *(values.keys() - wanted.keys())}

    def known(fields: Iterable[str]) -> bool:
        return all(field in wanted or not {field, "extra_body"} & later for field in fields)

    rules = [rule for rule in _RULES if rule.field in wanted and known(rule.inputs)]
    problems = [
        Problem(rule.field, wanted[rule.field], _instead(rule, PLATFORM_MODELS[name], wanted, rules))
        for rule in rules
        if not rule.allows(PLATFORM_MODELS[name], wanted)
    ]
    refused = {problem.field for problem in problems}
    problems += (
        problem
        for inputs, check in _FIELD_CHECKS
        if known(inputs) and not refused & set(inputs)
        for problem in check(wanted)
    )
    return problems


def _name_problems(name: str, values: Mapping[str, Any]) -> Iterator[Problem]:
    own = GATEWAY_NAMES[name]
    for field, value in (("mode", own.mode), ("sound", own.sound)):
        given = values.get(field, value)
        if given == value or not _is_usable(field, given):
            continue
        near = {meaning: other for other, meaning in GATEWAY_NAMES.items()}.get(own._replace(**{field: given}))
        other = f"model={near!r}" if near else f"model={own.model!r} with {field}={given!r}"
        yield Problem(field, given, f"{name} means {field}={value!r}; use {other}, or leave {field} out")


#: Types of the fields that the rules read.
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "prompt": str,
    "negative_prompt": str,
    "duration": int,
    "mode": str,
    "sound": bool,
    "cfg_scale": (int, float),
    "multi_prompt": list,
    "element_list": list,
    "shot_type": str,
}
_CHOICES = {"mode": MODES, "shot_type": SHOT_TYPES}


def _is_usable(field: str, value: Any) -> bool:
    if field not in _TYPES:
        return value is not None
    if not isinstance(value, _TYPES[field]) or (isinstance(value, bool) and field != "sound"):
        return False
    return value in _CHOICES.get(field, (value,))


class _Rule(NamedTuple):
    """
    One limit that differs from model to model.

    :param field: The field that the limit is about; without a value there is no problem.
    :param allows: Whether a model can make a request of these values.
    :param says: What a model can do, to follow its name in a sentence.
    :param others: The other fields that ``allows`` reads.
    """

    field: str
    allows: Callable[[Model, Mapping[str, Any]], bool]
    says: Callable[[Model], str]
    others: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.field, *self.others)


def _instead(rule: _Rule, model: Model, values: Mapping[str, Any], rules: Iterable[_Rule]) -> str:
    """Return what the model can do, and what the nearest model can that has not this problem."""
    able = [other for other in PLATFORM_MODELS.values() if rule.allows(other, values)]
    if not able:
        return f"{model.name} {rule.says(model)}"
    near = min(
        able,
        key=lambda other: (
            sum(not each.allows(other, values) for each in rules),
            other.standard != model.standard,
            abs(other.version - model.version),
        ),
    )
    return f"{model.name} {rule.says(model)}; {near.name} {rule.says(near)}"


def _meaning(model: Model, values: Mapping[str, Any]) -> Resolved:
    return resolve(model.name, values.get("mode"), values.get("sound"))


def _allows_sound(model: Model, values: Mapping[str, Any]) -> bool:
    meaning = _meaning(model, values)
    return meaning.mode in model.sound if meaning.sound else model.silent


def _allows_last_frame(model: Model, values: Mapping[str, Any]) -> bool:
    meaning = _meaning(model, values)
    return meaning.mode in model.last_frame and (model.last_frame_sound or not meaning.sound)


def _says_seconds(model: Model) -> str:
    seconds = model.seconds
    return f"makes {_either(seconds) if len(seconds) < 3 else f'{seconds[0]} to {seconds[-1]}'} seconds"


def _says_sound(model: Model) -> str:
    if not model.sound:
        return "has no sound"
    if not model.silent:
        return "always has sound"
    return (
        f"needs mode={_either(map(repr, model.sound))} for sound"
        if model.sound != model.modes
        else "has sound on or off"
    )


def _says_last_frame(model: Model) -> str:
    if not model.last_frame:
        return "takes a first frame only"
    needs = [f"mode={_either(map(repr, model.last_frame))}"] if model.last_frame != model.modes else []
    needs += [] if model.last_frame_sound else ["sound=False"]
    return f"needs {' and '.join(needs)} for a last frame" if needs else "takes a last frame"


def _says_shots(model: Model) -> str:
    if model.shots == "prompt":
        return "has no such field: describe the shots in the prompt"
    return f"takes 1 to {MAX_SHOTS} shots" if model.shots else "makes one shot only"


def _either(choices: Iterable[object]) -> str:
    *first, last = map(str, choices)
    return f"{', '.join(first)} or {last}" if first else last


_RULES = (
    _Rule("duration", lambda model, values: values["duration"] in model.seconds, _says_seconds),
    _Rule(
        "mode",
        lambda model, values: values["mode"] in model.modes,
        lambda model: f"has mode {_either(model.modes)}",
    ),
    _Rule("sound", _allows_sound, _says_sound, others=("mode",)),
    _Rule("last_image", _allows_last_frame, _says_last_frame, others=("mode", "sound")),
    _Rule(
        "prompt",
        lambda model, values: len(values["prompt"]) <= model.max_prompt,
        lambda model: f"takes a prompt of at most {model.max_prompt} characters",
    ),
    _Rule(
        "negative_prompt",
        lambda model, values: model.negative_prompt and len(values["negative_prompt"]) <= MAX_NEGATIVE_PROMPT,
        lambda model: (
            f"takes one of at most {MAX_NEGATIVE_PROMPT} characters"
            if model.negative_prompt
            else "has no such field"
        ),
    ),
    _Rule(
        "cfg_scale",
        lambda model, values: model.cfg_scale and 0 <= values["cfg_scale"] <= 1,
        lambda model: "takes 0 to 1" if model.cfg_scale else "has no such field",
    ),
    _Rule(
        "element_list",
        lambda model, values: (
            not values["element_list"] or (model.elements and len(values["element_list"]) <= MAX_ELEMENTS)
        ),
        lambda model: f"takes at most {MAX_ELEMENTS} elements" if model.elements else "takes no elements",
    ),
    _Rule(
        "multi_prompt",
        lambda model, values: (
            not values["multi_prompt"]
            or (model.shots == "multi_prompt" and len(values["multi_prompt"]) <= MAX_SHOTS)
        ),
        _says_shots,
    ),
    _Rule(
        "shot_type",
        lambda model, values: model.shots == "multi_prompt",
        lambda model: _says_shots(model) if model.shots != "multi_prompt" else "takes it",
    ),
)


def _image_checks(values: Mapping[str, Any]) -> Iterator[Problem]:
    if "image" in values and "aspect_ratio" in values:
        expected = "Kling's platform takes none with an image: the video follows the image's ratio"
        yield Problem("aspect_ratio", values["aspect_ratio"], expected)


def _element_checks(values: Mapping[str, Any]) -> Iterator[Problem]:
    if values.get("element_list") and "image" not in values:
        yield Problem("element_list", values["element_list"], "needs image too on Kling's platform")
    for number, element in enumerate(values.get("element_list", ())):
        element_id = element.get("element_id") if isinstance(element, Mapping) else element
        if element_id in (None, "") or isinstance(element_id, bool) or not isinstance(element_id, (int, str)):
            yield Problem(f"element_list[{number}]", element, "needs an element_id on Kling's platform")


def _shot_type_checks(values: Mapping[str, Any]) -> Iterator[Problem]:
    """Check what ``shot_type`` needs and excludes; without it, shots are those of ``customize``."""
    shots, shot_type = values.get("multi_prompt"), values.get("shot_type")
    if shots and shot_type == "intelligent":
        yield Problem("multi_prompt", shots, "shot_type='intelligent' makes the shots from prompt alone")
    elif shots and "prompt" in values and "image" not in values:  # with an image, no API takes both
        yield Problem("multi_prompt", shots, "excludes prompt on Kling's platform; give one of the two")


def _shot_checks(values: Mapping[str, Any]) -> Iterator[Problem]:
    durations: list[float] = []
    shots = values.get("multi_prompt", ())
    for number, shot in enumerate(shots):
        text = shot.get("prompt") if isinstance(shot, Mapping) else shot
        if isinstance(text, str) and len(text) > MAX_SHOT_PROMPT:
            yield Problem(f"multi_prompt[{number}]", text, f"takes at most {MAX_SHOT_PROMPT} characters")
        given = shot.get("duration") if isinstance(shot, Mapping) else None
        seconds = parse_number(given)
        if seconds is not None and seconds >= MIN_SHOT_SECONDS:
            durations.append(seconds)
        elif given is not None:
            expected = f"needs a duration of at least {MIN_SHOT_SECONDS} second"
            yield Problem(f"multi_prompt[{number}]", shot, expected)
    total = round(sum(durations), 3)
    if shots and len(durations) == len(shots) and values.get("duration") not in (None, total):
        yield Problem("duration", values["duration"], f"must be the {total:g} seconds of all shots together")


#: Limits that every model of the platform has, with the fields that each reads.
_FIELD_CHECKS: tuple[tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Iterator[Problem]]], ...] = (
    (("image", "aspect_ratio"), _image_checks),
    (("image", "element_list"), _element_checks),
    (("multi_prompt", "shot_type", "prompt"), _shot_type_checks),
    (("multi_prompt", "duration"), _shot_checks),
)
