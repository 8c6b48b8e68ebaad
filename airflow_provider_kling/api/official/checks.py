# SPDX-License-Identifier: Apache-2.0
"""Check a request by the platform's limits before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_kling.api.models import PLATFORM_MODELS
from airflow_provider_kling.api.official.extras import extra_problems
from airflow_provider_kling.api.official.payload import model_of
from airflow_provider_kling.api.official.shots import shot_problems, timed_shots
from airflow_provider_kling.api.request import limit_problems
from airflow_provider_kling.exceptions import Problem

if TYPE_CHECKING:
    from airflow_provider_kling.api.models import Model
    from airflow_provider_kling.api.request import VideoRequest


def problems_of(request: VideoRequest, *, has_api_key: bool) -> list[Problem]:
    """
    Return the problems of a request.

    :param has_api_key: Whether the account has an API key; the new standard takes no other.
    """
    model = model_of(request)
    problems = []
    if model.standard == "new" and not has_api_key:
        expected = f"needs an API key; with an access key use {_nearest_legacy(model)}"
        problems.append(Problem("model", request.model, expected))
    problems += extra_problems(request, model.standard, has_shots=model.shots is not None)
    if not request.multi_prompt or model.shots != "multi_prompt":
        return problems + limit_problems(request)
    if wrong := list(shot_problems(request.multi_prompt, request.duration)):
        return problems + wrong + limit_problems(request._replace(multi_prompt=None, shot_type=None))
    shots, seconds = timed_shots(request.multi_prompt, request.duration)
    return problems + limit_problems(request._replace(multi_prompt=shots, duration=seconds))


def _nearest_legacy(model: Model) -> str:
    legacy = (other for other in PLATFORM_MODELS.values() if other.standard == "legacy")
    return min(legacy, key=lambda other: abs(other.version - model.version)).name
