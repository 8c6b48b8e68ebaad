# SPDX-License-Identifier: Apache-2.0
"""What a gateway's responses say of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_kling.api.codes import OFFICIAL_REFUSALS, is_content_refusal, kind_of_code, official_code
from airflow_provider_kling.api.gateway.errors import (
    AMBIGUOUS_STATUSES,
    NO_SUCCESS,
    error_names,
    error_object,
    error_of,
    find_error,
    has_error,
    is_success_code,
    parts_of,
    says_task_unknown,
    uncertain_error,
    why_absent,
)
from airflow_provider_kling.api.gateway.refusals import BEFORE_SENDING
from airflow_provider_kling.api.gateway.status_words import status_of
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingNotFoundError,
    KlingServerError,
    KlingUnavailableError,
)
from airflow_provider_kling.utils.coerce import parse_number
from airflow_provider_kling.utils.text import as_mapping, as_text, clean_text, excerpt, innermost_message

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_provider_kling.api.response import Response

#: Characters of a video's URL, signature included.
MAX_URL = 8192


#: A task that no server has: asking for it costs nothing and shows whether the key is good.
PROBE_TASK_ID = "airflow-connection-test"


def read_submit(answer: Response, refusal_codes: Collection[str] = ()) -> VideoJob:
    """
    Return the job that a submit started.

    :param refusal_codes: Codes by which this vendor refuses before anything is bought, besides those known here.
    :raises KlingUncertainSubmissionError: if a job may exist: the response does not say for sure that it refuses,
        or it names a task beside an error; that task's id is then the error's ``kling_task_id``.
    :raises KlingError: any other, by name: the submit was refused, and no job exists.
    """
    if answer.http_status < 300 and not _says_error(answer, refusal_codes):
        return _accepted_job(answer)
    if is_definite_refusal(answer, refusal_codes):
        raise error_of(answer, "The submit was refused")
    raise uncertain_error(answer, "Whether the submit was accepted is open", kling_task_id=_named_task(answer))


def is_definite_refusal(answer: Response, refusal_codes: Collection[str] = ()) -> bool:
    """
    Return whether this response to a submit says for sure that no job was made.

    - A response that names a task does not, whatever else it says; one of the connection's own codes does.
    - 5xx: only a code that is raised before anything is sent on, or the official platform's code of a refusal,
      does. Words count only where there is no code.
    - 4xx: all do but an ambiguous status, and an error that names a lost upstream.
    - 3xx: all do but a redirect that may follow an accepted POST.
    - 2xx: only an error with a code that is known to refuse does.
    """
    status = answer.http_status
    if (status < 300 and not _says_error(answer, refusal_codes)) or _named_task(answer):
        return False
    names = error_names(answer)
    if names.among(refusal_codes):
        return True
    if status in AMBIGUOUS_STATUSES or names.lost_upstream():
        # A code of a lost upstream outweighs what the upstream says inside the message.
        return False
    if names.among(BEFORE_SENDING) or not OFFICIAL_REFUSALS.isdisjoint((names.code, *names.nested)):
        return True
    if status < 300:
        return kind_of_code(names.code) not in (None, KlingServerError)
    return names.speak_of_refusal() if status >= 500 else status < 400 or not names.speak_of_lost_upstream()


def _accepted_job(answer: Response) -> VideoJob:
    try:
        body = _accepted_body(answer, kling_task_id=None)
    except KlingServerError:
        body = {}
    kling_task_id = _task_id(body)
    if kling_task_id is None:
        # An id where none is expected is one for a person to judge.
        what = "The submit was accepted, but the answer holds no task id"
        if answer.http_status < 200:
            what = "An interim response came in place of the final one"
        raise uncertain_error(answer, what, kling_task_id=_named_task(answer))
    return _job(kling_task_id, body, _status_word(body) or "queued")


def _says_error(answer: Response, refusal_codes: Collection[str]) -> bool:
    """
    Return whether a 2xx holds an error that outweighs an id beside it.

    The flat envelope does only with a known code: some servers have a success code of their own.
    """
    error, body = error_object(answer), as_mapping(answer.json)
    if body.get("success") is False or body.get("error") is True or isinstance(body.get("error"), list):
        return True
    if has_error(body.get("data")) or str(body.get("code")).lower() in NO_SUCCESS:
        return True
    if error is None or error is not answer.json:
        return error is not None
    names = error_names(answer)
    known = any(kind_of_code(code) for code in (names.code, *names.nested))
    return known or names.lost_upstream() or names.among(BEFORE_SENDING) or names.among(refusal_codes)


def _named_task(answer: Response) -> str | None:
    """
    Return the id of a task that an error response to a submit names.

    Beside an error only a ``kling_task_id`` is one: an ``id`` may be the request's, and text in ``data`` anything.
    """
    for part in parts_of(answer.json):
        if isinstance(part, dict) and part.get("task_id") and (found := _task_id({"task_id": part["task_id"]})):
            return found
    body = as_mapping(answer.json)
    data = body.get("data")
    if (
        error_object(answer)
        or has_error(data)
        or body.get("success") is False
        or any(body.get(n) for n in ("message", "msg", "detail"))
    ):
        return None
    return (
        _task_id(body)
        or _task_id(as_mapping(data))
        or (clean_text(data) if isinstance(data, str) else None)
        or None
    )


def read_status(answer: Response, kling_task_id: str) -> VideoJob:
    """
    Return the state of a job, under the id it was asked by.

    :raises KlingError: what an error answer means, by name.
    """
    body = _accepted_body(answer, kling_task_id=kling_task_id)
    word = _status_word(body)
    if word is None:
        if (error := find_error(body)) is not None:
            raise error_of(
                answer,
                f"The server refused to tell the status of Kling task {kling_task_id}",
                kling_task_id,
                body=error,
            )
        raise KlingServerError(
            f"The server's status answer for Kling task {kling_task_id} holds no status",
            kling_task_id=kling_task_id,
            http_status=answer.http_status,
            server_message=excerpt(answer.body),
        )
    return _job(kling_task_id, body, word)


def _accepted_body(answer: Response, kling_task_id: str | None) -> Mapping[str, Any]:
    """Return the JSON object of a 2xx answer, unwrapped; anything else is an error by name."""
    asked = "The submit" if kling_task_id is None else f"Asking for Kling task {kling_task_id}"
    if not 200 <= answer.http_status < 300:
        raise error_of(answer, f"{asked} was refused", kling_task_id)
    body = answer.json
    if not isinstance(body, dict):
        raise KlingServerError(
            f"{asked} was answered with something that is not a JSON object",
            kling_task_id=kling_task_id,
            http_status=answer.http_status,
            server_message=excerpt(answer.body),
            advice="Check that the connection's host is the API itself.",
        )
    data = body.get("data")
    if isinstance(data, dict) and (_status_word(data) or _task_id(data)):
        return data
    if isinstance(data, str) and data and "status" not in body and is_success_code(body.get("code")):
        return {"task_id": data}
    return body


def _status_word(body: Mapping[str, Any]) -> str | None:
    for name in ("status", "task_status"):
        word = body.get(name)
        if word and isinstance(word, str):
            return word
    return None


def _task_id(body: Mapping[str, Any]) -> str | None:
    for name in ("task_id", "id"):
        value = body.get(name)
        if isinstance(value, str) and clean_text(value):
            return clean_text(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def _job(kling_task_id: str, body: Mapping[str, Any], word: str) -> VideoJob:
    word = clean_text(word)[:80]
    known = status_of(word)
    status = known or "running"
    ended = status in ("completed", "failed")
    code, message = _failure_reason(body) if status == "failed" else (None, None)
    return VideoJob(
        kling_task_id=kling_task_id,
        status=status,
        raw_status=word,
        is_known_status=known is not None,
        progress=_progress(body.get("progress")),
        model=as_text(body.get("model")) or as_text(body.get("model_name")),
        # One check in many finds a job that has ended; the others need not look for what nobody reads.
        video_url=_video_url(body) if status == "completed" else None,
        created_at=_instant(body, "created_at", "submit_time") if ended else None,
        completed_at=_instant(body, "completed_at", "finish_time", "finished_at") if ended else None,
        error=message,
        error_code=code,
        content_refused=status == "failed" and is_content_refusal(code, message),
    )


def _video_url(body: Mapping[str, Any]) -> str | None:
    """Look in every place where servers of this family put the URL, the documented one first."""
    metadata, data, result = (as_mapping(body.get(name)) for name in ("metadata", "data", "task_result"))
    places = [
        body.get("video_url"),
        body.get("url"),
        metadata.get("url"),
        metadata.get("video_url"),
        body.get("output_url"),
    ]
    places += [body.get("result_url"), data.get("result_url"), data.get("video_url")]
    for holder in (result, as_mapping(data.get("task_result"))):
        videos = holder.get("videos")
        places += [as_mapping(video).get("url") for video in videos[:1]] if isinstance(videos, list) else []
    return next(
        (clean_text(place) for place in places if isinstance(place, str) and _is_web_address(clean_text(place))),
        None,
    )


def _is_web_address(text: str) -> bool:
    """Return whether a text may be the URL of a file on the web, or a path on the server itself."""
    try:
        return 0 < len(text) <= MAX_URL and urlsplit(text).scheme in ("", "http", "https")
    except ValueError:
        return False


def _failure_reason(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    error = body.get("error")
    told = as_mapping(error)
    candidates = (
        told.get("message"),
        error,
        *(body.get(n) for n in ("fail_reason", "task_status_msg", "message")),
    )
    raw = next((text for text in candidates if isinstance(text, str) and text.strip()), None)
    if raw is None:
        return as_text(told.get("code")), None
    return official_code(raw) or as_text(told.get("code")), innermost_message(raw)


def _progress(value: Any) -> int | None:
    number = parse_number(value.strip().rstrip("%") if isinstance(value, str) else value)
    return None if number is None else int(min(max(number, 0), 100))


def _instant(body: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these times as ISO 8601; servers tell seconds in one answer, milliseconds in another."""
    for name in names:
        value = body.get(name)
        number = parse_number(value)
        try:
            if number is not None and number > 0:
                seconds = number / 1000 if number > 1e11 else number
                moment = datetime.fromtimestamp(seconds, tz=UTC)
            elif isinstance(value, str):
                moment = datetime.fromisoformat(value.strip()).astimezone(UTC)
            else:
                continue
        except (ValueError, OverflowError, OSError):
            continue
        return moment.isoformat(timespec="seconds")
    return None


def read_probe(answer: Response) -> str | None:
    """
    Return None if the API is there to submit to, or else what is odd about its response, as a sentence to log.

    :param answer: The response to a status request for a task that cannot exist (:data:`PROBE_TASK_ID`).
    :raises KlingAuthenticationError: if the key is refused.
    :raises KlingUnavailableError: if the response says for sure that the API is not there: a page, a redirect, a
        5xx without JSON, or a server without such a route.
    """
    error = error_of(answer, "The key of the connection is refused")
    if isinstance(error, KlingAuthenticationError):
        raise error
    if absent := why_absent(answer):
        raise KlingUnavailableError(
            f"The API is not there: {absent}",
            http_status=answer.http_status,
            code=error.code,
            server_message=error.server_message,
            request_id=error.request_id,
            retry_after=answer.retry_after,
        )
    body = as_mapping(answer.json)
    if (
        error_object(answer)
        or says_task_unknown(answer)
        or _status_word(body)
        or _status_word(as_mapping(body.get("data")))
    ):
        return None
    shape = "not JSON" if answer.json is None else "in a form that nobody knows"
    if not answer.body.strip():
        shape = "empty"
    return f"The response to the probe is odd (HTTP {answer.http_status}, {shape}); this does not stop the submit."


def describe_probe(answer: Response) -> tuple[bool, str]:
    """Return what the answer about a task that cannot exist tells of a connection: whether it works, and why."""
    try:
        odd = read_probe(answer)
        absent = None
    except KlingAuthenticationError as error:
        return False, f"The API refuses the key. {error}"
    except KlingUnavailableError as error:
        odd, absent = None, error
    try:
        read_status(answer, PROBE_TASK_ID)
    except KlingError as error:
        if odd or absent:
            where = (
                f"The host answers, but not as this API (HTTP {answer.http_status}): check host, port and path."
            )
            return False, f"{where} {absent or error}"
        if not isinstance(error, KlingNotFoundError):
            return False, f"The API answers, but does not serve this connection. {error}"
    return True, "Connected: the API answers, and accepts the key."
