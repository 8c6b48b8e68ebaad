# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.providers.common.compat.sdk import mask_secret

from airflow_provider_kling import exceptions
from airflow_provider_kling.exceptions import (
    KlingAddressRefusedError,
    KlingAuthenticationError,
    KlingBalanceError,
    KlingConnectionError,
    KlingContentRefusedError,
    KlingDownloadError,
    KlingDuplicateSubmissionError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermanentError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingTimeoutError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
    KlingValidationError,
    Problem,
    error_name,
    short_repr,
)

ALL = [
    KlingError,
    KlingAddressRefusedError,
    KlingAuthenticationError,
    KlingBalanceError,
    KlingConnectionError,
    KlingContentRefusedError,
    KlingDownloadError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingTimeoutError,
    KlingUnavailableError,
    KlingDuplicateSubmissionError,
    KlingUncertainSubmissionError,
    KlingPermanentError,
    KlingValidationError,
]
FACTS = {
    "kling_task_id": "task_1",
    "http_status": 429,
    "code": "1303",
    "server_message": "并发超限",
    "request_id": "req-1",
    "retry_after": 2.5,
    "advice": "Wait.",
}


def test_each_class_has_a_word_of_its_own_that_the_page_of_errors_explains() -> None:
    kinds = {kind: kind.kind for kind in ALL if kind is not KlingPermanentError}
    assert len(set(kinds.values())) == len(kinds)
    assert KlingPermanentError.kind == KlingError.kind == "error"
    page = (Path(__file__).parents[1] / "docs" / "errors.md").read_text()
    for kind, word in kinds.items():
        assert f"| `{kind.__name__}` | `{word}` |" in page


def test_the_word_travels_and_an_error_of_another_class_has_its_own() -> None:
    error = KlingPermanentError("Over", kind="server_error", **FACTS)
    again = [KlingError.from_dict(json.loads(json.dumps(error.to_dict()))), pickle.loads(pickle.dumps(error))]  # noqa: S301
    assert [one.kind for one in (*again, error.replace(message="x"))] == ["server_error"] * 3
    assert KlingServerError("x", **KlingNotFoundError("x").details()).kind == "server_error"


def test_every_error_class_of_the_module_is_known_here() -> None:
    public = {
        kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, KlingError)
    }
    assert public == set(ALL)


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_the_way_over_json(kind: type[KlingError]) -> None:
    error = kind("It failed", **FACTS)
    again = KlingError.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is kind
    assert again.to_dict() == error.to_dict()
    assert str(again) == str(error)


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_pickling_between_processes(kind: type[KlingError]) -> None:
    error = kind("It failed", **FACTS)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is kind
    assert again.to_dict() == error.to_dict()


@pytest.mark.parametrize("kind", ALL)
def test_an_error_with_nothing_known_survives_too(kind: type[KlingError]) -> None:
    again = KlingError.from_dict(kind("It failed").to_dict())
    assert type(again) is kind
    assert str(again) == str(kind("It failed"))


def test_an_error_of_a_newer_version_is_a_plain_error_with_all_its_facts() -> None:
    again = KlingError.from_dict(
        {"type": "KlingWeatherError", "message": "It rained", "code": "42", "moon": "full"}
    )
    assert type(again) is KlingError
    assert (again.message, again.code) == ("It rained", "42")


def test_a_subclass_made_elsewhere_travels_as_the_public_class() -> None:
    class MineError(KlingBalanceError):
        pass

    assert error_name(MineError("Broke")) == "KlingBalanceError"
    assert type(KlingError.from_dict(MineError("Broke").to_dict())) is KlingBalanceError


def test_the_message_contains_all_details_once() -> None:
    text = str(KlingRateLimitError("The submit was refused", **FACTS))
    assert text == (
        "The submit was refused (Kling task task_1, HTTP 429, code 1303, request req-1). "
        "The server reported: “并发超限”. Wait."
    )


def test_the_message_does_not_repeat_a_task_id_it_names_already() -> None:
    assert str(KlingError("Kling task t1 is gone", kling_task_id="t1")).count("t1") == 1


@pytest.mark.parametrize(
    "kind", [kind for kind in ALL if kind not in (KlingError, KlingPermanentError, KlingTimeoutError)]
)
def test_every_kind_says_what_to_do(kind: type[KlingError]) -> None:
    if kind is not KlingDownloadError:  # where the advice depends on what happened
        assert kind("It failed").advice


def test_an_empty_advice_replaces_the_default() -> None:
    assert str(KlingServerError("It failed", advice="")) == "It failed."


@pytest.mark.parametrize(
    "kind",
    [
        KlingAuthenticationError,
        KlingBalanceError,
        KlingContentRefusedError,
        KlingNotFoundError,
        KlingPermissionError,
        KlingUncertainSubmissionError,
        KlingValidationError,
    ],
)
def test_what_another_attempt_cannot_cure_is_not_retryable(kind: type[KlingError]) -> None:
    assert not kind.retryable


@pytest.mark.parametrize(
    "kind",
    [
        KlingConnectionError,
        KlingDownloadError,
        KlingGenerationFailedError,
        KlingRateLimitError,
        KlingServerError,
        KlingTimeoutError,
        KlingUnavailableError,
    ],
)
def test_what_another_attempt_may_cure_is_retryable(kind: type[KlingError]) -> None:
    assert kind.retryable


SIGNED = "https://b.s3.amazonaws.com/a.png?versionId=1&X-Amz-Signature=0a1b2c3d4e5f60718293&x=1"
MASKED = "https://b.s3.amazonaws.com/a.png?versionId=1&X-Amz-Signature=***&x=1"


class TestReplace:
    def test_returns_a_copy_and_leaves_the_error_as_it_was(self) -> None:
        error = KlingBalanceError("No money", **FACTS)
        changed = error.replace(advice="Pay.", message="Broke")
        assert type(changed) is KlingBalanceError
        assert changed.to_dict() == error.to_dict() | {"advice": "Pay.", "message": "Broke"}
        assert error.to_dict() == KlingBalanceError("No money", **FACTS).to_dict()

    def test_keeps_the_cause_and_the_place(self) -> None:
        with pytest.raises(KlingServerError) as caught:
            raise KlingServerError("Trouble") from ValueError("x")
        changed = caught.value.replace(message="Worse")
        assert changed.__cause__ is caught.value.__cause__
        assert changed.__traceback__ is caught.value.__traceback__


class TestSignatures:
    @pytest.mark.parametrize("kind", ALL)
    def test_no_form_of_an_error_holds_one(self, kind: type[KlingError]) -> None:
        error = kind(f"No {SIGNED}", code=SIGNED, server_message=f"Not {SIGNED}", advice=f"See {SIGNED}")
        forms = [str(error), repr(error), str(error.args), json.dumps(error.to_dict())]
        forms += [str(pickle.loads(pickle.dumps(error))), str(pickle.dumps(error))]  # noqa: S301
        for form in forms:
            assert "0a1b2c" not in form
        assert (error.message, error.server_message, error.advice) == (
            f"No {MASKED}",
            f"Not {MASKED}",
            f"See {MASKED}",
        )

    def test_neither_does_one_that_a_trigger_of_an_older_version_sent(self) -> None:
        sent = KlingError("x").to_dict() | {"message": SIGNED, "server_message": SIGNED}
        assert "0a1b2c" not in str(KlingError.from_dict(sent))

    def test_a_problem_with_a_url_shows_the_url_alone(self) -> None:
        error = KlingValidationError.from_problems([Problem("image", SIGNED, "must be public")])
        assert f"image='{MASKED}': must be public" in str(error)

    def test_nor_a_part_of_one_where_the_url_is_cut(self) -> None:
        long = SIGNED.replace("a.png", "a" * 40 + ".png")
        assert "0a1b" in short_repr(long)
        assert "0a1b" not in str(KlingValidationError.from_problems([Problem("image", long, "must be public")]))

    def test_a_value_that_is_not_a_text_is_left_unchanged(self) -> None:
        error = KlingError.from_dict({"type": "KlingError", "message": 5, "code": 1303, "advice": ["a"]})
        assert (error.message, error.code, error.advice) == (5, 1303, ["a"])


class TestProblem:
    def test_it_names_field_value_and_what_is_right(self) -> None:
        assert str(Problem("duration", 99, "must be less")) == "duration=99: must be less"

    def test_a_long_value_is_cut(self) -> None:
        assert len(str(Problem("prompt", "x" * 10_000, "must be short"))) < 200

    def test_also_where_airflow_has_no_logging_that_masks(self) -> None:
        """Airflow 2 and 3.0 can mask nothing then; it must not hide the problem."""
        code = f"from {Problem.__module__} import Problem; print(Problem('prompt', 'x' * 10_000, 'must be short'))"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"_AIRFLOW__AS_LIBRARY": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.rstrip().endswith("xxx...: must be short"), done.stderr

    def test_a_value_that_is_long_only_for_a_secret_is_shown_to_its_end(self) -> None:
        secret = "a-very-long-secret-" * 10
        mask_secret(secret)
        assert short_repr(f"nowhere://{secret}/a.mp4") == "'nowhere://***/a.mp4'"

    def test_a_number_too_long_to_print_is_no_trouble(self) -> None:
        assert (
            str(Problem("duration", 10**5000, "must be less")) == "duration=<int too large to show>: must be less"
        )

    def test_a_list_too_deep_to_print_is_no_trouble(self) -> None:
        deep: list[object] = []
        for _ in range(100_000):
            deep = [deep]
        assert "must be flat" in str(Problem("multi_prompt", deep, "must be flat"))

    def test_all_problems_stand_in_one_error(self) -> None:
        error = KlingValidationError.from_problems([Problem("a", 1, "must be 2"), Problem("b", 3, "must be 4")])
        assert str(error) == (
            "The video request has 2 problems:\n  - a=1: must be 2\n  - b=3: must be 4"
            "\nNothing was submitted or billed. Correct the arguments."
        )

    def test_a_single_one_is_a_sentence(self) -> None:
        problem = Problem("a", 1, "must be 2")
        assert KlingValidationError.from_problems([problem]).message == "a=1: must be 2"
        assert KlingValidationError.from_problems([problem], subject="It").message == "It: a=1: must be 2"
