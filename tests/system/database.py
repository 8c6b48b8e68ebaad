# SPDX-License-Identifier: Apache-2.0
"""What is in the database of a real Airflow."""

from __future__ import annotations

from contextlib import closing
from io import BytesIO

import psycopg2


def all_rows(url: str) -> list[bytes]:
    """Return all rows of all tables as they are now, each after the name of its table and a tab."""
    rows: list[bytes] = []
    with closing(psycopg2.connect(url.replace("+psycopg2", ""))) as database, database.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        for (table,) in cursor.fetchall():
            copy = BytesIO()
            cursor.copy_expert(f'COPY "{table}" TO STDOUT', copy)
            rows += [f"{table}\t".encode() + row for row in copy.getvalue().splitlines()]
    return rows
