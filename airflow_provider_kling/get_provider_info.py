# SPDX-License-Identifier: Apache-2.0
"""What this package tells Airflow of itself. Read at every start of Airflow, so it imports nothing of it."""

from __future__ import annotations

from typing import Any

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "login", "port"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {"host": "https://api.example.com", "password": "sk-..."},
}


def _field(label: str, description: str, type_: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [type_, "null"]}}


CONN_FIELDS: dict[str, dict[str, Any]] = {
    "api": {
        "label": "API",
        "description": "The API that is served at the base URL (default gateway).",
        "schema": {"type": ["string", "null"], "enum": ["gateway", None]},
    },
    "connect_timeout": _field("Connect timeout", "Seconds to reach the server (default 10).", "number"),
    "read_timeout": _field("Read timeout", "Seconds to wait for an answer (default 60).", "number"),
    "max_requests_per_second": _field(
        "Requests per second",
        "RateLimiter of status requests per process, shared by all waiting videos (default 50).",
        "number",
    ),
    "private_hosts": _field(
        "Private hosts",
        "Hosts inside this network that a video URL may lead to, with commas between: host (ports 80 and 443), "
        "host:port or https://host:port (default none).",
        "string",
    ),
    "probe": {
        "label": "Probe before a submit",
        "description": "Whether a free request first sees whether the API is there (default true).",
        # Without a default, the form shows a switch that is off.
        "schema": {"type": ["boolean", "null"], "default": True},
    },
    "proxy": _field("Proxy", "URL of an HTTP proxy; without one, the environment's variables count.", "string"),
    "refusal_codes": _field(
        "Refusal codes",
        "The vendor's own error codes that surely buy nothing, with commas between (default none).",
        "string",
    ),
    "trust_env": {
        "label": "Use proxy variables",
        "description": "Whether HTTP_PROXY and the like count (default true).",
        # Without a default, the form shows a switch that is off.
        "schema": {"type": ["boolean", "null"], "default": True},
    },
    "verify": _field("Verify TLS", "true, false, or the path of a CA bundle (default true).", "string"),
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-kling",
        "name": "Kling",
        "description": "Generate Kling videos as dependable steps of a DAG: submit, wait without a worker, store.",
        "integrations": [
            {"integration-name": "Kling", "external-doc-url": "https://klingai.com", "tags": ["ai", "video"]}
        ],
        "hooks": _modules("hooks.kling"),
        "operators": _modules("operators.kling"),
        "sensors": _modules("sensors.kling"),
        "triggers": _modules("triggers.kling"),
        "transfers": [
            {
                "source-integration-name": "Kling",
                "target-integration-name": "Kling",
                "python-module": "airflow_provider_kling.transfers.kling_to_object_storage",
            }
        ],
        "extra-links": ["airflow_provider_kling.links.kling.KlingVideoLink"],
        "config": {
            "kling": {
                "description": "How Kling tasks wait, and how the record of paid jobs is kept.",
                "options": {
                    "state_path": {
                        "description": (
                            "Folder of an object storage (any ``ObjectStoragePath``, such as "
                            "``s3://conn@bucket/kling-state``) for the record of which jobs a task has paid for, "
                            "so that a retry joins them. Workers must share it. Airflow 3.3 and later keeps the "
                            "record in its task state store as well; before 3.3 and without a folder it lies in "
                            "an Airflow Variable."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my_s3@my-bucket/kling-state",
                        "default": "",
                    },
                    "deferrable": {
                        "description": (
                            "Whether operators and sensors that do not say so themselves wait on the triggerer. "
                            "Airflow's ``[operators] default_deferrable`` is not read: its default, false, cannot "
                            "be told from a choice."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "state": {
                        "description": (
                            "``none`` keeps no record in an Airflow Variable where there is neither a task state "
                            "store nor a ``state_path``; every attempt after the first then needs "
                            "``on_uncertain='resubmit'`` or a person's word to submit."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "none",
                        "default": "auto",
                    },
                },
            }
        },
        "connection-types": [
            {
                "connection-type": "kling",
                "hook-class-name": "airflow_provider_kling.hooks.kling.KlingHook",
                "hook-name": "Kling",
                "conn-fields": CONN_FIELDS,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
    }


def _modules(name: str) -> list[dict[str, Any]]:
    return [{"integration-name": "Kling", "python-modules": [f"airflow_provider_kling.{name}"]}]
