# SPDX-License-Identifier: Apache-2.0
"""Keep the signatures of URLs out of Airflow's Rendered Templates and of task logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.signed_urls import signatures_in

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator


@contextmanager
def masking_signatures(task: BaseOperator) -> Iterator[None]:
    """
    Have Airflow mask the signatures in a task's template fields while and after they are rendered.

    Use it in ``_do_render_template_fields``, since ``render_template_fields`` is not called for a mapped task.
    They are registered before as well as after, since a template that fails is logged as it is written.
    """
    _mask(task)
    try:
        yield
    finally:
        _mask(task)


def _mask(task: BaseOperator) -> None:
    texts = _texts_in([getattr(task, name, None) for name in task.template_fields])
    if found := set().union(*map(signatures_in, texts)):
        from airflow.providers.common.compat.sdk import mask_secret

        # All at once: each call is a request to the supervisor of the task.
        mask_secret(list(found))


def _texts_in(value: Any) -> Iterator[str]:
    """Yield every text in nested lists and dicts."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            left += [*value, *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            left += value
