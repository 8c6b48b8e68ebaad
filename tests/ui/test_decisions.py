# SPDX-License-Identifier: Apache-2.0
"""The two buttons of a submit whose response was lost."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Frame, Page, expect

from tests.ui.browser import Ui, own_frame, serious_findings, tab
from tests.ui.trailer import FOUND, MISSING, OPEN, PATIENCE, PROMPTS, Trailer


def variable_of(trailer: Trailer, index: int) -> str:
    """Return the name of the Variable that takes a decision; the task names it until it is cleared."""
    return str(trailer.airflow.api.xcom(*trailer.key, key="kling_uncertain", map_index=index)["name"])


def word_of(trailer: Trailer, index: int) -> str | None:
    """Return what was decided."""
    return trailer.airflow.api.variable(variable_of(trailer, index))


def request_of(frame: Frame) -> tuple[str, dict[str, Any]]:
    """Return address and body of the request that the page would send for its first submit: there is no job."""
    submit = frame.locator(".decide").first.evaluate(
        """({dataset}) => ({task_id: dataset.task, map_index: Number(dataset.mapIndex), name: dataset.name,
                            token: dataset.token})"""
    )
    return frame.locator("#live").get_attribute("data-decisions") or "", {"decision": "none", "submits": [submit]}


def is_refused(page: Page, url: str, body: dict[str, Any]) -> bool:
    """Send a decision on one submit, and tell whether it was not taken."""
    [result] = page.request.post(url, data=body).json()["results"]
    return not result["ok"]


def until_bought(trailer: Trailer, index: int, count: int) -> None:
    trailer.airflow.cluster.wait_for(
        lambda: len(trailer.jobs_of(index)) == count and trailer.state_of(index) == "deferred",
        f"{count} jobs for {PROMPTS[index]!r}",
        timeout=PATIENCE,
    )


def test_a_job_that_a_person_found_is_taken(ui: Ui, trailer: Trailer) -> None:
    [job] = trailer.jobs_of(FOUND)
    with ui.page("user") as page:
        page.goto(tab(*trailer.key, FOUND))
        frame = own_frame(page)
        url, body = request_of(frame)
        ui.shoot(page, "decision")
        frame.get_by_role("button", name="I found it: take this id").click()
        dialog = frame.get_by_role("dialog")
        expect(dialog).to_contain_text("paid for")
        assert serious_findings(frame) == ""
        dialog.get_by_label("Kling task id").fill(job)
        dialog.get_by_role("button", name="Take this id").click()
        expect(frame.locator(".said")).to_contain_text(job)
        assert word_of(trailer, FOUND) == job
        # A word is given once.
        assert is_refused(page, url, body)

        trailer.airflow.api.clear_task(*trailer.key, map_indexes=[FOUND])
        until_bought(trailer, FOUND, 1)
        assert is_refused(page, url, body)


def test_submits_that_a_person_did_not_find_are_sent_again_together(ui: Ui, trailer: Trailer) -> None:
    with ui.page("user", with_path=True) as page:
        page.goto(tab(*trailer.key[:2]))
        frame = own_frame(page)
        frame.get_by_role("button", name="Select all that need a decision").click()
        frame.locator(".card", has_text=PROMPTS[OPEN]).get_by_role("checkbox").uncheck()
        again = frame.get_by_role("button", name="I looked, there are none: submit again")
        again.click()
        dialog = frame.get_by_role("dialog")
        expect(dialog).to_contain_text("paid for twice")
        ui.shoot(page, "confirmation")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert [word_of(trailer, index) for index in MISSING] == [None] * len(MISSING)

        again.click()
        dialog.get_by_role("button", name=f"Submit {len(MISSING)} again").click()
        expect(frame.locator(".said")).to_have_count(len(MISSING))
        assert [word_of(trailer, index) for index in (*MISSING, OPEN)] == [*["none"] * len(MISSING), None]
    trailer.airflow.api.clear_task(*trailer.key, map_indexes=MISSING)
    for index in MISSING:
        until_bought(trailer, index, 2)
    log = trailer.airflow.api.request("GET", "eventLogs", params={"event": "kling_decision"})["event_logs"]
    assert {(entry["owner"], entry["map_index"]) for entry in log} >= {("user", index) for index in MISSING}
