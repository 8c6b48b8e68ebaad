# SPDX-License-Identifier: Apache-2.0
"""Render template fields so that signatures and hidden prompts are masked and a text stays a text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from typing import Any

from airflow_provider_kling.exceptions import KlingValidationError, Problem
from airflow_provider_kling.jobs.shown_prompt import prompts_in
from airflow_provider_kling.utils.coerce import parse_literal
from airflow_provider_kling.utils.signed_urls import signatures_in

#: Levels of nesting in which Airflow's secrets masker replaces texts. Keys of dicts are never masked.
MASKED_LEVELS = 5
#: Fields of a decorated task, whose function needs them as they are.
_OF_A_FUNCTION = frozenset({"op_args", "op_kwargs"})


@contextmanager
def masking_fields(task: Any) -> Iterator[None]:
    """
    Register what may not be shown of a task's template fields with Airflow's secrets masker.

    That is the signature of a URL, and with ``[kling] show_prompts = false`` each prompt. Wrap
    ``_do_render_template_fields``, since ``render_template_fields`` is not called for a mapped task. The texts are
    registered before rendering too, since a template that fails is logged unrendered.

    A field with such a text that is nested too deep for the masker becomes JSON text, as from a template.
    """
    _mask(task)
    try:
        yield
    finally:
        prompts = _mask(task)
    for name in set(task.template_fields) - _OF_A_FUNCTION:
        value = getattr(task, name, None)
        deep = (text for level, text in _texts_in(value) if level > MASKED_LEVELS)
        if any(text in prompts or signatures_in(text) for text in deep):
            with suppress(TypeError, ValueError, RecursionError):  # not JSON: rejected before it is sent
                setattr(task, name, json.dumps(value))


#: Fields inside ``multi_prompt`` and ``extra_body`` that are texts.
NESTED_TEXTS = frozenset({"prompt", "negative_prompt"})


def render_texts(task: Any, names: Iterable[str], context: Any, jinja_env: Any) -> set[str]:
    """
    Render template fields that are texts as text, where the DAG renders to Python values.

    With ``render_template_as_native_obj=True`` Airflow parses a rendered template as a Python literal: the prompt
    ``2025`` would become a number, and ``1e5`` another text. A template that consists of one dict, list or None
    stays that value, so that it can be rejected, or used as a finished video.

    :param task: The task; its fields are set.
    :param names: Names of its fields that are texts.
    :param context: Airflow's context.
    :param jinja_env: The environment of the DAG's templates.
    :return: Names of the fields that are completely rendered.
    """
    if not _is_native(jinja_env):
        return set()
    templates = {name: value for name in names if isinstance(value := getattr(task, name, None), str)}
    for name, template in templates.items():
        setattr(task, name, _text(template, context, jinja_env))
    return set(templates)


def restore_nested_texts(template: Any, rendered: Any, context: Any, jinja_env: Any) -> None:
    """
    Render the texts inside a field as :func:`render_texts` does, in place.

    :param template: The field before it was rendered.
    :param rendered: The field as Airflow rendered it.
    :param context: Airflow's context.
    :param jinja_env: The environment of the DAG's templates.
    """
    if not _is_native(jinja_env):
        return
    if isinstance(template, dict) and isinstance(rendered, dict):
        for name in template.keys() & rendered.keys():
            if name in NESTED_TEXTS and isinstance(template[name], str):
                rendered[name] = _text(template[name], context, jinja_env)
            else:
                restore_nested_texts(template[name], rendered[name], context, jinja_env)
    elif isinstance(template, list) and isinstance(rendered, list):
        for one, other in zip(template, rendered, strict=False):
            restore_nested_texts(one, other, context, jinja_env)


def rendered_tags(tags: Any) -> dict[str, Any] | None:
    """
    Return tags as plain JSON, which an XCom and a file take: any other value becomes its text.

    :param tags: The rendered argument; a text is one that a template made of a dict. None for no tags.
    :raises KlingValidationError: if it is no dict, or has names that JSON does not take.
    """
    if tags is None:
        return None
    found = parse_literal(tags) if isinstance(tags, str) else tags
    with suppress(Exception):  # the text of a value may raise anything
        if isinstance(found, Mapping):
            return dict(json.loads(json.dumps({name: _as_json(value) for name, value in found.items()})))
    expected = "must be a dict of names and texts"
    raise KlingValidationError.from_problems([Problem("tags", tags, expected)])


def _as_json(value: Any) -> Any:
    """Return a value that is JSON; a number that JSON does not have, and any other value, as its text."""
    try:
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except ValueError:
        return str(value)


def _is_native(jinja_env: Any) -> bool:
    from jinja2.nativetypes import NativeEnvironment

    return isinstance(jinja_env, NativeEnvironment)


def _text(text: str, context: Any, jinja_env: Any) -> Any:
    template = jinja_env.from_string(text)
    # Copied rather than unpacked: that would resolve every entry of Airflow's context.
    values = copy(context)
    values.update((name, value) for name, value in template.globals.items() if name not in context)
    try:
        parts = list(
            template.root_render_func(jinja_env.context_class(jinja_env, values, template.name, template.blocks))
        )
    except Exception:
        jinja_env.handle_exception()  # raises with a traceback that names the line of the template
        raise
    if len(parts) == 1 and (parts[0] is None or isinstance(parts[0], (Mapping, list, tuple, set, frozenset))):
        return parts[0]
    return "".join(map(str, parts))


def _mask(task: Any) -> set[str]:
    """Register what may not be shown; return the prompts among it."""
    from airflow_provider_kling.shown_prompts import shows_prompts

    fields = {name: getattr(task, name, None) for name in task.template_fields}
    prompts = set() if shows_prompts() else set(prompts_in(fields))
    secrets = {form for prompt in prompts for form in _written_forms(prompt)}
    for _, text in _texts_in(list(fields.values())):
        secrets.update(signatures_in(text))
    if secrets:
        from airflow.providers.common.compat.sdk import mask_secret

        # One call for all: each call is a request to the task's supervisor.
        mask_secret(list(secrets))
    return prompts


def _written_forms(text: str) -> set[str]:
    """Return the forms in which logs and JSON have a text: the masker looks for exactly what it is given."""
    inner = (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1])
    return {text, *inner}


def _texts_in(value: Any) -> Iterator[tuple[float, str]]:
    """Yield every text in nested lists and dicts with its level of nesting; the level of a key is infinite."""
    pending: list[tuple[float, Any]] = [(0, value)]
    while pending:
        level, value = pending.pop()
        if isinstance(value, str):
            yield level, value
        elif isinstance(value, Mapping):
            pending += [(math.inf, key) for key in value]
            pending += [(level + 1, item) for item in value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending += [(level + 1, item) for item in value]
