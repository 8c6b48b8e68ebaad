# SPDX-License-Identifier: Apache-2.0
"""
What a person says of a submit of unknown fate.

Only an explicit word resolves one. It is an Airflow Variable whose name is made of the submit's random id, so that
it counts for this submit and for no other, and nothing has to be deleted. One Variable for many answers at once
serves after an outage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.jobs.journal import SENT_AT_UNKNOWN

if TYPE_CHECKING:
    from airflow_provider_kling.jobs.journal import Submit

#: Name of the Variable that answers for many submits, and the beginning of the names that answer for one.
ADOPT = "kling_adopt"


class Word(NamedTuple):
    """
    What a person said of one submit.

    :param by: Where it was said: the name of the Variable.
    :param kling_task_id: The job that was found at the vendor; None if the person looked, and there is none.
    """

    by: str
    kling_task_id: str | None


def word_name(intent_id: str) -> str:
    """Return the name of the Airflow Variable that answers for one submit, from the id of its intent."""
    return f"{ADOPT}_{intent_id[:12]}"


def word_for(submit: Submit, *, read: Callable[[str], str | None], now: float) -> Word | None:
    """
    Return what a person said of a submit, or None if nobody did.

    The Variable of this submit counts first, then its entry in the ``answers`` of :data:`ADOPT`, then the
    ``none_sent_between`` there that covers it.

    :param submit: The submit of unknown fate.
    :param read: Returns the text of an Airflow Variable, None if there is none or it cannot be had.
    :param now: The time (epoch seconds).
    :raises KlingValidationError: if the Variable :data:`ADOPT` cannot be understood.
    """
    name = word_name(submit.id)
    if said := (read(name) or "").strip():
        return _word(name, said)
    if not (text := (read(ADOPT) or "").strip()):
        return None
    many = _Answers(text, now=now)
    if said := many.answers.get(name, "").strip():
        return _word(ADOPT, said)
    return Word(ADOPT, None) if many.covers(submit) else None


def _word(by: str, said: str) -> Word:
    return Word(by, None if said.casefold() == "none" else said)


class _Answers:
    """
    The content of the Variable :data:`ADOPT`.

    :param text: ``{"looked_at": ..., "answers": {name: id or "none"}, "none_sent_between": [{"conn_id", "dag_id",
        "from", "to"}]}``, with times as ISO 8601 with an offset.
    :param now: The time (epoch seconds).
    """

    def __init__(self, text: str, *, now: float) -> None:
        try:
            given = json.loads(text)
        except ValueError:
            raise _wrong("is not JSON") from None
        if not isinstance(given, Mapping):
            raise _wrong("must be a JSON object")
        if unknown := given.keys() - {"looked_at", "answers", "none_sent_between"}:
            raise _wrong(f"has no field {min(unknown)!r}")
        answers = given.get("answers") or {}
        if not isinstance(answers, Mapping) or not all(isinstance(said, str) for said in answers.values()):
            raise _wrong('needs "answers" as an object of texts')
        self.answers: Mapping[str, str] = answers
        self.ranges = given.get("none_sent_between") or []
        if not isinstance(self.ranges, list) or not all(isinstance(one, Mapping) for one in self.ranges):
            raise _wrong('needs "none_sent_between" as a list of objects')
        self.looked_at = _moment(given.get("looked_at"), "looked_at") if self.ranges else 0.0
        if self.looked_at > now:
            raise _wrong('"looked_at" lies in the future')

    def covers(self, submit: Submit) -> bool:
        """Return whether a person says that no job was made by any submit of this connection, DAG and time."""
        return any(self._covers(submit, one) for one in self.ranges)

    def _covers(self, submit: Submit, one: Mapping[str, Any]) -> bool:
        if missing := [name for name in ("conn_id", "dag_id", "from", "to") if not one.get(name)]:
            raise _wrong(f'"none_sent_between" lacks {missing[0]!r}')
        begin, end = _moment(one["from"], "from"), _moment(one["to"], "to")
        if end >= self.looked_at:
            # A list that was read at this moment cannot show what was sent later.
            raise _wrong('"to" must lie before "looked_at"')
        here = (one["conn_id"], one["dag_id"]) == (submit.conn_id, submit.dag_id)
        return here and submit.sent_at != SENT_AT_UNKNOWN and begin <= submit.sent_at <= end


def _moment(value: Any, name: str) -> float:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        example = datetime(2026, 11, 25, 21, 0, tzinfo=UTC).isoformat()
        raise _wrong(f'"{name}" must be a time with an offset, such as {example}')
    return moment.timestamp()


def _wrong(reason: str) -> KlingValidationError:
    return KlingValidationError(
        f"The Airflow Variable {ADOPT} {reason}",
        advice="Nothing was submitted. Correct it or delete it, and clear this task.",
    )
