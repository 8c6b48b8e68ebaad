# SPDX-License-Identifier: Apache-2.0
"""Interpret the error responses of gateways."""

from __future__ import annotations

import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.codes import (
    KIND_OF_HTTP_STATUS,
    OFFICIAL_REFUSALS,
    is_content_refusal,
    kind_of_code,
    nested_codes,
    official_code,
)
from airflow_provider_kling.api.empty_account import kind_of_words
from airflow_provider_kling.api.reading.missing import NO_ROUTE, NO_TASK
from airflow_provider_kling.api.reading.refusals import MAX_WORDS, ErrorNames
from airflow_provider_kling.api.response import Response, is_html, is_page
from airflow_provider_kling.exceptions import (
    NOT_BILLED,
    THE_CONNECTION,
    KlingAuthenticationError,
    KlingContentRefusedError,
    KlingError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingUnavailableError,
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
    from collections.abc import Iterable, Iterator, Mapping

#: Maximum number of objects and texts of a response that are read.
MAX_PARTS = 200


#: Codes of the flat envelope that never occur with an accepted job.
NO_SUCCESS = ("fail", "failed", "failure", "error")


def error_object(response: Response) -> Mapping[str, Any] | None:
    """Return the error object, unless all its fields are empty: some servers send one with each success."""
    error = find_error(response.json)
    return error if error and any(error.values()) else None


#: Texts by which an error says that there is none.
_NO_ERROR = frozenset({"none", "null", "nil", "undefined", "false", "no error", "n/a", "success", "succeed", "ok"})
#: Fields of an error object that report no error.
_ASIDE = re.compile(r"warn|notice|request_?id|trace_?id|log_?id", re.IGNORECASE)


def is_no_error(error: Any) -> bool:
    """Return whether what stands in an error's place says that there is none: empty, a success, or a warning."""
    if isinstance(error, dict):
        return all(_says_nothing(value) or bool(_ASIDE.match(name)) for name, value in error.items())
    return _says_nothing(error)


def _says_nothing(value: Any) -> bool:
    if isinstance(value, str):
        return is_success_code(value.strip()) or value.strip().lower() in _NO_ERROR
    return not value or is_success_code(value)


def has_error(data: Any) -> bool:
    return any((find_error(data) or {}).values())


def error_names(response: Response) -> ErrorNames:
    """Return the code, the type and the words of a response's error, in any envelope."""
    body = response.json
    if not isinstance(body, dict):
        words = [] if is_html(response) or body is not None else [response.body.decode("utf-8", errors="replace")]
        deeper, is_cut = _other_words(body, words)
        return ErrorNames(text=_lines(words), deeper=deeper, is_cut=is_cut)
    error = error_object(response) or body
    message = message_in(error)
    words = [value for holder in (error, body) for value in holder.values() if isinstance(value, str)]
    deeper, is_cut = _other_words(body, words)
    nested: list[str] = []
    if message:
        # Decoded once more: nested JSON may have Chinese text in escapes.
        words.append(innermost_message(message))
        nested += nested_codes(message)
        if (named := official_code(message)) not in OFFICIAL_REFUSALS and named:
            # A code inside words proves no refusal, but it may indicate a lost upstream response.
            nested.append(named)
    code = code_in(error) or code_in(body) or ""
    return ErrorNames(
        code="" if code == "0" else code,
        type=as_text(error.get("type")) or "",
        nested=tuple(nested),
        text=_lines(words),
        deeper=deeper,
        is_cut=is_cut,
    )


def _lines(words: Iterable[str]) -> str:
    return "\n".join(word[:MAX_MESSAGE] for word in words)[: 2 * MAX_MESSAGE]


def _other_words(body: Any, known: Iterable[str]) -> tuple[str, bool]:
    """Return the texts of a body that are not known yet, and whether it is too long to be read completely."""
    known = set(known)
    parts = list(parts_of(body))
    texts = {part: None for part in parts if isinstance(part, str) and part not in known}
    is_cut = len(parts) == MAX_PARTS or sum(map(len, known)) + sum(map(len, texts)) > MAX_MESSAGE
    # A cut body proves nothing, so its words need not be read.
    return ("", True) if is_cut else (_lines(texts), False)


def parts_of(body: Any) -> Iterator[Any]:
    """Yield the objects and texts of a response at any depth, apart from those that echo the request."""
    left = deque([body])
    for _ in range(MAX_PARTS):  # a hostile response must not cause much work
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
    response: Response, message: str, kling_task_id: str | None = None
) -> KlingUncertainSubmissionError:
    error = error_of(response, message)
    advice = KlingUncertainSubmissionError.default_advice
    if kling_task_id:
        advice = f"The response contains the id of Kling task {kling_task_id}: check its state. {advice}"
    elif error_object(response) and (entry := error_names(response).entry()):
        listed = json.dumps([entry], ensure_ascii=False)
        advice += (
            " If the vendor confirms that such a submit is not billed, add to Refusal codes (extra.refusal_codes) "
            f"of {THE_CONNECTION}: {listed}"
        )
    return KlingUncertainSubmissionError(
        message,
        kling_task_id=kling_task_id,
        http_status=error.http_status,
        code=error.code,
        server_message=error.server_message,
        request_id=error.request_id,
        advice=advice,
    )


def is_success_code(code: Any) -> bool:
    return code in (None, 0, 200, "0", "200", "") or (isinstance(code, str) and code.lower() in ("success", "ok"))


#: The names of an error's message and of its code, the most specific first.
_MESSAGE_NAMES = ("message", "msg", "error_message", "errorMessage", "error_msg", "errmsg", "err_msg", "detail")
_CODE_NAMES = ("code", "error_code", "errorCode", "errcode", "err_code", "status_code", "statusCode")


def message_in(error: Mapping[str, Any]) -> str:
    """Return the message of an error object, under any of its names; empty if there is none."""
    found = (error.get(name) for name in _MESSAGE_NAMES)
    return next((text for text in found if isinstance(text, str) and text.strip()), "")


def code_in(error: Mapping[str, Any]) -> str | None:
    """Return the code of an error object, under any of its names; None if there is none, or it means success."""
    found = [error.get(name) for name in _CODE_NAMES]
    if type(error.get("status")) is int:
        found.append(error["status"])
    return next((text for code in found if not _means_success(code) and (text := as_text(code))), None)


def _means_success(code: Any) -> bool:
    return isinstance(code, (dict, list)) or is_success_code(code)


def status_meant(response: Response, code: str | None) -> int:
    """Return the effective HTTP status of an error: some servers always send 200, and the status in ``code``."""
    if 200 <= response.http_status < 300 and code and re.fullmatch(r"[45]\d\d", code):
        return int(code)
    return response.http_status


#: Fields in which servers echo the rejected request (FastAPI: ``input``); its words do not describe an error.
_REPEATED = frozenset({"input", "prompt", "negative_prompt", "multi_prompt"})


#: Ambiguous statuses below 500, after which the job may exist: a redirect to the result of the POST (302, 303); a
#: timeout or a closed client connection after the request was forwarded (408; 444 and 499 of nginx; 460 of
#: Amazon's load balancer); a conflict (409) with the same request, which a proxy in between may have sent twice; a
#: model that failed behind the server (424, at Amazon Bedrock and Hugging Face).
AMBIGUOUS_STATUSES = frozenset({302, 303, 408, 409, 424, 444, 460, 499})


def error_of(
    response: Response, message: str, kling_task_id: str | None = None, body: Mapping[str, Any] | None = None
) -> KlingError:
    """
    Return the named error for an error response.

    An official code inside the message outweighs the textual code, and both outweigh the HTTP status:
    gateways forward the error of the platform behind them with a status of their own.

    :param response: The HTTP response.
    :param message: What failed, for the error's message.
    :param kling_task_id: The requested Kling task, if there was one.
    :param body: The error object, if the caller has found it already.
    """
    found = body or find_error(response.json) or as_mapping(response.json)
    raw = message_in(found)
    server_message = innermost_message(raw)
    code = official_code(raw) or code_in(found) or code_in(as_mapping(response.json))
    status = status_meant(response, code)
    names = error_names(response)
    # Codes are often empty, and then the message may consist of the code.
    kind = kind_of_code(code) or kind_of_code(server_message)
    advice = None
    if response.http_status < 500 and is_content_refusal(code, server_message):
        kind = KlingContentRefusedError
    if response.http_status < 500 and kind in _MAYBE_EMPTY and code not in OFFICIAL_REFUSALS:
        kind = _empty_account(response, names, status) or kind
    if (
        kling_task_id
        and kind in (None, KlingValidationError)
        # Some servers pass the official code on with 200.
        and (status in (400, 422) or (response.http_status < 300 and code == "1201"))
        and is_missing_task(response, names)
    ):
        kind = KlingNotFoundError
    if kind is None and is_missing_route(response, names):
        kind = KlingUnavailableError if kling_task_id else KlingNotFoundError
        message = f"{message}: the server has no such route"
        advice = f"The API does not have this path. Check Base URL and API of {THE_CONNECTION}."
    if kind is None and 300 <= status < 400:
        kind = KlingServerError if kling_task_id else KlingNotFoundError
        target = clean_text(response.location or "nowhere")
        advice = f"It redirects to {target}; enter the API's own address as the Base URL of {THE_CONNECTION}."
    if kind is None and kling_task_id and status in (404, 410) and is_page(response):
        # An HTML 404 comes from a proxy (for example during a deployment), not from the API.
        kind = KlingServerError
    if kind is None:
        # In a status response, a code of 400 with HTTP 200 may concern the job as well as the request.
        refused = 400 <= status < 500 and (response.http_status >= 300 or kling_task_id is None)
        kind = KIND_OF_HTTP_STATUS.get(status, KlingValidationError if refused else KlingServerError)
    if kind is KlingValidationError and kling_task_id is None:
        advice = NOT_BILLED
    if kind is KlingNotFoundError and kling_task_id is None and advice is None:
        advice = f"Check Base URL and API of {THE_CONNECTION}, and what the request refers to."
    return kind(
        message,
        kling_task_id=kling_task_id,
        http_status=response.http_status,
        code=code,
        server_message=server_message or excerpt(response.body),
        request_id=response.request_id,
        retry_after=response.retry_after,
        advice=advice,
    )


#: Errors by code that words of an empty account outweigh; servers send those words with any of these codes.
_MAYBE_EMPTY = (None, KlingAuthenticationError, KlingPermissionError, KlingRateLimitError, KlingValidationError)


def _empty_account(response: Response, names: ErrorNames, status: int) -> type[KlingError] | None:
    kind = empty_account(response, names)
    # A quota of requests counts as a rate limit only with a status that can mean one.
    return None if kind is KlingRateLimitError and status not in (400, 403, 429) else kind


def empty_account(response: Response, names: ErrorNames) -> type[KlingError] | None:
    """Return the error class for the account's balance by the words of an error; see :func:`kind_of_words`."""
    if is_html(response):
        return None
    # Without echoes of the request: a prompt may mention anything.
    texts = (part[:MAX_WORDS] for part in parts_of(response.json) if isinstance(part, str))
    words = names.text if response.json is None else "\n".join(texts)
    message = innermost_message(message_in(error_object(response) or as_mapping(response.json)))
    return kind_of_words(
        f"{names.code}\n{names.type}\n{message}\n{words}"[:MAX_WORDS], has_retry_after=bool(response.retry_after)
    )


def is_missing_route(response: Response, names: ErrorNames) -> bool:
    """Return whether a response proves that there is no such route; then the key was not checked."""
    status = status_meant(response, names.code)
    if _has_code_of_no_task(response, names):
        return False
    if status == 501:
        return names.among(["api_not_implemented"])
    if status == 405 and response.json is None:
        return True
    if _is_default_404(response):
        return True
    if not NO_ROUTE.search(names.words):
        return False
    # Some servers report it with 200, in an error or in an envelope of a failure.
    return status in (404, 405, 410) or (
        status == 200 and _is_failure(response) and not NO_TASK.search(names.words)
    )


def _is_failure(response: Response) -> bool:
    return bool(error_object(response)) or as_mapping(response.json).get("success") is False


def _is_default_404(response: Response) -> bool:
    """Return whether this is the default 404 of Spring, for a path that it does not serve."""
    body = as_mapping(response.json)
    return (
        response.http_status == 404
        and body.get("error") == "Not Found"
        and all(body.get(name) for name in ("timestamp", "path"))
        and body.get("message") in (None, "", "No message available", "Not Found")
    )


def why_absent(response: Response) -> str | None:
    """Return how a response proves that it is not from the API, or None if it does not."""
    status = response.http_status
    if 300 <= status < 400:
        return f"the request is redirected to {clean_text(response.location or 'nowhere')}"
    if is_html(response) or (200 <= status < 300 and is_web_page(response)):
        return "the response is a web page"
    if status >= 500 and response.json is None:
        return "the response is a server error without JSON"
    if is_missing_route(response, error_names(response)):
        return "the server has no such route, so the key was not checked"
    return None


def is_web_page(response: Response) -> bool:
    """Return whether a response is a page or another text, and not JSON, not even JSON that was cut off."""
    text = response.body.strip()
    return is_html(response) or (is_page(response) and text != b"null" and text[:1] not in (b"{", b"["))


def is_missing_task(response: Response, names: ErrorNames) -> bool:
    """Return whether a code or words report that there is no such task; only the API itself can know that."""
    return _has_code_of_no_task(response, names) or bool(NO_TASK.search(names.words))


def _has_code_of_no_task(response: Response, names: ErrorNames) -> bool:
    codes = (names.code, *names.nested)
    return b"task_not_exist" in response.body or any(kind_of_code(code) is KlingNotFoundError for code in codes)


def find_error(body: Any) -> Mapping[str, Any] | None:
    """Return the error object of either envelope: ``{"error": {...}}`` or flat ``{"code", "message"}``."""
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict) and not is_no_error(error):
        return error
    if isinstance(error, str) and not is_no_error(error.strip()):
        return {"message": error, "code": code_in(body)}
    if message_in(body) and code_in(body):
        return body
    return None
