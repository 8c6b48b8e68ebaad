# SPDX-License-Identifier: Apache-2.0
"""
A person's decision on submits of unknown fate, from the buttons of the Videos page.

A button writes the Airflow Variable that the error of the task names, and nothing else, so it never means more
than that Variable. A decision can allow another purchase, so it is refused whenever it is in doubt that the submit
is still open. The Variable can then be set by hand.
"""

from __future__ import annotations

import json
import logging
import re
import time
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.tokens import get_signing_key
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models import Variable
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.utils.state import TaskInstanceState
from fastapi import APIRouter, Depends, HTTPException, Request
from itsdangerous import BadData, URLSafeTimedSerializer
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.jobs.consent import decision_for, is_variable_name, variable_name
from airflow_provider_kling.jobs.journal import SENT_AT_UNKNOWN, Journal, Submit
from airflow_provider_kling.records import read_variable, recorded_events
from airflow_provider_kling.records.stores import RECORD_KEY, Identity, attempt_id
from airflow_provider_kling.utils.signed_urls import mask_signatures
from airflow_provider_kling.utils.text import as_mapping
from airflow_provider_kling.version_compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_kling.videos_page.bounded_calls import call_within
from airflow_provider_kling.videos_page.xcom_values import xcom_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from sqlalchemy.orm import Session

    from airflow_provider_kling.jobs.journal import Event

log = logging.getLogger(__name__)

#: The name of such a decision in Airflow's audit log.
EVENT = "kling_decision"
#: Seconds for which the buttons of a page work.
TOKEN_SECONDS = 3600
#: Maximum number of submits in one request.
MAX_SUBMITS = 3000
#: Seconds after which a request decides on no further submit.
REQUEST_SECONDS = 20.0
#: Seconds that the record of one task instance may take to be read.
RECORD_SECONDS = 10.0

#: What servers give as ids, see ``api.reading.submit``.
_TASK_ID = re.compile(r"[A-Za-z0-9_][\w.:/-]{0,199}", re.ASCII)
#: How API keys and tokens begin; one that is pasted by mistake must not be written down.
_KEY = re.compile(r"sk[-_]|api[-_]key|bearer|eyJ", re.IGNORECASE)
#: States in which a submit waits for a person. In any other one the task has gone on, or is about to.
_STOPPED = (TaskInstanceState.FAILED, TaskInstanceState.UP_FOR_RETRY)

router = APIRouter()


class _ChosenSubmit(BaseModel):
    task_id: str = Field(max_length=250)
    map_index: int = Field(ge=-1)
    name: str = Field(max_length=250)
    token: str = Field(max_length=4096)


class _Body(BaseModel):
    decision: Literal["adopt", "none"]
    kling_task_id: Annotated[str, Field(max_length=1000)] | None = None
    submits: Annotated[list[_ChosenSubmit], Field(min_length=1, max_length=MAX_SUBMITS)]


class _RefusedError(Exception):
    """A decision is not taken; the message says why."""


class _Intent(NamedTuple):
    """
    The submit that a button is about.

    :param identity: The task instance.
    :param name: The name of the Variable for the decision on it.
    """

    identity: Identity
    name: str

    def token_content(self, user_id: str) -> list[Any]:
        return [user_id, *self.identity, self.name]


def token_for(  # noqa: PLR0917 -- four of them name the task instance, as everywhere
    user_id: str, dag_id: str, run_id: str, task_id: str, map_index: int, name: str
) -> str:
    """
    Return the token that the buttons of a submit send, good for :data:`TOKEN_SECONDS`.

    :param user_id: The user to whom the page is shown.
    :param dag_id: The DAG.
    :param run_id: The run.
    :param task_id: The task.
    :param map_index: The map index, -1 for a task that is not mapped.
    :param name: The name of the Variable for the decision on the submit.
    """
    intent = _Intent(Identity(dag_id, run_id, task_id, map_index), name)
    return str(_serializer().dumps(intent.token_content(user_id)))


def decided_of(names: Collection[str], session: Session) -> set[str]:
    """
    Return which Variables exist, so that a page does not ask again for what was decided.

    Only the database is read: a secrets backend could take long for a page of many cards.

    :param names: The names of the Variables for decisions.
    :param session: The session to read with.
    """
    if not names:
        return set()
    return set(session.scalars(select(Variable.key).where(Variable.key.in_(names))))


def _sent_as_json(request: Request) -> None:
    # A form of another site cannot send this type.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "The content type must be application/json.")


@router.post(
    "/dags/{dag_id}/runs/{run_id}/decisions",
    dependencies=[
        Depends(_sent_as_json),
        Depends(requires_access_dag(method="PUT", access_entity=DagAccessEntity.TASK_INSTANCE)),
    ],
)
def decide(dag_id: str, run_id: str, body: _Body, user: GetUserDep) -> dict[str, list[dict[str, Any]]]:
    """Write the decision on one or many submits of a run; return for each whether it was written, and why not."""
    word = _word(body)
    deadline = time.monotonic() + REQUEST_SECONDS
    results = []
    for chosen in body.submits:
        intent = _Intent(Identity(dag_id, run_id, chosen.task_id, chosen.map_index), chosen.name)
        try:
            message = _decide(intent, word, chosen.token, user, deadline)
            is_written = True
        except _RefusedError as refused:
            message, is_written = str(refused), False
        except Exception as error:  # noqa: BLE001 - the results of the decisions before this one are not lost
            _warn("A decision failed", intent, error)
            message, is_written = "This failed; the log of the API server says why. Reload the page.", False
        results.append(
            {
                "task_id": chosen.task_id,
                "map_index": chosen.map_index,
                "name": chosen.name,
                "ok": is_written,
                "message": message,
            }
        )
    return {"results": results}


def _serializer() -> URLSafeTimedSerializer:
    key = get_signing_key("api", "secret_key")
    return URLSafeTimedSerializer(key, salt="kling-decision", signer_kwargs={"digest_method": sha256})


def _word(body: _Body) -> str:
    """
    Return the text for the Variables.

    :raises HTTPException: if it could mean something else than the decision.
    """
    if body.decision == "none":
        if body.kling_task_id is not None:
            raise HTTPException(422, "A decision that there is no job has no task id.")
        return "none"
    word = (body.kling_task_id or "").strip()
    if not word:
        raise HTTPException(422, "Enter the id of the job that you found.")
    if _KEY.match(word):
        raise HTTPException(422, "This looks like an API key. Enter the id of the job that you found.")
    if not _TASK_ID.fullmatch(word) or "://" in word or word.casefold() in ("none", "null", "undefined"):
        raise HTTPException(422, "This is no task id: letters, digits and _ . : / - without spaces.")
    if len(body.submits) > 1:
        raise HTTPException(422, "A job belongs to one submit. Enter the ids one by one.")
    return word


def _decide(intent: _Intent, word: str, token: str, user: BaseUser, deadline: float) -> str:
    """
    Write the decision on one submit, and return what to do next.

    :raises _RefusedError: if the submit is not open any more, or if that is in doubt.
    """
    if time.monotonic() > deadline:
        raise _RefusedError(
            "The decisions before this one took too long. Nothing was decided here: send it again."
        )
    _check_token(intent, token, user)
    with create_session(scoped=False) as session:
        state, try_number = _stopped_attempt(intent, session)
        _check_reported(intent, session)
        task_state = _task_state(intent.identity, session)
    submit = _open_submit(intent, word, try_number, task_state)
    _check_undecided(submit)
    entry = {"variable": intent.name, "value": word}
    try:
        # Together: no decision without its entry in the audit log. The key is unique, so one of two people wins.
        with create_session(scoped=False) as session:
            session.add(Variable(key=intent.name, val=word, description=f"Decided by {user.get_name()}"))
            session.add(
                Log(
                    event=EVENT,
                    owner=user.get_name(),
                    owner_display_name=user.get_name(),
                    extra=json.dumps(entry),
                    try_number=try_number,
                    **intent.identity._asdict(),
                )
            )
    except IntegrityError:
        raise _RefusedError(
            f"The Variable {intent.name} exists already: somebody else may have just decided. Reload the page."
        ) from None
    how = "Clear the task" if state == TaskInstanceState.FAILED else "Clear the task, or wait for its retry"
    return f"Noted. {how}: it {'submits again, once' if word == 'none' else f'joins Kling task {word}'}."


def _check_token(intent: _Intent, token: str, user: BaseUser) -> None:
    try:
        content = _serializer().loads(token, max_age=TOKEN_SECONDS)
    except BadData:
        content = None
    if content != intent.token_content(str(user.get_id())):
        raise _RefusedError("This page is too old, or was made for another user. Reload it.")


def _stopped_attempt(intent: _Intent, session: Session) -> tuple[str, int]:
    """Return the state and the number of the last attempt, which waits for a person."""
    dag_id, run_id, task_id, map_index = intent.identity
    row = session.execute(
        select(TaskInstance.state, TaskInstance.try_number).where(
            TaskInstance.dag_id == dag_id,
            TaskInstance.run_id == run_id,
            TaskInstance.task_id == task_id,
            TaskInstance.map_index == map_index,
        )
    ).one_or_none()
    if row is None:
        raise _RefusedError("There is no such task instance any more.")
    state, try_number = row
    if state not in _STOPPED:
        raise _RefusedError(
            f"The task is {state or 'about to run'} now: nothing waits for a decision. Reload the page."
        )
    return state, try_number


def _check_reported(intent: _Intent, session: Session) -> None:
    try:
        reported = xcom_of(intent.identity, "kling_uncertain", session)
    except Exception as error:  # noqa: BLE001 - an XCom backend may raise anything
        raise _doubt(intent, "The XCom kling_uncertain cannot be read", error) from None
    # Any DAG author can write an XCom, so this alone opens nothing.
    if not is_variable_name(intent.name) or as_mapping(reported).get("name") != intent.name:
        raise _RefusedError("The task does not report this submit as uncertain any more. Reload the page.")


def _task_state(identity: Identity, session: Session) -> Mapping[str, Any] | None:
    """Return what Airflow's task state store has of a task instance; None before 3.3, which has no such store."""
    if not AIRFLOW_V_3_3_PLUS:
        return None
    from airflow.state import TaskScope, get_state_backend

    stored = get_state_backend().get(TaskScope(**identity._asdict()), RECORD_KEY, session=session)
    return {} if stored is None else {RECORD_KEY: json.loads(stored)}


def _open_submit(intent: _Intent, word: str, try_number: int, task_state: Mapping[str, Any] | None) -> Submit:
    """Return the submit, of unknown fate as the record of the task instance has it."""
    try:
        events = call_within(RECORD_SECONDS, partial(recorded_events, intent.identity, task_state))
        submits = _submits_of_attempt(intent, try_number) if events is None else _submits(events)
    except Exception as error:  # noqa: BLE001 - a store may raise anything
        raise _doubt(intent, "The record of the task's submits cannot be read here", error) from None
    submit = next((submit for submit in submits if variable_name(submit.id) == intent.name), None)
    if submit is None:
        raise _doubt(intent, "The record of the task's submits, as the API server reads it, has no such submit")
    if submit.fate != "unknown":
        raise _RefusedError("The fate of this submit is known by now. Reload the page.")
    if any(word in other.kling_task_ids for other in submits):
        raise _RefusedError(f"Kling task {word} is on record for another submit of this task.")
    return submit


def _submits(events: Sequence[Event]) -> list[Submit]:
    return list(Journal(events).submits.values())


def _submits_of_attempt(intent: _Intent, try_number: int) -> list[Submit]:
    """Return what stands for the submits of an attempt of which no record is kept."""
    intent_id = attempt_id(intent.identity, try_number)
    dag_id = intent.identity.dag_id
    return [Submit(id=intent_id, fingerprint="", purchase=0, sent_at=SENT_AT_UNKNOWN, conn_id="", dag_id=dag_id)]


def _check_undecided(submit: Submit) -> None:
    try:
        decision = decision_for(submit, read=read_variable, now=time.time())
    except KlingError as error:
        raise _RefusedError(f"{error.message}. Correct or delete it first.") from None
    if decision is not None:
        meaning = (
            f"names Kling task {decision.kling_task_id}" if decision.kling_task_id else "says that there is none"
        )
        raise _RefusedError(f"The Variable {decision.by} {meaning} already. Clear the task.")


def _doubt(intent: _Intent, reason: str, error: Exception | None = None) -> _RefusedError:
    """Return the refusal of a decision on a submit that may be open; the log of the API server has the error."""
    if error is not None:
        _warn(reason, intent, error)
    return _RefusedError(f"{reason}. Nothing was decided: set the Variable {intent.name} by hand.")


def _warn(reason: str, intent: _Intent, error: Exception) -> None:
    described = mask_signatures(f"{type(error).__name__}: {error}")
    log.warning("%s: %s, %s", reason, ", ".join(map(str, intent.identity)), described)
