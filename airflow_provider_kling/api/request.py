# SPDX-License-Identifier: Apache-2.0
"""A request for a video, checked before anything is billed."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from airflow_provider_kling.api.models import (
    GATEWAY_NAMES,
    MAX_ELEMENTS,
    MAX_NEGATIVE_PROMPT,
    MAX_SHOTS,
    MIN_SHOT_SECONDS,
    MODES,
    PLATFORM_MODELS,
    SHOT_TYPES,
    model_problems,
    resolve,
)
from airflow_provider_kling.exceptions import KlingValidationError, Problem, short_repr
from airflow_provider_kling.utils.addresses import unreachable_reason
from airflow_provider_kling.utils.coerce import FOUND_NOTHING, is_nothing, parse_literal, parse_number
from airflow_provider_kling.utils.store_uris import is_store_uri, store_uri_problem

MODELS = (*GATEWAY_NAMES, *PLATFORM_MODELS)


ASPECT_RATIOS = ("16:9", "9:16", "1:1")


MIN_SECONDS, MAX_SECONDS = 3, 15


class VideoRequest(NamedTuple):
    """
    One request for a video, valid by construction when made with :meth:`build`.

    :param model: One of :data:`MODELS`.
    :param mode: One of :data:`MODES`; None if the model's name contains it.
    :param sound: Whether the video has sound; None if the model's name says so.
    :param prompt: The main prompt. In image mode it excludes ``multi_prompt``.
    :param image: Public URL of the reference image, or its URI in an object storage; the first frame when
        ``last_image`` is given.
    :param last_image: Public URL of the last frame, or its URI in an object storage.
    :param aspect_ratio: One of :data:`ASPECT_RATIOS`; may not be honoured in image mode.
    :param duration: Whole seconds, 3 to 15; fewer choices for some models.
    :param negative_prompt: What to avoid.
    :param cfg_scale: Prompt adherence; higher follows the prompt more closely.
    :param multi_prompt: The shots of a multi-shot video.
    :param element_list: Element references.
    :param shot_type: One of :data:`SHOT_TYPES`.
    :param extra_body: Anything else, passed through inside ``extra_body``.
    """

    model: str
    prompt: str | None = None
    image: str | None = None
    last_image: str | None = None
    aspect_ratio: str | None = None
    duration: int | None = None
    negative_prompt: str | None = None
    cfg_scale: float | None = None
    multi_prompt: list[Any] | None = None
    element_list: list[Any] | None = None
    shot_type: str | None = None
    mode: str | None = None
    sound: bool | None = None
    extra_body: Mapping[str, Any] = {}

    @classmethod
    def build(cls, **arguments: Any) -> VideoRequest:
        """
        Return the request with these arguments.

        Rendered templates are strings, so ``"5"`` is accepted as a duration, ``"[...]"`` as a list, and ``""``
        as absent.

        :raises KlingValidationError: listing every problem, if there is one.
        """
        values, problems = _normalise(arguments)
        problems += _check(values)
        if problems:
            raise KlingValidationError.from_problems(problems)
        if values["model"] in GATEWAY_NAMES:
            # They repeat the name. Without them the request is the same one as before, and is not bought again.
            values = {name: value for name, value in values.items() if name not in _IN_THE_NAME}
        return cls(**values)

    @property
    def first_prompt(self) -> str | None:
        """The prompt, or that of the first shot."""
        shots = [shot.get("prompt") for shot in self.multi_prompt or () if isinstance(shot, Mapping)]
        return self.prompt or next((text for text in shots if isinstance(text, str)), None)

    def warnings(self) -> Iterator[str]:
        """Yield warnings about values that the vendor's page allows, but that exceed its known limits."""
        if self.image and self.aspect_ratio:
            yield f"aspect_ratio={self.aspect_ratio!r} may not be honoured: the video follows the image's ratio"
        for name in ("prompt", "negative_prompt"):
            text = getattr(self, name)
            if text and len(text) > MAX_NEGATIVE_PROMPT:
                yield f"{name} has {len(text)} characters; Kling's platform takes at most {MAX_NEGATIVE_PROMPT}"
        if self.cfg_scale is not None and not 0 <= self.cfg_scale <= 1:
            yield f"cfg_scale={self.cfg_scale} is outside 0 to 1, the range of Kling's platform"
        if self.element_list and len(self.element_list) > MAX_ELEMENTS:
            count = len(self.element_list)
            yield f"element_list has {count} elements; Kling's platform takes at most {MAX_ELEMENTS}"
        yield from self._shot_warnings()

    def _shot_warnings(self) -> Iterator[str]:
        if not self.multi_prompt:
            return
        if not self.image and self.model in GATEWAY_NAMES:
            yield "multi_prompt is documented for image mode only, and no image is given"
        if len(self.multi_prompt) > MAX_SHOTS:
            yield f"multi_prompt has {len(self.multi_prompt)} shots; Kling's platform takes at most {MAX_SHOTS}"
        seconds = [parse_number(shot.get("duration")) for shot in self.multi_prompt if isinstance(shot, Mapping)]
        known = [second for second in seconds if second is not None]
        if any(second < MIN_SHOT_SECONDS for second in known):
            yield f"a shot of multi_prompt is shorter than {MIN_SHOT_SECONDS} second, the platform's minimum"
        if self.duration and len(known) == len(self.multi_prompt) and sum(known) != self.duration:
            yield f"the shots of multi_prompt last {sum(known):g} seconds together, not duration={self.duration}"


REQUEST_FIELDS = VideoRequest._fields


#: Fields that the names of gateways contain.
_IN_THE_NAME = frozenset({"mode", "sound"})


def find_problems(arguments: Mapping[str, Any], unknown: Collection[str] = ()) -> list[Problem]:
    """
    Return the problems of a request of which some fields are not known yet.

    :param arguments: The arguments of :meth:`VideoRequest.build` whose values are known.
    :param unknown: Names of fields whose value comes later (a template, an upstream task's output).
    """
    values, problems = _normalise(arguments)
    return problems + _check(values, frozenset(unknown))


def limit_problems(request: VideoRequest) -> list[Problem]:
    """
    Return the problems of a request by the limits of Kling's own platform.

    They apply to the names of gateways too, which :meth:`VideoRequest.build` does not limit.
    """
    given = {name: value for name, value in request._asdict().items() if value is not None}
    meaning = resolve(request.model, request.mode, request.sound)
    return model_problems(given | meaning._asdict())


def _normalise(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Convert every argument to its type and move it to its place; invalid values stay, for the check."""
    given = _parsed(arguments)
    extra = given.pop("extra_body", {})
    if not isinstance(extra, Mapping):
        return given, [Problem("extra_body", extra, "must be an object (dict)")]
    own_place = {name for name in extra if name in REQUEST_FIELDS and name != "extra_body"}
    moved = _parsed({name: extra[name] for name in own_place})
    problems = [
        Problem(
            f"extra_body.{name}",
            value,
            f"differs from the argument {name}={short_repr(given[name])}; give it once",
        )
        for name, value in moved.items()
        if name in given and given[name] != value
    ]
    fields = moved | given
    if fields.get("model") in tuple(GATEWAY_NAMES):
        # A gateway may read them there, so that they are sent as they are.
        own_place -= _IN_THE_NAME
    passed_through = {name: value for name, value in extra.items() if name not in own_place}
    return fields | ({"extra_body": passed_through} if passed_through else {}), problems


def _parsed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that have a value, each converted to its type if possible."""
    return {
        name: _PARSERS[name](value) if name in _PARSERS else value
        for name, value in arguments.items()
        if value is not None and not (isinstance(value, str) and value == "")
    }


def _whole_number_or_same(value: Any) -> Any:
    number = parse_number(value)
    return int(number) if number is not None and number == int(number) else value


def _number_or_same(value: Any) -> Any:
    number = parse_number(value)
    return value if number is None else number


def _value_or_same(value: Any) -> Any:
    return parse_literal(value) if isinstance(value, str) else value


def _list_or_same(value: Any) -> Any:
    value = _value_or_same(value)
    return list(value) if isinstance(value, tuple) else value


def _switch_or_same(value: Any) -> Any:
    return _SWITCHES.get(value.strip().lower(), value) if isinstance(value, str) else value


def _known_shot_type(value: Any) -> Any:
    return "intelligent" if value == "intelligence" else value


_SWITCHES = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "duration": _whole_number_or_same,
    "cfg_scale": _number_or_same,
    "multi_prompt": _list_or_same,
    "element_list": _list_or_same,
    "shot_type": _known_shot_type,
    "sound": _switch_or_same,
    "extra_body": _value_or_same,
}


def _check(values: Mapping[str, Any], unknown: Collection[str] = ()) -> list[Problem]:
    problems = [
        Problem(name, values[name], "is not a field of the API") for name in values.keys() - set(REQUEST_FIELDS)
    ]
    problems += _check_types(values)
    problems += _check_duration(values)
    problems += _check_texts(values)
    problems += _check_choices(values, unknown)
    problems += _check_combinations(values, frozenset(unknown))
    for name in ("image", "last_image"):
        url = values.get(name)
        if isinstance(url, str) and (reason := _image_problem(url)):
            problems.append(Problem(name, url, reason))
    return problems + model_problems(values, unknown)


def _image_problem(url: str) -> str | None:
    return store_uri_problem(url) if is_store_uri(url) else unreachable_reason(url)


def _check_types(values: Mapping[str, Any]) -> Iterator[Problem]:
    for name in ("prompt", "image", "last_image", "negative_prompt"):
        if not isinstance(values.get(name, ""), str):
            yield Problem(name, values[name], "must be a string")
    if isinstance(values.get("prompt"), str) and not values["prompt"].strip():
        yield Problem("prompt", values["prompt"], "must not be blank")
    for name in ("multi_prompt", "element_list"):
        if not isinstance(values.get(name, []), list):
            yield Problem(name, values[name], "must be a list")
    for name in ("multi_prompt", "element_list", "extra_body"):
        if reason := _why_not_json(values.get(name)):
            yield Problem(name, values[name], f"must be plain JSON: {reason}")
    cfg_scale = values.get("cfg_scale", 0)
    if parse_number(cfg_scale) is None:
        yield Problem("cfg_scale", cfg_scale, "must be a number, usually 0 to 1")
    if not isinstance(values.get("sound", False), bool):
        yield Problem("sound", values["sound"], "must be true or false, or the text on or off")


def _check_duration(values: Mapping[str, Any]) -> Iterator[Problem]:
    duration = values.get("duration", MIN_SECONDS)
    is_whole = isinstance(duration, int) and not isinstance(duration, bool)
    # The table has the limits of the platform's models.
    has_own_limits = values.get("model") in tuple(PLATFORM_MODELS)
    if not is_whole or not (has_own_limits or MIN_SECONDS <= duration <= MAX_SECONDS):
        yield Problem(
            "duration", duration, f"must be a whole number of seconds from {MIN_SECONDS} to {MAX_SECONDS}"
        )


def _check_texts(values: Mapping[str, Any]) -> Iterator[Problem]:
    shots = values.get("multi_prompt")
    texts = {name: values.get(name, "") for name in ("prompt", "negative_prompt")}
    for number, shot in enumerate(shots if isinstance(shots, list) else []):
        if not isinstance(shot, Mapping) or "prompt" in shot:
            texts[f"multi_prompt[{number}]"] = shot["prompt"] if isinstance(shot, Mapping) else shot
    for name, text in texts.items():
        if is_nothing(text):
            yield Problem(name, text, f"is no text to make a video of: {FOUND_NOTHING}")
        elif name.startswith("multi_prompt") and isinstance(text, str) and not text.strip():
            yield Problem(name, text, "must not be blank")


def _why_not_json(value: Any) -> str | None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    return None


def _check_choices(values: Mapping[str, Any], unknown: Collection[str]) -> Iterator[Problem]:
    for name, choices in (
        ("model", MODELS),
        ("mode", MODES),
        ("aspect_ratio", ASPECT_RATIOS),
        ("shot_type", SHOT_TYPES),
    ):
        value = values.get(name)
        if value is None:
            if name == "model" and name not in unknown:
                yield Problem(name, value, f"is required; one of {', '.join(MODELS)}")
        elif value not in choices:
            from difflib import get_close_matches

            near = get_close_matches(value, choices, n=2, cutoff=0.5) if isinstance(value, str) else []
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            yield Problem(name, value, f"{hint}must be one of {', '.join(choices)}")


def _check_combinations(values: Mapping[str, Any], unknown: frozenset[str]) -> Iterator[Problem]:
    given = values.keys()
    # extra_body may still contain any of the fields, so no field counts as missing before it is known.
    maybe_given = set(REQUEST_FIELDS) if "extra_body" in unknown else unknown
    if "last_image" in given and "image" not in given and "image" not in maybe_given:
        yield Problem("last_image", values["last_image"], "needs image too, which is the first frame")
    if (
        not values.get("prompt")
        and not values.get("multi_prompt")
        and not {"prompt", "multi_prompt"} & maybe_given
    ):
        yield Problem(
            "prompt", values.get("prompt"), "give a prompt, or multi_prompt with the prompt of each shot"
        )
    if "image" in given and "prompt" in given and values.get("multi_prompt"):
        yield Problem("multi_prompt", values["multi_prompt"], "excludes prompt in image mode; give one of the two")
