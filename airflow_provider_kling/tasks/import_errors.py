# SPDX-License-Identifier: Apache-2.0
"""
Errors about the arguments of a task that name the task, and the line of the DAG file.

Airflow shows the last two frames of an import error, and these are never frames of the DAG file.
"""

from __future__ import annotations

import sys
import sysconfig
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

from airflow_provider_kling.exceptions import KlingValidationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    P = ParamSpec("P")

#: Packages whose frames lie between a DAG file and a check.
_PACKAGES = frozenset({"airflow", "airflow_provider_kling"})
#: Folders of installed packages, and those of installed commands.
_LIBRARIES, _COMMANDS = frozenset({"site-packages", "dist-packages"}), frozenset({"bin", "Scripts"})


@contextmanager
def naming_task(task_id: str | None) -> Iterator[None]:
    """
    Have an error about the arguments of a task name the task, and the place in the DAG file.

    :param task_id: The id of the task, None if it is not known.
    :raises KlingValidationError: as it was raised inside, with another message.
    :raises ValueError: likewise.
    """
    try:
        yield
    except (KlingValidationError, ValueError) as error:
        raise named(error, task_id) from None


def naming_own_task(init: Callable[P, None]) -> Callable[P, None]:
    """Do the same with the errors of an operator's ``__init__``."""

    @wraps(init)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            init(*args, **kwargs)
        except (KlingValidationError, ValueError) as error:
            # The attribute has the ids of the task groups in it.
            raise named(error, vars(args[0]).get("task_id") or kwargs.get("task_id")) from None

    return run


def named(error: KlingValidationError | ValueError, task_id: Any) -> Exception:
    """Return an error about the arguments of a task with the task and the place in its message."""
    subject = f"Task {task_id!r}: " if task_id else ""
    if isinstance(error, KlingValidationError):
        first, newline, others = error.message.partition("\n")
        colon = ":" if first.endswith(":") else ""
        message = f"{subject}{first.removesuffix(':')}{_place()}{colon}{newline}{others}"
        return error.replace(message=message).with_traceback(None)
    if type(error) is not ValueError:  # of another library, with arguments of its own
        return error
    return ValueError(f"{subject}{error}{_place()}")


def _place() -> str:
    """Return the place outside of all libraries from which the check was reached; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame):
        frame = frame.f_back
    if frame is None:
        return ""
    return f" ({'/'.join(Path(frame.f_code.co_filename).parts[-2:])} line {frame.f_lineno})"


def _is_users(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return (
        package not in _PACKAGES
        and path.is_absolute()
        and not path.is_relative_to(sysconfig.get_path("stdlib"))
        and _LIBRARIES.isdisjoint(path.parts)
        and path.parent.name not in _COMMANDS
    )
