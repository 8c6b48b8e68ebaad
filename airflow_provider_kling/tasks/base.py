# SPDX-License-Identifier: Apache-2.0
"""What all tasks of this package share: the hook, and rendered templates without signatures of URLs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.tasks.rendered import masking_signatures

if TYPE_CHECKING:
    from airflow_provider_kling.hooks.kling import KlingHook


class KlingTask:
    """A mixin for operators and sensors with ``kling_conn_id``; put it before Airflow's own class."""

    if TYPE_CHECKING:
        kling_conn_id: str

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        """Render as every operator does, mapped or not, with the signatures of URLs masked."""
        with masking_signatures(self):
            super()._do_render_template_fields(*args, **kwargs)  # type: ignore[misc]

    @cached_property
    def _hook(self) -> KlingHook:
        from airflow_provider_kling.hooks.kling import KlingHook

        return KlingHook(self.kling_conn_id)
