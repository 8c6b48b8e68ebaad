# SPDX-License-Identifier: Apache-2.0
"""What the API answers: the state of a job, or an error by name, whatever spelling the server uses."""

from __future__ import annotations

import json
import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

from airflow_provider_kling.exceptions import (
    NOTHING_BOUGHT,
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
    KlingValidationError,
    Problem,
)
from airflow_provider_kling.signed_urls import mask_signatures
from airflow_provider_kling.wire.refusals import BEFORE_SENDING, NO_ROUTE, ErrorNames
from airflow_provider_kling.wire.request import FOUND_NOTHING, is_nothing, number_in, value_in

WAITING = frozenset({"queued", "pending", "submitted", "not_start", "preparing", "created", "starting", "unknown"})
RUNNING = frozenset({"in_progress", "processing", "running", "generating"})
COMPLETED = frozenset({"completed", "complete", "success", "succeeded", "succeed", "finished"})
FAILED = frozenset({"failed", "failure", "fail", "error", "cancelled", "canceled", "expired"})
#: No answer of this API comes near this size; a larger one is a fault or an attack.
MAX_ANSWER_BYTES = 1 << 20
#: Characters of an error's message that are looked at; what a person has to know comes first.
MAX_MESSAGE = 8192
#: Objects and texts of a response that are looked at.
MAX_PARTS = 200
#: Characters of a video's URL, signature included.
MAX_URL = 8192
#: A server that asks for more patience than this is taken at this: an hour.
MAX_RETRY_AFTER = 3600.0
#: A task that no server has: asking for it costs nothing and shows whether the key is good.
PROBE_TASK_ID = "airflow-connection-test"
_STATUS_OF_WORD = {
    **dict.fromkeys(WAITING, "queued"),
    **dict.fromkeys(RUNNING, "running"),
    **dict.fromkeys(COMPLETED, "completed"),
    **dict.fromkeys(FAILED, "failed"),
}


def status_path(task_id: str) -> str:
    """Return the path that tells the status of a task; the id is quoted, since ids are opaque."""
    return f"/v1/videos/{quote(task_id, safe='')}"


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoJob:
    """
    What a server told about one job, in one spelling.

    :param task_id: The id to ask with: the one the submit gave, whatever a status answer says of it.
    :param status: ``queued``, ``running``, ``completed`` or ``failed``.
    :param status_word: The server's own word. One that nobody knows counts as ``running``.
    :param progress: 0 to 100, or None. Never decides the outcome: failed jobs show 100 too.
    :param video_url: Where the video lies; such links expire (24 hours to 30 days, by vendor).
    :param model: The model, where told.
    :param created_at: ISO 8601 in UTC, of a job that has ended, where told.
    :param completed_at: ISO 8601 in UTC, where told.
    :param error: The reason of a failure, where told.
    :param error_code: The server's code for it, where told.
    """

    task_id: str
    status: str
    status_word: str = ""
    progress: int | None = None
    video_url: str | None = None
    model: str | None = None
    created_at: str | None = None
    completed_at: str | None = None
    error: str | None = None
    error_code: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ("completed", "failed")

    @property
    def is_known_word(self) -> bool:
        return self.status_word.lower() in _STATUS_OF_WORD

    def as_dict(self) -> dict[str, Any]:
        """Return the job as a plain dict for XCom and trigger events."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def failure(self) -> KlingError:
        """Return the error that a failed job stands for; refused content would be refused again."""
        refused = _is_content_refusal(self.error_code, self.error)
        kind = KlingContentRefusedError if refused else KlingGenerationFailedError
        return kind(
            f"Kling task {self.task_id} ended as {self.status_word or self.status}"
            + ("" if self.error else ", and the server gives no reason"),
            task_id=self.task_id,
            code=self.error_code,
            server_message=self.error,
        )


@dataclass(slots=True)
class Answer:
    """An HTTP answer as plain values, whichever library brought it."""

    http_status: int
    body: bytes
    retry_after: float | None = None
    location: str | None = None
    #: The decoded body, or None where it is no JSON.
    json: Any = field(init=False)

    def __post_init__(self) -> None:
        try:
            self.json = json.loads(self.body)
        except (ValueError, RecursionError):
            self.json = None

    @classmethod
    def received(
        cls, http_status: int, body: bytes, headers: Mapping[str, str], *, masked: Callable[[str], str]
    ) -> Answer:
        """
        Return the answer that just arrived.

        :param masked: Takes the key out of a text: some servers repeat it, and whatever an answer says may be
            logged and stored.
        """
        location = headers.get("Location")
        return cls(
            http_status=http_status,
            # Any bytes at all are Latin-1.
            body=masked(body.decode("latin-1")).encode("latin-1"),
            retry_after=retry_after_seconds(headers.get("Retry-After"), now=time.time()),
            location=None if location is None else masked(location),
        )


def read_submit(answer: Answer, refusal_codes: Collection[str] = ()) -> VideoJob:
    """
    Return the job that a submit started.

    :param refusal_codes: Codes by which this vendor refuses before anything is bought, besides those known here.
    :raises KlingUncertainSubmissionError: if a job may exist: the response does not say for sure that it refuses,
        or it names a task beside an error; that task's id is then the error's ``task_id``.
    :raises KlingError: any other, by name: the submit was refused, and no job exists.
    """
    if answer.http_status < 300 and not _says_error(answer, refusal_codes):
        return _accepted_job(answer)
    if is_refusal(answer, refusal_codes):
        raise error_of(answer, "The submit was refused")
    raise _uncertain(answer, "Whether the submit was accepted is open", task_id=_named_task(answer))


def is_refusal(answer: Answer, refusal_codes: Collection[str] = ()) -> bool:
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
    names = _error_names(answer)
    if names.among(refusal_codes):
        return True
    if status in _AMBIGUOUS_STATUSES or names.lost_upstream():
        # A code of a lost upstream outweighs what the upstream says inside the message.
        return False
    if names.among(BEFORE_SENDING) or not _OFFICIAL_REFUSALS.isdisjoint((names.code, *names.nested)):
        return True
    if status < 300:
        return _kind_of_code(names.code) not in (None, KlingServerError)
    return names.speak_of_refusal() if status >= 500 else status < 400 or not names.speak_of_lost_upstream()


def _accepted_job(answer: Answer) -> VideoJob:
    try:
        body = _accepted_body(answer, task_id=None)
    except KlingServerError:
        body = {}
    task_id = _task_id(body)
    if task_id is None:
        # An id where none is expected is one for a person to judge.
        what = "The submit was accepted, but the answer holds no task id"
        if answer.http_status < 200:
            what = "An interim response came in place of the final one"
        raise _uncertain(answer, what, task_id=_named_task(answer))
    return _job(task_id, body, _status_word(body) or "queued")


#: Codes of the flat envelope that never stand beside an accepted job.
_NO_SUCCESS = ("fail", "failed", "failure", "error")


def _says_error(answer: Answer, refusal_codes: Collection[str]) -> bool:
    """
    Return whether a 2xx holds an error that outweighs an id beside it.

    The flat envelope does only with a known code: some servers have a success code of their own.
    """
    error, body = _error_object(answer), _mapping(answer.json)
    if body.get("success") is False or body.get("error") is True or isinstance(body.get("error"), list):
        return True
    if _has_error(body.get("data")) or str(body.get("code")).lower() in _NO_SUCCESS:
        return True
    if error is None or error is not answer.json:
        return error is not None
    names = _error_names(answer)
    known = any(_kind_of_code(code) for code in (names.code, *names.nested))
    return known or names.lost_upstream() or names.among(BEFORE_SENDING) or names.among(refusal_codes)


def _error_object(answer: Answer) -> Mapping[str, Any] | None:
    """Return the error object, unless all its fields are empty: some servers send one with each success."""
    error = _error_in(answer.json)
    return error if error and any(error.values()) else None


def _has_error(data: Any) -> bool:
    return any((_error_in(data) or {}).values())


def _named_task(answer: Answer) -> str | None:
    """
    Return the id of a task that an error response to a submit names.

    Beside an error only a ``task_id`` is one: an ``id`` may be the request's, and text in ``data`` anything.
    """
    for part in _parts(answer.json):
        if isinstance(part, dict) and part.get("task_id") and (found := _task_id({"task_id": part["task_id"]})):
            return found
    body = _mapping(answer.json)
    data = body.get("data")
    if (
        _error_object(answer)
        or _has_error(data)
        or body.get("success") is False
        or any(body.get(n) for n in ("message", "msg", "detail"))
    ):
        return None
    return _task_id(body) or _task_id(_mapping(data)) or (_clean(data) if isinstance(data, str) else None) or None


def _error_names(answer: Answer) -> ErrorNames:
    """Return what the error of a response goes by, in whatever envelope it came."""
    body = answer.json
    deeper = "\n".join(part[:MAX_MESSAGE] for part in _parts(body) if isinstance(part, str))
    if not isinstance(body, dict):
        text = "" if _is_html(answer) else answer.body[:MAX_MESSAGE].decode("utf-8", errors="replace")
        return ErrorNames(text=text, deeper=deeper)
    told = _error_object(answer) or body
    message = told.get("message")
    words = [value for holder in (told, body) for value in holder.values() if isinstance(value, str)]
    nested: list[str] = []
    if isinstance(message, str):
        # Unpacked once more: nested JSON may hide Chinese behind escapes.
        words.append(_words(message))
        nested += _nested_codes(message)
        if (named := official_code(message)) not in _OFFICIAL_REFUSALS and named:
            # In words a code proves no refusal, but it may name a lost upstream.
            nested.append(named)
    code = _text(told.get("code")) or ""
    return ErrorNames(
        code="" if code == "0" else code,
        type=_text(told.get("type")) or "",
        nested=tuple(nested),
        text="\n".join(word[:MAX_MESSAGE] for word in words),
        deeper=deeper,
    )


def _parts(body: Any) -> Iterator[Any]:
    """Yield the objects and texts of a response, however deep, but those that repeat the request."""
    left = deque([body])
    for _ in range(MAX_PARTS):  # nor may a hostile response buy itself much work
        if not left:
            return
        part = left.popleft()
        if isinstance(part, dict):
            left.extend(value for name, value in part.items() if name not in _REPEATED)
        elif isinstance(part, list):
            left.extend(part)
        elif isinstance(part, str):
            left.extend(_nested_json(part))
        yield part


def _nested_codes(message: str, depth: int = 3) -> Iterator[str]:
    """Yield the codes of the JSON objects inside a message, and inside theirs."""
    for nested in _nested_json(message):
        error = _mapping(nested.get("error"))
        if code := _text(nested.get("code")) or _text(error.get("code")):
            yield code
        inner = nested.get("message") or error.get("message")
        if depth and isinstance(inner, str):
            yield from _nested_codes(inner, depth - 1)


def _uncertain(answer: Answer, what: str, task_id: str | None = None) -> KlingUncertainSubmissionError:
    told = error_of(answer, what)
    advice = KlingUncertainSubmissionError.default_advice
    if task_id:
        advice = f"The response names Kling task {task_id}: see what became of it. {advice}"
    elif _error_object(answer) and (entry := _error_names(answer).entry()):
        listed = json.dumps([entry], ensure_ascii=False)
        advice += (
            f' If the vendor says that it buys nothing, add to the connection\'s extra: "refusal_codes": {listed}'
        )
    return KlingUncertainSubmissionError(
        what,
        task_id=task_id,
        http_status=told.http_status,
        code=told.code,
        server_message=told.server_message,
        advice=advice,
    )


def read_status(answer: Answer, task_id: str) -> VideoJob:
    """
    Return the state of a job, under the id it was asked by.

    :raises KlingError: what an error answer means, by name.
    """
    body = _accepted_body(answer, task_id=task_id)
    word = _status_word(body)
    if word is None:
        if (error := _error_in(body)) is not None:
            raise error_of(
                answer, f"The server refused to tell the status of Kling task {task_id}", task_id, body=error
            )
        raise KlingServerError(
            f"The server's status answer for Kling task {task_id} holds no status",
            task_id=task_id,
            http_status=answer.http_status,
            server_message=_excerpt(answer.body),
        )
    return _job(task_id, body, word)


def task_reference(value: Any) -> tuple[str, str | None]:
    """
    Return the task id, and the video URL where it is known, from what a task hands to the next one.

    :param value: A task id, a finished video, or the text that a template renders of one.
    :raises KlingValidationError: if it is none of these.
    """
    found = value.strip() if isinstance(value, str) else value
    if isinstance(found, str) and found.startswith("{"):
        found = _mapping(value_in(found))
    task_id, url = (found.get("task_id"), found.get("video_url")) if isinstance(found, Mapping) else (found, None)
    if isinstance(task_id, int) and not isinstance(task_id, bool):
        task_id = str(task_id)  # a template that renders to Python values makes a number of an id of digits
    if not isinstance(task_id, str) or not task_id.strip() or is_nothing(task_id):
        hint = f"; {FOUND_NOTHING}" if is_nothing(value) or isinstance(task_id, str) else ""
        problem = Problem("the Kling task", value, f"must be a task id or a finished video{hint}")
        raise KlingValidationError(str(problem), advice="Nothing was requested; correct the argument.")
    return task_id.strip(), url if isinstance(url, str) and url and not is_nothing(url) else None


def _accepted_body(answer: Answer, task_id: str | None) -> Mapping[str, Any]:
    """Return the JSON object of a 2xx answer, unwrapped; anything else is an error by name."""
    asked = "The submit" if task_id is None else f"Asking for Kling task {task_id}"
    if not 200 <= answer.http_status < 300:
        raise error_of(answer, f"{asked} was refused", task_id)
    body = answer.json
    if not isinstance(body, dict):
        raise KlingServerError(
            f"{asked} was answered with something that is not a JSON object",
            task_id=task_id,
            http_status=answer.http_status,
            server_message=_excerpt(answer.body),
            advice="Check that the connection's host is the API itself.",
        )
    data = body.get("data")
    if isinstance(data, dict) and (_status_word(data) or _task_id(data)):
        return data
    if isinstance(data, str) and data and "status" not in body and _succeeded(body.get("code")):
        return {"task_id": data}
    return body


def _succeeded(code: Any) -> bool:
    return code in (None, 0, 200, "0", "200", "") or (isinstance(code, str) and code.lower() in ("success", "ok"))


def _status_word(body: Mapping[str, Any]) -> str | None:
    for name in ("status", "task_status"):
        word = body.get(name)
        if word and isinstance(word, str):
            return word
    return None


def _task_id(body: Mapping[str, Any]) -> str | None:
    for name in ("task_id", "id"):
        value = body.get(name)
        if isinstance(value, str) and _clean(value):
            return _clean(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def _job(task_id: str, body: Mapping[str, Any], word: str) -> VideoJob:
    word = _clean(word)[:80]
    status = _STATUS_OF_WORD.get(word.lower(), "running")
    ended = status in ("completed", "failed")
    code, message = _failure_reason(body) if status == "failed" else (None, None)
    return VideoJob(
        task_id=task_id,
        status=status,
        status_word=word,
        progress=_progress(body.get("progress")),
        model=_text(body.get("model")) or _text(body.get("model_name")),
        # One check in many finds a job that has ended; the others need not look for what nobody reads.
        video_url=_video_url(body) if status == "completed" else None,
        created_at=_instant(body, "created_at", "submit_time") if ended else None,
        completed_at=_instant(body, "completed_at", "finish_time", "finished_at") if ended else None,
        error=message,
        error_code=code,
    )


def _video_url(body: Mapping[str, Any]) -> str | None:
    """Look in every place where servers of this family put the URL, the documented one first."""
    metadata, data, result = (_mapping(body.get(name)) for name in ("metadata", "data", "task_result"))
    places = [
        body.get("video_url"),
        body.get("url"),
        metadata.get("url"),
        metadata.get("video_url"),
        body.get("output_url"),
    ]
    places += [body.get("result_url"), data.get("result_url"), data.get("video_url")]
    for holder in (result, _mapping(data.get("task_result"))):
        videos = holder.get("videos")
        places += [_mapping(video).get("url") for video in videos[:1]] if isinstance(videos, list) else []
    return next(
        (_clean(place) for place in places if isinstance(place, str) and _is_web_address(_clean(place))), None
    )


def _is_web_address(text: str) -> bool:
    """Return whether a text may be the URL of a file on the web, or a path on the server itself."""
    try:
        return 0 < len(text) <= MAX_URL and urlsplit(text).scheme in ("", "http", "https")
    except ValueError:
        return False


def _failure_reason(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    error = body.get("error")
    told = _mapping(error)
    candidates = (
        told.get("message"),
        error,
        *(body.get(n) for n in ("fail_reason", "task_status_msg", "message")),
    )
    raw = next((text for text in candidates if isinstance(text, str) and text.strip()), None)
    if raw is None:
        return _text(told.get("code")), None
    return official_code(raw) or _text(told.get("code")), _words(raw)


def _progress(value: Any) -> int | None:
    number = number_in(value.strip().rstrip("%") if isinstance(value, str) else value)
    return None if number is None else int(min(max(number, 0), 100))


def _instant(body: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of these times as ISO 8601; servers tell seconds in one answer, milliseconds in another."""
    for name in names:
        value = body.get(name)
        number = number_in(value)
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


# ------------------------------------------------------------------------------ what an error answer means

#: Official codes (https://app.klingai.com), which surface inside messages of gateways in front of it.
_KIND_OF_OFFICIAL_CODE: dict[str, type[KlingError]] = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004"), KlingAuthenticationError),
    **dict.fromkeys(("1100", "1101", "1102"), KlingBalanceError),
    **dict.fromkeys(("1103", "1304"), KlingPermissionError),
    **dict.fromkeys(("1200", "1201", "1202"), KlingValidationError),
    "1203": KlingNotFoundError,
    **dict.fromkeys(("1300", "1301"), KlingContentRefusedError),
    **dict.fromkeys(("1302", "1303"), KlingRateLimitError),
    **dict.fromkeys(("5000", "5001", "5002"), KlingServerError),
}
_KIND_OF_CODE: dict[str, type[KlingError]] = {
    **_KIND_OF_OFFICIAL_CODE,
    "insufficient_user_quota": KlingBalanceError,
    "insufficient_quota": KlingBalanceError,
    "access_denied": KlingPermissionError,
    "task_not_exist": KlingNotFoundError,
    "invalid_request": KlingValidationError,
    "model_not_found": KlingServerError,
    "rate_limit_exceeded": KlingRateLimitError,
    "sensitive_words_detected": KlingContentRefusedError,
}
_KIND_OF_HTTP_STATUS: dict[int, type[KlingError]] = {
    401: KlingAuthenticationError,
    402: KlingBalanceError,
    403: KlingPermissionError,
    404: KlingNotFoundError,
    408: KlingServerError,
    410: KlingNotFoundError,
    429: KlingRateLimitError,
}
#: Codes by which the official platform refuses; under 5000 to 5002 a task may exist.
_OFFICIAL_REFUSALS = frozenset(
    code for code, kind in _KIND_OF_OFFICIAL_CODE.items() if kind is not KlingServerError
)
#: Where servers repeat the request that they complain of (FastAPI: input): its words are no error's.
_REPEATED = frozenset({"input", "prompt", "negative_prompt", "multi_prompt"})
#: Ambiguous statuses below 500, where the job may exist: a redirect to what the POST has made (302, 303); a
#: timeout or a client that went away after the request was forwarded (408; 444 and 499 of nginx; 460 of Amazon's
#: load balancer); a conflict (409) with the same request, which a proxy in between may have sent twice; a model
#: that failed behind the server (424, as Amazon Bedrock and Hugging Face answer then).
_AMBIGUOUS_STATUSES = frozenset({302, 303, 408, 409, 424, 444, 460, 499})
_BALANCE_WORDS = ("insufficient balance", "balance not enough", "insufficient quota", "余额不足", "欠费")
_CONTENT_WORDS = (
    "content_policy",
    "content policy",
    "moderation",
    "risk control",
    "sensitive",
    "敏感",
    "违规",
    "风控",
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NAMED_CODE = re.compile(
    r"(?:code|错误码|error)[\"'\s:=：]{0,4}(1[0-3]0[0-4]|500[0-2])(?!\d)|^\W{0,2}(1[0-3]0[0-4]|500[0-2])(?!\d)|[\[(（](1[0-3]0[0-4]|500[0-2])[\])）]",
    re.IGNORECASE,
)


def error_of(
    answer: Answer, what: str, task_id: str | None = None, body: Mapping[str, Any] | None = None
) -> KlingError:
    """
    Return what an error answer means.

    An official code inside the message outweighs the textual code, and both outweigh the HTTP status:
    gateways pass on what the platform behind them said under a status of their own.

    :param answer: The HTTP answer.
    :param what: What failed, in our words.
    :param task_id: The Kling task asked for, if one was.
    :param body: The error object, where the caller has found it already.
    """
    told = body or _error_in(answer.json) or _mapping(answer.json)
    raw = told.get("message")
    message = _words(raw) if isinstance(raw, str) else ""
    code = official_code(raw if isinstance(raw, str) else "") or _text(told.get("code"))
    # Codes are often empty, and then the message may be nothing but the code.
    kind = _kind_of_code(code) or _kind_of_code(message)
    advice = None
    if answer.http_status < 500 and _is_content_refusal(code, message):
        kind = KlingContentRefusedError
    if kind is None and answer.http_status in (403, 429) and any(w in message.lower() for w in _BALANCE_WORDS):
        # Under 429 too, where waiting would not cure it.
        kind = KlingBalanceError
    if kind is None and 300 <= answer.http_status < 400:
        kind = KlingServerError if task_id else KlingNotFoundError
        target = _clean(answer.location or "nowhere")
        advice = f"It redirects to {target}; put the API's own address into the connection."
    if kind is None and task_id and answer.http_status in (404, 410) and _is_page(answer):
        # A page of somebody in front, during a deployment say, does not know which tasks there are.
        kind = KlingServerError
    if kind is None:
        default = (
            KlingServerError if answer.http_status >= 500 or answer.http_status < 300 else KlingValidationError
        )
        kind = _KIND_OF_HTTP_STATUS.get(answer.http_status, default)
    if kind is KlingValidationError and task_id is None:
        advice = NOTHING_BOUGHT
    if kind is KlingNotFoundError and task_id is None and advice is None:
        advice = "Check the connection's host and path, and what the request refers to."
    return kind(
        what,
        task_id=task_id,
        http_status=answer.http_status,
        code=code,
        server_message=message or _excerpt(answer.body),
        retry_after=answer.retry_after,
        advice=advice,
    )


def retry_after_seconds(header: str | None, *, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, in either of its forms."""
    if not header:
        return None
    seconds = number_in(header)
    if seconds is None:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def read_presence(answer: Answer) -> str | None:
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
    if absent := _why_absent(answer):
        raise KlingUnavailableError(
            f"The API is not there: {absent}",
            http_status=answer.http_status,
            code=error.code,
            server_message=error.server_message,
            retry_after=answer.retry_after,
        )
    body = _mapping(answer.json)
    if (
        _error_object(answer)
        or _task_unknown(answer)
        or _status_word(body)
        or _status_word(_mapping(body.get("data")))
    ):
        return None
    shape = "not JSON" if answer.json is None else "in a form that nobody knows"
    if not answer.body.strip():
        shape = "empty"
    return f"The response to the probe is odd (HTTP {answer.http_status}, {shape}); this does not stop the submit."


def _why_absent(answer: Answer) -> str | None:
    """Return how a response shows for sure that something else answers in the API's place, or None."""
    status = answer.http_status
    if 300 <= status < 400:
        return f"the request is redirected to {_clean(answer.location or 'nowhere')}"
    if _is_html(answer):
        return "a page answers in its place"
    if status >= 500 and answer.json is None:
        return "a server error without JSON answers in its place"
    if status == 404 and NO_ROUTE.search(_error_names(answer).text):
        return "the server has no such route"
    return None


def _is_html(answer: Answer) -> bool:
    return answer.json is None and answer.body[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def read_probe(answer: Answer) -> tuple[bool, str]:
    """Return what the answer about a task that cannot exist tells of a connection: whether it works, and why."""
    try:
        odd = read_presence(answer)
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


def _is_page(answer: Answer) -> bool:
    return bool(answer.body.strip()) and answer.json is None


def _task_unknown(answer: Answer) -> bool:
    return b"task_not_exist" in answer.body


def official_code(message: str) -> str | None:
    """Return the official platform's code that a message carries, in nested JSON or in words."""
    for code in _nested_codes(message):
        if code in _KIND_OF_OFFICIAL_CODE:
            return code
    found = _NAMED_CODE.search(message[:MAX_MESSAGE])
    return next(filter(None, found.groups()), None) if found else None


def _error_in(body: Any) -> Mapping[str, Any] | None:
    """Return the error object of either envelope: ``{"error": {...}}`` or flat ``{"code", "message"}``."""
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict) and error:
        return error
    if isinstance(error, str) and error.strip():
        return {"message": error, "code": body.get("code")}
    if isinstance(body.get("message"), str) and "code" in body and not _succeeded(body["code"]):
        return body
    return None


def _kind_of_code(code: str | None) -> type[KlingError] | None:
    return _KIND_OF_CODE.get(code.lower()) if code else None


def _is_content_refusal(code: str | None, message: str | None) -> bool:
    if _kind_of_code(code) not in (None, KlingValidationError, KlingGenerationFailedError):
        return _kind_of_code(code) is KlingContentRefusedError
    text = f"{code or ''} {message or ''}".lower()
    return any(word in text for word in _CONTENT_WORDS)


def _nested_json(message: str) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects that a message string carries; gateways put the upstream's raw body there."""
    message = message[:MAX_MESSAGE]
    end = 0
    for _ in range(20):  # a hostile message must not buy itself quadratic work
        start = message.find("{", end)
        if start == -1:
            return
        try:
            value, end = json.JSONDecoder().raw_decode(message, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value


def _words(message: str) -> str:
    """Return the innermost readable message: the upstream's own words rather than the JSON around them."""
    for nested in _nested_json(message):
        inner = nested.get("message") or _mapping(nested.get("error")).get("message")
        if isinstance(inner, str) and inner.strip():
            return _words(inner)
    return _shorten(message)


def _excerpt(body: bytes) -> str | None:
    """Return the start of a body that is no JSON error, readable: an HTML page's words without its tags."""
    text = body[:4000].decode("utf-8", errors="replace")
    text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    return _shorten(text) or None


def _shorten(text: str, most: int = 500) -> str:
    text = mask_signatures(" ".join(_clean(text[:MAX_MESSAGE]).split()))
    return text if len(text) <= most else text[: most - 1] + "…"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return _clean(str(value))[:200] or None


def _clean(text: str) -> str:
    """Return a text without what no log and no database takes: halves of a letter, and control characters."""
    if text.isascii() and text.isprintable():
        return text.strip()
    return _CONTROLS.sub("", text).encode("utf-8", errors="replace").decode().strip()
