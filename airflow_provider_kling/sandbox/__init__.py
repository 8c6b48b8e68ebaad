# SPDX-License-Identifier: Apache-2.0
"""
A local Kling server for DAG development, CI and demos at no cost.

Start it with ``python -m airflow_provider_kling.sandbox``, or in a test with ``with Sandbox() as sandbox:``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_kling.sandbox.client import SandboxClient
    from airflow_provider_kling.sandbox.dialects import DIALECTS, Dialect
    from airflow_provider_kling.sandbox.faults import KINDS, Fault
    from airflow_provider_kling.sandbox.official.handlers import OfficialOptions
    from airflow_provider_kling.sandbox.server import Sandbox

__all__ = ["DIALECTS", "KINDS", "Dialect", "Fault", "OfficialOptions", "Sandbox", "SandboxClient"]

_HOMES = {
    "DIALECTS": "dialects",
    "Dialect": "dialects",
    "Fault": "faults",
    "KINDS": "faults",
    "OfficialOptions": "official.handlers",
    "Sandbox": "server",
    "SandboxClient": "client",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use: the client needs no server, and the server needs no encoder at its start."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
