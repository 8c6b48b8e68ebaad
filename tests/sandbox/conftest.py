# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

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
