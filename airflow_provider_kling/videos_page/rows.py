# SPDX-License-Identifier: Apache-2.0
"""
Task instances and their XComs, read from Airflow's database in a few queries and within limits.

Values are taken as the JSON that they are stored as. Only a configured XCom backend turns them into anything else.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time.xcom import XCom
from sqlalchemy import Text, and_, case, cast, func, null, or_, select

from airflow_provider_kling.videos_page.bounded_calls import call_within
from airflow_provider_kling.videos_page.cards import KEYS, OWN_KEYS, TaskRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy.orm import Session

#: Task instances that one page reads at most; a video has up to three.
MAX_ROWS = 3_000
#: Characters of one XCom, and of all that one page reads.
MAX_VALUE, MAX_VALUES = 64 * 1024, 32 * 1024 * 1024
#: Seconds that a configured XCom backend has for all values of a page.
BACKEND_SECONDS = 5.0

TOO_LARGE = "Some of its XComs are too large to be shown."
NOT_READ = "Some of its XComs could not be read from the XCom backend."
TOO_LATE = "The XCom backend did not return its XComs in time; reload the page to try again."
#: The id of a run in the database, a task and a map index.
_Key = tuple[int, str, int]


class Run(NamedTuple):
    """A DAG run."""

    id: int
    dag_id: str
    run_id: str
    state: str


class Read(NamedTuple):
    """
    What was read.

    :param rows: The task instances, newest run first, in mapped order.
    :param is_complete: Whether there are no more than :data:`MAX_ROWS`.
    """

    rows: list[TaskRow]
    is_complete: bool


def find_run(session: Session, dag_id: str, run_id: str) -> Run | None:
    """Return a DAG run; None if there is none."""
    found = _runs(session, select(DagRun.id).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    return found[0] if found else None


def latest_runs(session: Session, dag_id: str, limit: int) -> list[Run]:
    """Return the latest runs of a DAG."""
    return _runs(session, select(DagRun.id).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(limit))


def dags_with_videos(session: Session) -> set[str]:
    """Return the DAGs that have XComs of this package."""
    return set(session.scalars(select(XComModel.dag_id).where(XComModel.key.in_(OWN_KEYS)).distinct()))


def latest_runs_with_videos(session: Session, dag_ids: Collection[str], limit: int) -> list[Run]:
    """Return the latest runs of these DAGs that have XComs of this package."""
    found = (
        select(XComModel.dag_run_id)
        .where(XComModel.key.in_(OWN_KEYS), XComModel.dag_id.in_(sorted(dag_ids)))
        .distinct()
        .order_by(XComModel.dag_run_id.desc())
        .limit(limit)
    )
    return _runs(session, found)


def _runs(session: Session, ids: Any) -> list[Run]:
    found = list(session.scalars(ids))
    columns = select(DagRun.id, DagRun.dag_id, DagRun.run_id, DagRun.state)
    rows = session.execute(columns.where(DagRun.id.in_(found)).order_by(DagRun.id.desc())) if found else ()
    return [Run(id_, dag_id, run_id, str(state)) for id_, dag_id, run_id, state in rows]


def read_rows(session: Session, runs: Sequence[Run], *, map_indexes: Collection[int] = ()) -> Read:
    """
    Return the task instances of this package in these runs, with their XComs.

    :param session: A session on Airflow's database.
    :param runs: The runs.
    :param map_indexes: The map indexes to read; all if empty.
    """
    if not runs:
        return Read([], is_complete=True)
    found = list(session.execute(_task_instances([run.id for run in runs], map_indexes)))
    is_complete = len(found) <= MAX_ROWS
    found = found[:MAX_ROWS]
    values = _Values()
    if found:
        numbers, task_ids = {row.number for row in found}, {row.task_id for row in found}
        values.read(session, _xcoms(numbers, task_ids, map_indexes))
    rows = []
    for row in found:
        key = (row.number, row.task_id, row.map_index)
        rows.append(
            TaskRow(
                dag_id=row.dag_id,
                run_id=row.run_id,
                task_id=row.task_id,
                map_index=row.map_index,
                state=str(row.state) if row.state else None,
                operator=f"{row.custom_operator_name or ''} {row.operator or ''}",
                label=row.label,
                xcoms=values.by_task.get(key, {}),
                unread=values.unread.get(key),
            )
        )
    return Read(rows, is_complete)


def _task_instances(run_numbers: Sequence[int], map_indexes: Collection[int]) -> Any:
    ti = TaskInstance
    own_xcom = select(XComModel.key).where(
        XComModel.dag_run_id.in_(run_numbers),
        XComModel.key.in_(OWN_KEYS),
        XComModel.dag_id == ti.dag_id,
        XComModel.task_id == ti.task_id,
    )
    statement = (
        select(
            DagRun.id.label("number"),
            ti.dag_id,
            ti.run_id,
            ti.task_id,
            ti.map_index,
            ti.state,
            ti.operator,
            ti.custom_operator_name,
            ti._rendered_map_index.label("label"),
        )
        .join(DagRun, and_(DagRun.dag_id == ti.dag_id, DagRun.run_id == ti.run_id))
        .where(
            DagRun.id.in_(run_numbers),
            or_(
                ti.operator.ilike("%kling%"),
                ti.custom_operator_name.ilike("%kling%"),
                # An operator of another name that is derived from one of ours.
                own_xcom.exists(),
            ),
        )
        .order_by(DagRun.id.desc(), ti.task_id, ti.map_index)
        .limit(MAX_ROWS + 1)
    )
    return statement.where(ti.map_index.in_(sorted(map_indexes))) if map_indexes else statement


def _xcoms(run_numbers: Iterable[int], task_ids: Iterable[str], map_indexes: Collection[int]) -> Any:
    text = cast(XComModel.value, Text)
    length = func.length(text)
    statement = select(
        XComModel.dag_run_id,
        XComModel.task_id,
        XComModel.map_index,
        XComModel.key,
        length.label("length"),
        # What is too large stays in the database.
        case((length <= MAX_VALUE, text), else_=null()).label("text"),
    ).where(
        XComModel.dag_run_id.in_(sorted(run_numbers)),
        XComModel.task_id.in_(sorted(task_ids)),
        XComModel.key.in_(KEYS),
    )
    return statement.where(XComModel.map_index.in_(sorted(map_indexes))) if map_indexes else statement


class _Values:
    """The XComs by task instance, and why some are missing."""

    def __init__(self) -> None:
        self.by_task: dict[_Key, dict[str, Any]] = {}
        self.unread: dict[_Key, str] = {}

    def read(self, session: Session, statement: Any) -> None:
        left = MAX_VALUES
        for row in session.execute(statement.execution_options(yield_per=500)):
            key = (row.dag_run_id, row.task_id, row.map_index)
            if row.length is None:
                continue
            if row.text is None or row.length > left:
                self.unread[key] = TOO_LARGE
                continue
            left -= row.length
            try:
                value = json.loads(row.text)
            except (ValueError, RecursionError):
                self.unread[key] = NOT_READ
                continue
            self.by_task.setdefault(key, {})[row.key] = value
        self._through_backend()

    def _through_backend(self) -> None:
        if XCom is BaseXCom:
            return
        stored, self.by_task = self.by_task, {}
        late = threading.Event()
        with suppress(TimeoutError):
            call_within(BACKEND_SECONDS, lambda: self._deserialize(stored, late))
        late.set()
        for key, values in stored.items():
            if len(self.by_task.get(key, {})) < len(values):
                self.unread.setdefault(key, TOO_LATE)

    def _deserialize(self, stored: dict[_Key, dict[str, Any]], late: threading.Event) -> None:
        for key, values in stored.items():
            for name, value in values.items():
                if late.is_set():
                    return
                try:
                    read = XCom.deserialize_value(_Stored(name, value))
                except Exception:  # noqa: BLE001 - a backend may raise anything
                    self.unread[key] = NOT_READ
                    continue
                if not late.is_set():
                    self.by_task.setdefault(key, {})[name] = read


class _Stored(NamedTuple):
    """An XCom as a backend gets it."""

    key: str
    value: Any


def by_run(rows: Iterable[TaskRow]) -> Iterator[tuple[tuple[str, str], list[TaskRow]]]:
    """Yield the rows of each run, in their order."""
    groups: dict[tuple[str, str], list[TaskRow]] = {}
    for row in rows:
        groups.setdefault((row.dag_id, row.run_id), []).append(row)
    yield from groups.items()
