# SPDX-License-Identifier: Apache-2.0
"""Connections to Kling's own platform: their fields, and what both clients do with them on a real server."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.api.official.api import OfficialApi
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.client.async_client import shared_client
from airflow_provider_kling.client.connection import RENEW_BEFORE, KlingConnection
from airflow_provider_kling.connection_form import field_name
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingDuplicateSubmissionError,
    KlingError,
    KlingNotFoundError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.sandbox import Sandbox
from tests.connections import BOOK
from tests.fixtures.official import (
    ACCESS_KEY,
    API_KEY,
    IMAGE,
    INTERNATIONAL,
    PICTURE,
    RESELLER,
    SECRET_KEY,
    TEXT,
    TOKEN,
)

PAIR = {ACCESS_KEY: SECRET_KEY}


def parse(**fields: Any) -> KlingConnection:
    fields = {"host": None, "password": API_KEY, "extra": {"api": "official"}, **fields}
    return KlingConnection.parse(conn_id="kling_default", **fields)


def refusal(**fields: Any) -> str:
    with pytest.raises(KlingValidationError) as caught:
        parse(**fields)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    for key in (API_KEY, ACCESS_KEY, SECRET_KEY):
        assert key not in shown
    return str(caught.value)


class TestTheFields:
    def test_no_host_is_needed(self) -> None:
        connection = parse()
        assert isinstance(connection.api, OfficialApi)
        assert connection.base_url == connection.api.base_url == INTERNATIONAL

    @pytest.mark.parametrize(
        ("host", "base_url"),
        [
            ("api-beijing.klingai.com", "https://api-beijing.klingai.com"),
            ("https://api-singapore.klingai.com/v1", INTERNATIONAL),
            (f"{RESELLER}/v1", RESELLER),
            (f"{RESELLER}/v1/videos/text2video", RESELLER),
        ],
    )
    def test_a_host_with_what_is_pasted_after_it(self, host: str, base_url: str) -> None:
        assert parse(host=host).base_url == base_url

    def test_an_access_key_belongs_in_the_login(self) -> None:
        connection = parse(login=f" {ACCESS_KEY} ", password=SECRET_KEY)
        assert connection.credentials == (SECRET_KEY, ACCESS_KEY)

    def test_and_is_a_misplaced_key_for_a_gateway(self) -> None:
        shown = refusal(host="gw.example.com", login=ACCESS_KEY, password=SECRET_KEY, extra={})
        assert "Access key (login)='***': it holds what looks like an API key" in shown

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"login": ACCESS_KEY}, "login"),
            ({"login": API_KEY, "password": SECRET_KEY}, "login"),
            ({"password": SECRET_KEY}, "login"),
            ({"password": f"{ACCESS_KEY}:{SECRET_KEY}"}, "password"),
            ({"password": ""}, "password"),
            ({"login": API_KEY, "password": ""}, "login"),
            ({"login": f"{ACCESS_KEY}:{SECRET_KEY}", "password": ""}, "login"),
            ({"schema": ACCESS_KEY, "login": ACCESS_KEY, "password": SECRET_KEY}, "schema"),
        ],
    )
    def test_keys_in_the_wrong_field_are_named_and_not_shown(self, fields: dict[str, Any], field: str) -> None:
        assert f"\n  - {field_name(field)}" in refusal(**fields)

    def test_an_access_key_alone_lacks_its_secret_key(self) -> None:
        assert "API key (password) is empty: it must hold the secret key" in refusal(login=ACCESS_KEY, password="")

    def test_a_key_in_the_login_is_named_once_and_its_place_is_given(self) -> None:
        shown = refusal(login=API_KEY, password="")
        assert "holds an API key, which belongs in API key (password); Access key stays empty" in shown
        assert shown.count("\n  - ") == 1

    @pytest.mark.parametrize("pasted", [f'"{ACCESS_KEY}"', f" {ACCESS_KEY}\n", f"'{ACCESS_KEY}',"])
    def test_what_is_pasted_around_an_access_key_is_removed(self, pasted: str) -> None:
        assert parse(login=pasted, password=SECRET_KEY).credentials.login == ACCESS_KEY

    def test_the_account_changes_with_either_key(self) -> None:
        one = parse(login=ACCESS_KEY, password=SECRET_KEY)
        assert one.account != parse(login=ACCESS_KEY, password=SECRET_KEY[::-1]).account
        assert one.account != parse(login=ACCESS_KEY[::-1], password=SECRET_KEY).account

    def test_a_token_is_kept_until_a_minute_before_its_end_and_masked(self) -> None:
        connection = parse(login=ACCESS_KEY, password=SECRET_KEY)
        now = time.time()
        first = connection.authorization(now=now)
        assert connection.authorization(now=now + 1800 - RENEW_BEFORE - 2) == first
        second = connection.authorization(now=now + 1800 - RENEW_BEFORE + 2)
        assert second != first
        for header in (first, second):
            assert header.removeprefix("Bearer ") not in connection.masked(f"echo: {header}")
        assert connection.masked(f"{ACCESS_KEY} {SECRET_KEY}") == "*** ***"


Hook = Callable[..., KlingHook]


@pytest.fixture
def serve(rendered: Path) -> Iterator[Callable[..., Sandbox]]:
    """A function that starts a sandbox of the platform, which knows both kinds of key."""
    servers: list[Sandbox] = []

    def start(**options: Any) -> Sandbox:
        options = {"run_seconds": 0, "access_keys": PAIR, "api_keys": (API_KEY,), **options}
        server = Sandbox(api="official", cache_dir=rendered, **options)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A function that returns a hook on a sandbox, with an API key or with an access key."""
    hooks: list[KlingHook] = []

    def make(server: Sandbox, *, pair: bool = False, **extra: Any) -> KlingHook:
        keys = {"login": ACCESS_KEY, "password": SECRET_KEY} if pair else {"password": API_KEY}
        extra = {"api": "official", "connect_timeout": 2, "read_timeout": 2, **extra}
        BOOK.add("kling_default", {"conn_type": "kling", "host": server.base_url, "extra": extra, **keys})
        hooks.append(KlingHook())
        return hooks[-1]

    yield make
    for made in hooks:
        if "client" in vars(made):
            made.client.close()


def wanted(model: str = "kling-v3", **arguments: Any) -> VideoRequest:
    return VideoRequest.build(model=model, prompt="A traveler", **arguments)


def of_triggerer(*ids: str, route: str | None) -> dict[str, Any]:
    """Return what a triggerer's client reads of jobs on ``kling_default``, or the error of each."""

    async def read() -> list[Any]:
        async with shared_client("kling_default") as client:
            reads = (client.get_video(name, route=route) for name in ids)
            return await asyncio.gather(*reads, return_exceptions=True)

    return dict(zip(ids, asyncio.run(read()), strict=True))


@pytest.mark.parametrize(
    ("pair", "arguments", "route"),
    [
        (False, {}, "/tasks"),
        (False, {"model": "kling-v3-std-audio", "image": PICTURE}, "/tasks"),
        (False, {"model": "kling-3.0"}, "/tasks"),
        (False, {"model": "kling-3.0", "image": PICTURE, "mode": "pro"}, "/tasks"),
        (True, {}, TEXT),
        (True, {"model": "kling-v3-std-audio", "image": PICTURE}, IMAGE),
    ],
)
def test_a_video_is_bought_and_read_by_both_clients(
    serve: Callable[..., Sandbox], hook: Hook, arguments: dict[str, Any], route: str, *, pair: bool
) -> None:
    kling = hook(serve(), pair=pair)
    with kling.submitting() as session:
        session.probe()
        job = session.submit(wanted(**arguments), client_token=TOKEN)
    assert (job.status, job.route, job.client_token) == ("queued", route, TOKEN)
    found = kling.find_video(TOKEN)
    for seen in (
        kling.get_video(job.kling_task_id),
        kling.get_video(job.kling_task_id, route=job.route),
        found,
        *of_triggerer(job.kling_task_id, route=job.route).values(),
    ):
        assert seen is not None
        assert (seen.kling_task_id, seen.status, seen.client_token) == (job.kling_task_id, "completed", TOKEN)
        assert seen.video_url
        assert seen.billed
        assert seen.route == route
    assert kling.find_video("af-unknown") is None


@pytest.mark.parametrize("served", ["official", "gateway"])
def test_a_submit_to_the_other_api_names_the_field_that_selects_it(rendered: Path, served: Any) -> None:
    with Sandbox(api=served, run_seconds=0, cache_dir=rendered) as sandbox:
        extra = {"api": "gateway" if served == "official" else "official"}
        fields = {"conn_type": "kling", "host": sandbox.base_url, "password": sandbox.api_key, "extra": extra}
        BOOK.add("kling_default", fields)
        with (
            KlingHook().submitting() as session,
            pytest.raises(KlingError, match="Base URL and API of the Airflow connection 'kling_default'"),
        ):
            session.submit(wanted(model="kling-v3-std-silent"))
        assert "check Base URL (host, port and path) and API" in KlingHook().test_connection()[1]


def test_no_credential_is_part_of_a_repr() -> None:
    connection = parse(login=ACCESS_KEY, password=SECRET_KEY)
    header = connection.api.authorization(now=0.0)
    for shown in (connection, connection.api, connection.credentials, header, [connection.credentials]):
        for secret in (ACCESS_KEY, SECRET_KEY, header.header.split(".")[-1]):
            assert secret not in repr(shown)
            assert secret not in str(shown)


@pytest.mark.parametrize("pair", [False, True])
def test_a_second_submit_with_the_same_token_buys_nothing(
    serve: Callable[..., Sandbox], hook: Hook, *, pair: bool
) -> None:
    server = serve()
    kling = hook(server, pair=pair)
    with kling.submitting() as session:
        session.submit(wanted(), client_token=TOKEN)
        with pytest.raises(KlingDuplicateSubmissionError):
            session.submit(wanted(), client_token=TOKEN)
    assert len(server.ledger()) == 1


@pytest.mark.parametrize("pair", [False, True])
def test_a_working_connection_shows_what_is_left(serve: Callable[..., Sandbox], hook: Hook, *, pair: bool) -> None:
    works, why = hook(serve(max_concurrent=5, units=100), pair=pair).test_connection()
    assert works, why
    assert "100 of 100 units left, 5 jobs at once" in why


@pytest.mark.parametrize("pair", [False, True])
def test_a_key_that_the_server_does_not_know(serve: Callable[..., Sandbox], hook: Hook, *, pair: bool) -> None:
    kling = hook(serve(access_keys={}, api_keys=("api-key-kling-another",)), pair=pair)
    works, why = kling.test_connection()
    assert not works
    assert "The API rejects the key" in why
    with pytest.raises(KlingAuthenticationError):
        kling.submit_video(wanted())


def test_a_clock_that_is_fast_is_named(serve: Callable[..., Sandbox], hook: Hook) -> None:
    kling = hook(serve(clock_offset=-120), pair=True)
    works, why = kling.test_connection()
    assert not works
    assert "ahead of the server's" in why
    with pytest.raises(KlingAuthenticationError, match="1[12]\\d seconds ahead of the server's"):
        kling.submit_video(wanted())


def test_a_reseller_that_serves_the_legacy_standard_alone(serve: Callable[..., Sandbox], hook: Hook) -> None:
    kling = hook(serve(serves=("legacy",), prefix="/kling", drops_external_ids=True))
    with kling.submitting() as session:
        session.probe()
        job = session.submit(wanted(image=PICTURE), client_token=TOKEN)
    assert (job.route, job.client_token) == (IMAGE, None)
    assert kling.get_video(job.kling_task_id, route="/tasks").route == IMAGE
    assert of_triggerer(job.kling_task_id, route=job.route)[job.kling_task_id].status == "completed"
    # A server that drops the token finds nothing by it; the missing echo shows that this proves nothing.
    assert kling.find_video(TOKEN) is None


def test_twenty_jobs_are_read_at_once_and_an_unknown_one_harms_no_other(
    serve: Callable[..., Sandbox], hook: Hook
) -> None:
    kling = hook(serve())
    with kling.submitting() as session:
        ids = [session.submit(wanted()).kling_task_id for _ in range(18)]
    found = of_triggerer(*ids, "8670", "1,2", route="/tasks")
    assert {found[name].status for name in ids} == {"completed"}
    assert isinstance(found["8670"], KlingNotFoundError)
    assert isinstance(found["1,2"], KlingError)


def test_a_job_that_no_route_has(serve: Callable[..., Sandbox], hook: Hook) -> None:
    server = serve()
    for pair in (False, True):
        with pytest.raises(KlingNotFoundError):
            hook(server, pair=pair).get_video("8670")


def test_what_the_platform_refuses_has_its_own_words(serve: Callable[..., Sandbox], hook: Hook) -> None:
    kling = hook(serve())
    with kling.submitting() as session, pytest.raises(KlingValidationError, match="77 is not supported"):
        session.submit(wanted()._replace(duration=77))
