# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import airflow
import jsonschema
import pytest
from packaging.version import Version

from airflow_provider_kling.client.connection import APIS, DEFAULT_API, EXTRAS, KlingConnection
from airflow_provider_kling.connection_form import field_name
from airflow_provider_kling.get_provider_info import get_provider_info
from airflow_provider_kling.hooks.kling import KlingHook

INFO = get_provider_info()
FIELDS: dict[str, Any] = INFO["connection-types"][0]["conn-fields"]


def parse(**fields: Any) -> KlingConnection:
    return KlingConnection.parse(conn_id="kling", host="api.example.com", password="sk-1234567890", **fields)


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
    assert set(old["placeholders"]) == {*labels, "port"}


def test_the_form_offers_every_api() -> None:
    assert list(APIS) == FIELDS["api"]["schema"]["enum"]


def takes(name: str, value: Any) -> bool:
    """Whether the form of Airflow 3.2 and later lets a value be saved."""
    schema = FIELDS[name]["schema"]
    # It lets a field be empty if its list of types has null in it.
    if value is None:
        return isinstance(schema["type"], list) and "null" in schema["type"]
    return bool(jsonschema.Draft202012Validator(schema).is_valid(value))


@pytest.mark.parametrize("name", EXTRAS)
def test_only_the_api_is_required_and_it_is_chosen_already(name: str) -> None:
    assert takes(name, None) == (name != "api")
    assert FIELDS["api"]["schema"]["default"] == DEFAULT_API


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "max_requests_per_second"])
def test_no_number_can_be_entered_that_the_connection_refuses(name: str) -> None:
    assert [value for value in (-1, 0, 1, 2.5, "soon") if takes(name, value)] == [1, 2.5]


def test_the_form_takes_whole_numbers_of_jobs_only() -> None:
    assert [value for value in (-1, 0, 1, 2.5, 20, "many") if takes("max_concurrent_jobs", value)] == [1, 20]


def test_prices_may_be_text_or_json() -> None:
    table = {"currency": "USD", "kling-v3-std-silent": 0.084}
    assert takes("prices", table)
    assert takes("prices", json.dumps(table))


@pytest.mark.parametrize("name", EXTRAS)
def test_a_form_that_is_saved_as_it_opens_makes_a_connection(name: str) -> None:
    extra = {name: FIELDS[name]["schema"].get("default")}
    assert parse(extra=extra) == parse()


@pytest.mark.parametrize("port", [0, None])
def test_the_port_is_visible_since_airflow_tests_no_connection_without_one(port: int | None) -> None:
    behaviour = KlingHook.get_ui_field_behaviour()
    assert "port" not in behaviour["hidden_fields"]
    assert "0" in behaviour["placeholders"]["port"]
    assert parse(port=port).base_url == "https://api.example.com"


def test_an_error_calls_every_field_by_its_label() -> None:
    for name, label in INFO["connection-types"][0]["ui-field-behaviour"]["relabeling"].items():
        assert field_name(name) == f"{label} ({name})"
    for name, field in FIELDS.items():
        assert field_name(f"extra.{name}") == f"{field['label']} (extra.{name})"
    assert field_name("extra.unknown") == "extra.unknown"


def test_the_page_of_providers_has_a_link() -> None:
    """Without one, Airflow leads to a page below airflow.apache.org that exists for its own providers only."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    [integration] = INFO["integrations"]
    assert project["urls"]["Documentation"] == integration["external-doc-url"]
    assert urlsplit(integration["external-doc-url"]).scheme == "https"


def old_form(**values: str) -> dict[str, Any]:
    """The errors of the form of Airflow 2, which builds it from the hook's widgets."""
    for library in ("flask_appbuilder", "flask_babel", "wtforms"):
        pytest.importorskip(library, reason="the form of Airflow before 3.2")
    from flask import Flask
    from flask_babel import Babel
    from werkzeug.datastructures import MultiDict
    from wtforms import Form

    app = Flask(__name__)
    Babel(app)
    with app.test_request_context():
        form = type("ConnectionForm", (Form,), KlingHook.get_connection_form_widgets())(MultiDict(values))
        form.validate()
        return dict(form.errors)


def test_older_airflow_gets_the_same_fields_from_the_hook() -> None:
    assert old_form(**dict.fromkeys(EXTRAS, "")) == {}
    assert set(KlingHook.get_connection_form_widgets()) == set(EXTRAS)


def test_older_airflow_checks_them_too() -> None:
    right = {"api": "official", "probe": "false", "trust_env": "true", "read_timeout": "30", "verify": "/ca.pem"}
    assert old_form(**right) == {}
    wrong = {"api": "kling", "probe": "maybe", "read_timeout": "0", "connect_timeout": "soon"}
    wrong |= {"max_concurrent_jobs": "0"}
    assert set(old_form(**wrong)) == set(wrong)


@pytest.mark.skipif(Version(airflow.__version__) < Version("3.1"), reason="the form of Airflow 3.1 and later")
@pytest.mark.usefixtures("installed")
def test_the_ui_of_airflow_gets_the_form() -> None:
    """What the UI's form is built from, on a server without Flask, as Airflow 3 is by default."""
    code = """
import json
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
[kling] = [meta for meta in HookMetaService.hook_meta_data() if meta.connection_type == "kling"]
print(json.dumps([kling.standard_fields.model_dump(), {name: dict(f) for name, f in kling.extra_fields.items()}]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fields, extras = json.loads(run.stdout.splitlines()[-1])
    assert fields["host"]["title"] == "Base URL"
    assert not fields["port"]["hidden"]
    assert extras["api"]["schema"]["enum"] == list(APIS)
    assert set(extras) == set(EXTRAS)
