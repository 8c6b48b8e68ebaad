# SPDX-License-Identifier: Apache-2.0
"""Keep the signatures of URLs out of Airflow's Rendered Templates and of task logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from airflow_provider_kling.utils.signed_urls import signatures_in

#: Levels of nesting in which Airflow's masker replaces texts; it never does in the keys of a dict.
MASKED_LEVELS = 5


@contextmanager
def masking_signatures(task: Any) -> Iterator[None]:
    """
    Have Airflow mask the signatures in a task's template fields while and after they are rendered.

    Use it in ``_do_render_template_fields``, since ``render_template_fields`` is not called for a mapped task.
    They are registered before as well as after, since a template that fails is logged as it is written.

    A field that holds a signature where Airflow does not look becomes JSON text, as a template may render it too.
    """
    _mask(task)
    try:
        yield
    finally:
        _mask(task)
    for name in task.template_fields:
        value = getattr(task, name, None)
        if any(level > MASKED_LEVELS and signatures_in(text) for level, text in _texts_in(value)):
            with suppress(TypeError, ValueError, RecursionError):  # no JSON: refused before it is sent
                setattr(task, name, json.dumps(value))


def _mask(task: Any) -> None:
    texts = (text for name in task.template_fields for _, text in _texts_in(getattr(task, name, None)))
    if found := set().union(*map(signatures_in, texts)):
        from airflow.providers.common.compat.sdk import mask_secret

        # All at once: each call is a request to the supervisor of the task.
        mask_secret(list(found))


def _texts_in(value: Any) -> Iterator[tuple[float, str]]:
    """Yield every text in nested lists and dicts, with its level; that of a key is infinite."""
    left: list[tuple[float, Any]] = [(0, value)]
    while left:
        level, value = left.pop()
        if isinstance(value, str):
            yield level, value
        elif isinstance(value, Mapping):
            left += [(math.inf, key) for key in value]
            left += [(level + 1, item) for item in value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            left += [(level + 1, item) for item in value]
