# SPDX-License-Identifier: Apache-2.0
"""Images in stores without signed URLs: refused on a gateway, sent themselves to Kling's own platform."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_kling.exceptions import KlingError, KlingValidationError
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import Connect, TaskLog
from tests.connections import BOOK
from tests.fixtures.frames import image, refusing
from tests.fixtures.platform import API_KEY, PAIR, connection_to
from tests.task_context import StateStore, TaskInstance, run

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach

#: The Base64 of an image as a server may show it: from its beginning, of any length.
SHOWN = b64encode(image()).decode()
WAYS = {
    "legacy standard": (API_KEY, "kling-v3"),
    "legacy standard, access key": (PAIR, "kling-v3"),
    "new standard": (API_KEY, "kling-3.0"),
}


class WithoutKey(MemoryFileSystem):  # type: ignore[misc]
    """A store that signs as Google's does with the credentials of a machine."""

    cachable = False
    store: dict[str, Any] = {}

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        raise AttributeError("you need a private key to sign credentials")


class Inside(MemoryFileSystem):  # type: ignore[misc]
    """A store inside the network: its signed URLs are good there only."""

    cachable = False
    store: dict[str, Any] = {}

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        return f"http://minio:9000{path}?X-Amz-Signature=4f8e21c09b7d4f8e21c09b7d"


class Failing(MemoryFileSystem):  # type: ignore[misc]
    """A store whose service that signs does not respond now."""

    cachable = False
    store: dict[str, Any] = {}

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        raise TimeoutError("the signing service did not respond")


class Unknown(MemoryFileSystem):  # type: ignore[misc]
    """A store that signs in a way of its own."""

    cachable = False
    store: dict[str, Any] = {}

    def sign(self, path: str, expiration: int = 100, **options: Any) -> str:
        return f"https://files.example.com{path}?v=2&ticket=8c1d7b5e3f9a8c1d7b5e3f9a"


STORES: dict[str, tuple[Any, str]] = {
    "memory": (MemoryFileSystem, "is in a store that cannot sign URLs (NotImplementedError"),
    "without_key": (WithoutKey, "you need a private key to sign credentials"),
    "inside": (Inside, "gets the signed URL http://minio:9000/frames/a.png, which the vendor cannot reach"),
}


def stored(kind: Any, conn_id: str, content: bytes | None = None) -> str:
    """Store an image; return its URI."""
    fs = kind()
    attach("memory", conn_id, fs=fs)
    fs.pipe_file("/frames/a.png", image() if content is None else content)
    return f"memory://{conn_id}@frames/a.png"


def task(**arguments: Any) -> KlingGenerateOperator:
    arguments = {
        "model": "kling-v3-std-silent",
        "prompt": "x",
        "deferrable": False,
        "poll_interval": 0.1,
    } | arguments
    return KlingGenerateOperator(task_id="video", **arguments)


@pytest.fixture(scope="module")
def shared(rendered: Path) -> Iterator[Sandbox]:
    with Sandbox(api="official", run_seconds=0, cache_dir=rendered) as sandbox:
        yield sandbox


@pytest.fixture
def platform(shared: Sandbox) -> Sandbox:
    """Kling's own platform, with an API key."""
    shared.reset()
    BOOK.add("kling_default", connection_to(shared))
    return shared


class TestGateway:
    """Gateways take URLs only."""

    @pytest.mark.parametrize("name", STORES)
    def test_refuses_before_anything_is_sent(self, sandbox: Sandbox, connected: str, name: str) -> None:
        kind, words = STORES[name]
        self.refused(sandbox, stored(kind, f"gateway_{name}"), words)

    def test_refuses_a_file_of_this_machine(self, sandbox: Sandbox, connected: str, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(image())
        self.refused(sandbox, f"file://{tmp_path}/a.png", "is in a store that cannot sign URLs")

    def refused(self, sandbox: Sandbox, uri: str, words: str) -> None:
        store = StateStore()
        with pytest.raises(KlingValidationError) as caught:
            run(task(image=uri), store=store)
        assert f"image={uri!r}: " in str(caught.value)
        assert words in str(caught.value)
        assert "use a public http(s) URL, a store on the internet whose connection has static" in str(caught.value)
        assert sandbox.ledger() == []
        # Nothing is left to resolve: the store has no intent.
        assert "intent" not in json.dumps(store)
        assert run(task(image="https://example.com/a.png"), store=store)

    def test_a_signing_service_that_is_down_is_tried_again(self, sandbox: Sandbox, connected: str) -> None:
        store = StateStore()
        with pytest.raises(KlingError, match="could not sign its URL: TimeoutError") as caught:
            run(task(image=stored(Failing, "failing")), store=store)
        assert caught.value.retryable
        assert sandbox.ledger() == []
        assert "intent" not in json.dumps(store)

    def test_a_signature_of_an_unknown_kind_is_masked(self, connect: Connect) -> None:
        uri = stored(Unknown, "unknown")
        with refusing(lambda body: f"no ticket {body['image'].rpartition('=')[2]} for v=2") as server:
            connect(server.base_url, probe=False)
            with pytest.raises(KlingError) as caught:
                run(task(image=uri))
        assert "no ticket *** for v=2" in str(caught.value)


class TestPlatform:
    """Kling's own platform takes the frame itself."""

    @staticmethod
    def frames(request: dict[str, Any]) -> list[str]:
        parts = request.get("contents", [])
        named = [request.get("image"), request.get("image_tail")]
        return [*filter(None, named), *(part["url"] for part in parts if part["type"].endswith("_frame"))]

    @pytest.mark.parametrize("way", WAYS)
    def test_takes_the_image_itself(self, platform: Sandbox, tmp_path: Path, way: str) -> None:
        keys, model = WAYS[way]
        BOOK.add("kling_default", connection_to(platform, keys=keys))
        (tmp_path / "b.jpg").write_bytes(image("JPEG"))
        uris = {"image": stored(MemoryFileSystem, "platform"), "last_image": f"file://{tmp_path}/b.jpg"}
        store = StateStore()
        first = run(task(model=model, mode="pro", **uris), store=store)
        [entry] = platform.ledger()
        assert [b64decode(text) for text in self.frames(entry["request"])] == [image(), image("JPEG")]
        # A retry reads the images again, and joins.
        assert run(task(model=model, mode="pro", **uris), store=store) == first
        assert len(platform.ledger()) == 1

    @pytest.mark.parametrize("name", STORES)
    def test_takes_it_from_any_store_that_cannot_sign(self, platform: Sandbox, name: str) -> None:
        run(task(model="kling-v3", image=stored(STORES[name][0], f"platform_{name}")))
        assert self.frames(platform.ledger()[0]["request"]) == [SHOWN]

    def test_takes_no_element_so(self, platform: Sandbox) -> None:
        uri = stored(MemoryFileSystem, "element")
        with pytest.raises(KlingValidationError, match=r"element_list\[0\]\.frontal=.*cannot sign URLs"):
            run(task(model="kling-v3", image=uri, element_list=[{"element_id": 1, "frontal": uri}]))
        assert platform.ledger() == []

    @pytest.mark.parametrize(
        "fault",
        [
            None,
            Fault("submit", "job_fails", message=f"bad image {SHOWN[:200]}"),
            Fault("submit", "error", status=400, code=1201, message=f"bad image {SHOWN[:300]}..."),
            Fault("submit", "error", status=400, code=1201, message=f"bad image {SHOWN}"),
        ],
        ids=["none", "job fails", "a part", "the whole"],
    )
    def test_nothing_that_is_stored_or_logged_has_the_image(
        self, platform: Sandbox, task_log: TaskLog, fault: Fault | None
    ) -> None:
        if fault is not None:
            platform.add_fault(fault)
        ti, store, seen = TaskInstance(), StateStore(), ""
        video = task(model="kling-v3", image=stored(MemoryFileSystem, "secret"), wait_for_completion=True)
        try:
            seen += json.dumps(run(video, ti, store))
        except KlingError as error:
            seen += f"{error} {error.to_dict()} {error!r} {error.__cause__!r}"
        own_log = "\n".join(line for line in task_log.text.splitlines() if "sandbox" not in line)
        seen += json.dumps(ti.pushed) + json.dumps(store) + own_log + str(video.image)
        assert store
        for start in range(0, 160, 20):
            assert SHOWN[start : start + 40] not in seen


def test_the_hook_does_not_send_a_uri(sandbox: Sandbox, connected: str) -> None:
    request = {"model": "kling-v3-std-silent", "prompt": "x", "image": "s3://conn@bucket/a.png"}
    with pytest.raises(KlingValidationError, match="is not signed here; pass a signed URL"):
        KlingHook().submit_video(request)
    assert sandbox.requests["submit"] == 0
