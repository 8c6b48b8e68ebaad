# SPDX-License-Identifier: Apache-2.0
"""
A video is paid for once: misfortunes on a real Airflow, with the server's ledger as witness.

All scenarios play at the same time, as runs of their own on one Airflow; each test waits for its scenario. The
server finishes a job when the scenario says so, and not before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial

import pytest

from airflow_provider_kling.sandbox import Sandbox
from tests.system.airflow_api import wait_for
from tests.system.airflow_cluster import AirflowCluster
from tests.system.dags.paid_once import IMPATIENT_TIMEOUT
from tests.system.scene import PATIENCE, PAUSE, Scene

Scenario = Callable[[Scene], None]

SCENARIOS: dict[str, Scenario] = {}
DEATHS = ("dies", "dies with its supervisor")
UNCERTAIN = "KlingUncertainSubmissionError: "
GOES_ON = "Kling task {} goes on at the vendor, and bills"
JOINING = "Joining Kling task {}"


def scenario(*cases: str) -> Callable[[Callable[..., None]], None]:
    """Register a scenario; once for each case, if there are any, which it gets as an argument."""

    def register(function: Callable[..., None]) -> None:
        for case in cases:
            SCENARIOS[f"{function.__name__}: {case}"] = partial(function, case=case)
        if not cases:
            SCENARIOS[function.__name__] = function

    return register


def assert_paid_once(scene: Scene) -> None:
    """One job was accepted, it is on record, and the task returned its video."""
    (task_id,) = scene.bought()
    assert scene.video_id() == task_id
    assert on_record(scene) == [("submitted", task_id)]


def on_record(scene: Scene) -> list[tuple[str, str | None]]:
    return [(entry["state"], entry["task_id"]) for entry in scene.record()]


# ---- the worker is killed ----------------------------------------------------------------------------------


@scenario(*DEATHS)
def killed_before_the_post(scene: Scene, case: str) -> None:
    """Nobody can know that it was not sent: a person looks, and clears the task."""
    scene.play("paid_once", point="before the POST", misfortune=case)
    scene.until("failed")
    assert scene.bought() == []
    assert on_record(scene) == [("uncertain", None)]
    assert UNCERTAIN in scene.log()
    scene.clear()
    scene.play_to_the_end()
    assert_paid_once(scene)


@scenario(*DEATHS)
def killed_before_the_answer(scene: Scene, case: str) -> None:
    """A person finds the job at the vendor, hands its id over and clears the task."""
    scene.arrange(on="submit", kind="delay_after", seconds=600)
    scene.play("paid_once")
    (task_id,) = scene.until_bought(1)
    scene.kill(supervisor=case == "dies with its supervisor")
    scene.until("failed")
    assert scene.bought() == [task_id]
    assert on_record(scene) == [("uncertain", None)]
    assert UNCERTAIN in scene.log()
    variable = re.search(r"Airflow Variable (\w+)", scene.log())
    assert variable is not None
    scene.airflow.set_variable(variable[1], task_id)
    scene.clear()
    scene.play_to_the_end()
    assert_paid_once(scene)


@scenario(*DEATHS)
def killed_before_the_record(scene: Scene, case: str) -> None:
    """The id was in memory only; whoever clears the task without an id says that there is no job."""
    scene.play("paid_once", point="before the record", misfortune=case)
    scene.until("failed")
    (first,) = scene.bought()
    assert on_record(scene) == [("uncertain", None)]
    scene.clear()
    second = scene.play_to_the_end()
    assert scene.bought() == [first, second]
    assert on_record(scene) == [("submitted", second)]


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


@scenario("before the deferral", "before the record")
def killed_without_a_state_store(scene: Scene, case: str) -> None:
    """The record lies in object storage."""
    scene.play("paid_once_without_state_store", point=case, misfortune="dies")
    if case == "before the record":
        scene.until("failed")
        assert UNCERTAIN in scene.log()
        assert len(scene.bought()) == 1
    else:
        video_id = scene.play_to_the_end()
        assert scene.bought() == [video_id]
    assert scene.record() == []


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
        return [datetime.fromisoformat(found) for found in re.findall(r"at the deadline (\S+),", scene.log())]

    wait_for(lambda: len(deadlines()) >= 2, "two deadlines to pass", timeout=PATIENCE, pause=PAUSE)
    first, second, *_ = deadlines()
    assert (second - first).total_seconds() >= IMPATIENT_TIMEOUT
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)
    assert "The job goes on at the vendor" in scene.log()
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
    (entry,) = scene.record()
    assert (entry["task_id"], entry["earlier"]) == (task_id, [failed])


@scenario()
def the_trigger_crashes(scene: Scene) -> None:
    """The same attempt waits on for the same job."""
    scene.play("paid_once_with_crashing_trigger")
    task_id = scene.until_recorded()
    scene.until_logged(f"waiting on for Kling task {task_id}")
    scene.finish_jobs()
    scene.until("success")
    assert_paid_once(scene)


# ---- a user clears the task, or marks it -------------------------------------------------------------------


@scenario()
def cleared_while_running_and_when_finished(scene: Scene) -> None:
    scene.play("paid_once")
    task_id = scene.until_watched()
    scene.clear()
    scene.until_logged(GOES_ON.format(task_id))
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
    scene.until_logged(GOES_ON.format(task_id))
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
    scene.until_logged(GOES_ON.format(task_id))
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
    (entry,) = scene.record()
    assert (entry["task_id"], entry["earlier"]) == (second, [first])


# ---- the play ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vendor(cluster: AirflowCluster) -> Iterator[Sandbox]:
    """A server of this module's own, behind the connection of its DAGs."""
    with Sandbox(run_seconds=3600) as vendor:
        cluster.api.set_connection(
            {
                "connection_id": "kling_paid_once",
                "conn_type": "kling",
                "host": vendor.base_url,
                "password": vendor.api_key,
            }
        )
        cluster.api.wait_for_dags({"paid_once", "paid_once_many"})
        yield vendor


@pytest.fixture(scope="module")
def outcomes(
    cluster: AirflowCluster, vendor: Sandbox, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[None]]]:
    """Start the scenarios of all selected tests at once."""
    names = [
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_paid_once
    ]
    with ThreadPoolExecutor(len(names)) as pool:

        def start(name: str) -> Future[None]:
            return pool.submit(SCENARIOS[name], Scene(cluster.api, vendor, prompt=f"<{name}>"))

        yield {name: start(name) for name in names}


@pytest.mark.parametrize("name", SCENARIOS)
def test_paid_once(name: str, outcomes: dict[str, Future[None]]) -> None:
    outcomes[name].result()


def test_the_triggerer_is_killed_while_videos_wait(cluster: AirflowCluster, vendor: Sandbox) -> None:
    airflow = cluster.api
    dag_id, prompt, count = "paid_once_many", "<one of many>", 50
    run_id = airflow.trigger_dag(dag_id, {"prompt": prompt, "count": count})

    def states() -> list[str]:
        return [task["state"] for task in airflow.task_instances(dag_id, run_id, "generate")]

    wait_for(lambda: states() == ["deferred"] * count, "all to wait", timeout=PATIENCE, pause=PAUSE)
    cluster.kill("triggerer")
    bought = [entry["id"] for entry in vendor.ledger() if prompt in entry["request"]["prompt"]]
    # Half of the videos are finished while nobody looks.
    for task_id in bought[::2]:
        vendor.finish(task_id)
    cluster.restart("triggerer")
    for task_id in bought[1::2]:
        vendor.finish(task_id)
    state = airflow.wait_for_run(dag_id, run_id, timeout=PATIENCE + 5 * count)
    assert state == "success", airflow.report(dag_id, run_id)
    returned = [airflow.xcom(dag_id, run_id, "generate", map_index=index)["task_id"] for index in range(count)]
    assert sorted(returned) == sorted(bought)
    assert len([entry for entry in vendor.ledger() if prompt in entry["request"]["prompt"]]) == count
