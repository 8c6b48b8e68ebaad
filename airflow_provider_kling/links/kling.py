# SPDX-License-Identifier: Apache-2.0
"""The button in Airflow's UI that opens a finished video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class KlingVideoLink(BaseOperatorLink):
    """
    Open the video at the vendor.

    There is no link before the job is finished, and the vendor's URL expires.
    """

    name = "Kling video"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the URL, or an empty string while there is none.

        Airflow 3 calls this in the worker whenever the task exits, deferrals included; there the operator has the
        URL. Airflow 2 calls it in the webserver, where only XCom has it.
        """
        if AIRFLOW_V_3_0_PLUS:
            return getattr(operator, "video_url", None) or ""
        return XCom.get_value(key="video_url", ti_key=ti_key) or ""
