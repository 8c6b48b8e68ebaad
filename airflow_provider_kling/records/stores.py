# SPDX-License-Identifier: Apache-2.0
"""The stores for a record in Airflow itself, the union of two stores, and a store that keeps nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow.providers.common.compat.sdk import Variable

from airflow_provider_kling.exceptions import short_repr
from airflow_provider_kling.jobs.consent import decision_for
from airflow_provider_kling.jobs.journal import (
    CLOSED_WITHOUT_A_JOB,
    SENT_AT_UNKNOWN,
    VERSION,
    Event,
    Submit,
    check_version,
    new_event,
    new_id,
    unreadable,
)
from airflow_provider_kling.utils.signed_urls import mask_signatures
from airflow_provider_kling.version_compat import NEVER_EXPIRE

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

log = logging.getLogger(__name__)

RECORD_KEY = "kling_submissions"


class Identity(NamedTuple):
    """The identity of a task instance, which is the same for all of its attempts."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int

    @classmethod
    def of(cls, context: Context) -> Identity:
        """Return the identity of the running task instance."""
        ti = context["ti"]
        return cls(ti.dag_id, ti.run_id, ti.task_id, -1 if ti.map_index is None else ti.map_index)


def attempt_id(identity: Identity, try_number: int) -> str:
    """Return the first 12 characters of the id of each intent of an attempt of which no record is kept."""
    parts = "\0".join(map(str, (*identity, try_number)))
    return hashlib.sha256(parts.encode()).hexdigest()[:12]


class Store(ABC):
    """
    A place for the events of one task instance.

    :param prove: Whether an empty record is accepted only after the store has returned a value that was just
        written to it: a failing server may report every key as missing.
    """

    #: Whether the next attempt can read what this one writes.
    durable: ClassVar[bool] = True

    def __init__(self, *, prove: bool) -> None:
        self._prove = prove

    def new_intent(self) -> str:
        """Return the id of the next intent."""
        return new_id()

    def load(self) -> Sequence[Event]:
        """
        Return all events.

        :raises KlingError: if the stored value is not a record.
        :raises Exception: if the store cannot be read, as the store raises it.
        """
        events = self._read()
        if not events and self._prove:
            nonce = new_id()
            if self._echo(nonce) != nonce:
                raise OSError("the store did not return a value that was just written to it")
            events = self._read()
        return events

    @abstractmethod
    def append(self, event: Event) -> None:
        """Add an event."""

    @abstractmethod
    def forget(self, intent: str) -> None:
        """Drop the events of a submit that made no job."""

    @abstractmethod
    def _read(self) -> Sequence[Event]:
        """Return all events in the store."""

    @abstractmethod
    def _echo(self, nonce: str) -> Any:
        """Write a text beside the record, and return the text that is read back."""


class _OneDocument(Store):
    """A record as one JSON document that is read, changed and written."""

    #: The document as it was last read.
    _last_read: Mapping[str, Any]

    def append(self, event: Event) -> None:
        self._change(lambda events: [*events, event])

    def forget(self, intent: str) -> None:
        self._change(lambda events: [event for event in events if event["intent"] != intent])

    def _change(self, change: Callable[[list[Event]], list[Event]]) -> None:
        # The change applies to the document that load() has proved: a second read might miss it and overwrite it.
        events = change(list(self.load()))
        self._write({**self._last_read, "events": events})
        self._prove = True  # the record is not empty any more

    def _read(self) -> Sequence[Event]:
        self._last_read = self._document() or {"version": VERSION, "events": []}
        events: Sequence[Event] = self._last_read["events"]
        return events

    def _document(self) -> Mapping[str, Any] | None:
        stored = self._get()
        if stored is None:
            return None
        if (
            not isinstance(stored, Mapping)
            or "version" not in stored
            or not isinstance(stored.get("events"), list)
        ):
            raise unreadable(short_repr(stored))
        check_version(stored["version"])
        return stored

    @abstractmethod
    def _get(self) -> Any:
        """Return the stored document, None if there is none."""

    @abstractmethod
    def _write(self, document: Mapping[str, Any]) -> None:
        """Store the document."""


class TaskStateStore(_OneDocument):
    """
    A record in Airflow's task state store, which is scoped to DAG, run, task and map index.

    :param state: The store in the task's context.
    :param prove: See :class:`Store`.
    :param before_upgrade: Where an Airflow without task state stores kept the record. It is read once, and copied.
    """

    def __init__(self, state: Any, *, prove: bool, before_upgrade: Store | None = None) -> None:
        super().__init__(prove=prove)
        self._state = state
        self._before_upgrade = before_upgrade
        self._is_absent = False

    def load(self) -> Sequence[Event]:
        events = super().load()
        if self._before_upgrade is not None and self._is_absent:
            events = self._before_upgrade.load()
            self._write({**self._last_read, "events": list(events)})
        return events

    def _get(self) -> Any:
        stored = self._state.get(RECORD_KEY)
        self._is_absent = stored is None
        return stored

    def _write(self, document: Mapping[str, Any]) -> None:
        self._state.set(RECORD_KEY, dict(document), retention=NEVER_EXPIRE)

    def _echo(self, nonce: str) -> Any:
        key = f"{RECORD_KEY}_probe"
        self._state.set(key, nonce)
        return self._state.get(key)


class VariableStore(_OneDocument):
    """
    A record in an Airflow Variable, the store that needs no set-up.

    Airflow reports a Variable that could not be looked up as missing, so an empty record needs a proof. Two
    attempts that write at the same moment can overwrite each other; only a folder can rule that out.

    :param identity: The task instance.
    :param prove: See :class:`Store`; only what decides on a purchase needs a proof.
    """

    def __init__(self, identity: Identity, *, prove: bool = True) -> None:
        super().__init__(prove=prove)
        self._identity = identity
        parts = "\0".join(map(str, identity))
        self.name = f"kling_record_{hashlib.sha256(parts.encode()).hexdigest()[:32]}"

    def delete(self) -> None:
        """Delete the record."""
        Variable.delete(self.name)

    def _get(self) -> Any:
        text = Variable.get(self.name, None)
        if text is None:
            return None
        try:
            document = json.loads(text)
        except ValueError:
            document = None
        if document is None:
            raise unreadable(short_repr(text))
        return document

    def _write(self, document: Mapping[str, Any]) -> None:
        owner = self._identity
        text = f"Kling submits of {owner.dag_id}, {owner.run_id}, {owner.task_id} [{owner.map_index}]; do not edit"
        Variable.set(self.name, json.dumps({**document, "task": owner._asdict()}), description=text)

    def _echo(self, nonce: str) -> Any:
        name = f"{self.name}_probe"
        Variable.set(name, nonce)
        try:
            return Variable.get(name, None)
        finally:
            Variable.delete(name)


class BothStores(Store):
    """
    Two stores that hold one record together.

    An intent counts when both stores have it, an outcome when one does. The record is the union of both. If one
    store cannot be read, the task stops.

    :param stores: The stores.
    """

    def __init__(self, *stores: Store) -> None:
        super().__init__(prove=False)
        self._stores = stores

    def append(self, event: Event) -> None:
        failures = []
        for store in self._stores:
            try:
                store.append(event)
            except Exception as error:
                if event["event"] == "intent":
                    raise
                failures.append(error)
                reason = mask_signatures(repr(error))
                log.warning("One of two records of this task's submits cannot be written: %s", reason)
        if len(failures) == len(self._stores):
            raise failures[0]

    def forget(self, intent: str) -> None:
        # Neither store may keep an intent without its outcome: that would stop the next attempt.
        closing = [e for e in self._read() if e["intent"] == intent and e["event"] in CLOSED_WITHOUT_A_JOB]
        for store in self._stores:
            for event in closing:
                store.append(event)
        for store in self._stores:
            store.forget(intent)

    def _read(self) -> Sequence[Event]:
        return [event for store in self._stores for event in store.load()]

    def _echo(self, nonce: str) -> Any:
        return nonce  # each store has its own proof


class NoStore(Store):
    """
    The store for ``[kling] state = none``: it keeps events in memory only.

    So what earlier attempts have bought is always unknown. The Variable with the decision on them is named after
    the attempt that reported them.

    :param identity: The task instance.
    :param conn_id: The Airflow connection.
    :param fingerprint: The fingerprint of the request.
    :param try_number: The number of the running attempt, from 1.
    :param read_variable: Returns the text of an Airflow Variable, None if there is none.
    """

    durable = False

    def __init__(
        self,
        identity: Identity,
        *,
        conn_id: str,
        fingerprint: str,
        try_number: int,
        read_variable: Callable[[str], str | None],
    ) -> None:
        super().__init__(prove=False)
        self._identity = identity
        self._name = attempt_id(identity, try_number)
        self._events: list[Event] = []
        if try_number > 1:
            self._events.append(
                new_event(
                    "intent",
                    self._earlier_intent(try_number, read_variable),
                    at=SENT_AT_UNKNOWN,
                    fingerprint=fingerprint,
                    purchase=0,
                    max_tries=-1,
                    conn_id=conn_id,
                    dag_id=identity.dag_id,
                    prompt="any request of an earlier attempt of this task",
                    cites={},
                )
            )

    def _earlier_intent(self, try_number: int, read_variable: Callable[[str], str | None]) -> str:
        """
        Return the id of the intent that stands for all earlier attempts.

        If the Variable that the last attempt reported has a decision, it is the id of that report; otherwise a new
        id, whose Variable this attempt reports.
        """
        reported = f"{attempt_id(self._identity, try_number - 1)}-earlier"
        earlier = Submit(id=reported, fingerprint="", purchase=0, sent_at=SENT_AT_UNKNOWN, conn_id="", dag_id="")
        decision = decision_for(earlier, read=read_variable, now=time.time())
        # The next attempt reads the Variable that this one reports.
        return reported if decision else f"{self._name}-earlier"

    def new_intent(self) -> str:
        return f"{self._name}-{new_id()[:12]}"

    def append(self, event: Event) -> None:
        self._events.append(event)

    def forget(self, intent: str) -> None:
        self._events = [event for event in self._events if event["intent"] != intent]

    def _read(self) -> Sequence[Event]:
        return list(self._events)

    def _echo(self, nonce: str) -> Any:
        return nonce
