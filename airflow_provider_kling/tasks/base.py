# SPDX-License-Identifier: Apache-2.0
"""The base of all tasks of this package: the hook, and rendered templates without what may not be shown."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow_provider_kling.jobs.shown_prompt import hide_prompts, prompt_hash, prompts_in
from airflow_provider_kling.tasks.rendered import masking_fields, render_texts, restore_nested_texts
from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_kling.client.redaction import Masks
    from airflow_provider_kling.hooks.kling import KlingHook

T = TypeVar("T")

#: Maximum length of a row's label in characters.
MAX_LABEL = 40


def label_of(prompt: str | None) -> str:
    """Return the first words of a prompt as a label, or its hash; empty without a prompt."""
    from airflow_provider_kling.shown_prompts import shows_prompts

    if prompt and prompt.strip() and not shows_prompts():
        # Not the digits alone: a DAG that renders to Python values could make a number of them.
        return f"prompt {prompt_hash(prompt)}"
    text = mask_signatures(" ".join((prompt or "").split()))
    return text if len(text) <= MAX_LABEL else f"{text[:MAX_LABEL].rpartition(' ')[0] or text[: MAX_LABEL - 1]}…"


class KlingTask:
    """A mixin for operators and sensors with ``kling_conn_id``; put it before Airflow's own class."""

    if TYPE_CHECKING:
        kling_conn_id: str

    #: Template fields that stay texts, even if the DAG renders templates to Python values.
    text_fields: ClassVar[Sequence[str]] = ("kling_conn_id",)
    #: Template fields with prompts. Without any, the task does not know which prompt a server may quote.
    prompt_fields: ClassVar[Sequence[str]] = ()

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], context: Any, jinja_env: Any, seen_oids: set[int]
    ) -> None:
        """Render as in every operator, mapped or not. What may not be shown is masked, and a text stays a text."""
        texts = [name for name in template_fields if name in self.text_fields]
        templates = {name: getattr(self, name, None) for name in template_fields}
        with masking_fields(self):
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

        hook = KlingHook(self.kling_conn_id)
        hook.masks = self._prompt_masks
        return hook

    @property
    def _prompt_masks(self) -> Masks | None:
        """What is masked in jobs and errors; None where prompts may be shown."""
        from airflow_provider_kling.shown_prompts import WITHHOLDING, masks_for, shows_prompts

        if shows_prompts():
            return None
        # A function of @task.kling is not called again for a task that resumes with its video.
        prompts = list(prompts_in({name: getattr(self, name) for name in self.prompt_fields}))
        return masks_for(prompts) if prompts else WITHHOLDING

    def _without_prompts(self, call: Callable[[], T]) -> T:
        """Return what a call returns, or raise its error, without the prompts if they are hidden."""
        from airflow_provider_kling.client.redaction import Masks, redact_outcome
        from airflow_provider_kling.shown_prompts import WITHHOLDING, shows_prompts

        if shows_prompts():
            return call()

        # Looked up when a text is masked: a function of @task.kling returns the prompts during the call.
        def masks() -> Masks:
            return self._prompt_masks or WITHHOLDING

        return redact_outcome(
            call,
            Masks(quote=lambda text: masks().quote(text), sentence=lambda text: masks().sentence(text)),
        )

    def _shown_prompt(self, prompt: str | None) -> str | None:
        """Return a prompt as the name of a file may have it."""
        shown: str | None = self._with_shown_prompts({"prompt": prompt})["prompt"]
        return shown

    def _with_shown_prompts(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the request of a result, which may be of an earlier task, as it may be shown."""
        from airflow_provider_kling.shown_prompts import shows_prompts

        return dict(request) if shows_prompts() else hide_prompts(request)

    def take_requests(self) -> int:
        """Return how many requests this process has sent to the API for this task since the last call."""
        hook = vars(self).get("_hook")
        return hook.take_requests() if hook else 0
