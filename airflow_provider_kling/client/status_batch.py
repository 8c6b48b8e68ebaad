# SPDX-License-Identifier: Apache-2.0
"""
Status checks that are due at about the same time, gathered into one request.

A request for 20 jobs costs the rate limit, the server and this process little more than a request for one. It must
not cost the jobs anything: no job may fail, or be checked late, because of another one in the same request.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from airflow_provider_kling.exceptions import (
    ACCOUNT_ERRORS,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Any

    from airflow_provider_kling.api.job import VideoJob

    #: Sends one request. It gets a function that returns the ids, which it calls once it has a request slot, the
    #: route, and the maximum seconds to wait for the slot. An id without a result has to be requested alone.
    Request = Callable[
        [Callable[[], Sequence[str]], str | None, float],
        Coroutine[Any, Any, Mapping[str, VideoJob | KlingError]],
    ]
    Outcome = VideoJob | Exception

#: Maximum seconds for which a check waits for others. Half a second delays no video noticeably. With 500 videos,
#: each checked every 30 seconds, eight others come meanwhile.
WINDOW = 0.5
#: A job whose checks fail is checked alone after each so many failures: the server may work with one id, and fail
#: with several.
ALONE_EVERY = 5
#: Seconds after which the failures of a job are forgotten. Between two checks of a failing job is a minute, and as
#: long again for a request slot, so nobody checks this one any more.
FAILURES_TTL = 600.0


def queue_timeout_error() -> KlingRateLimitError:
    """Return the error of a check that got no request slot in time."""
    return KlingRateLimitError(
        "No status request could be sent before the deadline: the connection's rate limit, other requests "
        "on it or a slow server held the queue",
        advice="Raise its Requests per second (extra.max_requests_per_second), if the server allows more, or the "
        "timeout.",
    )


def _is_refusal(error: KlingError) -> bool:
    """Return whether the server refused a request as it is, so that the same request would fail again."""
    return not error.retryable or 400 <= (error.http_status or 0) < 500


class StatusBatches:
    """
    Gathers the status checks of one client.

    A failed request does not show whether the server is down, or cannot process one of the ids. So until they have
    succeeded, its ids are only mixed with others that failed, and no two of them are in one request again. An id
    that makes the server fail is alone from then on, and can fail each other job once at most. After an outage,
    where many requests failed, a new request takes one id of each: thousands of jobs are not checked one by one.

    :param request: Sends one request.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        #: The batches that can be joined, by route, and by whether their jobs' last checks failed.
        self._open: dict[tuple[str | None, bool], list[_Batch]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        #: By id, the one that failed last at the end.
        self._failures: dict[str, _Failures] = {}
        self._serials = count()

    async def get_video(
        self, kling_task_id: str, route: str | None, *, max_ids: int, queue_timeout: float
    ) -> Outcome:
        """
        Request the state of a job, in one request with others if possible.

        :param kling_task_id: The id from the submit response.
        :param route: The status route.
        :param max_ids: The number of checks with which a batch is sent at once.
        :param queue_timeout: Maximum seconds to wait until the request is sent.
        :return: The job, or the error of this check.
        :raises KlingError: The error, if the job was requested alone.
        """
        joined_at = asyncio.get_running_loop().time()
        batch = self._batch_for(kling_task_id, route)
        if batch is not None:
            outcome = await self._in_batch(batch, kling_task_id, max_ids, queue_timeout)
            if outcome is not None:
                return outcome
            queue_timeout -= batch.sent_at - joined_at
        return await self._alone(kling_task_id, route, queue_timeout)

    async def close(self) -> None:
        """Wait until nothing is left of the batches. Call this only when no check waits."""
        if self._sending:
            await asyncio.wait(self._sending)

    async def _alone(self, kling_task_id: str, route: str | None, queue_timeout: float) -> VideoJob | KlingError:
        try:
            found = await self._request(lambda: (kling_task_id,), route, queue_timeout)
        except KlingError as error:
            if not isinstance(error, ACCOUNT_ERRORS):
                self._failed((kling_task_id,))
            raise
        self._failures.pop(kling_task_id, None)
        return found[kling_task_id]

    async def _in_batch(
        self, batch: _Batch, kling_task_id: str, max_ids: int, queue_timeout: float
    ) -> Outcome | None:
        """Return the outcome of a check; None if the job has to be requested alone."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Outcome | None] = loop.create_future()
        batch.waiting[waiter] = kling_task_id
        if len(batch.waiting) >= max_ids:
            self._remove(batch)
        if len(batch.waiting) >= max_ids or queue_timeout < WINDOW:
            self._start(batch)
        timer = None if math.isinf(queue_timeout) else loop.call_later(queue_timeout, batch.time_out, waiter)
        try:
            return await waiter
        finally:
            if timer is not None:
                timer.cancel()
            batch.waiting.pop(waiter, None)
            if not batch.waiting:  # all have their outcome, or are gone
                self._remove(batch)
                batch.cancel()

    def _batch_for(self, kling_task_id: str, route: str | None) -> _Batch | None:
        """Return the batch for a check; None if the job has to be requested alone."""
        failures = self._failures.get(kling_task_id)
        if failures is None:
            failed_requests: AbstractSet[int] = frozenset()
        elif failures.count % ALONE_EVERY == 0:
            return None
        else:
            failed_requests = failures.requests
        key = (route, failures is not None)
        batches = self._open.setdefault(key, [])
        for batch in batches:
            if batch.failed_requests.isdisjoint(failed_requests):
                break
        else:
            batch = _Batch(key)
            batches.append(batch)
            batch.timer = asyncio.get_running_loop().call_later(WINDOW, self._start, batch)
        batch.failed_requests |= failed_requests
        return batch

    def _start(self, batch: _Batch) -> None:
        """Queue a batch for a request slot. Until it has one, more checks can join."""
        if batch.sending is None:
            batch.timer.cancel()
            batch.sending = asyncio.create_task(self._send(batch))
            self._sending.add(batch.sending)
            batch.sending.add_done_callback(self._sending.discard)

    def _remove(self, batch: _Batch) -> None:
        """Let no more checks join a batch."""
        batches = self._open.get(batch.key, [])
        if batch in batches:
            batches.remove(batch)
        if not batches:
            self._open.pop(batch.key, None)

    def _ids_to_send(self, batch: _Batch) -> Sequence[str]:
        self._remove(batch)
        batch.sent_at = asyncio.get_running_loop().time()
        batch.sent = batch.ids
        return batch.sent

    async def _send(self, batch: _Batch) -> None:
        try:
            found = await self._request(partial(self._ids_to_send, batch), batch.key[0], math.inf)
        except KlingError as error:
            self._remove(batch)
            if not batch.sent or isinstance(error, ACCOUNT_ERRORS):
                batch.fail(error)
            elif len(batch.sent) > 1 and _is_refusal(error):
                batch.resolve({})  # all may have been refused for one of them
            else:
                self._failed(batch.sent)
                batch.fail(error)
        except Exception as error:  # noqa: BLE001 - each check raises it
            self._remove(batch)
            batch.resolve(dict.fromkeys(batch.ids, error))
        else:
            for kling_task_id in found:
                self._failures.pop(kling_task_id, None)
            if len(batch.sent) > 1:
                # One that is missing is requested alone, and then on every route.
                found = {each: job for each, job in found.items() if not isinstance(job, KlingNotFoundError)}
            batch.resolve(found)

    def _failed(self, kling_task_ids: Sequence[str]) -> None:
        """Remember that these jobs failed in one request."""
        now = asyncio.get_running_loop().time()
        serial = next(self._serials)
        for kling_task_id in kling_task_ids:
            failures = self._failures.pop(kling_task_id, None) or _Failures()
            failures.add(serial, now)
            self._failures[kling_task_id] = failures
        for oldest in list(self._expired(now)):
            del self._failures[oldest]

    def _expired(self, now: float) -> Iterable[str]:
        for kling_task_id, failures in self._failures.items():
            if now - failures.last_at < FAILURES_TTL:
                return
            yield kling_task_id


class _Failures:
    """The failed requests of a job since its last success."""

    def __init__(self) -> None:
        self.count = 0
        self.requests: set[int] = set()
        self.last_at = 0.0

    def add(self, serial: int, now: float) -> None:
        self.count += 1
        self.requests.add(serial)
        self.last_at = now


class _Batch:
    """Checks that wait for one request."""

    timer: asyncio.TimerHandle

    def __init__(self, key: tuple[str | None, bool]) -> None:
        self.key = key
        self.waiting: dict[asyncio.Future[Outcome | None], str] = {}
        #: The failed requests in which its jobs were before.
        self.failed_requests: set[int] = set()
        self.sending: asyncio.Task[None] | None = None
        #: The ids of the request, and when it was sent.
        self.sent: Sequence[str] = ()
        self.sent_at = math.inf

    @property
    def ids(self) -> Sequence[str]:
        return tuple(dict.fromkeys(self.waiting.values()))

    def resolve(self, outcomes: Mapping[str, Outcome]) -> None:
        """Pass each check its outcome, or None if it has none."""
        for waiter, kling_task_id in self.waiting.items():
            if not waiter.done():
                waiter.set_result(outcomes.get(kling_task_id))

    def fail(self, error: KlingError) -> None:
        """Pass each check a copy of an error. None has the traceback, which would refer to the copies."""
        self.resolve({each: error.replace(kling_task_id=each).with_traceback(None) for each in self.ids})

    def time_out(self, waiter: asyncio.Future[Outcome | None]) -> None:
        """End the wait of a check that was not sent in time."""
        if not self.sent and not waiter.done():
            waiter.set_result(queue_timeout_error())

    def cancel(self) -> None:
        self.timer.cancel()
        if self.sending is not None:
            self.sending.cancel()
