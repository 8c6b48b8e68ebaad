# SPDX-License-Identifier: Apache-2.0
"""Submit video jobs to Kling."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.failures import failing_the_task, task_failure
from airflow_provider_kling.links.kling import KlingVideoLink
from airflow_provider_kling.polling import DEFAULT_TIMEOUT, seconds_of, video_of
from airflow_provider_kling.wire.request import REQUEST_FIELDS, VideoRequest, find_problems

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kling.hooks.kling import KlingHook


class KlingGenerateOperator(BaseOperator):
    """
    Submit a video job, and wait for it if asked to.

    Wrong arguments are refused before a cent is spent: literal ones when the DAG file is parsed, templated ones
    when the task runs, without a retry. Every accepted submit is billed and none can be cancelled.

    .. seealso:: The request fields are those of the API page (``POST /v1/video/generations``).

    :param model: ``kling-v3-std-silent``, ``kling-v3-std-audio``, ``kling-v3-pro-silent`` or
        ``kling-v3-pro-audio``.
    :param prompt: What the video shows. In image mode it excludes ``multi_prompt``.
    :param image: Public URL of a reference image; the first frame when ``last_image`` is given.
    :param last_image: Public URL of the last frame.
    :param aspect_ratio: ``16:9``, ``9:16`` or ``1:1``; may not be honoured in image mode.
    :param duration: Length of the video in whole seconds, 3 to 15; the server's default if not given.
    :param negative_prompt: What to avoid.
    :param cfg_scale: Prompt adherence, usually 0 to 1; higher follows the prompt more closely.
    :param multi_prompt: The shots of a multi-shot video, each ``{"prompt": ..., "duration": ...}``.
    :param element_list: Element references.
    :param shot_type: ``customize`` or ``intelligent``.
    :param extra_body: Anything else the API takes inside ``extra_body``. An argument above wins over the same key
        here; two different values for one field are an error.
    :param kling_conn_id: The Airflow connection.
    :param wait_for_completion: False returns the task id at once, for a ``KlingTaskSensor`` downstream; True waits
        and returns the finished video.
    :param deferrable: Wait on the triggerer, holding no worker.
    :param poll_interval: Seconds (or a timedelta) between two status checks; None leaves the pace to the provider.
    :param timeout: Seconds (or a timedelta) to wait for the video, 4 hours by default. Unlike
        ``execution_timeout``, it counts while the task is deferred on every Airflow version.
    :return: The Kling task id; with ``wait_for_completion`` the finished video: a dict with ``task_id``,
        ``model``, ``status``, ``progress``, ``video_url``, ``created_at``, ``completed_at`` and ``error``.
        XCom ``kling_task_id`` is pushed as soon as the submit is answered, ``video_url`` when there is one.
    :raises KlingError: by name, see :mod:`airflow_provider_kling.exceptions`; those that a retry cannot cure
        fail the task at once.
    """

    template_fields: Sequence[str] = (*REQUEST_FIELDS, "kling_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "multi_prompt": "json",
        "element_list": "json",
        "extra_body": "json",
    }
    operator_extra_links = (KlingVideoLink(),)
    ui_color = "#e8f5d0"

    def __init__(
        self,
        *,
        model: str,
        prompt: str | None = None,
        image: str | None = None,
        last_image: str | None = None,
        aspect_ratio: str | None = None,
        duration: int | None = None,
        negative_prompt: str | None = None,
        cfg_scale: float | None = None,
        multi_prompt: list[Any] | None = None,
        element_list: list[Any] | None = None,
        shot_type: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        kling_conn_id: str = "kling_default",
        wait_for_completion: bool = False,
        deferrable: bool = True,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.prompt = prompt
        self.image = image
        self.last_image = last_image
        self.aspect_ratio = aspect_ratio
        self.duration = duration
        self.negative_prompt = negative_prompt
        self.cfg_scale = cfg_scale
        self.multi_prompt = multi_prompt
        self.element_list = element_list
        self.shot_type = shot_type
        self.extra_body = extra_body
        self.kling_conn_id = kling_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = None if poll_interval is None else seconds_of("poll_interval", poll_interval)
        self.timeout = seconds_of("timeout", timeout)
        _refuse_wrong_literals({name: getattr(self, name) for name in REQUEST_FIELDS})

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Prepare a mapped task; its literal arguments are checked here, since no operator is made at parse."""
        _refuse_wrong_literals(
            {name: kwargs[name] for name in REQUEST_FIELDS if name in kwargs}, others_follow=True
        )
        return super().partial(**kwargs)

    def execute(self, context: Context) -> Any:
        """Submit the job; then return its id, or wait for the video."""
        with failing_the_task():
            request = VideoRequest.build(**{name: getattr(self, name) for name in REQUEST_FIELDS})
            for warning in request.warnings():
                self.log.warning("Kling request: %s", warning)
            job = self._hook().submit_video(request)
            context["ti"].xcom_push(key="kling_task_id", value=job.task_id)
            self.log.info("Kling accepted the job as task %s (%s)", job.task_id, job.status_word or job.status)
            if not self.wait_for_completion:
                return job.task_id
            return self._wait(context, job.task_id)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the finished video that the trigger reported, or raise what it reported instead."""
        with failing_the_task():
            return self._finish(context, video_of(event))

    def _wait(self, context: Context, kling_task_id: str) -> dict[str, Any]:
        now = time.time()
        if self.deferrable:
            from airflow_provider_kling.triggers.kling import defer_until_finished

            defer_until_finished(self, kling_task_id, started_at=now)
        video = self._hook().wait_for_video(
            kling_task_id, started_at=now, deadline=now + self.timeout, poll_interval=self.poll_interval
        )
        return self._finish(context, video)

    def _finish(self, context: Context, video: dict[str, Any]) -> dict[str, Any]:
        context["ti"].xcom_push(key="video_url", value=video["video_url"])
        self.log.info("Kling task %s is finished: %s", video["task_id"], video["video_url"])
        return video

    def _hook(self) -> KlingHook:
        from airflow_provider_kling.hooks.kling import KlingHook

        return KlingHook(self.kling_conn_id)


def _refuse_wrong_literals(arguments: Mapping[str, Any], others_follow: bool = False) -> None:
    """
    Raise for arguments that are wrong already, before any template is rendered.

    :param arguments: The request fields that are given.
    :param others_follow: Whether fields not given here come later, from a mapping.
    """
    known = {name: value for name, value in arguments.items() if _is_literal(value)}
    later = set(REQUEST_FIELDS) - known.keys() if others_follow else arguments.keys() - known.keys()
    if problems := find_problems(known, unknown=later):
        # A mapped task is made on the worker, where this must not be retried either.
        raise task_failure(KlingValidationError.of(problems))


def _is_literal(value: Any) -> bool:
    """Return whether a value is what it will be at run time: no template, no output of another task."""
    if isinstance(value, str):
        return not any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return all(_is_literal(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_literal(item) for item in value)
    return value is None or isinstance(value, (bool, int, float))
