# SPDX-License-Identifier: Apache-2.0
"""Airflow connections for tests: a secrets backend that hands them out, and counts how often it is asked."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

from airflow.secrets import BaseSecretsBackend


class Book:
    """The connections that exist, by id, and how often each was looked up."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.connections: dict[str, dict[str, Any]] = {}
        self.lookups: Counter[str] = Counter()
        #: Held by a test, it keeps every look-up waiting.
        self.gate = threading.Lock()

    def add(self, conn_id: str, fields: dict[str, Any]) -> None:
        self.connections[conn_id] = fields


BOOK = Book()


class ConnectionBook(BaseSecretsBackend):
    """What Airflow is configured with as its secrets backend."""

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        with BOOK.gate:
            BOOK.lookups[conn_id] += 1
            if conn_id not in BOOK.connections:
                return None
            return json.dumps(BOOK.connections[conn_id])

    def get_variable(self, key: str, team_name: str | None = None) -> str | None:
        return None
