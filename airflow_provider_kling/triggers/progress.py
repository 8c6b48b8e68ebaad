# SPDX-License-Identifier: Apache-2.0
"""Write the progress of waiting videos to XCom, in the background and at a limited rate."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_kling.jobs.progress import PROGRESS_KEY, WRITE_INTERVAL, Progress, WriteQueue
from airflow_provider_kling.version_compat import TaskInstanceRef, set_xcom_of

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

_log = logging.getLogger(__name__)
#: The thread that writes: an XCom backend may do I/O, and may be slow.
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kling-progress")


class ProgressWriter:
    """
    Write the progress of the videos that wait in one event loop, one write at a time.

    A wait only hands over what it saw. It neither waits for a write nor learns that one failed.
    """

    def __init__(self) -> None:
        self._queue: WriteQueue[TaskInstanceRef] = WriteQueue()
        self._task: asyncio.Task[None] | None = None
        self._has_warned = False

    def update(self, ti: TaskInstanceRef, progress: Progress) -> None:
        """Hand over the newest progress of a task instance's video."""
        self._queue.update(ti, progress, now=time.monotonic())
        if self._task is None or self._task.done():
            # Its own task, since cancelling a trigger must not cancel a write. Its own context, since that of a
            # trigger leads to the log of one video.
            self._task = asyncio.get_running_loop().create_task(self._write_all(), context=Context())

    def leave(self, ti: TaskInstanceRef) -> None:
        """Forget a task instance whose wait has ended."""
        self._queue.leave(ti)

    async def _write_all(self) -> None:
        while self._queue:
            if (write := self._queue.take(now=time.monotonic())) is not None:
                await self._write(*write)
            await asyncio.sleep(WRITE_INTERVAL)

    async def _write(self, ti: TaskInstanceRef, progress: Progress) -> None:
        try:
            await set_xcom_of(ti, PROGRESS_KEY, progress, executor=_THREAD)
        except Exception as error:  # noqa: BLE001 - an XCom backend may raise anything
            self._queue.failed(now=time.monotonic())
            if not self._has_warned:
                self._has_warned = True
                _log.warning(
                    "The progress of a video was not written to XCom; no video depends on it. Later failures are "
                    "not logged. %s: %s",
                    type(error).__name__,
                    error,
                )
        else:
            self._queue.succeeded()


_writers: WeakKeyDictionary[AbstractEventLoop, ProgressWriter] = WeakKeyDictionary()


def progress_writer() -> ProgressWriter:
    """Return the writer of the running event loop; a triggerer has one loop."""
    return _writers.setdefault(asyncio.get_running_loop(), ProgressWriter())
