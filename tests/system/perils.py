# SPDX-License-Identifier: Apache-2.0
"""Tasks that meet one misfortune, once, at one exact point of their way; for DAGs on a real Airflow."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, cast

from airflow.providers.common.compat.sdk import Context
from airflow.triggers.base import TriggerEvent

from airflow_provider_kling.client.sync_client import Submitting
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.records import Identity
from airflow_provider_kling.triggers.kling import KlingTaskTrigger


class Point(NamedTuple):
    """The moment before or after a method, or a function of a module that is named, does its work."""

    owner: type | str
    method: str
    after: bool = False


POINTS = {
    "before the intent": Point(Submitting, "probe", after=True),
    "before the POST": Point(Submitting, "submit"),
    "before the record": Point(Submitting, "submit", after=True),
    "before the deferral": Point(KlingGenerateOperator, "defer"),
    "after the deferral": Point("airflow.sdk.execution_time.task_runner", "finalize"),
    "at the resumption": Point(KlingGenerateOperator, "execute_complete"),
    "before the end": Point(KlingGenerateOperator, "execute_complete", after=True),
}


class Place(NamedTuple):
    """
    Where a record lives: in the task state store if there is one, in a folder, or (neither) in a Variable.

    Without one, client tokens are derived from the name of the deployment.
    """

    state_store: bool
    folder: str = ""
    is_kept: bool = True


RECORDS = {
    "state store": Place(True),
    "state store and folder": Place(True, "PAID_ONCE_FOLDER"),
    "folder": Place(False, "PAID_ONCE_FOLDER"),
    "bucket": Place(False, "PAID_ONCE_BUCKET"),
    "variable": Place(False),
    "none": Place(False, is_kept=False),
}
"""Each ``folder`` is the name of an environment variable of the Airflow that runs the tasks."""


def keep_record(context: Context) -> None:
    """Let this process keep its record where the param ``record`` of the run says, if it says anything."""
    if record := context["params"].get("record"):
        place = RECORDS[record]
        if not place.state_store:
            cast("dict[str, Any]", context)["task_state_store"] = None
        os.environ["AIRFLOW__KLING__STATE_PATH"] = os.environ[place.folder] if place.folder else ""
        if not place.is_kept:
            os.environ |= {"AIRFLOW__KLING__STATE": "none", "AIRFLOW__KLING__DEPLOYMENT": "test"}


def die() -> None:
    """End as a process that the kernel kills for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_with_supervisor() -> None:
    """End as if the machine went away: nobody is left to report it, the heartbeats just stop."""
    os.kill(os.getppid(), signal.SIGKILL)
    die()


def fall_asleep() -> None:
    """Stop as on a machine that is suspended, until somebody lets both go on."""
    os.kill(os.getppid(), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def stop() -> None:
    """Stop before the next step, until somebody lets this process go on; its supervisor goes on."""
    os.kill(os.getpid(), signal.SIGSTOP)


def stop_supervisor() -> None:
    """Stop who would report the end of this process, until somebody lets it go on."""
    os.kill(os.getppid(), signal.SIGSTOP)


def fail() -> None:
    """Raise what this provider does not know."""
    raise RuntimeError("a misfortune")


MISFORTUNES: dict[str, Callable[[], None]] = {
    "dies": die,
    "dies with its supervisor": die_with_supervisor,
    "falls asleep": fall_asleep,
    "stops": stop,
    "its supervisor stops": stop_supervisor,
    "fails": fail,
}


def first_time(name: str) -> bool:
    """Return True to the first caller with this name in this Airflow, in whatever process."""
    folder = Path(os.environ["AIRFLOW_HOME"]) / "perils"
    folder.mkdir(exist_ok=True)
    try:
        (folder / name.replace("/", "_")).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def arm(context: Context) -> None:
    """
    Let this process meet what the params ``point`` and ``misfortune`` of the run name.

    Nothing is put back: the process ends with the attempt.
    """
    params = context["params"]
    if not params["point"]:
        return
    point = POINTS[params["point"]]
    strike = MISFORTUNES[params["misfortune"]]
    owner = import_module(point.owner) if isinstance(point.owner, str) else point.owner
    original = getattr(owner, point.method)

    @wraps(original)
    def perilous(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs) if point.after else None
        if first_time(" ".join(map(str, Identity.of(context)))):
            strike()
        return result if point.after else original(*args, **kwargs)

    setattr(owner, point.method, perilous)


class PerilousGenerateOperator(KlingGenerateOperator):
    """A ``KlingGenerateOperator`` in a process that is armed, and that keeps its record where the run says."""

    def execute(self, context: Context) -> Any:
        keep_record(context)
        arm(context)
        return super().execute(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        keep_record(context)
        arm(context)
        return super().resume_execution(next_method, next_kwargs, context)


class CrashingTrigger(KlingTaskTrigger):
    """A trigger that crashes in the first run that any triggerer gives it."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{__name__}.CrashingTrigger", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if first_time(f"crash of {self.kling_task_id}"):
            # Not at once: Airflow takes a task for lost that is queued again before its worker was seen to end.
            await asyncio.sleep(self.not_before - time.time())
            raise RuntimeError("a misfortune of the trigger")
        async for event in super().run():
            yield event


class CrashingGenerateOperator(KlingGenerateOperator):
    """A ``KlingGenerateOperator`` that waits with a crashing trigger."""

    def defer(self, *, trigger: KlingTaskTrigger, **kwargs: Any) -> None:
        super().defer(trigger=CrashingTrigger(**trigger.serialize()[1]), **kwargs)
