# SPDX-License-Identifier: Apache-2.0
"""The option ``[kling] show_prompts``: whether prompts may be written down."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.providers.common.compat.sdk import conf

from airflow_provider_kling.client.redaction import Masks
from airflow_provider_kling.jobs.shown_prompt import PromptMask

#: What stands for the server's own words where they may quote a prompt that is not known here.
WITHHELD = "(not shown: it may quote the prompt, and [kling] show_prompts is false)"


def shows_prompts() -> bool:
    """Return whether prompts may be written down. Call it when a task runs, not when its DAG is parsed."""
    return bool(conf.getboolean("kling", "show_prompts", fallback=True))


def masks_for(prompts: Iterable[str]) -> Masks:
    """
    Return how jobs and errors are masked where prompts may not be written down.

    :param prompts: The prompts that a server may quote.
    """
    mask = PromptMask(prompts)
    return Masks(quote=mask, sentence=mask)


def _withheld(text: str) -> str:
    return WITHHELD if text else text


#: How they are masked where the prompts are not known: the server's own words are withheld.
WITHHOLDING = Masks(quote=_withheld)
