# SPDX-License-Identifier: Apache-2.0
"""
What is played wherever a record of submits may live, on every Airflow version that has a scheduler to play it.

Each scenario gets the key of ``RECORDS`` that says where its record lives, and maybe a case.
"""

from __future__ import annotations

import time

from tests.system.scene import Scene

DEATHS = ("dies", "dies with its supervisor")
UNCERTAIN = "KlingUncertainSubmissionError: "
POST_SECONDS = 8
"""Seconds that an interrupted POST takes: longer than Airflow needs to see that a task was cleared."""
CLEARS = (
    "with the intent",
    "1 s later",
    "2 s later",
    "3 s later",
    "5 s later",
    "7 s later",
    "8 s later",
    "9 s later",
)
"""When a task is cleared, counted from the record of its intent, or the moment that the server took the job."""


def assert_paid_once(scene: Scene) -> None:
    """One job was accepted, and the task returned its video."""
    (task_id,) = scene.bought()
    assert scene.video_id() == task_id, scene.report()


def assert_uncertain(scene: Scene) -> None:
    """The task failed for a submit of unknown fate, which one can find by what XCom holds."""
    submit = scene.record().unknown()[0]
    named = scene.uncertain()
    assert UNCERTAIN in scene.log()
    assert named["name"] in scene.log()
    assert named["name"].removeprefix("kling_adopt_") == submit.id[:12]
    assert (named["conn_id"], named["prompt"], bool(named["sent_at"])) == (submit.conn_id, scene.prompt, True)


def killed_before_the_answer(scene: Scene, record: str, case: str = "dies") -> None:
    """Retries and clears buy nothing, until a person finds the job at the vendor and says its id."""
    scene.arrange(on="submit", kind="delay_after", seconds=600)
    scene.play("paid_once", record=record)
    (task_id,) = scene.until_bought(1)
    scene.kill(supervisor=case == "dies with its supervisor")
    adopted(scene, task_id)


def adopted(scene: Scene, task_id: str) -> None:
    """The attempt that submitted is lost: no other one buys, until a person names its job."""
    scene.until("failed")
    assert_uncertain(scene)
    scene.clear()
    scene.until("failed")
    assert scene.bought() == [task_id]
    assert scene.on_record() == [("unknown", None)]
    scene.answer(task_id)
    scene.clear()
    scene.until("deferred")
    assert scene.on_record() == [("job", task_id)]
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)


def killed_after_the_record(scene: Scene, record: str, case: str = "dies") -> None:
    """The retry joins."""
    scene.play("paid_once", record=record, point="before the deferral", misfortune=case)
    scene.until("deferred")
    (task_id,) = scene.bought()
    assert scene.on_record() == [("job", task_id)]
    scene.play_to_the_end()
    assert f"Joining Kling task {task_id}" in scene.log()
    assert_paid_once(scene)


def cleared_during_the_post(scene: Scene, record: str, case: str) -> None:
    """Whichever attempt comes to know the job: nothing is bought twice, and a word is heard if one is needed."""
    if case == CLEARS[0]:
        scene.arrange(on="submit", kind="delay_before", seconds=POST_SECONDS)
        scene.play("paid_once", record=record)
        scene.until_intended()
    else:
        scene.arrange(on="submit", kind="delay_after", seconds=POST_SECONDS)
        scene.play("paid_once", record=record)
        scene.until_bought(1)
        time.sleep(float(case.partition(" ")[0]))
    scene.clear()
    settle(scene)


def cleared_while_two_attempts_are_alive(scene: Scene, record: str, case: str) -> None:
    """Airflow takes a worker for dead that sleeps before its submit; it wakes up beside the one in its place."""
    scene.arrange(on="submit", kind="delay_after", seconds=POST_SECONDS, times=None)
    scene.play("paid_once", record=record, point="before the intent", misfortune="falls asleep")
    sleepers = scene.until_asleep()
    scene.until_bought(1)
    if case == "in the wait of the other":
        scene.until("deferred")
    for process in sleepers:
        process.resume()
    scene.clear()
    settle(scene)


def settle(scene: Scene) -> None:
    """Response for each submit that stops the task, and see it through to the end with the one job."""
    while scene.until("failed", "deferred") == "failed":
        (task_id,) = scene.until_bought(1)
        # An attempt that was still in its POST may have recorded the id since.
        if scene.record().unknown():
            scene.answer("none" if ("job", task_id) in scene.on_record() else task_id)
        scene.clear()
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)
