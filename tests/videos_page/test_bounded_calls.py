# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time

import pytest

from airflow_provider_kling.videos_page.bounded_calls import call_within


def test_what_a_call_returns_or_raises_comes_through() -> None:
    assert call_within(10, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        call_within(10, lambda: 1 / 0)


def test_a_call_that_hangs_is_left_alone() -> None:
    done = threading.Event()
    begin = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            call_within(0.2, lambda: done.wait(30))
        assert time.monotonic() - begin < 10
    finally:
        done.set()


def test_calls_that_hang_use_no_more_than_their_threads() -> None:
    done, before = threading.Event(), threading.active_count()
    try:
        for _ in range(20):
            with pytest.raises(TimeoutError):
                call_within(0.02, lambda: done.wait(30))
        assert threading.active_count() - before <= 8
    finally:
        done.set()
    assert call_within(10, lambda: 7) == 7
