# SPDX-License-Identifier: Apache-2.0
"""What the asset event of a stored video says of it, so that a DAG scheduled on the asset knows its file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Asset, AssetAlias

from airflow_provider_kling.utils.store_uris import without_connection
from airflow_provider_kling.version_compat import AssetRef

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

#: Maximum length of a text in an event, in characters. Airflow keeps events in its database, each forever.
MAX_TEXT = 200
#: Maximum number of tags in an event.
MAX_TAGS = 20


def describe_outlets(outlets: list[Any], context: Context, video: Mapping[str, Any], *, model: str | None) -> None:
    """
    Attach the facts of a stored video to the event of each asset in ``outlets``.

    An alias gets an event of the asset with the file's own URI. A failure is logged: the video is stored.

    :param outlets: The task's outlets.
    :param context: The task's context.
    :param video: The stored video, a :class:`~airflow_provider_kling.jobs.result.KlingVideo`.
    :param model: The requested model, where the server does not report one.
    """
    for outlet in outlets:
        try:
            if isinstance(outlet, AssetAlias):
                asset = Asset(uri=without_connection(video["path"]))
                context["outlet_events"][outlet].add(asset, extra=_facts(video, model))
            elif isinstance(outlet, (Asset, AssetRef)):
                context["outlet_events"][outlet].extra.update(_facts(video, model))
        except Exception as error:  # noqa: BLE001 - whatever it is, the video is paid for and stored
            log.warning("The event of %r says nothing of the video: %s", outlet, error)


def _facts(video: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    from airflow_provider_kling.jobs.result import prompt_of

    tags = video.get("tags") or {}
    facts = {
        "path": video["path"],
        "sha256": video.get("sha256"),
        "seconds": video.get("seconds"),
        "model": video.get("model") or model,
        "kling_task_id": video["kling_task_id"],
        "prompt": _bounded(prompt_of(video.get("request"))),
        "tags": {_bounded(str(name)): _bounded(value) for name, value in list(tags.items())[:MAX_TAGS]},
    }
    optional = ("estimated_cost", "currency", "billed")
    return facts | {name: video[name] for name in optional if video.get(name) is not None}


def _bounded(value: Any) -> Any:
    if value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"
