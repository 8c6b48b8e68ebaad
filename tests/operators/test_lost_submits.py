# SPDX-License-Identifier: Apache-2.0
"""
Kling's own platform is asked for every lost submit: attempts of one task, counted in the platform's ledger.

The connection names a host of the vendor, and has the sandbox as its proxy; see ``tests/fixtures/platform.py``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingServerError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.look_up import LookUp
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.triggers.kling import KlingSlotTrigger, KlingTaskTrigger
from tests.conftest import TaskLog
from tests.connections import BOOK
from tests.fixtures.attempts import Stateless, Task, variable_in
from tests.fixtures.platform import API_KEY, PAIR, VENDORS_HOST, connection_to
from tests.fixtures.requests import PROMPT
from tests.task_context import StateStore, TaskInstance, context

Start = Callable[..., Sandbox]

READ_TIMEOUT = 1.0
OWN_HOST = "the host of a reseller"
PICTURE = "https://example.com/first.png"
#: The keys and models of an account, and the standard that serves them.
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "API key, legacy standard": (API_KEY, {"model": "kling-v3"}),
    "API key, new standard": (API_KEY, {"model": "kling-3.0"}),
    "access key": (PAIR, {"model": "kling-v3"}),
    "access key, from an image": (PAIR, {"model": "kling-v3", "image": PICTURE}),
}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look up again at once."""
    monkeypatch.setattr("airflow_provider_kling.jobs.look_up.pause_after_failure", lambda look_up: 0.0)
    monkeypatch.setattr(
        "airflow_provider_kling.hooks.kling.LookUp", lambda **fields: LookUp(**{**fields, "pause": 0.0})
    )


@pytest.fixture(scope="module")
def usual(rendered: Path) -> Iterator[Sandbox]:
    """The platform without any option; jobs are finished at once."""
    with Sandbox(api="official", run_seconds=0, cache_dir=rendered) as sandbox:
        yield sandbox


@pytest.fixture
def start(usual: Sandbox, rendered: Path) -> Iterator[Start]:
    """
    A function that returns a platform with these options, and connects to it.

    With ``of_its_own``, no request of another test can arrive there late.
    """
    with ExitStack() as stack:

        def start(
            *, keys: str = API_KEY, host: str = VENDORS_HOST, of_its_own: bool = False, **options: Any
        ) -> Sandbox:
            usual.reset()
            sandbox = usual
            if of_its_own or options:
                options = {"run_seconds": 0, "cache_dir": rendered, **options}
                sandbox = stack.enter_context(Sandbox(api="official", **options))
            base_url = sandbox.base_url if host == OWN_HOST else host
            fields = connection_to(sandbox, keys=keys, host=base_url, read_timeout=READ_TIMEOUT)
            BOOK.add("kling_default", fields)
            return sandbox

        yield start


@pytest.fixture
def platform(start: Start) -> Sandbox:
    """The platform, with an API key."""
    return start()


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that sets an Airflow Variable."""
    return lambda name, text: monkeypatch.setenv(f"AIRFLOW_VAR_{name.upper()}", text)


def ids(sandbox: Sandbox) -> list[str]:
    return [entry["id"] for entry in sandbox.ledger()]


def external_ids(sandbox: Sandbox) -> list[str]:
    return [entry["effective"]["external_id"] for entry in sandbox.ledger()]


LOSSES: dict[str, dict[str, Any]] = {
    "the answer is lost": {"kind": "drop_after"},
    "the request is lost": {"kind": "drop_before"},
    "half of the answer is lost": {"kind": "truncate"},
    "half of the JSON is lost": {"kind": "broken_json"},
    "the answer is empty": {"kind": "empty_body"},
    "the answer has no id": {"kind": "missing_fields", "fields": ("task_id", "id")},
    "the answer comes too late": {"kind": "delay_after", "seconds": 2 * READ_TIMEOUT},
    "a gateway times out": {"kind": "proxy_error", "status": 504},
    "a gateway times out after the acceptance": {"kind": "proxy_error", "status": 504, "accepted": True},
    **{
        f"{code} {'after' if accepted else 'before'} the acceptance": {
            "kind": "error",
            "status": status,
            "code": code,
            "accepted": accepted,
        }
        for status, code in ((500, 5000), (503, 5001), (504, 5002))
        for accepted in (False, True)
    },
}


def is_accepted(loss: dict[str, Any]) -> bool:
    return Fault("submit", **loss).carries_out


class TestALostSubmit:
    @pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
    @pytest.mark.parametrize("way", ["API key, legacy standard", "access key"])
    def test_ends_in_the_video_within_the_same_attempt(self, start: Start, way: str, loss: dict[str, Any]) -> None:
        keys, arguments = WAYS[way]
        sandbox = start(keys=keys)
        sandbox.add_fault(Fault("submit", **loss))
        task = Task(**arguments)
        assert [task.attempt()] == ids(sandbox)
        assert sandbox.requests["submit"] == 2 - is_accepted(loss)
        assert "kling_uncertain" not in task.ti.pushed
        assert task.attempt() == ids(sandbox)[0], "a retry joins"
        assert len(ids(sandbox)) == 1

    @pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
    @pytest.mark.parametrize(("keys", "arguments"), WAYS.values(), ids=WAYS.keys())
    def test_on_every_path(self, start: Start, keys: str, arguments: dict[str, Any], kind: str) -> None:
        sandbox = start(keys=keys)
        sandbox.add_fault(Fault("submit", kind))
        assert [Task(**arguments).attempt()] == ids(sandbox)
        assert len(set(external_ids(sandbox))) == 1

    def test_may_lose_its_answer_after_its_request(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "drop_before"))
        platform.add_fault(Fault("submit", "drop_after"))
        assert [Task().attempt()] == ids(platform)
        assert platform.requests["submit"] == 2

    def test_that_is_still_under_way_while_it_is_looked_for_is_bought_once(self, start: Start) -> None:
        """The platform takes the first request while the second one is under way: one of them is a duplicate."""
        platform = start(of_its_own=True)
        platform.add_fault(Fault("submit", "delay_before", seconds=3 * READ_TIMEOUT))
        platform.add_fault(Fault("submit", "delay_before", skip=1, seconds=3 * READ_TIMEOUT))
        assert [Task().attempt()] == ids(platform)
        assert platform.requests["submit"] >= 2
        time.sleep(3 * READ_TIMEOUT)
        assert len(ids(platform)) == 1

    @pytest.mark.parametrize("looks", [2, 4])
    def test_whose_job_is_not_visible_yet_is_found_by_the_refusal_of_its_duplicate(
        self, platform: Sandbox, looks: int, task_log: TaskLog
    ) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        # Each look-up asks three routes.
        platform.add_fault(Fault("find", "not_visible", times=3 * looks))
        assert [Task().attempt()] == ids(platform)
        assert platform.requests["submit"] == 2

    @pytest.mark.parametrize(
        "words", ["编号已使用过", "external_id conflict", "The id has been taken", "resource pack is used up"]
    )
    def test_whose_duplicate_is_refused_in_other_words(self, platform: Sandbox, words: str) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", "not_visible", times=6))
        platform.add_fault(Fault("submit", "error", status=400, code=1201, message=words))
        assert [Task().attempt()] == ids(platform)
        assert platform.requests["submit"] == 2

    def test_is_looked_for_before_a_refusal_of_its_repetition_is_final(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "drop_before"))
        platform.add_fault(Fault("submit", "error", status=429, code=1102, message="used up"))
        task = Task()
        assert isinstance(task.until_it_ends(), KlingBalanceError)
        assert "kling_uncertain" not in task.ti.pushed
        task.clear()
        assert [task.attempt()] == ids(platform)

    def test_whose_duplicate_is_refused_without_an_answer(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "drop_after", times=2))
        platform.add_fault(Fault("find", "not_visible", times=6))
        assert [Task().attempt()] == ids(platform)
        assert platform.requests["submit"] == 2

    @pytest.mark.parametrize("answered", ["late", "never"])
    @pytest.mark.parametrize("state", ["auto", "none"])
    def test_is_not_bought_beside_itself_after_a_wait_for_a_slot(
        self, start: Start, answered: str, state: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The account has no slot (1303) when it is sent again; meanwhile the first request may arrive."""
        monkeypatch.setenv("AIRFLOW__KLING__STATE", state)
        monkeypatch.setenv("AIRFLOW__KLING__DEPLOYMENT", "test")
        platform = start(of_its_own=True)
        if answered == "late":
            platform.add_fault(Fault("submit", "delay_before", seconds=3 * READ_TIMEOUT))
            platform.add_fault(Fault("submit", "rate_limit", skip=1))
        else:
            platform.add_fault(Fault("submit", "drop_before"))
            platform.add_fault(Fault("submit", "rate_limit"))
        attempt: Any = {**context(TaskInstance()), "task_state_store": StateStore() if state == "auto" else None}
        operator = KlingGenerateOperator(task_id="video", model="kling-v3", prompt=PROMPT)
        with pytest.raises(TaskDeferred) as deferred:
            operator.execute(attempt)
        assert isinstance(deferred.value.trigger, KlingSlotTrigger)
        assert ids(platform) == []
        if answered == "late":
            platform.wait_for("accepted", 1)
        again = operator.resume_execution("submit_again", {**(deferred.value.kwargs or {})}, attempt)
        assert [again] == ids(platform)

    def test_that_is_always_lost_stops_after_a_few_and_a_clear_goes_on(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "drop_before", times=4))
        task = Task()
        error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        assert platform.requests["submit"] == 4
        task.clear()
        assert [task.attempt()] == ids(platform)
        assert platform.requests["submit"] == 5

    def test_stays_one_where_the_task_may_resubmit(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("submit", "drop_before", skip=1))
        task = Task(on_uncertain="resubmit", on_clear="resubmit")
        assert [task.attempt()] == ids(platform)
        task.clear()
        task.attempt()
        assert len(set(external_ids(platform))) == len(ids(platform)) == 2


class TestALookUp:
    @pytest.mark.parametrize(
        "failure",
        [{"kind": "error", "status": 503}, {"kind": "drop_after"}, {"kind": "empty_body"}, {"kind": "rate_limit"}],
        ids=str,
    )
    def test_that_fails_for_a_while(self, platform: Sandbox, failure: dict[str, Any]) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", times=5, **failure))
        assert [Task().attempt()] == ids(platform)
        assert platform.requests["submit"] == 1
        assert platform.requests["find"] == 6

    def test_that_always_fails_ends_in_a_persons_word_or_in_a_clear(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", "error", status=503, times=None))
        task = Task()
        error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        assert external_ids(platform)[0] in str(error)
        platform.clear_faults()
        task.clear()
        assert [task.attempt()] == ids(platform)
        assert platform.requests["submit"] == 1

    @pytest.mark.parametrize(
        "refusal",
        [
            {"status": 400, "code": 1201, "message": "external_task_ids is invalid"},
            {"status": 403, "code": 1103, "message": "No permission"},
            {"status": 404, "code": 1203, "message": "The resource does not exist"},
        ],
        ids=str,
    )
    def test_that_the_server_does_not_take_ends_in_a_persons_word(
        self, platform: Sandbox, say: Any, refusal: dict[str, Any]
    ) -> None:
        """It does not end in the words of that refusal, which hide that a video may be paid for."""
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", "error", times=None, **refusal))
        task = Task()
        error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        assert task.ti.pushed["kling_uncertain"]["name"] == variable_in(error)
        task.clear()
        assert str(task.until_it_ends()) == str(error)
        say(variable_in(error), ids(platform)[0])
        task.clear()
        assert [task.attempt()] == ids(platform)

    def test_that_is_refused_fails_the_task_and_a_clear_asks_again(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", "error", status=401, code=1002, message="Authorization is invalid"))
        task = Task()
        error = task.until_it_ends()
        assert isinstance(error, KlingAuthenticationError)
        assert "may have been accepted and billed" in str(error)
        assert task.ti.try_number == 1
        assert task.attempt() == ids(platform)[0]
        assert platform.requests["submit"] == 1

    @pytest.mark.parametrize(
        "refusal", [{"status": 400, "code": 1201}, {"status": 404, "code": 1202}, {"status": 422}], ids=str
    )
    def test_whose_request_is_refused_ends_in_a_persons_word(
        self, platform: Sandbox, say: Any, task_log: TaskLog, refusal: dict[str, Any]
    ) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", "error", times=None, message="external_task_ids is invalid", **refusal))
        task = Task()
        error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        assert "external_task_ids is invalid" in task_log.text
        say(variable_in(error), ids(platform)[0])
        task.clear()
        assert task.attempt() == ids(platform)[0]
        assert platform.requests["submit"] == 1

    @pytest.mark.parametrize(
        "failure",
        [{"kind": "redirect"}, {"kind": "empty_body"}, {"kind": "error", "status": 404, "body": "html"}],
        ids=str,
    )
    @pytest.mark.parametrize("host", [VENDORS_HOST, OWN_HOST])
    def test_that_fails_on_the_route_of_the_job_is_no_answer_of_another_route(
        self, start: Start, host: str, failure: dict[str, Any]
    ) -> None:
        """The legacy routes do not know the jobs of the new standard."""
        platform = start(host=host)
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", **failure))
        platform.add_fault(Fault("find", skip=2, **failure))
        assert [Task(model="kling-3.0").attempt()] == ids(platform)
        assert platform.requests["submit"] == 1

    @pytest.mark.parametrize(
        "refusal",
        [
            {"status": 404, "code": 1203, "message": "The requested resource does not exist"},
            {"status": 400, "code": 1201, "message": "Parameter is invalid"},
            {"status": 403, "code": 1103, "message": "Not allowed"},
            {"status": 404, "body": '{"detail": "Not Found"}', "content_type": "application/json"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("killed", [False, True])
    def test_that_is_refused_for_another_reason_names_what_a_person_can_do(
        self, platform: Sandbox, say: Any, refusal: dict[str, Any], killed: bool
    ) -> None:
        platform.add_fault(Fault("submit", "drop_after"))
        platform.add_fault(Fault("find", "error", times=None, **refusal))
        task = Task()
        error = task.until_it_ends()
        if killed:
            task.clear()
            error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        assert external_ids(platform)[0] in str(error)
        say(variable_in(error), ids(platform)[0])
        task.clear()
        assert [task.attempt()] == ids(platform)


class TestAServerThatDropsTheIds:
    """A reseller who ignores ``external_task_id``: nothing protects from a second purchase there."""

    @pytest.mark.parametrize("kind", ["drop_after", "drop_before"])
    def test_is_never_sent_to_again_without_a_persons_word(self, start: Start, say: Any, kind: str) -> None:
        sandbox = start(host=OWN_HOST, drops_external_ids=True)
        sandbox.add_fault(Fault("submit", kind))
        task = Task()
        error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        for _ in range(2):
            task.clear()
            assert str(task.until_it_ends()) == str(error)
        assert sandbox.requests["submit"] == 1
        say(variable_in(error), (ids(sandbox) or ["none"])[0])
        task.clear()
        assert [task.attempt()] == ids(sandbox)

    def test_a_job_before_does_not_change_that(self, start: Start) -> None:
        sandbox = start(host=OWN_HOST, drops_external_ids=True)
        sandbox.add_fault(Fault("submit", "job_fails"))
        sandbox.add_fault(Fault("submit", "drop_before", skip=1))
        task = Task(wait_for_completion=True, poll_interval=0.05)
        with pytest.raises(KlingGenerationFailedError):
            task.attempt()
        assert isinstance(task.until_it_ends(), KlingUncertainSubmissionError)
        assert sandbox.requests["submit"] == 2

    def test_one_that_repeats_them_is_asked_and_joined_but_not_sent_to_again(self, start: Start) -> None:
        sandbox = start(host=OWN_HOST)
        sandbox.add_fault(Fault("submit", "drop_after"))
        assert [Task().attempt()] == ids(sandbox)
        sandbox.add_fault(Fault("submit", "drop_before"))
        assert isinstance(Task().until_it_ends(), KlingUncertainSubmissionError)
        assert sandbox.requests["submit"] == 2

    def test_unless_it_repeated_one_to_this_task(self, start: Start) -> None:
        sandbox = start(host=OWN_HOST)
        sandbox.add_fault(Fault("submit", "job_fails"))
        sandbox.add_fault(Fault("submit", "drop_before", skip=1))
        task = Task(wait_for_completion=True, poll_interval=0.05)
        with pytest.raises(KlingGenerationFailedError):
            task.attempt()
        assert task.attempt()["kling_task_id"] == ids(sandbox)[1]
        assert sandbox.requests["submit"] == 3
        assert len(set(external_ids(sandbox))) == 2

    @pytest.mark.parametrize(
        "refusal",
        [
            {"status": 400, "code": 1201, "message": "Invalid task id: must be a number"},
            {"status": 400, "code": 1201, "message": "任务id无效"},
            {"status": 429, "code": 1203, "message": "Task not found"},
        ],
        ids=str,
    )
    def test_one_that_refuses_the_form_of_the_id_has_not_said_that_there_is_no_job(
        self, start: Start, refusal: dict[str, Any]
    ) -> None:
        sandbox = start(host=OWN_HOST)
        sandbox.add_fault(Fault("submit", "job_fails"))
        task = Task(wait_for_completion=True, poll_interval=0.05)
        with pytest.raises(KlingGenerationFailedError):
            task.attempt()
        sandbox.add_fault(Fault("submit", "drop_after"))
        sandbox.add_fault(Fault("find", "error", times=None, **refusal))
        assert isinstance(task.until_it_ends(), KlingUncertainSubmissionError)
        assert sandbox.requests["submit"] == 2

    @pytest.mark.parametrize("image", [None, PICTURE])
    def test_a_reseller_with_a_prefix_and_the_legacy_standard_only(self, start: Start, image: str | None) -> None:
        sandbox = start(host=OWN_HOST, prefix="/kling", serves=("legacy",), api_keys=["sk-reseller-0123456789"])
        arguments: dict[str, Any] = {"wait_for_completion": True, "poll_interval": 0.05, "image": image}
        assert Task(**arguments).attempt()["kling_task_id"] == ids(sandbox)[0]
        sandbox.add_fault(Fault("submit", "drop_after"))
        assert Task(**arguments).attempt()["kling_task_id"] == ids(sandbox)[1]
        sandbox.add_fault(Fault("submit", "drop_before"))
        assert isinstance(Task(**arguments).until_it_ends(), KlingUncertainSubmissionError)
        assert (len(ids(sandbox)), sandbox.requests["submit"]) == (2, 3)


class TestTheKey:
    def test_of_a_fast_server_is_taken(self, start: Start) -> None:
        sandbox = start(keys=PAIR, clock_offset=120)
        assert [Task().attempt()] == ids(sandbox)

    def test_of_a_slow_server_is_signed_anew_once_and_the_error_names_the_clock(self, start: Start) -> None:
        sandbox = start(keys=PAIR, clock_offset=-120)
        task = Task()
        error = task.until_it_ends()
        assert isinstance(error, KlingAuthenticationError)
        assert task.ti.try_number == 1
        # The Date header has whole seconds.
        assert re.search(r"The clock of this machine is 1(?:19|2[0-5]) seconds ahead of the server's", str(error))
        assert [exchange["method"] for exchange in sandbox.seen()] == ["GET", "GET"], "it is sent twice"
        assert sandbox.access_keys["ak-sandbox"] not in str(error)

    @pytest.mark.parametrize("code", [1003, 1004])
    @pytest.mark.parametrize(("route", "skip"), [("find", 0), ("submit", 0), ("find", 1)])
    def test_is_signed_anew_once_on_every_route(self, start: Start, route: Any, skip: int, code: int) -> None:
        """The probe of an access key looks up a task by a word, as a look-up does."""
        sandbox = start(keys=PAIR)
        if skip:
            sandbox.add_fault(Fault("submit", "drop_after"))
        refusal = "Authorization is not yet valid"
        sandbox.add_fault(Fault(route, "error", status=401, code=code, message=refusal, skip=skip))
        assert [Task().attempt()] == ids(sandbox)
        assert sandbox.faults() == []
        assert sandbox.requests["submit"] == (2 if route == "submit" else 1)

    def test_that_is_refused_at_the_submit_leaves_nothing_unknown(self, start: Start) -> None:
        sandbox = start(keys=PAIR)
        sandbox.add_fault(Fault("submit", "error", status=401, code=1003, times=2))
        task = Task()
        assert isinstance(task.until_it_ends(), KlingAuthenticationError)
        assert sandbox.requests["submit"] == 2
        task.clear()
        assert [task.attempt()] == ids(sandbox)

    @pytest.mark.parametrize("host", [VENDORS_HOST, "http://api-beijing.klingai.com"])
    def test_of_the_other_region_is_answered_with_the_other_host(self, start: Start, host: str) -> None:
        sandbox = start(host=host)
        fields = connection_to(sandbox, host=host)
        BOOK.add("kling_default", {**fields, "password": "api-key-kling-of-the-other-region"})
        error = Task().until_it_ends()
        assert isinstance(error, KlingAuthenticationError)
        other = "api-singapore" if "beijing" in host else "api-beijing"
        assert f"https://{other}.klingai.com" in str(error)
        assert "1002" in str(error)
        assert sandbox.requests["submit"] == 0

    def test_that_is_replaced_while_a_task_runs_names_another_account(self, start: Start) -> None:
        """A submit is recorded under the account that it is sent to, and a look-up is of the same."""
        sandbox = start(api_keys=["api-key-kling-sandbox-one", "api-key-kling-sandbox-two"])
        hook = KlingHook("kling_default")
        look_up, account = hook.look_up, hook.connection.account
        BOOK.add("kling_default", {**connection_to(sandbox), "password": sandbox.api_keys[1]})
        sandbox.add_fault(Fault("probe", "error", status=401, code=1002, times=1))
        with pytest.raises(KlingNotFoundError):
            hook.get_video("867000000000000000")
        assert look_up is not None
        assert look_up.account() == hook.connection.account != account

    def test_that_is_replaced_after_a_lost_submit_needs_a_persons_word(self, start: Start, say: Any) -> None:
        """Nothing shows that the new key is of the same account, and an id says nothing in another one."""
        sandbox = start(api_keys=["api-key-kling-sandbox-one", "api-key-kling-sandbox-two"])
        sandbox.add_fault(Fault("submit", "drop_after"))
        sandbox.add_fault(Fault("find", "error", status=401, code=1002))
        task = Task()
        task.until_it_ends()
        BOOK.add("kling_default", {**connection_to(sandbox), "password": sandbox.api_keys[1]})
        task.clear()
        error = task.until_it_ends()
        assert isinstance(error, KlingUncertainSubmissionError)
        assert sandbox.requests["submit"] == 1
        say(variable_in(error), ids(sandbox)[0])
        task.clear()
        assert [task.attempt()] == ids(sandbox)


class TestTheEndOfAJob:
    WAIT: dict[str, Any] = {"wait_for_completion": True, "poll_interval": 0.05}

    @pytest.mark.parametrize(("keys", "arguments"), WAYS.values(), ids=WAYS.keys())
    def test_a_refusal_of_content_is_final_until_a_clear(
        self, start: Start, keys: str, arguments: dict[str, Any]
    ) -> None:
        sandbox = start(keys=keys)
        reason = "Failure to pass the risk control system"
        sandbox.add_fault(Fault("submit", "refuse_content", accepted=True, message=reason))
        task = Task(**self.WAIT, **arguments)
        error = task.until_it_ends()
        assert isinstance(error, KlingContentRefusedError)
        assert isinstance(error, AirflowFailException)
        assert reason in str(error)
        assert task.ti.try_number == 1
        task.clear()
        assert task.attempt()["kling_task_id"] == ids(sandbox)[1]
        assert len(set(external_ids(sandbox))) == 2

    @pytest.mark.parametrize("frees", [False, True])
    def test_a_failed_job_is_bought_again_under_a_new_id(self, start: Start, frees: bool) -> None:
        sandbox = start(frees_failed_ids=frees)
        sandbox.add_fault(Fault("submit", "job_fails", message="render node lost"))
        task = Task(**self.WAIT)
        with pytest.raises(KlingGenerationFailedError, match="render node lost"):
            task.attempt()
        assert task.attempt()["kling_task_id"] == ids(sandbox)[1]
        assert len(set(external_ids(sandbox))) == len(ids(sandbox)) == 2

    @pytest.mark.parametrize(("keys", "arguments"), WAYS.values(), ids=WAYS.keys())
    def test_the_video_says_what_it_cost(self, start: Start, keys: str, arguments: dict[str, Any]) -> None:
        sandbox = start(keys=keys)
        video = Task(**self.WAIT, **arguments).attempt()
        assert video["billed"] == {"units": float(sandbox.ledger()[0]["effective"]["units"])}
        assert video["is_watermarked"] is False

    @pytest.mark.parametrize(("keys", "arguments"), WAYS.values(), ids=WAYS.keys())
    def test_a_video_with_a_watermark_only(
        self, start: Start, keys: str, arguments: dict[str, Any], task_log: TaskLog
    ) -> None:
        sandbox = start(keys=keys)
        sandbox.add_fault(Fault("submit", "only_watermark"))
        video = Task(**self.WAIT, **arguments).attempt()
        assert video["is_watermarked"] is True
        assert video["video_url"].startswith(f"{VENDORS_HOST}/files/{ids(sandbox)[0]}.mp4")
        assert "watermark" in task_log.text


class TestManyAtOnce:
    def test_a_job_that_is_missing_harms_no_other(self, start: Start) -> None:
        """A triggerer asks for 20 jobs in one request."""
        sandbox = start(run_seconds=3600)
        bought = [Task(prompt=f"{PROMPT} {number}").attempt() for number in range(24)]
        missing = "867000000000000000"
        for kling_task_id in bought:
            sandbox.finish(kling_task_id)

        async def event_of(kling_task_id: str) -> Any:
            now = time.time()
            trigger = KlingTaskTrigger(
                kling_task_id=kling_task_id,
                kling_conn_id="kling_default",
                started_at=now - 3600,
                deadline=now + 30,
                poll_interval=0.1,
            )
            [payload] = [event.payload async for event in trigger.run()]
            return payload

        async def events() -> list[Any]:
            return await asyncio.gather(*map(event_of, [missing, *bought]))

        lost, *finished = asyncio.run(events())
        assert isinstance(KlingError.from_dict(lost["error"]), KlingNotFoundError)
        assert missing in str(lost)
        assert [event["video"]["kling_task_id"] for event in finished] == bought
        assert sandbox.requests["status"] < len(bought)
        assert max(exchange["path"].count(",") for exchange in sandbox.seen()) < 20


class TestWithoutAnyRecord:
    """``[kling] state = none``, and a deployment with a name: the platform is the record."""

    WAIT: dict[str, Any] = {"wait_for_completion": True, "poll_interval": 0.05}

    @pytest.fixture(autouse=True)
    def _turned_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__KLING__STATE", "none")
        monkeypatch.setenv("AIRFLOW__KLING__DEPLOYMENT", "test")

    @pytest.mark.parametrize("loss", [None, "drop_after", "drop_before"])
    @pytest.mark.parametrize(("keys", "arguments"), WAYS.values(), ids=WAYS.keys())
    def test_every_attempt_and_clear_joins_the_one_job(
        self, start: Start, keys: str, arguments: dict[str, Any], loss: str | None
    ) -> None:
        sandbox = start(keys=keys)
        if loss:
            sandbox.add_fault(Fault("submit", loss))
        task = Stateless(**arguments)
        first = task.attempt()
        assert task.attempt() == first
        task.clear()
        assert task.attempt() == first
        assert ids(sandbox) == [first]

    def test_a_failed_job_is_bought_again_by_the_retry_under_a_new_id(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "job_fails", message="render node lost"))
        task = Stateless(**self.WAIT)
        with pytest.raises(KlingGenerationFailedError, match="render node lost") as raised:
            task.attempt()
        assert not isinstance(raised.value, AirflowFailException), "Airflow retries it"
        assert task.attempt()["kling_task_id"] == ids(platform)[1]
        task.clear()
        assert task.attempt()["kling_task_id"] == ids(platform)[1]
        assert len(set(external_ids(platform))) == len(ids(platform)) == 2

    def test_a_look_up_that_fails_buys_nothing(self, platform: Sandbox) -> None:
        task = Stateless()
        first = task.attempt()
        platform.add_fault(Fault("find", "error", status=503, times=None))
        assert isinstance(task.until_it_ends(), KlingUncertainSubmissionError)
        platform.clear_faults()
        task.clear()
        assert task.attempt() == first
        assert ids(platform) == [first]

    def test_a_look_up_that_is_late_buys_nothing(self, platform: Sandbox) -> None:
        task = Stateless()
        first = task.attempt()
        platform.add_fault(Fault("find", "not_visible", times=6))
        assert task.attempt() == first
        assert ids(platform) == [first]

    def test_a_clear_with_resubmit_buys_one_more(self, platform: Sandbox) -> None:
        task = Stateless(on_clear="resubmit")
        first = task.attempt()
        task.clear()
        second = task.attempt()
        assert task.attempt() == second
        assert ids(platform) == [first, second]

    def test_a_wait_that_times_out_is_retried_and_joins(self, platform: Sandbox) -> None:
        platform.add_fault(Fault("submit", "stuck"))
        task = Stateless(**self.WAIT, timeout=0.3)
        for _ in range(2):
            with pytest.raises(KlingError, match="was still") as raised:
                task.attempt()
            assert not isinstance(raised.value, AirflowFailException), "Airflow retries it"
        assert len(ids(platform)) == 1

    def test_without_a_name_of_the_deployment_a_second_attempt_stops(
        self, platform: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("AIRFLOW__KLING__DEPLOYMENT")
        task = Stateless()
        task.attempt()
        assert isinstance(task.until_it_ends(), KlingUncertainSubmissionError)
        assert len(ids(platform)) == 1


class TestARefusal:
    @pytest.mark.parametrize(
        ("refusal", "is_final"),
        [
            ({"status": 400, "code": 1201, "message": "duration value is invalid"}, True),
            ({"status": 429, "code": 1101, "message": "Account in arrears"}, True),
            ({"status": 429, "code": 1102, "message": "Resource pack exhausted"}, True),
            ({"status": 403, "code": 1103, "message": "Not allowed"}, True),
            ({"status": 400, "code": 1301, "message": "Content"}, True),
        ],
        ids=str,
    )
    def test_is_no_lost_submit(self, platform: Sandbox, refusal: dict[str, Any], is_final: bool) -> None:
        platform.add_fault(Fault("submit", "error", **refusal))
        task = Task()
        error = task.until_it_ends()
        assert not isinstance(error, (KlingUncertainSubmissionError, KlingServerError))
        assert isinstance(error, AirflowFailException) is is_final
        assert refusal["message"] in str(error)
        assert platform.requests["find"] == 0
        task.clear()
        assert [task.attempt()] == ids(platform)
