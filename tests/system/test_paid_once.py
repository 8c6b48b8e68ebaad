# SPDX-License-Identifier: Apache-2.0
"""
A video is paid for once: misfortunes on a real Airflow, with the server's ledger as witness.

All scenarios play at the same time, as runs of their own on one Airflow; each test waits for its scenario. The
server finishes a job when the scenario says so, and not before.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import pytest

from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.system import lost_submits, scenarios
from tests.system.airflow_api import FINISHED_RUN
from tests.system.airflow_cluster import AirflowCluster
from tests.system.dags.paid_once import IMPATIENT_TIMEOUT
from tests.system.scenarios import DEATHS, UNCERTAIN, assert_paid_once, assert_uncertain
from tests.system.scene import PATIENCE, PAUSE, Scene, connect

Scenario = Callable[[Scene], None]

SCENARIOS: dict[str, Scenario] = {}
CONTINUES = "Kling task {} continues at the vendor, and is billed"
JOINING = "Joining Kling task {}"
LIES = {
    "the words of Node": ("", "socket hang up"),
    "the words of Go": ("do_request_failed", 'Post "https://api.example/v1/videos": EOF'),
    "words of its own": ("gateway_hiccup", "something went wrong, please try again"),
    "no words": ("", "error"),
    "the words of a timeout, in Chinese": ("fail_to_fetch_task", "上游请求超时"),
    "the words of a refusal": ("system_error", "no slot free, nothing was submitted"),
}
"""Codes and messages of a gateway that has submitted the job, and answers 500."""


def scenario(*cases: str) -> Callable[[Callable[..., None]], None]:
    """Register a scenario; once for each case, if there are any, which it gets as an argument."""

    def register(function: Callable[..., None]) -> None:
        for case in cases:
            SCENARIOS[f"{function.__name__}: {case}"] = partial(function, case=case)
        if not cases:
            SCENARIOS[function.__name__] = function

    return register


def errors_of(scene: Scene) -> list[str]:
    """Return what the attempts ended with for a submit of unknown fate."""
    said = [line.partition(UNCERTAIN)[2] for line in scene.log().splitlines()]
    return [message for message in said if message.startswith("A submit may have been accepted")]


# ---- the worker is killed ----------------------------------------------------------------------------------


@scenario(*DEATHS)
def killed_before_the_post(scene: Scene, case: str) -> None:
    """Nobody can know that it was not sent: a person looks, and says that there is no job."""
    scene.play("paid_once", point="before the POST", misfortune=case)
    scene.until("failed")
    assert_uncertain(scene)
    assert scene.bought() == []
    assert scene.on_record() == [("unknown", None)]
    scene.answer("none")
    scene.clear()
    task_id = scene.play_to_the_end()
    assert_paid_once(scene)
    assert scene.on_record() == [("dismissed", None), ("job", task_id)]


@scenario(*DEATHS)
def killed_before_the_answer(scene: Scene, case: str) -> None:
    scenarios.killed_before_the_answer(scene, "state store", case)


@scenario(*DEATHS, "fails")
def killed_before_the_record(scene: Scene, case: str) -> None:
    """The id was in memory only: each further attempt says the same, and none buys."""
    scene.play("paid_once", point="before the record", misfortune=case)
    scene.until("failed")
    scene.clear()
    scene.until("failed")
    scene.clear()
    scene.until("failed")
    assert len(scene.bought()) == 1
    assert_uncertain(scene)
    assert len(errors_of(scene)) >= 3
    assert len(set(errors_of(scene))) == 1
    (first,) = scene.bought()
    # A person who errs pays once more, and no more than once.
    scene.answer("none")
    scene.clear()
    second = scene.play_to_the_end()
    scene.clear()
    scene.until("success")
    assert scene.bought() == [first, second]
    assert scene.on_record() == [("dismissed", None), ("job", second)]


@scenario(*DEATHS)
def killed_before_the_deferral(scene: Scene, case: str) -> None:
    scene.play("paid_once", point="before the deferral", misfortune=case)
    scene.play_to_the_end()
    assert_paid_once(scene)


@scenario(*DEATHS)
def killed_at_the_resumption(scene: Scene, case: str) -> None:
    scene.play("paid_once", point="at the resumption", misfortune=case)
    scene.play_to_the_end()
    assert "attempt 2" in scene.log()
    assert_paid_once(scene)


@scenario(*DEATHS)
def killed_before_the_end(scene: Scene, case: str) -> None:
    scene.play("paid_once", point="before the end", misfortune=case)
    scene.play_to_the_end()
    assert "attempt 2" in scene.log()
    assert_paid_once(scene)


@scenario(*DEATHS)
def killed_in_a_blocking_wait(scene: Scene, case: str) -> None:
    scene.play("paid_once_blocking")
    task_id = scene.until_recorded()
    scene.kill(supervisor=case == "dies with its supervisor")
    scene.until_logged(JOINING.format(task_id))
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)


@scenario("folder", "variable")
def killed_without_a_state_store(scene: Scene, case: str) -> None:
    scenarios.killed_after_the_record(scene, case)
    if case == "variable":
        scene.wait_for(lambda: not scene.on_record(), "the Variable to be deleted")
    else:
        assert scene.on_record() == [("job", scene.bought()[0])]


@scenario("folder", "variable")
def killed_before_the_answer_without_a_state_store(scene: Scene, case: str) -> None:
    scenarios.killed_before_the_answer(scene, case)


@scenario()
def killed_with_two_records(scene: Scene) -> None:
    """The record lies in the state store and in a folder: what either holds counts."""
    scenarios.killed_before_the_answer(scene, "state store and folder")
    scene.clear()
    scene.until("success")
    assert_paid_once(scene)


@scenario()
def taken_for_dead_between_the_post_and_the_answer(scene: Scene) -> None:
    """
    Airflow comes to know late that the run is through which was refused, and deferred.

    It takes the run that was resumed meanwhile for the one that has ended, and fails it.
    """
    # Longer than Airflow needs: the POST does not end by itself meanwhile.
    with scene.server_of_its_own(read_timeout=600):
        scene.arrange(on="submit", kind="rate_limit")
        scene.arrange(on="submit", kind="delay_after", seconds=600, skip=1)
        scene.play("paid_once", point="after the deferral", misfortune="its supervisor stops")
        supervisor = scene.until_supervisor_asleep()
        try:
            (task_id,) = scene.until_bought(1)
            assert "attempt 2" not in scene.log()
        finally:
            supervisor.resume()
        scene.until("failed")
        # Before anybody clears it: Airflow ended the first attempt, and not the time-out of its POST.
        assert scene.airflow.task_instance(*scene.key)["try_number"] >= 2
        scenarios.adopted(scene, task_id)


# ---- the task fails, and is retried ------------------------------------------------------------------------


@scenario()
def failed_after_the_submit(scene: Scene) -> None:
    scene.play("paid_once", point="before the deferral", misfortune="fails")
    scene.play_to_the_end()
    assert_paid_once(scene)


@scenario("deferred", "blocking")
def timed_out(scene: Scene, case: str) -> None:
    """A retry joins the job, and waits as long again."""
    scene.play(f"paid_once_impatient_{case}")

    def deadlines() -> list[datetime]:
        # The log has each twice: in a line of its own, and in the error.
        found = dict.fromkeys(re.findall(r"at the deadline (\S+),", scene.log()))
        return [datetime.fromisoformat(deadline) for deadline in found]

    scene.wait_for(lambda: len(deadlines()) >= 2, "two deadlines to pass")
    first, second, *_ = deadlines()
    assert (second - first).total_seconds() >= IMPATIENT_TIMEOUT
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)
    assert "The job continues at the vendor" in scene.log()
    assert "again" not in scene.log()


@scenario()
def the_job_fails(scene: Scene) -> None:
    """A job that is dead is nothing to join: the retry buys another one."""
    scene.arrange(on="submit", kind="job_fails", message="render node lost")
    scene.play("paid_once")
    scene.until("deferred")
    scene.finish_jobs()
    failed, task_id = scene.until_bought(2)
    assert scene.play_to_the_end() == task_id
    assert scene.on_record() == [("job", failed), ("job", task_id)]


@scenario()
def the_trigger_crashes(scene: Scene) -> None:
    """The same attempt waits on for the same job."""
    scene.play("paid_once_with_crashing_trigger")
    task_id = scene.until_recorded()
    scene.until_logged(f"still waiting for Kling task {task_id}")
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)


# ---- a user clears the task, or marks it -------------------------------------------------------------------


@scenario()
def cleared_while_running_and_when_finished(scene: Scene) -> None:
    scene.play("paid_once")
    task_id = scene.until_watched()
    scene.clear()
    scene.until_logged(CONTINUES.format(task_id))
    scene.play_to_the_end()
    scene.clear()
    scene.until("success")
    assert_paid_once(scene)
    assert "For a new video from the same request, set another take" in scene.log()


@scenario("failed", "success")
def marked_while_running(scene: Scene, case: str) -> None:
    scene.play("paid_once")
    task_id = scene.until_watched()
    scene.mark(case)
    scene.until_logged(CONTINUES.format(task_id))
    scene.clear()
    scene.play_to_the_end()
    assert_paid_once(scene)


@scenario("cleared", "marked failed")
def ended_by_a_user_in_a_blocking_wait(scene: Scene, case: str) -> None:
    scene.play("paid_once_blocking")
    task_id = scene.until_recorded()
    if case == "marked failed":
        scene.mark("failed")
    else:
        scene.clear()
    scene.until_logged(CONTINUES.format(task_id))
    if case == "marked failed":
        scene.clear()
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)


@scenario()
def cleared_with_another_request(scene: Scene) -> None:
    """Another prompt and another take are bought; the first request again joins the first job again."""
    scene.play("paid_once_changeable")
    first = scene.play_to_the_end()
    scene.airflow.set_variable("paid_once_prompt", ", at night")
    scene.clear()
    second = scene.play_to_the_end()
    assert f"as Kling task {first}: that job is not joined" in scene.log()
    scene.airflow.set_variable("paid_once_take", "2")
    scene.clear()
    third = scene.play_to_the_end()
    assert scene.bought() == [first, second, third]
    scene.airflow.set_variable("paid_once_prompt", "")
    scene.airflow.set_variable("paid_once_take", "1")
    scene.clear()
    scene.until("success")
    assert scene.bought() == [first, second, third]
    assert scene.video_id() == first


@scenario()
def cleared_with_on_clear_resubmit(scene: Scene) -> None:
    """A clear buys again, a retry does not."""
    scene.play("paid_once_unless_cleared", point="at the resumption", misfortune="fails")
    scene.play_to_the_end()
    (first,) = scene.bought()
    scene.clear()
    second = scene.play_to_the_end()
    assert scene.bought() == [first, second]
    assert scene.on_record() == [("job", first), ("job", second)]


@scenario(*scenarios.CLEARS[::3])
def cleared_during_the_post(scene: Scene, case: str) -> None:
    scenarios.cleared_during_the_post(scene, "state store", case)


@scenario("in the POST of the other", "in the wait of the other")
def cleared_while_two_attempts_are_alive(scene: Scene, case: str) -> None:
    scenarios.cleared_while_two_attempts_are_alive(scene, "folder", case)


@scenario("in the POST of the other")
def cleared_while_two_attempts_share_a_variable(scene: Scene, case: str) -> None:
    scenarios.cleared_while_two_attempts_are_alive(scene, "variable", case)


# ---- a submit of unknown fate ------------------------------------------------------------------------------


@scenario(*LIES)
def the_gateway_lies(scene: Scene, case: str) -> None:
    """It has submitted the job, and answers with an error of its own: no retry follows, whatever it says."""
    code, message = LIES[case]
    scene.arrange(on="submit", kind="error", accepted=True, times=None, status=500, code=code, message=message)
    scene.play("paid_once")
    scene.until("failed")
    assert_uncertain(scene)
    assert scene.airflow.task_instance(*scene.key)["try_number"] == 1
    scene.clear()
    scene.until("failed")
    assert len(scene.bought()) == 1
    assert len(set(errors_of(scene))) == 1, errors_of(scene)
    (task_id,) = scene.bought()
    scene.answer(task_id)
    scene.clear()
    scene.play_to_the_end()
    assert_paid_once(scene)


@scenario()
def answered_in_bulk(scene: Scene) -> None:
    """One Variable says that none of the submits of an outage made a job; it does not count for later ones."""
    dag_id = "paid_once_answered_in_bulk"
    lost, later = [scene.part("one"), scene.part("two")], scene.part("three")
    begin = datetime.now(UTC)
    for one in lost:
        one.arrange(on="submit", kind="drop_before")
        one.play(dag_id)
    for one in lost:
        one.until("failed")
    end = datetime.now(UTC)
    time.sleep(1)
    later.arrange(on="submit", kind="drop_before")
    later.play(dag_id)
    later.until("failed")
    between = {"conn_id": "kling_paid_once", "dag_id": dag_id, "from": begin.isoformat(), "to": end.isoformat()}
    said = {"looked_at": datetime.now(UTC).isoformat(), "none_sent_between": [between]}
    scene.airflow.set_variable("kling_adopt", json.dumps(said))
    for one in (*lost, later):
        one.clear()
    for one in lost:
        one.play_to_the_end()
        assert_paid_once(one)
    later.until("failed")
    assert later.bought() == []
    said["answers"] = {later.uncertain()["name"]: "none"}
    scene.airflow.set_variable("kling_adopt", json.dumps(said))
    later.clear()
    later.play_to_the_end()
    assert_paid_once(later)
    assert len(scene.bought()) == 3


@scenario()
def resubmitted_by_argument(scene: Scene) -> None:
    """It pays twice at most, over all attempts."""
    scene.arrange(on="submit", kind="drop_after", times=None)
    scene.play("paid_once_or_twice")
    scene.until("failed")
    scene.clear()
    scene.until("failed")
    first, second = scene.bought()
    assert_uncertain(scene)
    assert scene.on_record() == [("dismissed", None), ("unknown", None)]
    scene.answer(second)
    scene.clear()
    assert scene.play_to_the_end() == second
    assert scene.bought() == [first, second]


# ---- the API is not there ----------------------------------------------------------------------------------


@scenario()
def an_outage(scene: Scene) -> None:
    """Nothing is sent to a server where something else answers; the task waits as for a slot."""
    with scene.server_of_its_own() as server:
        server.add_fault(Fault(on="probe", kind="proxy_error", times=None))
        scene.play("paid_once")
        scene.until("deferred")
        scene.wait_for(lambda: server.requests["probe"] >= 2, "a second probe")
        assert server.requests["submit"] == 0
        assert scene.on_record() == []
        server.clear_faults()
        scene.until_recorded()
        scene.play_to_the_end()
        assert_paid_once(scene)
        assert server.requests["submit"] == 1
        assert scene.airflow.task_instance(*scene.key)["try_number"] == 1


@scenario()
def a_wrong_key(scene: Scene) -> None:
    """It fails at once, with nothing sent."""
    with scene.server_of_its_own() as server:
        server.add_fault(Fault(on="probe", kind="error", status=401, message="who are you?", times=None))
        scene.play("paid_once")
        scene.until("failed")
        assert scene.airflow.task_instance(*scene.key)["try_number"] == 1
        assert "KlingAuthenticationError: " in scene.log()
        assert server.requests["submit"] == 0
        assert scene.on_record() == []


# ---- the play ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vendor(cluster: AirflowCluster) -> Iterator[Sandbox]:
    """A server of this module's own, behind the connection of its DAGs."""
    with Sandbox(run_seconds=3600) as vendor:
        connect(cluster.api, "kling_paid_once", vendor)
        cluster.api.wait_for_dags({"paid_once", "paid_once_many"})
        yield vendor


@pytest.fixture(scope="module")
def platform(cluster: AirflowCluster) -> Iterator[Sandbox]:
    """Kling's own platform, behind connections for both kinds of keys."""
    with Sandbox(api="official", run_seconds=3600) as platform:
        lost_submits.connect_to_platform(cluster.api, platform)
        yield platform


@pytest.fixture(scope="module")
def outcomes(
    cluster: AirflowCluster, vendor: Sandbox, platform: Sandbox, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[None]]]:
    """Start the scenarios of all selected tests at once."""
    names = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function in (test_paid_once, test_lost_submits)
    ]
    with ThreadPoolExecutor(len(names)) as pool:

        def start(name: str) -> Future[None]:
            to_scene = partial(Scene, cluster, prompt=f"<{name}>")
            if found := lost_submits.SCENARIOS.get(name):
                return pool.submit(found.play, to_scene(platform, conn_id=found.conn_id))
            return pool.submit(SCENARIOS[name], to_scene(vendor))

        yield {name: start(name) for name in names}


@pytest.mark.parametrize("name", SCENARIOS)
def test_paid_once(name: str, outcomes: dict[str, Future[None]]) -> None:
    outcomes[name].result()


@pytest.mark.parametrize("name", lost_submits.SCENARIOS)
def test_lost_submits(name: str, outcomes: dict[str, Future[None]]) -> None:
    """On Kling's own platform no kill and no loss needs a person's word."""
    outcomes[name].result()


def test_the_triggerer_is_killed_while_videos_wait(cluster: AirflowCluster, vendor: Sandbox) -> None:
    airflow = cluster.api
    dag_id, prompt, count = "paid_once_many", "<one of many>", 50
    run_id = airflow.trigger_dag(dag_id, {"prompt": prompt, "count": count})

    def states() -> list[str]:
        return [task["state"] for task in airflow.task_instances(dag_id, run_id, "generate")]

    cluster.wait_for(lambda: states() == ["deferred"] * count, "all to wait", timeout=PATIENCE, pause=PAUSE)
    cluster.kill("triggerer")
    bought = [entry["id"] for entry in vendor.ledger() if prompt in entry["request"]["prompt"]]
    # Half of the videos are finished while nobody looks.
    for task_id in bought[::2]:
        vendor.finish(task_id)
    cluster.restart("triggerer")
    for task_id in bought[1::2]:
        vendor.finish(task_id)

    def ended() -> str:
        state = str(airflow.run(dag_id, run_id)["state"])
        return state if state in FINISHED_RUN else ""

    state = cluster.wait_for(ended, "the run to end", timeout=PATIENCE + 5 * count, pause=PAUSE)
    assert state == "success", airflow.report(dag_id, run_id)
    returned = [
        airflow.xcom(dag_id, run_id, "generate", map_index=index)["kling_task_id"] for index in range(count)
    ]
    assert sorted(returned) == sorted(bought)
    assert len([entry for entry in vendor.ledger() if prompt in entry["request"]["prompt"]]) == count
