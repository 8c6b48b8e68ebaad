# SPDX-License-Identifier: Apache-2.0
"""Which objects of a response concern other jobs than the one that was asked for."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.reading.body import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_VALUES,
    objects_around,
    vocabulary,
    words_of,
)
from airflow_provider_kling.api.reading.job_object import ID_NAMES, status_word_in
from airflow_provider_kling.utils.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Names of an id that no file has.
_TASK_ID_NAMES = ("task_id", "taskId", "taskID", "job_id", "jobId")
#: Words in the names of what one job has made: each of them may have an id, and a status.
_MADE = vocabulary("output outputs result results works creations artifacts assets video videos")
#: Names of lists that may hold jobs.
_LISTS = vocabulary("data list items tasks jobs records rows")


def other_jobs(fields: Mapping[str, Any], body: Any, kling_task_id: str) -> frozenset[int]:
    """
    Return the ``id()`` of the objects of a body that concern other jobs.

    :param fields: The object that speaks of the job. What is inside it and around it concerns the job.
    :param body: The body around it.
    :param kling_task_id: The id that was asked for.
    """
    if not isinstance(body, (dict, list)):
        body = fields
    around = objects_around(body, fields)
    ids = {kling_task_id, *_ids_in(fields, ID_NAMES)}
    for outer in around:
        if isinstance(outer, dict):
            ids.update(_ids_in(outer, ID_NAMES))
    own = {id(fields), *map(id, around)}
    found: set[int] = set()
    #: An object or a list, its name, and whether it lies inside the object that speaks of the job.
    left: deque[tuple[Any, str, bool, int]] = deque([(body, "", body is fields, 0)])
    seen = 0
    while left and seen < MAX_CONTAINERS:
        value, name, is_inside, depth = left.popleft()
        seen += 1
        if isinstance(value, dict):
            if not is_inside and id(value) not in own and _is_other(value, name, ids):
                found.add(id(value))
                continue
            children: Iterable[tuple[str, Any]] = value.items()
        else:
            if is_inside:
                found.update(_others_in(value, name, ids))
            children = ((name, item) for item in value)
        if depth < MAX_DEPTH:
            # Most of what an object holds is neither object nor list, and costs no more than this.
            inner = [child for child in islice(children, MAX_VALUES) if isinstance(child[1], (dict, list))]
            left.extend(
                (child, name, is_inside or child is fields, depth + 1)
                for name, child in inner
                if id(child) not in found
            )
    return frozenset(found)


def _is_other(value: Mapping[str, Any], name: str, ids: set[str]) -> bool:
    found = _ids_in(value, _TASK_ID_NAMES)
    if not found and status_word_in(value) and words_of(name).isdisjoint(_MADE):
        found = _ids_in(value, ("id",))
    return bool(found) and found.isdisjoint(ids)


def _others_in(items: list[Any], name: str, ids: set[str]) -> set[int]:
    """Return the objects of a list inside the job's that are jobs themselves: several, each with an id."""
    if name not in _LISTS:
        return set()
    found = [item for item in islice(items, MAX_CONTAINERS) if isinstance(item, dict) and _ids_in(item, ID_NAMES)]
    if len(found) < 2:
        return set()
    return {id(item) for item in found if _ids_in(item, ID_NAMES).isdisjoint(ids)}


def _ids_in(fields: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    found = (fields.get(name) for name in names)
    return {
        text
        for value in found
        if isinstance(value, (str, int)) and not isinstance(value, bool) and (text := clean_text(str(value)))
    }
