# SPDX-License-Identifier: Apache-2.0
"""
A person's decision on a submit of unknown fate.

Only an explicit decision resolves such a submit. It is stored in an Airflow Variable. Its name contains the
submit's random id, so it counts for this submit only, and nothing has to be deleted. After an outage, one Variable
can hold the decisions on many submits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.jobs.journal import SENT_AT_UNKNOWN

if TYPE_CHECKING:
    from airflow_provider_kling.jobs.journal import Submit

#: Name of the Variable with the decisions on many submits; names for a single submit begin with it.
ADOPT = "kling_adopt"
_NAME = re.compile(rf"{ADOPT}_[0-9a-f]{{12}}")


class Decision(NamedTuple):
    """
    A person's decision on one submit.

    :param by: The name of the Variable that has it.
    :param kling_task_id: The job that was found at the vendor; None if the person checked, and there is none.
    """

    by: str
    kling_task_id: str | None


def variable_name(intent_id: str) -> str:
    """Return the name of the Airflow Variable for the decision on one submit, from the id of its intent."""
    return f"{ADOPT}_{intent_id[:12]}"


def is_variable_name(name: str) -> bool:
    """Return whether a text is the name of the Variable for the decision on one submit."""
    return _NAME.fullmatch(name) is not None


def decision_for(submit: Submit, *, read: Callable[[str], str | None], now: float) -> Decision | None:
    """
    Return a person's decision on a submit, or None if there is none.

    The Variable of this submit takes precedence, then its entry in the ``answers`` of :data:`ADOPT`, then an entry
    of ``none_sent_between`` there that covers it.

    :param submit: The submit of unknown fate.
    :param read: Returns the text of an Airflow Variable, None if there is none or it cannot be read.
    :param now: The time (epoch seconds).
    :raises KlingValidationError: if the Variable :data:`ADOPT` is not of the documented form.
    """
    name = variable_name(submit.id)
    if text := (read(name) or "").strip():
        return _decision(name, text)
    if not (document := (read(ADOPT) or "").strip()):
        return None
    decisions = _ManyDecisions(document, now=now)
    if text := decisions.answers.get(name, "").strip():
        return _decision(ADOPT, text)
    return Decision(ADOPT, None) if decisions.covers(submit) else None


def _decision(by: str, text: str) -> Decision:
    return Decision(by, None if text.casefold() == "none" else text)


class _ManyDecisions:
    """
    The content of the Variable :data:`ADOPT`.

    :param text: ``{"looked_at": ..., "answers": {name: id or "none"}, "none_sent_between": [{"conn_id", "dag_id",
        "from", "to"}]}``, with times as ISO 8601 with an offset.
    :param now: The time (epoch seconds).
    """

    def __init__(self, text: str, *, now: float) -> None:
        try:
            document = json.loads(text)
        except ValueError:
            raise _malformed("is not JSON") from None
        if not isinstance(document, Mapping):
            raise _malformed("must be a JSON object")
        if unknown := document.keys() - {"looked_at", "answers", "none_sent_between"}:
            raise _malformed(f"has an unknown field {min(unknown)!r}")
        answers = document.get("answers") or {}
        if not isinstance(answers, Mapping) or not all(isinstance(answer, str) for answer in answers.values()):
            raise _malformed('needs "answers" as an object of strings')
        self.answers: Mapping[str, str] = answers
        self.ranges = document.get("none_sent_between") or []
        if not isinstance(self.ranges, list) or not all(isinstance(range_, Mapping) for range_ in self.ranges):
            raise _malformed('needs "none_sent_between" as a list of objects')
        self.looked_at = _epoch(document.get("looked_at"), "looked_at") if self.ranges else 0.0
        if self.looked_at > now:
            raise _malformed('has a "looked_at" in the future')

    def covers(self, submit: Submit) -> bool:
        """Return whether ``none_sent_between`` covers the connection, DAG and time of a submit."""
        return any(self._covers(submit, range_) for range_ in self.ranges)

    def _covers(self, submit: Submit, range_: Mapping[str, Any]) -> bool:
        if missing := [name for name in ("conn_id", "dag_id", "from", "to") if not range_.get(name)]:
            raise _malformed(f'lacks {missing[0]!r} in "none_sent_between"')
        begin, end = _epoch(range_["from"], "from"), _epoch(range_["to"], "to")
        if end >= self.looked_at:
            # The vendor's list, read at looked_at, cannot show a job that was submitted later.
            raise _malformed('needs a "to" that is earlier than "looked_at"')
        here = (range_["conn_id"], range_["dag_id"]) == (submit.conn_id, submit.dag_id)
        return here and submit.sent_at != SENT_AT_UNKNOWN and begin <= submit.sent_at <= end


def _epoch(value: Any, name: str) -> float:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        example = datetime(2026, 11, 25, 21, 0, tzinfo=UTC).isoformat()
        raise _malformed(f'needs "{name}" as a time with an offset, such as {example}')
    return time.timestamp()


def _malformed(reason: str) -> KlingValidationError:
    return KlingValidationError(
        f"The Airflow Variable {ADOPT} {reason}",
        advice="Nothing was submitted. Correct it or delete it, and clear this task.",
    )
