# SPDX-License-Identifier: Apache-2.0
"""What a person is told of a submit whose fate is unknown, or whose job is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.exceptions import KlingUncertainSubmissionError
from airflow_provider_kling.jobs.consent import variable_name
from airflow_provider_kling.jobs.journal import SENT_AT_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.jobs.journal import Submit
    from airflow_provider_kling.jobs.submit_request import SubmitRequest


def uncertain_error(
    submit: Submit, request: SubmitRequest, details: Mapping[str, Any]
) -> KlingUncertainSubmissionError:
    """Return the error for a submit of unknown fate: one line on what is unknown, and one on what to do."""
    when = "at a time unknown" if submit.sent_at == SENT_AT_UNKNOWN else f"sent {iso(submit.sent_at)}"
    offered = details.get("offered")
    advice = (
        f"Look for it at the vendor. Set the Airflow Variable {variable_name(submit.id)} to its id, or to none if "
        "there is none. Then clear this task."
    )
    if offered:
        advice += f" The response named the id {offered}."
    if submit.fingerprint != request.fingerprint:
        advice += " The request has changed since: the changed one is submitted after that."
    if submit.client_token:
        advice += (
            f" It was sent with the external_task_id {submit.client_token}. A clear of this task asks the server "
            "for that again."
        )
    if hint := details.get("hint"):
        advice += f" {hint}"
    return KlingUncertainSubmissionError(
        f"A submit may have been accepted and billed: {submit.summary}, {when} ({details['why']})",
        kling_task_id=offered,
        http_status=details.get("http_status"),
        code=details.get("code"),
        server_message=details.get("server_message"),
        request_id=details.get("request_id"),
        advice=advice,
    )


def advice_if_gone(submit: Submit) -> str:
    since = iso(submit.submitted_at or submit.sent_at)
    return (
        f"It was submitted {since} and may be gone at the vendor by now. For a new video, set another take, or "
        "on_clear='resubmit' and clear the task."
    )


def iso(moment: float) -> str:
    """Return a moment (epoch seconds) as a person reads it, in UTC."""
    return datetime.fromtimestamp(moment, tz=UTC).isoformat(sep=" ", timespec="seconds")
