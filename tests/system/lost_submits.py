# SPDX-License-Identifier: Apache-2.0
"""
Kills and losses around the submit on Kling's own platform: each ends in one video, without a person's word.

The connections name a host of the vendor, and have the sandbox as their proxy; see ``tests/fixtures/platform.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from airflow_provider_kling.sandbox import Sandbox
from tests.fixtures.platform import API_KEY, PAIR, connection_to
from tests.system.airflow_api import AirflowApi
from tests.system.scenarios import UNCERTAIN, assert_paid_once
from tests.system.scene import Scene, set_connection

CONNECTIONS = {API_KEY: "kling_platform", PAIR: "kling_platform_pair"}
BEFORE_ACCEPTANCE, AFTER_ACCEPTANCE = "before the acceptance", "after the acceptance"
LATE_SECONDS = 45
"""Seconds after which a request arrives whose sender was killed: its job is looked for and bought by then."""
DIES, WITH_SUPERVISOR = "dies", "dies with its supervisor"


def connect_to_platform(airflow: AirflowApi, platform: Sandbox) -> None:
    """Make a connection for each kind of key; a lost submit is looked up again after the shortest pause, 10 s."""
    for keys, conn_id in CONNECTIONS.items():
        set_connection(airflow, conn_id, connection_to(platform, keys=keys, connect_timeout=10, read_timeout=9))


class Kill(NamedTuple):
    """
    A kill of the process that submits.

    :param moment: A key of ``perils.POINTS``, or when the server has the request.
    :param record: A key of ``perils.RECORDS``.
    :param keys: The kind of key.
    :param death: A key of ``perils.MISFORTUNES``.
    """

    moment: str
    record: str
    keys: str = API_KEY
    death: str = DIES


KILLS = (
    Kill("before the intent", "variable"),
    Kill("before the POST", "state store", API_KEY, WITH_SUPERVISOR),
    Kill("before the POST", "state store and folder", PAIR),
    Kill("before the POST", "folder"),
    Kill("before the POST", "variable", PAIR),
    Kill(BEFORE_ACCEPTANCE, "state store", PAIR),
    Kill(BEFORE_ACCEPTANCE, "folder"),
    Kill(AFTER_ACCEPTANCE, "state store", PAIR),
    Kill(AFTER_ACCEPTANCE, "state store and folder"),
    Kill(AFTER_ACCEPTANCE, "folder", PAIR, WITH_SUPERVISOR),
    Kill(AFTER_ACCEPTANCE, "variable"),
    Kill("before the record", "state store", API_KEY, "fails"),
    Kill("before the record", "state store and folder", PAIR),
    Kill("before the record", "folder"),
    Kill("before the record", "variable", API_KEY, WITH_SUPERVISOR),
    Kill("before the deferral", "state store", PAIR),
    Kill("at the resumption", "folder"),
    Kill("before the end", "variable", PAIR),
)
"""Each place of a record meets each moment at which the fate of a submit is unknown."""


def assert_bought_once(scene: Scene) -> None:
    """One job was accepted, its video was returned, and no attempt asked for a person's word."""
    assert_paid_once(scene)
    assert UNCERTAIN not in scene.log(), scene.report()
    assert "unknown" not in [fate for fate, _ in scene.on_record()], scene.report()


def killed(scene: Scene, kill: Kill) -> None:
    if kill.moment in (BEFORE_ACCEPTANCE, AFTER_ACCEPTANCE):
        kill_in_the_post(scene, kill)
    else:
        scene.play("paid_once", record=kill.record, point=kill.moment, misfortune=kill.death)
    killed_at = time.monotonic()
    scene.play_to_the_end()
    assert "attempt 2" in scene.log()
    if kill.moment == BEFORE_ACCEPTANCE:
        # The request of the process that was killed arrives, and is a duplicate.
        time.sleep(max(0.0, killed_at + LATE_SECONDS + 1 - time.monotonic()))
    assert_bought_once(scene)


def kill_in_the_post(scene: Scene, kill: Kill, dag_id: str = "paid_once") -> None:
    """
    Kill the process that submits while it waits for the response.

    It stops before its POST until it is known: its read timeout ends the wait for the response soon.
    """
    if kill.moment == BEFORE_ACCEPTANCE:
        scene.arrange(on="submit", kind="delay_before", seconds=LATE_SECONDS)
    else:
        scene.arrange(on="submit", kind="delay_after", seconds=600)
    scene.play(dag_id, record=kill.record, point="before the POST", misfortune="stops")
    process, _ = scene.until_asleep()
    process.resume()

    def is_sent() -> bool:
        waiting = [fault for fault in scene.sandbox.faults() if fault.get("match") == scene.prompt]
        return "submit" not in [fault["on"] for fault in waiting]

    scene.wait_for(is_sent, f"the POST of {scene.prompt!r}", pause=0.2)
    if kill.moment == AFTER_ACCEPTANCE:
        scene.until_bought(1)
    scene.kill(supervisor=kill.death == WITH_SUPERVISOR, process=process)


def killed_while_look_ups_fail(scene: Scene) -> None:
    scene.arrange(on="find", kind="error", status=503, times=3)
    kill_in_the_post(scene, Kill(AFTER_ACCEPTANCE, "state store"))
    scene.play_to_the_end()
    assert "The lost submit cannot be looked up now" in scene.log()
    assert_bought_once(scene)


def killed_and_not_visible_yet(scene: Scene) -> None:
    """The job is found by the refusal of its duplicate."""
    # Two look-ups, on each of three routes.
    scene.arrange(on="find", kind="not_visible", times=6)
    kill_in_the_post(scene, Kill(AFTER_ACCEPTANCE, "folder"))
    scene.play_to_the_end()
    assert "submitting with the same client token" in scene.log()
    assert_bought_once(scene)


def killed_and_cleared(scene: Scene) -> None:
    """A clear of a lost submit buys no other, although a clear of a job would."""
    kill_in_the_post(scene, Kill(AFTER_ACCEPTANCE, "state store"), "paid_once_unless_cleared")
    scene.clear()
    scene.play_to_the_end()
    assert_bought_once(scene)


def killed_on_the_new_standard(scene: Scene) -> None:
    kill_in_the_post(scene, Kill(AFTER_ACCEPTANCE, "state store"), "paid_once_on_the_new_standard")
    scene.play_to_the_end()
    assert_bought_once(scene)


def request_and_answer_lost(scene: Scene) -> None:
    """One attempt loses a request, then the answer to the next."""
    scene.arrange(on="submit", kind="drop_before")
    scene.arrange(on="submit", kind="drop_after")
    scene.play("paid_once")
    scene.play_to_the_end()
    assert scene.airflow.task_instance(*scene.key)["try_number"] == 1
    assert_bought_once(scene)


def killed_without_a_record(scene: Scene) -> None:
    kill_in_the_post(scene, Kill(AFTER_ACCEPTANCE, "none"))
    scene.play_to_the_end()
    assert scene.on_record() == []
    assert_bought_once(scene)


def failed_without_a_record(scene: Scene) -> None:
    """A retry buys a job in place of one that failed, under another external id."""
    scene.arrange(on="submit", kind="job_fails", message="render node lost")
    scene.play("paid_once", record="none")
    scene.until("deferred")
    scene.finish_jobs()
    failed, task_id = scene.until_bought(2)
    assert scene.play_to_the_end() == task_id
    scene.clear()
    scene.until("success")
    assert scene.bought() == [failed, task_id]
    entries = [entry for entry in scene.sandbox.ledger() if entry["id"] in (failed, task_id)]
    assert len({entry["effective"]["external_id"] for entry in entries}) == 2
    assert UNCERTAIN not in scene.log()


OTHERS: tuple[Callable[[Scene], None], ...] = (
    killed_while_look_ups_fail,
    killed_and_not_visible_yet,
    killed_and_cleared,
    killed_on_the_new_standard,
    request_and_answer_lost,
    killed_without_a_record,
    failed_without_a_record,
)


class Platform(NamedTuple):
    """A scenario on Kling's own platform, and the connection that it needs."""

    play: Callable[[Scene], Any]
    conn_id: str


SCENARIOS: dict[str, Platform] = {
    **{
        f"killed {', '.join(kill)}": Platform(partial(killed, kill=kill), CONNECTIONS[kill.keys]) for kill in KILLS
    },
    **{play.__name__: Platform(play, CONNECTIONS[API_KEY]) for play in OTHERS},
}
