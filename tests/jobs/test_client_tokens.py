# SPDX-License-Identifier: Apache-2.0
"""
Lost submits on a server that takes each client token once: a crash at any point ends in one video.

The server keeps its own books. A request that is lost may still arrive later, at any moment.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kling.api.base import Grace
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingDuplicateSubmissionError,
    KlingError,
    KlingNotFoundError,
    KlingPermanentError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.jobs.client_token import derived_client_token
from airflow_provider_kling.jobs.consent import variable_name
from airflow_provider_kling.jobs.fingerprint import fingerprint_of
from airflow_provider_kling.jobs.journal import SENT_AT_UNKNOWN, Journal, new_event, new_id
from airflow_provider_kling.jobs.look_up import MAX_LOOK_UPS, LookUp
from airflow_provider_kling.jobs.submission import Submitter
from airflow_provider_kling.jobs.submit_request import SubmitRequest, SubmitResult

CAT, DOG = (VideoRequest.build(model="kling-v3-std-silent", prompt=prompt) for prompt in ("a cat", "a dog"))
SERVER, ACCOUNT = "https://api-singapore.klingai.com", "0123456789abcdef"
PAUSE = 60.0


class Killed(BaseException):
    """SIGKILL: no handler of ours sees it as an Exception."""


@dataclass
class Platform:
    """
    A server that takes each client token once, with a record and the steps of one task.

    :param honours: Whether it takes each token only once; a server that drops it takes all of them.
    :param outcomes: The outcomes of the next submits: None accepts, ``"lost"`` accepts and loses the response,
        ``"gone"`` loses the request, ``"late"`` loses the response and accepts when the next request comes,
        ``"killed"`` kills the process after the acceptance, ``"killed before"`` before it, and an error is raised.
    :param looks: The outcomes of the next look-ups: None answers, ``"absent"`` finds nothing, an error is raised.
    """

    honours: bool = True
    is_trusted: bool = True
    durable: bool = True
    outcomes: list[Any] = field(default_factory=list)
    looks: list[Any] = field(default_factory=list)
    stored: list[dict[str, Any]] = field(default_factory=list)
    #: Every job by its id: the token and the request that made it.
    made: dict[str, tuple[str | None, str]] = field(default_factory=dict)
    status: dict[str, str] = field(default_factory=dict)
    late: list[tuple[str | None, str]] = field(default_factory=list)
    posts: list[str | None] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    slept: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    account: str = ACCOUNT
    now: float = 1_790_000_000.0

    # ---- the record

    def new_intent(self) -> str:
        return new_id()

    def load(self) -> list[dict[str, Any]]:
        return copy.deepcopy(self.stored)

    def append(self, event: Any) -> None:
        self.stored.append(copy.deepcopy(event))

    def forget(self, intent: str) -> None:
        self.stored = [event for event in self.stored if event["intent"] != intent]

    # ---- the server

    @contextmanager
    def connect(self) -> Iterator[Platform]:
        yield self

    def probe(self) -> None:
        pass

    def submit(
        self, request: VideoRequest, *, age: Callable[[], float], client_token: str | None = None
    ) -> VideoJob:
        recorded = [submit.client_token for submit in Journal(self.stored).unknown()]
        assert client_token in recorded, "the token stands on record before every POST"
        self.posts.append(client_token)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, KlingError):
            raise outcome
        if outcome == "killed before":
            raise Killed
        if outcome == "gone":
            raise KlingUncertainSubmissionError("its response was lost")
        if outcome == "late":
            self.late.append((client_token, str(request.prompt)))
            raise KlingUncertainSubmissionError("its response was lost")
        job = self.accept(client_token, str(request.prompt))
        if outcome == "killed":
            raise Killed
        if outcome == "lost":
            raise KlingUncertainSubmissionError("its response was lost")
        if job is None:
            raise KlingDuplicateSubmissionError("External_task_id already exists")
        return job

    def accept(self, token: str | None, prompt: str) -> VideoJob | None:
        if self.honours and any(token == other for other, _ in self.made.values()):
            return None
        kling_task_id = f"task_{len(self.made)}"
        self.made[kling_task_id] = (token, prompt)
        return self.job(kling_task_id)

    def arrive(self) -> None:
        """Let every request that is still on its way arrive."""
        while self.late:
            self.accept(*self.late.pop(0))

    def job(self, kling_task_id: str) -> VideoJob:
        status = self.status.get(kling_task_id, "running")
        token = self.made[kling_task_id][0] if self.honours else None
        return VideoJob(kling_task_id=kling_task_id, status=status, raw_status=status, client_token=token)  # type: ignore[arg-type]

    def look(self, kling_task_id: str) -> VideoJob:
        if kling_task_id not in self.made:
            raise KlingNotFoundError("no such task")
        return self.job(kling_task_id)

    def find(self, client_token: str) -> VideoJob | None:
        look = self.looks.pop(0) if self.looks else None
        if isinstance(look, KlingError):
            raise look
        if look == "killed":
            raise Killed
        if look == "absent" or not self.honours:
            return None
        found = (task for task, (token, _) in self.made.items() if token == client_token)
        return next(map(self.job, found), None)

    # ---- the task

    def attempt(
        self, request: VideoRequest = CAT, *, clears: int = 0, seed: str | None = None, **wish: Any
    ) -> Any:
        submitter = Submitter(
            store=self,
            connect=self.connect,
            get_job=self.look,
            grace=Grace(visibility=0.0, url=0.0),
            look_up=LookUp(
                find=self.find,
                account=lambda: self.account,
                server=SERVER,
                is_honoured=self.is_trusted,
                pause=PAUSE,
            ),
            read_variable=self.variables.get,
            log=self.lines.append,
            now=self.tick,
            sleep=self.slept.append,
        )
        return submitter.submit_or_join(
            SubmitRequest(
                video=request,
                fingerprint=fingerprint_of(request, conn_id="kling", base_url=SERVER),
                conn_id="kling",
                dag_id="dag",
                max_tries=2 + clears,
                token_seed=seed,
                **wish,
            )
        )

    def tick(self) -> float:
        self.now += 1
        return self.now

    def unknown(self) -> list[str]:
        return [submit.id for submit in Journal(self.stored).unknown()]


class TestALostAnswer:
    def test_is_looked_up_at_once(self) -> None:
        platform = Platform(outcomes=["lost"])
        result = platform.attempt()
        assert result.kling_task_id == "task_0"
        assert platform.slept == []
        assert len(platform.posts) == 1
        assert platform.unknown() == []

    def test_is_looked_up_again_after_the_pause(self) -> None:
        platform = Platform(outcomes=["lost"], looks=["absent"])
        assert platform.attempt().kling_task_id == "task_0"
        assert platform.slept == [PAUSE]
        assert len(platform.posts) == 1

    def test_a_request_that_never_arrived_is_sent_again_with_the_same_token(self) -> None:
        platform = Platform(outcomes=["gone"])
        assert platform.attempt().kling_task_id == "task_0"
        first, second = platform.posts
        assert first == second
        assert len(first or "") == 16

    def test_a_request_that_arrives_late_is_found_by_the_refusal_of_the_second(self) -> None:
        platform = Platform(outcomes=["lost"], looks=["absent", "absent", "absent"])
        assert platform.attempt().kling_task_id == "task_0"
        assert len(platform.posts) == 2
        assert len(platform.made) == 1

    @pytest.mark.parametrize("times", [1, 3, MAX_LOOK_UPS - 1])
    def test_a_look_up_that_fails_proves_nothing_and_is_repeated(self, times: int) -> None:
        platform = Platform(outcomes=["lost"], looks=[KlingServerError("busy")] * times)
        assert platform.attempt().kling_task_id == "task_0"
        assert len(platform.posts) == 1
        assert len(platform.slept) == times

    def test_look_ups_that_always_fail_end_in_a_persons_word(self) -> None:
        platform = Platform(outcomes=["lost"], looks=[KlingServerError("busy")] * MAX_LOOK_UPS)
        with pytest.raises(KlingUncertainSubmissionError, match=r"external_task_id [\w-]{16}\. A clear"):
            platform.attempt()
        assert len(platform.posts) == 1
        assert sum(platform.slept) < 600
        assert platform.attempt(clears=1).kling_task_id == "task_0", "a clear asks again"
        assert len(platform.posts) == 1

    def test_a_key_that_is_refused_meanwhile_stops_the_attempt_and_the_next_one_looks_again(self) -> None:
        platform = Platform(outcomes=["lost"], looks=[KlingAuthenticationError("bad key")])
        with pytest.raises(KlingAuthenticationError):
            platform.attempt()
        assert platform.attempt().kling_task_id == "task_0"
        assert len(platform.posts) == 1

    def test_without_a_record_that_key_leaves_it_to_a_person(self) -> None:
        platform = Platform(durable=False, outcomes=["lost"], looks=[KlingAuthenticationError("bad key")])
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt()

    def test_a_slot_that_is_missing_meanwhile_loses_nothing(self) -> None:
        platform = Platform(outcomes=["late", KlingRateLimitError("no slot")])
        with pytest.raises(KlingRateLimitError):
            platform.attempt()
        platform.arrive()
        assert platform.attempt().kling_task_id == "task_0"
        assert len(platform.made) == 1

    def test_without_a_record_and_a_slot_it_is_a_persons_word(self) -> None:
        platform = Platform(durable=False, outcomes=["late", KlingRateLimitError("no slot")])
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt()

    def test_a_request_that_is_always_lost_is_sent_a_few_times(self) -> None:
        platform = Platform(outcomes=["gone"] * 20)
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt()
        assert 1 < len(platform.posts) < 6
        assert len(set(platform.posts)) == 1


class TestALookUpThatIsRefused:
    """An error that repeating does not cure proves nothing either; the error has to say what a person can do."""

    REFUSALS = (
        KlingNotFoundError("no such resource"),
        KlingPermanentError("bad id"),
    )

    @pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
    @pytest.mark.parametrize("outcome", ["lost", "killed"])
    def test_leaves_it_to_a_person_and_a_clear_asks_again(self, outcome: str, refusal: KlingError) -> None:
        platform = Platform(outcomes=[outcome], looks=[refusal])
        if outcome == "killed":
            with pytest.raises(Killed):
                platform.attempt()
        with pytest.raises(KlingUncertainSubmissionError, match="Airflow Variable kling_adopt_"):
            platform.attempt()
        assert len(platform.posts) == 1
        assert platform.attempt(clears=1).kling_task_id == "task_0"
        assert len(platform.made) == 1


class TestAPostThatWasRefusedWithTheTokenOfALostOne:
    """It bought nothing, so it says nothing about the lost one, which is looked up again."""

    @pytest.mark.parametrize("refusal", [KlingBalanceError("empty"), KlingRateLimitError("no slot")], ids=repr)
    def test_the_lost_one_is_still_looked_for(self, refusal: KlingError) -> None:
        platform = Platform(outcomes=["late", refusal])
        with pytest.raises(type(refusal)):
            platform.attempt()
        platform.arrive()
        platform.outcomes = [refusal] * 5
        assert platform.attempt().kling_task_id == "task_0"
        assert len(platform.posts) == 2
        assert platform.unknown() == []

    def test_a_changed_request_does_not_hide_it(self) -> None:
        platform = Platform(outcomes=["late", KlingBalanceError("empty")])
        with pytest.raises(KlingBalanceError):
            platform.attempt(CAT)
        platform.arrive()
        assert platform.attempt(DOG).kling_task_id == "task_1"
        assert len(platform.posts) == 3
        recorded = {submit.prompt: submit.kling_task_ids for submit in Journal(platform.stored).jobs()}
        assert recorded == {"a cat": ["task_0"], "a dog": ["task_1"]}


class TestACrash:
    def test_between_the_end_of_a_duplicate_and_the_record_of_its_job(self) -> None:
        """The duplicate is of another request: it must not be taken for the one that made the job."""
        platform = Platform(outcomes=["killed"])
        with pytest.raises(Killed):
            platform.attempt(CAT)
        platform.looks = ["absent", "absent"]
        append = platform.append

        def dies(event: Any) -> None:
            if event["event"] == "submitted":
                raise Killed
            append(event)

        platform.append = dies  # type: ignore[method-assign]
        with pytest.raises(Killed):
            platform.attempt(DOG)
        platform.append = append  # type: ignore[method-assign]
        assert platform.attempt(DOG).kling_task_id == "task_1"
        assert platform.made["task_1"][1] == "a dog"
        assert platform.unknown() == []

    def test_before_an_attempt_withdraws_a_token_whose_job_another_one_has_recorded(self) -> None:
        platform = Platform()
        platform.attempt(CAT)
        [intent] = (event for event in platform.stored if event["event"] == "intent")
        fingerprint = fingerprint_of(DOG, conn_id="kling", base_url=SERVER)
        platform.append({**intent, "id": new_id(), "intent": new_id(), "fingerprint": fingerprint})
        assert platform.attempt(DOG).kling_task_id == "task_1"
        assert platform.made["task_1"][1] == "a dog"
        assert platform.unknown() == []

    def test_while_the_job_of_a_duplicate_is_looked_up(self) -> None:
        platform = Platform(outcomes=["killed"])
        with pytest.raises(Killed):
            platform.attempt(CAT)
        platform.looks = ["absent", "absent", "killed"]
        with pytest.raises(Killed):
            platform.attempt(DOG)
        assert platform.attempt(DOG).kling_task_id == "task_1"
        assert platform.made["task_1"][1] == "a dog"

    def test_of_attempts_at_the_same_time_leaves_nothing_unknown(self) -> None:
        platform = Platform(outcomes=["gone"] * 4)
        submit, left = platform.submit, [1, 2]

        def submit_with_another(request: VideoRequest, **details: Any) -> VideoJob:
            if left:
                left.pop()
                with suppress(KlingError):
                    platform.attempt(CAT)
            return submit(request, **details)

        platform.submit = submit_with_another  # type: ignore[method-assign]
        with suppress(KlingError, AssertionError):
            platform.attempt(CAT)
        platform.outcomes = []
        assert platform.attempt(CAT).kling_task_id == "task_0"
        assert platform.unknown() == []
        assert platform.attempt(DOG).kling_task_id == "task_1"

    def test_a_duplicate_whose_job_is_not_found_is_reported_as_the_first(self) -> None:
        """A person looks for a job of that time, and of that request."""
        platform = Platform(outcomes=["killed"])
        with pytest.raises(Killed):
            platform.attempt(CAT)
        [first] = platform.unknown()
        platform.looks = ["absent"] * (2 + MAX_LOOK_UPS)
        with pytest.raises(KlingUncertainSubmissionError, match=rf"a cat[^$]*{variable_name(first)}"):
            platform.attempt(DOG)
        platform.variables[variable_name(first)] = "task_0"
        assert platform.attempt(DOG).kling_task_id == "task_1"
        assert len(platform.made) == 2


class TestAServerThatMayDropTheToken:
    def test_a_lost_submit_is_joined_if_it_is_found(self) -> None:
        platform = Platform(is_trusted=False, outcomes=["lost"])
        assert platform.attempt().kling_task_id == "task_0"

    def test_and_not_sent_again_if_it_is_not(self) -> None:
        platform = Platform(is_trusted=False, honours=False, outcomes=["lost"])
        for _ in range(3):
            with pytest.raises(KlingUncertainSubmissionError):
                platform.attempt()
        assert len(platform.posts) == 1

    def test_unless_it_has_repeated_one_to_this_task(self) -> None:
        platform = Platform(is_trusted=False)
        platform.attempt(DOG)
        platform.outcomes = ["gone"]
        assert platform.attempt(CAT).kling_task_id == "task_1"
        assert len(platform.posts) == 3

    def test_an_argument_still_allows_one_more(self) -> None:
        platform = Platform(is_trusted=False, honours=False, outcomes=["gone", "gone", "gone"])
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt(on_uncertain="resubmit")
        assert len(platform.posts) == 2

    def test_a_person_may_say_that_there_is_none(self) -> None:
        platform = Platform(is_trusted=False, honours=False, outcomes=["gone"])
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt()
        [submit] = platform.unknown()
        platform.variables[variable_name(submit)] = "none"
        assert platform.attempt().kling_task_id == "task_0"


class TestTheNextAttempt:
    @pytest.mark.parametrize("outcome", ["killed", "killed before"])
    @pytest.mark.parametrize("on_clear", ["reuse", "resubmit"])
    @pytest.mark.parametrize("clears", [0, 1])
    def test_a_kill_ends_in_one_video_without_a_person(self, outcome: str, on_clear: Any, clears: int) -> None:
        platform = Platform(outcomes=[outcome])
        with pytest.raises(Killed):
            platform.attempt(on_clear=on_clear)
        assert platform.attempt(on_clear=on_clear, clears=clears).kling_task_id == "task_0"
        assert len(platform.made) == 1

    def test_a_request_that_changed_meanwhile_takes_the_token_of_the_lost_one(self) -> None:
        """If the first did make a job, the server refuses the second: only then it is known, and recorded."""
        platform = Platform(outcomes=["killed"], looks=[])
        with pytest.raises(Killed):
            platform.attempt(CAT)
        platform.looks = ["absent", "absent"]
        result = platform.attempt(DOG)
        assert platform.made[result.kling_task_id][1] == "a dog"
        assert [prompt for _, prompt in platform.made.values()] == ["a cat", "a dog"]
        assert platform.posts[0] == platform.posts[1] != platform.posts[2]
        fates = {submit.prompt: submit.kling_task_ids for submit in Journal(platform.stored).jobs()}
        assert fates == {"a cat": ["task_0"], "a dog": ["task_1"]}

    def test_a_job_that_a_person_named_is_no_sign_of_a_server_that_drops_the_token(self) -> None:
        platform = Platform(outcomes=["lost"], looks=[KlingServerError("busy")] * MAX_LOOK_UPS)
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt()
        [submit] = platform.unknown()
        platform.variables[variable_name(submit)] = "task_0"
        assert platform.attempt().kling_task_id == "task_0"
        platform.status["task_0"] = "failed"
        platform.outcomes = ["gone"]
        assert platform.attempt().kling_task_id == "task_1"

    def test_a_job_that_another_process_has_recorded_meanwhile_is_not_that_of_a_changed_request(self) -> None:
        platform = Platform(outcomes=["killed", "lost"])
        with pytest.raises(Killed):
            platform.attempt(CAT)
        [lost] = platform.unknown()
        platform.looks = ["absent", "absent"]
        find = platform.find

        def find_after_a_zombie(client_token: str) -> VideoJob | None:
            if len(platform.posts) == 2:
                platform.append(new_event("submitted", lost, at=platform.tick(), kling_task_id="task_0"))
                platform.append(new_event("joined", lost, at=platform.tick(), max_tries=2))
                platform.posts.append(None)
            return find(client_token)

        platform.find = find_after_a_zombie  # type: ignore[method-assign]
        result = platform.attempt(DOG)
        assert platform.made[result.kling_task_id][1] == "a dog"

    def test_a_server_that_may_drop_the_token_gets_no_more_posts_than_a_gateway(self) -> None:
        platform = Platform(is_trusted=False)
        for _ in range(4):
            platform.outcomes = [KlingServerError("refused")] * 6
            with pytest.raises(KlingServerError):
                platform.attempt()
        with pytest.raises(KlingServerError, match="24 submits of this request were refused"):
            platform.attempt()
        assert len(platform.posts) == 24

    def test_another_account_cannot_be_asked(self) -> None:
        platform = Platform(outcomes=["killed"])
        with pytest.raises(Killed):
            platform.attempt()
        platform.account = "another"
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt()
        assert len(platform.posts) == 1

    @pytest.mark.parametrize("on_clear", ["reuse", "resubmit"])
    def test_a_failed_job_is_bought_again_under_a_new_token(self, on_clear: Any) -> None:
        platform = Platform()
        platform.attempt(on_clear=on_clear)
        platform.status["task_0"] = "failed"
        assert platform.attempt(on_clear=on_clear).kling_task_id == "task_1"
        assert len(set(platform.posts)) == 2

    def test_a_clear_with_resubmit_takes_a_new_token(self) -> None:
        platform = Platform()
        platform.attempt(on_clear="resubmit")
        assert platform.attempt(on_clear="resubmit", clears=1).kling_task_id == "task_1"
        assert len(set(platform.posts)) == 2

    def test_refused_posts_of_one_purchase_share_its_token(self) -> None:
        platform = Platform(outcomes=[KlingServerError("refused")] * 3 + [KlingBalanceError("empty")])
        with pytest.raises(KlingBalanceError):
            platform.attempt()
        platform.attempt()
        assert len(platform.posts) == 5
        assert len(set(platform.posts)) == 1

    def test_purchases_are_bounded_by_the_token_and_not_by_a_count_of_posts(self) -> None:
        platform = Platform()
        for _ in range(10):
            platform.outcomes = [KlingServerError("refused")] * 6
            with pytest.raises(KlingServerError):
                platform.attempt()
        assert platform.attempt().kling_task_id == "task_0"


class TestWithoutARecord:
    """``[kling] state = none``, and a deployment with a name: the server is the record."""

    SEED = "production\0dag\0run\0task\0-1\0fingerprint"

    def next_attempt(self, platform: Platform) -> None:
        """Forget everything, as a new process does; all that is known is that there was an attempt before."""
        platform.stored = [
            new_event(
                "intent",
                f"{new_id()[:12]}-earlier",
                at=SENT_AT_UNKNOWN,
                fingerprint=fingerprint_of(CAT, conn_id="kling", base_url=SERVER),
                purchase=0,
                max_tries=-1,
                conn_id="kling",
                dag_id="dag",
                cites={},
            )
        ]

    @pytest.mark.parametrize("outcome", [None, "killed", "killed before"])
    def test_the_next_attempt_finds_or_buys_one_video(self, outcome: Any) -> None:
        platform = Platform(durable=False, outcomes=[outcome])
        with suppress(Killed):
            platform.attempt(seed=self.SEED)
        for _ in range(3):
            self.next_attempt(platform)
            assert platform.attempt(seed=self.SEED).kling_task_id == "task_0"
        assert len(platform.made) == 1
        assert set(platform.posts) == {derived_client_token(self.SEED, 0)}

    def test_a_job_that_failed_is_walked_past_five_times(self) -> None:
        platform = Platform(durable=False)
        platform.attempt(seed=self.SEED)
        for number in range(4):
            platform.status[f"task_{number}"] = "failed"
            self.next_attempt(platform)
            assert platform.attempt(seed=self.SEED).kling_task_id == f"task_{number + 1}"
        platform.status["task_4"] = "failed"
        self.next_attempt(platform)
        with pytest.raises(KlingPermanentError, match="5 jobs of this request have failed"):
            platform.attempt(seed=self.SEED)
        assert platform.posts == [derived_client_token(self.SEED, number) for number in range(5)]

    def test_on_a_server_that_may_drop_it_a_person_decides(self) -> None:
        platform = Platform(durable=False, is_trusted=False, honours=False, outcomes=["killed"])
        with pytest.raises(Killed):
            platform.attempt(seed=self.SEED)
        self.next_attempt(platform)
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt(seed=self.SEED)
        assert len(platform.posts) == 1

    def test_a_server_that_cannot_be_asked_leaves_it_to_a_person(self) -> None:
        platform = Platform(durable=False)
        platform.attempt(seed=self.SEED)
        self.next_attempt(platform)
        platform.looks = [KlingServerError("busy")] * MAX_LOOK_UPS
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt(seed=self.SEED)
        assert len(platform.posts) == 1

    def test_nor_is_a_later_purchase_sent_again_if_it_cannot_be_looked_up(self) -> None:
        platform = Platform(durable=False, is_trusted=False)
        platform.attempt(seed=self.SEED)
        platform.status["task_0"] = "failed"
        self.next_attempt(platform)
        assert platform.attempt(seed=self.SEED).kling_task_id == "task_1"
        self.next_attempt(platform)
        platform.looks = [None, *[KlingServerError("busy")] * MAX_LOOK_UPS]
        with pytest.raises(KlingUncertainSubmissionError):
            platform.attempt(seed=self.SEED)
        assert len(platform.posts) == 2
        assert platform.looks == []

    def test_two_deployments_have_two_tokens(self) -> None:
        assert derived_client_token("staging", 0) != derived_client_token("production", 0)
        assert derived_client_token("staging", 0) != derived_client_token("staging", 1)


POSTS = (None, "lost", "gone", "late", "killed", "killed before", "slot", "refused", "arrive")
LOOKS = (None, None, "absent", "busy", "killed")


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_purchases_never_exceed_one_and_the_end_is_a_video_without_a_person(data: st.DataObject) -> None:
    platform = Platform(is_trusted=data.draw(st.booleans()))
    if not platform.is_trusted:
        platform.attempt(VideoRequest.build(model="kling-v3-std-silent", prompt="an echo"))
    errors = {"slot": KlingRateLimitError("no slot"), "refused": KlingServerError("refused")}
    requests = data.draw(st.sampled_from([[CAT], [CAT, DOG]]))
    for _ in range(data.draw(st.integers(1, 6))):
        outcomes = data.draw(st.lists(st.sampled_from(POSTS), max_size=5))
        platform.outcomes = [errors.get(str(outcome), outcome) for outcome in outcomes if outcome != "arrive"]
        looks = data.draw(st.lists(st.sampled_from(LOOKS), max_size=4))
        # A server that says "absent" of a job that it has is possible only while it is being made.
        platform.looks = [KlingServerError("busy") if look == "busy" else look for look in looks]
        with suppress(KlingError, Killed):
            platform.attempt(data.draw(st.sampled_from(requests)))
        if data.draw(st.booleans()):
            platform.arrive()
    platform.outcomes, platform.looks = [], []
    platform.arrive()
    ends = [platform.attempt(request) for request in requests]
    platform.arrive()
    assert all(isinstance(end, SubmitResult) for end in ends)
    assert platform.unknown() == []
    bought = Counter(prompt for _, prompt in platform.made.values() if prompt != "an echo")
    assert sum(bought.values()) == len(requests), bought
    recorded = {task for submit in Journal(platform.stored).submits.values() for task in submit.kling_task_ids}
    assert recorded == platform.made.keys()
