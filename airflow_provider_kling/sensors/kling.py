# SPDX-License-Identifier: Apache-2.0
"""Wait for video jobs at Kling."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_kling.exceptions import KlingError, KlingTimeoutError
from airflow_provider_kling.jobs.limits import DEFAULT_TIMEOUT, STILL_RUNNING, to_seconds
from airflow_provider_kling.links.kling import LINKS
from airflow_provider_kling.tasks.failures import reporting_failure, sensor_failure
from airflow_provider_kling.tasks.import_errors import naming_own_task, naming_task
from airflow_provider_kling.tasks.metrics import measured
from airflow_provider_kling.tasks.parse_checks import CheckedPartial
from airflow_provider_kling.tasks.waiting import BACKSTOP, WaitingTask, deferral_timeout
from airflow_provider_kling.version_compat import (
    AIRFLOW_V_3_3_PLUS,
    first_reschedule_date,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.triggers.base import StartTriggerArgs

    from airflow_provider_kling.jobs.polling import Finished, Pause, Poller
    from airflow_provider_kling.jobs.result import KlingVideo

#: Default seconds between two pokes of a sensor that is not deferrable.
POKE_INTERVAL = 30.0
#: Seconds between two status checks at most, where a rescheduled sensor stays until a job has settled.
SETTLING_PAUSE = 5.0


class KlingTaskSensor(WaitingTask, BaseSensorOperator):
    """
    Wait until a submitted video job is finished, and return the finished video.

    It never submits, so a retry or a clear costs nothing: the sensor continues to wait for the same job.

    :param kling_task_id: The id that ``KlingGenerateOperator`` returned, or a finished video.
    :param kling_conn_id: The Airflow connection.
    :param deferrable: Wait on the triggerer, holding no worker. None reads ``[kling] deferrable`` (true by
        default); Airflow's own ``[operators] default_deferrable`` is not read, since its default cannot be
        distinguished from a choice. False waits in a worker, in ``mode`` ``poke`` (holding it) or ``reschedule``
        (freeing it between pokes).
    :param poke_interval: Seconds (or a timedelta) between two status checks. None uses the provider's own
        schedule, or 30 seconds if the sensor is not deferrable.
    :param start_from_trigger: Start on the triggerer: no worker is started before the video is finished. Needs
        Airflow 3.3 or later, and is ignored before. Its costs: no pool counts the task; every trigger carries a
        copy of the DAG; after a restart of the triggerer, ``timeout`` starts again, and Airflow ends the wait ten
        minutes late at most. The task cannot be mapped, nor be part of a mapped task group. ``kling_task_id`` may
        be the output of a task, or a template that names the map index:
        ``{{ ti.xcom_pull(task_ids='up', map_indexes=-1) }}``.
    :param timeout: Seconds (or a timedelta) to wait, 4 hours by default. As with every sensor, a timeout is
        final: no retry follows. The job continues at the vendor; clear the sensor to wait again.
    :param soft_fail: Skip the task instead of failing it, for any error that ends the wait.
    :return: The finished video, in the form that ``KlingGenerateOperator`` with ``wait_for_completion`` returns.
        XCom ``kling_task_id`` has the id of the job, ``video_url`` the URL of the video.
    :raises KlingError: a named subclass, see :mod:`airflow_provider_kling.exceptions`.
    """

    template_fields: Sequence[str] = ("kling_task_id", "kling_conn_id")
    text_fields: ClassVar[Sequence[str]] = ("kling_task_id", "kling_conn_id")
    operator_extra_links = LINKS
    ui_color = "#e8f5d0"

    @naming_own_task
    def __init__(
        self,
        *,
        kling_task_id: str | XComArg,
        kling_conn_id: str = "kling_default",
        deferrable: bool | None = None,
        poke_interval: float | timedelta | None = None,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        start_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        self.poll_interval = None if poke_interval is None else to_seconds("poke_interval", poke_interval)
        super().__init__(
            poke_interval=POKE_INTERVAL if self.poll_interval is None else self.poll_interval,
            timeout=to_seconds("timeout", timeout),
            **kwargs,
        )
        self.kling_task_id = kling_task_id
        self.kling_conn_id = kling_conn_id
        self.deferrable = deferrable
        # Set on the instance: as class attributes they would break mapping.
        self.start_from_trigger = start_from_trigger and self._is_deferrable and AIRFLOW_V_3_3_PLUS
        if self.start_from_trigger:
            self.start_trigger_args = self._start_trigger_args()

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """
        Prepare a mapped task.

        :raises ValueError: for ``start_from_trigger``.
        """
        if kwargs.get("start_from_trigger"):
            with naming_task(kwargs.get("task_id")):
                raise ValueError(
                    "start_from_trigger=True cannot be mapped: Airflow starts mapped tasks on a worker"
                )
        return CheckedPartial(super().partial(**kwargs), kwargs, labelled_by=("kling_task_id",))

    @property
    def map_label(self) -> str:
        """What Airflow's UI calls this row: the id of the job."""
        return self._task_id

    @reporting_failure
    @measured
    def execute(self, context: Context) -> Any:
        """Return the video if it is already finished; otherwise wait for it."""
        with self._as_sensor_failures():
            # The Videos page shows the tasks of one job together.
            context["ti"].xcom_push(key="kling_task_id", value=self._task_id)
        if self._is_deferrable:
            return self._execute_deferrable(context)
        try:
            return super().execute(context)
        except KlingError:
            raise
        except AirflowSensorTimeout as error:
            # Airflow's own clock came first, between two checks.
            raise sensor_failure(
                KlingTimeoutError(str(error), kling_task_id=self._task_id, advice=STILL_RUNNING)
            ) from None

    def _execute_deferrable(self, context: Context) -> KlingVideo:
        from airflow_provider_kling.jobs.polling import Finished
        from airflow_provider_kling.jobs.progress import Sight

        with self._as_sensor_failures():
            now = time.time()
            # One check on the worker, which is held anyway: many jobs have ended before their sensor starts.
            poller = self._poller(started_at=now)
            decision = self._check(poller)
            if isinstance(decision, Finished):
                return self._publish_result(context, decision.result())
            model = poller.job.model if poller.job else None
            if poller.job is not None:
                self._push_progress(context, Sight(submitted_at=None, now=now).progress(poller.job, now=now))
            return self._defer_until_finished(self._task_id, started_at=now, model=model)

    def _start_trigger_args(self) -> StartTriggerArgs:
        from airflow.triggers.base import StartTriggerArgs

        return StartTriggerArgs(
            trigger_cls="airflow_provider_kling.triggers.kling.KlingTaskTrigger",
            trigger_kwargs={
                "kling_task_id": _template_for_triggerer(self.kling_task_id),
                "kling_conn_id": self.kling_conn_id,
                "timeout": self.timeout,
                "poll_interval": self.poll_interval,
            },
            next_method="execute_complete",
            timeout=timedelta(seconds=self.timeout) + BACKSTOP,
        )

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Check once, for the modes ``poke`` and ``reschedule``."""
        from airflow_provider_kling.jobs.polling import Pause

        with self._as_sensor_failures():
            poller = self._lasting_poller
            if self.reschedule and (first := first_reschedule_date(context)):
                # In this mode each poke is a process of its own; the wait began with the first one. Its
                # time may be of another machine's clock, which is ahead.
                poller.started_at = min(first.timestamp(), time.time())
                poller.deadline = poller.started_at + self.timeout
            decision = self._check(poller)
            while isinstance(decision, Pause) and self.reschedule and poller.is_settling:
                # The process of the next poke would count that minute anew.
                time.sleep(min(decision.seconds, SETTLING_PAUSE))
                decision = self._check(poller)
            if isinstance(decision, Pause):
                return False
            return PokeReturnValue(is_done=True, xcom_value=self._publish_result(context, decision.result()))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> KlingVideo:
        """Return the finished video from the trigger's event, or fail with the error from it."""
        from airflow_provider_kling.jobs.polling import video_from_event

        self._push_progress(context, (event or {}).get("progress"))
        with self._as_sensor_failures():
            return self._publish_result(context, video_from_event(event))

    def _after_deferral_timeout(self, context: Context) -> Any:
        with self._as_sensor_failures():
            raise deferral_timeout(self._task_id)

    def _resume_after_crash(self, context: Context) -> KlingVideo:
        with self._as_sensor_failures():
            self.log.warning("The trigger crashed (%d); still waiting", self._count_crash(context, self._task_id))
            return self._execute_deferrable(context)

    def on_kill(self) -> None:
        """Log which job continues: the API has no cancel."""
        self.log.warning("Killed. Kling task %s continues at the vendor, and is billed", self.kling_task_id)

    @cached_property
    def _task_id(self) -> str:
        from airflow_provider_kling.jobs.result import task_reference

        return task_reference(self.kling_task_id)[0]

    def _poller(self, started_at: float) -> Poller:
        from airflow_provider_kling.jobs.poll_schedule import delay_for
        from airflow_provider_kling.jobs.polling import Poller

        return Poller(
            self._task_id,
            started_at=started_at,
            deadline=started_at + self.timeout,
            delay=delay_for(self.poll_interval),
        )

    @cached_property
    def _lasting_poller(self) -> Poller:
        return self._poller(started_at=time.time())

    def _check(self, poller: Poller) -> Pause | Finished:
        from airflow_provider_kling.api.base import Grace

        grace = Grace(0.0, 0.0)
        try:
            grace = self._hook.connection.api.grace
            job = self._hook.get_video(poller.kling_task_id)
            decision = poller.on_job(job, grace=grace, now=time.time())
        except KlingError as error:
            decision = poller.on_error(error, grace=grace, now=time.time())
        if line := poller.progress_message(now=time.time()):
            self.log.info(line)
        return decision

    @contextmanager
    def _as_sensor_failures(self) -> Iterator[None]:
        """Convert every named error raised inside to a sensor's failure, or to a skip with ``soft_fail``."""
        try:
            yield
        except KlingError as error:
            if self.soft_fail or getattr(self, "never_fail", False):
                raise AirflowSkipException(str(error)) from error
            raise sensor_failure(error) from error.__cause__


def _template_for_triggerer(kling_task_id: Any) -> str:
    """
    Return a task id, or the template of one, in a form that a triggerer can render.

    The triggerer's supervisor does not respond to ``xcom_pull`` unless the map index is named: the trigger would
    hang.

    :raises ValueError: if there is no such form.
    """
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if isinstance(kling_task_id, PlainXComArg):
        source = f"task_ids='{kling_task_id.operator.task_id}', key='{kling_task_id.key}'"
        return f"{{{{ ti.xcom_pull({source}, map_indexes=-1) }}}}"
    if not isinstance(kling_task_id, str) or ("xcom_pull" in kling_task_id and "map_indexes" not in kling_task_id):
        raise ValueError(
            f"With start_from_trigger=True, kling_task_id={kling_task_id!r} cannot be rendered on the triggerer: "
            "pass the output of a task, or a template such as {{ ti.xcom_pull(task_ids='up', map_indexes=-1) }}"
        )
    return kling_task_id
