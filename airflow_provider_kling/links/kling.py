# SPDX-License-Identifier: Apache-2.0
"""The button in Airflow's UI that opens a finished video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


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
