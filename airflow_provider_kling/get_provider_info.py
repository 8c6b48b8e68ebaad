# SPDX-License-Identifier: Apache-2.0
"""The metadata of the provider. Airflow reads it at every start, so this module imports nothing of Airflow."""

from __future__ import annotations

from typing import Any

from airflow_provider_kling.connection_form import CONN_FIELDS, UI_FIELD_BEHAVIOUR


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-provider-kling",
        "name": "Kling",
        "description": "Generate Kling videos as dependable steps of a DAG: submit, wait without a worker, store.",
        "integrations": [
            {
                "integration-name": "Kling",
                "external-doc-url": "https://kling.ai/document-api",
                "tags": ["ai", "video"],
            }
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
