# SPDX-License-Identifier: Apache-2.0
"""The decision who submits next, with a clock of the tests' own."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kling.jobs.slot_queue import (
    CALL_TIMEOUT,
    CALL_TIMEOUT_LATENCIES,
    FIRST_LATENCY,
    FIRST_PROBE,
    LONGEST_HANDOVER,
    LONGEST_STAND_BY,
    MOST_PROBES,
    NEW_JOB,
    OTHER_TRIGGERERS_SECONDS,
    Call,
    SlotQueue,
    Waiter,
)
from tests.benchmarks.slot_queue import Scenario, Simulation

UNHEARD = CALL_TIMEOUT + CALL_TIMEOUT_LATENCIES * FIRST_LATENCY
LONG = math.log(3600.0), 0.05
SOON = math.log(60.0), 0.05


@dataclass
class Scene:
    """A queue, and the clock that it is asked at."""

    queue: SlotQueue = field(default_factory=SlotQueue)
    now: float = 1000.0
    told: list[str] = field(default_factory=list)

    def waits(
        self,
        name: str,
        *,
        refused: bool = False,
        priority: float = 0.0,
        pause: float = 0.0,
        since: float = 0.0,
        kind: str | None = None,
    ) -> Waiter:
        waiter = Waiter(name, since or self.now, priority, self.now + pause, lambda: self.told.append(name), kind)
        self.queue.join(waiter, now=self.now, refused_at=self.now if refused else None)
        return waiter

    def runs(
        self,
        job: str,
        *,
        task: str | None = None,
        ago: float = 0.0,
        lasts: tuple[float, float] = LONG,
        was_called: bool = False,
    ) -> None:
        self.queue.started(
            job,
            task=task or f"task of {job}",
            started_at=self.now - ago,
            now=self.now,
            expected=lambda: lasts,
            was_called=was_called,
        )

    def ends(self, job: str) -> None:
        self.queue.ended(job, now=self.now)

    def calls(self) -> list[Call]:
        return list(self.queue.calls(now=self.now))

    def called(self) -> list[object]:
        """Return who goes to submit now."""
        return [call.waiter.task for call in self.calls() if call.is_free]

    def refuses_the_next_probe(self) -> None:
        while not (called := self.called()):
            self.now += 1
        self.waits(str(called[0]), refused=True, since=1.0)

    def called_within(self, seconds: float, step: float = 1.0) -> list[tuple[float, object]]:
        """Return who goes to submit within some time, and when."""
        start, found = self.now, []
        while self.now < start + seconds:
            self.now += step
            found += [(self.now - start, task) for task in self.called()]
        return found


@pytest.fixture
def full() -> Scene:
    """An account of two slots with two long jobs, seen by a refusal; somebody waits."""
    scene = Scene()
    scene.runs("job 1")
    scene.runs("job 2")
    scene.waits("first", refused=True)
    return scene


class TestEndsAndCalls:
    def test_each_end_calls_one_who_waits_and_the_first_is_first(self, full: Scene) -> None:
        full.now += 1
        full.waits("second")
        full.now += 1
        assert full.called() == []
        full.ends("job 1")
        assert full.called() == ["first"]
        assert full.called() == []
        full.ends("job 2")
        assert full.called() == ["second"]

    def test_who_waited_first_is_first_even_if_it_returns_last(self, full: Scene) -> None:
        full.now += 60
        full.waits("older than all", since=1.0)
        full.ends("job 1")
        assert full.called() == ["older than all"]

    def test_a_higher_priority_goes_first(self, full: Scene) -> None:
        full.waits("important", priority=2)
        full.waits("more important", priority=3)
        full.ends("job 1")
        full.ends("job 2")
        assert full.called() == ["more important", "important"]

    def test_one_that_may_not_go_yet_is_passed_over_and_keeps_its_place(self) -> None:
        scene = Scene()
        for job in ("job 1", "job 2"):
            scene.runs(job)
        scene.waits("early", refused=True, pause=10)
        scene.waits("late", refused=True)
        scene.ends("job 1")
        assert scene.called() == ["late"]
        scene.ends("job 2")
        assert scene.called() == []
        scene.now += 10
        assert scene.called() == ["early"]

    def test_a_job_that_two_wait_for_frees_one_slot(self, full: Scene) -> None:
        full.waits("second")
        full.runs("job 1", task="a sensor")
        full.ends("job 1")
        full.ends("job 1")
        assert full.called() == ["first"]

    def test_the_end_of_a_job_that_nobody_saw_running_frees_nothing(self, full: Scene) -> None:
        full.runs("old", ago=NEW_JOB + 1)
        full.ends("old")
        assert full.called() == []
        full.runs("old but seen", ago=NEW_JOB + 1)
        full.queue.seen("old but seen")
        full.ends("old but seen")
        assert full.called() == ["first"]

    def test_nor_does_that_of_a_job_of_unknown_age(self, full: Scene) -> None:
        full.queue.started(
            "unknown",
            task=None,
            started_at=full.now,
            now=full.now,
            expected=lambda: LONG,
            may_have_ended=True,
        )
        full.ends("unknown")
        assert full.called() == []

    def test_a_job_that_is_not_watched_any_more_frees_nothing(self, full: Scene) -> None:
        full.queue.left("job 1")
        full.ends("job 1")
        assert full.called() == []

    def test_a_slot_that_nobody_waited_for_is_there_for_the_next(self) -> None:
        scene = Scene()
        scene.runs("job 1")
        scene.ends("job 1")
        assert scene.called() == []
        scene.now += 1
        scene.waits("next")
        assert scene.called() == ["next"]

    def test_a_refusal_after_an_end_proves_that_somebody_else_has_the_slot(self) -> None:
        scene = Scene()
        scene.runs("job 1")
        scene.ends("job 1")
        scene.now += 1
        scene.waits("refused", refused=True)
        assert scene.called() == []

    def test_a_job_that_started_without_a_call_has_taken_the_free_slot(self) -> None:
        scene = Scene()
        scene.runs("job 1")
        scene.waits("one", refused=True, pause=30)
        scene.ends("job 1")
        scene.runs("somebody's")
        scene.now += 31
        scene.queue.join(Waiter("two", 0.0), now=scene.now, refused_at=scene.now)
        assert scene.called() == []

    @pytest.mark.parametrize("is_called", [False, True])
    def test_one_that_leaves_leaves_its_slot_to_the_next(self, full: Scene, is_called: bool) -> None:
        second = full.waits("between", priority=1)
        full.ends("job 1")
        if is_called:
            assert full.called() == ["between"]
        full.queue.leave(second, now=full.now)
        assert full.called() == ["first"]


class TestProbes:
    def test_the_first_one_goes_at_once_where_nothing_is_known(self) -> None:
        scene = Scene()
        scene.waits("first")
        scene.waits("second")
        assert scene.called() == ["first"]

    def test_they_get_rare_while_they_are_refused(self) -> None:
        scene = Scene()
        scene.waits("first", refused=True)
        pauses = []
        for _ in range(7):
            before = scene.now
            while not (called := scene.called()):
                scene.now += 1
            pauses.append(scene.now - before)
            scene.waits(str(called[0]), refused=True)
        assert pauses == pytest.approx([15, 30, 60, 120, 240, 300, 300], abs=1)

    def test_one_that_is_refused_again_and_again_blocks_nobody(self) -> None:
        """A server may refuse one model with a 429, and take others."""
        scene = Scene()
        scene.waits("refused", refused=True, since=1.0)
        for _ in range(4):
            while not scene.called():
                scene.now += 1
            scene.waits("refused", refused=True, since=1.0)
        scene.waits("another", since=2.0)
        [(after, task)] = scene.called_within(FIRST_PROBE + 1)
        assert (after, task) == (pytest.approx(FIRST_PROBE, abs=1), "another")

    @pytest.mark.parametrize("many", [1, 5, 100])
    def test_a_model_that_is_refused_blocks_no_other(self, many: int) -> None:
        """Many tasks of it come first, and it is refused whenever one of them submits."""
        scene = Scene()
        for number in range(many):
            scene.waits(f"A {number}", kind="A", refused=number < 3, since=1.0)
        for number in range(20):
            scene.waits(f"B {number}", kind="B", since=2.0)
        accepted: list[tuple[float, str]] = []
        running: list[tuple[float, str]] = []
        refused = 0
        start = scene.now
        while len(accepted) < 20:
            scene.now += 1
            assert scene.now < start + 3600
            for at, job in [one for one in running if one[0] <= scene.now]:
                running.remove((at, job))
                scene.ends(job)
            for task in map(str, scene.called()):
                if task.startswith("A"):
                    refused += 1
                    scene.waits(task, kind="A", refused=True, since=1.0)
                else:
                    accepted.append((scene.now - start, task))
                    scene.runs(f"job of {task}", task=task)
                    running.append((scene.now + 90, f"job of {task}"))
        assert accepted[0][0] < 100
        # Two at a time would take 900 s, one after the other 1,800 s.
        assert accepted[-1][0] < 900
        assert refused < 12

    def test_a_model_that_was_refused_is_tried_again_beside_another_that_is_taken(self) -> None:
        scene = Scene()
        for number in range(2):
            scene.waits(f"A {number}", kind="A", refused=True, since=1.0)
        for number in range(200):
            scene.waits(f"B {number}", kind="B", since=2.0)
        scene.refuses_the_next_probe()
        first_a = None
        for number in range(100):
            scene.runs(f"job {number}")
            scene.now += 5
            scene.ends(f"job {number}")
            for task in map(str, scene.called()):
                scene.runs(f"job of {task}", task=task)
                if task.startswith("A") and first_a is None:
                    first_a = number
        # It was put off for a moment only.
        assert first_a is not None
        assert first_a < 5

    def test_ten_thousand_that_wait_probe_a_dozen_times_an_hour(self) -> None:
        scene = Scene()
        for number in range(10_000):
            scene.waits(f"task {number}", refused=number < 20)
        probes = 0
        end = scene.now + 3600
        while scene.now < end:
            scene.now += 1
            for task in scene.called():
                probes += 1
                scene.waits(str(task), refused=True)
        assert 12 <= probes <= 16

    def test_after_one_that_is_accepted_the_next_goes_at_once(self) -> None:
        scene = Scene()
        scene.waits("first", refused=True)
        scene.waits("second")
        [(_, task)] = scene.called_within(FIRST_PROBE + 2)
        assert task == "first"
        scene.runs("its job", task="first")
        assert scene.called() == ["second"]

    def test_they_grow_while_they_are_accepted(self) -> None:
        scene = Scene()
        for number in range(20):
            scene.waits(f"task {number}")
        sizes = []
        for _ in range(4):
            called = scene.called()
            sizes.append(len(called))
            for task in called:
                scene.runs(f"job of {task}", task=str(task))
            scene.now += 1
        assert sizes == [1, 2, 8, 9]

    @pytest.mark.alone
    def test_dozens_at_once_do_not_block_the_loop_however_many_wait(self) -> None:
        scene = Scene()
        for number in range(30_000):
            scene.waits(f"task {number}")
        seconds, sizes = [], []
        for _ in range(6):
            began = time.process_time()
            called = scene.called()
            seconds.append(time.process_time() - began)
            sizes.append(len(called))
            for task in called:
                scene.runs(f"job of {task}", task=str(task))
        assert max(sizes) == MOST_PROBES
        assert max(seconds) < 0.25

    def test_one_that_is_not_heard_of_is_no_reason_for_more(self) -> None:
        scene = Scene()
        for number in range(20):
            scene.waits(f"task {number}", refused=True)
        found = scene.called_within(10 * FIRST_PROBE + UNHEARD)
        assert 4 <= len(found) <= 11

    def test_there_are_none_while_ends_are_seen(self) -> None:
        scene = Scene()
        for number in range(40):
            scene.waits(f"task {number}", refused=True)
        for round_ in range(30):
            scene.runs(f"job {round_}", task=f"task {round_ - 1}")
            scene.called_within(FIRST_PROBE - 5)
            scene.ends(f"job {round_}")
            assert scene.called() == [f"task {round_}"]

    def test_calls_that_are_refused_do_not_make_them_rare(self, full: Scene) -> None:
        """Another user takes both slots at their ends, and has gone a moment later."""
        full.waits("second")
        full.ends("job 1")
        full.ends("job 2")
        for task in full.called():
            full.waits(str(task), refused=True, since=1.0)
        [(after, _)] = full.called_within(FIRST_PROBE + 2)
        assert after == pytest.approx(FIRST_PROBE, abs=1)

    def test_a_slot_that_a_call_left_unused_is_found_although_ends_are_seen(self) -> None:
        """One of 40 slots idles from the start, since the task that was called for it never submitted."""
        scene = Scene()
        for number in range(2000):
            scene.waits(f"task {number}", refused=number == 0)
        running = [f"job {number}" for number in range(39)]
        for job in running:
            scene.runs(job)
        started = len(running)
        for _ in range(800):
            scene.now += 2
            scene.ends(running.pop(0))
            for task in scene.called():
                if len(running) == 40:
                    scene.waits(str(task), refused=True, since=1.0)
                    continue
                running.append(f"job {(started := started + 1)}")
                scene.runs(running[-1], task=str(task))
            if len(running) == 40:
                return
        pytest.fail("the slot was never used again")

    def test_those_of_an_earlier_batch_do_not_flood_the_next(self) -> None:
        scene = Scene()
        for number in range(100):
            scene.waits(f"task {number}")
        while called := scene.called():
            for task in called:
                scene.runs(f"job of {task}", task=str(task))
        for number in range(100):
            scene.queue.left(f"job of task {number}")
        scene.now += 3600
        for number in range(30):
            scene.waits(f"next {number}", refused=True)
        assert len(scene.called_within(FIRST_PROBE + 1)) == 1

    def test_the_pause_of_an_earlier_batch_does_not_delay_the_next(self) -> None:
        scene = Scene()
        scene.waits("first", refused=True)
        for _ in range(6):
            scene.refuses_the_next_probe()
        scene.called_within(301)
        scene.now += 3600
        scene.waits("next", refused=True)
        assert len(scene.called_within(FIRST_PROBE + 1)) == 1

    def test_the_pause_shrinks_where_nobody_watches_the_jobs_that_probes_make(self) -> None:
        scene = Scene()
        for number in range(400):
            scene.waits(f"task {number}", refused=True)
        for _ in range(6):
            scene.refuses_the_next_probe()
        assert len(scene.called_within(3600)) > 3600 / 60

    def test_nothing_is_kept_of_those_who_left(self) -> None:
        scene = Scene()
        scene.runs("job 1")
        waiters = [scene.waits(f"task {number}", refused=True, pause=number % 2 * 60) for number in range(10)]
        scene.called()
        for waiter in waiters:
            scene.queue.leave(waiter, now=scene.now)
        scene.called()
        assert (scene.queue._ready, scene.queue._early) == ({}, [])


class TestStandingBy:
    def test_one_is_called_ahead_of_an_end_that_is_likely_and_goes_on_at_the_end(self, full: Scene) -> None:
        full.runs("short", lasts=SOON)
        full.now += 40
        full.queue.seen("short")
        assert not any(not call.is_free for call in full.calls())
        full.waits("second")
        full.now += 17
        [ahead] = [call for call in full.calls() if not call.is_free]
        full.now += 5
        assert full.calls() == []
        full.ends("short")
        [now_free] = full.calls()
        assert (now_free.waiter, now_free.is_free, now_free.from_stand_by) == (ahead.waiter, True, True)

    def test_one_that_stood_by_for_nothing_keeps_its_place(self, full: Scene) -> None:
        full.waits("second")
        full.runs("short", lasts=SOON)
        full.now += 57
        [ahead] = [call for call in full.calls() if not call.is_free]
        full.now += LONGEST_STAND_BY
        full.waits("later")
        full.waits(str(ahead.waiter.task), since=ahead.waiter.since)
        full.ends("job 1")
        assert full.called()[0] == "second"

    def test_one_that_gave_up_just_before_it_was_told_leaves_its_slot(self, full: Scene) -> None:
        full.waits("second")
        full.runs("short", lasts=SOON)
        full.now += 57
        [ahead] = [call for call in full.calls() if not call.is_free]
        full.ends("short")
        assert [call.from_stand_by for call in full.calls()] == [True]
        full.waits(str(ahead.waiter.task), since=ahead.waiter.since)
        assert full.called() == [ahead.waiter.task]

    def test_one_that_cannot_be_told_is_not_called_ahead(self) -> None:
        scene = Scene()
        scene.runs("short", lasts=SOON)
        scene.queue.join(Waiter("deaf", 0.0), now=scene.now, refused_at=scene.now)
        scene.now += FIRST_PROBE
        scene.called()
        scene.queue.join(Waiter("deaf", 0.0), now=scene.now, refused_at=scene.now)
        scene.now += 57 - FIRST_PROBE
        assert [call for call in scene.calls() if not call.is_free] == []

    def test_the_latency_is_learned_and_a_clock_that_is_wrong_is_not(self) -> None:
        queue = SlotQueue()
        for _ in range(30):
            queue.learn(8.0)
        assert queue.latency == pytest.approx(8.0, abs=0.1)
        queue.learn(3600.0)
        queue.learn(-3600.0)
        assert queue.latency == pytest.approx(8.0, abs=0.1)

    def test_workers_that_start_slowly_are_waited_for(self, full: Scene) -> None:
        for _ in range(30):
            full.queue.learn(45.0)
        full.waits("second")
        full.runs("short", lasts=SOON)
        full.now += 45
        [ahead] = [call for call in full.calls() if not call.is_free]
        full.now += LONGEST_STAND_BY - 20
        full.ends("short")
        assert [call.waiter for call in full.calls() if call.from_stand_by] == [ahead.waiter]


class TestAKnownLimit:
    def test_what_is_not_occupied_is_free(self) -> None:
        scene = Scene(SlotQueue(limit=3))
        scene.runs("job 1")
        for number in range(5):
            scene.waits(f"task {number}")
        assert scene.called() == ["task 0", "task 1"]
        assert scene.called_within(UNHEARD - 5) == []

    def test_tasks_that_no_worker_starts_are_not_followed_by_as_many_each_time(self) -> None:
        scene = Scene(SlotQueue(limit=50))
        for number in range(2000):
            scene.waits(f"task {number}")
        assert len(scene.called()) == 50
        assert len(scene.called_within(600)) < 50

    def test_it_is_never_exceeded_so_there_is_no_probe(self) -> None:
        scene = Scene(SlotQueue(limit=2))
        scene.runs("job 1")
        scene.runs("job 2")
        scene.waits("first")
        assert scene.called_within(3600) == []
        scene.ends("job 2")
        assert scene.called() == ["first"]

    def test_after_a_refusal_it_is_not_trusted_until_a_probe_is_accepted(self) -> None:
        scene = Scene(SlotQueue(limit=3))
        scene.waits("first", refused=True)
        scene.waits("second")
        assert scene.called_within(FIRST_PROBE - 2) == []
        assert scene.called_within(3) != []
        scene.runs("its job", task="first")
        assert scene.called() == ["second"]


class TestSeveralTriggerers:
    @pytest.fixture
    def accompanied(self) -> Scene:
        """A triggerer that watches a job which a task of another one has submitted."""
        scene = Scene()
        scene.runs("job 1", was_called=True)
        return scene

    def test_an_end_that_nobody_waits_for_is_handed_over_once(self, accompanied: Scene) -> None:
        accompanied.ends("job 1")
        assert accompanied.called() == []
        accompanied.now += 2
        assert accompanied.queue.hand_over(now=accompanied.now) == [2]
        assert accompanied.queue.hand_over(now=accompanied.now) == []
        accompanied.waits("late")
        accompanied.waits("later", refused=True)
        assert accompanied.called_within(FIRST_PROBE - 2) == []

    def test_one_that_somebody_here_waits_for_is_not(self, accompanied: Scene) -> None:
        accompanied.waits("first", refused=True)
        accompanied.ends("job 1")
        assert accompanied.queue.hand_over(now=accompanied.now) == []
        assert accompanied.called() == ["first"]

    def test_nor_is_one_that_somebody_stands_by_for_until_that_is_too_late(self, accompanied: Scene) -> None:
        accompanied.waits("first", refused=True)
        accompanied.runs("short", lasts=SOON)
        accompanied.now += 10
        accompanied.queue.learn(10.0)
        accompanied.now += 47
        accompanied.queue._next_probe = math.inf
        assert [call.is_free for call in accompanied.calls()] == [False]
        accompanied.ends("short")
        assert accompanied.queue.hand_over(now=accompanied.now) == []
        accompanied.now += LONGEST_STAND_BY + accompanied.queue.latency
        accompanied.ends("job 1")
        assert accompanied.queue.unserved == 1
        assert accompanied.queue.hand_over(now=accompanied.now) == [0]

    def test_nor_is_one_that_was_seen_long_ago(self, accompanied: Scene) -> None:
        accompanied.ends("job 1")
        accompanied.now += LONGEST_HANDOVER + 1
        assert accompanied.queue.hand_over(now=accompanied.now) == []

    def test_nor_is_any_where_there_is_no_other_triggerer(self) -> None:
        scene = Scene()
        scene.waits("first")
        assert scene.called() == ["first"]
        scene.runs("job 1", task="first", was_called=True)
        scene.runs("job 2")
        scene.ends("job 1")
        assert not scene.queue.has_other_triggerers(scene.now)
        assert scene.queue.hand_over(now=scene.now) == []
        scene.waits("second")
        assert scene.called() == ["second"]

    def test_a_triggerer_that_was_started_again_watches_its_own_jobs(self) -> None:
        scene = Scene()
        scene.runs("job 1", ago=NEW_JOB + 1, was_called=True)
        assert not scene.queue.has_other_triggerers(scene.now)

    def test_a_task_that_never_came_back_is_with_another_for_a_while(self, full: Scene) -> None:
        full.ends("job 1")
        assert full.called() == ["first"]
        full.called_within(UNHEARD + 1)
        assert full.queue.has_other_triggerers(full.now)
        assert not full.queue.has_other_triggerers(full.now + OTHER_TRIGGERERS_SECONDS + 1)

    def test_each_end_that_is_taken_over_calls_one(self, full: Scene) -> None:
        full.waits("second")
        full.waits("third")
        full.now += 5
        full.queue.take_over([1, 2], now=full.now)
        assert full.called() == ["first", "second"]

    def test_one_that_was_seen_before_a_refusal_calls_nobody(self, full: Scene) -> None:
        full.now += 5
        full.queue.take_over([6], now=full.now)
        assert full.called() == []

    def test_a_refusal_proves_that_all_that_were_seen_before_are_taken(self, full: Scene) -> None:
        full.waits("second", pause=60)
        full.now += 5
        full.queue.take_over([1, 4, 2], now=full.now)
        full.queue.join(Waiter("somebody", 0.0), now=full.now, refused_at=full.now - 1.5)
        assert len(full.called()) == 1

    def test_a_job_for_which_another_one_called_takes_no_slot_that_got_free_here(self, full: Scene) -> None:
        full.queue.leave(full.waits("nobody"), now=full.now)
        full.ends("job 1")
        full.runs("another", was_called=True)
        assert full.called() == ["first"]

    def test_one_that_has_stood_by_too_long_is_not_told(self, full: Scene) -> None:
        full.waits("second")
        full.waits("third")
        full.runs("short", lasts=SOON)
        full.now += 57
        [ahead] = [call for call in full.calls() if not call.is_free]
        full.now += LONGEST_STAND_BY + full.queue.latency + 1
        full.ends("short")
        assert ahead.waiter.task == "second"
        assert full.called() == ["third"]

    @pytest.mark.parametrize(("are_refused", "most"), [(True, 20), (False, 150)])
    def test_probes_of_which_nothing_is_heard_get_rare_if_there_are_refusals(
        self, *, are_refused: bool, most: int
    ) -> None:
        scene = Scene()
        scene.runs("job 1")
        for number in range(400):
            scene.waits(f"task {number}", refused=True)
        made = 0
        for _ in range(3600):
            scene.now += 1
            called = scene.called()
            made += len(called)
            if called and are_refused:
                scene.waits(f"another for {called[0]}", refused=True)
        assert most / 2 < made < most

    @pytest.mark.parametrize("triggerers", [2, 3])
    @pytest.mark.parametrize(("seconds", "least"), [(60.0, 0.95), (90.0, 0.96), (180.0, 0.97)])
    def test_they_keep_an_account_in_use_as_one_does(
        self, seconds: float, least: float, *, triggerers: int
    ) -> None:
        found = Simulation(Scenario(300, 5, seconds, triggerers=triggerers)).run()
        assert found.steady_use > least
        assert found.refusals < 0.15
        assert found.extra_runs < 0.3


@settings(max_examples=40)
@given(
    videos=st.integers(1, 60),
    slots=st.integers(1, 8),
    seconds=st.sampled_from([5.0, 60.0, 300.0]),
    triggerers=st.integers(1, 3),
    others=st.integers(0, 4),
    is_limit_known=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_everybody_gets_a_slot_and_nobody_floods(
    videos: int, slots: int, seconds: float, *, triggerers: int, others: int, is_limit_known: bool, seed: int
) -> None:
    """Whatever others do: each video is made, and refused probes stay within the probes' own pauses."""
    scenario = Scenario(
        videos,
        slots,
        seconds,
        triggerers=triggerers,
        limit=slots if is_limit_known else None,
        others=others,
        seed=seed,
    )
    simulation = Simulation(scenario)
    simulation.run()
    assert all(task.accepted_at < task.ended_at for task in simulation.tasks)
    hours = simulation.now / 3600
    # Before the hint is known, each new task may be refused once; after that, only who was called.
    probes = triggerers * (8 + hours * 3600 / FIRST_PROBE)
    assert simulation.counts["refusals"] <= videos + probes
