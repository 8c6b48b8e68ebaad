# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

from airflow_provider_kling.client.connection import APIS, EXTRAS
from airflow_provider_kling.get_provider_info import get_provider_info
from airflow_provider_kling.hooks.kling import KlingHook

INFO = get_provider_info()


def class_of(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_it_is_valid_by_airflows_own_schema() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_it_imports_nothing_of_airflow() -> None:
    code = (
        "import sys; from airflow_provider_kling.get_provider_info import get_provider_info; get_provider_info();"
        "print([name for name in sys.modules if name.split('.')[0] in ('airflow', 'requests', 'aiohttp')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.usefixtures("installed")
def test_airflow_finds_it_by_its_entry_point() -> None:
    [entry] = [
        e for e in entry_points(group="apache_airflow_provider") if e.module.startswith("airflow_provider_kling")
    ]
    assert entry.load()() == INFO


@pytest.mark.usefixtures("installed")
@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")
def test_airflow_lists_the_connection_type() -> None:
    from airflow.providers_manager import ProvidersManager

    hook = ProvidersManager().hooks["kling"]
    assert hook is not None
    assert (hook.hook_class_name, hook.hook_name) == ("airflow_provider_kling.hooks.kling.KlingHook", "Kling")


@pytest.mark.usefixtures("installed")
def test_airflow_offers_the_decorator() -> None:
    from airflow.providers.common.compat.sdk import task

    from airflow_provider_kling.decorators.kling import kling_task

    assert task.kling is kling_task


@pytest.mark.parametrize("kind", ["hooks", "operators", "sensors", "triggers"])
def test_every_module_it_names_exists(kind: str) -> None:
    for group in INFO[kind]:
        for name in group["python-modules"]:
            importlib.import_module(name)


def test_every_class_it_names_exists() -> None:
    for transfer in INFO["transfers"]:
        importlib.import_module(transfer["python-module"])
    for path in INFO.get("extra-links", []):
        assert class_of(path).name
    for decorator in INFO["task-decorators"]:
        assert callable(class_of(decorator["class-name"]))
    [connection] = INFO["connection-types"]
    assert class_of(connection["hook-class-name"]) is KlingHook
    assert connection["connection-type"] == KlingHook.conn_type


def test_the_form_offers_the_extras_that_are_read_and_no_others() -> None:
    [connection] = INFO["connection-types"]
    assert set(connection["conn-fields"]) == set(EXTRAS)


def test_older_airflow_gets_the_same_form_from_the_hook() -> None:
    [connection] = INFO["connection-types"]
    new = connection["ui-field-behaviour"]
    old = KlingHook.get_ui_field_behaviour()
    labels = {"host": "Base URL", "login": "Access key", "password": "API key"}
    assert old["relabeling"] == new["relabeling"] == labels
    assert old["hidden_fields"] == new["hidden-fields"]
    assert set(old["placeholders"]) == set(labels)


def test_the_form_offers_every_api() -> None:
    [connection] = INFO["connection-types"]
    assert {*APIS, None} == set(connection["conn-fields"]["api"]["schema"]["enum"])


def test_older_airflow_gets_the_same_fields_from_the_hook() -> None:
    for library in ("flask_appbuilder", "flask_babel", "wtforms"):
        pytest.importorskip(library, reason="the form of Airflow before 3.2")
    assert set(KlingHook.get_connection_form_widgets()) == set(EXTRAS)
