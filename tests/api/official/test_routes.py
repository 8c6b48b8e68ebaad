# SPDX-License-Identifier: Apache-2.0
"""Where a job is asked for, and whether a server has the route."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.api.routes import RouteSearch
from airflow_provider_kling.exceptions import KlingValidationError
from tests.fixtures.official import (
    IMAGE,
    TEXT,
    error,
    legacy_job,
    new_job,
    raised,
    response,
    success,
    with_api_key,
    with_pair,
)

NOT_FOUND = error(1201, "Task not found by id/external id: 8671")
SPRING_404 = {"timestamp": "2026-11-26", "status": 404, "error": "Not Found", "path": "/tasks"}


def test_only_an_api_key_may_ask_for_several_jobs() -> None:
    assert with_api_key().status_routes == ("/tasks", TEXT, IMAGE)
    assert with_api_key().probe_routes == ("/tasks", TEXT)
    assert with_pair().status_routes == (TEXT, IMAGE)
    assert with_pair().probe_routes == (TEXT,)


@pytest.mark.parametrize(
    ("route", "most"), [(None, 20), ("/tasks", 20), (TEXT, 1), (IMAGE, 1), ("/v1/videos", 20)]
)
def test_the_jobs_of_one_request(route: str | None, most: int) -> None:
    assert with_api_key().max_ids_per_status(route) == most
    assert with_pair().max_ids_per_status(route) == 1


@pytest.mark.parametrize(
    ("ids", "route", "path"),
    [
        (("1",), None, "/tasks?task_ids=1"),
        (("1", "2"), "/tasks", "/tasks?task_ids=1,2"),
        (("1",), "/v1/videos", "/tasks?task_ids=1"),
        (("a b", "c&d=e", "f/g?h#i", "ü"), None, "/tasks?task_ids=a%20b,c%26d%3De,f%2Fg%3Fh%23i,%C3%BC"),
        (("1",), TEXT, f"{TEXT}/1"),
        (("a/b?c",), IMAGE, f"{IMAGE}/a%2Fb%3Fc"),
    ],
)
def test_the_path_of_the_status(ids: tuple[str, ...], route: str | None, path: str) -> None:
    call = with_api_key().status(ids, route=route)
    assert (call.method, call.path, call.body) == ("GET", path, None)


@pytest.mark.parametrize("bad", [".", "..", "..;x", "1,2", ""])
def test_an_id_that_leads_elsewhere_is_not_sent(bad: str) -> None:
    assert isinstance(raised(lambda: with_pair().status((bad,))), KlingValidationError)


@pytest.mark.parametrize(
    ("http_status", "body", "served"),
    [
        (200, success([]), True),
        (200, success([new_job()]), True),
        (200, success(legacy_job()), True),
        (400, NOT_FOUND, True),
        (401, error(1002, "no"), True),
        (429, error(1302, "too fast"), True),
        (404, b"<html>", False),
        (404, b"404 page not found", False),
        (404, SPRING_404, False),
        (404, {"detail": "Not Found"}, None),
        (200, b"<html>", False),
        (302, b"", False),
    ],
)
def test_whether_a_server_has_a_route(http_status: int, body: Any, *, served: bool | None) -> None:
    assert with_api_key().serves_route(response(body, http_status)) is served


@pytest.mark.parametrize(
    ("http_status", "body", "elsewhere"),
    [
        (400, NOT_FOUND, True),
        (400, error(1201, "duration is invalid"), False),
        (500, NOT_FOUND, False),
        (200, success([]), True),
        (200, success(legacy_job()), False),
        (404, b"<html>", False),
    ],
)
def test_whether_another_route_may_have_the_job(http_status: int, body: Any, *, elsewhere: bool) -> None:
    assert with_pair().may_be_on_another_route(response(body, http_status)) is elsewhere


def searched(api: Any, responses: dict[str, Any]) -> tuple[list[str], str | None]:
    """Return the routes that were tried, and the one that was found, on a server with these responses."""
    search, tried = RouteSearch(api), []
    for route in search:
        tried.append(route)
        search.add(route, response(*responses[route]))
    return tried, search.route


def test_a_server_without_the_new_route_is_asked_on_the_old_ones() -> None:
    missing, here = (SPRING_404, 404), (success(legacy_job()), 200)
    assert searched(with_api_key(), {"/tasks": here}) == (["/tasks"], "/tasks")
    assert searched(with_api_key(), {"/tasks": missing, TEXT: here}) == (["/tasks", TEXT], TEXT)
    assert searched(with_api_key(), {"/tasks": missing, TEXT: (NOT_FOUND, 400), IMAGE: here})[1] == IMAGE
    assert searched(with_pair(), {TEXT: (NOT_FOUND, 400), IMAGE: here}) == ([TEXT, IMAGE], IMAGE)


def test_an_error_that_is_about_no_route_ends_the_search() -> None:
    assert searched(with_pair(), {TEXT: (error(5001, "busy"), 503)})[0] == [TEXT]


@pytest.mark.parametrize(
    ("path", "base"),
    [
        ("", ""),
        ("v1", ""),
        ("kling", "kling"),
        ("kling/v1", "kling"),
        ("kling-v1", "kling-v1"),
        ("kling/v1/videos", "kling"),
        ("v1/videos/text2video", ""),
        ("kling/v1/videos/image2video", "kling"),
        ("text-to-video", ""),
        ("kling/tasks", "kling"),
    ],
)
def test_what_is_pasted_after_the_host_is_removed(path: str, base: str) -> None:
    assert with_api_key().base_path(path) == base
