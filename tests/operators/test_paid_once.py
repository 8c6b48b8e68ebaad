# SPDX-License-Identifier: Apache-2.0
"""A video is paid for once, whatever the gateway says: attempts of one task, counted in the server's ledger."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingServerError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.triggers.kling import KlingSlotTrigger
from tests.conftest import Connect, TaskLog
from tests.fixtures.attempts import Stateless, Task, variable_in
from tests.fixtures.requests import PROMPT
from tests.raw_server import RawServer, Request
from tests.task_context import StateStore, TaskInstance, context


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_kling.jobs.submission.pause_in_place", lambda error, attempt: 0.0)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets an Airflow Variable."""
    return lambda name, text: monkeypatch.setenv(f"AIRFLOW_VAR_{name.upper()}", text)


LIES = [
    {"message": "socket hang up"},
    {"message": "http2: server sent GOAWAY and closed the connection"},
    {"message": "read ECONNRESET"},
    {"code": "insert_task_failed", "message": "insert task failed"},
    {"message": "Server disconnected"},
    {"message": "context canceled"},
    {"message": "use of closed network connection"},
    {"message": "task id is empty"},
    {"message": "连接被重置"},
    {"message": "database is locked"},
    {"message": "an unknown message"},
    {"message": ""},
    {"code": "unheard_of", "message": "no available channel for model kling-v3"},
    {"status": 503, "message": "upstream connect error or disconnect/reset before headers"},
    {"status": 502, "message": "bad gateway"},
    {"status": 429, "message": "read: connection reset by peer"},
    {"status": 400, "code": "do_request_failed", "message": "do request failed"},
    {"status": 200, "message": "unknown error"},
]


@pytest.mark.parametrize(
    ("lie", "style"),
    # In the flat envelope, a 2xx with an id and an unknown code is an accepted job.
    [(lie, style) for lie in LIES for style in ("openai", "flat") if (lie.get("status"), style) != (200, "flat")],
    ids=str,
)
def test_a_gateway_that_accepts_and_reports_a_failure_sells_one_video(
    sandbox: Sandbox, connected: str, lie: dict[str, Any], style: str
) -> None:
    sandbox.add_fault(Fault("submit", "error", times=None, accepted=True, **{"status": 500, "body": style} | lie))
    task = Task()
    error = task.until_it_ends()
    assert isinstance(error, KlingUncertainSubmissionError)
    for _ in range(3):
        task.clear()
        assert str(task.until_it_ends()) == str(error)
    assert len(sandbox.ledger()) == 1
    assert task.ti.pushed["kling_uncertain"]["name"] == variable_in(error)
    assert len(str(error).splitlines()) == 2


def test_an_xcom_that_cannot_be_written_hides_no_submit_of_unknown_fate(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow may retry another error, and a task without a record would then buy a second video."""

    def push(key: str, value: Any) -> None:
        raise ConnectionError("the XCom backend is away")

    sandbox.add_fault(Fault("submit", "drop_after", times=None))
    task = Task()
    monkeypatch.setattr(task.ti, "xcom_push", push)
    assert isinstance(task.until_it_ends(), KlingUncertainSubmissionError)
    assert len(sandbox.ledger()) == 1


def test_a_job_that_was_just_bought_is_asked_for(connect: Connect) -> None:
    """The response to a submit may call itself a success, and hold a link that is no video's."""
    accepted = {"task_id": "x", "status": "success", "message": "task created", "url": "https://example.com/x"}
    finished = {"id": "x", "status": "completed", "video_url": "https://example.com/x.mp4"}

    def respond(connection: Any, request: Request) -> None:
        body = json.dumps(accepted if request.line.startswith("POST") else finished).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

    with RawServer(respond) as server:
        connect(server.base_url, probe=False)
        task = Task(poll_interval=0.05, wait_for_completion=True)
        video = task.attempt()
        assert [request.line.split()[0] for request in server.requests] == ["POST", "GET"]
        assert video["video_url"] == "https://example.com/x.mp4"
        # A job that is joined was looked up, and is returned at once.
        task.clear()
        assert task.attempt() == video
        assert [request.line.split()[0] for request in server.requests] == ["POST", "GET", "GET"]


def test_what_it_refuses_before_it_sends_anything_is_sent_again_and_bought_once(
    sandbox: Sandbox, connected: str
) -> None:
    sandbox.add_fault(Fault("submit", "error", times=3, status=503, code="model_not_found", message="no channel"))
    Task().attempt()
    assert sandbox.requests["submit"] == 4
    assert len(sandbox.ledger()) == 1


def test_a_code_of_the_vendors_own_is_printed_and_then_believed(sandbox: Sandbox, connect: Connect) -> None:
    connect(sandbox.base_url, sandbox.api_key)
    sandbox.add_fault(Fault("submit", "error", times=1, status=500, code="gpu_pool_empty", message="later"))
    error = Task().until_it_ends()
    assert "(extra.refusal_codes) of the Airflow connection 'kling_default': [\"gpu_pool_empty\"]" in str(error)
    connect(sandbox.base_url, sandbox.api_key, refusal_codes=["gpu_pool_empty"])
    sandbox.add_fault(Fault("submit", "error", times=2, status=500, code="gpu_pool_empty", message="later"))
    Task().attempt()
    assert len(sandbox.ledger()) == 1


def test_refusals_end_after_as_many_as_a_purchase_may_have(sandbox: Sandbox, connected: str) -> None:
    sandbox.add_fault(Fault("submit", "error", times=None, status=503, code="model_not_found", message="no"))
    task = Task()
    assert isinstance(task.until_it_ends(), KlingServerError)
    assert sandbox.requests["submit"] == 24
    with pytest.raises(KlingServerError, match="were refused"):
        task.attempt()
    assert sandbox.requests["submit"] == 24


class TestTheDecision:
    def test_none_buys_one_more(self, sandbox: Sandbox, connected: str, say: Any) -> None:
        sandbox.add_fault(Fault("submit", "drop_before", times=2))
        task = Task()
        first = task.until_it_ends()
        say(variable_in(first), "none")
        task.clear()
        second = task.until_it_ends()
        assert variable_in(second) != variable_in(first)
        task.clear()
        task.until_it_ends()
        assert sandbox.requests["submit"] == 2
        say(variable_in(second), "none")
        task.clear()
        task.attempt()
        assert len(sandbox.ledger()) == 1

    def test_an_id_joins(self, sandbox: Sandbox, connected: str, say: Any) -> None:
        sandbox.add_fault(Fault("submit", "drop_after"))
        task = Task()
        error = task.until_it_ends()
        [bought] = sandbox.ledger()
        say(variable_in(error), bought["id"])
        task.clear()
        assert task.attempt() == bought["id"]
        assert len(sandbox.ledger()) == 1

    def test_resubmit_buys_at_most_one_more(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("submit", "drop_after", times=None))
        task = Task(on_uncertain="resubmit")
        for _ in range(4):
            assert isinstance(task.until_it_ends(), KlingUncertainSubmissionError)
            task.clear()
        assert len(sandbox.ledger()) == 2


ABSENT: dict[str, dict[str, Any]] = {
    "a page in its place": {"kind": "error", "status": 404, "body": "html"},
    "a page with 200": {"kind": "error", "status": 200, "body": "html"},
    "a proxy without a server behind it": {"kind": "proxy_error"},
    "an empty server error": {"kind": "error", "status": 503, "body": "empty"},
    "a redirect": {"kind": "redirect", "location": "https://elsewhere.example.com/"},
    "a connection that is cut": {"kind": "drop_before"},
    "no such route": {
        "kind": "error",
        "status": 404,
        "message": "Invalid URL (GET /v1/videos/airflow-connection-test)",
        "code": "",
    },
}


class TestAnUnavailableApi:
    @pytest.mark.parametrize("absent", ABSENT.values(), ids=ABSENT.keys())
    def test_is_waited_for_without_a_submit(
        self, sandbox: Sandbox, connected: str, absent: dict[str, Any], task_log: TaskLog
    ) -> None:
        sandbox.add_fault(Fault("probe", times=None, **absent))
        ti, store = TaskInstance(), StateStore()
        operator = KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", prompt=PROMPT)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(context(ti, store))
        assert isinstance(deferred.value.trigger, KlingSlotTrigger)
        assert sandbox.requests["submit"] == 0
        assert store == {}
        sandbox.clear_faults()
        again = operator.resume_execution("submit_again", {**(deferred.value.kwargs or {})}, context(ti, store))
        assert [again] == [entry["id"] for entry in sandbox.ledger()]

    def test_ends_the_task_when_the_time_to_submit_is_over(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("probe", "proxy_error", times=None))
        with pytest.raises(KlingUnavailableError, match=r"submit_timeout=0\.3.*Nothing was submitted"):
            Task(submit_timeout=0.3).attempt()
        assert sandbox.requests["submit"] == 0

    def test_a_refused_key_fails_at_once(self, connect: Connect, sandbox: Sandbox) -> None:
        connect(sandbox.base_url, "sk-wrong")
        error = Task().until_it_ends()
        assert isinstance(error, KlingAuthenticationError)
        assert isinstance(error, AirflowFailException)
        assert sandbox.requests["submit"] == 0

    @pytest.mark.parametrize(
        "odd",
        [
            {"kind": "error", "status": 404, "body": "empty"},
            {"kind": "error", "status": 200, "body": "{}"},
            {"kind": "error", "status": 404, "body": '{"detail": "Not Found"}'},
            {"kind": "error", "status": 500, "message": "trouble of its own"},
            {"kind": "rate_limit"},
        ],
        ids=str,
    )
    def test_what_is_merely_odd_does_not_stop_a_submit(
        self, sandbox: Sandbox, connected: str, odd: dict[str, Any]
    ) -> None:
        sandbox.add_fault(Fault("probe", times=None, **odd))
        Task().attempt()
        assert len(sandbox.ledger()) == 1

    def test_it_is_not_probed_where_the_connection_turns_the_probe_off(
        self, sandbox: Sandbox, connect: Connect
    ) -> None:
        connect(sandbox.base_url, sandbox.api_key, probe=False)
        sandbox.add_fault(Fault("probe", "proxy_error", times=None))
        Task().attempt()
        assert sandbox.requests["probe"] == 0
        assert len(sandbox.ledger()) == 1

    def test_a_job_that_is_bought_is_joined_without_a_probe(self, sandbox: Sandbox, connected: str) -> None:
        task = Task()
        first = task.attempt()
        sandbox.add_fault(Fault("probe", "proxy_error", times=None))
        assert task.attempt() == first


class TestWithoutAnyRecord:
    @pytest.fixture(autouse=True)
    def _turned_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__KLING__STATE", "none")

    def test_a_second_attempt_stops_whatever_the_first_did(self, sandbox: Sandbox, connected: str) -> None:
        task = Stateless()
        task.attempt()
        error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        assert len(sandbox.ledger()) == 1

    def test_the_decision_on_each_report_counts_once(self, sandbox: Sandbox, connected: str, say: Any) -> None:
        task = Stateless()
        sandbox.add_fault(Fault("submit", "drop_before"))
        first = task.until_it_ends()
        second = task.until_it_ends()
        assert variable_in(first) != variable_in(second)
        say(variable_in(second), "none")
        assert [task.attempt()] == [entry["id"] for entry in sandbox.ledger()]
        third = task.until_it_ends()
        say(variable_in(third), sandbox.ledger()[0]["id"])
        assert task.attempt() == sandbox.ledger()[0]["id"]
        assert len(sandbox.ledger()) == 1

    def test_resubmit_buys_at_every_attempt_and_logs_it(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        task = Stateless(on_uncertain="resubmit")
        task.attempt()
        task.attempt()
        assert len(sandbox.ledger()) == 2
        assert "which may pay twice" in task_log.text

    def test_a_wait_for_the_api_after_a_lost_response_does_not_buy_on(
        self, sandbox: Sandbox, connected: str
    ) -> None:
        sandbox.add_fault(Fault("submit", "drop_after", times=None))
        # It restarts after each submit.
        sandbox.add_fault(Fault("probe", "proxy_error", skip=1, times=1))
        sandbox.add_fault(Fault("probe", "proxy_error", skip=2, times=1))
        with pytest.raises(KlingUncertainSubmissionError) as raised:
            Stateless(on_uncertain="resubmit").attempt()
        assert isinstance(raised.value, AirflowFailException)
        assert "RemoteDisconnected" in str(raised.value)
        assert len(sandbox.ledger()) == 1

    def test_triggers_that_always_crash_are_final(self, sandbox: Sandbox, connected: str) -> None:
        ti = TaskInstance(pushed={"kling_trigger_crashes": 3, "kling_task_id": "task_1"})
        operator = KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", prompt=PROMPT)
        with pytest.raises(KlingError, match="crashed 4 times") as raised:
            operator.resume_execution(
                "__fail__", {"error": "TriggerFailure"}, {**context(ti), "task_state_store": None}
            )
        assert isinstance(raised.value, AirflowFailException)

    def test_a_crash_of_the_trigger_loses_no_id(self, sandbox: Sandbox, connected: str) -> None:
        ti = TaskInstance(pushed={"kling_task_id": "task_1", "kling_other_id": "task_2"})
        operator = KlingGenerateOperator(
            task_id="video", model="kling-v3-std-silent", prompt=PROMPT, wait_for_completion=True, deferrable=True
        )
        with pytest.raises(TaskDeferred) as deferred:
            operator.resume_execution("__fail__", {"error": "TriggerFailure"}, context(ti))
        trigger = deferred.value.trigger
        assert (trigger.kling_task_id, trigger.other_id) == ("task_1", "task_2")

    @pytest.mark.parametrize("left", [{}, {"kling_progress": {"phase": "queued"}}])
    def test_a_crash_of_the_trigger_after_xcoms_were_lost_buys_nothing(
        self, sandbox: Sandbox, connected: str, say: Any, left: Any
    ) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        task = Stateless(deferrable=True, wait_for_completion=True)
        with pytest.raises(TaskDeferred):
            task.attempt()
        task.ti.pushed = dict(left)
        operator = KlingGenerateOperator(task_id="video", **task.arguments)
        with pytest.raises(KlingUncertainSubmissionError) as raised:
            operator.resume_execution(
                "__fail__", {"error": "TriggerFailure"}, {**context(task.ti), "task_state_store": None}
            )
        assert task.ti.pushed["kling_uncertain"]["name"] == variable_in(raised.value)
        [bought] = sandbox.ledger()
        say(variable_in(raised.value), bought["id"])
        with pytest.raises(TaskDeferred) as deferred:
            task.attempt()
        assert deferred.value.trigger.kling_task_id == bought["id"]
        assert len(sandbox.ledger()) == 1

    def test_a_crash_while_waiting_for_a_slot_goes_on(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("submit", "rate_limit"))
        task = Stateless(deferrable=True, wait_for_completion=True)
        with pytest.raises(TaskDeferred) as deferred:
            task.attempt()
        assert isinstance(deferred.value.trigger, KlingSlotTrigger)
        operator = KlingGenerateOperator(task_id="video", **task.arguments)
        with pytest.raises(TaskDeferred):
            operator.resume_execution(
                "__fail__", {"error": "TriggerFailure"}, {**context(task.ti), "task_state_store": None}
            )
        assert len(sandbox.ledger()) == 1

    @pytest.mark.parametrize("key", ["kling_request", "kling_model"])
    def test_a_wait_for_a_slot_does_not_depend_on_what_the_page_shows(
        self, sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        """The next attempt of a task without a record could not know that this one bought nothing."""
        sandbox.add_fault(Fault("submit", "rate_limit"))
        task = Stateless(deferrable=True)
        push = task.ti.xcom_push

        def push_others(**xcom: Any) -> None:
            if xcom["key"] == key:
                raise RuntimeError("no space left")
            push(**xcom)

        monkeypatch.setattr(task.ti, "xcom_push", push_others)
        with pytest.raises(TaskDeferred):
            task.attempt()

    def test_a_failure_after_the_submit_is_final(self, sandbox: Sandbox, connected: str) -> None:
        sandbox.add_fault(Fault("submit", "stuck"))
        with pytest.raises(KlingError, match="was still") as raised:
            Stateless(wait_for_completion=True, timeout=0.3, poll_interval=0.1).attempt()
        assert isinstance(raised.value, AirflowFailException)


def test_an_index_that_finds_a_record_of_another_request_warns_before_it_buys(
    sandbox: Sandbox, connected: str, task_log: TaskLog
) -> None:
    task = Task()
    task.ti.map_index = 1
    first = task.attempt()
    task.arguments["prompt"] = "What the mapped list has at this place since then"
    task.clear()
    assert task.attempt() != first
    assert f"as Kling task {first}: that job is not joined" in task_log.text
    assert "map index 1" in task_log.text
