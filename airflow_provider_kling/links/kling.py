# SPDX-License-Identifier: Apache-2.0
"""The button in Airflow's UI that opens a finished video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_kling.signed_urls import mask_signatures
from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, Context, TaskInstanceKey

    from airflow_provider_kling.operators.kling import KlingGenerateOperator
    from airflow_provider_kling.sensors.kling import KlingTaskSensor


class KlingVideoLink(BaseOperatorLink):
    """Open the video at the vendor. There is none before the job is finished, and the vendor's link expires."""

    name = "Kling video"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the URL, or an empty string while there is none.

        Airflow 3 asks in the worker at every exit of the task, deferrals included, where the operator knows;
        Airflow 2 asks in the webserver, where only XCom does.
        """
        if AIRFLOW_V_3_0_PLUS:
            return getattr(operator, "video_url", None) or ""
        return XCom.get_value(key="video_url", ti_key=ti_key) or ""


def announce(
    task: KlingGenerateOperator | KlingTaskSensor, context: Context, video: dict[str, Any]
) -> dict[str, Any]:
    """Return a finished video after telling of it: the link, XCom ``video_url`` and the log."""
    task.video_url = video["video_url"]
    context["ti"].xcom_push(key="video_url", value=task.video_url)
    # The signature of the URL is a credential; the link and XCom have the whole of it.
    task.log.info("Kling task %s is finished: %s", video["task_id"], mask_signatures(task.video_url or ""))
    return video
