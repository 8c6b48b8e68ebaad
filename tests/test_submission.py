# SPDX-License-Identifier: Apache-2.0
"""What is bought, what is joined, what stops: one scenario at a time."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from airflow_provider_kling.exceptions import (
    KlingBalanceError,
    KlingConnectionError,
    KlingContentRefusedError,
    KlingError,
    KlingNotFoundError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.submission import (
    ATTEMPTS_IN_PLACE,
    LONGEST_SLOT_PAUSE,
    Obtained,
    Purchase,
    Record,
    Submitter,
    fingerprint_of,
    pause_for_slot,
    pause_in_place,
)
from airflow_provider_kling.wire.answer import VideoJob
from airflow_provider_kling.wire.request import VideoRequest

NOW = 1_790_000_000.0
CAT = VideoRequest.build(model="kling-v3-std-silent", prompt="a cat", duration=5)
DOG = VideoRequest.build(model="kling-v3-std-silent", prompt="a dog", duration=5)


class Vendor:
    """A server and a record in memory; ``answers`` are the outcomes of the next submits, then all are accepted."""

    lasts = True

    def __init__(self, *answers: KlingError | None) -> None:
        self.answers = list(answers)
        self.bought: list[str] = []
        self.jobs: dict[str, VideoJob] = {}
        self.stored: dict[str, Any] | None = None
        self.unwritable = 0
        self.lines: list[str] = []
        self.slept: list[float] = []
        self.now = NOW

    def load(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.stored)

    def save(self, record: dict[str, Any]) -> None:
        if self.unwritable and any(entry["task_id"] for entry in record["submissions"]):
            self.unwritable -= 1
            raise OSError("the store is away")
        self.stored = json.loads(json.dumps(record))

    def send(self, request: VideoRequest) -> VideoJob:
        assert self.states()[-1:] == ["intent"], "an intent stands before every POST"
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        task_id = f"task_{len(self.bought)}"
        self.bought.append(task_id)
        self.jobs[task_id] = VideoJob(task_id=task_id, status="running", status_word="in_progress")
        return self.jobs[task_id]

    def look(self, task_id: str) -> VideoJob:
        if task_id not in self.jobs:
            raise KlingNotFoundError("no such task", task_id=task_id)
        return self.jobs[task_id]

    def end(self, task_id: str, status: str, error: str | None = None) -> None:
        url = "https://cdn.example.com/v.mp4" if status == "completed" else None
        self.jobs[task_id] = VideoJob(
            task_id=task_id, status=status, status_word=status, video_url=url, error=error
        )

    def states(self) -> list[str]:
        return [entry["state"] for entry in (self.stored or {"submissions": []})["submissions"]]

    def obtain(
        self,
        request: VideoRequest = CAT,
        *,
        clears: int = 0,
        take: int = 1,
        adopted: str | None = None,
        **wish: Any,
    ) -> Obtained:
        """Run one attempt of the task; ``clears`` counts how often a user cleared it so far."""
        submitter = Submitter(
            store=self,
            send=self.send,
            look=self.look,
            adopted_id=lambda fingerprint: adopted,
            log=self.lines.append,
            now=lambda: self.now,
            sleep=self.slept.append,
        )
        fingerprint = fingerprint_of(request, conn_id="kling", base_url="https://k", take=take)
        return submitter.obtain(
            Purchase(
                request=request,
                fingerprint=fingerprint,
                max_tries=2 + clears,
                adopt_hint=lambda fingerprint: f"set the Airflow Variable kling_adopt_{fingerprint[:4]}",
                **wish,
            )
        )


LOST = KlingUncertainSubmissionError("The submit was sent, but its answer was lost")


class TestRetryJoins:
    def test_a_running_job(self) -> None:
        vendor = Vendor()
        first, second = vendor.obtain(), vendor.obtain()
        assert first.task_id == second.task_id == "task_0"
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

    def test_a_job_whose_state_cannot_be_asked_for_now(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.look = lambda task_id: (_ for _ in ()).throw(KlingConnectionError("down"))  # type: ignore[method-assign]
        obtained = vendor.obtain()
        assert (obtained.task_id, obtained.job) == ("task_0", None)

    def test_a_job_that_is_not_visible_yet(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.jobs.clear()
        assert vendor.obtain().task_id == "task_0"

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
        assert vendor.obtain().task_id == "task_1"
        assert vendor.stored is not None
        assert vendor.stored["submissions"][0]["earlier"] == ["task_0"]
        assert "GPU on fire" in vendor.lines[-1]

    def test_is_not_bought_again_if_it_would_fail_again(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "failed", "content policy violation")
        with pytest.raises(KlingContentRefusedError):
            vendor.obtain()
        assert vendor.bought == ["task_0"]

    def test_unless_a_user_clears_it(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        vendor.end("task_0", "failed", "content policy violation")
        assert vendor.obtain(clears=1).task_id == "task_1"


class TestClear:
    def test_joins_by_default_and_says_how_to_get_a_new_one(self) -> None:
        vendor = Vendor()
        vendor.obtain()
        assert vendor.obtain(clears=1).task_id == "task_0"
        assert "set another take, or on_clear='resubmit'" in vendor.lines[-1]

    def test_resubmits_if_told_so(self) -> None:
        vendor = Vendor()
        vendor.obtain(on_clear="resubmit")
        assert vendor.obtain(on_clear="resubmit").task_id == "task_0", "a retry is no clear"
        assert vendor.obtain(clears=1, on_clear="resubmit").task_id == "task_1"
        assert vendor.obtain(clears=1, on_clear="resubmit").task_id == "task_1", "a retry after the clear joins"

    def test_another_take_is_another_purchase(self) -> None:
        vendor = Vendor()
        assert vendor.obtain().task_id == "task_0"
        assert vendor.obtain(take=2).task_id == "task_1"
        assert vendor.obtain(take=1).task_id == "task_0"

    def test_a_changed_request_never_joins_and_tells_of_the_old_job(self) -> None:
        vendor = Vendor()
        vendor.obtain(CAT)
        assert vendor.obtain(DOG, clears=1).task_id == "task_1"
        assert "task_0" in vendor.lines[-1]
        assert "a cat" in vendor.lines[-1]


class TestAnUnknownFate:
    def test_stops_and_says_what_to_do(self) -> None:
        vendor = Vendor(LOST)
        with pytest.raises(KlingUncertainSubmissionError) as raised:
            vendor.obtain()
        message = str(raised.value)
        for part in ("a cat", "2026-09-21", "vendor's console", "clear this task", "kling_adopt_", "on a guess"):
            assert part in message
        assert not raised.value.retryable
        assert vendor.states() == ["uncertain"]

    def test_of_a_process_that_died_stops_the_next_attempt_even_if_cleared_meanwhile(self) -> None:
        vendor = Vendor()
        vendor.send = lambda request: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            vendor.obtain()
        assert vendor.states() == ["intent"]
        with pytest.raises(KlingUncertainSubmissionError, match="the process that sent it ended"):
            vendor.obtain(clears=1)
        assert vendor.states() == ["uncertain"]

    def test_is_not_resolved_by_a_mere_retry(self) -> None:
        vendor = Vendor(LOST)
        for _ in range(3):
            with pytest.raises(KlingUncertainSubmissionError):
                vendor.obtain()
        assert vendor.bought == []

    def test_a_clear_afterwards_says_i_looked(self) -> None:
        vendor = Vendor(LOST)
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain()
        assert vendor.obtain(clears=1).task_id == "task_0"

    def test_a_named_job_is_adopted(self) -> None:
        vendor = Vendor(LOST)
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain()
        vendor.jobs["task_found"] = VideoJob(task_id="task_found", status="running", status_word="running")
        assert vendor.obtain(clears=1, adopted="task_found").task_id == "task_found"
        assert vendor.bought == []
        assert vendor.obtain(clears=1).task_id == "task_found"

    def test_a_job_that_the_server_does_not_know_is_not_adopted_and_the_id_can_be_corrected(self) -> None:
        vendor = Vendor(LOST)
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain()
        with pytest.raises(KlingNotFoundError, match=r"named for adoption.*Correct it"):
            vendor.obtain(clears=1, adopted="task_typo")
        vendor.jobs["task_found"] = VideoJob(task_id="task_found", status="running", status_word="running")
        assert vendor.obtain(clears=2, adopted="task_found").task_id == "task_found"

    def test_a_named_job_is_adopted_where_nothing_keeps_a_record(self) -> None:
        vendor = Vendor(LOST)
        vendor.lasts, vendor.load = False, lambda: None  # type: ignore[method-assign]
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain()
        vendor.jobs["task_found"] = VideoJob(task_id="task_found", status="running", status_word="running")
        assert vendor.obtain(clears=1, adopted="task_found").task_id == "task_found"
        assert vendor.bought == []

    def test_is_told_with_its_reason_first_and_as_known_then(self) -> None:
        vendor = Vendor(LOST)
        with pytest.raises(KlingUncertainSubmissionError, match="its answer was lost"):
            vendor.obtain()
        with pytest.raises(KlingUncertainSubmissionError, match="an earlier attempt told why"):
            vendor.obtain()

    def test_resubmit_buys_once_more_in_place_and_no_more(self) -> None:
        vendor = Vendor(LOST)
        assert vendor.obtain(on_uncertain="resubmit").task_id == "task_0"
        vendor = Vendor(KlingServerError("5xx"), LOST)
        assert vendor.obtain(on_uncertain="resubmit").task_id == "task_0"
        vendor = Vendor(LOST, LOST)
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain(on_uncertain="resubmit")

    def test_is_not_buried_under_a_request_that_changed_between_two_attempts(self) -> None:
        vendor = Vendor()
        vendor.send = lambda request: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            vendor.obtain(CAT)
        with pytest.raises(KlingUncertainSubmissionError, match="The request has changed since"):
            vendor.obtain(DOG)
        with pytest.raises(KlingUncertainSubmissionError, match="The request has changed since"):
            vendor.obtain(DOG)
        del vendor.send
        assert vendor.obtain(DOG, clears=1).task_id == "task_0"

    def test_of_a_clear_with_fewer_retries_than_before_is_still_a_clear(self) -> None:
        vendor = Vendor(LOST)
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain()
        assert vendor.obtain(clears=-1).task_id == "task_0"

    def test_resubmit_buys_without_asking(self) -> None:
        vendor = Vendor(LOST)
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain()
        assert vendor.obtain(on_uncertain="resubmit").task_id == "task_0"


class TestSendingAgain:
    @pytest.mark.parametrize("error", [KlingConnectionError("refused"), KlingServerError("5xx")])
    def test_in_place_what_bought_nothing(self, error: KlingError) -> None:
        vendor = Vendor(error, error)
        assert vendor.obtain().task_id == "task_0"
        assert len(vendor.slept) == 2
        assert vendor.slept[0] < vendor.slept[1]

    def test_not_for_ever(self) -> None:
        vendor = Vendor(*[KlingServerError("5xx")] * 99)
        with pytest.raises(KlingServerError):
            vendor.obtain()
        assert len(vendor.slept) == ATTEMPTS_IN_PLACE - 1
        assert vendor.states() == ["refused"]
        vendor.answers.clear()
        assert vendor.obtain().task_id == "task_0", "nothing was bought, so the next attempt submits"

    @pytest.mark.parametrize("error", [KlingBalanceError("no money"), KlingRateLimitError("no slot")])
    def test_nothing_else(self, error: KlingError) -> None:
        vendor = Vendor(error)
        with pytest.raises(type(error)):
            vendor.obtain()
        assert vendor.slept == []
        assert vendor.states() == ["refused"]

    def test_retry_after_is_honoured(self) -> None:
        assert (pause_in_place(KlingServerError("5xx", retry_after=30), 1) or 0) >= 30
        assert pause_for_slot(KlingRateLimitError("429", retry_after=700), 1) >= 700

    def test_pauses_for_a_slot_grow_to_a_limit(self) -> None:
        pauses = [pause_for_slot(KlingRateLimitError("429"), refusals) for refusals in (1, 3, 50)]
        assert pauses[0] < pauses[1] < pauses[2] <= LONGEST_SLOT_PAUSE * 1.25


class TestAnotherAttemptMeanwhile:
    def test_is_not_overtaken_by_one_that_slept(self) -> None:
        vendor = Vendor(KlingServerError("5xx"))
        nested = iter([None])

        def sleep(_: float) -> None:
            # Airflow took the sleeping attempt for dead, and the next one buys.
            if next(nested, "done") is None:
                assert vendor.obtain().task_id == "task_0"

        vendor.slept = type("Sleeper", (), {"append": staticmethod(sleep)})()  # type: ignore[assignment]
        with pytest.raises(KlingError, match="Another attempt"):
            vendor.obtain()
        assert vendor.bought == ["task_0"]
        assert vendor.states() == ["submitted"]


class TestTheRecord:
    def test_an_id_that_cannot_be_written_is_kept_in_memory_and_told(self) -> None:
        vendor = Vendor()
        vendor.unwritable = 99
        assert vendor.obtain().task_id == "task_0"
        assert any("task_0" in line and "the store is away" in line for line in vendor.lines)
        with pytest.raises(KlingUncertainSubmissionError):
            vendor.obtain()
        assert vendor.bought == ["task_0"]

    def test_an_id_is_written_as_soon_as_the_store_is_back(self) -> None:
        vendor = Vendor()
        vendor.unwritable = 2
        vendor.obtain()
        assert vendor.states() == ["submitted"]

    def test_an_unreadable_one_is_not_taken_for_none(self) -> None:
        vendor = Vendor()
        vendor.stored = {"something": "else"}
        with pytest.raises(KlingError, match="unreadable"):
            vendor.obtain()
        assert vendor.bought == []

    def test_survives_its_own_json(self) -> None:
        vendor = Vendor()
        vendor.obtain(CAT)
        vendor.obtain(DOG)
        record = Record.from_json(vendor.stored)
        assert record.to_json() == vendor.stored
        assert [entry.what.split("“")[1] for entry in record.submissions.values()] == ["a cat”", "a dog”"]


def test_the_fingerprint_is_of_the_purchase_and_not_of_its_spelling() -> None:
    def of(request: VideoRequest = CAT, conn_id: str = "kling", base_url: str = "https://k", take: int = 1) -> str:
        return fingerprint_of(request, conn_id=conn_id, base_url=base_url, take=take)

    same = VideoRequest.build(duration="5", prompt="a cat", model="kling-v3-std-silent")
    assert of() == of(same)
    assert len({of(), of(DOG), of(conn_id="other"), of(base_url="https://other"), of(take=2)}) == 5
