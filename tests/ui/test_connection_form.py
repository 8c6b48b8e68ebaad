# SPDX-License-Identifier: Apache-2.0
"""The form of a connection, filled in by a person."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.ui.browser import Ui

CONN_ID = "kling_form"


def test_a_connection_is_made_in_the_form_and_tested(ui: Ui) -> None:
    with ui.page() as page:
        page.goto("connections")
        page.get_by_role("button", name="Add Connection").click()
        form = page.get_by_role("dialog")
        form.get_by_label("Connection ID").fill(CONN_ID)
        form.get_by_role("combobox").first.fill("Kling")
        form.get_by_role("option", name="Kling", exact=True).click()
        form.get_by_label("Base URL").fill(ui.airflow.sandbox.base_url)
        # As the form asks for it: without it, Airflow 3.3 does not test what is stored.
        form.get_by_label("Port").fill("0")
        form.get_by_label("API key").fill(ui.airflow.sandbox.api_key)
        ui.shoot(page, "connection")
        form.get_by_role("button", name="Save").click()
        row = page.get_by_role("row").filter(has_text=CONN_ID)
        with page.expect_response("**/connections/test") as tested:
            row.get_by_role("button", name="Test Connection").click()
        assert tested.value.json() == {
            "status": True,
            "message": "Connected: the API responds, and accepts the key.",
        }
        expect(row.get_by_role("button", name="Test Connection")).to_be_visible()
