# SPDX-License-Identifier: Apache-2.0
"""Keep the signatures of URLs out of Airflow's Rendered Templates and of task logs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from airflow_provider_kling.utils.signed_urls import signatures_in

#: Levels of nesting in which Airflow's secrets masker replaces texts. Keys of dicts are never masked.
MASKED_LEVELS = 5


@contextmanager
def masking_signatures(task: Any) -> Iterator[None]:
    """
    Register the signatures in a task's template fields with Airflow's secrets masker.

    Wrap ``_do_render_template_fields``, since ``render_template_fields`` is not called for a mapped task. The
    signatures are registered before rendering too, since a template that fails is logged unrendered.

    A field with a signature where the masker does not look becomes JSON text, as a template may render it too.
    """
    _mask(task)
    try:
        yield
    finally:
        _mask(task)
    for name in task.template_fields:
        value = getattr(task, name, None)
        if any(level > MASKED_LEVELS and signatures_in(text) for level, text in _texts_in(value)):
            with suppress(TypeError, ValueError, RecursionError):  # not JSON: rejected before it is sent
                setattr(task, name, json.dumps(value))


def _mask(task: Any) -> None:
    texts = (text for name in task.template_fields for _, text in _texts_in(getattr(task, name, None)))
    if signatures := set().union(*map(signatures_in, texts)):
        from airflow.providers.common.compat.sdk import mask_secret

        # One call for all: each call is a request to the task's supervisor.
        mask_secret(list(signatures))


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
