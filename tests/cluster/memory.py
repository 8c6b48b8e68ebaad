# SPDX-License-Identifier: Apache-2.0
"""How much memory each component needs."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread
from typing import Self

import psutil

from tests.system.airflow_cluster import AirflowCluster

_PAUSE = 5.0
"""Seconds between two looks."""


class MemoryWatch:
    """
    Look at all components from time to time, while the block lasts.

    :ivar peaks: Component -> the most bytes that all its processes had together. Pages that several processes
        share, such as a parent and its forked children, are divided among them (PSS).
    """

    def __init__(self, cluster: AirflowCluster) -> None:
        self.peaks: dict[str, int] = {}
        self._cluster = cluster
        self._end = Event()
        self._thread = Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_PAUSE):
            for name in self._cluster.running():
                total = 0
                # A component that was killed meanwhile has none.
                with suppress(KeyError):
                    for process in self._cluster.processes(name):
                        with suppress(psutil.Error):
                            total += process.memory_full_info().pss
                self.peaks[name] = max(total, self.peaks.get(name, 0))
