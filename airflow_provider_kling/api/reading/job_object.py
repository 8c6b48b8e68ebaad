# SPDX-License-Identifier: Apache-2.0
"""Find the object of a response that describes the job."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.api.reading.body import ERROR, MAX_DEPTH, is_echo, words_of
from airflow_provider_kling.api.reading.status_words import STATUS_NAMES, status_of
from airflow_provider_kling.utils.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: Names of a job's id, by precedence. ``request_id`` is the id of an HTTP exchange.
ID_NAMES = (
    "task_id",
    "taskId",
    "taskID",
    "TaskId",
    "TaskID",
    "id",
    "Id",
    "ID",
    "job_id",
    "jobId",
    "generation_id",
    "generationId",
    "uuid",
)
#: The unambiguous ones.
_TASK_ID_NAMES = ID_NAMES[:5]
#: Objects in which gateways wrap a job.
_WRAPPERS = frozenset(
    {"data", "output", "result", "response", "resp", "body", "task", "job"}
    # APIs in the style of .NET and Go.
    | {"Data", "Output", "Result", "Response", "Body", "Task", "Job", "Items", "List", "Tasks", "Jobs"}
    # Lists of jobs, and an object in place of the word.
    | {"items", "list", "tasks", "jobs", "records", *STATUS_NAMES}
)
#: A number that the HTTP exchange has as its status, and no job.
_HTTP_STATUS = range(100, 600)
#: Objects and lists of a body that are looked at.
MAX_OBJECTS = 500


class JobObject(NamedTuple):
    """
    The object of a response that describes the job.

    :param fields: The object.
    :param word: The word for the job's status.
    :param has_id: Whether it is, or stands in, an object with the id that was asked for.
    :param others: The ``id()`` of the objects that stand beside it in a list, and concern other jobs.
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


def _word_of(fields: Mapping[str, Any]) -> str | None:
    """Return the same; a number or a list in its place becomes an unknown word."""
    if word := status_word_in(fields):
        return word
    for name in STATUS_NAMES:
        value = fields.get(name)
        if value is None or value in ("", []) or isinstance(value, (bool, dict)):
            continue
        if not (isinstance(value, int) and value in _HTTP_STATUS):
            return f"{name} {value}"[:80]
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
    """
    Return the object of a submit's response that holds the id of the job; the body itself if none does.

    A different id in another object of the response is added, under a name that comes last.
    """
    wrapped = [part.fields for part in _parts_of(body) if part.is_wrapped]
    found = _object_of_submit(body, wrapped)
    own = set(_ids_in(found))
    other = next((other for fields in wrapped for other in _ids_in(fields) if other not in own), None)
    free = next((name for name in reversed(ID_NAMES) if name not in found), None)
    return found if not own or other is None or free is None else {**found, free: other}


def _object_of_submit(body: Mapping[str, Any], wrapped: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    data = body.get("data")
    if isinstance(data, dict) and (status_word_in(data) or task_id_in(data)):
        return data
    for names in (_TASK_ID_NAMES, ID_NAMES):
        holders = [fields for fields in wrapped if any(task_id_in({"id": fields.get(name)}) for name in names)]
        if holders:
            return next((fields for fields in holders if status_word_in(fields)), holders[0])
    return body


def find_job(body: Any, kling_task_id: str) -> JobObject | None:
    """
    Return the object that decides the status of a job, or None if the body does not show it.

    The innermost object that holds the job's id decides, as far as nothing but wrappers leads to it: an outer
    ``status`` is often that of the request, and one elsewhere that of a callback or of an attempt. Where that
    object has no status itself, one inside it counts, and then one around it.
    """
    parts = list(_parts_of(body))
    with_id = [part for part in parts if kling_task_id in _ids_in(part.fields)]
    return _job_with_id(parts, with_id) if with_id else _job_without_id(parts)


def _job_with_id(parts: Sequence[_Part], with_id: list[_Part]) -> JobObject | None:
    # Of several beside each other, and of those elsewhere, one that has not failed counts.
    with_id.sort(
        key=lambda part: (
            (False, -part.depth, _says_failed(part)) if part.is_inward else (True, _says_failed(part), -part.depth)
        )
    )
    first = with_id[0]
    for part in with_id if not first.is_inward else [part for part in with_id if part.is_inward]:
        is_another = _says_failed(part) and not part.is_inward and any(map(_word_of, part.fields_around()))
        if (word := _word_of(part.fields)) and not is_another:
            return JobObject(part.fields, word, has_id=True, others=part.others())
    for part in parts:
        may_decide = first in part.outer() and (not _says_failed(part) or part.is_inward_of(first))
        if may_decide and (word := _word_of(part.fields)):
            return JobObject(part.fields, word, has_id=True, others=part.others())
    for part in first.outer():
        if word := _word_of(part.fields):
            return JobObject(part.fields, word, has_id=False, others=part.others())
    return None


def _job_without_id(parts: Sequence[_Part]) -> JobObject | None:
    """
    Return the object that decides where none holds the id: a server may have one of its own, or give none.

    It may be about another job then: what names another id decides no failure, and a list of other jobs nothing.
    """
    if any(part.is_inward and part.is_one_of_several and part.names_job() for part in parts):
        return None
    wrapped = sorted((part for part in parts if part.is_wrapped), key=lambda part: -part.depth)
    if any(_word_of(part.fields) and not status_word_in(part.fields) for part in wrapped):
        return None
    candidates = [
        *(part for part in wrapped if any(part.fields.get(name) for name in _TASK_ID_NAMES)),
        *(part for part in wrapped if status_of(status_word_in(part.fields) or "")),
        *reversed(wrapped),
        *(part for part in parts if status_of(status_word_in(part.fields) or "") and not _says_failed(part)),
    ]
    for part in candidates:
        if word := _word_of(part.fields):
            status = status_of(word)
            names_another = any(task_id_in(other.fields) for other in wrapped)
            is_listed = any(near.siblings is not None for near in (part, *part.outer()))
            if (status == "failed" and names_another) or (status == "completed" and names_another and is_listed):
                return None
            return JobObject(part.fields, word, has_id=False, others=part.others())
    return None


def _says_failed(part: _Part) -> bool:
    return status_of(status_word_in(part.fields) or "") == "failed"


def is_plain_job(body: Any) -> bool:
    """Return whether a body is a job itself, with an id and a known status, and contains no error."""
    return (
        isinstance(body, dict)
        and not body.get("error")
        and status_of(status_word_in(body) or "") in ("queued", "running", "completed")
        and task_id_in(body) is not None
    )


def speaks_of_job(body: Any) -> bool:
    """Return whether a body names the status or the id of a job."""
    return any(
        status_of(status_word_in(part.fields) or "") is not None
        or (task_id_in(part.fields) is not None and _word_of(part.fields) is not None)
        or any(part.fields.get(name) for name in _TASK_ID_NAMES)
        for part in _parts_of(body)
    )


class _Part:
    """
    An object of a body.

    :param fields: The object.
    :param around: The object around it.
    :param siblings: The list that it stands in.
    :param name: The name under which it, or its list, stands in the object around it.
    :param is_wrapped: Whether nothing but wrappers, and lists of one item, stand around it.
    """

    __slots__ = ("around", "depth", "fields", "is_inward", "is_wrapped", "name", "siblings")

    def __init__(
        self,
        fields: dict[str, Any],
        around: _Part | None,
        siblings: list[Any] | None,
        name: str,
        *,
        is_wrapped: bool,
    ) -> None:
        self.fields = fields
        self.around = around
        self.siblings = siblings
        self.name = name
        self.is_wrapped = is_wrapped
        self.depth: int = around.depth + 1 if around else 0
        #: Whether nothing but wrappers, and lists of any length, stand around it.
        self.is_inward: bool = around is None or (around.is_inward and name in _WRAPPERS)

    def outer(self) -> list[_Part]:
        """Return the objects around it, the nearest first."""
        return [] if self.around is None else [self.around, *self.around.outer()]

    def fields_around(self) -> list[dict[str, Any]]:
        return [part.fields for part in self.outer()]

    def is_inward_of(self, outer: _Part) -> bool:
        """Return whether nothing but wrappers lead from that object to this one, which names no other job."""
        return self is outer or bool(
            self.around
            and self.name in _WRAPPERS
            and not task_id_in(self.fields)
            and not self.is_one_of_several
            and self.around.is_inward_of(outer)
        )

    @property
    def is_one_of_several(self) -> bool:
        return len(self.siblings or ()) > 1

    def names_job(self) -> bool:
        return bool(task_id_in(self.fields) and _word_of(self.fields))

    def others(self) -> frozenset[int]:
        """Return the ``id()`` of the other items in its list, and in the lists of the objects around it."""
        return frozenset(
            id(other)
            for part in (self, *self.outer())
            for other in part.siblings or ()
            if other is not part.fields and isinstance(other, (dict, list))
        )


def _parts_of(body: Any) -> Iterator[_Part]:
    """Yield the objects of a body, outer ones first, without errors and what repeats the request."""
    left: deque[tuple[Any, _Part | None, list[Any] | None, str, bool]] = deque()
    if isinstance(body, (dict, list)):
        left.append((body, None, None, "", True))
    seen = 0
    while left and seen < MAX_OBJECTS:
        value, around, siblings, name, is_wrapped = left.popleft()
        seen += 1
        if isinstance(value, list):
            if siblings is not None:  # a list in a list contains no jobs
                continue
            is_wrapped = is_wrapped and len(value) == 1
            left.extend(
                (item, around, value, name, is_wrapped) for item in value[:MAX_OBJECTS] if isinstance(item, dict)
            )
            continue
        part = _Part(value, around, siblings, name, is_wrapped=is_wrapped)
        yield part
        if part.depth == MAX_DEPTH:
            continue
        for inner, child in value.items():
            if (
                isinstance(child, (dict, list))
                and child
                and not is_echo(inner)
                and words_of(inner).isdisjoint(ERROR)
            ):
                left.append((child, part, None, inner, is_wrapped and inner in _WRAPPERS))
