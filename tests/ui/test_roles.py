# SPDX-License-Identifier: Apache-2.0
"""Who may see what: without a login nothing, without a role nothing, and decisions only who may edit tasks."""

from __future__ import annotations

from urllib.parse import quote

import pytest
import requests
from playwright.sync_api import expect

from tests.ui.airflows import NOBODY, ROLES
from tests.ui.browser import Ui, own_frame, tab
from tests.ui.trailer import MADE, OPEN, Trailer


def pages_of(trailer: Trailer) -> list[str]:
    """Return the paths of all pages of a DAG, and of a video."""
    dag_id, run_id, task_id = trailer.key
    run = f"kling/dags/{dag_id}/runs/{quote(run_id, safe='')}"
    task = f"{run}/tasks/{task_id}"
    return [f"kling/dags/{dag_id}", run, task, f"{task}/{MADE}", f"{task}/{MADE}/file"]


def decision_on(trailer: Trailer) -> tuple[str, dict[str, object]]:
    """Return path and body of a decision, with a token that is none."""
    submit = {"task_id": trailer.key[2], "map_index": OPEN, "name": "kling_adopt_0123456789ab", "token": "x"}
    return f"{pages_of(trailer)[1]}/decisions", {"decision": "none", "submits": [submit]}


@pytest.mark.parametrize("with_path", [False, True], ids=["at the root", "under a base path"])
def test_nobody_gets_in_without_a_login(ui: Ui, trailer: Trailer, with_path: bool) -> None:
    path, body = decision_on(trailer)
    base = ui.base(with_path)
    seen = {
        page: requests.get(base + page, timeout=30).status_code for page in [*pages_of(trailer), "kling/videos"]
    }
    assert set(seen.values()) == {401}, seen
    assert requests.post(base + path, json=body, timeout=30).status_code == 401


def test_a_user_without_a_role_is_refused_everywhere(ui: Ui, trailer: Trailer) -> None:
    path, body = decision_on(trailer)
    with ui.page(NOBODY) as page:
        seen = {path: page.request.get(path).status for path in pages_of(trailer)}
        assert set(seen.values()) == {403}, seen
        assert page.request.post(path, data=body).status == 403
        # A list of what may be read, so of nothing.
        assert trailer.key[0] not in page.request.get("kling/videos").text()


@pytest.mark.parametrize("role", ROLES)
def test_every_role_sees_and_those_who_may_edit_tasks_decide(ui: Ui, trailer: Trailer, role: str) -> None:
    path, body = decision_on(trailer)
    with ui.page(role) as page:
        seen = {path: page.request.get(path).status for path in pages_of(trailer)}
        assert set(seen.values()) == {200}, seen
        answer = page.request.post(path, data=body)
        assert answer.status == (403 if role == "viewer" else 200)
        # Without the token of a page nothing is decided.
        assert role == "viewer" or [result["ok"] for result in answer.json()["results"]] == [False]


def test_a_viewer_has_no_buttons(ui: Ui, trailer: Trailer) -> None:
    with ui.page("viewer") as page:
        page.goto(tab(*trailer.key, OPEN))
        frame = own_frame(page)
        expect(frame.locator(".card")).to_have_count(1)
        expect(frame.get_by_role("button", name="take this id")).to_have_count(0)


def test_a_token_of_another_user_decides_nothing(ui: Ui, trailer: Trailer) -> None:
    with ui.page("admin") as page:
        page.goto(tab(*trailer.key, OPEN))
        data = own_frame(page).locator(".decide").evaluate("({dataset}) => ({...dataset})")
    path, _ = decision_on(trailer)
    submit = {"task_id": data["task"], "map_index": OPEN, "name": data["name"], "token": data["token"]}
    with ui.page("op") as page:
        answer = page.request.post(path, data={"decision": "none", "submits": [submit]}).json()
    assert [result["ok"] for result in answer["results"]] == [False]
    assert trailer.airflow.api.variable(data["name"]) is None
