# SPDX-License-Identifier: Apache-2.0
"""The metadata of the provider. Airflow reads it at every start, so this module imports nothing of Airflow."""

from __future__ import annotations

from typing import Any

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "port"],
    "relabeling": {"host": "Base URL", "login": "Access key", "password": "API key"},
    "placeholders": {
        "host": "https://api.example.com; for official, if empty: https://api-singapore.klingai.com",
        "login": "stays empty, unless an access key and its secret key are used",
        "password": "sk-..., api-key-kling-..., or the secret key of the access key",
    },
}


def _field(label: str, description: str, type_: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [type_, "null"]}}


CONN_FIELDS: dict[str, dict[str, Any]] = {
    "api": {
        "label": "API",
        "description": (
            "The API that is served at the base URL: gateway (default) for POST /v1/video/generations, official "
            "for Kling's own platform and resellers with the same API."
        ),
        "schema": {"type": ["string", "null"], "enum": ["gateway", "official", None]},
    },
    "connect_timeout": _field("Connect timeout", "Seconds to reach the server (default 10).", "number"),
    "read_timeout": _field("Read timeout", "Seconds to wait for the response (default 60).", "number"),
    "max_requests_per_second": _field(
        "Requests per second",
        "Rate limit of status requests per process, shared by all waiting videos (default 50).",
        "number",
    ),
    "private_hosts": _field(
        "Private hosts",
        "Hosts inside this network that a video URL may lead to, separated by commas: host (ports 80 and 443), "
        "host:port or https://host:port (default none).",
        "string",
    ),
    "prices": _field(
        "Prices",
        'JSON: the price of a second of video by model, and the currency, such as {"currency": "USD", '
        '"kling-v3-std-silent": 0.084}; for estimates and max_cost (default none).',
        "string",
    ),
    "probe": {
        "label": "Probe before a submit",
        "description": "Whether a free request first checks that the API is available (default true).",
        # Without a default, the form shows the switch as off.
        "schema": {"type": ["boolean", "null"], "default": True},
    },
    "proxy": _field("Proxy", "URL of an HTTP proxy; if empty, the environment's variables are used.", "string"),
    "refusal_codes": _field(
        "Refusal codes",
        "The vendor's error codes that prove that a submit bought nothing, separated by commas (default none).",
        "string",
    ),
    "trust_env": {
        "label": "Use proxy variables",
        "description": "Whether HTTP_PROXY and similar variables are used (default true).",
        # Without a default, the form shows the switch as off.
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
        "task-decorators": [{"class-name": "airflow_provider_kling.decorators.kling.kling_task", "name": "kling"}],
        "extra-links": [
            "airflow_provider_kling.links.kling.KlingVideoLink",
            "airflow_provider_kling.links.kling.KlingVendorLink",
        ],
        "config": {
            "kling": {
                "description": "How Kling tasks wait, and how the record of paid jobs is kept.",
                "options": {
                    "state_path": {
                        "description": (
                            "Folder of an object storage (any ``ObjectStoragePath``, such as "
                            "``s3://conn@bucket/kling-state``) for the record of which jobs a task has paid for, "
                            "so that a retry joins them. All workers must share it. Airflow 3.3 and later stores "
                            "the record in its task state store as well; before 3.3 and without a folder it is "
                            "stored in an Airflow Variable."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my_s3@my-bucket/kling-state",
                        "default": "",
                    },
                    "deployment": {
                        "description": (
                            "Name of this Airflow deployment, the same at all of its workers and at no other "
                            "deployment. With ``state = none``, a connection to Kling's own platform derives from "
                            "it the id by which a later attempt finds what an earlier one has bought."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "production",
                        "default": "",
                    },
                    "deferrable": {
                        "description": (
                            "Default of the argument ``deferrable`` of operators and sensors: whether they wait "
                            "on the triggerer. Airflow's ``[operators] default_deferrable`` is not read: its "
                            "default, false, cannot be distinguished from a choice."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": None,
                        "default": "True",
                    },
                    "sign_seconds": {
                        "description": (
                            "Seconds for which the signed URL of an image in an object storage is good, at most "
                            "604800. It ends earlier with the credentials that signed it, if these are temporary."
                        ),
                        "version_added": "0.1.0",
                        "type": "integer",
                        "example": None,
                        "default": "86400",
                    },
                    "stream_from": {
                        "description": (
                            "URIs of folders whose stored videos the Videos page plays through the API server, "
                            "separated by commas or whitespace. The path of a stored video comes from an XCom, "
                            "which every DAG author can write, so a file is streamed only from below one of them: "
                            "with the same scheme, connection and bucket. Without any, the page plays the "
                            "vendor's URL. A local folder is ``file:///folder``."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "s3://my_s3@my-bucket/clips, file:///data/clips",
                        "default": "",
                    },
                    "show_prompts": {
                        "description": (
                            "Whether prompts may be written down. ``false`` writes eight hexadecimal digits of a "
                            "hash instead: in results, records, labels, names of files, errors and logs. Set it "
                            "for all components of Airflow. What is sent, and what is bought, stays the same. "
                            "``docs/operators.md`` says what it cannot hide."
                        ),
                        "version_added": "0.1.0",
                        "type": "boolean",
                        "example": "False",
                        "default": "True",
                    },
                    "state": {
                        "description": (
                            "``none`` turns off the record in an Airflow Variable, which is used without a task "
                            "state store and a ``state_path``. Every attempt after the first then submits only "
                            "with ``on_uncertain='resubmit'`` or a person's decision, unless ``deployment`` is "
                            "set and the connection is to Kling's own platform."
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
