# SPDX-License-Identifier: Apache-2.0
"""Submit video jobs to Kling."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.api.request import REQUEST_FIELDS, VideoRequest
from airflow_provider_kling.exceptions import (
    KlingError,
    KlingRateLimitError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.jobs.limits import DEFAULT_TIMEOUT, FORMAT, STILL_RUNNING, to_seconds
from airflow_provider_kling.links.kling import LINKS
from airflow_provider_kling.media.mp4 import MAX_BYTES
from airflow_provider_kling.tasks.base import label_of
from airflow_provider_kling.tasks.failures import as_task_failures, reporting_failure, task_failure
from airflow_provider_kling.tasks.import_errors import naming_own_task, naming_task
from airflow_provider_kling.tasks.metrics import count_submitted, measured
from airflow_provider_kling.tasks.parse_checks import (
    CheckedPartial,
    check_arguments,
    cost_limit,
    take_number,
    with_path_uris,
)
from airflow_provider_kling.tasks.queueing import DEFAULT_SUBMIT_TIMEOUT, OthersWait, QueueingTask
from airflow_provider_kling.tasks.rendered import rendered_tags
from airflow_provider_kling.tasks.storing import DEFAULT_SAVE_TIMEOUT, StoringTask
from airflow_provider_kling.tasks.waiting import deferral_timeout
from airflow_provider_kling.utils.coerce import with_uris
from airflow_provider_kling.utils.text import as_mapping
from airflow_provider_kling.version_compat import is_test_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_kling.jobs.cost import Cost
    from airflow_provider_kling.jobs.journal import Submit
    from airflow_provider_kling.jobs.result import KlingVideo
    from airflow_provider_kling.jobs.submission import Submitter
    from airflow_provider_kling.jobs.submit_request import OnClear, OnUncertain, SubmitRequest, SubmitResult
    from airflow_provider_kling.media.frames import Frames

#: Advice of an error for a task that was still waiting for a slot.
_NOT_SUBMITTED = "The task was waiting to submit."


class KlingGenerateOperator(StoringTask, QueueingTask, BaseOperator):
    """
    Submit a video job, and optionally wait for the video and store it.

    A video is paid for once: a retry, a restarted worker or a cleared task joins the job that an earlier attempt
    bought, as :mod:`airflow_provider_kling.jobs.submission` decides. While the account has no free slot, the task
    is deferred and submits later.

    Wrong arguments are rejected before anything is billed: literal ones when the DAG file is parsed, templated
    ones when the task runs, without a retry. Every accepted submit is billed and none can be cancelled.

    .. seealso:: The request fields are those of the vendor's API page.

    :param model: A gateway's name, which contains mode and sound: ``kling-v3-std-silent``, ``kling-v3-std-audio``,
        ``kling-v3-pro-silent``, ``kling-v3-pro-audio``. Or the platform's: ``kling-v3``, ``kling-v2-6``,
        ``kling-v2-5-turbo`` (legacy standard), ``kling-3.0``, ``kling-3.0-turbo``, ``kling-2.6``,
        ``kling-2.5-turbo`` (new standard). A gateway serves ``kling-v3`` too.
    :param mode: ``std`` (720p, default), ``pro`` (1080p) or ``4k``. It may not contradict the model's name.
    :param sound: Whether the video has sound; off by default. It may not contradict the model's name.
    :param prompt: What the video shows. In image mode it excludes ``multi_prompt``.
    :param image: Public URL of a reference image; the first frame when ``last_image`` is given. An image in an
        object storage is given as its URI (``s3://conn@bucket/frame.png``) or as an ``ObjectStoragePath``: it is
        checked before anything is billed, and its URL is signed just before each submit.
    :param last_image: Public URL of the last frame; likewise.
    :param aspect_ratio: ``16:9``, ``9:16`` or ``1:1``; a gateway may ignore it beside ``image``, and Kling's own
        platform has none there, so it is refused.
    :param duration: Length of the video in whole seconds, 3 to 15, or 5 or 10 for the models 2.6 and 2.5; the
        server's default if not set.
    :param negative_prompt: What to avoid.
    :param cfg_scale: Prompt adherence, usually 0 to 1; higher follows the prompt more closely.
    :param multi_prompt: The shots of a multi-shot video, each ``{"prompt": ..., "duration": ...}``.
    :param element_list: Element references.
    :param shot_type: ``customize`` or ``intelligent``.
    :param extra_body: Any other field that the API takes inside ``extra_body``. An argument above takes
        precedence over the same key here; two different values for one field are an error.
    :param kling_conn_id: The Airflow connection.
    :param wait_for_completion: False returns the Kling task id at once, for a ``KlingTaskSensor`` downstream; True
        waits and returns the finished video. False by default, and True with ``save_to``.
    :param save_to: Path where the finished video is stored, as the ``path`` of ``KlingToObjectStorageOperator``:
        ``s3://conn@bucket/clips/{slug}.mp4``, or a folder with ``/`` at its end. The worker that is resumed after
        the wait stores it; a retry after a failed download only downloads.
    :param overwrite: Replace an existing file (the default); False fails instead.
    :param max_bytes: Greatest size of the file in bytes, 4 GiB by default; None sets no limit.
    :param save_timeout: Seconds (or a timedelta) that the download may take, one hour by default; ``timeout`` is
        that of the wait.
    :param sidecar: Store the result as JSON beside the file: ``clip.json`` beside ``clip.mp4``.
    :param last_frame_to: Path where the last frame of the stored video is stored as PNG, for example as the
        ``image`` of the next shot; needs the extra ``media``.
    :param tags: Any texts to attribute the costs by, ``{"team": "{{ params.team }}"}``. They are not sent.
    :param deferrable: Wait on the triggerer, holding no worker. None reads ``[kling] deferrable`` (true by
        default).
    :param poll_interval: Seconds (or a timedelta) between two status checks; None uses the provider's own
        schedule.
    :param timeout: Seconds (or a timedelta) to wait for the video, 4 hours by default. Unlike
        ``execution_timeout``, it counts while the task is deferred on every Airflow version.
    :param submit_timeout: Seconds (or a timedelta) to keep trying to submit while the account has no free slot or
        the API is unavailable, 24 hours by default. Between two tries the task is deferred.
    :param on_clear: What clearing the task means once a job was bought: ``reuse`` (default) joins that job if the
        request is the same, ``resubmit`` buys another.
    :param on_uncertain: What to do when a submit may have been accepted but no id was received: ``fail``
        (default) without a retry, until a person checks and decides, or ``resubmit`` once per request, which may
        pay twice.
    :param take: Number of the take of this request. Another number buys another video; it is not sent.
    :param max_cost: Largest estimated cost of the video, in the currency of the connection's ``prices``. A request
        that costs more, or has no price, is refused before it is submitted. A job that was bought before is joined
        whatever it costs. No limit by default.
    :return: The Kling task id; with ``wait_for_completion`` or ``save_to`` the finished video, a
        :class:`~airflow_provider_kling.jobs.result.KlingVideo`.
        XCom ``kling_task_id`` is pushed right after the response to the submit, ``video_url`` when there is one.
    :raises KlingError: a named subclass, see :mod:`airflow_provider_kling.exceptions`; errors that a retry cannot
        cure fail the task at once.
    """

    template_fields: Sequence[str] = (
        *REQUEST_FIELDS,
        "kling_conn_id",
        "take",
        "max_cost",
        "save_to",
        "last_frame_to",
        "tags",
    )
    text_fields: ClassVar[Sequence[str]] = (
        "model",
        "mode",
        "prompt",
        "image",
        "last_image",
        "aspect_ratio",
        "negative_prompt",
        "shot_type",
        "kling_conn_id",
        "save_to",
        "last_frame_to",
    )
    path_argument: ClassVar[str] = "save_to"
    prompt_fields: ClassVar[Sequence[str]] = ("prompt", "negative_prompt", "multi_prompt", "extra_body")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "multi_prompt": "json",
        "element_list": "json",
        "extra_body": "json",
        "tags": "json",
    }
    operator_extra_links = LINKS
    ui_color = "#e8f5d0"

    @naming_own_task
    def __init__(
        self,
        *,
        model: str,
        mode: str | None = None,
        sound: bool | None = None,
        prompt: str | None = None,
        image: str | ObjectStoragePath | None = None,
        last_image: str | ObjectStoragePath | None = None,
        aspect_ratio: str | None = None,
        duration: int | None = None,
        negative_prompt: str | None = None,
        cfg_scale: float | None = None,
        multi_prompt: list[Any] | None = None,
        element_list: list[Any] | None = None,
        shot_type: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        kling_conn_id: str = "kling_default",
        wait_for_completion: bool | None = None,
        save_to: str | ObjectStoragePath | None = None,
        overwrite: bool = True,
        max_bytes: int | None = MAX_BYTES,
        save_timeout: float | timedelta = DEFAULT_SAVE_TIMEOUT,
        sidecar: bool = False,
        last_frame_to: str | ObjectStoragePath | None = None,
        tags: Mapping[str, Any] | None = None,
        deferrable: bool | None = None,
        poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        submit_timeout: float | timedelta = DEFAULT_SUBMIT_TIMEOUT,
        on_clear: OnClear = "reuse",
        on_uncertain: OnUncertain = "fail",
        take: int = 1,
        max_cost: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.mode = mode
        self.sound = sound
        self.prompt = prompt
        self.image = with_uris(image)
        self.last_image = with_uris(last_image)
        self.aspect_ratio = aspect_ratio
        self.duration = duration
        self.negative_prompt = negative_prompt
        self.cfg_scale = cfg_scale
        self.multi_prompt = multi_prompt
        self.element_list = with_uris(element_list)
        self.shot_type = shot_type
        self.extra_body = with_uris(extra_body)
        self.kling_conn_id = kling_conn_id
        self.wait_for_completion = save_to is not None if wait_for_completion is None else wait_for_completion
        self.save_to = with_uris(save_to)
        self.overwrite = overwrite
        self.max_bytes = max_bytes
        self.save_timeout = to_seconds("save_timeout", save_timeout)
        self.sidecar = sidecar
        self.last_frame_to = with_uris(last_frame_to)
        self._has_last_frame = last_frame_to is not None
        self.tags: Any = tags
        self.deferrable = deferrable
        self.poll_interval = None if poll_interval is None else to_seconds("poll_interval", poll_interval)
        self.timeout = to_seconds("timeout", timeout)
        self.submit_timeout = to_seconds("submit_timeout", submit_timeout)
        self.on_clear = on_clear
        self.on_uncertain = on_uncertain
        self.take = take
        self.max_cost = max_cost
        # A template that renders to nothing must not lift the limit, or leave a paid video unstored.
        self._has_max_cost, self._has_save_to = max_cost is not None, save_to is not None
        self._kling_task_id: str | None = None
        self._submitter: Submitter | None = None
        #: Whether a submit may be replaced by a place in the queue.
        self._may_have_to_queue = False
        settings = {
            "on_clear": on_clear,
            "on_uncertain": on_uncertain,
            "take": take,
            "max_cost": max_cost,
            "save_to": self.save_to,
            "wait_for_completion": wait_for_completion,
            "max_bytes": max_bytes,
            "sidecar": sidecar,
            "last_frame_to": self.last_frame_to,
            "tags": tags,
        }
        check_arguments({**self._arguments(), **settings})

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Prepare a mapped task, and check its literal arguments: parsing creates no operator that could."""
        kwargs = with_path_uris(kwargs)
        with naming_task(kwargs.get("task_id")):
            check_arguments(kwargs, others_follow=True)
        return CheckedPartial(
            super().partial(**kwargs),
            kwargs,
            partial(check_arguments, others_follow=True),
            paths=("save_to", "last_frame_to"),
            labelled_by=("prompt",),
        )

    @property
    def map_label(self) -> str:
        """What Airflow's UI calls a row of a mapped task: the first words of its prompt, or its hash."""
        return label_of(self.prompt)

    @reporting_failure
    @measured
    def execute(self, context: Context) -> Any:
        """Submit a job, or join the one an earlier attempt bought; then return its id, or wait for the video."""
        return self._without_prompts(partial(self._execute, context))

    def _execute(self, context: Context) -> Any:
        if is_test_run(context):
            self.log.warning(
                "This is a test run: its record is not kept for later runs, so each test run buys a video"
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
        Resume a task that was deferred because the account had no free slot, or the API was unavailable.

        ``dag.test()`` passes the event only; there ``submit_timeout`` starts again.
        """
        since = time.time() if since is None else since
        call = self._follow(context, event or {}, since=since, refusals=refusals)
        return self._obtain(context, since=since, refusals=refusals, call=call)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> KlingVideo:
        """Return the finished video from the trigger's event, maybe stored; or raise the error from it."""
        from airflow_provider_kling.jobs.polling import video_from_event
        from airflow_provider_kling.records import forget_after_success

        self._push_progress(context, (event or {}).get("progress"))
        with as_task_failures(final=not self._is_found_by_retry(context)):
            try:
                video = video_from_event(event)
            except KlingError as error:
                self._raise_with_reason(error)
                raise
            video = self._finish(context, video)
        forget_after_success(self, context)
        return video

    def _raise_with_reason(self, error: KlingError) -> None:
        """Raise the error of a failed job with the server's reason, if the trigger had to withhold that."""
        from airflow_provider_kling.jobs.result import finished_video
        from airflow_provider_kling.shown_prompts import WITHHELD

        if error.server_message == WITHHELD and error.kling_task_id is not None:
            finished_video(self._hook.get_video(error.kling_task_id))

    def on_kill(self) -> None:
        """Log which job continues: the API has no cancel. A task that stands by does not submit any more."""
        self._is_killed = True
        if self._storing:
            super().on_kill()
            return
        submitter = self._submitter
        if kling_task_id := self._kling_task_id or (submitter and submitter.bought):
            self.log.warning(
                "Killed. Kling task %s continues at the vendor, and is billed; a later attempt can join it, "
                "unless this task keeps no record",
                kling_task_id,
            )
        elif submitter and submitter.is_sending:
            self.log.warning(
                "Killed while a submit was in flight: it may have been accepted and billed. The next attempt %s",
                "asks the server for it" if submitter.look_up else "stops, and its error says how to resolve this",
            )

    def _obtain(
        self, context: Context, *, since: float, refusals: int, call: Mapping[str, Any] | None = None
    ) -> Any:
        """
        Submit a job, or join one; then return its id, or wait for the video.

        :param context: The task's context.
        :param since: When the task first tried (epoch seconds).
        :param refusals: How often it was refused.
        :param call: The call of the queue that it follows, see ``KlingSlotTrigger.run``; None where it just
            starts.
        """
        request = self._submit_request(context)
        # Before the submit: the card of a video that waits, or is refused, shows its prompt.
        self._push_request(context, request.video)
        self._may_have_to_queue = call is None and refusals == 0
        while True:
            try:
                job = self._submit(context, request, is_first_look=refusals == 0)
            except OthersWait as reason:
                self.log.info("Waiting for a slot: %s", reason)
                self._join_queue(context, since=since, refusals=refusals)
            except (KlingRateLimitError, KlingUnavailableError) as error:
                refusals += 1
                self._await_slot(context, error, since=since, refusals=refusals)
            else:
                return self._go_on(context, job, request.video, call=call)

    def _submit(self, context: Context, request: SubmitRequest, *, is_first_look: bool) -> SubmitResult:
        self._submitter = self._submitter_for(request, context, is_first_look=is_first_look)
        try:
            return self._submitter.submit_or_join(request)
        except KlingUncertainSubmissionError:
            if (submit := self._submitter.unresolved) is not None:
                self._push_uncertain(context, submit, request.video)
            raise
        finally:
            if self._submitter.bought:
                count_submitted(self)

    def _push_uncertain(self, context: Context, submit: Submit, video: VideoRequest) -> None:
        """Push what a person needs to decide on a submit of unknown fate; the error of that is raised anyway."""
        try:
            context["ti"].xcom_push(key="kling_uncertain", value=_uncertain_entry(submit))
            # What another submit would cost.
            self._push_estimate(context, video)
        except Exception as error:  # noqa: BLE001 - another error might be retried, and buy a second video
            self.log.warning("The submit of unknown fate could not be written to XCom: %s", error)

    def _go_on(
        self, context: Context, job: SubmitResult, video: VideoRequest, *, call: Mapping[str, Any] | None
    ) -> Any:
        from airflow_provider_kling.jobs.progress import Sight
        from airflow_provider_kling.records import forget_after_success

        self._kling_task_id = job.kling_task_id
        # Before anything that may fail: without a record, the log alone has the id then.
        self.log.info("Kling task %s is this task's job", job.kling_task_id)
        context["ti"].xcom_push(key="kling_task_id", value=job.kling_task_id)
        if job.other_id is not None:
            context["ti"].xcom_push(key="kling_other_id", value=job.other_id)
        context["ti"].xcom_push(key="kling_submitted_at", value=job.submitted_at)
        if call and self._submitter is not None and self._submitter.bought:
            self._report_waiting(waiting=bool(call["waiting"]))
        self._push_estimate(context, video)
        if self._is_deferrable:
            sight = Sight(submitted_at=job.submitted_at, now=(now := time.time()))
            self._push_progress(context, sight.progress(job.job, now=now))
        with as_task_failures(final=not self._is_found_by_retry(context)):
            result = self._result(context, job, video_seconds=video.duration)
        forget_after_success(self, context)
        return result

    def _push_estimate(self, context: Context, video: VideoRequest) -> None:
        if (cost := self._estimate(video)) is not None:
            self._push_shown(context, "kling_estimated_cost", cost._asdict())

    def _push_request(self, context: Context, video: VideoRequest) -> None:
        """Push what is sent, since a resumed task renders its templates again, maybe to something else."""
        from airflow_provider_kling.jobs.result import shown_request

        call = self._hook.connection.api.submit(video)
        request = shown_request(self._with_shown_prompts(call.body or {}))
        self._push_shown(context, "kling_request", request)
        # Some requests name it in their path alone.
        self._push_shown(context, "kling_model", video.model)

    def _result(self, context: Context, job: SubmitResult, *, video_seconds: int | None) -> Any:
        from airflow_provider_kling.jobs.result import finished_video

        if not self.wait_for_completion:
            return job.kling_task_id
        if job.job is not None and (video := finished_video(job.job)):
            return self._finish(context, video)
        return self._wait(
            context,
            job.kling_task_id,
            started_at=job.submitted_at,
            submitted_at=job.submitted_at,
            video_seconds=video_seconds,
            other_id=job.other_id,
            route=job.route,
        )

    def _submit_request(self, context: Context) -> SubmitRequest:
        from airflow_provider_kling.api.images import stored_images
        from airflow_provider_kling.jobs.fingerprint import fingerprint_of
        from airflow_provider_kling.jobs.submit_request import SubmitRequest
        from airflow_provider_kling.media.frames import Frames, read_frames
        from airflow_provider_kling.records import token_seed

        video = VideoRequest.build(**self._arguments())
        for name in ("image", "last_image"):
            if getattr(self, name) == "":
                self.log.warning("Kling request: %s is set, but empty; the video is made without it", name)
        for warning in video.warnings():
            self.log.warning("Kling request: %s", warning)
        # Before an intent is recorded: an unusable connection must not look like a lost submit.
        connection = self._hook.connection
        connection.check(video)
        fingerprint_with = partial(
            fingerprint_of,
            video,
            conn_id=self.kling_conn_id,
            base_url=connection.base_url,
            take=take_number(self.take),
        )
        by_uri = fingerprint_with()
        frames_error: KlingError | None = None
        try:
            frames = read_frames(video, connection)
        except KlingError as error:
            # It prevents a purchase, and no join: the job may be bought already.
            frames, frames_error = Frames({}, connection), error
        fingerprint = fingerprint_with(image_digests=frames.digests)
        return SubmitRequest(
            video=video,
            fingerprint=fingerprint,
            conn_id=self.kling_conn_id,
            dag_id=context["ti"].dag_id,
            max_tries=context["ti"].max_tries,
            map_index=-1 if context["ti"].map_index is None else context["ti"].map_index,
            token_seed=token_seed(
                context, fingerprint=fingerprint, is_new_after_clear=self.on_clear == "resubmit"
            ),
            on_clear=self.on_clear,
            on_uncertain=self.on_uncertain,
            to_send=partial(self._to_send, context, frames),
            frames_error=frames_error,
            by_uri=by_uri if stored_images(video) else None,
            show_prompts=self._prompt_masks is None,
        )

    def _estimate(self, video: VideoRequest) -> Cost | None:
        from airflow_provider_kling.jobs.cost import estimate

        return estimate(video, self._hook.connection.prices)

    def _check_purchase(self, context: Context, request: SubmitRequest, *, is_first_look: bool) -> None:
        """Raise for what prevents a purchase, though not a join: the frames, the path of the file, the cost."""
        if request.frames_error is not None:
            raise request.frames_error
        video = request.video
        self.tags = rendered_tags(self.tags)
        if self._has_save_to:
            prompt = self._shown_prompt(video.first_prompt)
            self._check_place(context, str(self.save_to), model=video.model, prompt=prompt)
            self._check_overwrite()
        self._check_cost(video, is_first_look=is_first_look)

    def _to_send(self, context: Context, frames: Frames, video: VideoRequest) -> VideoRequest:
        """Return what is sent, unless the account is known to be full; called before each submit is recorded."""
        if self._may_have_to_queue:
            self._check_queue(context)
        return frames.to_send(video)

    def _check_queue_again(self, context: Context) -> None:
        """Raise if others found the account full while this submit was recorded: a batch starts many at once."""
        if self._may_have_to_queue:
            # Only before the first one, so that a task that queues has sent nothing.
            self._may_have_to_queue = False
            self._check_queue(context)

    def _check_cost(self, video: VideoRequest, *, is_first_look: bool) -> None:
        """Log the estimated cost of a video that is going to be bought, and refuse it above ``max_cost``."""
        from airflow_provider_kling.jobs.cost import check_cost

        cost = self._estimate(video)
        if cost is not None and is_first_look:
            self.log.info("Estimated cost: %s", cost)
        if self._has_max_cost:
            check_cost(cost, cost_limit(self.max_cost), video, conn_id=self.kling_conn_id)

    def _arguments(self) -> dict[str, Any]:
        # The output of another task may hold paths.
        return {name: with_uris(getattr(self, name)) for name in REQUEST_FIELDS}

    def _submitter_for(self, request: SubmitRequest, context: Context, *, is_first_look: bool) -> Submitter:
        from airflow_provider_kling.jobs.submission import Submitter
        from airflow_provider_kling.records import read_variable, record_store

        store = record_store(
            context,
            conn_id=request.conn_id,
            fingerprint=request.fingerprint,
            is_first_look=is_first_look and context["ti"].try_number <= 1,
        )
        if is_first_look and not self._is_found_by_retry(context):
            self.log.warning("[kling] state = none: the id of this paid job is not stored for later attempts")
        return Submitter(
            store=store,
            connect=self._hook.submitting,
            get_job=self._hook.get_video,
            grace=self._hook.connection.api.grace,
            look_up=self._hook.look_up,
            show_prompts=request.show_prompts,
            read_variable=read_variable,
            before_purchase=partial(self._check_purchase, context, request, is_first_look=is_first_look),
            before_post=partial(self._check_queue_again, context),
            on_refused=self._report_full,
            log=self.log.warning,
        )

    def _after_deferral_timeout(self, context: Context) -> Any:
        kling_task_id = self._submitted_id(context)
        error = deferral_timeout(kling_task_id, advice=STILL_RUNNING if kling_task_id else _NOT_SUBMITTED)
        raise task_failure(error, final=not self._is_found_by_retry(context)) from None

    def _resume_after_crash(self, context: Context) -> Any:
        """Continue to wait for the job whose trigger crashed; XCom keeps its id until the next attempt."""
        kling_task_id = self._submitted_id(context)
        with as_task_failures(final=bool(kling_task_id) and not self._is_found_by_retry(context)):
            advice = STILL_RUNNING if kling_task_id else _NOT_SUBMITTED
            crashes = self._count_crash(context, kling_task_id, advice=advice)
            if kling_task_id:
                self.log.warning(
                    "The trigger crashed (%d); still waiting for Kling task %s", crashes, kling_task_id
                )
                return self._wait(
                    context,
                    kling_task_id,
                    started_at=time.time(),
                    submitted_at=self._pulled(context, "kling_submitted_at"),
                    other_id=self._pulled(context, "kling_other_id"),
                )
            self._check_waited_for_slot(context)
        # refusals=1, not 0: this attempt may have recorded events before it was deferred.
        return self._obtain(context, since=time.time(), refusals=1)

    def _check_waited_for_slot(self, context: Context) -> None:
        """
        Raise if a task whose trigger crashed may have bought a job that nothing names any more.

        :raises KlingUncertainSubmissionError: if only XCom had the id of its job, and may have lost it.
        """
        from airflow_provider_kling.jobs.consent import variable_name
        from airflow_provider_kling.jobs.journal import SENT_AT_UNKNOWN, Submit
        from airflow_provider_kling.jobs.progress import PROGRESS_KEY
        from airflow_provider_kling.records.stores import Identity, attempt_id

        waited = as_mapping(self._pulled(context, PROGRESS_KEY)).get("phase") == "waiting_for_slot"
        if waited or self.on_uncertain == "resubmit" or self._is_found_by_retry(context):
            return
        identity = Identity.of(context)
        submit = Submit(
            # The next attempt reads the decision by this name.
            id=attempt_id(identity, context["ti"].try_number),
            fingerprint="",
            purchase=0,
            sent_at=SENT_AT_UNKNOWN,
            conn_id=self.kling_conn_id,
            dag_id=identity.dag_id,
        )
        self._push_shown(context, "kling_uncertain", _uncertain_entry(submit))
        raise KlingUncertainSubmissionError(
            "The trigger crashed, and XCom has no id of a job: a submit may have been accepted and billed",
            advice=f"Look for it at the vendor. Set the Airflow Variable {variable_name(submit.id)} to its id, or "
            "to none if there is none. Then clear this task.",
        )

    def _is_found_by_retry(self, context: Context) -> bool:
        """Return whether a retry finds this task's job, in the record or at the server; if not, it has to stop."""
        from airflow_provider_kling.records import is_durable, names_deployment

        if is_durable(context):
            return True
        try:
            return names_deployment() and self._hook.look_up is not None
        except KlingError:  # the connection cannot be read now
            return False

    def _submitted_id(self, context: Context) -> str | None:
        found: str | None = self._pulled(context, "kling_task_id")
        return found

    def _wait(
        self,
        context: Context,
        kling_task_id: str,
        *,
        started_at: float,
        submitted_at: float | None,
        video_seconds: int | None = None,
        other_id: str | None = None,
        route: str | None = None,
    ) -> KlingVideo:
        if self._is_deferrable:
            self._defer_until_finished(
                kling_task_id,
                started_at=started_at,
                model=self.model,
                video_seconds=video_seconds,
                other_id=other_id,
                route=route,
                submitted_at=submitted_at,
            )
        video = self._hook.wait_for_video(
            kling_task_id,
            started_at=started_at,
            deadline=time.time() + self.timeout,
            poll_interval=self.poll_interval,
            other_id=other_id,
            route=route,
        )
        return self._finish(context, video)

    def _finish(self, context: Context, video: KlingVideo) -> KlingVideo:
        """Publish a finished video, and store it if that is wanted."""
        from airflow_provider_kling.jobs.result import prompt_of

        # [kling] show_prompts may have changed while the task was deferred.
        request = self._with_shown_prompts(self._pulled(context, "kling_request") or {})
        cost = self._pulled(context, "kling_estimated_cost") or {}
        try:
            self.tags = rendered_tags(self.tags)
        except KlingValidationError as error:  # they were right before the purchase
            self.log.warning("The video gets no tags. %s", error)
            self.tags = None
        self.submitted_at = self._pulled(context, "kling_submitted_at")
        video = {
            **video,
            "request": request or None,
            "tags": self.tags,
            "estimated_cost": cost.get("amount"),
            "currency": cost.get("currency"),
        }
        self._publish_result(context, video)
        if not self._has_save_to:
            return video
        return self._store_video(
            context,
            video,
            path=str(self.save_to),
            seconds=self.save_timeout,
            # A function of @task.kling that returned the model is not called again.
            model=self.model or as_mapping(request).get("model") or as_mapping(request).get("model_name"),
            prompt=prompt_of(request),
        )

    def _lineage_inputs(self) -> list[str]:
        arguments = self._arguments()
        return [frame for name in ("image", "last_image") if isinstance(frame := arguments[name], str)]


def _uncertain_entry(submit: Submit) -> dict[str, Any]:
    """Return what a person needs to find a submit of unknown fate at the vendor, and to decide on it."""
    from airflow_provider_kling.jobs.consent import variable_name

    sent_at = datetime.fromtimestamp(submit.sent_at, tz=UTC) if submit.sent_at else None
    return {
        "name": variable_name(submit.id),
        "sent_at": sent_at and sent_at.isoformat(),
        "conn_id": submit.conn_id,
        "model": submit.model,
        "seconds": submit.seconds,
        "prompt": submit.prompt,
    }
