# SPDX-License-Identifier: Apache-2.0
"""XComs as the API server reads them, through the XCom backend that is configured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.models.xcom import XComModel
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time.xcom import XCom
from sqlalchemy import Text, cast, func, select

from airflow_provider_kling.videos_page.bounded_calls import call_within

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_kling.records.stores import Identity

#: Seconds that an XCom backend may take for one value.
SECONDS = 10.0
#: Length of a value in the database; those of this package are far shorter.
MAX_CHARACTERS = 64 << 10


def xcom_of(identity: Identity, key: str, session: Session) -> Any:
    """
    Return an XCom of a task instance as plain JSON, None if there is none, or one above :data:`MAX_CHARACTERS`.

    :param identity: The task instance.
    :param key: The key of the XCom.
    :param session: A session of Airflow's database.
    :raises Exception: if the XCom backend fails, or takes longer than :data:`SECONDS`.
    """
    row = session.scalar(
        select(XComModel).where(
            XComModel.dag_id == identity.dag_id,
            XComModel.run_id == identity.run_id,
            XComModel.task_id == identity.task_id,
            XComModel.map_index == identity.map_index,
            XComModel.key == key,
            func.length(cast(XComModel.value, Text)) <= MAX_CHARACTERS,
        )
    )
    return None if row is None else _value(row)


def _value(row: XComModel) -> Any:
    if XCom is not BaseXCom:
        return call_within(SECONDS, lambda: XCom.deserialize_value(row))
    # Not Airflow's deserializer: it makes objects of classes that the value names.
    if isinstance(row.value, str):
        try:
            return json.loads(row.value)
        except ValueError:
            return row.value
    return row.value
