# SPDX-License-Identifier: Apache-2.0
"""The pages as Airflow's API server serves them: who may see which, and what is in them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_kling.version_compat import AIRFLOW_V_3_1_PLUS

if not AIRFLOW_V_3_1_PLUS:
    pytest.skip("Airflow before 3.1 has no such pages", allow_module_level=True)

from airflow.sdk.bases.xcom import BaseXCom
from sqlalchemy import event

from airflow_provider_kling.videos_page import app, rows
from airflow_provider_kling.videos_page.plugin import KlingVideosPlugin
from tests.fixtures.api_server import ApiServer, path_of

RUN = "manual__2026-11-26T10:00:00+00:00"
RUN_PATH = path_of("dags", "reel", "runs", RUN)
TASK_PATH = f"{RUN_PATH}/tasks/generate"
PAGES = (f"{TASK_PATH}/-1", TASK_PATH, RUN_PATH, "/dags/reel")
STATIC = ("/static/page.js", "/static/page.css", "/static/icon.svg", "/static/icon-dark.svg")
SECRET = "abcdefghijklmnopqrstuvwxyz"
URL = f"https://cdn.example.com/a.mp4?X-Amz-Signature={SECRET}&X-Amz-Date=20990101T000000Z&X-Amz-Expires=86400"
SUBMITTED = {
    "kling_task_id": "task_697a1f",
    "kling_submitted_at": 1_700_000_000.0,
    "kling_estimated_cost": {"amount": 0.42, "currency": "USD"},
    "kling_request": {
        "model": "kling-v3-std-audio",
        "prompt": "A traveler",
        "duration": 5,
        "aspect_ratio": "16:9",
    },
}
INTENT = {"name": "kling_adopt_0123456789ab", "sent_at": "2026-11-26 10:00:00+00:00"}


@pytest.fixture(autouse=True)
def run(api_server: ApiServer) -> Iterator[None]:
    api_server.add_run()
    yield
    api_server.clear()


def cards_in(html: str) -> list[str]:
    """Return the markup of each card."""
    return re.findall(r'<li class="card .*?</li>', html, re.DOTALL)


def names_in(html: str) -> list[str]:
    names = re.compile(r'class="name[^"]*">(?:<a [^>]*>)?([^<]*)')
    return [name for card in cards_in(html) for name in names.findall(card)]


class TestAccess:
    @pytest.mark.parametrize("path", [*PAGES, "/videos", *STATIC, "/static/other"])
    def test_nobody_gets_anything_without_a_login(self, api_server: ApiServer, path: str) -> None:
        api_server.add_task(SUBMITTED)
        response = api_server.get(path, user=None)
        assert response.status_code == 401
        assert "traveler" not in response.text

    @pytest.mark.parametrize("path", PAGES)
    def test_a_user_without_a_role_sees_no_dag(self, api_server: ApiServer, path: str) -> None:
        api_server.add_task(SUBMITTED)
        response = api_server.get(path, user="norbert")
        assert response.status_code == 403
        assert "traveler" not in response.text
        assert "Your user may not see this" in response.text

    def test_the_list_of_a_user_without_a_role_is_empty(self, api_server: ApiServer) -> None:
        api_server.add_task(SUBMITTED)
        assert cards_in(api_server.get("/videos").text)
        response = api_server.get("/videos", user="norbert")
        assert (response.status_code, cards_in(response.text)) == (200, [])
        assert "reel" not in response.text

    def test_a_list_has_only_the_dags_that_may_be_read(
        self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        api_server.add_task(SUBMITTED)
        api_server.add_run("secret")
        api_server.add_task(SUBMITTED, dag_id="secret")
        manager = app.get_auth_manager()
        may = type(manager).is_authorized_dag

        def not_secret(self: Any, *, details: Any = None, **arguments: Any) -> bool:
            return details.id != "secret" and may(self, details=details, **arguments)

        monkeypatch.setattr(type(manager), "is_authorized_dag", not_secret)
        text = api_server.get("/videos").text
        assert "reel" in text
        assert "secret" not in text
        assert api_server.get("/dags/secret").status_code == 403

    @pytest.mark.parametrize("path", [*PAGES, "/videos"])
    def test_a_viewer_sees_the_pages(self, api_server: ApiServer, path: str) -> None:
        api_server.add_task(SUBMITTED)
        response = api_server.get(path)
        assert response.status_code == 200
        assert "A traveler" in response.text

    @pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/", "/dags", "/dags/reel/runs"])
    def test_nothing_else_is_served(self, api_server: ApiServer, path: str) -> None:
        assert api_server.get(path, user="anna").status_code in {404, 405}

    def test_the_routes_of_the_application_all_need_a_login(self) -> None:
        application = app.build_app()
        routes = [route for route in application.routes if getattr(route, "dependant", None)]
        assert len(routes) >= 7
        for route in routes:
            calls = {dependency.call for dependency in route.dependant.dependencies}  # type: ignore[attr-defined]
            assert app.get_user in calls, route
        assert [route for route in application.routes if route not in routes] == []

    @pytest.mark.parametrize("path", [PAGES[0], "/videos", "/static/page.js", "/nothing", "/dags/none/runs/none"])
    @pytest.mark.parametrize("user", ["vera", None])
    def test_every_response_has_the_security_headers(
        self, api_server: ApiServer, path: str, user: str | None
    ) -> None:
        headers = api_server.get(path, user=user).headers
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in {"no-store", "private, no-cache"}

    def test_the_pages_need_nothing_that_the_policy_forbids(self, api_server: ApiServer) -> None:
        api_server.add_task(SUBMITTED, state="deferred")
        for path in (*PAGES, "/videos"):
            text = api_server.get(path).text
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", text)
            loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]*)', text)
            assert {url.split("/static/")[0] for url in loaded} == {"/kling"}


class TestPages:
    def test_a_task_shows_its_video(self, api_server: ApiServer) -> None:
        now = time.time()
        progress = {"phase": "in_progress", "percent": 23, "making_since": now - 60, "seen_at": now}
        api_server.add_task(
            {**SUBMITTED, "kling_submitted_at": now - 90, "kling_progress": progress}, state="deferred"
        )
        text = api_server.get(f"{TASK_PATH}/-1").text
        [card] = cards_in(text)
        for part in ("Being made", 'value="23"', "kling-v3-std-audio", "5 s", "16:9", "30 s", "1 min", "0.42 USD"):
            assert part in card
        assert 'data-copy="task_697a1f"' in card
        assert 'data-poll="5"' in text

    @pytest.mark.parametrize("index", ["{MAP_INDEX}", "%7BMAP_INDEX%7D", "-1"])
    def test_a_placeholder_is_a_task_that_is_not_mapped(self, api_server: ApiServer, index: str) -> None:
        api_server.add_task(SUBMITTED)
        assert names_in(api_server.get(f"{TASK_PATH}/{index}").text) == ["generate"]

    def test_the_tab_of_a_mapped_task_shows_all_of_it(self, api_server: ApiServer) -> None:
        for index in (1, 0, 10, 2):
            api_server.add_task({"kling_task_id": f"task_{index}"}, map_index=index)
        api_server.add_task({"kling_task_id": "task_x"}, task_id="other")
        for path in (f"{TASK_PATH}/%7BMAP_INDEX%7D", TASK_PATH):
            assert names_in(api_server.get(path).text) == [f"generate [{index}]" for index in (0, 1, 2, 10)]
        assert names_in(api_server.get(f"{TASK_PATH}/2").text) == ["generate [2]"]

    @pytest.mark.parametrize(
        "path", ["/dags/reel/runs/none", f"{TASK_PATH}/x", f"{TASK_PATH}/-2", f"{TASK_PATH}/9e9"]
    )
    def test_what_is_not_there_is_not_found(self, api_server: ApiServer, path: str) -> None:
        assert api_server.get(path).status_code == 404

    def test_a_task_of_others_is_explained(self, api_server: ApiServer) -> None:
        api_server.add_task({"return_value": {"a": 1}}, task_id="python", operator="PythonOperator")
        text = api_server.get(f"{RUN_PATH}/tasks/python/-1").text
        assert "makes none" in text
        assert 'data-poll="0"' in text
        assert "This run has no task that makes any" in api_server.get(RUN_PATH).text

    def test_an_own_operator_of_another_name_is_found_by_its_xcoms(self, api_server: ApiServer) -> None:
        api_server.add_task(SUBMITTED, operator="OurOperator", map_index=0)
        api_server.add_task(operator="OurOperator", map_index=1, state=None)
        assert len(cards_in(api_server.get(RUN_PATH).text)) == 1

    def test_a_finished_page_is_not_updated(self, api_server: ApiServer) -> None:
        api_server.add_run(run_id="done", state="success")
        api_server.add_task({**SUBMITTED, "video_url": URL}, run_id="done")
        assert 'data-poll="0"' in api_server.get(path_of("dags", "reel", "runs", "done")).text

    def test_a_run_is_filtered_and_its_totals_are_not(self, api_server: ApiServer) -> None:
        for index in range(6):
            request = {"model": f"kling-v{index % 2}", "prompt": f"Shot {index} of the fox", "duration": 5}
            api_server.add_task(
                {"kling_task_id": f"task_{index}", "kling_request": request},
                map_index=index,
                state="failed" if index < 2 else "deferred",
            )
        for query, indexes in (
            ("", range(6)),
            ("?status=failed", (0, 1)),
            ("?model=kling-v1", (1, 3, 5)),
            ("?q=FOX+shot+4", (4,)),
            ("?status=in_progress&model=kling-v0&q=fox", (2, 4)),
            ("?status=nonsense", range(6)),
            ("?q=owl", ()),
        ):
            text = api_server.get(f"{RUN_PATH}{query}").text
            assert names_in(text) == [f"generate [{index}]" for index in indexes], query
            assert re.search(r"<dt>Videos</dt><dd>6</dd>", text)
            assert re.search(r"<dt>Failed</dt><dd>2</dd>", text)

    def test_a_dag_and_the_navigation_show_the_latest_runs_first(self, api_server: ApiServer) -> None:
        api_server.add_run(run_id="second")
        for run_id in (RUN, "second"):
            for index in range(12):
                api_server.add_task({"kling_task_id": f"task_{index}"}, map_index=index, run_id=run_id)
        for path in ("/dags/reel", "/videos"):
            text = api_server.get(path).text
            assert re.findall(r'aria-label="Run ([^"]*)', text) == ["second", RUN]
            assert len(cards_in(text)) == 2 * app.CARDS_PER_RUN
            assert text.count("4 more videos of this run") == 2

    def test_links_are_below_the_place_where_the_page_is_mounted(self, api_server: ApiServer) -> None:
        api_server.add_task(SUBMITTED)
        for path in (*PAGES, "/videos"):
            for url in re.findall(r'(?:href|src|data-decisions)="([^"]+)"', api_server.get(path).text):
                assert url.startswith("/kling/"), url

    @pytest.mark.parametrize(("label", "times"), [("A boat.", 0), ("A bo…", 1), (None, 1)])
    def test_a_prompt_that_is_the_name_is_shown_once(
        self, api_server: ApiServer, label: str | None, times: int
    ) -> None:
        api_server.add_task({"kling_request": {"prompt": "A boat."}}, map_index=0, label=label)
        text = api_server.get(RUN_PATH).text
        assert text.count('<p class="prompt" dir="auto">A boat.</p>') == times
        assert names_in(text) == [label or "generate [0]"]


class TestHostileXcoms:
    def test_everything_is_escaped(self, api_server: ApiServer) -> None:
        evil = "</script><img src=x onerror=alert(1)>\"'><b>{{ 7*7 }}"
        api_server.add_task(
            {
                **SUBMITTED,
                "kling_task_id": evil,
                "kling_request": {"model": evil, "prompt": evil, "aspect_ratio": evil},
                "kling_error": {"happened": evil, "server_says": evil, "advice": evil},
                "kling_estimated_cost": {"amount": 1, "currency": "<b>X</b>"},
                "return_value": {"path": evil, "kling_task_id": evil, "video_url": "https://a/'\"><b>"},
            },
            state="failed",
            label="<b>label</b>",
        )
        for path in (*PAGES, "/videos", f"{RUN_PATH}?q=%3Cb%3E&model=%3Cb%3E"):
            text = api_server.get(path).text
            assert "&lt;" in text
            assert not re.search(r"<b>|<img|</script><", text), path
            assert "49" not in re.sub(r"\d{4,}", "", text)

    def test_the_signature_is_in_the_player_alone(self, api_server: ApiServer) -> None:
        api_server.add_task(
            {**SUBMITTED, "video_url": URL, "return_value": {"path": URL, "kling_task_id": "task_697a1f"}},
        )
        for path in (*PAGES, "/videos"):
            text = api_server.get(path).text
            assert text.count(SECRET) == 1
            assert re.search(rf'<video [^>]*src="[^"]*{SECRET}', text)

    def test_a_player_loads_nothing_by_itself(self, api_server: ApiServer) -> None:
        api_server.add_task({**SUBMITTED, "video_url": URL})
        [video] = re.findall(r"<video[^>]*>", api_server.get(RUN_PATH).text)
        assert 'preload="none"' in video
        assert "autoplay" not in video

    def test_a_value_that_is_too_large_stays_in_the_database(self, api_server: ApiServer) -> None:
        api_server.add_task({**SUBMITTED, "kling_error": {"happened": "x" * rows.MAX_VALUE}}, state="failed")
        text = api_server.get(RUN_PATH).text
        assert rows.TOO_LARGE in text
        assert len(text) < 20_000

    def test_one_page_reads_a_limited_sum(self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows, "MAX_VALUES", 1_000)
        for index in range(5):
            api_server.add_task({"kling_request": {"prompt": "x" * 400}}, map_index=index)
        text = api_server.get(RUN_PATH).text
        assert text.count(rows.TOO_LARGE) == 3
        assert len(cards_in(text)) == 5

    def test_a_page_has_a_limited_number_of_tasks(
        self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rows, "MAX_ROWS", 3)
        for index in range(5):
            api_server.add_task(SUBMITTED | {"kling_task_id": f"task_{index}"}, map_index=index)
        text = api_server.get(RUN_PATH).text
        assert names_in(text) == ["generate [0]", "generate [1]", "generate [2]"]
        assert "the run has more tasks than one page shows" in text

    @pytest.mark.parametrize("value", [7, "text", [], [[1]], {"a": None}, True, None, {"prompt": {"prompt": 3}}])
    @pytest.mark.parametrize("state", ["success", "failed", "deferred"])
    def test_values_of_any_type_are_shown(self, api_server: ApiServer, value: Any, state: str) -> None:
        api_server.add_task(dict.fromkeys(rows.KEYS, value), state=state)
        for path in (*PAGES, "/videos"):
            assert api_server.get(path).status_code == 200


class TestDecisions:
    def test_who_may_edit_gets_the_buttons(self, api_server: ApiServer) -> None:
        for index in range(2):
            api_server.add_task({"kling_uncertain": INTENT}, state="failed", map_index=index)
        text = api_server.get(RUN_PATH, user="olga").text
        assert text.count('data-decision="adopt"') == text.count('data-decision="none"') == 2
        assert 'data-pick="all"' in text
        assert 'data-name="kling_adopt_0123456789ab"' in text
        tokens = re.findall(r'data-token="([^"]+)"', text)
        assert len(set(tokens)) == 2
        assert f'data-decisions="/kling{RUN_PATH}/decisions"' in text

    @pytest.mark.parametrize("path", [RUN_PATH, f"{TASK_PATH}/-1"])
    def test_who_may_only_read_gets_none_and_no_token(self, api_server: ApiServer, path: str) -> None:
        api_server.add_task({"kling_uncertain": INTENT}, state="failed")
        text = api_server.get(path).text
        assert "Needs a decision" in text
        assert "data-token" not in text
        assert "data-decision=" not in text

    def test_an_intent_of_another_form_gets_none(self, api_server: ApiServer) -> None:
        api_server.add_task({"kling_uncertain": {**INTENT, "name": "aws_default"}}, state="failed")
        text = api_server.get(RUN_PATH, user="anna").text
        assert "data-token" not in text
        assert "aws_default" not in text


class Backend(BaseXCom):
    """A backend that keeps its values elsewhere."""

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        value = BaseXCom.deserialize_value(result)
        if value == "stored elsewhere":
            return {"prompt": "From the backend"}
        if value == "lost":
            raise OSError(f"no such object: {SECRET}")
        if value == "slow":
            time.sleep(1.0)
        return value


class TestXcomBackend:
    @pytest.fixture(autouse=True)
    def backend(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows, "XCom", Backend)

    def test_values_are_read_through_it(self, api_server: ApiServer) -> None:
        api_server.add_task({**SUBMITTED, "kling_request": "stored elsewhere"})
        assert "From the backend" in api_server.get(RUN_PATH).text

    def test_a_card_says_what_could_not_be_read(self, api_server: ApiServer) -> None:
        api_server.add_task({**SUBMITTED, "kling_request": "lost"}, map_index=0)
        api_server.add_task({**SUBMITTED, "kling_task_id": "task_2"}, map_index=1)
        text = api_server.get(RUN_PATH).text
        first, second = cards_in(text)
        assert rows.NOT_READ in first
        assert "task_697a1f" in first
        assert rows.NOT_READ not in second
        assert SECRET not in text

    @pytest.mark.alone
    def test_a_backend_that_hangs_holds_no_page(
        self, api_server: ApiServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rows, "BACKEND_SECONDS", 0.3)
        api_server.add_task(SUBMITTED, map_index=0)
        api_server.add_task({**SUBMITTED, "kling_task_id": "task_2", "kling_request": "slow"}, map_index=1)
        begun = time.monotonic()
        text = api_server.get(RUN_PATH).text
        assert time.monotonic() - begun < 1.0
        assert text.count(rows.TOO_LATE) >= 1


def test_the_number_of_queries_does_not_grow_with_the_videos(api_server: ApiServer) -> None:
    from airflow.settings import engine

    counts = []
    statements: list[str] = []

    def count(_: Any, __: Any, statement: str, *___: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", count)
    try:
        for first, last in ((0, 3), (3, 60)):
            for index in range(first, last):
                api_server.add_task({**SUBMITTED, "kling_task_id": f"task_{index}"}, map_index=index)
            statements.clear()
            assert len(cards_in(api_server.get(RUN_PATH).text)) == last
            counts.append(len(statements))
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert counts[0] == counts[1] <= 8


def test_every_view_leads_to_a_page(api_server: ApiServer) -> None:
    api_server.add_task(SUBMITTED)
    ids = {"{DAG_ID}": "reel", "{RUN_ID}": RUN, "{TASK_ID}": "generate"}
    routes = set()
    for view in KlingVideosPlugin.external_views:
        href = view["href"]
        for placeholder, value in ids.items():
            href = href.replace(placeholder, value)
        assert href.startswith("kling/"), "relative: it has to work under a base path"
        assert api_server.get(href.removeprefix("kling")).status_code == 200
        for icon in (view["icon"], view["icon_dark_mode"]):
            assert api_server.get(icon.removeprefix("kling")).headers["content-type"] == "image/svg+xml"
        routes.add(view["url_route"])
    assert len(routes) == len(KlingVideosPlugin.external_views) == 4
