# SPDX-License-Identifier: Apache-2.0
"""The sandbox's own page, as a browser without scripts gets it."""

from __future__ import annotations

from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import Fault
from airflow_provider_kling.sandbox.page import FAULTS
from airflow_provider_kling.sandbox.prompt_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Callable


class Shown(HTMLParser):
    """What a reader sees of a page: the cells of its tables, its links and its commands."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.texts: dict[str, list[str]] = {"pre": [], "p": []}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in self.texts:
            self.texts[tag].append("")
        if tag in ("td", "th", "pre", "p"):
            self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag == self._open else self._open

    def handle_data(self, data: str) -> None:
        if self._open in ("td", "th"):
            self.rows[-1][-1] += data
        elif self._open:
            self.texts[self._open][-1] += data

    @property
    def links(self) -> list[str | None]:
        return [attrs["href"] for tag, attrs in self.tags if tag == "a"]


def page(caller: Any, path: str = "/") -> requests.Response:
    answer: requests.Response = caller.session.get(f"{caller.sandbox.base_url}{path}", timeout=20)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    return answer


def test_every_submit_is_shown_with_its_state_newest_first(start: Callable[..., Any]) -> None:
    caller = start(run_seconds=60.0)
    done, failed, going = (caller.task(text, duration=3) for text in ("One", "Two", "Three"))
    caller.sandbox.finish(done)
    caller.sandbox.add_fault(Fault("status", "job_fails", message="bad <luck>"))
    caller.status(failed)
    caller.sandbox.finish(failed)
    caller.sandbox.add_fault(Fault("submit", "drop_after"))
    with pytest.raises(requests.ConnectionError):
        caller.submit("Four")
    shown = Shown(page(caller).text)
    model, last = "kling-v3-std-silent", caller.sandbox.ledger()[-1]["id"]
    assert [row[1:] for row in shown.rows[1:5]] == [
        ["running, 0\xa0%", "Four", model, "5", "no: the connection was cut", last],
        ["running, 0\xa0%", "Three", model, "3", "yes", going],
        ["failed: bad <luck>", "Two", model, "3", "yes", failed],
        ["completed", "One", model, "3", "yes", done],
    ]
    assert "Accepted submits: 4." in shown.texts["p"][1]
    links = [link for link in shown.links if link]
    assert [link.rpartition("/")[2] for link in links] == ["ledger", "jobs", f"{done}.mp4"]
    assert all(caller.session.get(link, timeout=20).ok for link in links)


def test_what_others_write_is_text(caller: Any) -> None:
    caller.task("<script>alert(1)</script> & \"quotes\" '<b>'\ud800")
    caller.sandbox.add_fault(Fault("status", "error", match="</pre><script>\ud800", message="<img src=x>"))
    answer = page(caller)
    shown = Shown(answer.text)
    assert {"script", "img", "b"} & {tag for tag, _ in shown.tags} == set()
    assert shown.rows[1][2] == "<script>alert(1)</script> & \"quotes\" '<b>'?"
    assert "</pre><script>?" in shown.texts["pre"][1]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_it_reloads_itself_without_a_script_and_is_no_request_of_the_api(caller: Any) -> None:
    shown = Shown(page(caller).text)
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in shown.tags
    assert "No submit was accepted yet." in shown.texts["p"]
    assert caller.sandbox.seen() == []


def test_it_holds_no_key(start: Callable[..., Any]) -> None:
    caller = start(api_keys=["sk-a-long-secret"])
    caller.task()
    assert "sk-" not in page(caller).text


def test_words_are_explained_where_they_are_on(start: Callable[..., Any]) -> None:
    on, off = Shown(page(start(prompt_words=True)).text), page(start()).text
    assert [row[0] for row in on.rows[1:]] == list(WORDS)
    assert "They are off." in off
    assert "[refuse]" not in off


@pytest.mark.parametrize("options", [{}, {"api": "official"}, {"prefix": "/kling"}])
def test_the_commands_work_as_they_are_shown(start: Callable[..., Any], options: dict[str, Any]) -> None:
    caller = start(**options)
    commands = [line for line in Shown(page(caller).text).texts["pre"][0].splitlines() if line[0] != "#"]
    assert all(f" {caller.sandbox.base_url}/_sandbox/" in command for command in commands)
    assert [caller.curl(command).status_code for command in commands] == [200] * 7 + [404, 200]
    assert caller.sandbox.requests["submit"] == 0


def test_each_fault_that_is_shown_is_a_fault(caller: Any) -> None:
    for line in Shown(page(caller).text).texts["pre"][0].splitlines():
        if " -d " in line:
            caller.curl(line)
    assert [fault["kind"] for fault in caller.sandbox.faults()] == [fault["kind"] for _, fault in FAULTS]


def test_active_faults_are_listed(caller: Any) -> None:
    caller.sandbox.add_fault(Fault("submit", "rate_limit", times=3))
    assert '"kind": "rate_limit"' in Shown(page(caller).text).texts["pre"][1]


@pytest.mark.parametrize("path", ["", "/"])
def test_it_stands_behind_the_prefix(start: Callable[..., Any], path: str) -> None:
    caller = start(prefix="/kling")
    caller.task()
    assert unescape(page(caller, path).text).count("/kling/files/") == 1


def test_the_newest_of_many_are_shown(start: Callable[..., Any]) -> None:
    caller = start()
    for number in range(205):
        caller.task(f"number {number}")
    shown = Shown(page(caller).text)
    assert [row[2] for row in shown.rows[1:]] == [f"number {number}" for number in range(204, 4, -1)]
    assert "Accepted submits: 205." in shown.texts["p"][1]
    assert "The newest 200" in shown.texts["p"][1]


def test_a_long_prompt_is_cut(caller: Any) -> None:
    caller.task("x" * 2000)
    assert Shown(page(caller).text).rows[1][2] == "x" * 300 + "…"
