# SPDX-License-Identifier: Apache-2.0
"""Submit video jobs to Kling."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.api.request import REQUEST_FIELDS, VideoRequest, find_problems
from airflow_provider_kling.exceptions import (
    KlingError,
    KlingRateLimitError,
    KlingTimeoutError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
    KlingValidationError,
    Problem,
)
from airflow_provider_kling.jobs.polling import (
    DEFAULT_TIMEOUT,
    FORMAT,
    STILL_RUNNING,
    to_seconds,
    video_from_event,
)
from airflow_provider_kling.links.kling import KlingVideoLink
from airflow_provider_kling.tasks.failures import as_task_failures, task_failure
from airflow_provider_kling.tasks.waiting import SHORTEST_DEFERRAL, WaitingTask
from airflow_provider_kling.version_compat import (
    TaskDeferralError,
    TaskDeferralTimeout,
    is_test_run,
    normalize_deferral_errors,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kling.jobs.journal import Submit
    from airflow_provider_kling.jobs.result import KlingVideo
    from airflow_provider_kling.jobs.submission import OnClear, OnUncertain, SubmitRequest, SubmitResult, Submitter

#: Seconds to go on submitting while the account has no slot free.
DEFAULT_SUBMIT_TIMEOUT = 24 * 3600.0


class KlingGenerateOperator(WaitingTask, BaseOperator):
    """
    Submit a video job, and wait for it if asked to.

    A video is paid for once: a retry, a restarted worker or a cleared task joins the job that an earlier attempt
    bought, as :mod:`airflow_provider_kling.jobs.submission` decides. While the account has no slot free, the task
    defers and submits later.

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
    :param deferrable: Wait on the triggerer, holding no worker. None reads ``[kling] deferrable`` (true by
        default).
    :param poll_interval: Seconds (or a timedelta) between two status checks; None leaves the pace to the provider.
    :param timeout: Seconds (or a timedelta) to wait for the video, 4 hours by default. Unlike
        ``execution_timeout``, it counts while the task is deferred on every Airflow version.
    :param submit_timeout: Seconds (or a timedelta) to go on submitting while the account has no slot free or the
        API is not there, 24 hours by default. In between the task is deferred.
    :param on_clear: What clearing the task means once a job was bought: ``reuse`` (default) joins that job if the
        request is the same, ``resubmit`` buys another.
    :param on_uncertain: What to do when a submit may have been accepted but no id arrived: ``fail`` (default)
        without a retry, so that a person looks and answers, or ``resubmit`` once per request, which may pay
        twice.
    :param take: Which take of the same request this is. Another number buys another video; it is not sent.
    :return: The Kling task id; with ``wait_for_completion`` the finished video: a dict with ``task_id``,
        ``model``, ``status``, ``raw_status``, ``progress``, ``video_url``, ``created_at``, ``completed_at``,
        ``error`` and ``error_code``.
        XCom ``kling_task_id`` is pushed as soon as the submit is answered, ``video_url`` when there is one.
    :raises KlingError: by name, see :mod:`airflow_provider_kling.exceptions`; those that a retry cannot cure
        fail the task at once.
    """

    template_fields: Sequence[str] = (*REQUEST_FIELDS, "kling_conn_id", "take")
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
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        submit_timeout: float | timedelta = DEFAULT_SUBMIT_TIMEOUT,
        on_clear: OnClear = "reuse",
        on_uncertain: OnUncertain = "fail",
        take: int = 1,
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
        self.poll_interval = None if poll_interval is None else to_seconds("poll_interval", poll_interval)
        self.timeout = to_seconds("timeout", timeout)
        self.submit_timeout = to_seconds("submit_timeout", submit_timeout)
        self.on_clear = on_clear
        self.on_uncertain = on_uncertain
        self.take = take
        self._kling_task_id: str | None = None
        self._submitter: Submitter | None = None
        self._video_seconds: int | None = None
        _refuse_wrong_choices(on_clear=on_clear, on_uncertain=on_uncertain, take=take)
        _refuse_wrong_literals(self._arguments())

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Prepare a mapped task; its literal arguments are checked here, since no operator is made at parse."""
        _refuse_wrong_choices(**{name: kwargs[name] for name in _CHOICES if name in kwargs})
        for name in ("poll_interval", "timeout", "submit_timeout"):
            if kwargs.get(name) is not None:
                to_seconds(name, kwargs[name])
        given = {name: kwargs[name] for name in REQUEST_FIELDS if name in kwargs}
        _refuse_wrong_literals(given, others_follow=True)
        return _CheckedPartial(super().partial(**kwargs), given)

    def execute(self, context: Context) -> Any:
        """Submit the job, or join the one an earlier attempt bought; then return its id, or wait for the video."""
        if is_test_run(context):
            self.log.warning(
                "This is a test run: nothing that it records is kept for another, so each test run buys a video"
            )
        return self._obtain(context, since=time.time(), refusals=0)

    def submit_again(
        self,
        context: Context,
        event: dict[str, Any] | None = None,
        *,
        since: float | None = None,
        refusals: int = 1,
        version: int = FORMAT,
    ) -> Any:
        """
        Go on where the task deferred because the account had no slot free, or the API was not there.

        ``dag.test()`` hands over the event alone; there the time counts anew.
        """
        return self._obtain(context, since=time.time() if since is None else since, refusals=refusals)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> KlingVideo:
        """Return the finished video that the trigger reported, or raise what it reported instead."""
        from airflow_provider_kling.records import forget_after_success, is_durable

        with as_task_failures(final=not is_durable(context)):
            video = self._publish_result(context, video_from_event(event))
        forget_after_success(self, context)
        return video

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume as every operator does; after a trigger that crashed, wait on for the same job."""
        try:
            with normalize_deferral_errors():
                return super().resume_execution(next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            from airflow_provider_kling.records import is_durable

            kling_task_id = self._submitted_id(context)
            error = KlingTimeoutError(
                "Airflow ended the deferral before the trigger could report",
                kling_task_id=kling_task_id,
                advice=STILL_RUNNING if kling_task_id else "It waited to submit.",
            )
            raise task_failure(error, final=not is_durable(context)) from None
        except TaskDeferralError:
            return self._resume_after_crash(context)

    def on_kill(self) -> None:
        """Say what goes on: the API has no cancel."""
        submitter = self._submitter
        if kling_task_id := self._kling_task_id or (submitter and submitter.bought):
            self.log.warning(
                "Killed. Kling task %s goes on at the vendor, and bills; a later attempt can join it, unless this "
                "task keeps no record",
                kling_task_id,
            )
        elif submitter and submitter.is_sending:
            self.log.warning(
                "Killed while a submit was on its way: it may have been accepted, and bill. The next attempt "
                "stops, and says how to settle that"
            )

    def _obtain(self, context: Context, *, since: float, refusals: int) -> Any:
        while True:
            try:
                result = self._submit(context, is_first_look=refusals == 0)
            except (KlingRateLimitError, KlingUnavailableError) as error:
                refusals += 1
                self._await_slot(error, since=since, refusals=refusals)
            else:
                return self._go_on(context, result)

    def _submit(self, context: Context, *, is_first_look: bool) -> SubmitResult:
        request = self._submit_request(context)
        self._submitter = self._submitter_for(request, context, is_first_look=is_first_look)
        try:
            return self._submitter.submit_or_join(request)
        except KlingUncertainSubmissionError:
            if (submit := self._submitter.unresolved) is not None:
                context["ti"].xcom_push(key="kling_uncertain", value=_uncertain_entry(submit))
            raise

    def _go_on(self, context: Context, result: SubmitResult) -> Any:
        from airflow_provider_kling.records import forget_after_success, is_durable

        self._kling_task_id = result.kling_task_id
        context["ti"].xcom_push(key="kling_task_id", value=result.kling_task_id)
        self.log.info("Kling task %s is this task's job", result.kling_task_id)
        # Without a record a retry could only stop: it would know of no job.
        with as_task_failures(final=not is_durable(context)):
            result = self._result(context, result)
        forget_after_success(self, context)
        return result

    def _result(self, context: Context, result: SubmitResult) -> Any:
        from airflow_provider_kling.jobs.result import finished_video

        if not self.wait_for_completion:
            return result.kling_task_id
        if result.job is not None and (video := finished_video(result.job)):
            return self._publish_result(context, video)
        return self._wait(
            context, result.kling_task_id, submitted_at=result.submitted_at, other_id=result.other_id
        )

    def _submit_request(self, context: Context) -> SubmitRequest:
        from airflow_provider_kling.jobs.submission import SubmitRequest, fingerprint_of

        video = VideoRequest.build(**self._arguments())
        self._video_seconds = video.duration
        for name in ("image", "last_image"):
            if getattr(self, name) == "":
                self.log.warning("Kling request: %s was given, but is empty; the video is made without it", name)
        for warning in video.warnings():
            self.log.warning("Kling request: %s", warning)
        # Before any intent is on record: a connection that cannot be used must not look like a lost submit.
        base_url = self._hook.connection.base_url
        return SubmitRequest(
            video=video,
            fingerprint=fingerprint_of(
                video, conn_id=self.kling_conn_id, base_url=base_url, take=_take_number(self.take)
            ),
            conn_id=self.kling_conn_id,
            dag_id=context["ti"].dag_id,
            max_tries=context["ti"].max_tries,
            map_index=-1 if context["ti"].map_index is None else context["ti"].map_index,
            on_clear=self.on_clear,
            on_uncertain=self.on_uncertain,
        )

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in REQUEST_FIELDS}

    def _submitter_for(self, request: SubmitRequest, context: Context, *, is_first_look: bool) -> Submitter:
        from airflow_provider_kling.jobs.submission import Submitter
        from airflow_provider_kling.records import read_variable, record_store

        store = record_store(
            context,
            conn_id=request.conn_id,
            fingerprint=request.fingerprint,
            is_first_look=is_first_look and context["ti"].try_number <= 1,
        )
        if is_first_look and not store.durable:
            self.log.warning("[kling] state = none: nothing keeps the id of this paid job for a later attempt")
        return Submitter(
            store=store,
            connect=self._hook.submitting,
            get_job=self._hook.get_video,
            grace=self._hook.connection.api.grace,
            read_variable=read_variable,
            log=self.log.warning,
        )

    def _await_slot(self, error: KlingError, *, since: float, refusals: int) -> None:
        """Wait until the account may have a slot free, holding no worker if deferrable."""
        from airflow_provider_kling.jobs.submission import pause_for_slot

        now = time.time()
        left = since + self.submit_timeout - now
        if left <= 0:
            raise error.replace(
                message=f"{error.message}; {refusals} refusals in {now - since:.0f} s "
                f"(submit_timeout={self.submit_timeout:g})"
            )
        pause = min(pause_for_slot(error, refusals), left)
        self.log.info("%s Asking again in %.0f s at the latest.", error, pause)
        if not self._is_deferrable:
            time.sleep(pause)
            return
        from airflow_provider_kling.triggers.kling import KlingSlotTrigger

        self.defer(
            trigger=KlingSlotTrigger(
                kling_conn_id=self.kling_conn_id,
                not_before=now + max(SHORTEST_DEFERRAL, min(error.retry_after or 0.0, left)),
                at_latest=now + pause,
            ),
            method_name="submit_again",
            kwargs={"since": since, "refusals": refusals, "version": FORMAT},
        )

    def _resume_after_crash(self, context: Context) -> Any:
        """Wait on for the job whose trigger crashed; its id is in XCom, since the attempt has not ended."""
        from airflow_provider_kling.records import is_durable

        kling_task_id = self._submitted_id(context)
        with as_task_failures(final=bool(kling_task_id) and not is_durable(context)):
            crashes = self._count_crash(context, advice=STILL_RUNNING if kling_task_id else "It waited to submit.")
            if kling_task_id:
                self.log.warning("The trigger crashed (%d); waiting on for Kling task %s", crashes, kling_task_id)
                return self._wait(context, kling_task_id, submitted_at=time.time())
        # Not as at first: before it waited, this attempt may have recorded something.
        return self._obtain(context, since=time.time(), refusals=1)

    def _submitted_id(self, context: Context) -> str | None:
        ti = context["ti"]
        found: str | None = ti.xcom_pull(task_ids=ti.task_id, key="kling_task_id", map_indexes=ti.map_index)
        return found

    def _wait(
        self, context: Context, kling_task_id: str, *, submitted_at: float, other_id: str | None = None
    ) -> KlingVideo:
        if self._is_deferrable:
            self._defer_until_finished(
                kling_task_id,
                started_at=submitted_at,
                model=self.model,
                video_seconds=self._video_seconds,
                other_id=other_id,
            )
        video = self._hook.wait_for_video(
            kling_task_id,
            started_at=submitted_at,
            deadline=time.time() + self.timeout,
            poll_interval=self.poll_interval,
            other_id=other_id,
        )
        return self._publish_result(context, video)


def _uncertain_entry(submit: Submit) -> dict[str, Any]:
    """Return what lets a person find a submit of unknown fate at the vendor, and answer for it."""
    from airflow_provider_kling.jobs.consent import word_name

    sent_at = datetime.fromtimestamp(submit.sent_at, tz=UTC) if submit.sent_at else None
    return {
        "name": word_name(submit.id),
        "sent_at": sent_at and sent_at.isoformat(),
        "conn_id": submit.conn_id,
        "model": submit.model,
        "seconds": submit.seconds,
        "prompt": submit.prompt,
    }


def _refuse_wrong_literals(arguments: Mapping[str, Any], others_follow: bool = False) -> None:
    """
    Raise for arguments that are wrong already, before any template is rendered.

    :param arguments: The request fields that are given.
    :param others_follow: Whether fields not given here come later, from a mapping.
    """
    known = {name: value for name, value in arguments.items() if _is_literal(value)}
    later = set(REQUEST_FIELDS) - known.keys() if others_follow else arguments.keys() - known.keys()
    if problems := find_problems(known, unknown=later):
        raise KlingValidationError.from_problems(problems)


class _CheckedPartial:
    """
    What ``partial()`` returns: Airflow's own, with a check of literal values before it maps.

    :param partial: Airflow's own.
    :param given: The request fields that are not mapped.
    """

    def __init__(self, partial: Any, given: Mapping[str, Any]) -> None:
        self._partial = partial
        self._given = given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._partial, name)

    def expand(self, **mapped: Any) -> Any:
        """Map over lists, of which literal ones are checked."""
        for name in REQUEST_FIELDS:
            values = mapped.get(name)
            for value in values if isinstance(values, (list, tuple)) else ():
                self._check({name: value})
        return self._partial.expand(**mapped)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Map over a list of arguments, of which literal ones are checked."""
        for arguments in kwargs if isinstance(kwargs, (list, tuple)) else ():
            if isinstance(arguments, Mapping):
                self._check({name: arguments[name] for name in REQUEST_FIELDS if name in arguments})
        return self._partial.expand_kwargs(kwargs, strict=strict)

    def _check(self, mapped: Mapping[str, Any]) -> None:
        try:
            _refuse_wrong_literals({**self._given, **mapped}, others_follow=True)
        except KlingValidationError:
            self._partial._expand_called = True  # or it would warn as well that it was never mapped
            raise


def _is_literal(value: Any) -> bool:
    """Return whether a value is what it will be at run time: no template, no output of another task."""
    if isinstance(value, str):
        return not any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return all(_is_literal(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_literal(item) for item in value)
    return value is None or isinstance(value, (bool, int, float))


_CHOICES = {"on_clear": ("reuse", "resubmit"), "on_uncertain": ("fail", "resubmit"), "take": None}


def _refuse_wrong_choices(**settings: Any) -> None:
    """Raise for settings of the operator itself that are wrong already."""
    for name, value in settings.items():
        choices = _CHOICES[name]
        if choices is None:
            if _is_literal(value):
                _take_number(value)
        elif value not in choices:
            problem = Problem(name, value, f"must be one of {', '.join(choices)}")
            raise KlingValidationError.from_problems([problem], subject="The task")


def _take_number(take: Any) -> int:
    if isinstance(take, int) or (isinstance(take, str) and take.strip().isdecimal()):
        return int(take)
    raise KlingValidationError.from_problems([Problem("take", take, "must be a whole number")])
