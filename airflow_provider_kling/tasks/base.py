# SPDX-License-Identifier: Apache-2.0
"""The base of all tasks of this package: the hook, and rendered templates without signatures of URLs."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_kling.tasks.rendered import masking_signatures, render_texts, restore_nested_texts
from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow_provider_kling.hooks.kling import KlingHook

#: Maximum length of a row's label in characters.
MAX_LABEL = 40


def label_of(prompt: str | None) -> str:
    """Return the first words of a prompt as a label; empty without a prompt."""
    text = mask_signatures(" ".join((prompt or "").split()))
    return text if len(text) <= MAX_LABEL else f"{text[:MAX_LABEL].rpartition(' ')[0] or text[: MAX_LABEL - 1]}…"


class KlingTask:
    """A mixin for operators and sensors with ``kling_conn_id``; put it before Airflow's own class."""

    if TYPE_CHECKING:
        kling_conn_id: str

    #: Template fields that stay texts, even if the DAG renders templates to Python values.
    text_fields: ClassVar[Sequence[str]] = ("kling_conn_id",)

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render as in every operator, mapped or not. Signatures of URLs are masked, and a text stays a text."""
        texts = [name for name in template_fields if name in self.text_fields]
        templates = {name: getattr(self, name, None) for name in template_fields}
        with masking_signatures(self):
            finished = render_texts(self, texts, context, jinja_env)
            others = [name for name in template_fields if name not in finished]
            super()._do_render_template_fields(parent, others, context, jinja_env, seen_oids)  # type: ignore[misc]
            for name in others:
                restore_nested_texts(templates[name], getattr(self, name, None), context, jinja_env)
        for name in texts:
            value = getattr(self, name, None)
            if isinstance(value, (int, float, date)) and not isinstance(value, bool):
                setattr(self, name, str(value))  # the output of another task

    @cached_property
    def _hook(self) -> KlingHook:
        from airflow_provider_kling.hooks.kling import KlingHook

        return KlingHook(self.kling_conn_id)

    def take_requests(self) -> int:
        """Return how many requests this process has sent to the API for this task since the last call."""
        hook = vars(self).get("_hook")
        return hook.take_requests() if hook else 0
