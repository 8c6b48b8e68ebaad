# SPDX-License-Identifier: Apache-2.0
"""What an error response of a gateway means."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.codes import (
    BALANCE_WORDS,
    KIND_OF_HTTP_STATUS,
    OFFICIAL_REFUSALS,
    is_content_refusal,
    kind_of_code,
    nested_codes,
    official_code,
)
from airflow_provider_kling.api.gateway.refusals import NO_ROUTE, ErrorNames
from airflow_provider_kling.api.response import Response, is_html, is_page
from airflow_provider_kling.exceptions import (
    NOT_BILLED,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingNotFoundError,
    KlingServerError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.utils.text import (
    MAX_MESSAGE,
    as_mapping,
    as_text,
    clean_text,
    excerpt,
    innermost_message,
    nested_objects,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Objects and texts of a response that are looked at.
MAX_PARTS = 200


#: Codes of the flat envelope that never stand beside an accepted job.
NO_SUCCESS = ("fail", "failed", "failure", "error")


def error_object(response: Response) -> Mapping[str, Any] | None:
    """Return the error object, unless all its fields are empty: some servers send one with each success."""
    error = find_error(response.json)
    return error if error and any(error.values()) else None


def has_error(data: Any) -> bool:
    return any((find_error(data) or {}).values())


def error_names(response: Response) -> ErrorNames:
    """Return what the error of a response goes by, in whatever envelope it came."""
    body = response.json
    deeper = "\n".join(part[:MAX_MESSAGE] for part in parts_of(body) if isinstance(part, str))
    if not isinstance(body, dict):
        text = "" if is_html(response) else response.body[:MAX_MESSAGE].decode("utf-8", errors="replace")
        return ErrorNames(text=text, deeper=deeper)
    told = error_object(response) or body
    message = told.get("message")
    words = [value for holder in (told, body) for value in holder.values() if isinstance(value, str)]
    nested: list[str] = []
    if isinstance(message, str):
        # Unpacked once more: nested JSON may hide Chinese behind escapes.
        words.append(innermost_message(message))
        nested += nested_codes(message)
        if (named := official_code(message)) not in OFFICIAL_REFUSALS and named:
            # In words a code proves no refusal, but it may name a lost upstream.
            nested.append(named)
    code = as_text(told.get("code")) or ""
    return ErrorNames(
        code="" if code == "0" else code,
        type=as_text(told.get("type")) or "",
        nested=tuple(nested),
        text="\n".join(word[:MAX_MESSAGE] for word in words),
        deeper=deeper,
    )


def parts_of(body: Any) -> Iterator[Any]:
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
            left.extend(nested_objects(part))
        yield part


def uncertain_error(
    response: Response, what: str, kling_task_id: str | None = None
) -> KlingUncertainSubmissionError:
    told = error_of(response, what)
    advice = KlingUncertainSubmissionError.default_advice
    if kling_task_id:
        advice = f"The response names Kling task {kling_task_id}: see what became of it. {advice}"
    elif error_object(response) and (entry := error_names(response).entry()):
        listed = json.dumps([entry], ensure_ascii=False)
        advice += (
            f' If the vendor says that it buys nothing, add to the connection\'s extra: "refusal_codes": {listed}'
        )
    return KlingUncertainSubmissionError(
        what,
        kling_task_id=kling_task_id,
        http_status=told.http_status,
        code=told.code,
        server_message=told.server_message,
        request_id=told.request_id,
        advice=advice,
    )


def is_success_code(code: Any) -> bool:
    return code in (None, 0, 200, "0", "200", "") or (isinstance(code, str) and code.lower() in ("success", "ok"))


#: Where servers repeat the request that they complain of (FastAPI: input): its words are no error's.
_REPEATED = frozenset({"input", "prompt", "negative_prompt", "multi_prompt"})


#: Ambiguous statuses below 500, where the job may exist: a redirect to what the POST has made (302, 303); a
#: timeout or a client that went away after the request was forwarded (408; 444 and 499 of nginx; 460 of Amazon's
#: load balancer); a conflict (409) with the same request, which a proxy in between may have sent twice; a model
#: that failed behind the server (424, as Amazon Bedrock and Hugging Face response then).
AMBIGUOUS_STATUSES = frozenset({302, 303, 408, 409, 424, 444, 460, 499})


def error_of(
    response: Response, what: str, kling_task_id: str | None = None, body: Mapping[str, Any] | None = None
) -> KlingError:
    """
    Return what an error response means.

    An official code inside the message outweighs the textual code, and both outweigh the HTTP status:
    gateways pass on what the platform behind them said under a status of their own.

    :param response: The HTTP response.
    :param what: What failed, in our words.
    :param kling_task_id: The Kling task asked for, if one was.
    :param body: The error object, where the caller has found it already.
    """
    told = body or find_error(response.json) or as_mapping(response.json)
    raw = told.get("message")
    message = innermost_message(raw) if isinstance(raw, str) else ""
    code = official_code(raw if isinstance(raw, str) else "") or as_text(told.get("code"))
    # Codes are often empty, and then the message may be nothing but the code.
    kind = kind_of_code(code) or kind_of_code(message)
    advice = None
    if response.http_status < 500 and is_content_refusal(code, message):
        kind = KlingContentRefusedError
    if kind is None and response.http_status in (403, 429) and any(w in message.lower() for w in BALANCE_WORDS):
        # Under 429 too, where waiting would not cure it.
        kind = KlingBalanceError
    if kind is None and 300 <= response.http_status < 400:
        kind = KlingServerError if kling_task_id else KlingNotFoundError
        target = clean_text(response.location or "nowhere")
        advice = f"It redirects to {target}; put the API's own address into the connection."
    if kind is None and kling_task_id and response.http_status in (404, 410) and is_page(response):
        # A page of somebody in front, during a deployment say, does not know which tasks there are.
        kind = KlingServerError
    if kind is None:
        default = (
            KlingServerError if response.http_status >= 500 or response.http_status < 300 else KlingValidationError
        )
        kind = KIND_OF_HTTP_STATUS.get(response.http_status, default)
    if kind is KlingValidationError and kling_task_id is None:
        advice = NOT_BILLED
    if kind is KlingNotFoundError and kling_task_id is None and advice is None:
        advice = "Check the connection's host and path, and what the request refers to."
    return kind(
        what,
        kling_task_id=kling_task_id,
        http_status=response.http_status,
        code=code,
        server_message=message or excerpt(response.body),
        request_id=response.request_id,
        retry_after=response.retry_after,
        advice=advice,
    )


def why_absent(response: Response) -> str | None:
    """Return how a response shows for sure that something else answers in the API's place, or None."""
    status = response.http_status
    if 300 <= status < 400:
        return f"the request is redirected to {clean_text(response.location or 'nowhere')}"
    if is_html(response):
        return "a page answers in its place"
    if status >= 500 and response.json is None:
        return "a server error without JSON answers in its place"
    if status == 404 and NO_ROUTE.search(error_names(response).text):
        return "the server has no such route"
    return None


def says_task_unknown(response: Response) -> bool:
    return b"task_not_exist" in response.body


def find_error(body: Any) -> Mapping[str, Any] | None:
    """Return the error object of either envelope: ``{"error": {...}}`` or flat ``{"code", "message"}``."""
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict) and error:
        return error
    if isinstance(error, str) and error.strip():
        return {"message": error, "code": body.get("code")}
    if isinstance(body.get("message"), str) and "code" in body and not is_success_code(body["code"]):
        return body
    return None
