# SPDX-License-Identifier: Apache-2.0
"""
The place of each field of ``extra_body`` in a create request.

The platform ignores a field at the wrong level without a word, and bills the video. So a field is put where it
belongs, or refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_kling.exceptions import Problem

if TYPE_CHECKING:
    from airflow_provider_kling.api.request import VideoRequest

CLIENT_TOKEN = "external_task_id"  # noqa: S105
#: Objects of the new standard.
_OBJECTS = ("settings", "options")
#: Fields of ``options`` that may also stand at the top of ``extra_body``, as in the legacy standard.
_OPTIONS = ("callback_url", "watermark_info")
#: Fields that an argument sets, on either standard and at any level, with the argument.
_ARGUMENTS = {
    "model": "model",
    "model_name": "model",
    "prompt": "prompt",
    "contents": "prompt, image, last_image and element_list",
    "image": "image",
    "image_url": "image",
    "image_tail": "last_image",
    "last_image": "last_image",
    "aspect_ratio": "aspect_ratio",
    "duration": "duration",
    "resolution": "mode",
    "mode": "mode",
    "audio": "sound",
    "sound": "sound",
    "negative_prompt": "negative_prompt",
    "cfg_scale": "cfg_scale",
    "multi_prompt": "multi_prompt",
    "element_list": "element_list",
    "shot_type": "shot_type",
}
#: Levels of ``extra_body`` that are searched for the client token.
_MAX_DEPTH = 12
Standard = Literal["legacy", "new"]


class Placed(NamedTuple):
    """
    The fields of ``extra_body``, by their place in the body.

    :param top: At the top.
    :param settings: In ``settings``.
    :param options: In ``options``.
    """

    top: dict[str, Any]
    settings: dict[str, Any]
    options: dict[str, Any]


def placed(request: VideoRequest, standard: Standard) -> Placed:
    """Return the fields in their places; :func:`extra_problems` must have found none."""
    if standard == "legacy":
        return Placed(dict(request.extra_body), {}, {})
    extra = request.extra_body
    moved = {name: extra[name] for name in _OPTIONS if name in extra}
    return Placed({}, dict(extra.get("settings", {})), {**extra.get("options", {}), **moved})


def extra_problems(request: VideoRequest, standard: Standard, *, has_shots: bool) -> Iterator[Problem]:
    """
    Yield the problems of ``extra_body``.

    :param has_shots: Whether the model may cut a video into several shots.
    """
    extra = request.extra_body
    if (where := _place_of_token(extra, "extra_body")) is not None:
        expected = "is set by this package, which finds a paid job by it; leave it out"
        yield Problem(where, "***", expected)
    yield from _legacy_problems(extra) if standard == "legacy" else _new_problems(extra, has_shots=has_shots)


def _legacy_problems(extra: Mapping[str, Any]) -> Iterator[Problem]:
    for name, value in extra.items():
        if name in _OBJECTS:
            expected = (
                "belongs to the new standard (kling-3.0); this model takes such fields at the top of extra_body"
            )
            yield Problem(f"extra_body.{name}", value, expected)
        elif name == "multi_shot":
            yield Problem("extra_body.multi_shot", value, "is set by the arguments multi_prompt and shot_type")
        elif name in _ARGUMENTS:
            yield _set_by_argument("extra_body", name, value)


def _new_problems(extra: Mapping[str, Any], *, has_shots: bool) -> Iterator[Problem]:
    for name, value in extra.items():
        if name in _OBJECTS:
            yield from _object_problems(name, value, extra, has_shots=has_shots)
        elif name == "multi_shot":
            yield Problem(
                "extra_body.multi_shot", value, 'belongs into settings: {"settings": {"multi_shot": true}}'
            )
        elif name in _ARGUMENTS:
            yield _set_by_argument("extra_body", name, value)
        elif name not in (*_OPTIONS, CLIENT_TOKEN):
            expected = "would be ignored here; write it inside settings or options, where the documentation has it"
            yield Problem(f"extra_body.{name}", value, expected)


def _object_problems(place: str, value: Any, extra: Mapping[str, Any], *, has_shots: bool) -> Iterator[Problem]:
    where = f"extra_body.{place}"
    if not isinstance(value, Mapping):
        yield Problem(where, value, "must be an object (dict)")
        return
    for name, inner in value.items():
        if name in _ARGUMENTS:
            yield _set_by_argument(where, name, inner)
        elif name == "multi_shot" and (place != "settings" or not isinstance(inner, bool)):
            yield Problem(f"{where}.{name}", inner, "must be true or false, inside settings")
        elif name == "multi_shot" and inner and not has_shots:
            yield Problem(f"{where}.{name}", inner, "this model makes one shot only")
        elif name in _OPTIONS and place != "options":
            yield Problem(f"{where}.{name}", inner, "belongs into options")
        elif name in _OPTIONS and extra.get(name, inner) != inner:
            yield Problem(f"{where}.{name}", inner, f"differs from extra_body.{name}; give it once")


def _set_by_argument(where: str, name: str, value: Any) -> Problem:
    return Problem(f"{where}.{name}", value, f"is set by the argument {_ARGUMENTS[name]}; use that")


def _place_of_token(value: Any, where: str, depth: int = 0) -> str | None:
    """Return the place of a client token in a value, at any level."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        if CLIENT_TOKEN in value:
            return f"{where}.{CLIENT_TOKEN}"
        children = [(f"{where}.{name}", child) for name, child in value.items()]
    elif isinstance(value, (list, tuple)):
        children = [(f"{where}[{place}]", child) for place, child in enumerate(value)]
    else:
        return None
    found = (_place_of_token(child, name, depth + 1) for name, child in children)
    return next(filter(None, found), None)
