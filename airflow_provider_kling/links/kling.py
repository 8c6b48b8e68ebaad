# SPDX-License-Identifier: Apache-2.0
"""The buttons in Airflow's UI that lead from a task to its video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.common.compat.sdk import BaseOperatorLink, XCom

from airflow_provider_kling.version_compat import AIRFLOW_V_3_0_PLUS, AIRFLOW_V_3_1_PLUS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class KlingVideoLink(BaseOperatorLink):
    """
    Open the Videos page of a task; before Airflow 3.1, which has no such page, the video at the vendor.

    The page is there once the task has submitted, or has failed to.
    """

    name = "Kling video"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL, or an empty string while there is none; Airflow calls this as for the vendor's link."""
        return _page_of(ti_key) if AIRFLOW_V_3_1_PLUS else _vendor_url(operator, ti_key)


class KlingVendorLink(BaseOperatorLink):
    """
    Open the video at the vendor.

    There is no link before the job is finished, and the vendor's URL expires.
    """

    name = "Video at the vendor"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """
        Return the URL, or an empty string while there is none.

        Airflow 3 calls this in the worker whenever the task exits, deferrals included; there the operator has the
        URL. Airflow 2 calls it in the webserver, where only XCom has it.
        """
        return _vendor_url(operator, ti_key)


#: The links of an operator or a sensor.
LINKS: tuple[BaseOperatorLink, ...] = (
    (KlingVideoLink(), KlingVendorLink()) if AIRFLOW_V_3_1_PLUS else (KlingVideoLink(),)
)


def _page_of(ti_key: Any) -> str:
    # Relative, so that it works under a base path and opens in the same tab.
    segments = ["dags", ti_key.dag_id, "runs", ti_key.run_id, "tasks", ti_key.task_id]
    if ti_key.map_index is not None and ti_key.map_index >= 0:
        segments += ["mapped", str(ti_key.map_index)]
    return "/".join(quote(segment, safe="") for segment in [*segments, "plugin", "kling"])


def _vendor_url(operator: Any, ti_key: Any) -> str:
    if AIRFLOW_V_3_0_PLUS:
        return getattr(operator, "video_url", None) or ""
    return XCom.get_value(key="video_url", ti_key=ti_key) or ""
