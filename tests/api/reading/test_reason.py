# SPDX-License-Identifier: Apache-2.0
"""Why a job failed: under any name, at any depth, and never in what is no reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.api.reading.reason import body_excerpt, failure_reason
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.response import Response
from airflow_provider_kling.exceptions import KlingContentRefusedError, KlingGenerationFailedError
from airflow_provider_kling.jobs.result import generation_error

WORDS = "CUDA out of memory"


def failed(body: Any, task_id: str = "x") -> Any:
    return read_status(Response(200, json.dumps(body, ensure_ascii=False).encode()), task_id)


@pytest.mark.parametrize(
    "place",
    [
        {"error_message": WORDS},
        {"errorMessage": WORDS},
        {"errormsg": WORDS},
        {"failMsg": WORDS},
        {"fail_msg": WORDS},
        {"failreason": WORDS},
        {"failure_reason": WORDS},
        {"failureReason": WORDS},
        {"failure": WORDS},
        {"msg": WORDS},
        {"detail": WORDS},
        {"details": WORDS},
        {"reason": WORDS},
        {"cause": WORDS},
        {"exception": WORDS},
        {"status_msg": WORDS},
        {"statusMessage": WORDS},
        {"task_status_msg": WORDS},
        {"errors": [WORDS]},
        {"errors": [{"message": WORDS, "path": ["x"]}]},
        {"detail": [{"loc": ["body", "prompt"], "msg": WORDS, "type": "value_error", "input": "a cat"}]},
        {"error": {"detail": WORDS}},
        {"error": {"reason": WORDS, "code": 7}},
        {"error": {"title": WORDS, "status": 500}},
        {"error": {"data": {"message": WORDS}}},
        {"error": {"code": 10000, "raw_message": WORDS, "message": ""}},
        {"base_resp": {"status_code": 1000, "status_msg": WORDS}},
        {"output": {"message": WORDS, "code": "InternalError"}},
        {"output": {"error": {"message": WORDS}}},
        {"result": {"failed": {"why": 5, "failedReason": WORDS}}},
        {"task_result": {"error_msg": WORDS}},
        {"message": "success", "data": {"fail_reason": WORDS}},
        {"message": "SUCCEED", "fail_reason": WORDS},
        {"message": "Request succeeded.", "data": {"reason": WORDS}},
        {"msg": "操作成功", "data": {"failMsg": WORDS}},
        {"message": "ok", "msg": "OK", "info": {"error": WORDS}},
        {"message": "failed", "detail": WORDS},
        {"reason": "null", "error": "None", "msg": WORDS},
        {"error": json.dumps({"error": {"message": WORDS}})},
        {"resultJson": json.dumps({"error_message": WORDS})},
        {"error": WORDS, "prompt": "error: a cat", "input": {"error": "no", "message": "no"}},
        {"message": "Something went wrong", "error": {"message": WORDS}},
        {"data": {"data": {"data": {"error_message": WORDS}}}},
        {"input_error": WORDS},
    ],
    ids=lambda place: json.dumps(place, ensure_ascii=False)[:60],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_reason_is_found(place: dict[str, Any], wrapped: bool) -> None:
    body = {"id": "x", "status": "failed", **place}
    job = failed({"code": 200, "message": "success", "data": body} if wrapped else body)
    assert job.error == WORDS
    assert WORDS in str(generation_error(job))


@pytest.mark.parametrize(
    "body",
    [
        {"id": "x", "status": "failed", "message": "success"},
        {"id": "x", "status": "failed", "message": "SUCCEED"},
        {"id": "x", "status": "failed", "msg": "请求成功"},
        {"id": "x", "status": "failed", "error": "", "reason": None, "fail_reason": "none"},
        {"id": "x", "status": "failed", "error": {"message": "", "code": ""}},
        {"id": "x", "status": "failed", "prompt": "an error message", "input": {"reason": "why"}},
        {"id": "x", "status": "failed", "request": {"message": "a cat"}, "parameters": {"error": "a dog"}},
        {"id": "x", "status": "failed", "message_id": "7", "error_url": "https://docs.example.com"},
        {"id": "x", "status": "failed", "error": 5, "reason": True, "message": ["", 1]},
    ],
    ids=str,
)
def test_what_is_no_reason_is_none_and_the_body_is_quoted(body: dict[str, Any]) -> None:
    job = failed(body)
    failure = generation_error(job)
    assert job.error is None
    assert "the server gives no reason" in failure.message
    assert failure.server_message == job.excerpt
    assert '"status": "failed"' in failure.server_message
    assert type(failure) is KlingGenerationFailedError


@pytest.mark.parametrize(
    "text",
    ["The request did not succeed", "generation was unsuccessful", "Image download failed", "timed out", "未成功"],
)
def test_words_that_only_resemble_a_success_or_a_status_are_a_reason(text: str) -> None:
    assert failed({"id": "x", "status": "failed", "message": text}).error == text


def test_the_prompt_is_not_quoted() -> None:
    body = {
        "id": "x",
        "status": "failed",
        "prompt": "secret",
        "input": {"a": "secret"},
        "extra_body": {"x": "secret"},
    }
    job = failed({**body, "data": [{"negative_prompt": "secret", "note": "kept"}]})
    assert "secret" not in f"{job}"
    assert "kept" in job.excerpt


def test_a_signature_is_not_quoted() -> None:
    url = "https://cdn.example.com/a.png?X-Amz-Signature=0a1b2c3d4e5f60718293"
    assert "0a1b2c3d" not in failed({"id": "x", "status": "failed", "thing": url}).excerpt


@pytest.mark.parametrize(
    "place",
    [
        {"base_resp": {"status_code": 1027, "status_msg": "生成视频涉及敏感内容"}},
        {"base_resp": {"status_code": 1026, "status_msg": "refused"}},
        {"status_code": "1301", "msg": "no"},
        {"error_message": "Your prompt was flagged by moderation"},
        {"error": {"message": "no", "type": "content_policy_violation"}},
        {"error": {"message": "no", "code": "OutputVideoSensitiveContentDetected.PolicyViolation"}},
        {"output": {"code": "DataInspectionFailed", "message": "Output data may contain inappropriate content."}},
        {"failure": "Content moderation", "failureCode": "SAFETY.INPUT.TEXT"},
        {"failMsg": "NSFW content detected"},
        {"message": "Generation failed", "detail": "the image violates our guidelines"},
        {"message": "task failed", "errors": [{"reason": "图片违规"}]},
        {"error": json.dumps({"code": 1301, "message": "no"})},
        {"error": {"message": json.dumps({"message": "内容敏感"})}},
        {"message": "生成失败", "note": "内容审核未通过"},
        {"verdict": "risk control"},
    ],
    ids=lambda place: json.dumps(place, ensure_ascii=False)[:60],
)
def test_a_content_refusal_is_recognised_in_all_of_it(place: dict[str, Any]) -> None:
    failure = generation_error(failed({"task_id": "x", "status": "Fail", **place}))
    assert type(failure) is KlingContentRefusedError
    assert not failure.retryable


@pytest.mark.parametrize(
    "place",
    [
        {"error": "out of memory", "prompt": "a sensitive scene"},
        {"error": "out of memory", "input": {"text": "moderation"}},
        {"is_sensitive": False, "nsfw": [False], "error": "timeout"},
        {"error": {"message": "Insufficient balance of a sensitive account", "code": 1102}},
        {"message": "", "extra_body": {"negative_prompt": "nsfw, inappropriate"}},
    ],
    ids=str,
)
def test_what_is_no_refusal_of_content_is_bought_again(place: dict[str, Any]) -> None:
    assert not failed({"id": "x", "status": "failed", **place}).content_refused


@pytest.mark.parametrize(
    ("place", "code"),
    [
        ({"error": {"message": "no", "code": "E1"}}, "E1"),
        ({"failCode": "422", "failMsg": "no"}, "422"),
        ({"error_code": 9, "error_msg": "no"}, "9"),
        ({"base_resp": {"status_code": 1027, "status_msg": "no"}}, "1027"),
        ({"error": {"message": "no", "type": "server_error"}}, "server_error"),
        ({"code": 200, "message": "no"}, None),
        ({"err_code": "", "message": "no"}, None),
    ],
)
def test_the_code_beside_the_reason(place: dict[str, Any], code: str | None) -> None:
    assert failed({"id": "x", "status": "failed", **place}).error_code == code


def test_the_reason_of_another_job_is_not_taken() -> None:
    others = [{"task_id": "a", "status": "FAILED", "reason": "内容敏感"}, {"task_id": "x", "status": "FAILED"}]
    job = failed({"data": others})
    assert (job.error, job.content_refused) == (None, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(
    st.dictionaries(st.sampled_from(["error", "message", "errors", "code", "detail", "status", "failMsg"]), JSON),
    JSON,
)
def test_any_body_has_a_reading(fields: dict[str, Any], around: Any) -> None:
    for body in (None, {"data": fields, "more": around}, [fields, around]):
        reason = failure_reason(fields, body)
        assert reason.message is None or 0 < len(reason.message) <= 500
        assert isinstance(reason.is_refusal, bool)
        assert len(body_excerpt(body)) <= 500


@given(
    st.dictionaries(st.sampled_from(["prompt", "input", "params", "request", "negative_prompt"]), JSON),
    st.sampled_from(["sensitive", "敏感", "nsfw", "1301"]),
)
def test_what_repeats_the_request_says_nothing(echo: dict[str, Any], word: str) -> None:
    fields = {"id": "x", "status": "failed", **echo, "input": {**echo, "error": {"message": word}}}
    assert failure_reason(fields, fields)[:3] == (None, None, False)
