# SPDX-License-Identifier: Apache-2.0
"""Checks that are due together are one request, and no job suffers from another one in it."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.client.async_client import SharedClient, shared_client
from airflow_provider_kling.client.connection import APIS
from airflow_provider_kling.client.status_batch import ALONE_EVERY, FAILURES_TTL, WINDOW
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingConnectionError,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import Connect
from tests.connections import BOOK
from tests.fixtures.event_loop import until
from tests.fixtures.purchases import bought
from tests.fixtures.responses import KEY
from tests.fixtures.several_ids import MAX_IDS, SEVERAL, SeveralIdsApi, SeveralIdsServer
from tests.fixtures.triggers import event_of, trigger_for

IDS = [f"task_{number}" for number in range(MAX_IDS)]


pytestmark = pytest.mark.alone


@pytest.fixture(autouse=True)
def _api(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(APIS, "several", SeveralIdsApi)


@pytest.fixture
def short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_kling.client.status_batch.WINDOW", 0.02)


class Client:
    """The shared client of a server, which has many users: a batch is not complete before its window ends."""

    def __init__(self, server: SeveralIdsServer, shared: SharedClient) -> None:
        self.server = server
        self.shared = shared

    async def check(self, ids: Iterable[str], **arguments: Any) -> dict[str, Any]:
        """Check jobs together, and return the outcome of each."""
        ids = list(ids)
        checks = (self.shared.get_video(each, **arguments) for each in ids)
        return dict(zip(ids, await asyncio.gather(*checks, return_exceptions=True), strict=True))

    def check_later(self, kling_task_id: str, **arguments: Any) -> asyncio.Task[VideoJob]:
        return asyncio.create_task(self.shared.get_video(kling_task_id, **arguments))


@asynccontextmanager
async def client_on(
    server: SeveralIdsServer, connect: Connect, *, users: int = 1000, rate: float = 1e5, **extra: float
) -> AsyncIterator[Client]:
    async with server.serve() as url:
        connect(url, KEY, api="several", max_requests_per_second=rate, **extra)
        shared = shared_client("kling_default")
        for _ in range(users):
            await shared.__aenter__()
        try:
            yield Client(server, shared)
        finally:
            for _ in range(users):
                await shared.__aexit__()


def kinds(outcomes: dict[str, Any]) -> set[type]:
    return {type(outcome) for outcome in outcomes.values()}


@pytest.mark.asyncio
class TestOneRequest:
    async def test_a_full_batch_is_sent_at_once(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            started = time.monotonic()
            outcomes = await client.check(IDS)
            assert time.monotonic() - started < WINDOW
        assert {job.kling_task_id for job in outcomes.values()} == set(IDS)
        assert [set(ids) for ids in client.server.requests] == [set(IDS)]

    async def test_the_rest_is_sent_at_the_end_of_the_window(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            started = time.monotonic()
            first = client.check_later("task_0")
            await asyncio.sleep(WINDOW / 2)
            await asyncio.gather(first, client.check_later("task_1"))
            assert WINDOW * 0.9 < time.monotonic() - started < WINDOW * 1.4
        assert client.server.requests == [("task_0", "task_1")]

    async def test_never_more_ids_than_the_api_takes(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            outcomes = await client.check(f"task_{number}" for number in range(205))
        assert kinds(outcomes) == {VideoJob}
        assert client.server.sizes == [MAX_IDS] * 10 + [5]

    async def test_each_request_uses_one_slot(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect, rate=10) as client:
            started = time.monotonic()
            await client.check(f"task_{number}" for number in range(200))
            assert 0.8 < time.monotonic() - started < 3

    async def test_more_checks_join_while_a_batch_waits_for_its_slot(
        self, connect: Connect, short_window: None
    ) -> None:
        async with client_on(SeveralIdsServer(), connect, rate=2) as client:
            await client.check(["task_0"])
            first = client.check_later("task_1")
            await asyncio.sleep(0.1)
            await asyncio.gather(first, client.check_later("task_2"))
        assert client.server.requests == [("task_0",), ("task_1", "task_2")]

    async def test_a_lone_user_waits_for_nobody(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect, users=1) as client:
            started = time.monotonic()
            await client.check(["task_0"])
            assert time.monotonic() - started < WINDOW / 2

    async def test_a_check_of_each_user_waits_for_no_more(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect, users=3) as client:
            started = time.monotonic()
            await client.check(IDS[:3])
            assert time.monotonic() - started < WINDOW / 2
        assert client.server.sizes == [3]

    async def test_the_same_id_is_sent_once(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            jobs = await asyncio.gather(*(client.shared.get_video(each) for each in ("a", "b", "a")))
        assert [job.kling_task_id for job in jobs] == ["a", "b", "a"]
        assert client.server.requests == [("a", "b")]

    async def test_a_route_has_its_own_batch(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            single = client.check(IDS[:3], route="/v1/videos")
            several = client.check(IDS[3:6], route=SEVERAL)
            outcomes = {**await single, **await several}
        assert kinds(outcomes) == {VideoJob}
        assert sorted(client.server.sizes) == [1, 1, 1, 3]


@pytest.mark.asyncio
class TestLeaving:
    async def test_a_cancelled_check_leaves_its_batch(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            leaving, staying = client.check_later("task_0"), client.check_later("task_1")
            await asyncio.sleep(0.1)
            leaving.cancel()
            assert (await staying).kling_task_id == "task_1"
        assert leaving.cancelled()
        assert client.server.requests == [("task_1",)]

    async def test_one_that_is_cancelled_during_the_request_does_not_disturb_the_others(
        self, connect: Connect
    ) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.go.clear()
            leaving, staying = client.check_later("task_0"), client.check_later("task_1")
            await until(lambda: client.server.at_once == 1)
            leaving.cancel()
            await asyncio.sleep(0)
            client.server.go.set()
            assert (await staying).kling_task_id == "task_1"

    async def test_a_batch_that_all_have_left_sends_nothing(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            checks = [client.check_later(each) for each in IDS[:5]]
            await asyncio.sleep(0.1)
            for check in checks:
                check.cancel()
            await asyncio.sleep(WINDOW)
        assert client.server.requests == []

    @pytest.mark.parametrize("waits_for", ["its window", "its slot", "its response"])
    async def test_nothing_is_left_when_the_last_user_leaves(
        self, connect: Connect, waits_for: str, short_window: None
    ) -> None:
        server = SeveralIdsServer()

        async def use(kling_task_id: str | None) -> None:
            async with shared_client("kling_default") as shared:
                if kling_task_id is not None:
                    await shared.get_video(kling_task_id, queue_timeout=60)
                await asyncio.sleep(60)

        async with server.serve() as url:
            before = asyncio.all_tasks()
            connect(url, KEY, api="several", max_requests_per_second=0.1 if waits_for == "its slot" else 1e5)
            users = [asyncio.create_task(use(None))]
            if waits_for == "its slot":
                users.append(asyncio.create_task(use("task_first")))
                await until(lambda: server.requests == [("task_first",)])
            server.go.clear()
            users += [asyncio.create_task(use(each)) for each in IDS[:5]]
            if waits_for == "its response":
                await until(lambda: server.at_once == 1)
            else:
                await asyncio.sleep(0.01 if waits_for == "its window" else 0.1)
            for user in users:
                user.cancel()
            await asyncio.wait(users)
            await asyncio.sleep(0)
            assert timers_of_batches() == []
            assert [task for task in asyncio.all_tasks() - before if "airflow_provider_kling" in repr(task)] == []
        assert len(server.requests) == (0 if waits_for == "its window" else 1)


@pytest.mark.asyncio
class TestTheDeadline:
    async def test_of_one_check_ends_only_that_one(self, connect: Connect, short_window: None) -> None:
        async with client_on(SeveralIdsServer(), connect, rate=1) as client:
            await client.check(["task_0"])
            patient = client.check_later("task_1", queue_timeout=10)
            with pytest.raises(KlingRateLimitError, match="before the deadline"):
                await client.shared.get_video("task_2", queue_timeout=0.2)
            assert (await patient).kling_task_id == "task_1"
        assert client.server.requests == [("task_0",), ("task_1",)]

    @pytest.mark.parametrize("queue_timeout", [-1.0, 0.0])
    async def test_in_the_past_allows_one_request_if_the_queue_is_empty(
        self, connect: Connect, queue_timeout: float
    ) -> None:
        async with client_on(SeveralIdsServer(), connect, rate=1) as client:
            started = time.monotonic()
            assert kinds(await client.check(["task_0"], queue_timeout=queue_timeout)) == {VideoJob}
            assert kinds(await client.check(["task_0"], queue_timeout=queue_timeout)) == {KlingRateLimitError}
            assert time.monotonic() - started < WINDOW

    async def test_a_close_one_does_not_wait_for_others(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            waiting = client.check_later("task_0")
            await asyncio.sleep(0.01)
            started = time.monotonic()
            await client.check(["task_1"], queue_timeout=WINDOW / 2)
            assert time.monotonic() - started < WINDOW / 2
            await waiting
        assert client.server.requests == [("task_0", "task_1")]

    async def test_does_not_end_a_check_that_was_sent(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.go.clear()
            check = client.check_later("task_0", queue_timeout=0.1)
            await asyncio.sleep(0.3)
            client.server.go.set()
            assert (await check).kling_task_id == "task_0"


@pytest.mark.asyncio
class TestOneBadId:
    async def test_a_missing_one_is_an_error_of_that_job_alone(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.missing = {"task_3"}
            outcomes = await client.check(IDS)
        assert isinstance(outcomes.pop("task_3"), KlingNotFoundError)
        assert kinds(outcomes) == {VideoJob}
        assert client.server.sizes == [MAX_IDS, 1], "it is requested alone, since another route may have it"

    async def test_one_that_is_refused_is_found_by_single_requests_at_once(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.bad_ids = {"task_3": 400}
            outcomes = await client.check(IDS)
            assert isinstance(outcomes.pop("task_3"), KlingValidationError)
            assert kinds(outcomes) == {VideoJob}
            assert client.server.sizes == [MAX_IDS] + [1] * MAX_IDS
            client.server.requests.clear()
            await client.check(IDS)
        assert sorted(client.server.sizes) == [1, MAX_IDS - 1]

    async def test_the_single_requests_keep_the_deadline(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect, rate=5) as client:
            client.server.bad_ids = {"task_3": 400}
            outcomes = await client.check(IDS, queue_timeout=1)
        assert 4 <= len(client.server.requests) <= 7
        assert kinds(outcomes) >= {VideoJob, KlingRateLimitError}

    async def test_one_that_is_refused_alone_is_requested_once(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.bad_ids = {"task_3": 400}
            assert kinds(await client.check(["task_3"])) == {KlingValidationError}
        assert client.server.sizes == [1]

    async def test_one_that_breaks_the_server_fails_the_others_once(
        self, connect: Connect, short_window: None
    ) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.bad_ids = {"task_3": 503}
            outcomes = await client.check(IDS)
            assert kinds(outcomes) == {KlingServerError}
            assert {each: error.kling_task_id for each, error in outcomes.items()} == {each: each for each in IDS}
            assert client.server.sizes == [MAX_IDS]
            for others in (1, MAX_IDS - 1):  # alone, and together again once they have succeeded
                client.server.requests.clear()
                outcomes = await client.check(IDS)
                assert isinstance(outcomes.pop("task_3"), KlingServerError)
                assert kinds(outcomes) == {VideoJob}
                assert sorted(client.server.sizes) == [1, *[others] * (19 // others)]

    async def test_one_that_works_again_is_together_with_the_others(
        self, connect: Connect, short_window: None
    ) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.bad_ids = {"task_3": 503}
            await client.check(IDS)
            client.server.bad_ids = {}
            await client.check(IDS)
            client.server.requests.clear()
            await client.check(IDS)
        assert client.server.sizes == [MAX_IDS]

    async def test_one_that_has_succeeded_alone_is_together_with_the_others(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, short_window: None
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.client.status_batch.ALONE_EVERY", 1)
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.fails_with = 503
            await client.check(IDS)
            client.server.fails_with = None
            await client.check(IDS)
            await client.check(IDS)
        assert client.server.sizes == [MAX_IDS] + [1] * MAX_IDS + [MAX_IDS]

    async def test_one_that_left_during_the_request_is_remembered_too(
        self, connect: Connect, short_window: None
    ) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.bad_ids = {"task_3": 503}
            client.server.go.clear()
            leaving, staying = client.check_later("task_3"), client.check_later("task_1")
            await until(lambda: client.server.at_once == 1)
            leaving.cancel()
            client.server.go.set()
            await asyncio.wait({leaving, staying})
            outcomes = await client.check(["task_3", "task_5"])
        assert kinds(outcomes) == {KlingServerError, VideoJob}

    async def test_a_server_that_works_with_one_id_only_is_found_out(
        self, connect: Connect, short_window: None
    ) -> None:
        ids = [f"task_{number}" for number in range(400)]
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.most_ids = 1
            unseen = set(ids)
            for _ in range(ALONE_EVERY + 1):
                outcomes = await client.check(sorted(unseen))
                unseen = {each for each in unseen if not isinstance(outcomes[each], VideoJob)}
        assert unseen == set()

    async def test_the_failures_of_jobs_that_nobody_checks_are_forgotten(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, short_window: None
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.client.status_batch.FAILURES_TTL", 0.2)
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.fails_with = 503
            for number in range(10):
                await client.check(f"task_{number}_{each}" for each in range(5))
                await asyncio.sleep(0.1)
            assert len(client.shared._batches._failures) < 25
        assert FAILURES_TTL >= 2 * 60 * 1.25


@pytest.mark.asyncio
class TestAnOutage:
    @pytest.mark.parametrize("rounds", [1, 3])
    async def test_does_not_end_in_single_requests(
        self, connect: Connect, rounds: int, short_window: None
    ) -> None:
        """Videos are checked in any order, since the pauses after failures are random."""
        ids = [f"task_{number}" for number in range(2000)]
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.fails_with = 503
            for _ in range(rounds):
                random.Random(rounds).shuffle(ids)
                assert kinds(await client.check(ids)) == {KlingServerError}
            client.server.fails_with = None
            client.server.requests.clear()
            random.Random(0).shuffle(ids)
            assert kinds(await client.check(ids)) == {VideoJob}
            assert len(client.server.requests) < len(ids) * 0.1
            assert max(client.server.asked.values()) == 1
            client.server.requests.clear()
            await client.check(ids)
        assert client.server.sizes == [MAX_IDS] * 100

    async def test_of_a_few_videos_is_single_requests(self, connect: Connect, short_window: None) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.fails_with = 503
            await client.check(IDS)
            client.server.fails_with = None
            client.server.requests.clear()
            await client.check(IDS)
        assert client.server.sizes == [1] * MAX_IDS

    @pytest.mark.parametrize("outage", ["no response", "no server"])
    async def test_a_connection_that_breaks_is_one(
        self, connect: Connect, short_window: None, outage: str
    ) -> None:
        async with client_on(SeveralIdsServer(), connect, connect_timeout=0.1, read_timeout=0.1) as client:
            if outage == "no server":
                client.server.breaks = True
            else:
                client.server.go.clear()
            outcomes = await client.check(IDS)
            assert kinds(outcomes) == {KlingConnectionError}
            client.server.breaks = False
            client.server.go.set()
            assert kinds(await client.check(IDS)) == {VideoJob}
        assert client.server.sizes[-MAX_IDS:] == [1] * MAX_IDS


@pytest.mark.asyncio
class TestErrorsAboutTheAccount:
    async def test_a_changed_key_is_looked_up_once(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            await client.check(IDS)
            client.server.key = BOOK.connections["kling_default"]["password"] = "sk-new"
            outcomes = await client.check(f"task_{number}" for number in range(200))
        assert kinds(outcomes) == {VideoJob}
        assert BOOK.lookups == {"kling_default": 2}

    async def test_a_rejected_key_is_the_same_for_all(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.key = "sk-other"
            outcomes = await client.check(IDS)
        assert kinds(outcomes) == {KlingAuthenticationError}
        assert client.server.sizes == [MAX_IDS]
        assert BOOK.lookups == {"kling_default": 2}

    async def test_a_429_slows_down_once_and_separates_nobody(self, connect: Connect, short_window: None) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.fails_with = 429
            assert kinds(await client.check(IDS)) == {KlingRateLimitError}
            assert client.shared._throttle.rate_limiter.slowdown == 2
            client.server.fails_with = None
            await client.check(IDS)
        assert client.server.sizes == [MAX_IDS] * 2


@pytest.mark.asyncio
class TestARouteThatTakesOneId:
    async def test_gets_one_id_a_request(self, connect: Connect) -> None:
        async with client_on(SeveralIdsServer(), connect) as client:
            client.server.has_several = False
            outcomes = await client.check(IDS)
            assert {each: job.kling_task_id for each, job in outcomes.items()} == {each: each for each in IDS}
            client.server.requests.clear()
            started = time.monotonic()
            await client.check(IDS[:5])
            assert time.monotonic() - started < WINDOW / 2
        assert client.server.sizes == [1] * 5

    async def test_that_replaces_the_other_within_a_batch(self, connect: Connect) -> None:
        """The connection is corrected meanwhile, and leads to another API."""
        async with client_on(SeveralIdsServer(), connect) as client:
            await client.check(IDS)
            client.server.key = "sk-new"
            connection = BOOK.connections["kling_default"]
            connection["password"], connection["extra"]["api"] = "sk-new", "gateway"
            outcomes = await client.check(IDS)
        assert kinds(outcomes) == {VideoJob}


@pytest.mark.asyncio
class TestTheOfficialPlatform:
    """Its own API object, and the sandbox that serves it."""

    @pytest.fixture
    def platform(self, rendered: Path, connect: Connect) -> Iterator[Sandbox]:
        with Sandbox(api="official", run_seconds=60, cache_dir=rendered) as sandbox:
            connect(sandbox.base_url, sandbox.api_key, api="official")
            yield sandbox

    async def test_many_triggers_need_few_requests(self, platform: Sandbox) -> None:
        ids = bought(platform, 50)
        waits = [asyncio.create_task(event_of(trigger_for(each, route="/tasks"))) for each in ids]
        await asyncio.sleep(1.5)
        for each in ids:
            platform.finish(each)
        events = await asyncio.gather(*waits)
        assert [event["status"] for event in events] == ["success"] * 50
        assert [event["video"]["kling_task_id"] for event in events] == ids
        assert platform.requests["ids"] >= 100
        assert platform.requests["status"] <= platform.requests["ids"] * 0.15

    @pytest.mark.parametrize(("status", "kind"), [(400, "refused"), (503, "broken")])
    async def test_a_bad_id_harms_no_other(self, platform: Sandbox, status: int, kind: str) -> None:
        bad, *others = bought(platform, 20)
        platform.add_fault(Fault(on="status", kind="error", status=status, match=bad, times=None))
        async with shared_client("kling_default") as shared:
            for _ in range(999):
                await shared.__aenter__()
            client = Client(SeveralIdsServer(), shared)
            outcomes = [await client.check([bad, *others], route="/tasks") for _ in range(2)][kind == "broken"]
            for _ in range(999):
                await shared.__aexit__()
        assert isinstance(outcomes.pop(bad), KlingError)
        assert kinds(outcomes) == {VideoJob}

    async def test_a_server_without_the_route_gets_single_requests(self, rendered: Path, connect: Connect) -> None:
        with Sandbox(api="official", serves=["legacy"], cache_dir=rendered) as sandbox:
            connect(sandbox.base_url, sandbox.api_key, api="official")
            ids = bought(sandbox, 25)
            events = await asyncio.gather(*(event_of(trigger_for(each)) for each in ids))
            several = [seen["path"] for seen in sandbox.seen() if "%2C" in seen["path"] or "," in seen["path"]]
        assert [event["status"] for event in events] == ["success"] * 25
        assert 1 <= len(several) <= 2


@pytest.mark.asyncio
async def test_whatever_an_api_object_raises_reaches_each_check(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(SeveralIdsApi, "read_status", broken)
    async with client_on(SeveralIdsServer(), connect) as client:
        outcomes = await client.check(IDS)
        assert kinds(outcomes) == {RuntimeError}
        monkeypatch.undo()


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(6))
async def test_every_check_has_one_outcome_whatever_happens(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Arrivals, cancellations, deadlines, failures, changed keys and closes, in any order."""
    monkeypatch.setattr("airflow_provider_kling.client.status_batch.WINDOW", 0.01)
    monkeypatch.setattr("airflow_provider_kling.client.async_client.MAX_SOCKETS", 3)
    chance = random.Random(seed)
    server = SeveralIdsServer()
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    outcomes: list[tuple[str, Any]] = []

    async def use(number: int) -> None:
        await asyncio.sleep(chance.random())
        for _ in range(chance.randint(1, 5)):
            async with shared_client("kling_default") as shared:
                kling_task_id = f"task_{chance.randint(0, 40)}"
                timeout = chance.choice([-1.0, 0.005, 5.0, 5.0])
                try:
                    outcome: Any = await shared.get_video(kling_task_id, queue_timeout=timeout)
                except KlingError as error:
                    outcome = error
                outcomes.append((kling_task_id, outcome))
            await asyncio.sleep(chance.random() / 20)

    async def disturb() -> None:
        while True:
            await asyncio.sleep(chance.random() / 10)
            server.fails_with = chance.choice([None, None, None, 503, 400, 401, 404])
            server.bad_ids = {f"task_{chance.randint(0, 40)}": chance.choice([400, 503])}
            server.missing = {f"task_{chance.randint(0, 40)}"}
            server.most_ids = chance.choice([MAX_IDS, MAX_IDS, 5, 1])
            (server.go.set if chance.random() < 0.8 else server.go.clear)()

    async with server.serve() as url:
        before = asyncio.all_tasks()
        connect(url, KEY, api="several", max_requests_per_second=1000)
        disturbing = asyncio.create_task(disturb())
        users = [asyncio.create_task(use(number)) for number in range(150)]
        for user in chance.sample(users, 60):
            asyncio.get_running_loop().call_later(chance.random() * 1.2, user.cancel)
        async with asyncio.timeout(20):
            results = await asyncio.gather(*users, return_exceptions=True)
        disturbing.cancel()
        server.go.set()
        server.fails_with, server.bad_ids, server.most_ids = None, {}, MAX_IDS
        assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
        assert len(outcomes) > 100
        jobs = {(each, job.kling_task_id) for each, job in outcomes if isinstance(job, VideoJob)}
        assert all(each == kling_task_id for each, kling_task_id in jobs)
        assert timers_of_batches() == []
        assert [task for task in asyncio.all_tasks() - before if "airflow_provider_kling" in repr(task)] == []
    assert max(server.sizes) <= MAX_IDS
    gc.collect()
    assert complaints == []


@pytest.mark.asyncio
@pytest.mark.parametrize("seed", range(4))
async def test_no_slot_is_lost_and_no_two_fail_together_twice(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Each job has one check at a time, as in a triggerer: then the server sees them in the client's order."""
    monkeypatch.setattr("airflow_provider_kling.client.status_batch.WINDOW", 0.01)
    monkeypatch.setattr("airflow_provider_kling.client.async_client.MAX_SOCKETS", 3)
    chance = random.Random(seed)
    server = SeveralIdsServer()

    async with client_on(server, connect, rate=1000) as client:

        async def wait(kling_task_id: str) -> None:
            for _ in range(15):
                await client.check([kling_task_id])
                await asyncio.sleep(chance.random() / 10)

        async def disturb() -> None:
            while True:
                await asyncio.sleep(chance.random() / 5)
                server.fails_with = chance.choice([None, None, None, 503])
                server.bad_ids = {f"task_{chance.randint(0, 99)}": 503}

        disturbing = asyncio.create_task(disturb())
        await asyncio.gather(*(wait(f"task_{number}") for number in range(100)))
        disturbing.cancel()
    failed_together: set[frozenset[str]] = set()
    for ids, status in zip(server.requests, server.statuses, strict=True):
        pairs = {frozenset(pair) for pair in combinations(ids, 2)}
        assert not pairs & failed_together
        if status:
            failed_together |= pairs
        else:
            failed_together -= {pair for pair in failed_together if pair & set(ids)}
    assert any(status and len(ids) > 1 for ids, status in zip(server.requests, server.statuses, strict=True))


def timers_of_batches() -> list[Any]:
    """Return the timers of batches that are still to come."""
    loop: Any = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled() and "atch" in repr(timer)]
