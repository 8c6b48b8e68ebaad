# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings

from airflow_provider_kling import __version__
from airflow_provider_kling.api.response import MAX_RESPONSE_BYTES
from airflow_provider_kling.client.async_client import (
    FAILURE_TTL,
    MAX_SOCKETS,
    Throttle,
    WaitQueue,
    shared_client,
)
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingConnectionError,
    KlingError,
    KlingRateLimitError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.sandbox import DIALECTS, Sandbox
from tests.conftest import Connect
from tests.connections import BOOK
from tests.fixtures.event_loop import longest_lag, until
from tests.fixtures.http_server import served
from tests.fixtures.requests import REQUEST
from tests.fixtures.responses import COMPLETED, KEY, RAW_RESPONSES
from tests.raw_server import RawServer, Request, Silent, free_port, http_response
from tests.tls import server_context


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """Fail on aiohttp's complaints about sessions and connectors that were not closed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(warning.message) for warning in caught if "nclosed" in str(warning.message)] == []


class Api:
    """A status endpoint in the test's own loop: it counts connections and can be held back."""

    def __init__(self) -> None:
        self.key = KEY
        self.peers: set[Any] = set()
        self.asked = 0
        self.names: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.go = asyncio.Event()
        self.go.set()

    async def status(self, request: web.Request) -> web.Response:
        self.peers.add(request.transport)
        self.asked += 1
        self.names.append(request.match_info["task_id"])
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.go.wait()
        finally:
            self.at_once -= 1
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "invalid key", "code": ""}}, status=401)
        return web.json_response({"id": request.match_info["task_id"], "status": "in_progress"})

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        async with served([web.get("/v1/videos/{task_id}", self.status)]) as base_url:
            try:
                yield base_url
            finally:
                self.go.set()


async def ask(task_id: str, conn_id: str = "kling_default") -> str:
    async with shared_client(conn_id) as client:
        return (await client.get_video(task_id)).kling_task_id


def errors_in(results: list[Any]) -> list[Any]:
    return [result for result in results if isinstance(result, BaseException)]


@pytest.mark.asyncio
class TestManyUsers:
    async def test_one_look_up_and_a_few_sockets_serve_all(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url:
            connect(url, KEY, max_requests_per_second=100_000)
            names = [f"task_{number}" for number in range(300)]
            assert await asyncio.gather(*(ask(name) for name in names)) == names
        assert BOOK.lookups == {"kling_default": 1}
        assert len(api.peers) <= MAX_SOCKETS

    async def test_no_more_requests_at_once_than_sockets(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url:
            connect(url, KEY, max_requests_per_second=100_000)
            api.go.clear()
            asking = asyncio.gather(*(ask(f"task_{number}") for number in range(100)))
            await until(lambda: api.at_once == MAX_SOCKETS)
            api.go.set()
            await asking
        assert api.most_at_once == MAX_SOCKETS

    async def test_a_slow_server_is_asked_by_as_many_as_it_can_serve(self, connect: Connect) -> None:
        """The others wait their turn; the timeout of a request that has no socket yet would run out."""

        def slowly(connection: socket.socket, request: Request) -> None:
            time.sleep(1.2)
            connection.sendall(http_response(json.dumps({"status": "queued"}).encode()))

        with RawServer(slowly) as server:
            connect(server.base_url, connect_timeout=2, read_timeout=2, max_requests_per_second=1000)
            asked = await asyncio.gather(*(ask(f"task_{n}") for n in range(3 * MAX_SOCKETS)))
        assert len(asked) == 3 * MAX_SOCKETS

    async def test_a_freed_socket_is_used_at_once(self, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_kling.client.async_client.MAX_SOCKETS", 2)
        api = Api()
        async with api.serve() as url, shared_client("kling_default"):
            connect(url, KEY, max_requests_per_second=100_000)
            await ask("task_0")
            async with asyncio.timeout(2):
                await asyncio.gather(*(ask(f"task_{number}") for number in range(100)))
        assert api.most_at_once <= 2

    async def test_it_closes_with_the_last_user_and_opens_for_the_next(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url:
            connect(url, KEY)
            async with shared_client("kling_default") as client:
                await ask("task_1")
                await client.get_video("task_2")
                assert [peer.is_closing() for peer in api.peers] == [False]
            await until(lambda: all(peer.is_closing() for peer in api.peers))
            await ask("task_3")
        assert len(api.peers) == 2
        assert BOOK.lookups == {"kling_default": 2}

    async def test_two_connections_have_two_clients(self, connect: Connect) -> None:
        one, other = Api(), Api()
        other.key = "sk-other"
        async with one.serve() as one_url, other.serve() as other_url:
            connect(one_url, KEY, conn_id="one")
            connect(other_url, "sk-other", conn_id="other")
            assert await asyncio.gather(ask("a", "one"), ask("b", "other")) == ["a", "b"]
        assert (one.asked, other.asked) == (1, 1)

    async def test_a_cancelled_user_does_not_disturb_the_others(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url:
            connect(url, KEY)
            api.go.clear()
            tasks = [asyncio.create_task(ask(f"task_{number}")) for number in range(6)]
            await until(lambda: api.at_once == 6)
            for task in tasks[:3]:
                task.cancel()
            api.go.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError] * 3 + [str] * 3


@pytest.mark.asyncio
class TestTheLookUp:
    async def test_one_who_is_cancelled_meanwhile_does_not_take_it_from_the_others(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url:
            connect(url, KEY)
            with BOOK.gate:
                tasks = [asyncio.create_task(ask(f"task_{number}")) for number in range(5)]
                await asyncio.sleep(0.05)
                tasks[0].cancel()
                tasks[3].cancel()
                await asyncio.sleep(0.05)
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results].count(asyncio.CancelledError) == 2
        assert [result for result in results if isinstance(result, str)] == ["task_1", "task_2", "task_4"]
        assert BOOK.lookups == {"kling_default": 1}

    async def test_when_all_are_cancelled_meanwhile_nothing_stays_open(self, connect: Connect) -> None:
        connect(f"http://127.0.0.1:{free_port()}", KEY)
        with BOOK.gate:
            tasks = [asyncio.create_task(ask(f"task_{number}")) for number in range(3)]
            await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0.05)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {asyncio.CancelledError}
        await until(lambda: len(asyncio.all_tasks()) == 1)  # whatever went on in the background has ended

    async def test_who_is_cancelled_again_while_the_client_closes_leaves_nothing_open(
        self, connect: Connect
    ) -> None:
        """Airflow cancels a trigger once a second until it has gone; a look-up may take longer."""
        connect(f"http://127.0.0.1:{free_port()}", KEY)
        with BOOK.gate:
            task = asyncio.create_task(ask("task_1"))
            await asyncio.sleep(0.05)
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: len(asyncio.all_tasks()) == 1)

    async def test_one_who_comes_while_the_last_one_leaves_gets_a_fresh_client(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url:
            connect(url, KEY)
            for _ in range(20):
                assert await asyncio.gather(ask("a"), ask("b")) == ["a", "b"]

    async def test_a_connection_that_airflow_cannot_give_now_may_come_later(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url, shared_client("kling_default") as client:
            with pytest.raises(KlingError, match="kling_default") as caught:
                await client.get_video("task_1")
            assert caught.value.retryable
            results = await asyncio.gather(
                *(client.get_video("task_1") for _ in range(100)), return_exceptions=True
            )
            assert {type(result) for result in results} == {KlingError}
            assert BOOK.lookups == {"kling_default": 1}
            connect(url, KEY)
            await asyncio.sleep(FAILURE_TTL)
            assert (await client.get_video("task_1")).kling_task_id == "task_1"

    async def test_whatever_a_look_up_ends_in_is_an_error_by_name(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Airflow 3.0 hands on whatever its API server says, and later versions that a backend refuses access."""

        async def refuse(conn_id: str) -> None:
            raise PermissionError("no access")

        monkeypatch.setattr("airflow_provider_kling.client.async_client.get_async_connection", refuse)
        with pytest.raises(KlingError, match="'kling_default': PermissionError: no access") as caught:
            await ask("task_1")
        assert caught.value.retryable

    async def test_a_connection_that_is_wrong_is_refused_by_name_to_all(self, connect: Connect) -> None:
        connect("", "")
        results = await asyncio.gather(*(ask("x") for _ in range(5)), return_exceptions=True)
        assert {type(result) for result in results} == {KlingValidationError}
        assert "must hold the API key" in str(results[0])

    async def test_a_ca_bundle_that_does_not_exist_is_an_error_by_name(self, connect: Connect) -> None:
        connect("https://127.0.0.1:1", KEY, verify="/nowhere/ca.pem")
        with pytest.raises(KlingError, match=r"/nowhere/ca\.pem"):
            await ask("task_1")

    async def test_a_ca_bundle_that_is_none_is_an_error_by_name(self, connect: Connect, tmp_path: Path) -> None:
        bundle = tmp_path / "ca.pem"
        bundle.write_text("nothing")
        connect("https://127.0.0.1:1", KEY, verify=str(bundle))
        with pytest.raises(KlingError, match=r"ca\.pem"):
            await ask("task_1")


@pytest.mark.alone
@pytest.mark.asyncio
class TestThePace:
    async def test_recovers_for_requests_that_wait_already(self, connect: Connect) -> None:
        """After a few refusals, the waiting requests speed up as the server accepts again."""
        refusals = 6

        def moody(connection: socket.socket, request: Request) -> None:
            refused = len(server.requests) <= refusals
            connection.sendall(http_response("{}", 429, Retry_After=0) if refused else COMPLETED)

        with RawServer(moody) as server:
            connect(server.base_url, KEY, max_requests_per_second=1000)
            async with shared_client("kling_default"):
                for _ in range(refusals):
                    with pytest.raises(KlingRateLimitError):
                        await ask("task_1")
                started = time.monotonic()
                await asyncio.gather(*(ask("task_1") for _ in range(400)))
        assert time.monotonic() - started < 6

    async def test_a_cancelled_waiter_uses_no_slot(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url, shared_client("kling_default") as client:
            connect(url, KEY, max_requests_per_second=10)
            await ask("task_0")
            cancelled = [asyncio.create_task(ask(f"task_{n}")) for n in range(100)]
            impatient = [client.get_video(f"task_{n}", queue_timeout=0.01) for n in range(100)]
            results = await asyncio.gather(*impatient, return_exceptions=True)
            for task in cancelled:
                task.cancel()
            await asyncio.gather(*cancelled, return_exceptions=True)
            started = time.monotonic()
            await ask("task_1")
            assert time.monotonic() - started < 1
        assert KlingRateLimitError in {type(result) for result in results}
        assert api.asked < 10

    async def test_slots_are_granted_in_order_and_evenly_spaced(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url, shared_client("kling_default"):
            connect(url, KEY, max_requests_per_second=50)
            await ask("task_0")
            started = time.monotonic()
            names = [f"task_{n}" for n in range(25)]
            await asyncio.gather(*(ask(name) for name in names))
            assert 0.4 < time.monotonic() - started < 3
        assert api.names[1:] == names

    async def test_ten_thousand_wait_at_little_cost_and_leave_nothing_behind(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url, shared_client("kling_default"):
            connect(url, KEY, max_requests_per_second=50)
            await ask("task_0")
            began = time.process_time()
            waiting = [asyncio.create_task(ask(f"task_{n}")) for n in range(10_000)]
            await until(lambda: api.asked > 10)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert time.process_time() - began < 3
        assert len(asyncio.all_tasks()) == 1


@pytest.mark.asyncio
class TestWaitQueue:
    async def test_passes_over_cancelled_waiters(self) -> None:
        queue = WaitQueue()
        assert await queue.wait(timeout=0) is False
        leaving, next_one = (asyncio.create_task(queue.wait(timeout=10)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        queue.wake_one()
        assert await asyncio.wait_for(next_one, 1) is True
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert queue.wake_one() is False

    async def test_a_waiter_cancelled_after_its_wake_up_wakes_the_next(self) -> None:
        queue = WaitQueue()
        leaving, next_one = (asyncio.create_task(queue.wait(timeout=10)) for _ in range(2))
        await asyncio.sleep(0)
        queue.wake_one()
        leaving.cancel()
        assert await asyncio.wait_for(next_one, 1) is True


@pytest.mark.asyncio
class TestThrottle:
    """No socket is lost when a waiter is cancelled."""

    @staticmethod
    async def take_all(throttle: Throttle) -> None:
        throttle.rate_limiter.per_second = 1e6
        taken = 0
        async with asyncio.timeout(5):
            while taken < MAX_SOCKETS:
                taken += throttle.try_acquire()
                await asyncio.sleep(0.0001)
        assert throttle.try_acquire() is False

    async def test_a_waiter_cancelled_with_its_slot_passes_the_slot_on(self) -> None:
        throttle = Throttle()
        await self.take_all(throttle)
        leaving, next_one = (asyncio.create_task(throttle.wait(timeout=10)) for _ in range(2))
        await asyncio.sleep(0)
        throttle.release()
        leaving.cancel()
        assert await asyncio.wait_for(next_one, 1) is True
        assert throttle.try_acquire() is False

    @pytest.mark.parametrize("woken_first", [True, False])
    async def test_a_waiter_that_leaves_an_empty_queue_keeps_no_slot(self, woken_first: bool) -> None:
        throttle = Throttle()
        await self.take_all(throttle)
        leaving = asyncio.create_task(throttle.wait(timeout=10))
        await asyncio.sleep(0)
        for step in (throttle.release, leaving.cancel) if woken_first else (leaving.cancel, throttle.release):
            step()
        await asyncio.wait({leaving})
        await asyncio.sleep(0.001)
        assert throttle.try_acquire() is True

    async def test_every_slot_is_released(self) -> None:
        throttle = Throttle()
        throttle.rate_limiter.per_second = 1e6

        async def ask_or_leave(number: int) -> None:
            if throttle.try_acquire() or await throttle.wait(timeout=0.01 if number % 3 else 10):
                try:
                    await asyncio.sleep(number % 7 / 1000)
                finally:
                    throttle.release()

        tasks = [asyncio.create_task(ask_or_leave(number)) for number in range(5 * MAX_SOCKETS)]
        for task in tasks[::4]:
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait(tasks)
        await self.take_all(throttle)


@pytest.mark.asyncio
class TestAChangedKey:
    async def test_is_looked_up_once_for_all_who_were_refused(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url, shared_client("kling_default"):
            connect(url, KEY, max_requests_per_second=100_000)
            await ask("task_0")
            api.key = "sk-new"
            connect(url, "sk-new", max_requests_per_second=100_000)
            results = await asyncio.gather(*(ask(f"task_{n}") for n in range(200)), return_exceptions=True)
        assert errors_in(results) == []
        assert BOOK.lookups == {"kling_default": 2}

    async def test_fails_no_request_that_waits_for_a_slot_or_a_socket(self, connect: Connect) -> None:
        """Some are refused while others wait for a socket, a slot of the rate limit, or a response."""
        api = Api()
        async with api.serve() as url, shared_client("kling_default"):
            connect(url, KEY, max_requests_per_second=400)
            await ask("task_0")
            api.go.clear()
            asking = asyncio.gather(*(ask(f"task_{n}") for n in range(200)), return_exceptions=True)
            await until(lambda: api.at_once == MAX_SOCKETS)
            api.key = "sk-new"
            connect(url, "sk-new", max_requests_per_second=400)
            api.go.set()
            results = await asking
        assert errors_in(results) == []
        assert BOOK.lookups == {"kling_default": 2}

    async def test_a_key_that_did_not_change_is_refused_by_name(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url:
            connect(url, "sk-wrong", max_requests_per_second=100_000)
            results = await asyncio.gather(*(ask(f"task_{n}") for n in range(50)), return_exceptions=True)
        assert {type(result) for result in results} == {KlingAuthenticationError}
        assert all("sk-wrong" not in str(result) for result in results)

    async def test_a_key_that_stays_refused_is_looked_up_once_more_not_for_each(self, connect: Connect) -> None:
        api = Api()
        async with api.serve() as url, shared_client("kling_default"):
            connect(url, "sk-wrong", max_requests_per_second=100_000)
            for number in range(20):
                with pytest.raises(KlingAuthenticationError):
                    await ask(f"task_{number}")
            together = await asyncio.gather(*(ask(f"task_{n}") for n in range(50)), return_exceptions=True)
        assert {type(result) for result in together} == {KlingAuthenticationError}
        assert BOOK.lookups == {"kling_default": 2}

    async def test_a_key_that_is_corrected_is_found_although_it_was_refused_before(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.client.async_client.REJECTED_KEY_TTL", 0.3)
        api = Api()
        async with api.serve() as url, shared_client("kling_default"):
            connect(url, "sk-wrong")
            with pytest.raises(KlingAuthenticationError):
                await ask("task_0")
            connect(url, KEY)
            await asyncio.sleep(0.3)
            results = await asyncio.gather(*(ask(f"task_{n}") for n in range(5)), return_exceptions=True)
        assert errors_in(results) == []
        assert BOOK.lookups == {"kling_default": 3}

    @pytest.mark.alone
    async def test_the_pace_outlives_it(self, connect: Connect) -> None:
        keys = iter([(KEY, 429), (KEY, 401)])

        def moody(connection: socket.socket, request: Request) -> None:
            key, status = next(keys, ("sk-new", 200))
            assert request.headers["Authorization"] == f"Bearer {key}"
            connection.sendall(http_response("{}", status, Retry_After=0) if status > 200 else COMPLETED)

        with RawServer(moody) as server:
            connect(server.base_url, KEY, max_requests_per_second=2)
            async with shared_client("kling_default"):
                with pytest.raises(KlingRateLimitError):
                    await ask("task_0")
                connect(server.base_url, "sk-new", max_requests_per_second=2)
                await ask("task_1")
                started = time.monotonic()
                await ask("task_2")
                # Twice the half second that a connection of this rate begins with, or nearly.
                assert time.monotonic() - started > 0.7

    async def test_a_new_host_is_taken_over_with_the_new_key(self, connect: Connect) -> None:
        old, new = Api(), Api()
        new.key = "sk-new"
        async with old.serve() as old_url, new.serve() as new_url, shared_client("kling_default"):
            connect(old_url, KEY)
            await ask("task_0")
            old.key = "gone"
            connect(new_url, "sk-new")
            assert await ask("task_1") == "task_1"
        assert new.asked == 1


class TestSeveralLoops:
    def test_each_has_a_client_of_its_own(self, sandbox: Sandbox, connect: Connect) -> None:
        connect(sandbox.base_url)
        job = KlingHook().submit_video(REQUEST)
        BOOK.lookups.clear()
        answers: list[str] = []

        def run() -> None:
            async def main() -> None:
                answers.extend(await asyncio.gather(*(ask(job.kling_task_id) for _ in range(5))))

            asyncio.run(main())

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [job.kling_task_id] * 20
        assert BOOK.lookups == {"kling_default": 4}

    def test_one_after_the_other(self, sandbox: Sandbox, connect: Connect) -> None:
        connect(sandbox.base_url)
        hook = KlingHook()
        job = hook.submit_video(REQUEST)
        for _ in range(3):
            assert asyncio.run(hook.aget_video(job.kling_task_id)).status == "completed"

    def test_a_loop_that_ends_in_the_middle_leaves_nothing_open(self, connect: Connect) -> None:
        with Silent() as server:
            connect(f"http://127.0.0.1:{server.port}")

            async def main() -> None:
                asyncio.get_running_loop().create_task(ask("task_1"))
                await asyncio.sleep(0.1)

            asyncio.run(main())


@pytest.mark.asyncio
class TestWhatLeavesTheProcess:
    async def test_the_request_is_that_of_the_vendors_page(self, connect: Connect) -> None:
        with RawServer(COMPLETED) as server:
            connect(server.base_url, KEY, **{"X-Evil": "1"})
            await ask("task/1")
            [request] = server.requests
        assert request.line == "GET /v1/videos/task%2F1 HTTP/1.1"
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        assert request.headers["User-Agent"] == f"airflow-provider-kling/{__version__}"
        assert "X-Evil" not in request.headers

    async def test_no_cookie_is_kept(self, connect: Connect) -> None:
        with RawServer(http_response('{"status": "queued"}', Set_Cookie="a=b")) as server:
            connect(server.base_url, KEY)
            async with shared_client("kling_default") as client:
                await client.get_video("task_1")
                await client.get_video("task_1")
            assert ["Cookie" in request.headers for request in server.requests] == [False, False]

    async def test_a_netrc_does_not_replace_the_key(
        self, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login somebody password else\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        with RawServer(COMPLETED) as server:
            connect(server.base_url, KEY)
            await ask("task_1")
            assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize(
        "form", ["http://127.0.0.1:{}", "127.0.0.1:{}", " user:word@127.0.0.1:{}", "//127.0.0.1:{}/"]
    )
    async def test_a_proxy_of_the_connection_is_used_by_both(self, connect: Connect, form: str) -> None:
        with RawServer(COMPLETED) as proxy:
            hook = KlingHook(connect("http://kling.example.com", KEY, proxy=form.format(proxy.port)))
            with hook.client.session:
                await asyncio.to_thread(hook.get_video, "task_1")
            await ask("task_1")
            assert [request.line for request in proxy.requests] == [
                "GET http://kling.example.com/v1/videos/task_1 HTTP/1.1"
            ] * 2
            assert all(("Proxy-Authorization" in request.headers) == ("@" in form) for request in proxy.requests)

    @pytest.mark.parametrize("user", ["", "user:word@"])
    async def test_a_proxy_never_sees_the_key_of_an_api_behind_tls(self, connect: Connect, user: str) -> None:
        with RawServer(http_response("no", 403)) as proxy:
            connect("https://kling.example.com", KEY, proxy=f"http://{user}127.0.0.1:{proxy.port}")
            with pytest.raises(KlingConnectionError, match="the proxy responded with 403"):
                await ask("task_1")
        [request] = proxy.requests
        assert request.line.startswith("CONNECT kling.example.com:443 ")
        assert KEY not in str(request)
        assert ("Proxy-Authorization" in request.headers) == bool(user)

    @pytest.mark.parametrize("form", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
    @pytest.mark.parametrize(("trust_env", "by_proxy"), [(True, 1), (False, 0)])
    async def test_a_proxy_of_the_environment_counts_unless_trust_env_is_off(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, trust_env: bool, by_proxy: int, form: str
    ) -> None:
        with RawServer(COMPLETED) as proxy, RawServer(COMPLETED) as server:
            monkeypatch.setenv("HTTP_PROXY", form.format(proxy.port))
            monkeypatch.setenv("http_proxy", form.format(proxy.port))
            connect(server.base_url, KEY, trust_env=trust_env)
            await ask("task_1")
            assert (proxy.connections, server.connections) == (by_proxy, 1 - by_proxy)

    async def test_a_redirect_is_explained_and_not_followed(self, connect: Connect) -> None:
        with (
            RawServer(COMPLETED) as other,
            RawServer(http_response(status=302, Location=f"{other.base_url}/v1/videos/task_1")) as server,
        ):
            connect(server.base_url, KEY)
            with pytest.raises(KlingServerError, match=f"It redirects to {other.base_url}"):
                await ask("task_1")
            assert other.connections == 0


@pytest.mark.asyncio
class TestTheServer:
    @pytest.mark.parametrize("dialect", DIALECTS)
    async def test_every_dialect_is_understood(self, connect: Connect, dialect: str) -> None:
        with Sandbox(run_seconds=0, dialect=dialect) as sandbox:
            job = KlingHook(connect(sandbox.base_url)).submit_video(REQUEST)
            async with shared_client("kling_default") as client:
                assert (await client.get_video(job.kling_task_id)).status == "completed"

    async def test_over_tls_with_a_ca_bundle_of_its_own(self, certificate: Path, connect: Connect) -> None:
        with Sandbox(run_seconds=0, ssl_context=server_context(certificate)) as sandbox:
            job = KlingHook(connect(sandbox.base_url, verify=str(certificate))).submit_video(REQUEST)
            assert await ask(job.kling_task_id) == job.kling_task_id

    async def test_a_ca_bundle_of_the_environment_counts_as_on_a_worker(
        self, certificate: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with Sandbox(run_seconds=0, ssl_context=server_context(certificate)) as sandbox:
            job = KlingHook(connect(sandbox.base_url)).submit_video(REQUEST)
            assert await ask(job.kling_task_id) == job.kling_task_id
            connect(sandbox.base_url, trust_env=False)
            with pytest.raises(KlingConnectionError, match="certificate verify failed"):
                await ask(job.kling_task_id)

    async def test_a_folder_of_certificates_is_taken_as_on_a_worker(
        self, certificate: Path, connect: Connect, tmp_path: Path
    ) -> None:
        with Sandbox(run_seconds=0, ssl_context=server_context(certificate)) as sandbox:
            connect(sandbox.base_url, verify=str(tmp_path))
            with pytest.raises(KlingConnectionError, match="certificate verify failed"):
                await ask("task_1")

    @pytest.mark.alone
    @pytest.mark.parametrize("status", [200, 400, 401, 500])
    @pytest.mark.parametrize(
        "size", [MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1], ids=["as large as may be", "too large"]
    )
    async def test_an_answer_that_is_hard_to_read_does_not_hold_up_the_loop(
        self, connect: Connect, size: int, status: int
    ) -> None:
        """A kilobyte on the wire must not make thousands of other triggers wait."""
        nested = b"[" + b"[]," * (size // 3 - 1) + b"1]"
        with RawServer(http_response(gzip.compress(nested), status, Content_Encoding="gzip")) as server:
            connect(server.base_url)
            async with shared_client("kling_default") as client:
                with suppress(KlingError):
                    await client.get_video("task_1")
                gc.collect()
                watch = asyncio.create_task(longest_lag())
                with pytest.raises(KlingError):
                    await client.get_video("task_1")
                watch.cancel()
                assert await watch < 0.35


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=RAW_RESPONSES)
def test_no_bytes_at_all_from_a_server_end_in_anything_but_a_named_error(raw: bytes, connect: Connect) -> None:
    with RawServer(raw) as server:
        connect(server.base_url, connect_timeout=2, read_timeout=2)
        with suppress(KlingError):
            asyncio.run(ask("task_1"))
