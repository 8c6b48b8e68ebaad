# SPDX-License-Identifier: Apache-2.0
"""An Airflow of the tests' own, in a folder that goes away with them, and the sandbox to talk to."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

if TYPE_CHECKING:
    from airflow_provider_kling.hooks.kling import KlingHook
    from airflow_provider_kling.sandbox import Sandbox

# Airflow reads all this while it is imported, so it stands before any test module.
_FOREIGN = ("AIRFLOW", "_AIRFLOW", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NETRC", "REQUESTS_CA")
for _name in [name for name in os.environ if name.upper().startswith(_FOREIGN)]:
    del os.environ[_name]
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="kling-tests-"))
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)
_BACKEND = "tests.connections.ConnectionBook"
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    AIRFLOW__CORE__DAGS_FOLDER=str(AIRFLOW_HOME / "dags"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__SECRETS__BACKEND=_BACKEND,
    AIRFLOW__WORKERS__SECRETS_BACKEND=_BACKEND,
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED="False",
    NO_PROXY="",
    NETRC=os.devnull,
)

# First of all imports of Airflow: the backend is loaded in the middle of this one.
import airflow  # noqa: E402, F401

# A busy machine must not fail a test, and no example that failed once lies around on another machine.
if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:
    set_hypothesis_home_dir(AIRFLOW_HOME / "hypothesis")
settings.register_profile(
    "kling", deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100
)
settings.load_profile("kling")

Connect = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_connections() -> Iterator[None]:
    """Forget between two tests what the first one connected to."""
    from tests.connections import BOOK

    BOOK.clear()
    yield
    BOOK.clear()


@pytest.fixture(autouse=True)
def _no_memories() -> Iterator[None]:
    """Forget between two tests which connections worked."""
    yield
    if client := sys.modules.get("airflow_provider_kling.client.async_client"):
        client._last_good.clear()


@pytest.fixture(autouse=True)
def _short_deferrals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let triggers end as soon as they can: the scheduler that must not be overtaken is not there."""
    monkeypatch.setattr("airflow_provider_kling.tasks.waiting.shortest_deferral", lambda **_: 0.0)


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep records in Variables in memory: without a database, no Variable can be written."""
    from tests.fixtures.variables import use_variables

    use_variables(monkeypatch)


@pytest.fixture
def connect() -> Connect:
    """Return a function that makes an Airflow connection, ``kling_default`` unless another id is given."""
    from tests.connections import BOOK

    def connect(host: str, password: str = "sk-sandbox", conn_id: str = "kling_default", **extra: Any) -> str:
        BOOK.add(conn_id, {"conn_type": "kling", "host": host, "password": password, "extra": extra})
        return conn_id

    return connect


@dataclass
class TaskLog:
    """What was logged, whichever way this Airflow version logs."""

    lines: list[Any]
    standard: pytest.LogCaptureFixture

    @property
    def text(self) -> str:
        return "\n".join(str(line["event"]) for line in self.lines) + self.standard.text

    @property
    def errors(self) -> list[str]:
        """The messages of the ERROR lines."""
        lines = [str(line["event"]) for line in self.lines if line["log_level"] == "error"]
        return lines + [record.getMessage() for record in self.standard.records if record.levelname == "ERROR"]


@pytest.fixture
def task_log(caplog: pytest.LogCaptureFixture) -> Iterator[TaskLog]:
    """The log that tasks, hooks and triggers write to."""
    caplog.set_level(logging.INFO)
    try:
        from structlog.testing import capture_logs
    except ImportError:  # Airflow 2
        yield TaskLog([], caplog)
        return
    with capture_logs() as lines:
        yield TaskLog(lines, caplog)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the sandbox's videos, so that each is rendered once for all tests."""
    return tmp_path_factory.mktemp("rendered")


@pytest.fixture
def sandbox(rendered: Path) -> Iterator[Sandbox]:
    """A server whose jobs are finished at once, unless a test says otherwise."""
    from airflow_provider_kling.sandbox import Sandbox

    with Sandbox(run_seconds=0, cache_dir=rendered) as sandbox:
        yield sandbox


@pytest.fixture
def connected(sandbox: Sandbox, connect: Connect) -> str:
    """A connection to the sandbox, with timeouts that keep a test short; its id."""
    return connect(sandbox.base_url, sandbox.api_key, connect_timeout=2, read_timeout=1)


@pytest.fixture
def hook_on(connect: Connect) -> Iterator[Callable[..., KlingHook]]:
    """A function that returns a hook on another server; its timeouts are short unless it is given others."""
    from airflow_provider_kling.hooks.kling import KlingHook
    from tests.fixtures.responses import KEY

    hooks: list[KlingHook] = []

    def make(base_url: str, password: str = KEY, **extra: Any) -> KlingHook:
        extra = {"connect_timeout": 0.5, "read_timeout": 0.5} | extra
        hooks.append(KlingHook(connect(base_url, password, **extra)))
        return hooks[-1]

    yield make
    for hook in hooks:
        if "client" in vars(hook):
            hook.client.close()


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A function that sets the system's clock so many seconds off; the test's own clock stays right."""
    real, off = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + off[0])
    return lambda seconds: off.__setitem__(0, seconds)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that only a client with this CA bundle trusts."""
    from tests.tls import make_certificate

    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def installed() -> str:
    """The version of the package as pip knows it."""
    try:
        return version("airflow-provider-kling")
    except PackageNotFoundError:
        pytest.skip("the package is not installed here, only its source is within reach")
