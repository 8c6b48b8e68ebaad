# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT = 20


class Caller:
    """A client of the API as plain as can be, for one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.key = sandbox.api_key

    def post(self, body: object, **options: Any) -> requests.Response:
        return self._send("POST", f"{self.sandbox.base_url}/v1/video/generations", json=body, **options)

    def submit(self, prompt: str | None = "a prompt", **fields: Any) -> requests.Response:
        given = {"model": "kling-v3-std-silent", "prompt": prompt, **fields}
        return self.post({name: value for name, value in given.items() if value is not None})

    def task(self, prompt: str | None = "a prompt", **fields: Any) -> str:
        answer = self.submit(prompt, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def status(self, task_id: str, **options: Any) -> requests.Response:
        return self._send("GET", f"{self.sandbox.base_url}/v1/videos/{task_id}", **options)

    def video(self, task_id: str, **options: Any) -> requests.Response:
        """Ask for the file, at the address that needs no key."""
        url = f"{self.sandbox.base_url}/files/{task_id}.mp4"
        return self.session.get(url, timeout=TIMEOUT, **options)

    def curl(self, command: str) -> requests.Response:
        """Carry out the command line of a curl without a key, whose address may be that of another sandbox."""
        words = shlex.split(command, comments=True)
        data = words[words.index("-d") + 1] if "-d" in words else None
        method = words[words.index("-X") + 1] if "-X" in words else "POST" if data else "GET"
        _, control, rest = next(word for word in words if word.startswith("http")).partition("/_sandbox/")
        url = f"{self.sandbox.base_url}{control}{rest}"
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
        return self.session.request(method, url, data=data, headers=headers, timeout=TIMEOUT)

    def _send(self, method: str, url: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        return self.session.request(method, url, headers=headers, timeout=TIMEOUT, **options)


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps rendered videos for all tests."""
    return tmp_path_factory.mktemp("rendered")


@pytest.fixture
def start(rendered: Path) -> Iterator[Callable[..., Caller]]:
    """Start sandboxes with any options; by default jobs finish at once."""
    callers: list[Caller] = []

    def start_one(**options: Any) -> Caller:
        sandbox = Sandbox(**{"run_seconds": 0.0, "cache_dir": rendered, **options}).start()
        callers.append(Caller(sandbox))
        return callers[-1]

    yield start_one
    for caller in callers:
        caller.session.close()
        caller.sandbox.stop()


@pytest.fixture
def caller(start: Callable[..., Caller]) -> Caller:
    return start()


@pytest.fixture
def sandbox(caller: Caller) -> Sandbox:
    return caller.sandbox
