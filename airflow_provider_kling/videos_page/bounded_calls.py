# SPDX-License-Identifier: Apache-2.0
"""Blocking calls into code of others, with a time limit, in few threads of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Threads for all such calls of a process: one that hangs holds one of them, and none of the API server's.
_THREADS = 8
_pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="kling-videos")


def call_within(seconds: float, function: Callable[[], T]) -> T:
    """
    Return what a function returns, if it does so in time.

    :param seconds: Seconds that it may take, the wait for a free thread included.
    :param function: The function. It goes on after the time limit, and its result is dropped.
    :raises TimeoutError: if it takes longer.
    """
    future = _pool.submit(function)
    try:
        return future.result(timeout=seconds)
    finally:
        future.cancel()
