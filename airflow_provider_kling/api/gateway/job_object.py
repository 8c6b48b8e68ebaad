# SPDX-License-Identifier: Apache-2.0
"""Find the object of a response that describes the job."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.api.gateway.body import ERROR, MAX_DEPTH, is_echo, words_of
from airflow_provider_kling.api.gateway.status_words import STATUS_NAMES, status_of
from airflow_provider_kling.utils.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Names of a job's id, by precedence. ``request_id`` is the id of an HTTP exchange.
ID_NAMES = ("task_id", "taskId", "taskID", "id", "job_id", "jobId", "generation_id", "generationId", "uuid")
#: The unambiguous ones.
_TASK_ID_NAMES = ID_NAMES[:3]
#: Objects in which gateways wrap a job.
_WRAPPERS = frozenset({"data", "output", "result", "response", "task", "job"})
#: Maximum number of objects and lists of a body that are searched.
MAX_OBJECTS = 500


class JobObject(NamedTuple):
    """
    The object of a response that describes the job.

    :param fields: The object.
    :param word: The word for the job's status.
    :param has_id: Whether the body contains the requested id.
    :param others: The ``id()`` of the other objects in the same list, which describe other jobs.
    """

    fields: Mapping[str, Any]
    word: str
    has_id: bool
    others: frozenset[int]


def status_word_in(fields: Mapping[str, Any]) -> str | None:
    """Return the word for a job's status directly in an object."""
    for name in STATUS_NAMES:
        word = fields.get(name)
        if word and isinstance(word, str):
            return word
    return None


def task_id_in(fields: Mapping[str, Any]) -> str | None:
    """Return a job's id directly in an object."""
    return next(_ids_in(fields), None)


def other_id_in(fields: Mapping[str, Any], kling_task_id: str) -> str | None:
    """Return another id of the job in an object."""
    return next((found for found in _ids_in(fields) if found != kling_task_id), None)


def _ids_in(fields: Mapping[str, Any]) -> Iterator[str]:
    for name in ID_NAMES:
        value = fields.get(name)
        if isinstance(value, str) and (text := clean_text(value)):
            yield text
        elif isinstance(value, int) and not isinstance(value, bool):
            yield str(value)


def submitted_object(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object of a submit's response that contains the id of the job; the body itself if none does."""
    data = body.get("data")
    if isinstance(data, dict) and (status_word_in(data) or task_id_in(data)):
        return data
    wrapped = [part for part in _parts_of(body) if part.is_wrapped]
    for names in (_TASK_ID_NAMES, ID_NAMES):
        for part in wrapped:
            if any(found is not None and task_id_in({"id": found}) for found in map(part.fields.get, names)):
                return part.fields
    return body


def find_job(body: Any, kling_task_id: str) -> JobObject | None:
    """
    Return the object that decides the status of a job, or None if the body contains no status.

    The innermost object with the job's id decides: an outer ``status`` is often that of the request. If that
    object has no status itself, an object inside it counts, and then one around it.
    """
    parts = list(_parts_of(body))
    with_id = [part for part in parts if kling_task_id in _ids_in(part.fields)]
    with_id.sort(key=lambda part: -part.depth)
    if with_id:
        inner = with_id[0]
        candidates = [*with_id, *(part for part in parts if inner in part.outer()), *inner.outer()]
    else:
        # A server may use its own id for the job, or send none.
        wrapped = sorted((part for part in parts if part.is_wrapped), key=lambda part: -part.depth)
        candidates = [
            *(part for part in wrapped if any(part.fields.get(name) for name in _TASK_ID_NAMES)),
            *(part for part in wrapped if status_of(status_word_in(part.fields) or "")),
            *reversed(wrapped),
            *(part for part in parts if status_of(status_word_in(part.fields) or "")),
        ]
    for part in candidates:
        if word := status_word_in(part.fields):
            return JobObject(part.fields, word, bool(with_id), part.others())
    return None


class _Part:
    """
    An object of a body.

    :param fields: The object.
    :param around: The object around it.
    :param siblings: The list that contains it.
    :param is_wrapped: Whether there are only wrappers, and lists of one item, around it.
    """

    __slots__ = ("around", "depth", "fields", "is_wrapped", "siblings")

    def __init__(
        self, fields: dict[str, Any], around: _Part | None, siblings: list[Any] | None, *, is_wrapped: bool
    ) -> None:
        self.fields = fields
        self.around = around
        self.siblings = siblings
        self.is_wrapped = is_wrapped
        self.depth: int = around.depth + 1 if around else 0

    def outer(self) -> list[_Part]:
        """Return the objects around it, the nearest first."""
        return [] if self.around is None else [self.around, *self.around.outer()]

    def others(self) -> frozenset[int]:
        """Return the ``id()`` of the other items in its list, and in the lists of the objects around it."""
        return frozenset(
            id(other)
            for part in (self, *self.outer())
            for other in part.siblings or ()
            if other is not part.fields and isinstance(other, (dict, list))
        )


def _parts_of(body: Any) -> Iterator[_Part]:
    """Yield the objects of a body, outer ones first, without errors and echoes of the request."""
    left: deque[tuple[Any, _Part | None, list[Any] | None, bool]] = deque()
    if isinstance(body, (dict, list)):
        left.append((body, None, None, True))
    seen = 0
    while left and seen < MAX_OBJECTS:
        value, around, siblings, is_wrapped = left.popleft()
        seen += 1
        if isinstance(value, list):
            if siblings is not None:  # a list in a list contains no jobs
                continue
            is_wrapped = is_wrapped and len(value) == 1
            left.extend(
                (item, around, value, is_wrapped) for item in value[:MAX_OBJECTS] if isinstance(item, dict)
            )
            continue
        part = _Part(value, around, siblings, is_wrapped=is_wrapped)
        yield part
        if part.depth == MAX_DEPTH:
            continue
        for name, child in value.items():
            if (
                isinstance(child, (dict, list))
                and child
                and not is_echo(name)
                and words_of(name).isdisjoint(ERROR)
            ):
                left.append((child, part, None, is_wrapped and name in _WRAPPERS))
