# SPDX-License-Identifier: Apache-2.0
"""A StatsD server that keeps what it is told."""

from __future__ import annotations

import socket
import threading
from typing import Self


class Metrics:
    """
    Listen on a free UDP port; use it as a context manager.

    :ivar received: every datagram so far.
    :ivar environment: the variables with which an Airflow sends its metrics here.
    """

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.environment = {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
        }
        self._thread = threading.Thread(target=self._listen, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty datagram is the end: Airflow sends none.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while datagram := self._socket.recv(65536):
            self.received.append(datagram)
