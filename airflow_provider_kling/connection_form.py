# SPDX-License-Identifier: Apache-2.0
"""
The fields of a connection of type ``kling``, as Airflow's form shows them, and as errors call them.

Airflow reads the form at every start, so this module imports nothing of Airflow.
"""

from __future__ import annotations

from typing import Any

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema"],
    "relabeling": {"host": "Base URL", "login": "Access key", "password": "API key"},
    "placeholders": {
        "host": "https://api.example.com; may be empty for official (Singapore)",
        "login": "stays empty, unless an access key and its secret key are used",
        "password": "sk-..., api-key-kling-..., or the secret key of the access key",
        # Airflow 3.3 tests no stored connection without a port: its UI sends 0 for it, which counts as a change.
        "port": "Enter 0 (as in the Base URL): if empty, Test answers Bad Request",
    },
}


def _text(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def _number(label: str, description: str) -> dict[str, Any]:
    # The form cannot exclude its minimum, so it takes nothing between 0 and 1, which JSON may hold.
    return {"label": label, "description": description, "schema": {"type": ["number", "null"], "minimum": 1}}


def _whole_number(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["integer", "null"], "minimum": 1}}


def _switch(label: str, description: str) -> dict[str, Any]:
    # Without a default, the form shows the switch as off.
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["boolean", "null"], "default": True},
    }


CONN_FIELDS: dict[str, dict[str, Any]] = {
    "api": {
        "label": "API",
        "description": (
            "The API that is served at the Base URL: gateway (default) for POST /v1/video/generations, official "
            "for Kling's own platform and resellers with the same API."
        ),
        # A type without null makes the field required.
        "schema": {"type": "string", "enum": ["gateway", "official"], "default": "gateway"},
    },
    "connect_timeout": _number("Connect timeout", "Seconds to reach the server (default 10)."),
    "read_timeout": _number("Read timeout", "Seconds to wait for the response (default 60)."),
    "max_concurrent_jobs": _whole_number(
        "Jobs at once",
        "How many unfinished jobs the account may have at once (default: what the account reports, or unknown).",
    ),
    "max_requests_per_second": _number(
        "Requests per second",
        "Rate limit of status requests per process, shared by all waiting videos (default 50).",
    ),
    "private_hosts": _text(
        "Private hosts",
        "Hosts inside this network that a video URL may lead to, separated by commas: host (ports 80 and 443), "
        "host:port or https://host:port (default none).",
    ),
    "prices": {
        "label": "Prices",
        "description": (
            'JSON: the price of a second of video by model, and the currency, such as {"currency": "USD", '
            '"kling-v3-std-silent": 0.084}; for estimates and max_cost (default none).'
        ),
        # Text first: the form's editor of objects formats what is typed anew at every key.
        "schema": {"type": ["string", "object", "null"], "format": "multiline"},
    },
    "probe": _switch(
        "Probe before a submit", "Whether a free request first checks that the API is available (default true)."
    ),
    "proxy": _text("Proxy", "URL of an HTTP proxy; if empty, the environment's variables are used."),
    "refusal_codes": _text(
        "Refusal codes",
        "The vendor's error codes that prove that a submit bought nothing, separated by commas (default none).",
    ),
    "trust_env": _switch(
        "Use proxy variables", "Whether HTTP_PROXY and similar variables are used (default true)."
    ),
    "verify": _text(
        "Verify TLS", "true, false, or the path of a CA bundle (default true).", examples=["true", "false"]
    ),
}

_LABELS = {
    **UI_FIELD_BEHAVIOUR["relabeling"],
    "port": "Port",
    **{f"extra.{name}": field["label"] for name, field in CONN_FIELDS.items()},
}


def field_name(field: str) -> str:
    """
    Return what an error calls a field: its label in the form, and its name in a connection as JSON.

    :param field: The name in JSON, such as ``host`` or ``extra.proxy``.
    """
    return f"{_LABELS[field]} ({field})" if field in _LABELS else field
