# SPDX-License-Identifier: Apache-2.0
"""What can be refused when a DAG is parsed: literal arguments, mapped or not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_provider_kling.api.request import REQUEST_FIELDS, find_problems
from airflow_provider_kling.exceptions import KlingValidationError, Problem
from airflow_provider_kling.jobs.limits import to_seconds
from airflow_provider_kling.utils.coerce import with_uris

_CHOICES = {"on_clear": ("reuse", "resubmit"), "on_uncertain": ("fail", "resubmit")}
_DURATIONS = ("poll_interval", "timeout", "submit_timeout")


def check_arguments(arguments: Mapping[str, Any], *, others_follow: bool = False) -> None:
    """
    Raise for wrong literal arguments of ``KlingGenerateOperator``, before any template is rendered.

    :param arguments: Arguments of the operator.
    :param others_follow: Whether a mapping may set other request fields later.
    :raises KlingValidationError: naming every wrong request field, or a wrong setting of the task.
    :raises ValueError: for a duration of the task that is not positive.
    """
    _check_settings(arguments)
    known = {name: value for name, value in arguments.items() if name in REQUEST_FIELDS and _is_literal(value)}
    given = set(REQUEST_FIELDS) & arguments.keys()
    later = (set(REQUEST_FIELDS) if others_follow else given) - known.keys()
    if problems := find_problems(known, unknown=later):
        raise KlingValidationError.from_problems(problems)


def with_image_uris(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of the operator with each ``ObjectStoragePath`` in a request field as its URI."""
    return {name: with_uris(value) if name in REQUEST_FIELDS else value for name, value in arguments.items()}


def take_number(take: Any) -> int:
    """
    Return the number of a take.

    :raises KlingValidationError: if it is not a whole number.
    """
    if isinstance(take, int) or (isinstance(take, str) and take.strip().isdecimal()):
        return int(take)
    raise KlingValidationError.from_problems([Problem("take", take, "must be a whole number")])


def _check_settings(arguments: Mapping[str, Any]) -> None:
    """Raise for wrong settings of the task itself."""
    for name, choices in _CHOICES.items():
        value = arguments.get(name, choices[0])
        if (isinstance(value, str) or _is_literal(value)) and value not in choices:
            problem = Problem(name, value, f"must be one of {', '.join(choices)}")
            raise KlingValidationError.from_problems([problem], subject="The task")
    for name in _DURATIONS:
        if isinstance(arguments.get(name), (str, int, float, timedelta)):
            to_seconds(name, arguments[name])
    if "take" in arguments and _is_literal(arguments["take"]):
        take_number(arguments["take"])


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
    """

    def __init__(self, partial: Any, given: Mapping[str, Any]) -> None:
        self._partial = partial
        self._given = given

    def __getattr__(self, name: str) -> Any:
        if name in ("_partial", "_given"):  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._partial, name)

    def expand(self, **mapped: Any) -> Any:
        """Map over lists, and check the literal ones."""
        mapped = with_image_uris(mapped)
        for name, values in mapped.items():
            for value in values if isinstance(values, (list, tuple)) else ():
                self._check({name: value})
        return self._partial.expand(**mapped)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Map over a list of arguments, and check it if it is literal."""
        if isinstance(kwargs, (list, tuple)):
            kwargs = [with_image_uris(one) if isinstance(one, Mapping) else one for one in kwargs]
        for arguments in kwargs if isinstance(kwargs, (list, tuple)) else ():
            if isinstance(arguments, Mapping):
                self._check(arguments)
        return self._partial.expand_kwargs(kwargs, strict=strict)

    def _check(self, mapped: Mapping[str, Any]) -> None:
        try:
            check_arguments({**self._given, **mapped}, others_follow=True)
        except (KlingValidationError, ValueError):
            self._partial._expand_called = True  # otherwise Airflow also warns that it was never mapped
            raise
