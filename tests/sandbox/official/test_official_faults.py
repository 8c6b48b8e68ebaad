# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import Fault, Sandbox, SandboxClient

if TYPE_CHECKING:
    from collections.abc import Callable

CUT = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
COSTS = "/account/costs?start_time=0&end_time=99999999999999"


class TestSubmit:
    @pytest.mark.parametrize(("kind", "jobs"), [("drop_before", 0), ("drop_after", 1)])
    def test_a_lost_answer(self, caller: Any, kind: str, jobs: int) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind=kind, match="dag-1"))
        with pytest.raises(CUT):
            caller.legacy(external_task_id="dag-1")
        assert len(caller.sandbox.ledger()) == jobs
        assert caller.status("dag-1").ok is bool(jobs)
        assert caller.legacy(external_task_id="dag-1").ok is not bool(jobs)
        assert len(caller.sandbox.ledger()) == 1

    @pytest.mark.parametrize("accepted", [False, True])
    @pytest.mark.parametrize(("status", "code"), [(500, 5000), (503, 5001), (504, 5002)])
    def test_an_error_of_the_server(self, caller: Any, status: int, code: int, accepted: bool) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="error", status=status, accepted=accepted))
        answer = caller.new()
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert set(answer.json()) == {"code", "message", "request_id"}
        assert len(caller.sandbox.ledger()) == accepted

    def test_the_code_and_the_words_of_an_error(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="error", status=429, code=1101, message="in arrears"))
        body = caller.legacy().json()
        assert (body["code"], body["message"]) == (1101, "in arrears")

    def test_the_usual_rate_limit(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="rate_limit"))
        answer = caller.legacy()
        assert (answer.status_code, answer.json()["code"]) == (429, 1303)

    def test_content_refused(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="refuse_content"))
        answer = caller.legacy()
        assert (answer.status_code, answer.json()["code"]) == (400, 1301)
        assert caller.sandbox.ledger() == []

    def test_an_error_of_another_server_on_the_way(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="proxy_error"))
        assert caller.legacy().headers["Content-Type"] == "text/html"

    def test_the_refusal_of_a_duplicate_is_lost_too(self, caller: Any) -> None:
        caller.task(external_task_id="x")
        caller.sandbox.add_fault(Fault(on="submit", kind="drop_after"))
        with pytest.raises(CUT):
            caller.legacy(external_task_id="x")

    def test_of_two_creates_at_the_same_time_one_is_refused(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="delay_before", seconds=0.5, match="slow"))
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(caller.legacy, prompt="slow", external_task_id="x")
            caller.sandbox.wait_for("submit", 1)
            assert caller.status("x").status_code == 400
            assert caller.legacy(external_task_id="x").ok
            assert slow.result().json()["message"] == "External_task_id x already exists"

    def test_a_key_of_another_region(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="error", status=401, code=1002))
        assert caller.legacy().json()["code"] == 1002


class TestTasks:
    def test_a_failed_task_is_a_success_of_http(self, caller: Any) -> None:
        reason = "Failure to pass the risk control system"
        caller.sandbox.add_fault(
            Fault(on="submit", kind="refuse_content", accepted=True, message=reason, times=None)
        )
        legacy, new = caller.task(), caller.new().json()["data"]["id"]
        answer = caller.status(legacy)
        body, data = answer.json(), answer.json()["data"]
        assert (answer.status_code, body["code"], body["message"]) == (200, 0, "SUCCEED")
        assert (data["task_status"], data["task_status_msg"]) == ("failed", reason)
        assert "final_unit_deduction" not in data
        (task,) = caller.tasks(task_ids=new).json()["data"]
        assert (task["status"], task["message"]) == ("failed", reason)
        assert (task["outputs"], task["billing"]) == ([], [])

    def test_an_external_id_after_a_failure(self, start: Callable[..., Any]) -> None:
        for frees, status in ((False, 400), (True, 200)):
            caller = start(frees_failed_ids=frees)
            caller.sandbox.add_fault(Fault(on="submit", kind="job_fails"))
            caller.task(external_task_id="x")
            assert caller.legacy(external_task_id="x").status_code == status
            assert caller.legacy(external_task_id="x").status_code == 400

    def test_failed_tasks_cost_nothing(self, start: Callable[..., Any]) -> None:
        caller = start(units=3)
        caller.sandbox.add_fault(Fault(on="submit", kind="job_fails"))
        caller.task()
        caller.task()
        assert caller.legacy().json()["code"] == 1102

    def test_a_success_with_a_watermark_only(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="only_watermark"))
        task_id = caller.task()
        (video,) = caller.status(task_id).json()["data"]["task_result"]["videos"]
        (task,) = caller.tasks(task_ids=task_id).json()["data"]
        for links in (video, task["outputs"][0]):
            assert links["watermark_url"]
            assert "url" not in links

    def test_one_task_of_a_request_fails(self, start: Callable[..., Any]) -> None:
        caller = start(run_seconds=3600)
        tasks = [caller.task() for _ in range(3)]
        caller.sandbox.add_fault(Fault(on="status", kind="job_fails", match=tasks[1]))
        caller.tasks(task_ids=",".join(tasks))
        for task_id in tasks:
            caller.sandbox.finish(task_id)
        words = {task["id"]: task["status"] for task in caller.tasks(task_ids=",".join(tasks)).json()["data"]}
        assert [words[task_id] for task_id in tasks] == ["succeeded", "failed", "succeeded"]

    def test_one_request_for_many_tasks_meets_one_fault(self, caller: Any) -> None:
        tasks = ",".join(caller.task() for _ in range(3))
        caller.sandbox.add_fault(Fault(on="status", kind="error", times=2))
        assert [caller.tasks(task_ids=tasks).status_code for _ in range(3)] == [500, 500, 200]

    def test_fields_that_are_missing(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="missing_fields", fields=("url",), times=2))
        (video,) = caller.status(task_id).json()["data"]["task_result"]["videos"]
        (task,) = caller.tasks(task_ids=task_id).json()["data"]
        assert "url" not in {**video, **task["outputs"][0]}


class TestFind:
    @pytest.mark.parametrize("kind", ["error", "drop_before", "drop_after"])
    def test_a_look_up_that_fails(self, caller: Any, kind: str) -> None:
        task_id = caller.task(external_task_id="x")
        caller.sandbox.add_fault(Fault(on="find", kind=kind, times=2))
        assert caller.status(task_id).ok
        for look_up in (lambda: caller.status("x"), lambda: caller.tasks(external_task_ids="x")):
            if kind == "error":
                assert look_up().json()["code"] == 5000
            else:
                with pytest.raises(CUT):
                    look_up()
        assert caller.status("x").ok

    def test_a_task_that_is_not_visible_yet(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="find", kind="not_visible", seconds=0.5, match="x"))
        task_id = caller.task(external_task_id="x")
        caller.task(external_task_id="y")
        answer = caller.status("x")
        assert (answer.status_code, answer.json()["code"]) == (400, 1201)
        assert answer.json()["message"] == "Task not found by id/external id: x"
        (task,) = caller.tasks(external_task_ids="x,y").json()["data"]
        assert task["external_id"] == "y"
        assert caller.legacy(external_task_id="x").json()["message"].endswith("already exists")
        assert caller.status(task_id).ok
        deadline = time.monotonic() + 20
        while not caller.status("x").ok:
            assert time.monotonic() < deadline

    def test_for_a_number_of_look_ups(self, caller: Any) -> None:
        caller.task(external_task_id="x")
        caller.sandbox.add_fault(Fault(on="find", kind="not_visible", times=2))
        assert [caller.status("x").status_code for _ in range(3)] == [400, 400, 200]

    def test_a_task_id_that_is_not_visible(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="not_visible", times=2))
        assert caller.tasks(task_ids=task_id).json()["data"] == []
        assert [caller.status(task_id).status_code for _ in range(2)] == [400, 200]


class TestOtherRoutes:
    def test_the_account(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="account", kind="error", status=429, code=1302))
        assert caller.get(COSTS).json()["code"] == 1302
        assert caller.get(COSTS).ok

    def test_a_probe(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="probe", kind="error", status=503, times=2))
        assert caller.status("0").json()["code"] == 5001
        assert caller.tasks(task_ids="0").json()["code"] == 5001

    def test_a_file(self, caller: Any) -> None:
        task_id = caller.task(duration="3")
        caller.sandbox.add_fault(Fault(on="content", kind="truncate"))
        with pytest.raises(CUT):
            caller.get(f"/files/{task_id}.mp4")
        assert caller.get(f"/files/{task_id}.mp4").ok

    def test_from_another_process(self, start: Callable[..., Any]) -> None:
        caller = start(prefix="/kling", run_seconds=3600)
        remote = SandboxClient(caller.sandbox.base_url)
        remote.add_fault(Fault(on="find", kind="not_visible", seconds=3600, times=None))
        remote.add_fault(Fault(on="account", kind="drop_before"))
        task_id = caller.task(external_task_id="x")
        assert caller.status("x").status_code == 400
        remote.finish(task_id)
        assert caller.status(task_id).json()["data"]["task_status"] == "succeed"
        assert remote.ledger() == caller.sandbox.ledger()
        assert remote.requests == caller.sandbox.requests
        remote.wait_for("find", 1)

    def test_a_gateway_has_no_such_routes(self) -> None:
        with pytest.raises(ValueError, match="only the routes submit, status, probe, content, not 'find'"):
            Sandbox().add_fault(Fault(on="find", kind="error"))
