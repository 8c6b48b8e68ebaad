# SPDX-License-Identifier: Apache-2.0
"""Map the codes and words of errors to named errors, for every server."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingBalanceError,
    KlingContentRefusedError,
    KlingError,
    KlingGenerationFailedError,
    KlingNotFoundError,
    KlingPermissionError,
    KlingRateLimitError,
    KlingServerError,
    KlingValidationError,
)
from airflow_provider_kling.utils.text import MAX_MESSAGE, as_mapping, as_text, nested_objects

if TYPE_CHECKING:
    from collections.abc import Iterator


def nested_codes(message: str, depth: int = 3) -> Iterator[str]:
    """Yield the codes of the JSON objects inside a message, and inside their messages."""
    for nested in nested_objects(message):
        error = as_mapping(nested.get("error"))
        if code := as_text(nested.get("code")) or as_text(error.get("code")):
            yield code
        inner = nested.get("message") or error.get("message")
        if depth and isinstance(inner, str):
            yield from nested_codes(inner, depth - 1)


#: Official codes (https://app.klingai.com), which appear inside messages of gateways in front of it.
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


KIND_OF_HTTP_STATUS: dict[int, type[KlingError]] = {
    401: KlingAuthenticationError,
    402: KlingBalanceError,
    403: KlingPermissionError,
    404: KlingNotFoundError,
    408: KlingServerError,
    410: KlingNotFoundError,
    429: KlingRateLimitError,
}


#: Codes with which the official platform refuses a request; after 5000 to 5002 a task may exist.
OFFICIAL_REFUSALS = frozenset(
    code for code, kind in _KIND_OF_OFFICIAL_CODE.items() if kind is not KlingServerError
)


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


_NAMED_CODE = re.compile(
    r"(?:code|错误码|error)[\"'\s:=：]{0,4}(1[0-3]0[0-4]|500[0-2])(?!\d)|^\W{0,2}(1[0-3]0[0-4]|500[0-2])(?!\d)|[\[(（](1[0-3]0[0-4]|500[0-2])[\])）]",
    re.IGNORECASE,
)


def official_code(message: str) -> str | None:
    """Return the official platform's code in a message, from nested JSON or from its words."""
    for code in nested_codes(message):
        if code in _KIND_OF_OFFICIAL_CODE:
            return code
    found = _NAMED_CODE.search(message[:MAX_MESSAGE])
    return next(filter(None, found.groups()), None) if found else None


def kind_of_code(code: str | None) -> type[KlingError] | None:
    return _KIND_OF_CODE.get(code.lower()) if code else None


def is_content_refusal(code: str | None, message: str | None) -> bool:
    if kind_of_code(code) not in (None, KlingValidationError, KlingGenerationFailedError):
        return kind_of_code(code) is KlingContentRefusedError
    text = f"{code or ''} {message or ''}".lower()
    return any(word in text for word in _CONTENT_WORDS)
