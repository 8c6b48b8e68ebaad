# SPDX-License-Identifier: Apache-2.0
"""
Mask the key, and prompts on request, in what leaves a client: results, errors, and the log records of urllib3.

The API objects do not have the key. They decode, clean and cut server responses, and each of these steps can
uncover a key that was not visible before. So their results and errors are masked afterwards.
"""

from __future__ import annotations

import logging
import re
import threading
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from airflow_provider_kling.exceptions import KlingError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

T = TypeVar("T")


class Masks(NamedTuple):
    """
    How to mask texts.

    :param text: Masks a text for people, which may be cut.
    :param address: Masks an id or a URL, which is used again, so nothing but a whole key may be replaced.
    :param quote: Masks the server's own words in a job or an error. It is for texts that may be common words, such
        as prompts: no other field of a job may change by that.
    :param sentence: Does the same with the message and the advice of an error.
    """

    text: Callable[[str], str] = str
    address: Callable[[str], str] = str
    quote: Callable[[str], str] = str
    sentence: Callable[[str], str] = str


#: The fields of jobs and errors that are ids and URLs.
_ADDRESSES = frozenset({"kling_task_id", "other_id", "video_url", "content_url"})
#: The fields of jobs and errors that hold the server's own words, and those that hold ours.
_QUOTES, _SENTENCES = frozenset({"error", "excerpt", "server_message"}), frozenset({"message", "advice"})
#: The query of a URL. That of a video URL is a credential.
_QUERY = re.compile(r"\?\S*")


def redact_outcome(call: Callable[[], T], masks: Masks) -> T:
    """
    Return the masked result of a call.

    :param call: The function to call.
    :param masks: How to mask.
    :raises KlingError: The error of the call, with its texts and its cause masked.
    """
    try:
        return redact(call(), masks)
    except KlingError as error:
        redacted = redact_error(error, masks)
    try:
        # Outside of the except block: the unmasked error must not be its context.
        raise redacted
    finally:
        del redacted  # the error refers to this frame; a variable that refers back would keep its sockets open


def redact(value: T, masks: Masks) -> T:
    """Return a value with every text in it masked; the value itself if there is nothing to mask."""
    found: Any = value
    if isinstance(value, str):
        found = masks.text(value)
    elif isinstance(value, KlingError):
        found = redact_error(value, masks)
    elif isinstance(value, dict):
        found = {name: redact(item, masks) for name, item in value.items()}
    elif type(value) in (tuple, list):
        items = [redact(item, masks) for item in cast("Any", value)]
        found = tuple(items) if isinstance(value, tuple) else items
    elif is_dataclass(value) and not isinstance(value, type):
        found = _redact_fields(value, masks)
    return cast("T", found)


def redact_error(error: KlingError, masks: Masks) -> KlingError:
    """Return an error with its texts masked, and without a cause that contains a secret."""
    arguments = {"message": error.message, **error.details()}
    changes = _changes(arguments, masks)
    if changes:
        error = error.replace(**changes)
    hidden = error.__cause__ is None and error.__suppress_context__ and error.__context__ is not None
    if hidden or any(masks.quote(masks.text(text)) != text for text in _texts_behind(error)):
        error = error.replace()  # the copy has no context
        error.__cause__ = None
    return error


def _texts_behind(error: BaseException) -> Iterator[str]:
    """Yield the texts of the errors that led to an error, including those that a traceback does not show."""
    seen = {id(error)}
    left = [error]
    while left:
        last = left.pop()
        for behind in (last.__cause__, last.__context__):
            if behind is not None and id(behind) not in seen:
                seen.add(id(behind))
                left.append(behind)
                yield from (str(behind), repr(behind))


def _redact_fields(value: Any, masks: Masks) -> Any:
    changes = _changes({name: getattr(value, name) for name in _field_names(cast("Hashable", type(value)))}, masks)
    return replace(value, **changes) if changes else value


@cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _changes(arguments: dict[str, Any], masks: Masks) -> dict[str, str]:
    """Return the masked form of each text that masking changes."""
    return {
        name: masked
        for name, text in arguments.items()
        if isinstance(text, str) and (masked := _masked(name, text, masks)) != text
    }


def _masked(name: str, text: str, masks: Masks) -> str:
    if name in _ADDRESSES:
        return masks.address(text)
    text = masks.text(text)
    return masks.quote(text) if name in _QUOTES else masks.sentence(text) if name in _SENTENCES else text


class _Sending(threading.local):
    """How to mask the records of the request that this thread is sending; None outside of one."""

    mask: Callable[[str], str] | None = None


_sending = _Sending()


@contextmanager
def redacted_logs(mask: Callable[[str], str]) -> Iterator[None]:
    """Mask what urllib3 logs in this thread while the block runs, and drop records that quote the server."""
    before = _sending.mask
    _sending.mask = mask
    try:
        yield
    finally:
        _sending.mask = before


class _OwnRequests(logging.Filter):
    """
    Masks the records that urllib3 writes about requests of this package; all others pass unchanged.

    A record with an exception quotes header lines that do not parse, as the server sent them. It is dropped.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        mask = _sending.mask
        if mask is None:
            return True
        if record.exc_info:
            return False
        record.msg, record.args = mask(_QUERY.sub("?...", record.getMessage())), None
        return True


_FILTER = _OwnRequests()
#: The loggers of urllib3 that write while a request is sent. Loggers do not inherit filters, so each has its own.
for _name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(_FILTER)
