# SPDX-License-Identifier: Apache-2.0
"""What every task that waits for a video shares: the deferral, the way back from it, and the result."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.jobs.polling import STILL_RUNNING
from airflow_provider_kling.tasks.base import KlingTask
from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from typing import NoReturn

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kling.jobs.result import KlingVideo

#: How much longer Airflow's own deferral timeout is than the trigger's deadline, which it reports in words.
BACKSTOP = timedelta(minutes=10)
#: Seconds that a deferral lasts at least. The scheduler learns 5 seconds late, and later on a busy machine, that a
#: worker is through with a task that deferred; a task that is queued again by then is taken for lost, and failed.
SHORTEST_DEFERRAL = 15.0
#: Crashes of a trigger after which an attempt gives up waiting.
MAX_CRASHES = 3
_CRASHES = "kling_trigger_crashes"


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
        """Whether to wait on the triggerer; ``[kling] deferrable`` decides where the task does not."""
        if self.deferrable is None:
            return bool(conf.getboolean("kling", "deferrable", fallback=True))
        return self.deferrable

    #: URL of the finished video, for the link in Airflow's UI.
    video_url: str | None = None

    def _defer_until_finished(
        self,
        kling_task_id: str,
        *,
        started_at: float,
        model: str | None = None,
        video_seconds: int | None = None,
        other_id: str | None = None,
    ) -> NoReturn:
        """
        Free the worker until a job is finished; ``execute_complete`` gets the event.

        :param kling_task_id: The Kling task to wait for.
        :param started_at: When the job was submitted or, if unknown, the wait began (epoch seconds).
        :param model: The model asked for, if known.
        :param video_seconds: Length of the video asked for, if known.
        :param other_id: Another id that the submit gave, if it did.
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
                not_before=now + SHORTEST_DEFERRAL,
                other_id=other_id,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout) + BACKSTOP,
        )

    def _count_crash(self, context: Context, advice: str = STILL_RUNNING) -> int:
        """
        Return how often a trigger of this attempt has crashed, this crash included.

        XCom holds the number: it is wiped with the next attempt, and not before.

        :param context: The task's context.
        :param advice: What the error says of the job.
        :raises KlingError: if that is too often to go on; a trigger that always crashes must not go in circles.
        """
        ti = context["ti"]
        crashes = int(ti.xcom_pull(task_ids=ti.task_id, key=_CRASHES, map_indexes=ti.map_index) or 0) + 1
        if crashes > MAX_CRASHES:
            raise KlingError(f"The trigger crashed {crashes} times; its log says why", advice=advice)
        ti.xcom_push(key=_CRASHES, value=crashes)
        return crashes

    def _publish_result(self, context: Context, video: KlingVideo) -> KlingVideo:
        """Return a finished video after publishing it: the link, XCom ``video_url`` and the log."""
        task: Any = self
        self.video_url = video["video_url"]
        context["ti"].xcom_push(key="video_url", value=self.video_url)
        # The signature of the URL is a credential; the link and XCom have the whole of it.
        task.log.info(
            "Kling task %s is finished: %s", video["kling_task_id"], mask_signatures(self.video_url or "")
        )
        return video
