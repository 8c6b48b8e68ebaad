# SPDX-License-Identifier: Apache-2.0
"""Differences between the supported Airflow versions, 2.11 to 3.3. No other module depends on the version."""

from __future__ import annotations

import re
from contextlib import contextmanager
from datetime import datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow import __version__

_VERSION = tuple(map(int, re.findall(r"\d+", __version__)[:3]))
AIRFLOW_V_3_0_PLUS = _VERSION >= (3, 0)
AIRFLOW_V_3_1_PLUS = _VERSION >= (3, 1)
AIRFLOW_V_3_3_PLUS = _VERSION >= (3, 3)

_Result = TypeVar("_Result")
#: The spellings of the CeleryExecutor in ``[core] executor``.
_CELERY = frozenset({"CeleryExecutor", "airflow.providers.celery.executors.celery_executor.CeleryExecutor"})

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from airflow.providers.common.compat.sdk import BaseOperator, Context
    from airflow.sdk.bases.decorator import _TaskDecorator as DecoratedFunction
    from airflow.sdk.definitions.asset import AssetRef
    from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
    from airflow.triggers.base import BaseTrigger

    NEVER_EXPIRE: timedelta
else:
    try:
        from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout
    except ImportError:  # before 3.2
        from airflow.exceptions import TaskDeferralError

        try:
            from airflow.exceptions import TaskDeferralTimeout
        except ImportError:  # Airflow 2

            class TaskDeferralTimeout(TaskDeferralError):  # noqa: N818
                """Airflow ended a deferral at its timeout; see :func:`normalize_deferral_errors`."""

    try:
        from airflow.sdk.definitions.asset import AssetRef
    except ImportError:  # Airflow 2

        class AssetRef:
            """A reference to an asset by its name or URI, which Airflow 2 does not have."""

    try:
        from airflow.sdk import NEVER_EXPIRE
    except ImportError:  # before 3.3, which has no task state store
        NEVER_EXPIRE = timedelta.max

__all__ = [
    "AIRFLOW_V_3_0_PLUS",
    "AIRFLOW_V_3_1_PLUS",
    "AIRFLOW_V_3_3_PLUS",
    "NEVER_EXPIRE",
    "AssetRef",
    "DecoratedFunction",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskInstanceRef",
    "after_success",
    "first_reschedule_date",
    "guards_resumed_tasks",
    "in_thread",
    "is_test_run",
    "normalize_deferral_errors",
    "set_xcom_of",
    "task_instance_of",
    "task_state_store",
    "triggers_write",
]


def task_state_store(context: Context) -> Any | None:
    """Return Airflow's task state store, which outlives a task's attempts; None before 3.3, which has none."""
    return context.get("task_state_store")


def first_reschedule_date(context: Context) -> datetime | None:
    """Return when a sensor was first rescheduled; None if never, or if Airflow has no such method (before 3.0)."""
    get_date = getattr(context["ti"], "get_first_reschedule_date", None)
    first: datetime | None = get_date(context) if get_date else None
    return first


def __getattr__(name: str) -> Any:
    # Only `@task.kling` needs it, and it takes milliseconds to import, which every DAG file would pay for.
    if name == "DecoratedFunction":
        module = "airflow.sdk.bases.decorator" if AIRFLOW_V_3_0_PLUS else "airflow.decorators.base"
        return import_module(module)._TaskDecorator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def guards_resumed_tasks(executors: str, version: tuple[int, ...] = _VERSION) -> bool:
    """
    Return whether Airflow recognises a task that resumes before the end of its deferred run was registered.

    Airflow 2 holds it back until then, for 10 seconds. From 3.2.2 on, the scheduler does not confuse the two while
    the task is scheduled, which is enough with the CeleryExecutor. Elsewhere it may take the task for the run that
    has finished, and fail it.

    :param executors: Airflow's ``[core] executor``: one or several, each a name or a path, with an alias or a team
        before it. A task with an executor of its own has one of these.
    :param version: The version of Airflow.
    """
    if version < (3, 0):
        return True
    names = {re.split("[=:]", entry)[-1].strip() for entry in re.split("[,;]", executors)}
    return version >= (3, 2, 2) and names <= _CELERY


def is_test_run(context: Context) -> bool:
    """Return whether the task runs in ``dag.test()``, ``airflow dags test`` or ``airflow tasks test``."""
    if not AIRFLOW_V_3_0_PLUS:
        ti = context["ti"]
        # A task that the scheduler started has a job that sends its heartbeats.
        return bool(getattr(ti, "test_mode", False)) or getattr(ti, "job_id", 0) is None
    from airflow.sdk.execution_time import task_runner

    comms = getattr(task_runner, "SUPERVISOR_COMMS", None)
    return type(comms).__name__ == "InProcessSupervisorComms"


class TaskInstanceRef(NamedTuple):
    """What identifies a task instance; ``map_index`` is -1 for a task that is not mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


def task_instance_of(trigger: BaseTrigger) -> TaskInstanceRef | None:
    """Return the task instance that a trigger runs for; None outside a triggerer, as in ``dag.test()``."""
    ti: Any = getattr(trigger, "task_instance", None)
    if ti is None or trigger.trigger_id is None:
        return None
    return TaskInstanceRef(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def triggers_write() -> bool:
    """
    Return whether a trigger may write XComs and Variables; not in Airflow 3.0.0 to 3.0.4.

    There, the supervisor of a triggerer does not know the messages that write them. It would never respond, and
    all triggers would hang.
    """
    return not AIRFLOW_V_3_0_PLUS or hasattr(import_module("airflow.jobs.triggerer_job_runner"), "SetXCom")


async def in_thread(function: Callable[..., _Result], *arguments: Any, executor: ThreadPoolExecutor) -> _Result:
    """
    Call what reads or writes Airflow's XComs or Variables from a triggerer, without blocking its event loop.

    The caller must not be cancelled meanwhile: before Airflow 3.2, another trigger would then get the response to
    this call, and all of them would fail.

    :param function: The function to call, with ``arguments``.
    :param executor: The threads to call it in.
    :return: What it returns.
    :raises Exception: whatever it raises.
    """
    from asgiref.sync import sync_to_async

    # Airflow 3 sends it through the event loop, which a thread of asgiref knows. Before 3.2, a thread that does
    # not would corrupt the connection to the supervisor. Airflow 2 uses the database.
    return await sync_to_async(function, thread_sensitive=False, executor=executor)(*arguments)


async def set_xcom_of(ti: TaskInstanceRef, key: str, value: Any, *, executor: ThreadPoolExecutor) -> None:
    """
    Write an XCom from a triggerer; see :func:`in_thread`.

    :param ti: The task instance that the XCom belongs to.
    :param key: Its key.
    :param value: Its value, plain JSON.
    :param executor: The threads to write in.
    :raises Exception: whatever the XCom backend raises.
    """
    await in_thread(_set_xcom, ti, key, value, executor=executor)


def _set_xcom(ti: TaskInstanceRef, key: str, value: Any) -> None:
    module = import_module("airflow.sdk.execution_time.xcom" if AIRFLOW_V_3_0_PLUS else "airflow.models.xcom")
    module.XCom.set(key=key, value=value, **ti._asdict())


def after_success(task: BaseOperator, context: Context, do: Callable[[], None]) -> None:
    """
    Register a call for when Airflow has recorded the success of the running task.

    It is not made if Airflow records any other state.

    :param task: The running operator.
    :param context: Its context.
    :param do: The function to call.
    """
    if AIRFLOW_V_3_0_PLUS:
        given: Any = task.on_success_callback or []
        callbacks = list(given) if isinstance(given, (list, tuple)) else [given]

        def do_if_recorded(_: Any) -> None:
            # From 3.2 on the callbacks run even if Airflow rejected the success, for example of a cleared task.
            ti: Any = context["ti"]
            given = {"dag_id": ti.dag_id, "task_ids": [ti.task_id], "run_ids": [ti.run_id]}
            states = ti.get_task_states(**given, map_index=ti.map_index).get(ti.run_id, {})
            if set(states.values()) == {"success"}:
                do()

        task.on_success_callback = [*callbacks, do_if_recorded]
        return
    # Airflow 2 runs the callbacks before it commits the state, and the listeners after that.
    from airflow.listeners import hookimpl
    from airflow.listeners.listener import get_listener_manager

    ti: Any = context["ti"]

    class AfterSuccess:
        @hookimpl
        def on_task_instance_success(self, task_instance: Any) -> None:
            if task_instance.key == ti.key:
                get_listener_manager().pm.unregister(self)
                do()

    get_listener_manager().add_listener(AfterSuccess())


@contextmanager
def normalize_deferral_errors() -> Iterator[None]:
    """
    Raise ``TaskDeferralTimeout`` for a deferral that timed out, on every Airflow version.

    Airflow 2 raises ``TaskDeferralError`` for a timeout and for a crashed trigger; only the message differs.
    """
    try:
        yield
    except TaskDeferralError as error:
        if str(error) == "Trigger/execution timeout":
            raise TaskDeferralTimeout(*error.args) from error
        raise
