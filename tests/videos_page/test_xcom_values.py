# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_kling.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow before 3.1 has no such pages", allow_module_level=True)

from airflow.utils.session import create_session

from airflow_provider_kling.records.stores import Identity
from airflow_provider_kling.videos_page import xcom_values
from tests.fixtures.api_server import ApiServer

RUN = "manual__2026-11-26T10:00:00+00:00"


@pytest.fixture(autouse=True)
def run(api_server: ApiServer) -> Iterator[None]:
    api_server.add_run()
    yield
    api_server.clear()


def value(task_id: str = "generate", key: str = "x") -> Any:
    with create_session(scoped=False) as session:
        return xcom_values.xcom_of(Identity("reel", RUN, task_id, -1), key, session)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"path": "a", "n": [1, None]}, {"path": "a", "n": [1, None]}),
        ('{"path": "a"}', {"path": "a"}),
        ("task_1", "task_1"),
        (7, 7),
        (None, None),
    ],
)
def test_a_value_is_plain_json(api_server: ApiServer, stored: Any, expected: Any) -> None:
    api_server.add_task({"x": stored})
    assert value() == expected
    assert value(key="y") is None
    assert value(task_id="other") is None


def test_a_value_makes_no_object(api_server: ApiServer) -> None:
    """Whoever writes an XCom must not choose which classes of the API server are called."""
    stored = {
        "__classname__": "airflow.models.connection.Connection",
        "__version__": 1,
        "__data__": {"conn_id": "c"},
    }
    api_server.add_task({"x": stored})
    assert value() == stored


def test_a_huge_value_stays_in_the_database(api_server: ApiServer) -> None:
    api_server.add_task({"x": "a" * 100_000})
    assert value() is None


def test_the_configured_backend_reads_it(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Backend:
        @staticmethod
        def deserialize_value(row: Any) -> Any:
            return {"read": row.value, "of": row.key}

    api_server.add_task({"x": "s3://bucket/xcom"})
    monkeypatch.setattr(xcom_values, "XCom", Backend)
    assert value() == {"read": "s3://bucket/xcom", "of": "x"}


def test_a_backend_that_hangs_does_not_hold_the_page(
    api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = threading.Event()

    class Backend:
        @staticmethod
        def deserialize_value(row: Any) -> Any:
            return done.wait(30)

    api_server.add_task({"x": 1})
    monkeypatch.setattr(xcom_values, "XCom", Backend)
    monkeypatch.setattr(xcom_values, "SECONDS", 0.2)
    try:
        with pytest.raises(TimeoutError):
            value()
    finally:
        done.set()
