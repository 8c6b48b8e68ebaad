# SPDX-License-Identifier: Apache-2.0
"""What can be refused when a DAG is parsed: literal arguments, mapped or not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any

from airflow_provider_kling.api.request import REQUEST_FIELDS, find_problems
from airflow_provider_kling.exceptions import KlingValidationError, Problem
from airflow_provider_kling.jobs.limits import to_seconds
from airflow_provider_kling.jobs.shown_prompt import prompts_in
from airflow_provider_kling.media.path_template import is_distinct, template_problem
from airflow_provider_kling.tasks.import_errors import named
from airflow_provider_kling.tasks.rendered import rendered_tags
from airflow_provider_kling.utils.coerce import parse_number, with_uris

_CHOICES = {"on_clear": ("reuse", "resubmit"), "on_uncertain": ("fail", "resubmit")}
_DURATIONS = ("poll_interval", "timeout", "submit_timeout", "save_timeout")
_PATHS = ("path", "save_to", "last_frame_to")
#: Arguments of ``KlingGenerateOperator`` that need ``save_to``.
_NEED_SAVE_TO = ("sidecar", "last_frame_to")


def check_arguments(arguments: Mapping[str, Any], *, others_follow: bool = False) -> None:
    """
    Raise for wrong literal arguments of ``KlingGenerateOperator``, before any template is rendered.

    :param arguments: Arguments of the operator.
    :param others_follow: Whether a mapping may set other request fields later.
    :raises KlingValidationError: naming every wrong request field, or a wrong setting of the task.
    :raises ValueError: for a duration of the task that is not positive.
    """
    _check_settings(arguments)
    check_storing(arguments)
    if not others_follow or "save_to" in arguments:
        _check_save_to(arguments)
    known = {name: value for name, value in arguments.items() if name in REQUEST_FIELDS and _is_literal(value)}
    given = set(REQUEST_FIELDS) & arguments.keys()
    later = (set(REQUEST_FIELDS) if others_follow else given) - known.keys()
    if problems := find_problems(known, unknown=later):
        error = KlingValidationError.from_problems(problems)
        raise _without_prompts(error, known)


def _without_prompts(error: KlingValidationError, arguments: Mapping[str, Any]) -> KlingValidationError:
    """Return an error without the prompts, if they are hidden; the option is read only where there is an error."""
    from airflow_provider_kling.shown_prompts import masks_for, shows_prompts

    if shows_prompts():
        return error
    return error.replace(message=masks_for(prompts_in(arguments)).sentence(error.message))


def check_storing(arguments: Mapping[str, Any]) -> None:
    """
    Raise for wrong literal arguments of a task that stores.

    :param arguments: Arguments of the task.
    :raises KlingValidationError: for a path with an unknown placeholder.
    :raises ValueError: for a size limit that is not a positive whole number, or a duration that is not positive.
    """
    paths = {name: arguments.get(name) for name in _PATHS}
    problems = [
        Problem(name, path, problem)
        for name, path in paths.items()
        if isinstance(path, str) and (problem := template_problem(path))
    ]
    if problems:
        raise KlingValidationError.from_problems(problems)
    max_bytes = arguments.get("max_bytes")
    if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1):
        raise ValueError(f"max_bytes={max_bytes!r} must be a positive whole number, or None for no limit")


def check_paths_of_rows(paths: Mapping[str, Any]) -> None:
    """
    Raise for a literal path that would be one file for all rows of a mapped task.

    :param paths: Paths that are not mapped, by the name of their argument.
    :raises KlingValidationError: naming the first one.
    """
    for name, path in paths.items():
        if isinstance(path, str) and not is_distinct(path):
            reason = (
                "is one file for all rows: write {map_index}, {kling_task_id} or {slug} into it, or end it with a "
                "slash (/) for a folder"
            )
            raise KlingValidationError.from_problems([Problem(name, path, reason)])


def _check_save_to(arguments: Mapping[str, Any]) -> None:
    save_to = arguments.get("save_to")
    if save_to is not None and arguments.get("wait_for_completion") is False:
        reason = "contradicts save_to: only a finished video can be stored"
        problem = Problem("wait_for_completion", False, reason)
        raise KlingValidationError.from_problems([problem])
    if save_to is None and (alone := next((name for name in _NEED_SAVE_TO if arguments.get(name)), None)):
        problem = Problem(alone, arguments[alone], "needs save_to, which says where the video is stored")
        raise KlingValidationError.from_problems([problem])


def with_path_uris(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of a task with each ``ObjectStoragePath`` in a request field or a path as its URI."""
    names = {*REQUEST_FIELDS, *_PATHS}
    return {name: with_uris(value) if name in names else value for name, value in arguments.items()}


def take_number(take: Any) -> int:
    """
    Return the number of a take.

    :raises KlingValidationError: if it is not a whole number.
    """
    if isinstance(take, int) or (isinstance(take, str) and take.strip().isdecimal()):
        return int(take)
    raise KlingValidationError.from_problems([Problem("take", take, "must be a whole number")])


def cost_limit(max_cost: Any) -> float:
    """
    Return ``max_cost`` as a number.

    :raises KlingValidationError: if it is not a positive number. A template that found nothing is none.
    """
    limit = parse_number(max_cost)
    if limit is None or limit <= 0:
        raise KlingValidationError.from_problems([Problem("max_cost", max_cost, "must be a positive number")])
    return limit


def _check_settings(arguments: Mapping[str, Any]) -> None:
    """Raise for wrong settings of the task itself."""
    for name, choices in _CHOICES.items():
        value = arguments.get(name, choices[0])
        if (isinstance(value, str) or _is_literal(value)) and value not in choices:
            problem = Problem(name, value, f"must be one of {', '.join(choices)}")
            raise KlingValidationError.from_problems([problem])
    for name in _DURATIONS:
        if isinstance(arguments.get(name), (str, int, float, timedelta)):
            to_seconds(name, arguments[name])
    if "take" in arguments and _is_literal(arguments["take"]):
        take_number(arguments["take"])
    if arguments.get("max_cost") is not None and _is_literal(arguments["max_cost"]):
        cost_limit(arguments["max_cost"])
    if _is_literal(arguments.get("tags")):
        rendered_tags(arguments.get("tags"))


def _is_literal(value: Any) -> bool:
    """Return whether a value is final when the DAG is parsed: no template, no output of another task."""
    if isinstance(value, str):
        return not any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return all(_is_literal(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_literal(item) for item in value)
    return value is None or isinstance(value, (bool, int, float))


class CheckedPartial:
    """
    Airflow's result of ``partial()``, with a check of literal values before it maps.

    :param partial: Airflow's result.
    :param given: The arguments that are not mapped.
    :param check: Raises for wrong literal arguments.
    :param paths: Names of arguments that are paths, of which each row needs its own.
    :param labelled_by: Names of arguments from which a row gets its label, if they are mapped.
    """

    def __init__(
        self,
        partial: Any,
        given: Mapping[str, Any],
        check: Callable[[Mapping[str, Any]], None] = lambda _: None,
        *,
        paths: Collection[str] = (),
        labelled_by: Collection[str] = (),
    ) -> None:
        self._partial = partial
        self._given = given
        self._literal_check = check
        self._paths = paths
        self._labelled_by = labelled_by

    def __getattr__(self, name: str) -> Any:
        if name == "_partial":  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._partial, name)

    def expand(self, **mapped: Any) -> Any:
        """Map over lists, and check the literal ones."""
        mapped = with_path_uris(mapped)
        self._check({}, mapped)
        for name, values in mapped.items():
            for value in values if isinstance(values, (list, tuple)) else ():
                self._check({name: value}, mapped)
        if not mapped.keys().isdisjoint(self._labelled_by):
            self._label()
        return self._partial.expand(**mapped)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Map over a list of arguments, and check it if it is literal."""
        self._check({}, ())
        if isinstance(kwargs, (list, tuple)):
            kwargs = [with_path_uris(one) if isinstance(one, Mapping) else one for one in kwargs]
        for arguments in kwargs if isinstance(kwargs, (list, tuple)) else ():
            if isinstance(arguments, Mapping):
                self._check(arguments, arguments)
        if self._given.keys().isdisjoint(self._labelled_by):
            self._label()
        return self._partial.expand_kwargs(kwargs, strict=strict)

    def _label(self) -> None:
        if self._partial.kwargs.get("map_index_template") is None:
            self._partial.kwargs["map_index_template"] = "{{ task.map_label or ti.map_index }}"

    def _check(self, values: Mapping[str, Any], mapped: Collection[str]) -> None:
        try:
            check_paths_of_rows({name: self._given.get(name) for name in self._paths if name not in mapped})
            self._literal_check({**self._given, **values})
        except (KlingValidationError, ValueError) as error:
            self._partial._expand_called = True  # otherwise Airflow also warns that it was never mapped
            raise named(error, self._partial.kwargs.get("task_id")) from None
