# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.instants import EARLIEST, LATEST, parse_instant
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.response import Response

MOMENT = "2025-07-20T08:26:40+00:00"


@pytest.fixture(autouse=True, params=["UTC", "Asia/Shanghai", "America/Los_Angeles"])
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every zone that the machine may have."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "value",
    [
        1753000000,
        1753000000.4,
        "1753000000",
        " 1753000000 ",
        1753000000_000,
        1753000000_123_456,
        1753000000_123_456_789,
        "1753000000123456789",
        "2025-07-20T08:26:40Z",
        "2025-07-20T08:26:40.123456Z",
        "2025-07-20 08:26:40",
        " 2025-07-20T08:26:40 ",
        "2025-07-20T16:26:40+08:00",
    ],
)
def test_a_moment_in_every_spelling(value: Any) -> None:
    assert str(parse_instant(value)).startswith("2025-07-20 08:26:40")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        0,
        "0",
        -1,
        -1753000000,
        1,
        True,
        math.nan,
        math.inf,
        "NaN",
        "-inf",
        10**30,
        "9" * 5000,
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "0001-01-01 00:00:00 +0000 UTC",
        "1970-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-14:00",
        "0000-00-00 00:00:00",
        "-62135596800",
        -62135596800000,
        253402300799,
        20250720,
        "soon",
        "\ud800",
        [],
        {},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_moment(value: Any) -> None:
    assert parse_instant(value) is None


def test_the_first_time_that_is_one_counts() -> None:
    body = {"status": "failed", "created_at": "0001-01-01T00:00:00Z", "submit_time": 1753000000}
    job = read_status(Response(200, json.dumps(body).encode()), "task_1")
    assert (job.created_at, job.completed_at) == (MOMENT, None)


@given(st.integers() | st.floats() | st.text() | st.datetimes().map(str) | st.datetimes().map(lambda it: f"{it}Z"))
def test_no_value_breaks_it(value: Any) -> None:
    moment = parse_instant(value)
    assert moment is None or EARLIEST <= moment < LATEST
