# SPDX-License-Identifier: Apache-2.0
"""What is bought, what is joined, what stops: one scenario at a time."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingConnectionError,
    KlingContentRefusedError,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
    KlingServerError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.jobs.journal import new_id
from airflow_provider_kling.jobs.submission import ATTEMPTS_PER_PURCHASE
from airflow_provider_kling.jobs.submit_pauses import (
    ATTEMPTS_IN_PLACE,
    LONGEST_SLOT_PAUSE,
    pause_for_slot,
    pause_in_place,
)
from tests.fixtures.vendor import CAT, NOW, Vendor

DOG = VideoRequest.build(model="kling-v3-std-silent", prompt="a dog", duration=5)
Event = dict[str, Any]


LOST = KlingUncertainSubmissionError("The submit was sent, but its response was lost")


class TestRetryJoins:
    def test_a_running_job(self) -> None:
        vendor = Vendor()
        first, second = vendor.obtain(), vendor.obtain()
        assert first.kling_task_id == second.kling_task_id == "task_0"
        assert vendor.bought == ["task_0"]
        assert second.submitted_at == NOW

    def test_a_finished_job(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "completed")
        job = vendor.obtain().job
        assert job is not None
        assert job.status == "completed"
        assert vendor.bought == ["task_0"]

    def test_a_job_whose_state_cannot_be_fetched_now(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.look = lambda task_id: (_ for _ in ()).throw(KlingConnectionError("down"))  # type: ignore[method-assign]
        obtained = vendor.obtain()
        assert (obtained.kling_task_id, obtained.job) == ("task_0", None)

    def test_a_job_that_is_not_visible_yet(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.jobs.clear()
        assert vendor.obtain().kling_task_id == "task_0"

    def test_but_not_one_that_the_server_forgot(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.jobs.clear()
        vendor.now += 3600
        with pytest.raises(KlingNotFoundError, match="set another take"):
            vendor.obtain()
        assert vendor.bought == ["task_0"]


class TestAFailedJob:
    def test_is_bought_again_on_a_retry_and_stays_on_record(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "failed", "GPU on fire")
        assert vendor.obtain().kling_task_id == "task_1"
        assert [event["kling_task_id"] for event in vendor.stored if event["event"] == "submitted"] == [
            "task_0",
            "task_1",
        ]
        assert "GPU on fire" in vendor.lines[-1]
        assert vendor.obtain().kling_task_id == "task_1"

    def test_is_not_bought_again_if_it_would_fail_again(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "failed", "content policy violation", content_refused=True)
        with pytest.raises(KlingContentRefusedError):
            vendor.obtain()
        assert vendor.bought == ["task_0"]

    def test_unless_a_user_clears_it(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "failed", "content policy violation")
        assert vendor.obtain(clears=1).kling_task_id == "task_1"

    def test_whose_next_submit_is_lost_stops_and_is_not_joined(self) -> None:
        vendor = Vendor(None, LOST)
        vendor.obtain()
        vendor.end("task_0", "failed", "GPU on fire")
        vendor.stops()
        vendor.stops()
        assert vendor.bought == ["task_0"]


class TestWhatIsSent:
    """It may differ from what is recorded: an image has a signed URL in place of its URI."""

    def signing(self, vendor: Vendor, *, seconds: float = 0.0) -> Callable[[VideoRequest], VideoRequest]:
        def sign(video: VideoRequest) -> VideoRequest:
            vendor.now += seconds
            return video._replace(image=f"https://signed/{len(vendor.sent)}")

        return sign

    def test_is_made_anew_for_each_post(self) -> None:
        vendor = Vendor(KlingServerError("5xx", code="model_not_found"))
        vendor.obtain(to_send=self.signing(vendor))
        assert [video.image for video in vendor.sent] == ["https://signed/0", "https://signed/1"]
        assert vendor.bought == ["task_0"]
        assert "signed" not in json.dumps(vendor.stored)

    def test_is_made_before_the_intent_so_that_it_may_take_its_time(self) -> None:
        vendor = Vendor()
        vendor.obtain(to_send=self.signing(vendor, seconds=600.0))
        assert vendor.bought == ["task_0"]

    def test_leaves_nothing_to_resolve_if_it_cannot_be_made(self) -> None:
        vendor = Vendor()

        def fail(video: VideoRequest) -> VideoRequest:
            raise KlingError("the store cannot sign now")

        with pytest.raises(KlingError, match="cannot sign now"):
            vendor.obtain(to_send=fail)
        assert (vendor.stored, vendor.sent) == ([], [])
        assert vendor.obtain().kling_task_id == "task_0"

    def test_is_not_made_to_join(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        assert vendor.obtain(to_send=lambda video: pytest.fail("signed")).kling_task_id == "task_0"


class TestClear:
    def test_joins_by_default_and_logs_how_to_get_a_new_one(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        assert vendor.obtain(clears=1).kling_task_id == "task_0"
        assert "set another take, or on_clear='resubmit'" in vendor.lines[-1]

    def test_resubmits_with_on_clear_resubmit(self) -> None:
        vendor = Vendor()
        vendor.obtain(on_clear="resubmit")
        assert vendor.obtain(on_clear="resubmit").kling_task_id == "task_0", "a retry is no clear"
        assert vendor.obtain(clears=1, on_clear="resubmit").kling_task_id == "task_1"
        assert vendor.obtain(clears=1, on_clear="resubmit").kling_task_id == "task_1", (
            "a retry after the clear joins"
        )

    def test_that_found_no_slot_goes_on_buying_and_buys_once(self) -> None:
        vendor = Vendor(None, KlingRateLimitError("no slot"), KlingServerError("5xx", code="model_not_found"))
        vendor.obtain(on_clear="resubmit")
        with pytest.raises(KlingRateLimitError):
            vendor.obtain(clears=1, on_clear="resubmit")
        assert vendor.obtain(clears=1, on_clear="resubmit").kling_task_id == "task_1"
        assert vendor.obtain(clears=1, on_clear="resubmit").kling_task_id == "task_1"

    def test_that_bought_nothing_leaves_the_old_job_to_join(self) -> None:
        vendor = Vendor(None, KlingBalanceError("no money"))
        vendor.obtain()
        with pytest.raises(KlingBalanceError):
            vendor.obtain(clears=1, on_clear="resubmit")
        assert vendor.obtain(clears=2).kling_task_id == "task_0"

    def test_another_take_is_another_purchase(self) -> None:
        vendor = Vendor()
        assert vendor.obtain().kling_task_id == "task_0"
        assert vendor.obtain(take=2).kling_task_id == "task_1"
        assert vendor.obtain(take=1).kling_task_id == "task_0"

    def test_a_changed_request_never_joins_and_reports_the_old_job(self) -> None:
        vendor = Vendor()
        vendor.obtain(CAT)
        assert vendor.obtain(DOG, clears=1).kling_task_id == "task_1"
        assert "task_0" in vendor.lines[-1]
        assert "a cat" in vendor.lines[-1]


class TestAnUnknownFate:
    def test_stops_in_two_short_lines_with_what_to_do(self) -> None:
        vendor = Vendor(LOST)
        error = vendor.stops()
        first, second = str(error).splitlines()
        assert first == (
            "A submit may have been accepted and billed: kling-v3-std-silent, 5 s, “a cat”, sent 2026-09-21 "
            "14:13:20+00:00 (The submit was sent, but its response was lost)."
        )
        assert second == (
            f"Look for it at the vendor. Set the Airflow Variable {vendor.names()[0]} to its id, or to none if "
            "there is none. Then clear this task."
        )
        assert not error.retryable
        assert vendor.fates() == ["unknown"]

    @pytest.mark.parametrize("clears", [-1, 0, 1, 5])
    def test_is_not_resolved_by_a_retry_or_a_clear_and_ends_with_the_same_message(self, clears: int) -> None:
        lost = KlingUncertainSubmissionError("Open", http_status=502, code="lost", server_message="bad gateway")
        vendor = Vendor(lost)
        shown = str(vendor.stops())
        assert "HTTP 502, code lost" in shown
        for _ in range(3):
            assert str(vendor.stops(clears=clears)) == shown
        assert vendor.bought == []

    def test_of_a_process_that_died_stops_every_later_attempt(self) -> None:
        vendor = Vendor(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            vendor.obtain()
        for clears in (0, 1, 1, 2):
            assert "its process ended" in str(vendor.stops(clears=clears))
        assert vendor.bought == []

    def test_offers_the_id_that_the_response_named_and_the_entry_to_add(self) -> None:
        advice = KlingUncertainSubmissionError.default_advice
        for error, shown in (
            (
                KlingUncertainSubmissionError("Open", kling_task_id="task_9", advice=advice),
                "The response named the id task_9.",
            ),
            (KlingUncertainSubmissionError("Open", advice=f'{advice} Add "x".'), 'clear this task. Add "x".'),
        ):
            vendor = Vendor(error)
            first = str(vendor.stops())
            assert first.endswith(shown)
            assert str(vendor.stops()) == first

    def test_keeps_the_signatures_in_a_prompt_to_itself(self) -> None:
        vendor = Vendor(LOST)
        prompt = "https://b.example.com/a?sv=1&se=2&sig=0123456789abcdef0123456789 as a cat"
        request = VideoRequest.build(model="kling-v3-std-silent", prompt=prompt)
        assert "0123456789abcdef" not in str(vendor.stops(request))
        assert "0123456789abcdef" not in json.dumps(vendor.stored)

    def test_the_decision_none_submits_once(self) -> None:
        vendor = Vendor(LOST, LOST)
        vendor.stops()
        vendor.variables[vendor.names()[0]] = "  None\n"
        vendor.stops(clears=1)
        assert vendor.bought == [], "the second one was lost as well, and the word does not count for it"
        vendor.stops(clears=2)
        vendor.variables[vendor.names()[0]] = "NONE"
        assert vendor.obtain(clears=3).kling_task_id == "task_0"
        assert [event["cites"] for event in vendor.stored if event["event"] == "intent"][1].values()

    def test_the_next_intent_cites_the_decision(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        [name] = vendor.names()
        vendor.variables[name] = "none"
        vendor.obtain()
        lost, after = (event for event in vendor.stored if event["event"] == "intent")
        assert after["cites"] == {lost["intent"]: name}
        del vendor.variables[name]
        assert vendor.obtain().kling_task_id == "task_0", "the Variable is not needed any more"

    def test_is_hidden_by_no_submit_that_was_refused_after_it(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        [name] = vendor.names()
        vendor.answers.append(KlingValidationError("no such model"))
        with pytest.raises(KlingValidationError):
            vendor.obtain(on_uncertain="resubmit")
        assert sorted(vendor.fates()) == ["nothing", "unknown"]
        vendor.stops()
        vendor.variables[name] = vendor.has("task_found")
        assert vendor.obtain(on_uncertain="resubmit", clears=1).kling_task_id == "task_found"
        assert vendor.bought == []

    def test_a_named_job_is_taken(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        vendor.variables[vendor.names()[0]] = f" {vendor.has('Task_Found')} "
        assert vendor.obtain(clears=1).kling_task_id == "Task_Found"
        vendor.variables.clear()
        assert vendor.obtain(clears=1).kling_task_id == "Task_Found"
        assert vendor.bought == []

    def test_a_named_job_that_failed_is_bought_again_like_any_other(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        [name] = vendor.names()
        vendor.variables[name] = vendor.has("task_found")
        vendor.end("task_found", "failed")
        assert vendor.obtain(clears=1).kling_task_id == "task_0"
        assert vendor.fates() == ["job", "job"]

    def test_an_id_that_the_server_does_not_know_stops_and_can_be_corrected(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        [name] = vendor.names()
        for wrong in ("task_typo", "nothing", "no", "-"):
            vendor.variables[name] = wrong
            with pytest.raises(KlingNotFoundError, match=rf"{wrong}, which the Variable {name} names.*Correct"):
                vendor.obtain(clears=1)
        vendor.variables[name] = vendor.has("task_found")
        assert vendor.obtain(clears=2).kling_task_id == "task_found"

    def test_an_id_that_another_submit_of_the_task_has_is_not_taken(self) -> None:
        vendor = Vendor(None, LOST)
        vendor.obtain()
        vendor.stops(clears=1, on_clear="resubmit")
        vendor.variables[vendor.names()[0]] = "task_0"
        with pytest.raises(KlingValidationError, match="on record for another submit"):
            vendor.obtain(clears=2, on_clear="resubmit")

    def test_an_unavailable_server_is_queried_again_about_a_named_job(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        vendor.variables[vendor.names()[0]] = "task_x"
        vendor.look = lambda task_id: (_ for _ in ()).throw(KlingServerError("5xx"))  # type: ignore[method-assign]
        with pytest.raises(KlingServerError):
            vendor.obtain()
        assert vendor.bought == []

    def test_an_empty_variable_is_no_decision(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        vendor.variables[vendor.names()[0]] = "  "
        vendor.stops(clears=1)

    def test_of_another_request_needs_its_own_decision_too(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops(CAT)
        for clears in (0, 1):
            assert "The request has changed since" in str(vendor.stops(DOG, clears=clears))
        vendor.variables[vendor.names()[0]] = "none"
        assert vendor.obtain(DOG, clears=2).kling_task_id == "task_0"

    def test_of_another_request_whose_job_was_found_is_recorded_and_not_joined(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops(CAT)
        vendor.variables[vendor.names()[0]] = vendor.has("task_cat")
        assert vendor.obtain(DOG).kling_task_id == "task_0"
        assert vendor.obtain(CAT).kling_task_id == "task_cat"

    def test_of_another_request_does_not_keep_a_job_from_being_joined(self) -> None:
        vendor = Vendor(None, LOST)
        vendor.obtain(CAT)
        vendor.stops(DOG)
        assert vendor.obtain(CAT).kling_task_id == "task_0"


class TestOnUncertainResubmit:
    def test_buys_once_more_in_place_and_no_more(self) -> None:
        vendor = Vendor(LOST)
        assert vendor.obtain(on_uncertain="resubmit").kling_task_id == "task_0"
        vendor = Vendor(KlingServerError("5xx"), LOST)
        assert vendor.obtain(on_uncertain="resubmit").kling_task_id == "task_0"
        vendor = Vendor(*[LOST] * 9)
        for clears in range(5):
            vendor.stops(on_uncertain="resubmit", clears=clears)
        assert len(vendor.answers) == 9 - 2, "two POSTs of unknown fate, and none in later attempts"

    def test_buys_in_a_later_attempt_what_the_first_one_did_not(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        assert vendor.obtain(on_uncertain="resubmit").kling_task_id == "task_0"
        assert vendor.obtain(on_uncertain="resubmit").kling_task_id == "task_0"

    def test_keeps_what_is_known_of_the_submit_that_it_ignores(self) -> None:
        vendor = Vendor(KlingUncertainSubmissionError("open", kling_task_id="task_beside_an_error"))
        vendor.obtain(on_uncertain="resubmit")
        [ignored] = [event for event in vendor.stored if event["event"] == "uncertain"]
        assert ignored["offered"] == "task_beside_an_error"

    def test_each_decision_allows_one_more(self) -> None:
        vendor = Vendor(*[LOST] * 9)
        vendor.stops(on_uncertain="resubmit")
        for words in range(1, 4):
            vendor.variables[vendor.names()[0]] = "none"
            vendor.stops(on_uncertain="resubmit")
            assert len(vendor.answers) == 9 - 2 - words

    def test_counts_anew_for_the_purchase_that_follows_a_failed_job(self) -> None:
        vendor = Vendor(LOST, None, LOST)
        assert vendor.obtain(on_uncertain="resubmit").kling_task_id == "task_0"
        vendor.end("task_0", "failed", "GPU on fire")
        assert vendor.obtain(on_uncertain="resubmit").kling_task_id == "task_1"


class TestSendingAgain:
    @pytest.mark.parametrize("error", [KlingConnectionError("refused"), KlingServerError("5xx")])
    def test_in_place_what_bought_nothing(self, error: KlingError) -> None:
        vendor = Vendor(error, error)
        assert vendor.obtain().kling_task_id == "task_0"
        assert len(vendor.slept) == 2
        assert vendor.slept[0] < vendor.slept[1]

    def test_not_for_ever(self) -> None:
        vendor = Vendor(*[KlingServerError("5xx")] * 99)
        with pytest.raises(KlingServerError):
            vendor.obtain()
        assert len(vendor.slept) == ATTEMPTS_IN_PLACE - 1
        assert set(vendor.fates()) == {"nothing"}
        vendor.answers.clear()
        assert vendor.obtain().kling_task_id == "task_0", "nothing was bought, so the next attempt submits"

    def test_not_more_often_than_a_purchase_allows_until_a_clear(self) -> None:
        vendor = Vendor(*[KlingServerError("5xx")] * 99)
        for _ in range(9):
            with pytest.raises(KlingServerError):
                vendor.obtain()
        assert len(vendor.answers) == 99 - ATTEMPTS_PER_PURCHASE
        with pytest.raises(KlingServerError, match="were refused"):
            vendor.obtain()
        with pytest.raises(KlingServerError):
            vendor.obtain(clears=1)
        assert len(vendor.answers) == 99 - ATTEMPTS_PER_PURCHASE - ATTEMPTS_IN_PLACE

    def test_refusals_for_want_of_a_slot_are_not_counted_and_leave_no_trace(self) -> None:
        vendor = Vendor(*[KlingRateLimitError("no slot")] * 99)
        for _ in range(99):
            with pytest.raises(KlingRateLimitError):
                vendor.obtain()
        assert vendor.stored == []
        assert vendor.obtain().kling_task_id == "task_0"

    @pytest.mark.parametrize("error", [KlingBalanceError("no money"), KlingRateLimitError("no slot")])
    def test_nothing_else(self, error: KlingError) -> None:
        vendor = Vendor(error)
        with pytest.raises(type(error)):
            vendor.obtain()
        assert vendor.slept == []
        assert "unknown" not in vendor.fates()

    def test_retry_after_is_honoured(self) -> None:
        assert (pause_in_place(KlingServerError("5xx", retry_after=30), 1) or 0) >= 30
        assert pause_for_slot(KlingRateLimitError("429", retry_after=700), 1) >= 700

    def test_pauses_for_a_slot_grow_to_a_limit(self) -> None:
        pauses = [pause_for_slot(KlingRateLimitError("429"), refusals) for refusals in (1, 3, 50)]
        assert pauses[0] < pauses[1] < pauses[2] <= LONGEST_SLOT_PAUSE * 1.25


class TestTheProbe:
    @pytest.mark.parametrize("error", [KlingUnavailableError("a page"), KlingAuthenticationError("bad key")])
    def test_that_fails_sends_and_records_nothing(self, error: KlingError) -> None:
        vendor = Vendor()
        vendor.absent = error
        with pytest.raises(type(error)):
            vendor.obtain()
        assert (vendor.bought, vendor.stored) == ([], [])

    def test_that_fails_does_not_keep_a_job_from_being_joined(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.absent = KlingUnavailableError("a page")
        assert vendor.obtain().kling_task_id == "task_0"


class TestAnotherAttemptMeanwhile:
    def test_is_not_overtaken_by_one_that_slept(self) -> None:
        vendor = Vendor(KlingServerError("5xx"))
        nested = iter([None])

        def sleep(_: float) -> None:
            # Airflow took the sleeping attempt for dead, and the next one buys.
            if next(nested, "done") is None:
                assert vendor.obtain().kling_task_id == "task_0"

        vendor.slept = type("Sleeper", (), {"append": staticmethod(sleep)})()  # type: ignore[assignment]
        with pytest.raises(KlingError, match="Another attempt"):
            vendor.obtain()
        assert vendor.bought == ["task_0"]
        assert "unknown" not in vendor.fates()

    def test_that_answers_late_keeps_one_with_a_decision_from_buying(self) -> None:
        vendor = Vendor(LOST)
        vendor.stops()
        [name] = vendor.names()
        vendor.variables[name] = "none"
        [lost] = [event for event in vendor.stored if event["event"] == "intent"]
        late = {**lost, "id": new_id(), "event": "submitted", "kling_task_id": vendor.has("task_late")}

        @contextmanager
        def connect() -> Iterator[Vendor]:
            vendor.stored.append(late)  # while this attempt opens its connection
            yield vendor

        vendor.connect = connect  # type: ignore[method-assign]
        with pytest.raises(KlingError, match="Another attempt"):
            vendor.obtain()
        assert vendor.obtain().kling_task_id == "task_late"
        assert vendor.bought == []


class TestTheRecord:
    def test_an_id_that_cannot_be_written_is_kept_in_memory_and_logged(self) -> None:
        vendor = Vendor()
        vendor.unwritable = 99
        assert vendor.obtain().kling_task_id == "task_0"
        assert any("task_0" in line and "the store is away" in line for line in vendor.lines)
        vendor.stops()
        assert vendor.bought == ["task_0"]

    def test_an_id_is_written_as_soon_as_the_store_is_back(self) -> None:
        vendor = Vendor()
        vendor.unwritable = 2
        vendor.obtain()
        assert vendor.fates() == ["job"]

    def test_an_intent_is_withdrawn_as_soon_as_the_store_is_back(self) -> None:
        """The store goes away once it has the intent: nothing was sent, so no person has to look."""
        vendor = Vendor()
        load, append, away = vendor.load, vendor.append, 0

        def write(event: Any) -> None:
            nonlocal away
            if away:
                away -= 1
                raise OSError("the store is away")
            append(event)
            away = 3 if event["event"] == "intent" else 0

        def read() -> list[Event]:
            if away:
                raise OSError("the store is away")
            return load()

        vendor.append, vendor.load = write, read  # type: ignore[method-assign]
        with pytest.raises(KlingError, match="cannot be read"):
            vendor.obtain()
        assert vendor.fates() == []
        vendor.append, vendor.load = append, load  # type: ignore[method-assign]
        assert vendor.obtain().kling_task_id == "task_0"
        assert vendor.bought == ["task_0"]

    def test_an_intent_that_does_not_show_is_not_sent(self) -> None:
        vendor = Vendor()
        vendor.append = lambda event: None  # type: ignore[method-assign]
        with pytest.raises(KlingError, match="does not show what was written"):
            vendor.obtain()
        assert vendor.bought == []

    @pytest.mark.parametrize("call", ["load", "append"])
    def test_one_that_fails_shows_no_signature_in_a_traceback(self, call: str) -> None:
        vendor = Vendor()
        error = OSError("PUT https://b.example.com/a?sv=1&se=2&sig=0123456789abcdef0123456789")
        setattr(vendor, call, lambda *_: (_ for _ in ()).throw(error))
        with pytest.raises(KlingError, match="OSError: PUT") as raised:
            vendor.obtain()
        assert "0123456789abcdef" not in "".join(traceback.format_exception(raised.value))

    def test_one_that_lost_a_job_since_it_was_read_is_not_built_upon(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "failed")
        append = vendor.append

        def overwrite(event: Any) -> None:
            if event["event"] == "intent":
                vendor.stored.clear()
            append(event)

        vendor.append = overwrite  # type: ignore[method-assign]
        with pytest.raises(KlingError, match="does not show what was written"):
            vendor.obtain()
        assert vendor.bought == ["task_0"]
        assert vendor.stored == []

    @pytest.mark.parametrize("stored", [[None], [{}], [""], [[]], [{"version": 1}], [{"version": "1"}], [1]])
    def test_an_unreadable_one_is_not_taken_for_none(self, stored: Any) -> None:
        vendor = Vendor()
        vendor.stored = stored
        with pytest.raises(KlingError, match="unreadable"):
            vendor.obtain()
        assert vendor.bought == []

    def test_one_of_a_newer_version_is_rejected_with_a_message(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.stored[0]["version"] = 2
        with pytest.raises(KlingError, match=r"newer version.*Upgrade"):
            vendor.obtain()
        assert vendor.bought == ["task_0"]

    @pytest.mark.parametrize("jump", [-3600, 3600])
    def test_the_age_of_an_intent_is_taken_by_the_clock_that_has_gone_further(
        self, jump: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ages: list[float] = []
        vendor = Vendor()
        steady = time.monotonic

        def submit(
            request: VideoRequest, *, age: Callable[[], float], client_token: str | None = None
        ) -> VideoJob:
            vendor.now += jump
            monkeypatch.setattr(time, "monotonic", lambda: steady() + (40 if jump < 0 else 0))
            ages.append(age())
            raise KlingConnectionError("too old")

        vendor.submit = submit  # type: ignore[method-assign]
        with pytest.raises(KlingConnectionError):
            vendor.obtain()
        assert ages[0] >= 40
