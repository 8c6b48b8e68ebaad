# SPDX-License-Identifier: Apache-2.0
"""
The gateway vendor's documented rules for a request, implemented a second time for the server.

Nothing here is shared with the checks of the client, so that an error on one side fails the tests of the other. A
value for which the vendor's page has no rule is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.video import Shot, VideoRequest, drawable, is_public_url

MODELS = ("kling-v3-std-silent", "kling-v3-std-audio", "kling-v3-pro-silent", "kling-v3-pro-audio")
ASPECT_RATIOS = ("16:9", "9:16", "1:1")
SHOT_TYPES = ("customize", "intelligent")
SHORTEST_SECONDS, LONGEST_SECONDS, DEFAULT_SECONDS = 3, 15, 5


def parse_request(body: Any) -> VideoRequest:
    """
    Check a decoded JSON body against the vendor's documentation.

    :raises ApiError: with 400 ``invalid_request`` and all problems in the message, if the body is wrong.
    """
    if not isinstance(body, Mapping):
        raise ApiError(400, "invalid_request", "the request body must be a JSON object")
    extra = body.get("extra_body")
    extra = {} if extra is None else extra
    if not isinstance(extra, Mapping):
        raise ApiError(400, "invalid_request", "extra_body must be an object")
    problems = [*_plain_problems(body, extra), *_image_problems(body), *_prompt_problems(body, extra)]
    if problems:
        raise ApiError(400, "invalid_request", "; ".join(problems))
    seconds = body.get("duration") or DEFAULT_SECONDS
    return VideoRequest(
        model=body["model"],
        shots=_shots(body.get("prompt"), extra.get("multi_prompt"), seconds),
        seconds=seconds,
        aspect_ratio=body.get("aspect_ratio") or ASPECT_RATIOS[0],
        image=body.get("image"),
        last_image=body.get("last_image"),
        audio=body["model"].endswith("-audio"),
        short_side=1080 if "-pro-" in body["model"] else 720,
    )


def _plain_problems(body: Mapping[str, Any], extra: Mapping[str, Any]) -> list[str]:
    problems = []
    if body.get("model") not in MODELS:
        problems.append(f"model must be one of {', '.join(MODELS)}")
    duration = body.get("duration")
    if duration is not None and not (
        _is_number(duration, int) and SHORTEST_SECONDS <= duration <= LONGEST_SECONDS
    ):
        problems.append(f"duration must be an integer of {SHORTEST_SECONDS} to {LONGEST_SECONDS} seconds")
    for name, value, allowed in (
        ("aspect_ratio", body.get("aspect_ratio"), ASPECT_RATIOS),
        ("extra_body.shot_type", extra.get("shot_type"), SHOT_TYPES),
    ):
        if value is not None and value not in allowed:
            problems.append(f"{name} must be one of {', '.join(allowed)}")
    if extra.get("cfg_scale") is not None and not _is_number(extra["cfg_scale"], int, float):
        problems.append("extra_body.cfg_scale must be a number")
    if not isinstance(extra.get("negative_prompt", ""), str | None):
        problems.append("extra_body.negative_prompt must be a string")
    if not isinstance(extra.get("element_list", []), list | None):
        problems.append("extra_body.element_list must be an array")
    return problems


def _is_number(value: object, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)


def _image_problems(body: Mapping[str, Any]) -> list[str]:
    problems = []
    if body.get("last_image") is not None and body.get("image") is None:
        problems.append("last_image needs image")
    for name in ("image", "last_image"):
        url = body.get(name)
        if url is not None and not (isinstance(url, str) and is_public_url(url)):
            problems.append(f"{name} must be a public http(s) URL")
    return problems


def _prompt_problems(body: Mapping[str, Any], extra: Mapping[str, Any]) -> list[str]:
    prompt, shots = body.get("prompt"), extra.get("multi_prompt")
    problems = []
    if prompt is not None and not isinstance(prompt, str):
        problems.append("prompt must be a string")
    if shots is not None and not (isinstance(shots, list) and all(_is_shot(shot) for shot in shots)):
        problems.append("extra_body.multi_prompt must be an array of prompts, or of objects with a prompt")
    if not prompt and not shots:
        problems.append("prompt or extra_body.multi_prompt is required")
    if prompt and shots and body.get("image") is not None:
        problems.append("prompt and extra_body.multi_prompt cannot be passed together in image mode")
    return problems


def _is_shot(shot: object) -> bool:
    if isinstance(shot, Mapping):
        try:
            return isinstance(shot.get("prompt"), str) and 0 < float(shot.get("duration") or 1) < math.inf
        except (TypeError, ValueError):
            return False
    return isinstance(shot, str)


def _shots(prompt: str | None, multi_prompt: list[Any] | None, seconds: int) -> tuple[Shot, ...]:
    """Spread the shots over the whole duration, in proportion to their own durations."""
    if not multi_prompt:
        return (Shot(drawable(prompt or ""), float(seconds)),)
    shots = [shot if isinstance(shot, Mapping) else {"prompt": shot} for shot in multi_prompt]
    weights = [float(shot.get("duration") or 1) for shot in shots]
    return tuple(
        Shot(
            drawable("\n\n".join(text for text in (prompt, shot["prompt"]) if text)),
            seconds * weight / sum(weights),
        )
        for shot, weight in zip(shots, weights, strict=True)
    )
