# SPDX-License-Identifier: Apache-2.0
"""What all tasks that wait for a video share: the deferral, recovery from a crashed trigger, and the result."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import BaseOperator, conf

from airflow_provider_kling.exceptions import KlingError, KlingTimeoutError
from airflow_provider_kling.jobs.clocks import shortest_deferral
from airflow_provider_kling.jobs.limits import STILL_RUNNING
from airflow_provider_kling.tasks.base import KlingTask
from airflow_provider_kling.tasks.failures import reporting_failure
from airflow_provider_kling.tasks.metrics import count_finished, measured
from airflow_provider_kling.utils.signed_urls import expires_at, mask_signatures
from airflow_provider_kling.version_compat import (
    TaskDeferralError,
    TaskDeferralTimeout,
    guards_resumed_tasks,
    normalize_deferral_errors,
)

if TYPE_CHECKING:
    from typing import NoReturn

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kling.jobs.progress import Progress
    from airflow_provider_kling.jobs.result import KlingVideo

#: Margin of Airflow's own deferral timeout over the trigger's deadline, so that the trigger reports the timeout
#: with its own message.
BACKSTOP = timedelta(minutes=10)
#: Crashes of a trigger that one attempt tolerates.
MAX_CRASHES = 3
#: Seconds before a link expires at which that is a warning.
SOON = 3600.0
_CRASHES = "kling_trigger_crashes"


def deferral_timeout(kling_task_id: str | None, *, advice: str = STILL_RUNNING) -> KlingTimeoutError:
    """
    Return the error for a deferral that Airflow ended.

    :param kling_task_id: The Kling task that was waited for; None if the task waited to submit.
    :param advice: What is known of the job.
    """
    message = "Airflow ended the deferral before the trigger could report"
    return KlingTimeoutError(message, kling_task_id=kling_task_id, advice=advice)


class WaitingTask(KlingTask):
    """
    A mixin for an operator or a sensor that waits for one video.

    Put it before Airflow's own class. The task has the attributes ``kling_conn_id``, ``deferrable``, ``timeout``
    and ``poll_interval``, and a method ``execute_complete`` that takes the trigger's event.
    """

    if TYPE_CHECKING:
        deferrable: bool | None
        timeout: float
        poll_interval: float | None

        def defer(self, **kwargs: Any) -> NoReturn: ...

    @property
    def _is_deferrable(self) -> bool:
        """Whether to wait on the triggerer; ``[kling] deferrable`` is the default."""
        if self.deferrable is None:
            return bool(conf.getboolean("kling", "deferrable", fallback=True))
        return self.deferrable

    @property
    def _shortest_deferral(self) -> float:
        """The minimum seconds of a deferral on this Airflow, by the settings of the worker."""
        return shortest_deferral(
            min_heartbeat_interval=conf.getfloat("workers", "min_heartbeat_interval", fallback=0.0),
            is_guarded=guards_resumed_tasks(conf.get("core", "executor", fallback="")),
        )

    #: URL of the finished video, for the link in Airflow's UI.
    video_url: str | None = None
    #: When the job was submitted (epoch seconds); None if it is not known.
    submitted_at: float | None = None
    #: Seconds that the task took to its submit after it was called for a slot; None if it was not.
    _call_latency: float | None = None

    def _defer_until_finished(
        self,
        kling_task_id: str,
        *,
        started_at: float,
        model: str | None = None,
        video_seconds: int | None = None,
        other_id: str | None = None,
        route: str | None = None,
        submitted_at: float | None = None,
    ) -> NoReturn:
        """
        Defer until a job is finished; ``execute_complete`` receives the event.

        :param kling_task_id: The Kling task to wait for.
        :param started_at: When the job was submitted or, if unknown, when the wait began (epoch seconds).
        :param model: The requested model, if known.
        :param video_seconds: The requested length of the video, if known.
        :param other_id: A second id that the submit returned, if it did.
        :param route: The job's status route, if it is known.
        :param submitted_at: When the job was submitted (epoch seconds), if it is known.
        """
        from airflow_provider_kling.triggers.kling import KlingTaskTrigger

        now = time.time()
        self.defer(
            trigger=KlingTaskTrigger(
                kling_task_id=kling_task_id,
                kling_conn_id=self.kling_conn_id,
                started_at=started_at,
                deadline=now + self.timeout,
                poll_interval=self.poll_interval,
                model=model,
                video_seconds=video_seconds,
                not_before=now + self._shortest_deferral,
                route=route or self._hook.status_route,
                deferred_at=now,
                other_id=other_id,
                submitted_at=submitted_at,
                call_latency=self._call_latency,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout) + BACKSTOP,
        )

    def _push_progress(self, context: Context, progress: Progress | None) -> None:
        """
        Push what is known of a video.

        :param context: The task's context.
        :param progress: Before a deferral, the start, from which the triggerer goes on. After it, what the
            triggerer saw last; None if it saw nothing.
        """
        from airflow_provider_kling.jobs.progress import PROGRESS_KEY

        if progress is not None:
            self._push_shown(context, PROGRESS_KEY, progress)

    def _push_shown(self, context: Context, key: str, value: Any) -> None:
        """Push what a person sees of a video; a task that waits or has paid does not fail for that."""
        try:
            context["ti"].xcom_push(key=key, value=value)
        except Exception as error:  # noqa: BLE001 - an XCom backend may raise anything
            cast("BaseOperator", self).log.warning("XCom %s could not be written: %s", key, error)

    def _pulled(self, context: Context, key: str) -> Any:
        """Return what this attempt pushed; None if it pushed nothing."""
        ti = context["ti"]
        return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)

    @reporting_failure
    @measured
    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume as every operator does; if the trigger crashed, continue to wait for the same job."""
        return self._without_prompts(partial(self._resume, next_method, next_kwargs, context))

    def _resume(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        try:
            with normalize_deferral_errors():
                # Bypasses BaseSensorOperator: with soft_fail, it would skip the task for a crashed trigger.
                return BaseOperator.resume_execution(cast("BaseOperator", self), next_method, next_kwargs, context)
        except TaskDeferralTimeout:
            return self._after_deferral_timeout(context)
        except TaskDeferralError:
            return self._resume_after_crash(context)

    def _after_deferral_timeout(self, context: Context) -> Any:
        """Raise :func:`deferral_timeout` in the form in which this task fails."""
        raise NotImplementedError

    def _resume_after_crash(self, context: Context) -> Any:
        """Continue after a trigger that crashed."""
        raise NotImplementedError

    def _count_crash(self, context: Context, kling_task_id: str | None, advice: str = STILL_RUNNING) -> int:
        """
        Return how often a trigger of this attempt has crashed, this crash included.

        The number is kept in XCom, which Airflow clears at the next attempt, and not before.

        :param context: The task's context.
        :param kling_task_id: The Kling task that was waited for; None if the task waited to submit.
        :param advice: The advice of the error: what is known of the job.
        :raises KlingError: after more than :data:`MAX_CRASHES` crashes, so that a trigger that always crashes is
            not deferred forever.
        """
        crashes = int(self._pulled(context, _CRASHES) or 0) + 1
        if crashes > MAX_CRASHES:
            message = f"The trigger crashed {crashes} times; its log has the reason"
            raise KlingError(message, kling_task_id=kling_task_id, advice=advice, kind="trigger_crashed")
        context["ti"].xcom_push(key=_CRASHES, value=crashes)
        return crashes

    def _publish_result(self, context: Context, video: KlingVideo) -> KlingVideo:
        """Publish a finished video in the link, XCom ``video_url`` and the log; return it."""
        task: Any = self
        self.video_url = video["video_url"]
        count_finished(self, video, submitted_at=self.submitted_at)
        context["ti"].xcom_push(key="video_url", value=self.video_url)
        if video.get("is_watermarked"):  # an event of an earlier version says nothing of it
            task.log.warning(
                "Kling task %s: the server has only the copy with its watermark, so that is the result",
                video["kling_task_id"],
            )
        expiry = expires_at(self.video_url or "")
        if not getattr(self, "save_to", None) and expiry is not None and expiry < time.time() + SOON:
            task.log.warning(
                "The link to the video of Kling task %s expires at %s; store the video before that",
                video["kling_task_id"],
                datetime.fromtimestamp(expiry, tz=UTC).isoformat(timespec="seconds"),
            )
        # The URL's signature is a credential. The link and XCom keep the complete URL.
        task.log.info(
            "Kling task %s is finished: %s", video["kling_task_id"], mask_signatures(self.video_url or "")
        )
        return video
