# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.job import Status, VideoJob
from airflow_provider_kling.jobs.progress import (
    CHANGE_INTERVAL,
    FIRST_REST,
    LONGEST_REST,
    REFRESH_INTERVAL,
    WRITE_INTERVAL,
    Progress,
    Sight,
    WriteQueue,
    waiting_for_slot,
)

START = 1_700_000_000.0


def job(status: Status, progress: int | None = None) -> VideoJob:
    return VideoJob(kling_task_id="task_1", status=status, progress=progress)


def progress(percent: int = 0, seen_at: float = START) -> Progress:
    return Progress(phase="in_progress", percent=percent, submitted_at=START, making_since=START, seen_at=seen_at)


class TestWhatIsWritten:
    def test_a_video_that_waits_for_a_slot(self) -> None:
        assert waiting_for_slot(now=START) == {
            "phase": "waiting_for_slot",
            "percent": None,
            "submitted_at": None,
            "making_since": None,
            "seen_at": START,
        }

    def test_the_making_begins_with_the_first_check_that_sees_it(self) -> None:
        sight = Sight(submitted_at=START, now=START + 1)
        seen = [
            sight.progress(None, now=START + 1),
            sight.progress(job("queued"), now=START + 10),
            sight.progress(job("running"), now=START + 20),
            sight.progress(job("running", 40), now=START + 30),
            sight.progress(job("completed", 100), now=START + 40),
        ]
        assert [(one["phase"], one["percent"], one["making_since"]) for one in seen] == [
            ("queued", None, None),
            ("queued", None, None),
            ("in_progress", None, START + 20),
            ("in_progress", 40, START + 20),
            ("in_progress", 100, START + 20),
        ]
        assert {one["submitted_at"] for one in seen} == {START}
        assert seen[-1]["seen_at"] == START + 40

    def test_a_job_that_is_made_at_once(self) -> None:
        assert (
            Sight(submitted_at=START, now=START).progress(job("running"), now=START + 5)["making_since"]
            == START + 5
        )

    @pytest.mark.parametrize("submitted_at", [START - 600, None])
    def test_a_wait_that_starts_late_does_not_know_when_the_making_began(self, submitted_at: float | None) -> None:
        sight = Sight(submitted_at=submitted_at, now=START)
        assert sight.progress(job("running"), now=START + 5)["making_since"] is None
        assert sight.progress(job("running", 50), now=START + 15)["making_since"] is None


class TestTheOrderOfTheWrites:
    def test_the_first_write_of_a_video_is_due_at_once(self) -> None:
        queue: WriteQueue[str] = WriteQueue()
        queue.update("a", progress(), now=0.0)
        assert queue.take(now=0.0) == ("a", progress())
        assert queue.take(now=1000.0) is None

    def test_the_newest_value_wins_and_keeps_the_place_in_the_queue(self) -> None:
        queue: WriteQueue[str] = WriteQueue()
        queue.update("a", progress(1), now=0.0)
        queue.update("b", progress(2), now=0.1)
        queue.update("a", progress(3), now=0.2)
        assert queue.take(now=1.0) == ("a", progress(3))
        assert queue.take(now=2.0) == ("b", progress(2))

    def test_a_change_is_written_sooner_than_a_new_time_alone(self) -> None:
        queue: WriteQueue[str] = WriteQueue()
        for key in ("changes", "stays"):
            queue.update(key, progress(), now=0.0)
        assert queue.take(now=0.0)
        assert queue.take(now=WRITE_INTERVAL)
        for key, percent in (("changes", 1), ("stays", 0)):
            queue.update(key, progress(percent, START + 1), now=1.0)
        assert queue.take(now=CHANGE_INTERVAL - 0.01) is None
        assert queue.take(now=CHANGE_INTERVAL) == ("changes", progress(1, START + 1))
        assert queue.take(now=REFRESH_INTERVAL) is None
        assert queue.take(now=REFRESH_INTERVAL + WRITE_INTERVAL) == ("stays", progress(0, START + 1))

    def test_a_change_while_a_new_time_waits_moves_the_write_forward(self) -> None:
        queue: WriteQueue[str] = WriteQueue()
        queue.update("a", progress(), now=0.0)
        assert queue.take(now=0.0)
        queue.update("a", progress(0, START + 1), now=1.0)
        queue.update("a", progress(5, START + 20), now=20.0)
        assert queue.take(now=20.0) == ("a", progress(5, START + 20))
        assert queue.take(now=REFRESH_INTERVAL) is None

    def test_a_video_that_has_ended_is_not_written(self) -> None:
        queue: WriteQueue[str] = WriteQueue()
        queue.update("a", progress(), now=0.0)
        queue.update("b", progress(), now=0.0)
        queue.leave("a")
        queue.leave("never there")
        assert len(queue) == 1
        assert queue.take(now=1.0) == ("b", progress())

    def test_a_task_that_is_tried_again_at_once_keeps_the_pause(self) -> None:
        queue: WriteQueue[str] = WriteQueue()
        queue.update("a", progress(), now=0.0)
        assert queue.take(now=0.0)
        queue.leave("a")
        queue.update("a", progress(50), now=2.0)
        assert queue.take(now=9.0) is None
        assert queue.take(now=10.0) == ("a", progress(50))

    def test_failed_writes_pause_all_writes_for_longer_and_longer(self) -> None:
        queue: WriteQueue[str] = WriteQueue()
        now, pauses = 0.0, []
        for number in range(9):
            queue.update(str(number), progress(), now=now)
            before = now
            while queue.take(now=now) is None:
                now += 0.5
            pauses.append(now - before)
            queue.failed(now=now)
        assert pauses[:4] == [0.0, FIRST_REST, 2 * FIRST_REST, 4 * FIRST_REST]
        assert pauses[-1] == LONGEST_REST
        queue.succeeded()
        queue.update("last", progress(), now=now + LONGEST_REST)
        assert queue.take(now=now + LONGEST_REST)
        queue.failed(now=now)
        queue.update("more", progress(), now=now)
        assert queue.take(now=now + FIRST_REST)

    def test_videos_that_come_and_go_leave_nothing_behind(self) -> None:
        queue: WriteQueue[int] = WriteQueue()
        for number in range(50_000):
            queue.update(number, progress(), now=number * 0.01)
            queue.take(now=number * 0.01)
            if number >= 10:
                queue.leave(number - 10)
        sizes = [len(value) for value in vars(queue).values() if hasattr(value, "__len__")]
        assert max(sizes) < 1000


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["update", "update", "same", "leave", "take", "take"]),
        st.integers(0, 6),
        st.sampled_from([0.0, 0.05, 0.2, 1.0, 4.0, 15.0]),
    ),
    max_size=200,
)


@given(STEPS)
def test_both_bounds_and_the_newest_value_whatever_happens(steps: list[tuple[str, int, float]]) -> None:
    queue: WriteQueue[int] = WriteQueue()
    newest: dict[int, Progress] = {}
    written: defaultdict[int, list[float]] = defaultdict(list)
    now = 0.0
    for number, (step, key, pause) in enumerate(steps):
        now += pause
        if step == "leave":
            queue.leave(key)
            newest.pop(key, None)
        elif step == "take":
            if (write := queue.take(now=now)) is not None:
                assert write == (write[0], newest[write[0]])
                written[write[0]].append(now)
        else:
            percent: Any = number if step == "update" else newest.get(key, progress())["percent"]
            newest[key] = progress(percent, START + now)
            queue.update(key, newest[key], now=now)
        assert len(queue) == len(newest)
    every = sorted(moment for moments in written.values() for moment in moments)
    assert all(later - earlier >= WRITE_INTERVAL - 1e-9 for earlier, later in pairwise(every))
    for moments in written.values():
        gaps = [later - earlier for earlier, later in pairwise(moments)]
        assert all(gap >= CHANGE_INTERVAL - 1e-9 for gap in gaps)


@given(
    st.integers(1, 200),
    st.floats(0.5, 30.0),
    st.lists(st.booleans(), min_size=1, max_size=20),
)
def test_the_writes_are_shared_fairly(videos: int, poll_interval: float, changing: list[bool]) -> None:
    """A write that is due waits for one write of each other video at most, however often others change."""
    queue: WriteQueue[int] = WriteQueue()
    written: defaultdict[int, list[float]] = defaultdict(list)
    polled = [0.0] * videos
    now = 0.0
    while now < 200.0:
        for video in range(videos):
            if now >= polled[video]:
                polled[video] = now + poll_interval
                changes = changing[video % len(changing)]
                queue.update(video, progress(int(now) if changes else 0, START + now), now=now)
        if (write := queue.take(now=now)) is not None:
            written[write[0]].append(now)
        now += WRITE_INTERVAL
    round_of_all = videos * WRITE_INTERVAL
    for video in range(videos):
        pause = CHANGE_INTERVAL if changing[video % len(changing)] else REFRESH_INTERVAL
        moments = [0.0, *written[video], now]
        longest = max(later - earlier for earlier, later in pairwise(moments))
        assert longest <= pause + poll_interval + round_of_all + 1.0
    counts = [len(written[video]) for video in range(videos) if changing[video % len(changing)]]
    assert not counts or max(counts) <= 1.5 * min(counts) + 2  # the checks of some come when their writes are due
