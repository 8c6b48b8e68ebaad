# SPDX-License-Identifier: Apache-2.0
"""
Apache Airflow provider for Kling: from a prompt to a video file.

The names in ``__all__`` are public. They are imported on first use, so that a DAG file imports only what it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "KlingError": "exceptions",
    "KlingGenerateOperator": "operators.kling",
    "KlingHook": "hooks.kling",
    "KlingPermanentError": "exceptions",
    "KlingTaskSensor": "sensors.kling",
    "KlingTaskTrigger": "triggers.kling",
    "KlingToObjectStorageOperator": "transfers.kling_to_object_storage",
    "KlingVendorLink": "links.kling",
    "KlingVideo": "jobs.result",
    "KlingVideoLink": "links.kling",
    "VideoJob": "api.job",
    "VideoRequest": "api.request",
    "kling_retry_policy": "retry_policy",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 -- all are names


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
