# SPDX-License-Identifier: Apache-2.0
"""A person's decision by a button: what it writes, and when it is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.version_compat import AIRFLOW_V_3_1_PLUS, AIRFLOW_V_3_3_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow before 3.1 has no such pages", allow_module_level=True)

from airflow.models import Variable
from airflow.models.log import Log
from airflow.utils.session import create_session
from sqlalchemy import delete, event, select
from sqlalchemy.exc import OperationalError

from airflow_provider_kling.exceptions import KlingUncertainSubmissionError
from airflow_provider_kling.jobs.consent import Decision, decision_for, variable_name
from airflow_provider_kling.jobs.journal import Journal
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.records import read_variable
from airflow_provider_kling.records.folder import FolderStore
from airflow_provider_kling.records.stores import RECORD_KEY, Identity, VariableStore, attempt_id
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.videos_page import decisions
from tests.fixtures.api_server import ApiServer
from tests.fixtures.record_events import intent, outcome
from tests.task_context import StateStore, TaskInstance
from tests.task_context import run as run_task

RUN = "manual__2026-11-26T10:00:00+00:00"
PATH = f"/kling/dags/reel/runs/{RUN.replace('+', '%2B')}/decisions"
VARIABLE_STATES = ("restarting", "deferred", "up_for_reschedule", "upstream_failed", "skipped", "removed")

Record = Callable[..., None]


@pytest.fixture(autouse=True)
def run(api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # As in the process of the API server; without it, Variables of the database are not found.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    api_server.add_run()
    yield
    api_server.clear()
    with create_session() as session:
        session.execute(delete(Variable))
        session.execute(delete(Log))


@pytest.fixture(params=["task state store", "Variable", "folder"])
def record(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Record:
    """A function that writes events to the record of a task instance, in each of the stores."""
    if request.param == "task state store":
        if not AIRFLOW_V_3_3_PLUS:
            pytest.skip("Airflow before 3.3 has no task state store")
        return _in_state_store
    monkeypatch.setattr(decisions, "AIRFLOW_V_3_3_PLUS", False)
    if request.param == "Variable":
        return _in_variable
    monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", str(tmp_path))
    return lambda *events, **of: [
        FolderStore(str(tmp_path), identity(**of), prove=False).append(e) for e in events
    ]


@pytest.fixture
def in_variable(monkeypatch: pytest.MonkeyPatch) -> Record:
    """The same with the Variable alone."""
    monkeypatch.setattr(decisions, "AIRFLOW_V_3_3_PLUS", False)
    return _in_variable


def identity(task_id: str = "generate", map_index: int = -1) -> Identity:
    return Identity("reel", RUN, task_id, map_index)


def _in_state_store(*events: Any, **of: Any) -> None:
    _set_state({"version": 1, "events": list(events)}, **of)


def _set_state(value: Any, **of: Any) -> None:
    from airflow.state import TaskScope, get_state_backend

    with create_session() as session:
        scope = TaskScope(**identity(**of)._asdict())
        get_state_backend().set(scope, RECORD_KEY, json.dumps(value), session=session)


def _in_variable(*events: Any, **of: Any) -> None:
    set_variable(VariableStore(identity(**of)).name, json.dumps({"version": 1, "events": events}))


def set_variable(name: str, text: str) -> None:
    with create_session() as session:
        session.add(Variable(key=name, val=text))


def variable(name: str) -> str | None:
    with create_session() as session:
        row = session.scalar(select(Variable).where(Variable.key == name))
        return None if row is None else str(row.val)


def report(api_server: ApiServer, event: Any, state: str | None = "failed", **arguments: Any) -> str:
    """Add a task instance that reports a submit as uncertain; return the name of its Variable."""
    name = variable_name(event["intent"])
    api_server.add_task({"kling_uncertain": {"name": name, "prompt": "a cat"}}, state=state, **arguments)
    return name


@pytest.mark.parametrize("user", ["olga", "vera"])
def test_what_is_decided_has_no_buttons_but_says_what_to_do(api_server: ApiServer, user: str) -> None:
    decided, open_name = (f"kling_adopt_{letter * 12}" for letter in "ab")
    for index, name in enumerate((decided, open_name)):
        api_server.add_task({"kling_uncertain": {"name": name}}, state="failed", map_index=index)
    set_variable(decided, "none")
    for path in (PATH.removeprefix("/kling").removesuffix("/decisions"), "/dags/reel"):
        text = api_server.get(path, user=user).text
        assert f"A decision is noted in the Variable {decided}. Clear the task to apply it." in text
        assert f"in the Variable {open_name}" not in text
    may_decide = user == "olga"
    text = api_server.get(f"/dags/reel/runs/{RUN}", user=user).text
    assert text.count("data-token=") == text.count('data-pick="all"') == may_decide
    set_variable(open_name, "none")
    assert 'data-pick="all"' not in api_server.get(f"/dags/reel/runs/{RUN}", user=user).text


def chosen(name: str, user: str = "uwe", task_id: str = "generate", map_index: int = -1) -> dict[str, Any]:
    token = decisions.token_for(user, "reel", RUN, task_id, map_index, name)
    return {"task_id": task_id, "map_index": map_index, "name": name, "token": token}


def press(api_server: ApiServer, *submits: Any, user: str | None = "uwe", **body: Any) -> Any:
    with api_server.client(user) as client:
        return client.post(PATH, json={"decision": "none", "submits": submits, **body})


def answer(response: Any) -> tuple[bool, str]:
    [result] = response.json()["results"]
    return result["ok"], result["message"]


def test_an_id_is_written_as_the_documented_variable(api_server: ApiServer, record: Record) -> None:
    lost = intent()
    record(lost)
    name = report(api_server, lost)
    response = press(api_server, chosen(name), decision="adopt", kling_task_id=" task_697a-1.b \n")
    assert answer(response) == (True, "Noted. Clear the task: it joins Kling task task_697a-1.b.")
    assert variable(name) == "task_697a-1.b"
    [submit] = Journal([lost]).submits.values()
    assert decision_for(submit, read=read_variable, now=time.time()) == Decision(name, "task_697a-1.b")


def test_that_there_is_none_is_written_as_well(api_server: ApiServer, record: Record) -> None:
    lost = intent()
    record(lost)
    name = report(api_server, lost, state="up_for_retry")
    response = press(api_server, chosen(name))
    assert answer(response) == (True, "Noted. Clear the task, or wait for its retry: it submits again, once.")
    assert variable(name) == "none"
    [submit] = Journal([lost]).submits.values()
    assert decision_for(submit, read=read_variable, now=time.time()) == Decision(name, None)


@pytest.mark.parametrize("decision", ["adopt", "none"])
def test_the_cleared_task_does_what_the_button_said(
    api_server: ApiServer, sandbox: Sandbox, connected: str, in_variable: Record, decision: str
) -> None:
    """An operator loses the response to its submit, a person decides, and the operator runs again."""
    sandbox.add_fault(Fault("submit", "drop_after"))
    task = KlingGenerateOperator(
        task_id="generate", model="kling-v3-std-silent", prompt="a cat", duration=5, kling_conn_id=connected
    )
    instance, state = TaskInstance(task_id="generate", dag_id="reel", run_id=RUN), StateStore()
    with pytest.raises(KlingUncertainSubmissionError):
        run_task(task, instance, state)
    in_variable(*state[RECORD_KEY]["events"])
    api_server.add_task(instance.pushed, state="failed")
    [lost] = [entry["id"] for entry in sandbox.ledger()]
    body = {"decision": "adopt", "kling_task_id": lost} if decision == "adopt" else {}
    assert answer(press(api_server, chosen(instance.pushed["kling_uncertain"]["name"]), **body))[0]
    again = TaskInstance(task_id="generate", dag_id="reel", run_id=RUN, try_number=2, max_tries=1)
    joined_or_bought = run_task(task, again, state)
    paid = [entry["id"] for entry in sandbox.ledger()]
    assert paid == ([lost] if decision == "adopt" else [lost, joined_or_bought])
    assert joined_or_bought in paid


def test_the_audit_log_has_who_decided_what(api_server: ApiServer, in_variable: Record) -> None:
    lost = intent()
    in_variable(lost, map_index=3)
    name = report(api_server, lost, map_index=3)
    press(api_server, chosen(name, map_index=3), decision="adopt", kling_task_id="task_1")
    with create_session() as session:
        [row] = session.scalars(select(Log).where(Log.event == "kling_decision"))
        assert (row.owner, row.dag_id, row.run_id, row.task_id, row.map_index) == (
            "uwe",
            "reel",
            RUN,
            "generate",
            3,
        )
        assert json.loads(row.extra) == {"variable": name, "value": "task_1"}
    assert answer(press(api_server, chosen(name, map_index=3)))[0] is False
    with create_session() as session:
        assert len(list(session.scalars(select(Log).where(Log.event == "kling_decision")))) == 1


@pytest.mark.parametrize(
    ("user", "status"), [(None, 401), ("norbert", 403), ("vera", 403), ("uwe", 200), ("olga", 200), ("anna", 200)]
)
def test_only_who_may_edit_task_instances_decides(
    api_server: ApiServer, in_variable: Record, user: str | None, status: int
) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost)
    response = press(api_server, chosen(name, user=str(user)), user=user)
    assert response.status_code == status
    assert variable(name) == ("none" if status == 200 else None)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_another_site_cannot_press_by_a_form(
    api_server: ApiServer, in_variable: Record, content_type: str | None
) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost)
    content = json.dumps({"decision": "none", "submits": [chosen(name)]})
    headers = {} if content_type is None else {"content-type": content_type}
    with api_server.client("uwe") as client:
        response = client.post(PATH, content=content, headers=headers)
    assert response.status_code == 415
    assert variable(name) is None


def test_a_token_is_good_for_one_user_and_one_submit(api_server: ApiServer, in_variable: Record) -> None:
    lost, other = intent(), intent()
    in_variable(lost, other)
    name = report(api_server, lost)
    good = chosen(name)
    bad = [
        decisions.token_for("anna", "reel", RUN, "generate", -1, name),
        decisions.token_for("uwe", "other", RUN, "generate", -1, name),
        decisions.token_for("uwe", "reel", "other", "generate", -1, name),
        decisions.token_for("uwe", "reel", RUN, "other", -1, name),
        decisions.token_for("uwe", "reel", RUN, "generate", 0, name),
        decisions.token_for("uwe", "reel", RUN, "generate", -1, variable_name(other["intent"])),
        _with_another_signature(good["token"]),
        "",
        "a.b.c",
        "\u00e9",
    ]
    for token in bad:
        is_written, message = answer(press(api_server, {**good, "token": token}))
        assert (is_written, message[:21]) == (False, "This page is too old,")
    assert variable(name) is None
    assert answer(press(api_server, good))[0]


def _with_another_signature(token: str) -> str:
    # Its first character: some bits of the last one mean nothing.
    content, _, signature = token.rpartition(".")
    return f"{content}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def test_a_token_expires(api_server: ApiServer, in_variable: Record, set_clock: Callable[[float], None]) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost)
    set_clock(-decisions.TOKEN_SECONDS - 5)
    old = chosen(name)
    set_clock(0)
    assert answer(press(api_server, old))[0] is False
    assert variable(name) is None


@pytest.mark.parametrize("state", [None, "scheduled", "queued", "running", "success", *VARIABLE_STATES])
def test_a_task_that_does_not_wait_for_a_person_is_left_alone(
    api_server: ApiServer, in_variable: Record, state: str | None
) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost, state=state)
    assert answer(press(api_server, chosen(name)))[0] is False
    assert variable(name) is None


def test_only_the_submit_that_the_task_reports_now_can_be_decided(
    api_server: ApiServer, in_variable: Record
) -> None:
    lost, other = intent(), intent()
    in_variable(lost, other)
    name = report(api_server, other)
    assert answer(press(api_server, chosen(variable_name(lost["intent"]))))[0] is False
    api_server.add_task({}, task_id="silent", state="failed")
    assert answer(press(api_server, chosen(name, task_id="silent")))[0] is False
    assert answer(press(api_server, chosen(name, task_id="gone")))[0] is False
    assert variable(name) is None
    assert variable(variable_name(lost["intent"])) is None


@pytest.mark.parametrize(
    "then",
    [
        lambda lost: [outcome(lost)],
        lambda lost: [outcome(lost, "refused", reason="error")],
        lambda lost: [outcome(lost, "withdrawn")],
        lambda lost: [{**intent(), "cites": {lost["intent"]: "kling_adopt"}}],
    ],
)
def test_a_submit_whose_fate_is_on_record_is_not_decided(
    api_server: ApiServer, record: Record, then: Callable[[Any], list[Any]]
) -> None:
    lost = intent()
    record(lost, *then(lost))
    name = report(api_server, lost)
    assert answer(press(api_server, chosen(name)))[0] is False
    assert variable(name) is None


def test_an_xcom_cannot_free_the_submit_of_another_task(api_server: ApiServer, record: Record) -> None:
    """Any DAG author can write the XCom; the record of the task itself has to have the submit."""
    lost = intent()
    record(lost, task_id="victim")
    report(api_server, lost, task_id="victim")
    name = report(api_server, lost)
    is_written, message = answer(press(api_server, chosen(name)))
    assert is_written is False
    assert f"set the Variable {name} by hand" in message
    assert variable(name) is None


@pytest.mark.parametrize(
    "name", ["smtp_password", "kling_adopt", "kling_adopt_ABCDEF012345", "kling_adopt_0123456789ab\n"]
)
def test_no_other_variable_is_written(api_server: ApiServer, in_variable: Record, name: str) -> None:
    in_variable(intent(name.removeprefix("kling_adopt_")))
    api_server.add_task({"kling_uncertain": {"name": name}}, state="failed")
    assert answer(press(api_server, chosen(name)))[0] is False
    assert variable(name) is None


@pytest.mark.parametrize("text", ["task_9", "none", "", " "])
def test_the_first_decision_stays(api_server: ApiServer, in_variable: Record, text: str) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost)
    set_variable(name, text)
    is_written, message = answer(press(api_server, chosen(name), decision="adopt", kling_task_id="task_1"))
    assert is_written is False
    assert name in message
    assert variable(name) == text


def test_a_decision_on_many_submits_counts_too(api_server: ApiServer, in_variable: Record) -> None:
    lost = {**intent(), "at": time.time() - 7200, "dag_id": "reel"}
    in_variable(lost)
    name = report(api_server, lost)
    now = datetime.now(UTC)
    period = {"conn_id": "c", "dag_id": "reel"} | {
        key: (now - timedelta(hours=hours)).isoformat() for key, hours in (("from", 3), ("to", 1))
    }
    for document in (
        {"answers": {name: "task_9"}},
        {"looked_at": now.isoformat(), "none_sent_between": [period]},
        {"unknown": 1},
        "no JSON",
    ):
        set_variable("kling_adopt", document if isinstance(document, str) else json.dumps(document))
        is_written, message = answer(press(api_server, chosen(name), decision="adopt", kling_task_id="task_1"))
        assert is_written is False
        assert "kling_adopt" in message
        with create_session() as session:
            session.execute(delete(Variable).where(Variable.key == "kling_adopt"))
    assert variable(name) is None


def test_a_record_that_cannot_be_read_leaves_the_decision_to_the_variable(
    api_server: ApiServer, in_variable: Record
) -> None:
    lost = intent()
    in_variable({**lost, "version": 99})
    name = report(api_server, lost)
    is_written, message = answer(press(api_server, chosen(name)))
    assert is_written is False
    assert f"set the Variable {name} by hand" in message
    assert variable(name) is None


@pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="Airflow before 3.3 has no task state store")
class TestTaskStateStore:
    def test_a_record_that_only_workers_can_read_decides_nothing(self, api_server: ApiServer) -> None:
        lost = intent()
        _set_state({"__airflow_state_ref__": "s3://somewhere/else"})
        name = report(api_server, lost)
        assert answer(press(api_server, chosen(name)))[0] is False
        assert variable(name) is None

    def test_a_record_from_before_the_upgrade_to_3_3_counts(self, api_server: ApiServer) -> None:
        lost = intent()
        _in_variable(lost)
        name = report(api_server, lost)
        assert answer(press(api_server, chosen(name)))[0] is True
        assert variable(name) == "none"

    def test_an_outcome_in_the_folder_counts(
        self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        lost = intent()
        monkeypatch.setenv("AIRFLOW__KLING__STATE_PATH", str(tmp_path))
        _in_state_store(lost)
        name = report(api_server, lost)
        FolderStore(str(tmp_path), identity(), prove=False).append(outcome(lost))
        assert answer(press(api_server, chosen(name)))[0] is False


class TestWithoutARecord:
    @pytest.fixture(autouse=True)
    def no_record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decisions, "AIRFLOW_V_3_3_PLUS", False)
        monkeypatch.setenv("AIRFLOW__KLING__STATE", "none")

    def test_the_report_of_the_last_attempt_can_be_decided(self, api_server: ApiServer) -> None:
        name = report(api_server, {"intent": attempt_id(identity(), 1) + "-earlier"})
        assert answer(press(api_server, chosen(name)))[0]
        assert variable(name) == "none"

    @pytest.mark.parametrize(("task_id", "attempt"), [("generate", 2), ("other", 1)])
    def test_that_of_another_attempt_or_task_cannot(
        self, api_server: ApiServer, task_id: str, attempt: int
    ) -> None:
        name = report(api_server, {"intent": attempt_id(identity(task_id), attempt) + "-earlier"})
        assert answer(press(api_server, chosen(name)))[0] is False
        assert variable(name) is None


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "  ",
        "none",
        "None",
        " NONE ",
        "null",
        "sk-0123456789abcdef",
        "Bearer abc",
        "api-key-kling-1234",
        "eyJhbGciOi.x.y",
        "https://api.example.com/task_1",
        "task 1",
        "task_1\ntask_2",
        "task_1;",
        "../task_1",
        "task_\u0661",
        "ｎｏｎｅ",
        "t" * 201,
        7,
    ],
)
def test_what_is_no_id_is_refused_before_anything_is_written(
    api_server: ApiServer, in_variable: Record, text: Any
) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost)
    response = press(api_server, chosen(name), decision="adopt", kling_task_id=text)
    assert response.status_code == 422
    assert variable(name) is None
    with create_session() as session:
        assert not list(session.scalars(select(Log).where(Log.event == "kling_decision")))


def test_an_id_beside_none_is_a_contradiction(api_server: ApiServer, in_variable: Record) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost)
    assert press(api_server, chosen(name), kling_task_id="task_1").status_code == 422
    assert press(api_server, chosen(name), decision="maybe").status_code == 422
    assert press(api_server).status_code == 422
    assert variable(name) is None


def test_a_job_of_another_submit_of_the_task_is_not_taken_twice(api_server: ApiServer, record: Record) -> None:
    bought, lost = intent(), intent()
    record(bought, outcome(bought), lost)
    name = report(api_server, lost)
    is_written, message = answer(press(api_server, chosen(name), decision="adopt", kling_task_id="task_1"))
    assert (is_written, "another submit" in message) == (False, True)
    assert variable(name) is None


def test_many_submits_are_decided_each_for_itself(api_server: ApiServer, record: Record) -> None:
    names = []
    for index in range(4):
        lost = intent()
        record(lost, *([outcome(lost)] if index == 1 else []), map_index=index)
        names.append(report(api_server, lost, map_index=index, state="running" if index == 2 else "failed"))
    submits = [chosen(name, map_index=index) for index, name in enumerate(names)]
    results = press(api_server, *submits).json()["results"]
    assert [(result["map_index"], result["ok"]) for result in results] == [
        (0, True),
        (1, False),
        (2, False),
        (3, True),
    ]
    assert [result["name"] for result in results] == names
    assert [variable(name) for name in names] == ["none", None, None, "none"]
    # One job cannot be that of several submits.
    assert press(api_server, *submits, decision="adopt", kling_task_id="task_5").status_code == 422


def test_of_two_people_who_press_at_once_one_wins(
    api_server: ApiServer, in_variable: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = intent()
    in_variable(lost)
    name = report(api_server, lost)
    both, check = threading.Barrier(2), decisions._check_undecided
    results: dict[str, tuple[bool, str]] = {}

    def check_and_wait(submit: Any) -> None:
        check(submit)
        both.wait(timeout=20)

    def press_as(user: str, **body: Any) -> None:
        results[user] = answer(press(api_server, chosen(name, user=user), user=user, **body))

    monkeypatch.setattr(decisions, "_check_undecided", check_and_wait)
    first = threading.Thread(target=press_as, args=("uwe",))
    second = threading.Thread(
        target=press_as, args=("anna",), kwargs={"decision": "adopt", "kling_task_id": "task_1"}
    )
    for thread in (first, second):
        thread.start()
    for thread in (first, second):
        thread.join(30)
    [winner] = [user for user, (is_written, _) in results.items() if is_written]
    [loser] = results.keys() - {winner}
    assert "somebody else" in results[loser][1]
    assert variable(name) == ("none" if winner == "uwe" else "task_1")
    with create_session() as session:
        assert [row.owner for row in session.scalars(select(Log).where(Log.event == "kling_decision"))] == [winner]


def test_a_decision_that_fails_hides_none_of_those_before_it(api_server: ApiServer, record: Record) -> None:
    names = []
    for map_index in range(3):
        lost = intent()
        record(lost, map_index=map_index)
        names.append(report(api_server, lost, map_index=map_index))

    def fail(mapper: Any, connection: Any, target: Any) -> None:
        if target.key == names[1]:
            raise OperationalError("INSERT", None, Exception("the connection was closed"))

    event.listen(Variable, "before_insert", fail)
    try:
        response = press(api_server, *(chosen(name, map_index=i) for i, name in enumerate(names)))
    finally:
        event.remove(Variable, "before_insert", fail)
    assert [result["ok"] for result in response.json()["results"]] == [True, False, True]
    assert [variable(name) for name in names] == ["none", None, "none"]
