# SPDX-License-Identifier: Apache-2.0
"""A person's way from the button that starts a run to the video that plays."""

from __future__ import annotations

import re

from playwright.sync_api import Frame, Page, expect

from airflow_provider_kling.sandbox import Fault
from tests.ui.browser import PATIENCE, Ui, own_frame, tab

DAG_ID, TASK_ID = "one_video", "generate"
PROMPT = "A glass of tea on a window sill, steam in the morning light."
RUN_SECONDS = 80
BAR_SECONDS = 60.0
"""Seconds to wait for the bar to move: the triggerer reports every 10, the page asks every 5."""


def start_in_the_ui(page: Page, ui: Ui) -> str:
    """Fill in the params of a run, start it, and return its id."""
    page.goto(f"dags/{DAG_ID}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog")
    form.locator("#element_prompt").fill(PROMPT)
    form.locator("#element_folder").fill(f"file://{ui.airflow.videos}/")
    with page.expect_response(re.compile("/dagRuns$")) as response:
        form.get_by_role("button", name="Trigger", exact=True).click()
    return str(response.value.json()["dag_run_id"])


def percent_of(frame: Frame) -> int:
    return int(frame.locator("progress").get_attribute("value") or 0)


def test_a_run_is_started_and_its_video_is_watched(ui: Ui) -> None:
    airflow = ui.airflow
    airflow.sandbox.add_fault(Fault("submit", "pace", match=PROMPT, seconds=RUN_SECONDS))
    with ui.page() as page:
        run_id = start_in_the_ui(page, ui)
        airflow.api.wait_for_task(DAG_ID, run_id, TASK_ID, states={"deferred"})

        # Airflow's own page of the task leads here, from the submit on.
        page.goto(f"dags/{DAG_ID}/runs/{run_id.replace('+', '%2B')}/tasks/{TASK_ID}/details")
        link = page.get_by_role("link", name="Kling video", exact=True)
        # Airflow 3.1 opens every link in a tab of its own.
        link.evaluate("link => { link.target = '_self' }")
        link.click()
        page.wait_for_url("**/plugin/kling")
        frame = own_frame(page)
        bar = frame.locator("progress[value]:not([value='0'])")
        expect(bar).to_be_visible(timeout=BAR_SECONDS * 1000)
        before = percent_of(frame)
        ui.shoot(page, "progress")
        expect(bar).not_to_have_attribute("value", str(before), timeout=BAR_SECONDS * 1000)
        assert before < percent_of(frame) < 100

        [job] = [entry["id"] for entry in airflow.sandbox.ledger() if entry["request"]["prompt"] == PROMPT]
        airflow.sandbox.finish(job)
        # The card turns into a player by itself.
        video = frame.locator("video")
        expect(video).to_be_visible(timeout=BAR_SECONDS * 1000)
        expect(frame.locator(".badge")).to_have_text("Made", timeout=PATIENCE * 1000)
        video.evaluate("video => { video.muted = true; return video.play() }")
        page.wait_for_function("video => video.currentTime > 0.5", arg=video.element_handle())

        page.goto(tab(DAG_ID, run_id, "tidy"))
        expect(own_frame(page).get_by_role("heading", name="No Kling videos here")).to_be_visible()
