# SPDX-License-Identifier: Apache-2.0
"""The legacy standard's rules for a create request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.official.fields import MOST_ELEMENTS, Fields
from airflow_provider_kling.sandbox.official.order import (
    ASPECT_RATIOS,
    BAD_PARAMETER,
    DEFAULT_SECONDS,
    MODELS,
    Order,
    refuse_if,
)
from airflow_provider_kling.sandbox.video import Shot, drawable

TEXT_TO_VIDEO = "/v1/videos/text2video"
IMAGE_TO_VIDEO = "/v1/videos/image2video"
LEGACY_PATHS = (TEXT_TO_VIDEO, IMAGE_TO_VIDEO)
#: Names on this standard; those of older models are retired.
LEGACY_MODELS = {"kling-v3": "kling-3.0", "kling-v2-6": "kling-2.6", "kling-v2-5-turbo": "kling-2.5-turbo"}
RESOLUTIONS = {"std": "720p", "pro": "1080p", "4k": "4k"}
LONGEST_PROMPT, LONGEST_SHOT, MOST_SHOTS = 2500, 512, 6
NO_SUCH_MODEL = 1203


def parse_legacy(path: str, body: Any) -> Order:
    """
    Check a decoded JSON body; unknown fields, and those of the other create path, are ignored.

    :param path: The create path.
    :raises ApiError: with 400 and 1201 (404 and 1203 for an unknown model), if the body is wrong.
    """
    fields = Fields({} if body is None else body)
    refuse_if(fields.problems)
    name = _model_name(fields)
    if fields.get("cfg_scale") is not None:
        _check_cfg_scale(fields, name)
    fields.text("negative_prompt", LONGEST_PROMPT)
    fields.text("callback_url")
    seconds = _seconds(fields)
    image = last_image = aspect_ratio = None
    elements = 0
    if path == IMAGE_TO_VIDEO:
        image, last_image = fields.image("image"), fields.image("image_tail")
        if not fields.get("image"):
            fields.wrong("image", "is required")
        elements = _elements(fields)
    else:
        aspect_ratio = fields.choice("aspect_ratio", ASPECT_RATIOS, ASPECT_RATIOS[0])
    multi_shot = fields.flag("multi_shot", False)
    order = Order(
        path=path,
        model=name,
        limits=MODELS[LEGACY_MODELS[name]],
        shots=_shots(fields, multi_shot, seconds, prompt_needed=path == TEXT_TO_VIDEO),
        seconds=seconds,
        resolution=RESOLUTIONS[fields.choice("mode", tuple(RESOLUTIONS), "std")],
        audio=fields.choice("sound", ("on", "off"), "off") == "on",
        multi_shot=multi_shot,
        aspect_ratio=aspect_ratio,
        image=image,
        last_image=last_image,
        elements=elements,
        external_id=fields.text("external_task_id"),
        watermark=fields.inner("watermark_info").flag("enabled", False),
    )
    refuse_if(fields.problems)
    return order.checked()


def _model_name(fields: Fields) -> str:
    name = fields.get("model_name")
    if name is None:
        raise ApiError(400, BAD_PARAMETER, "model_name is required: the default, kling-v1, is retired")
    if not isinstance(name, str) or name not in LEGACY_MODELS:
        raise ApiError(404, NO_SUCH_MODEL, f"model {name} is not supported")
    return name


def _check_cfg_scale(fields: Fields, model: str) -> None:
    value = fields.get("cfg_scale")
    if model != "kling-v3":
        fields.wrong("cfg_scale", f"is not supported by {model}")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        fields.wrong("cfg_scale", "must be a number from 0 to 1")


def _seconds(fields: Fields) -> int:
    value = fields.get("duration")
    if value is None:
        return DEFAULT_SECONDS
    if (seconds := _whole_seconds(value)) is None:
        fields.wrong("duration", 'must be a string such as "5"')
    return seconds or DEFAULT_SECONDS


def _whole_seconds(value: object) -> int | None:
    """Return the positive number in a string, None if it is something else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and 0 < len(value) < 4:
        return int(value) or None
    return None


def _elements(fields: Fields) -> int:
    given = fields.get("element_list")
    if given is None:
        return 0
    if not isinstance(given, list) or not all(_is_element(element) for element in given):
        fields.wrong("element_list", "must be an array of objects with an element_id")
        return 0
    if len(given) > MOST_ELEMENTS:
        fields.wrong("element_list", f"must have at most {MOST_ELEMENTS} elements")
    return len(given)


def _is_element(value: object) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("element_id"), int | str)


def _shots(fields: Fields, multi_shot: bool, seconds: int, *, prompt_needed: bool) -> tuple[Shot, ...]:
    prompt = fields.text("prompt", LONGEST_PROMPT)
    one = (Shot(drawable(prompt), float(seconds)),)
    if not multi_shot:
        for name in ("shot_type", "multi_prompt"):
            if fields.get(name) is not None:
                fields.wrong(name, "is invalid when multi_shot is false")
        if prompt_needed and not prompt:
            fields.wrong("prompt", "is required")
        return one
    if fields.get("shot_type") is None:
        fields.wrong("shot_type", "is required when multi_shot is true")
        return one
    if fields.choice("shot_type", ("customize", "intelligence"), "intelligence") == "intelligence":
        if not prompt:
            fields.wrong("prompt", "is required when shot_type is intelligence")
        return one
    if prompt:
        fields.wrong("prompt", "is invalid when shot_type is customize")
    return _multi_prompt(fields, seconds)


def _multi_prompt(fields: Fields, seconds: int) -> tuple[Shot, ...]:
    given = fields.get("multi_prompt")
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_SHOTS:
        fields.wrong("multi_prompt", f"must be an array of 1 to {MOST_SHOTS} shots")
        return ()
    shots = []
    for number, entry in enumerate(given, 1):
        shot = Fields(entry, f"multi_prompt[{number - 1}]", fields.problems)
        text = shot.text("prompt", LONGEST_SHOT)
        if not text:
            shot.wrong("prompt", "is required")
        if shot.get("index") != number or isinstance(shot.get("index"), bool):
            shot.wrong("index", f"must be {number}")
        length = _whole_seconds(shot.get("duration"))
        if length is None:
            shot.wrong("duration", 'must be a string such as "2"')
        shots.append(Shot(drawable(text), float(length or 0)))
    if not fields.problems and sum(shot.seconds for shot in shots) != seconds:
        fields.wrong("multi_prompt", f"must have durations with the sum {seconds}")
    return tuple(shots)
