# SPDX-License-Identifier: Apache-2.0
"""How many jobs an account may have at once, as the triggers of a connection learn it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from airflow_provider_kling.client.async_client import shared_client
from airflow_provider_kling.exceptions import KlingAuthenticationError, KlingNotFoundError
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import Connect
from tests.connections import BOOK
from tests.fixtures.http_server import served
from tests.fixtures.platform import API_KEY, PAIR, connection_to
from tests.raw_server import free_port


class Platform:
    """A sandbox of Kling's own platform, and the Airflow connection to it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox

    def connect(self, **extra: Any) -> str:
        BOOK.add("kling_default", connection_to(self.sandbox, **extra))
        return "kling_default"

    @property
    def account_requests(self) -> int:
        return self.sandbox.requests["account"]


@pytest.fixture
def start(rendered: Path) -> Iterator[Callable[..., Platform]]:
    """A function that starts the platform and connects to it."""
    with ExitStack() as stack:

        def start(max_concurrent: int | None = 5, **extra: Any) -> Platform:
            options: dict[str, Any] = {"max_concurrent": max_concurrent, "units": 100, "run_seconds": 3600}
            sandbox = stack.enter_context(Sandbox(api="official", cache_dir=rendered, **options))
            platform = Platform(sandbox)
            platform.connect(**extra)
            return platform

        yield start


async def limit() -> int | None:
    async with shared_client("kling_default") as client:
        return await client.max_concurrent_jobs()


async def limits(count: int) -> set[int | None]:
    return set(await asyncio.gather(*(limit() for _ in range(count))))


@pytest.mark.asyncio
class TestTheAccountReports:
    @pytest.mark.parametrize("keys", [API_KEY, PAIR])
    async def test_its_limit_to_all_triggers_by_one_request(
        self, start: Callable[..., Platform], keys: str
    ) -> None:
        platform = start(keys=keys)
        async with shared_client("kling_default"):
            assert await limits(200) == {5}
            assert await limit() == 5
        assert platform.account_requests == 1

    async def test_its_limit_to_the_next_session_by_another_request(self, start: Callable[..., Platform]) -> None:
        platform = start()
        assert [await limit(), await limit()] == [5, 5]
        assert platform.account_requests == 2

    async def test_no_limit(self, start: Callable[..., Platform]) -> None:
        platform = start(max_concurrent=None)
        async with shared_client("kling_default"):
            assert await limits(3) == {None}
        assert platform.account_requests == 1

    async def test_its_limit_even_if_the_first_who_asks_is_cancelled(self, start: Callable[..., Platform]) -> None:
        platform = start()
        platform.sandbox.add_fault(Fault("account", "delay_before", seconds=1))
        async with shared_client("kling_default"):
            first, others = asyncio.create_task(limit()), asyncio.create_task(limits(20))
            await asyncio.to_thread(platform.sandbox.wait_for, "account", 1)
            first.cancel()
            assert await others == {5}
        assert first.cancelled()
        assert platform.account_requests == 2

    async def test_its_limit_within_the_rate_limit(self, start: Callable[..., Platform]) -> None:
        start(max_requests_per_second=1)
        async with shared_client("kling_default") as client:
            with pytest.raises(KlingNotFoundError):
                await client.get_video("1")
            started = time.monotonic()
            assert await client.max_concurrent_jobs() == 5
        assert time.monotonic() - started > 0.5


@pytest.mark.asyncio
class TestItIsNotKnown:
    @pytest.mark.parametrize(
        "fault",
        [
            Fault("account", "error", status=500, times=None),
            Fault("account", "error", status=429, code=1302, times=None),
            Fault("account", "truncate", times=None),
            Fault("account", "empty_body", times=None),
        ],
        ids=["server error", "too fast", "cut response", "no body"],
    )
    async def test_after_an_error_which_is_not_repeated(
        self, start: Callable[..., Platform], fault: Fault
    ) -> None:
        platform = start()
        platform.sandbox.add_fault(fault)
        async with shared_client("kling_default"):
            assert await limits(20) == {None}
        assert platform.account_requests == 1

    async def test_after_a_time_out(self, start: Callable[..., Platform]) -> None:
        platform = start(connect_timeout=0.2, read_timeout=0.2)
        platform.sandbox.add_fault(Fault("account", "delay_before", seconds=2))
        assert await limit() is None

    async def test_to_a_server_without_the_route(self, start: Callable[..., Platform]) -> None:
        platform = start()
        platform.sandbox.add_fault(Fault("account", "error", status=404, times=None))
        assert await limit() is None

    async def test_while_the_server_is_away(self, connect: Connect) -> None:
        connect(f"http://127.0.0.1:{free_port()}", api="official")
        assert await limit() is None

    async def test_while_the_connection_cannot_be_used(self, connect: Connect) -> None:
        connect("http://127.0.0.1:1", max_concurrent_jobs="many")
        assert await limit() is None

    async def test_on_a_gateway_which_is_not_asked(self, sandbox: Sandbox, connected: str) -> None:
        assert await limit() is None
        assert sum(sandbox.requests.values()) == 0

    async def test_until_a_rejected_key_is_replaced(self, start: Callable[..., Platform]) -> None:
        """The next session asks with the new key."""
        platform = start()
        BOOK.add("kling_default", {**connection_to(platform.sandbox), "password": "api-key-kling-replaced-since"})
        async with shared_client("kling_default") as client:
            assert await client.max_concurrent_jobs() is None
            platform.connect()
            with pytest.raises(KlingNotFoundError):
                await client.get_video("1")
            assert await client.max_concurrent_jobs() == 5

    async def test_until_the_key_is_replaced_during_the_request(self, connect: Connect) -> None:
        old, new = "api-key-kling-of-yesterday", "api-key-kling-of-today"
        asked, go = asyncio.Event(), asyncio.Event()

        def reply(request: web.Request, data: Any) -> web.Response:
            if request.headers["Authorization"] != f"Bearer {new}":
                return web.json_response({"code": 1002, "message": "Authorization is invalid"}, status=401)
            return web.json_response({"code": 0, "data": data})

        async def account(request: web.Request) -> web.Response:
            asked.set()
            await go.wait()
            packs = [{"resource_pack_name": "Video-5Con-30Days"}]
            return reply(request, {"code": 0, "resource_pack_subscribe_infos": packs})

        async def tasks(request: web.Request) -> web.Response:
            return reply(request, [])

        routes = [web.get("/account/costs", account), web.get("/tasks", tasks)]
        async with served(routes) as url, shared_client("kling_default") as client:
            connect(url, old, api="official")
            asking = asyncio.create_task(client.max_concurrent_jobs())
            await asked.wait()
            connect(url, new, api="official")
            with pytest.raises(KlingNotFoundError):
                await client.get_video("1")
            go.set()
            assert await asking == 5

    async def test_with_a_key_that_stays_rejected(self, start: Callable[..., Platform]) -> None:
        platform = start()
        BOOK.add("kling_default", {**connection_to(platform.sandbox), "password": "api-key-kling-replaced-since"})
        async with shared_client("kling_default") as client:
            with pytest.raises(KlingAuthenticationError):
                await client.get_video("1")
            assert await client.max_concurrent_jobs() is None


@pytest.mark.asyncio
class TestTheConnectionsSetting:
    async def test_counts_more_than_the_account(self, start: Callable[..., Platform]) -> None:
        platform = start(max_concurrent_jobs=3)
        assert await limit() == 3
        assert platform.account_requests == 0

    async def test_is_all_that_is_known_on_a_gateway(self, sandbox: Sandbox, connect: Connect) -> None:
        connect(sandbox.base_url, sandbox.api_key, max_concurrent_jobs="7")
        assert await limits(3) == {7}
        assert sum(sandbox.requests.values()) == 0
