# SPDX-License-Identifier: Apache-2.0
"""The cards of a run, one in each state; the player; the page of others' tasks; themes, widths and barriers."""

from __future__ import annotations

import pytest
from playwright.sync_api import Frame, Locator, Page, expect

from tests.ui.browser import PATIENCE, PHONE, Ui, own_frame, serious_findings, tab
from tests.ui.trailer import FAILED, MADE, MAKING, PROMPTS, REASON, UNCERTAIN, WAITING, Trailer

STATUSES = {
    MADE: "Made",
    MAKING: "Being made",
    FAILED: "Failed",
    **dict.fromkeys(UNCERTAIN, "Needs a decision"),
    WAITING: "Waiting for a slot",
}
BACKGROUND = "getComputedStyle(document.querySelector('.card')).backgroundColor"
PLAYED = "video => video.currentTime > 0.5 && !video.error"


def card(frame: Frame, index: int) -> Locator:
    """Return the card of a prompt."""
    return frame.locator(".card", has_text=PROMPTS[index])


def until(page: Page, video: Locator, condition: str) -> None:
    """Wait until a condition on a player holds."""
    page.wait_for_function(condition, arg=video.element_handle(), timeout=PATIENCE * 1000)


def test_each_card_tells_what_became_of_its_video(ui: Ui, trailer: Trailer) -> None:
    with ui.page() as page:
        page.goto(tab(*trailer.key[:2]))
        frame = own_frame(page)
        expect(frame.locator(".card")).to_have_count(len(PROMPTS))
        for index, status in STATUSES.items():
            expect(card(frame, index).locator(".badge")).to_have_text(status)
        expect(card(frame, MADE)).to_contain_text("kling-v3-std-silent")
        expect(card(frame, MADE)).to_contain_text(f"file://{ui.airflow.videos}/")
        expect(card(frame, MADE)).to_contain_text(trailer.job_of(MADE))
        expect(card(frame, MAKING).get_by_role("progressbar")).to_be_visible()
        ui.shoot(page, "run")


def test_a_failed_card_says_why_and_what_to_do(ui: Ui, trailer: Trailer) -> None:
    with ui.page() as page:
        page.goto(tab(*trailer.key, FAILED))
        frame = own_frame(page)
        expect(frame.locator(".card")).to_have_count(1)
        expect(card(frame, FAILED)).to_contain_text(REASON)
        assert card(frame, FAILED).locator(".advice").inner_text()
        ui.shoot(page, "failed")


@pytest.mark.parametrize("with_path", [False, True], ids=["at the root", "under a base path"])
def test_a_stored_video_plays_and_seeks(ui: Ui, trailer: Trailer, with_path: bool) -> None:
    with ui.page(with_path=with_path) as page:
        streamed: list[tuple[str, int]] = []
        page.on("response", lambda response: streamed.append((response.url, response.status)))
        page.goto(tab(*trailer.key, MADE))
        video = own_frame(page).locator("video")
        video.evaluate("video => { video.muted = true }")
        video.focus()
        page.keyboard.press("Space")
        until(page, video, PLAYED)
        assert video.evaluate("video => [video.videoWidth, video.videoHeight]") == [1280, 720]
        if not with_path:
            ui.shoot(page, "made")
        video.evaluate("video => { video.pause(); video.currentTime = 4.5 }")
        until(page, video, "video => !video.seeking && video.currentTime === 4.5 && video.readyState >= 2")
        assert video.evaluate("video => video.duration") == pytest.approx(5, abs=0.2)
    # Through the API server, in ranges.
    statuses = {status for url, status in streamed if url.startswith(ui.base(with_path)) and url.endswith("/file")}
    assert statuses == {206}


def test_others_tasks_have_a_page_that_explains_itself(ui: Ui, trailer: Trailer) -> None:
    with ui.page() as page:
        page.goto(tab(*trailer.key[:2], "prompts"))
        frame = own_frame(page)
        expect(frame.get_by_role("heading", name="No Kling videos here")).to_be_visible()
        assert serious_findings(frame) == ""


def test_the_navigation_leads_to_the_videos_of_all_dags(ui: Ui, trailer: Trailer) -> None:
    with ui.page() as page:
        page.goto("plugin/kling-videos")
        frame = own_frame(page)
        expect(frame.get_by_role("link", name=trailer.key[0]).first).to_be_visible()
        assert serious_findings(frame) == ""
        page.goto(tab(trailer.key[0]))
        frame = own_frame(page)
        expect(card(frame, MADE).first).to_be_visible()
        assert serious_findings(frame) == ""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_cards_are_without_barriers_in_both_themes(ui: Ui, trailer: Trailer, dark: bool) -> None:
    with ui.page(dark=dark) as page:
        page.goto(tab(*trailer.key[:2]))
        frame = own_frame(page)
        expect(frame.locator(".card")).to_have_count(len(PROMPTS))
        red, green, blue = frame.evaluate(f"{BACKGROUND}.match(/[\\d.]+/g).slice(0, 3).map(Number)")
        assert (red + green + blue < 3 * 128) == dark
        assert serious_findings(frame) == ""
        if dark:
            ui.shoot(page, "dark")


def test_a_theme_that_is_changed_reaches_the_open_page(ui: Ui, trailer: Trailer) -> None:
    with ui.page() as page:
        page.goto(tab(*trailer.key[:2]))
        frame = own_frame(page)
        light = frame.evaluate(BACKGROUND)
        page.evaluate("document.documentElement.classList.replace('light', 'dark')")
        frame.wait_for_function(f"{BACKGROUND} !== '{light}'")


def test_a_phone_shows_a_card_without_scrolling_sideways(ui: Ui, trailer: Trailer) -> None:
    with ui.page(size=PHONE) as page:
        page.goto(f"kling/dags/{trailer.key[0]}/runs/{trailer.run_id.replace('+', '%2B')}")
        expect(page.locator(".card")).to_have_count(len(PROMPTS))
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert serious_findings(page) == ""
        ui.shoot(page, "phone")


def test_the_id_can_be_copied_with_the_keyboard(ui: Ui, trailer: Trailer) -> None:
    with ui.page() as page:
        page.goto(tab(*trailer.key, MADE))
        copy = own_frame(page).get_by_role("button", name="Copy the Kling task id")
        copy.focus()
        page.keyboard.press("Enter")
        expect(copy).to_have_text("Copied")
