# SPDX-License-Identifier: Apache-2.0
"""Which word of a person counts for which submit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.jobs.consent import ADOPT, Word, word_for, word_name
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


def word(
    variables: dict[str, Any] | None = None, *, now: float = NOW, sent_at: float = SENT_AT, **many: Any
) -> Word | None:
    given = {name: text if isinstance(text, str) else json.dumps(text) for name, text in (variables or {}).items()}
    if many:
        given[ADOPT] = json.dumps(many)
    return word_for(replace(SUBMIT, sent_at=sent_at), read=given.get, now=now)


def test_the_name_is_of_the_submit() -> None:
    assert word_name(SUBMIT.id) == NAME


@pytest.mark.parametrize("said", ["none", "None", " NONE\n", "nONe"])
def test_none_says_that_there_is_no_job(said: str) -> None:
    assert word({NAME: said}) == Word(NAME, None)


def test_anything_else_is_an_id_as_it_is_written() -> None:
    assert word({NAME: " Task_A \n"}) == Word(NAME, "Task_A")


@pytest.mark.parametrize("variables", [{}, {NAME: ""}, {NAME: "  "}, {"kling_adopt_other": "none"}, {ADOPT: ""}])
def test_nothing_else_is_a_word(variables: dict[str, str]) -> None:
    assert word(variables) is None


class TestManyAnswers:
    def test_by_name(self) -> None:
        assert word(answers={NAME: "task_1", "kling_adopt_other": "none"}) == Word(ADOPT, "task_1")
        assert word(answers={NAME: "None"}) == Word(ADOPT, None)
        assert word(answers={"kling_adopt_other": "none"}) is None

    def test_by_time(self) -> None:
        assert word(looked_at=LOOKED_AT, none_sent_between=[OUTAGE]) == Word(ADOPT, None)

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
        assert word(looked_at=LOOKED_AT, none_sent_between=[{**OUTAGE, **other}]) is None

    def test_by_time_for_no_submit_whose_time_is_unknown(self) -> None:
        ever = {**OUTAGE, "from": "1970-01-01T00:00:00+00:00"}
        assert word(looked_at=LOOKED_AT, none_sent_between=[ever]) == Word(ADOPT, None)
        assert word(looked_at=LOOKED_AT, none_sent_between=[ever], sent_at=SENT_AT_UNKNOWN) is None

    def test_a_single_answer_wins(self) -> None:
        many = {"looked_at": LOOKED_AT, "none_sent_between": [OUTAGE], "answers": {NAME: "task_1"}}
        assert word({ADOPT: many}) == Word(ADOPT, "task_1")
        assert word({ADOPT: many, NAME: "task_2"}) == Word(NAME, "task_2")

    def test_cannot_cover_what_was_sent_after_the_look(self) -> None:
        late = {**OUTAGE, "to": "2026-11-25T18:00:00Z"}
        with pytest.raises(KlingValidationError, match='"to" must lie before "looked_at"'):
            word(looked_at=LOOKED_AT, none_sent_between=[late])
        with pytest.raises(KlingValidationError, match="lies in the future"):
            word(looked_at=LOOKED_AT, none_sent_between=[OUTAGE], now=SENT_AT + 60)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("none", "is not JSON"),
            ("{", "is not JSON"),
            ("[]", "must be a JSON object"),
            ('"none"', "must be a JSON object"),
            ({"none_sent_betwen": []}, "has no field 'none_sent_betwen'"),
            ({"answers": ["none"]}, '"answers" as an object'),
            ({"answers": {NAME: None}}, '"answers" as an object of texts'),
            ({"none_sent_between": {}}, None),
            ({"none_sent_between": "always"}, '"none_sent_between" as a list'),
            ({"none_sent_between": [OUTAGE]}, '"looked_at" must be a time with an offset'),
            ({"none_sent_between": [OUTAGE], "looked_at": "2026-11-25T18:00:00"}, '"looked_at" must be a time'),
            ({"none_sent_between": [OUTAGE], "looked_at": 1.0}, '"looked_at" must be a time'),
            ({"none_sent_between": [{**OUTAGE, "from": "noon"}], "looked_at": LOOKED_AT}, '"from" must be a time'),
            ({"none_sent_between": [{**OUTAGE, "dag_id": ""}], "looked_at": LOOKED_AT}, "lacks 'dag_id'"),
        ],
    )
    def test_that_cannot_be_understood_are_no_word_and_said_to_be_wrong(
        self, text: Any, reason: str | None
    ) -> None:
        if reason is None:
            assert word({ADOPT: text}) is None
            return
        with pytest.raises(KlingValidationError, match=reason) as raised:
            word({ADOPT: text})
        assert "Nothing was submitted" in str(raised.value)
