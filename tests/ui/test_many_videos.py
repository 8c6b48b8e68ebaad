# SPDX-License-Identifier: Apache-2.0
"""A run of 300 mapped videos."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.ui.browser import Ui, own_frame, serious_findings, tab
from tests.ui.catalogue import COUNT, DAG_ID, MODELS, TASK_ID, Catalogue, count_of, prompt_of
from tests.ui.trailer import FAILED, MADE, MAKING, WAITING


def test_all_cards_are_there_in_mapped_order_and_can_be_filtered(ui: Ui, catalogue: Catalogue) -> None:
    with ui.page() as page:
        files: list[str] = []
        page.on("request", lambda request: files.append(request.url) if request.url.endswith("/file") else None)
        page.goto(tab(DAG_ID, catalogue.run_id))
        frame = own_frame(page)
        cards = frame.locator(".card")
        expect(cards).to_have_count(COUNT)
        assert frame.locator(".card .prompt").all_text_contents() == [prompt_of(index) for index in range(COUNT)]
        # Only the players near the window ask for their file.
        assert len(set(files)) < COUNT // 10
        totals = frame.get_by_role("region", name="Totals")
        for state, label in {
            MADE: "Made",
            MAKING: "In progress",
            WAITING: "Waiting for a slot",
            FAILED: "Failed",
        }.items():
            expect(totals.locator("div", has_text=label).first).to_contain_text(str(count_of(state)))
        ui.shoot(page, "many")

        frame.get_by_label("Status").select_option("Failed")
        expect(cards).to_have_count(count_of(FAILED))
        frame.get_by_label("Model").select_option(MODELS[0])
        expect(cards).to_have_count(0)
        frame.get_by_label("Model").select_option(MODELS[1])
        expect(cards).to_have_count(count_of(FAILED))
        frame.get_by_label("Status").select_option("All")
        expect(cards).to_have_count(COUNT // 2)
        frame.get_by_label("Model").select_option("All")
        frame.get_by_label("Search in prompts").fill("SEA 00:07")
        expect(cards).to_have_count(1)
        expect(cards).to_contain_text(prompt_of(7))
        frame.get_by_label("Search in prompts").fill("")
        expect(cards).to_have_count(COUNT)
        assert serious_findings(frame) == ""


def test_the_tab_of_the_mapped_task_has_all_of_them_too(ui: Ui, catalogue: Catalogue) -> None:
    with ui.page() as page:
        page.goto(tab(DAG_ID, catalogue.run_id, TASK_ID))
        expect(own_frame(page).locator(".card")).to_have_count(COUNT)
