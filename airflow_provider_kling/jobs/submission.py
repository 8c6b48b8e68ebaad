# SPDX-License-Identifier: Apache-2.0
"""
The submission decision: which job is bought, which is joined, and what may be sent again.

Each accepted submit is billed and none can be cancelled. So an *intent* is recorded before the POST and its
outcome right after the response, and the next attempt reads both: a retry, a restarted worker, a cleared task.
This module decides from the record, and depends neither on Airflow nor on HTTP. Its rules: a submit counts as
billed unless it provably was not, only a person's explicit decision or an argument allows another purchase, and no
id is lost. Where the server keeps a client token with each job, it is asked for the fate of a lost submit, and a
POST with the same token cannot buy twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.exceptions import (
    ACCOUNT_ERRORS,
    KlingDuplicateSubmissionError,
    KlingError,
    KlingNotFoundError,
    KlingPermanentError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.jobs.client_token import MAX_DERIVED, derived_client_token, new_client_token
from airflow_provider_kling.jobs.consent import decision_for
from airflow_provider_kling.jobs.journal import (
    BY_ARGUMENT,
    BY_TOKEN,
    SENT_AT_UNKNOWN,
    Event,
    Journal,
    Submit,
    new_event,
)
from airflow_provider_kling.jobs.result import generation_error
from airflow_provider_kling.jobs.submit_pauses import pause_in_place
from airflow_provider_kling.jobs.submit_request import RecordStore, SubmitRequest, SubmitResult, SubmitSession
from airflow_provider_kling.jobs.uncertain import advice_if_gone, iso, uncertain_error
from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_provider_kling.api.base import Grace
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.request import VideoRequest
    from airflow_provider_kling.jobs.consent import Decision
    from airflow_provider_kling.jobs.look_up import LookUp

#: Maximum number of POSTs that provably bought nothing in one purchase, over all its attempts; a clear resets it.
#: Not applied where the server is known to take a client token only once.
ATTEMPTS_PER_PURCHASE = 24
#: Attempts to record the id of a paid job, before the task continues with the id in memory only.
ATTEMPTS_TO_RECORD = 5
#: Seconds between two looks at a job that is said to have failed, before another one is bought.
SECOND_LOOK = 5.0
#: Maximum number of POSTs with the same client token in one run of the task, each sent because the fate of the one
#: before was unknown and its job was not found.
POSTS_PER_TOKEN = 4


@dataclass
class Submitter:
    """
    Processes one :class:`SubmitRequest`: joins the job that an earlier attempt bought, or buys one.

    :param store: The store of the record.
    :param connect: Opens a session to submit with; ``KlingHook.submitting``.
    :param get_job: Requests a job's state once; ``KlingHook.get_video``.
    :param grace: Periods for which the connection's API may lag behind.
    :param look_up: How lost submits are looked up; None if the API takes no client tokens.
    :param show_prompts: Whether the prompts in the record may be shown: an earlier attempt may have written them.
    :param read_variable: Returns the text of an Airflow Variable, None if there is none or it cannot be read.
    :param before_purchase: Called before a job is bought, and not before one is joined; raises if it may not be.
    :param before_post: Called between the record of a POST and the POST; raises if it is not to be sent.
    :param on_refused: Called as soon as it is on record that a POST was refused because no slot is free.
    :param log: Writes a line to the task's log.
    :param now: The wall clock.
    :param sleep: Waits in place.
    """

    store: RecordStore
    connect: Callable[[], AbstractContextManager[SubmitSession]]
    get_job: Callable[[str], VideoJob]
    grace: Grace
    look_up: LookUp | None = None
    show_prompts: bool = True
    read_variable: Callable[[str], str | None] = lambda name: None
    before_purchase: Callable[[], None] = lambda: None
    before_post: Callable[[], None] = lambda: None
    on_refused: Callable[[], None] = lambda: None
    log: Callable[[str], None] = lambda line: None
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    #: The submit of unknown fate that stopped this attempt.
    unresolved: Submit | None = None
    #: Whether a POST is in flight.
    is_sending: bool = False
    #: The job that this attempt bought, set as soon as the response is read.
    bought: str | None = None
    #: The submit of unknown fate of this attempt that ``on_uncertain="resubmit"`` ignores.
    _ignored: Submit | None = None
    #: Submits of unknown fate whose job the server twice said not to have.
    _absent: set[str] = field(default_factory=set)
    #: When the last intent was recorded: by the wall clock, and by the monotonic one.
    _recorded_at: tuple[float, float] = (0.0, 0.0)
    _journal: Journal = field(default_factory=lambda: Journal(()))

    def submit_or_join(self, request: SubmitRequest) -> SubmitResult:
        """
        Return the job for a purchase.

        :raises KlingUncertainSubmissionError: if a submit's fate is unknown and nothing allows another purchase.
        :raises KlingRateLimitError: if the account has no free slot; call again later.
        :raises KlingUnavailableError: if the API is unavailable; call again later.
        :raises KlingError: any other named error, that of a job bought earlier included. A job that may have been
            made is on record.
        """
        self._load()
        if request.frames_error is not None:
            request = self._as_recorded(request, request.frames_error)
        self._record_named_jobs(request)
        self._look_up_lost_submits(request)
        jobs = self._journal.jobs_of(request.fingerprint)
        last = jobs[-1] if jobs else None
        if last is None or self._has_started_another(request, len(jobs)):
            return self._buy(request)
        cleared = request.max_tries not in last.tries_seen
        if cleared and request.on_clear == "resubmit":
            self.log(f"Cleared with on_clear='resubmit': not joining Kling task {last.kling_task_id}")
            return self._buy(request)
        return self._join(request, last, cleared=cleared)

    def _as_recorded(self, request: SubmitRequest, error: KlingError) -> SubmitRequest:
        """Return a request whose images cannot be read as the last one with their URIs, if that may have a job."""
        for submit in reversed(self._journal.submits.values()):
            if submit.by_uri == request.by_uri and submit.fate in ("job", "unknown"):
                self.log(f"{error.message}. Looking for the job that was bought with the same URIs")
                return replace(request, fingerprint=submit.fingerprint)
        return request

    def _has_started_another(self, request: SubmitRequest, jobs: int) -> bool:
        """Return whether a POST for one more job was sent; its fate is resolved before a job is joined."""
        return any(
            submit.purchase >= jobs and submit.fate in ("unknown", "dismissed")
            for submit in self._journal.of(request.fingerprint)
        )

    # ---- joining

    def _join(self, request: SubmitRequest, last: Submit, *, cleared: bool) -> SubmitResult:
        """
        Return the job bought earlier; one that failed is bought again, unless it would only fail again.

        :raises KlingNotFoundError: if the job, or its file, is gone at the vendor. It was made, so that is final.
        """
        job = self._state_of(last)
        if job is not None and job.status == "failed" and not job.has_id:
            # A response that does not name the job may be about the request: only a second one counts.
            self.log(
                f"The server says {job.raw_status!r} without naming Kling task {last.kling_task_id}; asking again"
            )
            self.sleep(SECOND_LOOK)
            job = self._state_of(last)
        if job is not None and job.is_gone:
            raise KlingNotFoundError(
                f"The file of the job is gone: the job is {job.raw_status} at the vendor",
                kling_task_id=job.kling_task_id,
                server_message=job.error or job.excerpt,
                advice=advice_if_gone(last),
            )
        if job is not None and job.status == "failed":
            failure = generation_error(job)
            if not failure.retryable and not cleared:
                raise failure
            self.log(f"{failure} Submitting again.")
            return self._buy(request)
        state = (job.raw_status or job.status) if job else "in an unknown state"
        self.log(
            f"Joining Kling task {last.kling_task_id}, which this task bought before ({state}). For a new video "
            "from the same request, set another take, or on_clear='resubmit' and clear the task"
        )
        if cleared:
            # After this event, an attempt without another clear is a retry.
            self._append(new_event("joined", last.id, at=self.now(), max_tries=request.max_tries))
        # The id that the server knows, where the submit gave two.
        kling_task_id = job.kling_task_id if job else last.kling_task_id
        other_id = None if job else last.other_id
        route = job.route if job else None
        return SubmitResult(kling_task_id, last.submitted_at or last.sent_at, job, other_id, route)

    def _state_of(self, submit: Submit) -> VideoJob | None:
        """Return the job, or None if its state cannot be fetched right now."""
        is_new = self.now() - (submit.submitted_at or submit.sent_at) < self.grace.visibility
        try:
            return self._by_either_id(submit.kling_task_id, submit.other_id, is_new=is_new)
        except KlingNotFoundError as error:
            if is_new:
                return None
            raise error.replace(advice=advice_if_gone(submit)) from None
        except KlingError as error:
            if not error.retryable:
                raise
            self.log(f"The state of Kling task {submit.kling_task_id} cannot be fetched now: {error}")
            return None

    def _by_either_id(self, kling_task_id: str, other_id: str | None, *, is_new: bool = False) -> VideoJob:
        """
        Return a job, by the second id of its submit if the server does not know the first.

        A job under the other id that has ended may be another account's, unless it names the first id too, or the
        server does not know the first id and had the time to store it.

        :param is_new: Whether it was just bought, so that the server may not have stored it yet.
        :raises KlingError: for the first id, if neither gives the job.
        """
        try:
            return self.get_job(kling_task_id)
        except ACCOUNT_ERRORS:
            raise
        except KlingError as error:
            if other_id is None or (error.http_status is None and not isinstance(error, KlingNotFoundError)):
                raise
            try:
                job = self.get_job(other_id)
            except KlingError:
                pass
            else:
                is_absent = isinstance(error, KlingNotFoundError) and not is_new
                if is_absent or job.other_id == kling_task_id or job.status in ("queued", "running"):
                    return job
            raise

    # ---- submits of unknown fate

    def _look_up_lost_submits(self, request: SubmitRequest) -> None:
        """Record the job of every submit of unknown fate that the server can be asked for."""
        if self.look_up is None:
            return
        if not self.store.durable and request.token_seed is not None:
            self._recall_purchases(self.look_up, request, request.token_seed)
        for submit in self._journal.unknown():
            is_known_here = submit.client_token is not None and submit.account == self.look_up.account()
            if is_known_here and submit.id not in self._absent and self._decision_for(submit) is None:
                self._look_up_submit(self.look_up, submit, request)

    def _recall_purchases(self, look_up: LookUp, request: SubmitRequest, seed: str) -> None:
        """
        Rebuild the record of earlier attempts from the server, where none was kept.

        The submit that stands for all of them is replaced by one for each derived token: those that made a job, up
        to the first that has not failed, or one whose job the server does not have.
        """
        for earlier in self._journal.unknown():
            if earlier.sent_at != SENT_AT_UNKNOWN or self._decision_for(earlier) is not None:
                continue
            for purchase in range(MAX_DERIVED):
                token = derived_client_token(seed, purchase)
                finding = look_up(token, sleep=self.sleep, log=self.log)
                if finding.job is None and not finding.is_absent:
                    return
                has_failed = finding.job is not None and finding.job.status == "failed"
                is_last = not has_failed or purchase == MAX_DERIVED - 1
                intent = self.store.new_intent()
                # Only the last one stands for what the earlier attempts may have bought.
                cites = {earlier.id: BY_TOKEN} if is_last else {}
                self._append(self._intent_event(intent, request, purchase, cites=cites, client_token=token))
                self._load()
                if finding.job is None:
                    self._absent.add(intent)
                else:
                    self._record_id(intent, finding.job, request)
                if is_last:
                    break
            self._load()

    def _look_up_submit(
        self, look_up: LookUp, submit: Submit, request: SubmitRequest, *, exists: bool = False
    ) -> VideoJob | None:
        """
        Look up a submit, record its job, and return it.

        A submit whose job the server twice says not to have is remembered for :meth:`_allowed`.

        :param exists: Whether the server refused a POST because there is a job with its token.
        """
        try:
            finding = look_up(submit.client_token or "", sleep=self.sleep, log=self.log, exists=exists)
        except KlingError as error:
            advice = (
                f"{error.advice} The submit of {iso(submit.sent_at)} may have been accepted and billed. Clear "
                "this task after that, and it is looked up again."
            )
            raise error.replace(advice=advice) from None
        if finding.is_absent:
            self._absent.add(submit.id)
        if finding.job is not None:
            self._load()  # the look-ups took a while, in which another attempt may have recorded the job
            kling_task_id = finding.job.kling_task_id
            same = self._journal.with_token(submit.client_token or "")
            if any(kling_task_id in other.kling_task_ids for other in same if other.id != submit.id):
                self._close(submit.id, "duplicate")
            else:
                self.log(
                    f"The submit of {iso(submit.sent_at)} made Kling task {kling_task_id}, as the server says"
                )
                self._record_id(submit.id, finding.job, request)
            self._load()
        return finding.job

    def _recovered(self, intent: Submit, request: SubmitRequest, error: KlingError) -> SubmitResult | None:
        """
        Return the job of a POST whose response was lost, by asking the server.

        One that was refused made no job itself: an earlier POST with the same token may have.

        :raises KlingUncertainSubmissionError: if the job of a duplicate is not found.
        :raises KlingError: if the server refuses to be asked; the next attempt asks again.
        """
        if self.look_up is None:
            return None
        exists = isinstance(error, KlingDuplicateSubmissionError)
        is_lost = isinstance(error, KlingUncertainSubmissionError) and not exists
        made_by = intent if is_lost else self._first_with_token_of(intent)
        if made_by.id == intent.id and not isinstance(error, KlingUncertainSubmissionError):
            return None
        if exists and made_by.id != intent.id:
            # Before a crash can make it look like the one that made the job.
            self._close(intent.id, "duplicate")
            self._load()
        self.is_sending = True  # its fate is as open as before its response
        try:
            job = self._look_up_submit(self.look_up, made_by, request, exists=exists)
        except KlingError as failure:
            if self.store.durable:
                raise
            self.log(f"The lost submit cannot be looked up: {failure}")
            return None
        finally:
            self.is_sending = False
        if job is None:
            if isinstance(error, KlingDuplicateSubmissionError) and made_by.id != intent.id:
                raise self._report(self._journal.submits[made_by.id], request, error)
            return None
        if made_by.fingerprint != request.fingerprint or self._journal.submits[made_by.id].fate != "job":
            # It was another submit's job, perhaps of another request: the record says what is left to do.
            return self.submit_or_join(request)
        self.bought = job.kling_task_id
        return SubmitResult(job.kling_task_id, made_by.sent_at or self.now(), job, route=job.route)

    def _first_with_token_of(self, intent: Submit) -> Submit:
        """Return the submit that made the job of a duplicate: one of unknown fate with its token, or itself."""
        same = self._journal.with_token(intent.client_token or "")
        return next((submit for submit in same if submit.fate in ("unknown", "dismissed")), intent)

    def _decision_for(self, submit: Submit) -> Decision | None:
        return decision_for(submit, read=self.read_variable, now=self.now())

    def _record_named_jobs(self, request: SubmitRequest) -> None:
        """Record every job that a person named for a submit of unknown fate."""
        for submit in self._journal.unknown():
            decision = self._decision_for(submit)
            if decision is None or decision.kling_task_id is None:
                continue
            self._check_named_job(decision.by, decision.kling_task_id)
            self.log(f"Using Kling task {decision.kling_task_id}, which the Airflow Variable {decision.by} names")
            event = new_event(
                "submitted",
                submit.id,
                at=self.now(),
                kling_task_id=decision.kling_task_id,
                by=decision.by,
                max_tries=request.max_tries,
            )
            self._append(event)
            self._load()

    def _check_named_job(self, by: str, kling_task_id: str) -> None:
        """
        Raise unless the server knows a job that a person named, and no other submit has it.

        :raises KlingError: with what to correct, or why the server cannot be reached now.
        """
        advice = f"Correct the Airflow Variable {by} (the id of the job, or none), and clear this task."
        if any(kling_task_id in submit.kling_task_ids for submit in self._journal.submits.values()):
            raise KlingValidationError(
                f"Kling task {kling_task_id}, which {by} names, is on record for another submit of this task",
                advice=advice,
            )
        try:
            self.get_job(kling_task_id)
        except KlingNotFoundError as error:
            raise error.replace(
                message=f"The server does not know Kling task {kling_task_id}, which the Variable {by} names",
                advice=advice,
            ) from None
        except KlingError as error:
            if error.retryable:
                raise
            raise error.replace(advice=advice) from None

    def _allowed(self, request: SubmitRequest) -> dict[str, str]:
        """
        Return the submits of unknown fate that another POST may ignore, each with what allows it.

        A submit of another request counts too: a template that differs at every attempt must not hide it.

        :raises KlingUncertainSubmissionError: if one may not be ignored.
        """
        allowed: dict[str, str] = {}
        for submit in self._journal.unknown():
            decision = self._decision_for(submit)
            if decision is not None and decision.kling_task_id is None:
                self.log(
                    f"The submit of {iso(submit.sent_at)} made no job, according to the Variable {decision.by}"
                )
                allowed[submit.id] = decision.by
            elif self._may_be_sent_again(submit):
                self.log(
                    f"The server has no job of the submit of {iso(submit.sent_at)}: submitting with the same "
                    "client token, which the server takes only once"
                )
                allowed[submit.id] = BY_TOKEN
            elif request.on_uncertain == "resubmit" and not self._argument_is_spent(submit, allowed):
                self.log(
                    f"It is unknown whether the submit of {iso(submit.sent_at)} made a job; "
                    "on_uncertain='resubmit', so submitting once more, which may pay twice"
                )
                allowed[submit.id] = BY_ARGUMENT
            else:
                raise self._report(submit, request)
        return allowed

    def _may_be_sent_again(self, submit: Submit) -> bool:
        """
        Return whether a POST with the client token of this submit cannot buy twice.

        The server must be known to refuse a token that it has already, or have repeated one to this task before;
        and it must not have made a job of this task without repeating its token.
        """
        look_up = self.look_up
        if look_up is None or submit.id not in self._absent:
            return False
        made = [job for job in self._journal.jobs() if job.client_token and job.account == look_up.account()]
        echoes = [job.echoed_by == look_up.server for job in made if job.echoed_by or not job.is_named]
        return all(echoes) and (look_up.is_honoured or bool(echoes))

    def _argument_is_spent(self, submit: Submit, allowed: Mapping[str, str]) -> bool:
        """Return whether ``on_uncertain="resubmit"`` has already allowed one more POST for this request."""
        return any(
            other.dismissed_by == BY_ARGUMENT or allowed.get(other.id) == BY_ARGUMENT
            for other in self._journal.of(submit.fingerprint)
            if other.purchase == submit.purchase and other.id != submit.id
        )

    def _report(
        self, submit: Submit, request: SubmitRequest, cause: KlingUncertainSubmissionError | None = None
    ) -> KlingUncertainSubmissionError:
        """Return the error for a submit of unknown fate, and record what was reported."""
        self.unresolved = submit
        return uncertain_error(submit, request, self._known_of(submit, cause))

    def _known_of(self, submit: Submit, cause: KlingUncertainSubmissionError | None = None) -> Event:
        """Return what is known of a submit of unknown fate; the first time, record it, as it may name the job."""
        if submit.uncertain is not None:
            return submit.uncertain
        details: dict[str, Any] = {
            "why": "its process ended, or its record failed, before a response was recorded"
        }
        if cause is not None:
            details = {
                "why": cause.message,
                "http_status": cause.http_status,
                "code": cause.code,
                "server_message": cause.server_message,
                "request_id": cause.request_id,
                "hint": "" if cause.kling_task_id else cause.advice.removeprefix(cause.default_advice).strip(),
                "offered": cause.kling_task_id,
            }
        submit.uncertain = details
        try:
            self._append(new_event("uncertain", submit.id, at=self.now(), **details))
        except KlingError as error:
            # The intent alone stops the next attempt as well.
            self.log(str(error))
        return details

    # ---- buying

    def _buy(self, request: SubmitRequest) -> SubmitResult:
        try:
            return self._send_until_bought(request)
        except KlingUncertainSubmissionError:
            raise
        except KlingError:
            if self.store.durable or self._ignored is None:
                raise
            # A later attempt could not find this submit, and could buy again and again.
            raise self._report(self._ignored, request) from None

    def _send_until_bought(self, request: SubmitRequest) -> SubmitResult:
        """Buy a job: send a POST, and repeat it in place only if it provably bought nothing."""
        decided_on, own_intents = self._journal, list[str]()
        jobs = len(decided_on.jobs_of(request.fingerprint))
        self._warn_of_other_requests(request)
        allowed = self._allowed(request)
        self.before_purchase()
        refused, in_place, lost = self._bought_nothing(request, jobs), 0, 0
        failure: KlingError | None = None
        while True:
            is_bounded = self.look_up is not None and self.look_up.is_honoured
            if refused >= ATTEMPTS_PER_PURCHASE and not is_bounded:
                raise _exhausted(refused) from failure
            with self.connect() as session:
                session.probe()
                # Before the intent: it may take as long as it needs, and its errors prove that nothing was sent.
                video = request.to_send(request.video)
                intent = self._record_intent(request, jobs, allowed, decided_on, own_intents)
                try:
                    job = self._send(session, video, intent)
                except KlingUncertainSubmissionError as error:
                    lost += 1
                    if recovered := self._recovered(intent, request, error):
                        return recovered
                    allowed[intent.id] = self._allow(intent, request, error, allowed, lost)
                    continue
                except KlingRateLimitError:
                    self._close(intent.id, "slot")
                    raise
                except KlingError as error:
                    self._close(intent.id, "error")
                    refused, in_place = refused + 1, in_place + 1
                    pause = pause_in_place(error, in_place)
                    if pause is None:
                        # It may be a duplicate, in words that nobody has seen yet.
                        if recovered := self._recovered(intent, request, error):
                            return recovered
                        raise
                    failure = error
                else:
                    self._record_id(intent.id, job, request)
                    return self._bought(job)
            self.log(f"{failure} Nothing was bought; submitting again in {pause:.0f} s ({in_place})")
            self.sleep(pause)

    def _allow(
        self,
        intent: Submit,
        request: SubmitRequest,
        error: KlingUncertainSubmissionError,
        allowed: Mapping[str, str],
        lost: int,
    ) -> str:
        """
        Return what allows one more POST after one whose response was lost.

        :param lost: The number of responses that this attempt has lost, this one included.
        :raises KlingUncertainSubmissionError: if nothing does.
        """
        if lost < POSTS_PER_TOKEN and self._may_be_sent_again(intent):
            by, why = BY_TOKEN, "The server has no such job: submitting with the same client token."
        elif request.on_uncertain == "resubmit" and not self._argument_is_spent(intent, allowed):
            by, why = BY_ARGUMENT, "on_uncertain='resubmit', so submitting once more, which may pay twice"
        else:
            raise self._report(intent, request, error) from None
        self._known_of(intent, error)
        if by == BY_ARGUMENT or request.token_seed is None:
            self._ignored = intent
        self.log(f"{error} {why}")
        return by

    def _bought(self, job: VideoJob) -> SubmitResult:
        """Return the job that was just bought, by the id that the server knows where its submit gave two."""
        submitted_at = self.now()
        if job.other_id is not None:
            try:
                known = self._by_either_id(job.kling_task_id, job.other_id, is_new=True)
            except KlingError:  # not stored yet, say: the wait tries both
                return SubmitResult(job.kling_task_id, submitted_at, None, job.other_id)
            return SubmitResult(known.kling_task_id, submitted_at, known)
        return SubmitResult(job.kling_task_id, submitted_at, route=job.route)

    def _send(self, session: SubmitSession, request: VideoRequest, intent: Submit) -> VideoJob:
        try:
            self.before_post()
        except BaseException:  # a timeout, too: nothing was sent
            self._withdraw(intent.id)
            raise
        self.is_sending = True
        try:
            job = session.submit(request, age=self._age, client_token=intent.client_token)
            self.bought = job.kling_task_id
        finally:
            self.is_sending = False
        return job

    def _age(self) -> float:
        """Return the seconds since the last intent was recorded, by the clock that has advanced further."""
        wall, monotonic = self._recorded_at
        return max(self.now() - wall, time.monotonic() - monotonic)

    def _record_intent(
        self,
        request: SubmitRequest,
        jobs: int,
        allowed: Mapping[str, str],
        decided_on: Journal,
        own_intents: list[str],
    ) -> Submit:
        """
        Record that a POST is about to be sent.

        :raises KlingError: if another attempt has recorded a submit since the decision; then nothing is sent.
        """
        intent = self.store.new_intent()
        self._recorded_at = self.now(), time.monotonic()
        event = self._intent_event(
            intent, request, jobs, cites=allowed, client_token=self._client_token(request, jobs)
        )
        own_intents.append(intent)
        try:
            self._append(event)
            self._load()
        except KlingError:
            self._withdraw(intent)
            raise
        if self._has_concurrent_submit(decided_on, own_intents, allowed):
            self._withdraw(intent)
            raise KlingError(
                "Another attempt of this task is submitting, or has submitted, at the same time",
                advice="This attempt submitted nothing. A retry continues from the record of the other one.",
            )
        if not self._journal.submits.keys() >= {intent, *(job.id for job in decided_on.jobs())}:
            self._withdraw(intent)
            raise KlingError(
                "The record of this task's submits does not show what was written to it",
                advice="Nothing was submitted. Check the store of the record.",
            )
        return self._journal.submits[intent]

    def _intent_event(
        self,
        intent: str,
        request: SubmitRequest,
        purchase: int,
        *,
        cites: Mapping[str, str],
        client_token: str | None,
    ) -> Event:
        event = new_event(
            "intent",
            intent,
            at=self.now(),
            fingerprint=request.fingerprint,
            purchase=purchase,
            max_tries=request.max_tries,
            conn_id=request.conn_id,
            dag_id=request.dag_id,
            model=request.video.model,
            seconds=request.video.duration,
            prompt=request.prompt,
            cites=dict(cites),
        )
        if self.look_up is not None and client_token is not None:
            event |= {"client_token": client_token, "account": self.look_up.account()}
        if request.by_uri is not None:
            event["by_uri"] = request.by_uri
        return event

    def _client_token(self, request: SubmitRequest, purchase: int) -> str | None:
        """
        Return the client token of the next POST; None if the API takes none.

        :raises KlingPermanentError: if no record is kept, and as many jobs failed as the server can be asked for.
        """
        if self.look_up is None:
            return None
        if token := self._journal.token_for(request.fingerprint, purchase, self.look_up.account()):
            return token
        if self.store.durable or request.token_seed is None:
            return new_client_token()
        if purchase >= MAX_DERIVED:
            raise KlingPermanentError(
                f"{purchase} jobs of this request have failed, and no record is kept of further ones",
                advice="Nothing was submitted. Change the request or its take, or let Airflow keep a record.",
            )
        return derived_client_token(request.token_seed, purchase)

    def _has_concurrent_submit(
        self, decided_on: Journal, own_intents: Sequence[str], allowed: Mapping[str, str]
    ) -> bool:
        """
        Return whether another attempt has recorded a POST, or its job, since the decision.

        An attempt that Airflow has declared dead may still run, and so may one that replaces this attempt.
        """
        before = decided_on.fates(without=own_intents)
        for submit_id, fate in self._journal.fates(without=own_intents).items():
            expected = ("dismissed", 0) if submit_id in allowed else before.get(submit_id, ("nothing", 0))
            if fate != expected:
                return True
        return False

    def _bought_nothing(self, request: SubmitRequest, jobs: int) -> int:
        """Return how many POSTs for this video provably bought nothing since the last clear, except for slots."""
        return sum(
            submit.refusal == "error" and submit.purchase == jobs and request.max_tries in submit.tries_seen
            for submit in self._journal.of(request.fingerprint)
        )

    def _close(self, intent: str, reason: str) -> None:
        """Record that a POST provably bought nothing."""
        self._append(new_event("refused", intent, at=self.now(), reason=reason), attempts=ATTEMPTS_TO_RECORD)
        if reason != "slot":
            return
        # Before the rest: other tasks of a batch are about to send theirs.
        self.on_refused()
        submit = self._journal.submits.get(intent)
        if submit is None or submit.client_token is None:
            self._forget(intent)
            return
        # The last one keeps the token of the purchase.
        for other in self._journal.with_token(submit.client_token):
            if other.refusal == "slot" and other.id != intent:
                self._forget(other.id)

    def _withdraw(self, intent: str) -> None:
        """Record that a POST was not sent; if that fails, the intent stops the next attempt, which is safe."""
        try:
            self._append(new_event("withdrawn", intent, at=self.now()), attempts=ATTEMPTS_TO_RECORD)
        except KlingError as error:
            self.log(str(error))
        else:
            self._forget(intent)

    def _forget(self, intent: str) -> None:
        try:
            self.store.forget(intent)
        except Exception as error:  # noqa: BLE001 -- the submit is closed; its events only make the record longer
            reason = mask_signatures(repr(error))
            self.log(f"A submit that made no job could not be removed from the record: {reason}")

    def _record_id(self, intent: str, job: VideoJob, request: SubmitRequest) -> None:
        """
        Record the id of a paid job, whatever it takes.

        If it cannot be recorded, the attempt goes on with the id in memory: it is in the log, and in the trigger.
        The intent stays on record, so that a later attempt stops for a person's decision instead of buying again.
        """
        kling_task_id = job.kling_task_id
        event = new_event(
            "submitted",
            intent,
            at=self.now(),
            kling_task_id=kling_task_id,
            max_tries=request.max_tries,
            **({"other_id": job.other_id} if job.other_id else {}),
            **self._echo(intent, job),
        )
        try:
            self._append(event, attempts=ATTEMPTS_TO_RECORD)
        except BaseException as error:
            self.log(f"Kling task {kling_task_id} is bought, but could not be recorded: {error}")
            if not isinstance(error, KlingError):
                raise

    def _echo(self, intent: str, job: VideoJob) -> dict[str, str]:
        """Return the server as an event has it, if its response repeats the client token of the submit."""
        submit = self._journal.submits.get(intent)
        if self.look_up is None or submit is None or job.client_token != submit.client_token:
            return {}
        return {"echoed_by": self.look_up.server} if job.client_token else {}

    def _warn_of_other_requests(self, request: SubmitRequest) -> None:
        """Log which jobs this task bought for other requests: they are billed, and nothing else reports them."""
        for other in self._journal.submits.values():
            if other.fingerprint != request.fingerprint and other.fate != "nothing":
                job = f"as Kling task {other.kling_task_id}" if other.kling_task_ids else "with an unknown fate"
                task = "this task" if request.map_index < 0 else f"map index {request.map_index} of this task"
                self.log(
                    f"The request differs from {other.summary}, which {task} submitted {iso(other.sent_at)} "
                    f"{job}: that job is not joined"
                )

    # ---- the record

    def _load(self) -> None:
        try:
            self._journal = Journal(self.store.load(), show_prompts=self.show_prompts)
        except KlingError:
            raise
        except Exception as error:  # noqa: BLE001 -- it is raised as a named error
            raise KlingError(
                f"The record of this task's submits cannot be read ({type(error).__name__}: {error})",
                advice="Nothing was submitted. A retry continues once the record can be read again.",
            ) from None  # a traceback shows the message of a cause unmasked, signatures included

    def _append(self, event: Event, *, attempts: int = 1) -> None:
        for attempt in range(1, attempts + 1):
            try:
                return self.store.append(event)
            except Exception as error:  # noqa: BLE001 -- likewise
                if attempt == attempts:
                    raise KlingError(
                        f"The record of this task's submits cannot be written ({type(error).__name__}: {error})",
                        advice="A retry continues once the record can be written again.",
                    ) from None
                self.sleep(2.0 ** (attempt - 1))
        return None


def _exhausted(refused: int) -> KlingError:
    return KlingServerError(
        f"{refused} submits of this request were refused, so no more are sent",
        advice="Nothing was bought. The log has the reasons. Clear this task to try again.",
    )
