# SPDX-License-Identifier: Apache-2.0
"""The hook on Kling's own platform: waits, keys that change meanwhile, lost submits, and the account."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingGenerationFailedError,
    KlingRateLimitError,
    KlingServerError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.connections import BOOK
from tests.fixtures.platform import API_KEY, PAIR, VENDORS_HOST, connection_to

ACCESS_KEY, SECRET_KEY = "Ak7" * 10 + "xy", "Sk9" * 10 + "zw"
NEW_ACCESS_KEY, NEW_SECRET_KEY = "Ak8" * 10 + "xy", "Sk8" * 10 + "zw"
NEW_API_KEY = "api-key-kling-new-0123456789"
PROMPT = "A traveler"
REQUEST = VideoRequest.build(model="kling-v3", prompt=PROMPT)
PICTURE = "https://example.com/first.png"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "API key, legacy standard": (API_KEY, {"model": "kling-v3"}),
    "API key, new standard": (API_KEY, {"model": "kling-3.0", "image": PICTURE}),
    "access key": (PAIR, {"model": "kling-v3"}),
    "access key, from an image": (PAIR, {"model": "kling-v3", "image": PICTURE}),
}
on_every_way = pytest.mark.parametrize(("keys", "arguments"), WAYS.values(), ids=WAYS.keys())
with_each_key = pytest.mark.parametrize("keys", [API_KEY, PAIR])


class Platform:
    """The platform, and hooks on it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.hooks: list[KlingHook] = []

    def hook(self, keys: str, **extra: Any) -> KlingHook:
        BOOK.add("kling_default", connection_to(self.sandbox, keys=keys, **extra))
        self.hooks.append(KlingHook())
        return self.hooks[-1]

    def replace_key(self, keys: str) -> None:
        """Replace the key in Airflow by the other one that the platform knows."""
        changed = (
            {"password": NEW_API_KEY} if keys == API_KEY else {"login": NEW_ACCESS_KEY, "password": NEW_SECRET_KEY}
        )
        BOOK.add("kling_default", {**connection_to(self.sandbox), **changed})

    def refuse(self, on: Any, code: int, **fault: Any) -> None:
        self.sandbox.add_fault(Fault(on, "error", status=401, code=code, **fault))


@pytest.fixture
def start(rendered: Path) -> Iterator[Callable[..., Platform]]:
    """A function that starts the platform; jobs are finished at once."""
    platforms = []
    with ExitStack() as stack:

        def start(**options: Any) -> Platform:
            usual = {
                "run_seconds": 0,
                "access_keys": {ACCESS_KEY: SECRET_KEY, NEW_ACCESS_KEY: NEW_SECRET_KEY},
                "api_keys": ("api-key-kling-sandbox-0123456789", NEW_API_KEY),
                "cache_dir": rendered,
            }
            sandbox = stack.enter_context(Sandbox(api="official", **{**usual, **options}))
            platforms.append(Platform(sandbox))
            return platforms[-1]

        yield start
        for platform in platforms:
            for hook in platform.hooks:
                if "client" in vars(hook):
                    hook.client.close()


def wait(hook: KlingHook, kling_task_id: str, route: str | None = None) -> Any:
    now = time.time()
    return hook.wait_for_video(kling_task_id, started_at=now, deadline=now + 20, poll_interval=0.05, route=route)


class TestAWait:
    @on_every_way
    @pytest.mark.parametrize("is_route_known", [True, False])
    def test_ends_with_the_video_and_what_it_cost(
        self, start: Callable[..., Platform], keys: str, arguments: dict[str, Any], *, is_route_known: bool
    ) -> None:
        platform = start(run_seconds=0.2)
        hook = platform.hook(keys)
        job = hook.submit_video({"prompt": PROMPT, **arguments})
        video = wait(hook, job.kling_task_id, job.route if is_route_known else None)
        [entry] = platform.sandbox.ledger()
        assert video["kling_task_id"] == entry["id"]
        assert video["video_url"].startswith(f"{VENDORS_HOST}/files/{entry['id']}.mp4")
        assert video["billed"] == {"units": float(entry["effective"]["units"])}

    @on_every_way
    def test_ends_with_the_reason_of_a_failed_job(
        self, start: Callable[..., Platform], keys: str, arguments: dict[str, Any]
    ) -> None:
        platform = start()
        platform.sandbox.add_fault(Fault("submit", "job_fails", message="render node lost"))
        hook = platform.hook(keys)
        job = hook.submit_video({"prompt": PROMPT, **arguments})
        with pytest.raises(KlingGenerationFailedError, match="render node lost"):
            wait(hook, job.kling_task_id)

    @with_each_key
    def test_goes_on_with_a_key_that_was_replaced_meanwhile(
        self, start: Callable[..., Platform], keys: str
    ) -> None:
        platform = start(run_seconds=3600)
        hook = platform.hook(keys)
        job = hook.submit_video({"prompt": PROMPT, "model": "kling-v3"})

        def replace() -> None:
            platform.sandbox.wait_for("status", 2)
            platform.replace_key(keys)
            platform.refuse("status", 1002)
            platform.sandbox.finish(job.kling_task_id)

        thread = threading.Thread(target=replace)
        thread.start()
        try:
            assert wait(hook, job.kling_task_id, job.route)["kling_task_id"] == job.kling_task_id
        finally:
            thread.join()
        assert platform.sandbox.faults() == []

    @pytest.mark.parametrize("code", [1003, 1004])
    def test_signs_a_token_anew_that_is_refused_for_its_time(
        self, start: Callable[..., Platform], code: int
    ) -> None:
        platform = start()
        hook = platform.hook(PAIR)
        job = hook.submit_video({"prompt": PROMPT, "model": "kling-v3"})
        platform.refuse("status", code)
        assert hook.get_video(job.kling_task_id, route=job.route).status == "completed"
        assert platform.sandbox.requests["status"] == 2

    def test_signs_anew_after_half_an_hour(
        self, start: Callable[..., Platform], set_clock: Callable[[float], None]
    ) -> None:
        platform = start()
        hook = platform.hook(PAIR)
        job = hook.submit_video({"prompt": PROMPT, "model": "kling-v3"})
        sent = platform.sandbox.seen()[-1]["headers"]["Authorization"]
        # The clocks of both: the sandbox is in this process.
        set_clock(1790)
        assert hook.get_video(job.kling_task_id, route=job.route).status == "completed"
        assert platform.sandbox.seen()[-1]["headers"]["Authorization"] != sent
        assert platform.sandbox.requests["status"] == 1

    @pytest.mark.parametrize(("keys", "code"), [(PAIR, 1002), (PAIR, 1000), (API_KEY, 1003)])
    def test_does_not_repeat_what_a_new_token_cannot_cure(
        self, start: Callable[..., Platform], keys: str, code: int
    ) -> None:
        platform = start()
        hook = platform.hook(keys)
        job = hook.submit_video({"prompt": PROMPT, "model": "kling-v3"})
        platform.refuse("status", code)
        with pytest.raises(KlingAuthenticationError):
            hook.get_video(job.kling_task_id, route=job.route)
        assert platform.sandbox.requests["status"] == 1


class TestALostSubmit:
    def test_is_looked_up_after_the_read_timeout_and_ten_seconds_at_least(
        self, start: Callable[..., Platform]
    ) -> None:
        platform = start()
        pauses = {seconds: platform.hook(API_KEY, read_timeout=seconds).look_up for seconds in (2, 45)}
        assert {seconds: found and found.pause for seconds, found in pauses.items()} == {2: 10.0, 45: 45.0}

    @pytest.mark.parametrize(
        ("host", "is_honoured"),
        [
            ("https://api-singapore.klingai.com", True),
            ("https://api-beijing.klingai.com", True),
            (VENDORS_HOST, True),
            ("https://klingai.com.reseller.example", False),
            ("https://notklingai.com", False),
            ("http://127.0.0.1:1", False),
        ],
    )
    def test_is_sent_again_at_once_on_the_vendors_hosts_alone(
        self, start: Callable[..., Platform], host: str, *, is_honoured: bool
    ) -> None:
        platform = start()
        BOOK.add("kling_default", connection_to(platform.sandbox, host=host))
        look_up = KlingHook().look_up
        assert look_up is not None
        assert look_up.is_honoured is is_honoured

    @with_each_key
    def test_is_known_to_its_account_alone(self, start: Callable[..., Platform], keys: str) -> None:
        platform = start(accounts={NEW_ACCESS_KEY: "another", NEW_API_KEY: "another"})
        hook = platform.hook(keys)
        with hook.submitting() as session:
            job = session.submit(REQUEST, client_token="af-1")
        found = hook.find_video("af-1")
        assert found is not None
        assert found.kling_task_id == job.kling_task_id
        platform.replace_key(keys)
        other = KlingHook()
        platform.hooks.append(other)
        assert other.find_video("af-1") is None
        assert (hook.look_up and hook.look_up.account) != (other.look_up and other.look_up.account)

    @with_each_key
    @pytest.mark.parametrize(
        "failure",
        [
            {"kind": "error", "status": 503},
            {"kind": "error", "status": 401, "code": 1002},
            {"kind": "rate_limit"},
            {"kind": "proxy_error"},
            {"kind": "drop_before"},
            {"kind": "empty_body"},
            {"kind": "missing_fields", "fields": ("external_id", "external_task_id")},
        ],
        ids=str,
    )
    def test_is_not_absent_because_a_look_up_failed(
        self, start: Callable[..., Platform], keys: str, failure: dict[str, Any]
    ) -> None:
        platform = start()
        hook = platform.hook(keys)
        with hook.submitting() as session:
            session.submit(REQUEST, client_token="af-1")
        platform.sandbox.add_fault(Fault("find", times=None, **failure))
        with pytest.raises(KlingError):
            hook.find_video("af-1")
        platform.sandbox.clear_faults()
        assert hook.find_video("af-1") is not None

    def test_is_nothing_on_a_gateway(self, sandbox: Sandbox, connected: str) -> None:
        assert KlingHook(connected).look_up is None


class TestTheAccount:
    @with_each_key
    def test_shows_what_is_left_after_a_video(self, start: Callable[..., Platform], keys: str) -> None:
        platform = start(units=100, max_concurrent=5)
        hook = platform.hook(keys)
        hook.submit_video({"prompt": PROMPT, "model": "kling-v3", "duration": 5})
        [pack] = hook.account() or []
        assert (pack.remaining, pack.total, pack.max_concurrent_jobs) == (97.0, 100.0, 5)
        assert "97 of 100 units left, 5 jobs at once" in hook.test_connection()[1]

    def test_that_is_asked_too_often_does_not_fail_the_test_of_a_connection(
        self, start: Callable[..., Platform]
    ) -> None:
        platform = start(account_seconds=60)
        hook = platform.hook(API_KEY)
        assert hook.account()
        with pytest.raises(KlingRateLimitError):
            hook.account()
        assert hook.test_connection()[0]


@with_each_key
@pytest.mark.parametrize("route", ["submit", "status", "find", "account"])
def test_no_error_shows_a_key(start: Callable[..., Platform], keys: str, route: Any) -> None:
    platform = start()
    hook = platform.hook(keys)
    job = hook.submit_video({"prompt": PROMPT, "model": "kling-v3"})
    used = hook.connection.authorization(now=time.time()).removeprefix("Bearer ")
    echo = f"bad key {ACCESS_KEY} {SECRET_KEY} {platform.sandbox.api_key} {used}, says the echo"
    platform.sandbox.add_fault(Fault(route, "error", status=500, message=echo, times=None))
    calls: dict[str, Callable[[], Any]] = {
        "submit": lambda: hook.submit_video({"prompt": PROMPT, "model": "kling-v3"}),
        "status": lambda: hook.get_video(job.kling_task_id),
        "find": lambda: hook.find_video("af-1"),
        "account": hook.account,
    }
    with pytest.raises(KlingError) as raised:
        calls[route]()
    shown = str(raised.value)
    assert "says the echo" in shown
    assert used not in shown
    secrets = [platform.sandbox.api_key] if keys == API_KEY else [ACCESS_KEY, SECRET_KEY]
    assert [secret for secret in secrets if secret in shown] == []
    assert isinstance(raised.value, KlingError if route == "submit" else KlingServerError)


@on_every_way
def test_a_submit_by_hand_carries_an_id_by_which_it_is_found(
    start: Callable[..., Platform], keys: str, arguments: dict[str, Any]
) -> None:
    platform = start()
    hook = platform.hook(keys)
    platform.sandbox.add_fault(Fault("submit", "drop_after"))
    with pytest.raises(KlingUncertainSubmissionError, match=r"find_video\('([\w-]{16})'\) looks it up") as raised:
        hook.submit_video({"prompt": PROMPT, **arguments})
    [bought] = platform.sandbox.ledger()
    [token] = re.findall(r"find_video\('(.*?)'\)", str(raised.value))
    assert (hook.find_video(token) or raised.value).kling_task_id == bought["id"]
    named = hook.submit_video({"prompt": PROMPT, **arguments}, client_token="my-own-token")
    assert named.client_token == "my-own-token"


def test_a_job_that_the_list_leaves_out_is_found_on_its_own_path(start: Callable[..., Platform]) -> None:
    platform = start()
    hook = platform.hook(API_KEY)
    job = hook.submit_video({"prompt": PROMPT, "model": "kling-v3", "image": PICTURE})
    platform.sandbox.add_fault(Fault("status", "not_visible", times=1))
    found = hook.get_video(job.kling_task_id, route="/tasks")
    assert (found.status, found.route) == ("completed", "/v1/videos/image2video")
    assert [
        exchange["path"].partition("?")[0].partition("/8")[0] for exchange in platform.sandbox.seen()[-3:]
    ] == [
        "/tasks",
        "/v1/videos/text2video",
        "/v1/videos/image2video",
    ]


def test_a_model_that_nobody_has_is_named_before_anything_is_sent(start: Callable[..., Platform]) -> None:
    platform = start()
    unchecked = REQUEST._replace(model="kling-v33")
    with pytest.raises(KlingValidationError, match="did you mean kling-v3"):
        platform.hook(API_KEY).submit_video(unchecked)
    assert platform.sandbox.requests["submit"] == 0
