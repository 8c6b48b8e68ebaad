# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import time
from importlib import import_module
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.reading.status_words import COMPLETED, FAILED, RUNNING, WAITING
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingTimeoutError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.polling import video_from_event
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.triggers.kling import KlingSlotTrigger, KlingTaskTrigger
from airflow_provider_kling.triggers.slots import slot_waits
from airflow_provider_kling.version_compat import TaskInstanceRef
from tests.conftest import Connect, TaskLog
from tests.connections import BOOK
from tests.fixtures.event_loop import longest_lag
from tests.fixtures.requests import PROMPT, REQUEST, submit
from tests.fixtures.responses import RAW_RESPONSES
from tests.fixtures.triggers import event_of, trigger_for
from tests.raw_server import RawServer, Request, free_port, http_response


def error_in(event: dict[str, Any]) -> KlingError:
    with pytest.raises(KlingError) as caught:
        video_from_event(event)
    return caught.value


class TestWhatIsStored:
    def test_a_trigger_rebuilt_elsewhere_is_the_same(self) -> None:
        trigger = trigger_for("task_1", poll_interval=None)
        path, arguments = trigger.serialize()
        module, _, name = path.rpartition(".")
        again = getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))
        assert type(again) is KlingTaskTrigger
        assert again.serialize() == (path, arguments)

    def test_a_slot_trigger_rebuilt_elsewhere_is_the_same(self) -> None:
        trigger = KlingSlotTrigger(kling_conn_id="kling_default", not_before=1.0, at_latest=2.5)
        path, arguments = trigger.serialize()
        module, _, name = path.rpartition(".")
        again = getattr(import_module(module), name)(**json.loads(json.dumps(arguments)))
        assert again.serialize() == (path, arguments)

    @pytest.mark.asyncio
    async def test_neither_key_nor_prompt_is_in_arguments_or_event(self, sandbox: Sandbox, connected: str) -> None:
        trigger = trigger_for(submit(sandbox))
        everything = f"{trigger.serialize()} {await event_of(trigger)}"
        assert sandbox.api_key not in everything
        assert PROMPT not in everything


@pytest.mark.asyncio
class TestTheEvent:
    async def test_a_finished_video(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox)
        event = await event_of(trigger_for(task_id))
        assert (event["status"], event["kling_task_id"]) == ("success", task_id)
        assert video_from_event(event)["video_url"] == f"{sandbox.base_url}/files/{task_id}.mp4"
        assert set(video_from_event(event)) >= {
            "kling_task_id",
            "model",
            "status",
            "progress",
            "video_url",
            "created_at",
            "error",
        }

    async def test_it_waits_until_airflow_can_take_it(self, sandbox: Sandbox, connected: str) -> None:
        not_before = time.time() + 0.5
        await event_of(trigger_for(submit(sandbox), not_before=not_before))
        assert time.time() >= not_before

    async def test_a_video_that_takes_a_while(self, sandbox: Sandbox, connected: str, task_log: TaskLog) -> None:
        task_id = submit(sandbox, Fault("submit", "pace", seconds=0.3))
        event = await event_of(trigger_for(task_id))
        assert event["status"] == "success"
        assert sandbox.requests["status"] >= 3
        assert f" s ({task_id})" in task_log.text

    async def test_a_failed_job(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("submit", "job_fails", message="显存不足", code=5001))
        event = await event_of(trigger_for(task_id))
        error = error_in(event)
        assert (event["status"], event["kling_task_id"]) == ("error", task_id)
        assert type(error) is KlingGenerationFailedError
        assert (error.server_message, error.kling_task_id) == ("显存不足", task_id)

    async def test_content_that_is_refused_later(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("submit", "refuse_content", accepted=True))
        assert type(error_in(await event_of(trigger_for(task_id)))) is KlingContentRefusedError

    async def test_the_deadline(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"))
        event = await event_of(trigger_for(task_id, deadline=time.time() + 0.3))
        error = error_in(event)
        assert (event["status"], event["kling_task_id"]) == ("timeout", task_id)
        assert type(error) is KlingTimeoutError
        assert "The job continues at the vendor, and is billed" in str(error)

    async def test_a_deadline_that_passed_while_no_triggerer_ran(self, sandbox: Sandbox, connected: str) -> None:
        """The job is asked for once all the same: it may be finished by now."""
        finished, stuck = submit(sandbox), submit(sandbox, Fault("submit", "stuck"))
        past = {"started_at": time.time() - 900, "deadline": time.time() - 600}
        assert (await event_of(trigger_for(finished, **past)))["status"] == "success"
        assert (await event_of(trigger_for(stuck, **past)))["status"] == "timeout"

    async def test_deadlines_that_passed_together(self, sandbox: Sandbox, connect: Connect) -> None:
        """Each job is asked for, although not all can be at once."""
        connect(sandbox.base_url, sandbox.api_key, max_requests_per_second=20)
        finished = [submit(sandbox) for _ in range(10)]
        past = {"started_at": time.time() - 900, "deadline": time.time() - 600}
        events = await asyncio.gather(*(event_of(trigger_for(task_id, **past)) for task_id in finished))
        assert [event["status"] for event in events] == ["success"] * 10

    @pytest.mark.parametrize(
        ("fault", "kind"),
        [
            (Fault("status", "error", status=401, message="无效的令牌", times=None), KlingAuthenticationError),
            (Fault("status", "error", status=403, code="access_denied"), KlingPermissionError),
        ],
        ids=["401", "403"],
    )
    async def test_what_waiting_cannot_cure_ends_it_at_once(
        self, sandbox: Sandbox, connected: str, fault: Fault, kind: type[KlingError]
    ) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"), fault)
        error = error_in(await event_of(trigger_for(task_id)))
        assert type(error) is kind
        assert error.server_message
        assert error.kling_task_id == task_id

    async def test_a_lasting_not_found_ends_it(self, sandbox: Sandbox, connected: str) -> None:
        trigger = trigger_for("task_nobody_knows", started_at=time.time() - GatewayApi.grace.visibility)
        error = error_in(await event_of(trigger))
        assert type(error) is KlingNotFoundError
        assert error.server_message == "task_not_exist"
        assert sandbox.requests["probe"] == 1


@pytest.mark.asyncio
class TestWhatIsRiddenOut:
    async def test_a_task_not_visible_yet(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("status", "not_visible", times=3))
        assert (await event_of(trigger_for(task_id)))["status"] == "success"
        assert sandbox.requests["status"] == 4

    async def test_transient_faults_of_every_kind(self, sandbox: Sandbox, connected: str) -> None:
        faults: dict[str, dict[str, Any]] = {
            "error": {"status": 500},
            "proxy_error": {},
            "drop_after": {"times": 2},  # since aiohttp asks once more by itself
            "broken_json": {},
            "wrong_types": {},
            "missing_fields": {},
            "wrong_content_type": {},
            "empty_body": {},
            "truncate": {},
            "gzip_bomb": {"size": 8 << 20},
            "rate_limit": {},
        }
        waiting = []
        for kind, parameters in faults.items():
            task_id = submit(sandbox)
            sandbox.add_fault(Fault("status", kind, match=task_id, **parameters))
            waiting.append(event_of(trigger_for(task_id)))
        events = await asyncio.gather(*waiting)
        assert dict(zip(faults, [event["status"] for event in events], strict=True)) == dict.fromkeys(
            faults, "success"
        )
        assert sandbox.faults() == []

    async def test_a_server_that_was_away_for_a_while(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox)
        await asyncio.to_thread(sandbox.stop)
        waiting = asyncio.create_task(event_of(trigger_for(task_id)))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(sandbox.start)
        assert (await waiting)["status"] == "success"

    async def test_an_airflow_that_cannot_give_the_connection_for_a_while(
        self, sandbox: Sandbox, connect: Connect
    ) -> None:
        connect(sandbox.base_url)
        task_id = submit(sandbox)
        BOOK.clear()
        waiting = asyncio.create_task(event_of(trigger_for(task_id)))
        await asyncio.sleep(0.3)
        connect(sandbox.base_url)
        assert (await waiting)["status"] == "success"


@pytest.mark.asyncio
class TestManyTriggers:
    async def test_share_one_look_up(self, sandbox: Sandbox, connect: Connect) -> None:
        connect(sandbox.base_url, max_requests_per_second=10_000)
        sandbox.add_fault(Fault("submit", "pace", seconds=0.5, times=None))
        hook = KlingHook()
        ids = [hook.submit_video(REQUEST).kling_task_id for _ in range(60)]
        BOOK.lookups.clear()
        events = await asyncio.gather(*(event_of(trigger_for(task_id)) for task_id in ids))
        assert [event["kling_task_id"] for event in events] == ids
        assert {event["status"] for event in events} == {"success"}
        assert BOOK.lookups == {"kling_default": 1}

    async def test_one_that_is_cancelled_leaves_the_others_alone(self, sandbox: Sandbox, connected: str) -> None:
        """Airflow cancels a trigger whose task was killed, and all of them at a restart."""
        task_id = submit(sandbox, Fault("submit", "pace", seconds=0.4))
        waiting = [asyncio.create_task(event_of(trigger_for(task_id))) for _ in range(4)]
        await asyncio.to_thread(sandbox.wait_for, "status", 4)
        waiting[0].cancel()
        waiting[2].cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        kinds = [type(result) for result in results]
        assert kinds == [asyncio.CancelledError, dict, asyncio.CancelledError, dict]

    @pytest.mark.alone
    async def test_a_log_that_is_slow_to_read_does_not_hold_up_the_loop(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        """In a triggerer a line goes through a pipe, whose other end has other things to do."""

        class SlowLog:
            lines = 0

            def info(self, line: str) -> None:
                self.lines += 1
                time.sleep(0.5)

        trigger = trigger_for(submit(sandbox, Fault("submit", "pace", seconds=1)))
        trigger._log = SlowLog()
        watch = asyncio.create_task(longest_lag())
        assert (await event_of(trigger))["status"] == "success"
        watch.cancel()
        assert await watch < 0.35
        assert trigger._log.lines > 0

    async def test_a_blocked_log_delays_no_trigger(self, sandbox: Sandbox, connected: str) -> None:
        """Neither a trigger nor a thread of the loop, which resolves host names for all triggers."""
        read, lines = threading.Event(), []

        class Unread:
            def info(self, line: str) -> None:
                lines.append(line)
                read.wait(20)

        triggers = [trigger_for(submit(sandbox, Fault("submit", "pace", seconds=1))) for _ in range(40)]
        for trigger in triggers:
            trigger._log = Unread()
        events = asyncio.gather(*map(event_of, triggers))
        try:
            async with asyncio.timeout(10):
                while not lines:  # noqa: ASYNC110 - what is waited for happens in a thread
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            await asyncio.wait_for(asyncio.to_thread(time.time), 1)
            assert {event["status"] for event in await asyncio.wait_for(events, 15)} == {"success"}
        finally:
            read.set()
        await asyncio.sleep(0.3)
        assert len(lines) == 1  # Airflow has closed the logs of the others

    async def test_one_that_is_killed_says_that_its_job_goes_on(self, task_log: TaskLog) -> None:
        await trigger_for("task_1").on_kill()
        assert "Kling task task_1 continues at the vendor, and is billed" in task_log.text


@pytest.mark.asyncio
async def test_a_wait_for_a_slot_that_is_ended_says_that_nothing_was_bought(
    task_log: TaskLog,
) -> None:
    await waiting_for_slot("kling_default", since=1.0, at_latest=time.time() + 60).on_kill()
    assert "The wait for a slot of kling_default has ended on this triggerer. Nothing was bought" in task_log.text


def waiting_for_slot(conn_id: str, *, since: float, at_latest: float, refused: bool = True) -> KlingSlotTrigger:
    now = time.time()
    return KlingSlotTrigger(
        kling_conn_id=conn_id,
        not_before=now,
        at_latest=at_latest,
        deferred_at=now,
        since=since,
        refused=refused,
    )


@pytest.mark.asyncio
class TestWaitingForASlot:
    async def test_a_job_that_ends_frees_one_who_waits(self, sandbox: Sandbox, connected: str) -> None:
        task_id = submit(sandbox, Fault("submit", "pace", seconds=1.5))
        now = time.time()
        slots = [waiting_for_slot(connected, since=now + number, at_latest=now + 3) for number in range(2)]
        finished, *events = await asyncio.gather(event_of(trigger_for(task_id)), *map(event_of, slots))
        call = events[0].pop("call")
        assert finished["status"] == "success"
        assert events == [{"version": 1, "status": "slot"}, {"version": 1, "status": "no_slot"}]
        assert (call["is_free"], call["waiting"]) == (True, 1)
        assert now < call["at"] < time.time()

    async def test_one_that_is_cancelled_leaves_its_place_to_the_next(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        task_id = submit(sandbox, Fault("submit", "pace", seconds=1.5))
        now = time.time()
        first, second = (
            asyncio.ensure_future(event_of(waiting_for_slot(connected, since=now + number, at_latest=now + 20)))
            for number in range(2)
        )
        finished = asyncio.ensure_future(event_of(trigger_for(task_id)))
        await asyncio.sleep(0.5)
        first.cancel()
        assert (await finished)["status"] == "success"
        assert (await asyncio.wait_for(second, timeout=10))["status"] == "slot"

    async def test_the_setting_of_the_connection_lets_as_many_go_at_once(
        self, sandbox: Sandbox, connect: Connect
    ) -> None:
        connect(sandbox.base_url, sandbox.api_key, max_concurrent_jobs=2)
        now = time.time()
        slots = [
            waiting_for_slot("kling_default", since=now + number, at_latest=now + 3, refused=False)
            for number in range(3)
        ]
        events = await asyncio.gather(*map(event_of, slots))
        assert [event["status"] for event in events] == ["slot", "slot", "no_slot"]

    async def test_the_wait_for_a_job_that_had_ended_before_frees_no_slot(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        task_id = submit(sandbox)
        now = time.time()
        slot = asyncio.ensure_future(event_of(waiting_for_slot(connected, since=now, at_latest=now + 3)))
        await asyncio.sleep(1)
        sensor = KlingTaskTrigger(kling_task_id=task_id, kling_conn_id=connected, poll_interval=0.1)
        assert (await event_of(sensor))["status"] == "success"
        assert (await slot)["status"] == "no_slot"

    async def test_a_decision_that_fails_ends_no_wait(
        self, connected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fails = iter([True, True])

        def broken(*_: object) -> int:
            if next(fails, False):
                raise RuntimeError("a fault of the queue")
            return 0

        monkeypatch.setattr("airflow_provider_kling.jobs.slot_queue.SlotQueue._wanted_to_stand_by", broken)
        monkeypatch.setattr("airflow_provider_kling.jobs.slot_queue.FIRST_PROBE", 2.0)
        now = time.time()
        assert (await event_of(waiting_for_slot(connected, since=now, at_latest=now + 9)))["status"] == "slot"

    async def test_the_minimum_of_airflow_passes_before_it_ends(self, connected: str) -> None:
        now, started = time.time(), time.monotonic()
        slot = KlingSlotTrigger(
            kling_conn_id=connected,
            not_before=now + 2,
            at_latest=now + 0.1,
            deferred_at=now,
            since=now,
            refused=True,
        )
        assert (await event_of(slot))["status"] == "no_slot"
        assert time.monotonic() - started > 1.9

    async def test_one_that_cannot_be_told_leaves_the_slot_to_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: object, **__: object) -> None:
            raise RuntimeError("no backend")

        monkeypatch.setattr("airflow_provider_kling.triggers.slots.set_xcom_of", broken)
        slots, now = slot_waits("an account"), time.time()
        waiting = [
            asyncio.ensure_future(
                slots.wait(
                    TaskInstanceRef("dag", "run", "video", number),
                    since=now + number,
                    priority=0.0,
                    pause=0.0,
                    refused_ago=0.0,
                    timeout=20.0,
                )
            )
            for number in range(9)
        ]
        await asyncio.sleep(0.1)
        slots.started(
            "job",
            ti=None,
            started_at=now,
            now=now,
            expected=lambda: (math.log(3.0), 0.05),
            may_have_ended=False,
            call_latency=None,
        )
        stands_by = await asyncio.wait_for(waiting[0], timeout=10)
        assert stands_by is not None
        assert not stands_by.is_free
        slots.ended("job")
        await asyncio.sleep(5)
        called = [one.result() for one in waiting if one.done()]
        assert any(one is not None and one.is_free for one in called)
        assert len(called) < 6
        for one in waiting:
            one.cancel()

    @pytest.mark.parametrize("ahead", [3600.0, -3600.0])
    async def test_it_ends_when_it_was_meant_to_whatever_the_clock_of_the_worker(
        self, connected: str, ahead: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.triggers.kling.SHORTEST_WAIT", 1.0)
        worker = time.time() + ahead
        slot = KlingSlotTrigger(
            kling_conn_id=connected,
            not_before=worker,
            at_latest=worker + 1,
            deferred_at=worker,
            since=worker,
            refused=True,
        )
        started = time.monotonic()
        assert await event_of(slot) == {"version": 1, "status": "no_slot"}
        assert 0.9 < time.monotonic() - started < 6

    async def test_a_clock_that_jumps_back_delays_no_trigger(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task_id = submit(sandbox, Fault("submit", "stuck"))
        now, clock = time.time(), time.time
        slot = KlingSlotTrigger(kling_conn_id=connected, not_before=now + 1, at_latest=now + 1.2)
        waiting = asyncio.gather(event_of(trigger_for(task_id, not_before=now + 1)), event_of(slot))
        await asyncio.sleep(0.2)
        monkeypatch.setattr(time, "time", lambda: clock() - 7200)
        await asyncio.to_thread(sandbox.finish, task_id)
        finished, freed = await asyncio.wait_for(waiting, timeout=20)
        assert (finished["status"], freed) == ("success", {"version": 1, "status": "slot"})

    async def test_without_one_it_ends_when_the_time_is_up(self, connected: str) -> None:
        now = time.time()
        slot = KlingSlotTrigger(kling_conn_id=connected, not_before=now, at_latest=now + 1.1)
        assert await event_of(slot) == {"version": 1, "status": "slot"}
        assert time.time() - now < 5


def test_an_absent_server_is_retried_until_the_deadline(connect: Connect) -> None:
    connect(f"http://127.0.0.1:{free_port()}")
    event = asyncio.run(event_of(trigger_for("task_1", deadline=time.time() + 0.5)))
    error = error_in(event)
    assert type(error) is KlingTimeoutError
    assert "not seen once at the deadline" in str(error)
    assert "checks failed: GET http://127.0.0.1" in str(error)


def words(known: list[str]) -> st.SearchStrategy[Any]:
    """What may stand where a word is due."""
    return (
        st.sampled_from(known)
        | st.text(max_size=9)
        | st.none()
        | st.integers()
        | st.lists(st.integers(), max_size=2)
    )


STATES = st.fixed_dictionaries(
    {},
    optional={
        "id": words(["task_1"]),
        "task_id": words(["task_1"]),
        "status": words([*WAITING, *RUNNING, *COMPLETED, *FAILED]),
        "progress": words(["30%", "100"]) | st.floats(),
        "video_url": words(["https://cdn.example.com/a.mp4", "/a.mp4"]),
        "created_at": words(["1753000000"]) | st.floats(),
        "error": words(["out of memory"]) | st.dictionaries(st.sampled_from(["message", "code"]), words(["1301"])),
        "code": words(["success", "1100"]),
        "message": words(["task_not_exist", '{"code": 1302}']),
    },
)
ANSWERS = RAW_RESPONSES | st.builds(
    lambda body, wrap, status, headers: http_response(
        json.dumps({"data": body} if wrap else body), status, **headers
    ),
    STATES,
    st.booleans(),
    st.sampled_from([200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 429, 500, 502, 503]),
    st.dictionaries(st.just("Retry_After"), st.sampled_from(["0", "1", "9999", "x"]), max_size=1),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(answers=st.lists(ANSWERS, min_size=1, max_size=4))
def test_whatever_a_server_answers_it_ends_in_one_event_in_time(answers: list[bytes], connect: Connect) -> None:
    def respond(connection: socket.socket, request: Request) -> None:
        connection.sendall(answers[min(len(server.requests), len(answers)) - 1])

    with RawServer(respond) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr("airflow_provider_kling.jobs.polling.MAX_BACKOFF", 0.01)
        connect(server.base_url, connect_timeout=1, read_timeout=1)
        started = time.monotonic()
        event = asyncio.run(event_of(trigger_for("task_1", deadline=time.time() + 0.2, poll_interval=0.01)))
        assert time.monotonic() - started < 5
    assert (event["status"], event["kling_task_id"]) in {
        (kind, "task_1") for kind in ("success", "error", "timeout")
    }
    if event["status"] == "success":
        assert video_from_event(event)["video_url"]
    else:
        assert isinstance(error_in(event), KlingTimeoutError) == (event["status"] == "timeout")


@pytest.mark.asyncio
async def test_the_deadline_is_kept_though_the_server_asked_for_a_long_pause(
    sandbox: Sandbox, connect: Connect
) -> None:
    connect(sandbox.base_url, sandbox.api_key)
    sandbox.add_fault(Fault("probe", "rate_limit", times=None, headers={"Retry-After": "600"}))
    started = time.monotonic()
    wait = KlingTaskTrigger(
        kling_task_id="task_1",
        kling_conn_id="kling_default",
        started_at=time.time() - 100,
        deadline=time.time() + 2,
        poll_interval=0.1,
    )
    events = [event async for event in wait.run()]
    assert [event.payload["status"] for event in events] == ["timeout"]
    assert time.monotonic() - started < 5


@pytest.mark.asyncio
class TestAWorkerWithAnotherClock:
    """The times in a trigger's arguments are the worker's."""

    @pytest.mark.parametrize("ahead", [3600.0, -3600.0, 86400.0 * 365])
    async def test_delays_neither_the_first_check_nor_the_event(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, ahead: float
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.triggers.kling.LONGEST_MINIMUM", 0.3)
        worker = time.time() + ahead
        times = {"started_at": worker, "deadline": worker + 20, "not_before": worker + 0.3, "deferred_at": worker}
        started = time.monotonic()
        event = await event_of(trigger_for(submit(sandbox), **times))
        assert event["status"] == "success"
        assert time.monotonic() - started < 5

    async def test_nor_in_a_trigger_of_an_earlier_version(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.triggers.kling.LONGEST_MINIMUM", 0.3)
        worker = time.time() + 3600
        started = time.monotonic()
        event = await event_of(
            trigger_for(submit(sandbox), started_at=worker, deadline=worker + 20, not_before=worker + 0.3)
        )
        assert event["status"] == "success"
        assert time.monotonic() - started < 5

    @pytest.mark.parametrize("ahead", [3600.0, -3600.0])
    async def test_times_out_when_it_was_meant_to(self, sandbox: Sandbox, connected: str, ahead: float) -> None:
        worker = time.time() + ahead
        task_id = submit(sandbox, Fault("submit", "stuck"))
        times = {"started_at": worker, "deadline": worker + 1, "deferred_at": worker}
        started = time.monotonic()
        assert (await event_of(trigger_for(task_id, **times)))["status"] == "timeout"
        assert 0.9 < time.monotonic() - started < 6

    @pytest.mark.parametrize("ahead", [3600.0, -3600.0])
    async def test_waits_for_a_slot_as_long_as_it_was_meant_to(self, connected: str, ahead: float) -> None:
        worker = time.time() + ahead
        slot = KlingSlotTrigger(
            kling_conn_id=connected, not_before=worker + 0.4, at_latest=worker + 0.8, deferred_at=worker
        )
        started = time.monotonic()
        assert (await event_of(slot))["status"] == "slot"
        assert 0.7 < time.monotonic() - started < 6

    async def test_a_slot_trigger_of_an_earlier_version_waits_no_longer_than_a_pause(
        self, connected: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_kling.triggers.kling.LONGEST_SLOT_PAUSE", 0.4)
        worker = time.time() + 3600
        slot = KlingSlotTrigger(kling_conn_id=connected, not_before=worker, at_latest=worker + 1)
        started = time.monotonic()
        assert (await event_of(slot))["status"] == "slot"
        assert time.monotonic() - started < 5
