# SPDX-License-Identifier: Apache-2.0
"""The create requests of both standards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.base import HttpCall
from airflow_provider_kling.api.models import PLATFORM_MODELS, Model, Resolved, resolve
from airflow_provider_kling.api.official.extras import CLIENT_TOKEN, placed
from airflow_provider_kling.api.official.routes import IMAGE_TO_VIDEO, TEXT_TO_VIDEO
from airflow_provider_kling.api.official.shots import DEFAULT_SECONDS, timed_shots

if TYPE_CHECKING:
    from airflow_provider_kling.api.request import VideoRequest

#: The words of the new standard for a mode.
RESOLUTIONS = {"std": "720p", "pro": "1080p", "4k": "4k"}


def resolved(request: VideoRequest) -> Resolved:
    """Return what a request asks for, in the names of the platform."""
    return resolve(request.model, request.mode, request.sound)


def model_of(request: VideoRequest) -> Model:
    """Return the platform's model for a request."""
    return PLATFORM_MODELS[resolved(request).model]


def legacy_path(request: VideoRequest) -> str:
    """Return the create path of the legacy standard."""
    return IMAGE_TO_VIDEO if request.image else TEXT_TO_VIDEO


def submit_call(request: VideoRequest, client_token: str | None) -> HttpCall:
    """
    Return the call that creates a task.

    :param client_token: The ``external_task_id``.
    """
    wanted, model = resolved(request), model_of(request)
    if model.standard == "legacy":
        return HttpCall("POST", legacy_path(request), _legacy_body(request, wanted, model, client_token))
    kind = "image-to-video" if request.image else "text-to-video"
    return HttpCall("POST", f"/{kind}/{model.name}", _new_body(request, wanted, model, client_token))


def _legacy_body(
    request: VideoRequest, wanted: Resolved, model: Model, client_token: str | None
) -> dict[str, Any]:
    multi_shot = _multi_shot(request)
    return {
        **placed(request, "legacy").top,
        # The default is a retired model.
        "model_name": model.name,
        "mode": wanted.mode,
        # A boolean is refused.
        **({"sound": "on" if wanted.sound else "off"} if model.sound else {}),
        "duration": str(request.duration or DEFAULT_SECONDS),
        **_given(prompt=request.prompt, negative_prompt=request.negative_prompt, cfg_scale=request.cfg_scale),
        **_given(image=request.image, image_tail=request.last_image),
        **({} if request.image else _given(aspect_ratio=request.aspect_ratio)),
        **({"element_list": [_element(each) for each in request.element_list]} if request.element_list else {}),
        **multi_shot,
        **_given(**{CLIENT_TOKEN: client_token}),
    }


def _multi_shot(request: VideoRequest) -> dict[str, Any]:
    if request.multi_prompt:
        shots, seconds = timed_shots(request.multi_prompt, request.duration)
        return {
            "multi_shot": True,
            "shot_type": "customize",
            "multi_prompt": shots,
            "duration": str(seconds),
        }
    # The platform has its own word for "intelligent".
    return {"multi_shot": True, "shot_type": "intelligence"} if request.shot_type == "intelligent" else {}


def _new_body(request: VideoRequest, wanted: Resolved, model: Model, client_token: str | None) -> dict[str, Any]:
    extra = placed(request, "new")
    settings = {
        "resolution": RESOLUTIONS[wanted.mode],
        **({} if request.image else _given(aspect_ratio=request.aspect_ratio)),
        "duration": request.duration or DEFAULT_SECONDS,
        **({"audio": "native" if wanted.sound else "off"} if model.sound and model.silent else {}),
        # The platform's default is true.
        **({"multi_shot": False} if model.shots else {}),
        **extra.settings,
    }
    options = {**extra.options, **_given(**{CLIENT_TOKEN: client_token})}
    return {
        **({"contents": list(_contents(request))} if request.image else {"prompt": request.prompt}),
        "settings": settings,
        **({"options": options} if options else {}),
    }


def _contents(request: VideoRequest) -> list[dict[str, Any]]:
    prompt = [{"type": "prompt", "text": request.prompt}] if request.prompt else []
    frames = (("first_frame", request.image), ("last_frame", request.last_image))
    return [
        *prompt,
        *({"type": kind, "url": url} for kind, url in frames if url),
        *({**_element(element), "type": "element"} for element in request.element_list or ()),
    ]


def _element(element: Any) -> dict[str, Any]:
    return dict(element) if isinstance(element, Mapping) else {"element_id": element}


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
