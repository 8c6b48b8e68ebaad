# SPDX-License-Identifier: Apache-2.0
"""
The record of a task instance's submits: append-only events, and the state that follows from them.

Each event names the submit (*intent*) that it belongs to. The state of a submit is the union of its events: it
does not depend on their order, on clocks, or on how often an event is read. So two attempts that write at the same
time cannot overwrite each other, and several stores can hold parts of one record.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_kling.exceptions import KlingError, short_repr
from airflow_provider_kling.jobs.shown_prompt import prompt_hash

#: Version of the events that this code writes. It reads this version and all earlier ones.
VERSION = 1

#: Stands for the unknown time of a submit of which there is no record.
SENT_AT_UNKNOWN = 0.0

#: What an intent cites if a client token allows it to ignore a submit of unknown fate: no server takes one twice.
BY_TOKEN = "client_token"  # noqa: S105 -- not a password
#: What an intent cites if the argument, not a person, allowed it to ignore a submit of unknown fate.
BY_ARGUMENT = "on_uncertain"

Event = Mapping[str, Any]
Fate = Literal["unknown", "dismissed", "nothing", "job"]

#: Required fields of each kind of event, besides ``version``, ``id``, ``event``, ``intent`` and ``at``.
_NEEDED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "intent": {
        "fingerprint": str,
        "purchase": int,
        "max_tries": int,
        "conn_id": str,
        "dag_id": str,
        "cites": dict,
    },
    "submitted": {"kling_task_id": str},
    "refused": {"reason": str},
    "uncertain": {"why": str},
    "withdrawn": {},
    "joined": {"max_tries": int},
}
#: Kinds of events that may outlive their intent: a submit that made no job is dropped from the record, intent
#: first.
CLOSED_WITHOUT_A_JOB = ("refused", "withdrawn")
_COMMON: dict[str, type | tuple[type, ...]] = {"id": str, "event": str, "intent": str, "at": (int, float)}


def new_id() -> str:
    """Return a random id for an event or a submit."""
    return secrets.token_hex(16)


def new_event(kind: str, intent: str, *, at: float, **details: Any) -> dict[str, Any]:
    """
    Return an event to write.

    :param kind: ``intent`` (a POST is about to be sent), ``submitted`` (it made a job), ``refused`` (it provably
        made none), ``withdrawn`` (it was not sent), ``uncertain`` (it is unknown whether it made a job, and that
        was reported), or ``joined`` (a later attempt has joined its job).
    :param intent: The id of the submit.
    :param at: When it happened (epoch seconds).
    :param details: The fields that the kind requires, and optional ones.
    """
    return {"version": VERSION, "id": new_id(), "event": kind, "intent": intent, "at": at, **details}


@dataclass(kw_only=True)
class Submit:
    """
    One recorded POST, and its outcome.

    :param id: The random id of the intent.
    :param fingerprint: The fingerprint of the request and the connection.
    :param by_uri: The fingerprint with the URIs of its images instead of their content, if they are in an object
        storage.
    :param purchase: How many jobs the same request had when this POST was recorded.
    :param sent_at: When the POST was recorded (epoch seconds).
    :param conn_id: The Airflow connection.
    :param dag_id: The DAG.
    :param model: The requested model.
    :param seconds: The requested length in seconds, None for the server's default.
    :param prompt: The start of the prompt.
    :param cites: The submits of unknown fate that this one was allowed to ignore, each with the source of the
        permission: a Variable, an argument or the client token.
    :param tries_seen: Airflow's ``max_tries`` of the attempts that used it; it rises when a user clears the task.
    :param kling_task_ids: The jobs that it made; more than one only if a person named another than the server.
    :param other_id: Another id that the response gave the last of these jobs.
    :param client_token: The client token that was sent with it, on an API that takes one.
    :param account: The name of the account that it was sent to, beside a client token.
    :param echoed_by: The server whose response repeated the client token.
    :param is_named: Whether a person named its job; then no response was there to repeat the client token.
    :param submitted_at: When the first of these ids was recorded (epoch seconds).
    :param refusal: Why it made no job: ``slot``, ``error``, or ``duplicate`` (an earlier POST with its token made
        the job); None if it may have made one.
    :param withdrawn: Whether it was not sent.
    :param uncertain: The ``uncertain`` event: what was reported while the fate was unknown.
    :param dismissed_by: The source of the permission by which a later submit ignored it.
    """

    id: str
    fingerprint: str
    purchase: int
    sent_at: float
    conn_id: str
    dag_id: str
    model: str = ""
    seconds: int | None = None
    prompt: str = ""
    cites: Mapping[str, str] = field(default_factory=dict)
    tries_seen: set[int] = field(default_factory=set)
    kling_task_ids: list[str] = field(default_factory=list)
    other_id: str | None = None
    client_token: str | None = None
    account: str | None = None
    by_uri: str | None = None
    echoed_by: str | None = None
    is_named: bool = False
    submitted_at: float | None = None
    refusal: str | None = None
    withdrawn: bool = False
    uncertain: Event | None = None
    dismissed_by: str | None = None

    @property
    def fate(self) -> Fate:
        """
        What is known of the submit.

        ``job``: it made a job. ``nothing``: it provably made none. ``dismissed``: unknown, but a later submit was
        allowed to ignore that. ``unknown``: it may have made a job.
        """
        if self.kling_task_ids:
            return "job"
        if self.withdrawn or self.refusal is not None:
            return "nothing"
        return "dismissed" if self.dismissed_by is not None else "unknown"

    @property
    def kling_task_id(self) -> str:
        """The job to use: the one that was recorded last."""
        return self.kling_task_ids[-1]

    @property
    def summary(self) -> str:
        """The request as a person recognises it in the vendor's console."""
        seconds = f"{self.seconds} s" if self.seconds else ""
        return ", ".join(filter(None, (self.model, seconds, f"“{self.prompt}”")))


class Journal:
    """
    All submits of one task instance.

    :param events: The events that were read, in any order, each any number of times.
    :param show_prompts: Whether a submit has the prompt as it was recorded, or the hash of that.
    :raises KlingError: if an event is malformed, or of a version that this code cannot read: an unreadable record
        must never count as an empty one.
    """

    def __init__(self, events: Iterable[Event], *, show_prompts: bool = True) -> None:
        by_id: dict[str, Event] = {}
        for event in events:
            _check(event)
            by_id[event["id"]] = event
        in_order = sorted(by_id.values(), key=lambda event: (event["at"], event["id"]))
        intents = [event for event in in_order if event["event"] == "intent"]
        self.submits = {event["intent"]: _submit(event, show_prompts=show_prompts) for event in intents}
        for event in in_order:
            if submit := self.submits.get(event["intent"]):
                _apply(event, submit)
            elif event["event"] not in CLOSED_WITHOUT_A_JOB:
                # The intent is always written first, so a part of the record is lost.
                raise unreadable(f"the submit of {short_repr(event)} is missing")
        with_job = {submit.client_token for submit in self.submits.values() if submit.fate == "job"}
        for submit in self.submits.values():
            for cited, by in submit.cites.items():
                # A POST that made no job leaves open whether the one before it did, unless a person said that.
                is_open = submit.fate == "nothing" and by in (BY_TOKEN, BY_ARGUMENT)
                other = self.submits.get(cited)
                if other and (not is_open or (other.client_token and other.client_token in with_job)):
                    other.dismissed_by = by

    def of(self, fingerprint: str) -> list[Submit]:
        """Return the submits of one request, oldest first."""
        return [submit for submit in self.submits.values() if submit.fingerprint == fingerprint]

    def jobs_of(self, fingerprint: str) -> list[Submit]:
        """Return the submits of one request that made a job; the last one is the one to join."""
        made = [submit for submit in self.of(fingerprint) if submit.fate == "job"]
        return sorted(made, key=lambda submit: submit.purchase)

    def jobs(self) -> list[Submit]:
        """Return the submits of any request that made a job, oldest first."""
        return [submit for submit in self.submits.values() if submit.fate == "job"]

    def unknown(self) -> list[Submit]:
        """Return the submits of any request whose fate is unknown, oldest first."""
        return [submit for submit in self.submits.values() if submit.fate == "unknown"]

    def with_token(self, client_token: str) -> list[Submit]:
        """Return the submits of any request that were sent with a client token, oldest first."""
        return [submit for submit in self.submits.values() if submit.client_token == client_token]

    def token_for(self, fingerprint: str, purchase: int, account: str) -> str | None:
        """
        Return the client token that the next POST has to repeat; None if it needs a new one.

        It is that of a submit of unknown fate, of whichever request: if that submit made a job after all, the
        server refuses the POST. Otherwise it is that of an earlier POST of the same purchase.

        :param fingerprint: The request.
        :param purchase: The number of its jobs so far.
        :param account: The account to submit to.
        """
        here = [submit for submit in self.submits.values() if submit.client_token and submit.account == account]
        unproven = [submit for submit in here if submit.fate in ("unknown", "dismissed")]
        same = [submit for submit in here if (submit.fingerprint, submit.purchase) == (fingerprint, purchase)]
        for submit in reversed([*same, *unproven]):
            token = submit.client_token
            if token and not any(other.fate == "job" for other in self.with_token(token)):
                return token
        return None

    def fates(self, without: Collection[str] = ()) -> dict[str, tuple[Fate, int]]:
        """Return the fate of each submit and its number of jobs, to compare with a later state of the record."""
        return {
            submit.id: (submit.fate, len(submit.kling_task_ids))
            for submit in self.submits.values()
            if submit.id not in without
        }


def unreadable(why: str) -> KlingError:
    """Return the error for a record that cannot be understood."""
    return KlingError(
        f"The record of this task's submits is unreadable ({why})",
        advice="Nothing was submitted. Remove the record only if you know what the task has bought.",
    )


def check_version(version: Any) -> None:
    """
    Raise unless this code can read records of a version.

    :raises KlingError: if the version is newer, or is not one.
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise unreadable(f"version {short_repr(version)}")
    if version > VERSION:
        raise KlingError(
            f"The record of this task's submits was written by a newer version of this package (format {version}, "
            f"known here are up to {VERSION})",
            advice="Nothing was submitted. Upgrade the package on this worker.",
        )


def _check(event: Any) -> None:
    if not isinstance(event, Mapping) or "version" not in event:
        raise unreadable(short_repr(event))
    check_version(event["version"])
    if not _is_whole(event):
        raise unreadable(short_repr(event))


def _is_whole(event: Event) -> bool:
    needed = {**_COMMON, **_NEEDED.get(event.get("event"), {"": object})}  # type: ignore[arg-type]
    return all(
        name in event and isinstance(event[name], kind) and not isinstance(event[name], bool)
        for name, kind in needed.items()
    )


def _submit(event: Event, *, show_prompts: bool) -> Submit:
    prompt = str(event.get("prompt") or "")
    # Without a time, the words are those of this package.
    is_shown = show_prompts or event["at"] == SENT_AT_UNKNOWN
    return Submit(
        id=event["intent"],
        fingerprint=event["fingerprint"],
        purchase=event["purchase"],
        sent_at=event["at"],
        conn_id=event["conn_id"],
        dag_id=event["dag_id"],
        model=str(event.get("model") or ""),
        seconds=event["seconds"] if isinstance(event.get("seconds"), int) else None,
        prompt=prompt if is_shown else prompt_hash(prompt),
        cites=event["cites"],
        tries_seen={event["max_tries"]},
        client_token=_optional_text(event, "client_token"),
        account=_optional_text(event, "account"),
        by_uri=_optional_text(event, "by_uri"),
    )


def _optional_text(event: Event, name: str) -> str | None:
    return event[name] if isinstance(event.get(name), str) else None


def _apply(event: Event, submit: Submit) -> None:
    match event["event"]:
        case "submitted":
            if event["kling_task_id"] not in submit.kling_task_ids:
                submit.kling_task_ids.append(event["kling_task_id"])
                submit.other_id = _optional_text(event, "other_id")
            submit.echoed_by = _optional_text(event, "echoed_by") or submit.echoed_by
            submit.is_named = submit.is_named or "by" in event
            if submit.submitted_at is None:
                submit.submitted_at = event["at"]
            if "max_tries" in event:
                submit.tries_seen.add(event["max_tries"])
        case "refused":
            submit.refusal = event["reason"]
        case "withdrawn":
            submit.withdrawn = True
        case "uncertain":
            # The first report is the most detailed one; later attempts repeat it.
            submit.uncertain = submit.uncertain or event
        case "joined":
            submit.tries_seen.add(event["max_tries"])
