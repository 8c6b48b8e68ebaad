# SPDX-License-Identifier: Apache-2.0
"""The new standard's rules for a create request."""

from __future__ import annotations

from typing import Any

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.official.fields import MOST_ELEMENTS, Fields
from airflow_provider_kling.sandbox.official.order import (
    ASPECT_RATIOS,
    DEFAULT_SECONDS,
    MODELS,
    SHORT_SIDES,
    Order,
    refuse_if,
)
from airflow_provider_kling.sandbox.video import Shot, drawable

TEXT_TO_VIDEO = "/text-to-video"
IMAGE_TO_VIDEO = "/image-to-video"
LONGEST_PROMPT = 3072
NO_SUCH_MODEL = 1203


class _Contents:
    """The parts of an image-to-video request; what stands in the wrong place is ignored."""

    def __init__(self, fields: Fields) -> None:
        self.prompt = ""
        self.frames: dict[str, str | None] = {}
        self.elements = 0
        given = fields.get("contents")
        if not isinstance(given, list):
            fields.wrong("contents", "must be an array")
            return
        for number, entry in enumerate(given):
            self._add(Fields(entry, f"contents[{number}]", fields.problems))
        if "first_frame" not in self.frames:
            fields.wrong("contents", "must have a first_frame")
        if self.elements > MOST_ELEMENTS:
            fields.wrong("contents", f"must have at most {MOST_ELEMENTS} elements")

    def _add(self, part: Fields) -> None:
        kind = part.choice("type", ("prompt", "first_frame", "last_frame", "element"), "")
        if kind == "prompt":
            self.prompt = part.text("text", LONGEST_PROMPT)
        elif kind == "element":
            self.elements += 1
            if part.get("element_id") is None:
                part.wrong("element_id", "is required")
        elif kind:
            self.frames[kind] = part.image("url")
            if not part.get("url"):
                part.wrong("url", "is required")
        elif part.get("type") is None:
            part.wrong("type", "is required")


def parse_new(path: str, model: str, body: Any) -> Order:
    """
    Check a decoded JSON body; unknown fields, and those at another level, are ignored.

    :param path: ``/text-to-video`` or ``/image-to-video``.
    :param model: The model of the path.
    :raises ApiError: with 400 and 1201 (404 and 1203 for an unknown model), if the body is wrong.
    """
    if model not in MODELS:
        raise ApiError(404, NO_SUCH_MODEL, f"model {model} does not exist")
    limits = MODELS[model]
    fields = Fields({} if body is None else body)
    refuse_if(fields.problems)
    settings, options = fields.inner("settings"), fields.inner("options")
    aspect_ratio, frames, elements = None, {}, 0
    if path == IMAGE_TO_VIDEO:
        contents = _Contents(fields)
        prompt, frames, elements = contents.prompt, contents.frames, contents.elements
    else:
        aspect_ratio = settings.choice("aspect_ratio", ASPECT_RATIOS, ASPECT_RATIOS[0])
        prompt = fields.text("prompt", LONGEST_PROMPT)
        if not prompt:
            fields.wrong("prompt", "is required")
    options.text("callback_url")
    seconds = _seconds(settings)
    order = Order(
        path=f"{path}/{model}",
        model=model,
        limits=limits,
        shots=(Shot(drawable(prompt), float(seconds)),),
        seconds=seconds,
        resolution=settings.choice("resolution", tuple(SHORT_SIDES), "720p"),
        # A model that always has sound has no such setting, and ignores it.
        audio=not limits.silent or settings.choice("audio", ("native", "off"), "off") == "native",
        multi_shot=settings.flag("multi_shot", limits.multi_shot),
        aspect_ratio=aspect_ratio,
        image=frames.get("first_frame"),
        last_image=frames.get("last_frame"),
        elements=elements,
        external_id=options.text("external_task_id"),
        watermark=options.inner("watermark_info").flag("enabled", False),
    )
    refuse_if(fields.problems)
    return order.checked()


def _seconds(settings: Fields) -> int:
    value = settings.get("duration")
    if value is None:
        return DEFAULT_SECONDS
    if isinstance(value, bool) or not isinstance(value, int):
        settings.wrong("duration", "must be an integer")
        return DEFAULT_SECONDS
    return value
