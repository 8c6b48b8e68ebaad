# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT = 20
TEXT = "/v1/videos/text2video"
IMAGE = "/v1/videos/image2video"


def signed(
    access_key: str = "ak-sandbox",
    secret_key: str = "sk-secret-sandbox-of-32-characters",
    *,
    header: object = None,
    **claims: Any,
) -> str:
    """Make a JWT as the vendor's page describes it; a claim of None is left out."""
    now = int(time.time())
    given = {"iss": access_key, "exp": now + 1800, "nbf": now - 5, **claims}
    parts = [header or {"alg": "HS256", "typ": "JWT"}, {name: v for name, v in given.items() if v is not None}]
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    signature = hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


class OfficialCaller:
    """A client of Kling's own platform as plain as can be, for one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.key = sandbox.api_key
        self.sign = signed

    def legacy(self, path: str = TEXT, **fields: Any) -> requests.Response:
        return self.post(path, {"model_name": "kling-v3", "prompt": "a prompt", **fields})

    def image(self, **fields: Any) -> requests.Response:
        return self.legacy(IMAGE, **{"image": "https://example.com/a.png", **fields})

    def new(self, model: str = "kling-3.0", prompt: str = "a prompt", **fields: Any) -> requests.Response:
        return self.post(f"/text-to-video/{model}", {"prompt": prompt, **fields})

    def new_image(self, *contents: Any, model: str = "kling-3.0", **fields: Any) -> requests.Response:
        first = {"type": "first_frame", "url": "https://example.com/a.png"}
        return self.post(f"/image-to-video/{model}", {"contents": [first, *contents], **fields})

    def task(self, **fields: Any) -> str:
        answer = self.legacy(**fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["task_id"])

    def status(self, task_id: str, path: str = TEXT) -> requests.Response:
        return self.get(f"{path}/{task_id}")

    def tasks(self, **query: str) -> requests.Response:
        return self.get("/tasks", params=query)

    def effective(self) -> dict[str, Any]:
        """Return what the last accepted submit really makes."""
        made: dict[str, Any] = self.sandbox.ledger()[-1]["effective"]
        return made

    def get(self, path: str, **options: Any) -> requests.Response:
        return self._send("GET", path, **options)

    def post(self, path: str, body: object, **options: Any) -> requests.Response:
        return self._send("POST", path, json=body, **options)

    def _send(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.key}"} | options.pop("headers", {})
        url = f"{self.sandbox.base_url}{path}"
        return self.session.request(method, url, headers=headers, timeout=TIMEOUT, **options)


@pytest.fixture
def start(rendered: Path) -> Iterator[Callable[..., OfficialCaller]]:
    """Start sandboxes with any options; by default jobs finish at once."""
    callers: list[OfficialCaller] = []

    def start_one(**options: Any) -> OfficialCaller:
        given = {"api": "official", "run_seconds": 0.0, "cache_dir": rendered, **options}
        callers.append(OfficialCaller(Sandbox(**given).start()))
        return callers[-1]

    yield start_one
    for caller in callers:
        caller.session.close()
        caller.sandbox.stop()


@pytest.fixture
def caller(start: Callable[..., OfficialCaller]) -> OfficialCaller:
    return start()
