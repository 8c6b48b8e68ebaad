# SPDX-License-Identifier: Apache-2.0
"""The decorator ``@task.kling``: a function returns the request, and the task makes the video."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.providers.common.compat.sdk import (
    SET_DURING_EXECUTION,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
)

from airflow_provider_kling.api.request import REQUEST_FIELDS
from airflow_provider_kling.exceptions import KlingValidationError, Problem, short_repr
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.tasks.import_errors import named, naming_task
from airflow_provider_kling.tasks.parse_checks import check_arguments, check_paths_of_rows
from airflow_provider_kling.utils.coerce import with_uris
from airflow_provider_kling.utils.signed_urls import mask_signatures
from airflow_provider_kling.version_compat import DecoratedFunction

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator

    from airflow_provider_kling.jobs.submit_request import SubmitRequest


class _KlingDecoratedOperator(DecoratedOperator, KlingGenerateOperator):
    """
    Submit the request that a function returns, as :class:`KlingGenerateOperator` does.

    The function is called right before a submit: once in each attempt, and again each time the task resumes to
    submit, because the account had no free slot. It is not called when the task resumes with its video.

    :param python_callable: Returns the prompt, or a dict of request fields.
    :param op_args: Positional arguments of the function (templated).
    :param op_kwargs: Keyword arguments of the function (templated).
    :raises KlingValidationError: if the function returns anything else, an unknown field, or a value that differs
        from the argument of the same name.
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *KlingGenerateOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **KlingGenerateOperator.template_fields_renderers,
    }
    custom_operator_name: str = "@task.kling"
    overwrite_rtif_after_execution: bool = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        defaults = kwargs.get("default_args") or {}
        later = [name for name in REQUEST_FIELDS if kwargs.get(name, defaults.get(name)) is None]
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            # The check of literal arguments does not miss a field that the function may return.
            **kwargs | dict.fromkeys(later, SET_DURING_EXECUTION),
        )
        for name in later:
            setattr(self, name, None)
        self._returned: list[str] = []
        if kwargs.get("multiple_outputs") and not self.wait_for_completion:
            problem = Problem("multiple_outputs", True, "needs wait_for_completion=True: an id is only one output")
            raise named(KlingValidationError.from_problems([problem]), self.task_id)

    #: That of Airflow 3.0's own base for decorated tasks fails once this one has returned.
    execute = KlingGenerateOperator.execute

    def _submit_request(self, context: Context) -> SubmitRequest:
        context_merge(context, self.op_kwargs)
        kwargs = determine_kwargs(self.python_callable, self.op_args, context)
        self._set_fields(self.python_callable(*self.op_args, **kwargs))
        # Only what was returned: the arguments are rendered already.
        self._do_render_template_fields(self, self._returned, context, self.get_template_env(), set())
        return super()._submit_request(context)

    def _set_fields(self, returned: Any) -> None:
        """Set the request fields from what the function returned."""
        for name in self._returned:  # by an earlier call in the same process
            setattr(self, name, None)
        self._returned = []
        fields = {"prompt": returned} if isinstance(returned, str) else returned
        if problems := list(self._problems(fields)):
            function = getattr(self.python_callable, "__name__", repr(self.python_callable))
            raise KlingValidationError.from_problems(problems, subject=f"What the function {function!r} returned")
        for name, value in fields.items():
            if value is not None and getattr(self, name) in (None, ""):
                setattr(self, name, value)
                self._returned.append(name)

    def _problems(self, fields: Any) -> Iterator[Problem]:
        if not isinstance(fields, Mapping):
            expected = f"must be the prompt (str) or a dict of request fields, not {type(fields).__name__}"
            yield Problem("return", _masked(fields), expected)
            return
        for name, value in fields.items():
            if name not in REQUEST_FIELDS:
                expected = f"is no request field; they are {', '.join(REQUEST_FIELDS)}"
                yield Problem(str(name), _masked(value), expected)
            elif value is not None and (given := getattr(self, name)) not in (None, "", value):
                expected = f"differs from the argument {name}={short_repr(_masked(given))}; give it once"
                yield Problem(name, _masked(value), expected)


def _masked(value: Any) -> Any:
    """Return a value for a message: what may not be shown of it is not yet known to Airflow's secrets masker."""
    from airflow_provider_kling.shown_prompts import shows_prompts

    if not shows_prompts():
        return f"({type(value).__name__}, not shown)"
    return mask_signatures(value) if isinstance(value, str) else value


class _KlingTask(DecoratedFunction):  # type: ignore[type-arg]
    """A decorated function. Mapped, it makes no operator that could check the paths of its rows."""

    def expand(self, **map_kwargs: Any) -> Any:
        """Map over lists of arguments of the function."""
        self._check_paths()
        return super().expand(**map_kwargs)

    def expand_kwargs(self, kwargs: Any, *, strict: bool = True) -> Any:
        """Map over a list of arguments of the function."""
        self._check_paths()
        return super().expand_kwargs(kwargs, strict=strict)

    def _check_paths(self) -> None:
        with naming_task(_task_id(self.function, self.kwargs)):
            check_paths_of_rows({name: with_uris(self.kwargs.get(name)) for name in ("save_to", "last_frame_to")})


def _task_id(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> str | None:
    """Return the id of the task that a function becomes, without those of task groups."""
    return kwargs.get("task_id") or getattr(function, "__name__", None)


def kling_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> TaskDecorator:
    """
    Make a task of a function that returns a prompt, or a dict of request fields; use it as ``@task.kling``.

    :param python_callable: The function.
    :param multiple_outputs: Whether each entry of the finished video becomes an XCom of its own. The function's
        return type does not change it, as it is not what the task returns.
    :param kwargs: Arguments of :class:`KlingGenerateOperator`, and those of every task.
    :return: The decorated function, to call, map or override as every task.
    :raises KlingValidationError: if a literal argument is wrong.
    """

    def decorate(function: Callable[..., Any]) -> _KlingTask:
        # A mapped task makes no operator when its DAG is parsed.
        with naming_task(_task_id(function, kwargs)):
            check_arguments(
                {name: value for name, value in kwargs.items() if value is not None}, others_follow=True
            )
        return _KlingTask(
            function=function,
            multiple_outputs=multiple_outputs,
            operator_class=_KlingDecoratedOperator,
            kwargs=kwargs,
        )

    return cast("TaskDecorator", decorate if python_callable is None else decorate(python_callable))
