# SPDX-License-Identifier: Apache-2.0
"""Which decision of a person counts for which submit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.jobs.consent import ADOPT, Decision, decision_for, variable_name
from airflow_provider_kling.jobs.journal import SENT_AT_UNKNOWN, Submit

SENT_AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC).timestamp()
NOW = SENT_AT + 86_400
SUBMIT = Submit(id="0123456789abcdef", fingerprint="f", purchase=0, sent_at=SENT_AT, conn_id="c", dag_id="d")
NAME = "kling_adopt_0123456789ab"
OUTAGE = {
    "conn_id": "c",
    "dag_id": "d",
    "from": "2026-11-25T11:00:00+00:00",
    "to": "2026-11-25T13:00:00+00:00",
}
LOOKED_AT = "2026-11-25T18:00:00Z"


def decision(
    variables: dict[str, Any] | None = None, *, now: float = NOW, sent_at: float = SENT_AT, **many: Any
) -> Decision | None:
    given = {name: text if isinstance(text, str) else json.dumps(text) for name, text in (variables or {}).items()}
    if many:
        given[ADOPT] = json.dumps(many)
    return decision_for(replace(SUBMIT, sent_at=sent_at), read=given.get, now=now)


def test_the_name_of_the_variable_contains_the_id_of_the_submit() -> None:
    assert variable_name(SUBMIT.id) == NAME


@pytest.mark.parametrize("text", ["none", "None", " NONE\n", "nONe"])
def test_none_means_that_there_is_no_job(text: str) -> None:
    assert decision({NAME: text}) == Decision(NAME, None)


def test_any_other_text_is_an_id() -> None:
    assert decision({NAME: " Task_A \n"}) == Decision(NAME, "Task_A")


@pytest.mark.parametrize("variables", [{}, {NAME: ""}, {NAME: "  "}, {"kling_adopt_other": "none"}, {ADOPT: ""}])
def test_an_empty_or_another_variable_is_no_decision(variables: dict[str, str]) -> None:
    assert decision(variables) is None


class TestManyDecisions:
    def test_by_name(self) -> None:
        assert decision(answers={NAME: "task_1", "kling_adopt_other": "none"}) == Decision(ADOPT, "task_1")
        assert decision(answers={NAME: "None"}) == Decision(ADOPT, None)
        assert decision(answers={"kling_adopt_other": "none"}) is None

    def test_by_time(self) -> None:
        assert decision(looked_at=LOOKED_AT, none_sent_between=[OUTAGE]) == Decision(ADOPT, None)

    @pytest.mark.parametrize(
        "other",
        [
            {"conn_id": "another"},
            {"dag_id": "another"},
            {"to": "2026-11-25T11:59:59+00:00"},
            {"from": "2026-11-25T12:00:01+00:00"},
            {"from": "2026-11-25T12:30:00+01:00", "to": "2026-11-25T12:59:00+01:00"},
        ],
    )
    def test_by_time_for_no_other_submit(self, other: dict[str, str]) -> None:
        assert decision(looked_at=LOOKED_AT, none_sent_between=[{**OUTAGE, **other}]) is None

    def test_by_time_for_no_submit_whose_time_is_unknown(self) -> None:
        ever = {**OUTAGE, "from": "1970-01-01T00:00:00+00:00"}
        assert decision(looked_at=LOOKED_AT, none_sent_between=[ever]) == Decision(ADOPT, None)
        assert decision(looked_at=LOOKED_AT, none_sent_between=[ever], sent_at=SENT_AT_UNKNOWN) is None

    def test_the_variable_of_the_submit_takes_precedence(self) -> None:
        many = {"looked_at": LOOKED_AT, "none_sent_between": [OUTAGE], "answers": {NAME: "task_1"}}
        assert decision({ADOPT: many}) == Decision(ADOPT, "task_1")
        assert decision({ADOPT: many, NAME: "task_2"}) == Decision(NAME, "task_2")

    def test_cannot_cover_a_submit_after_looked_at(self) -> None:
        late = {**OUTAGE, "to": "2026-11-25T18:00:00Z"}
        with pytest.raises(KlingValidationError, match='needs a "to" that is earlier than "looked_at"'):
            decision(looked_at=LOOKED_AT, none_sent_between=[late])
        with pytest.raises(KlingValidationError, match='"looked_at" in the future'):
            decision(looked_at=LOOKED_AT, none_sent_between=[OUTAGE], now=SENT_AT + 60)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("none", "is not JSON"),
            ("{", "is not JSON"),
            ("[]", "must be a JSON object"),
            ('"none"', "must be a JSON object"),
            ({"none_sent_betwen": []}, "has an unknown field 'none_sent_betwen'"),
            ({"answers": ["none"]}, '"answers" as an object'),
            ({"answers": {NAME: None}}, '"answers" as an object of strings'),
            ({"none_sent_between": {}}, None),
            ({"none_sent_between": "always"}, '"none_sent_between" as a list'),
            ({"none_sent_between": [OUTAGE]}, 'needs "looked_at" as a time with an offset'),
            ({"none_sent_between": [OUTAGE], "looked_at": "2026-11-25T18:00:00"}, 'needs "looked_at" as a time'),
            ({"none_sent_between": [OUTAGE], "looked_at": 1.0}, 'needs "looked_at" as a time'),
            (
                {"none_sent_between": [{**OUTAGE, "from": "noon"}], "looked_at": LOOKED_AT},
                'needs "from" as a time',
            ),
            ({"none_sent_between": [{**OUTAGE, "dag_id": ""}], "looked_at": LOOKED_AT}, "lacks 'dag_id'"),
        ],
    )
    def test_malformed_ones_are_rejected(self, text: Any, reason: str | None) -> None:
        if reason is None:
            assert decision({ADOPT: text}) is None
            return
        with pytest.raises(KlingValidationError, match=reason) as raised:
            decision({ADOPT: text})
        assert "Nothing was submitted" in str(raised.value)
