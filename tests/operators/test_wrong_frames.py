# SPDX-License-Identifier: Apache-2.0
"""Images that Kling would refuse, or that cannot be read, are refused before anything is bought."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("s3fs", reason="the S3 server and its client are tried with the newest Airflow")

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kling.exceptions import (
    KlingError,
    KlingGenerationFailedError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.media.image_facts import MAX_BYTES
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.fixtures.frames import BUCKET, Bucket, image, padded
from tests.raw_server import RawServer, free_port
from tests.s3_server import S3Server
from tests.task_context import StateStore, run

GOOD = "good.png"
#: The response to a HEAD, which has no body.
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
#: Objects that are no frame: their content, and what the error says of them.
WRONG = {
    "cut.png": (image("PNG")[:200], "is a PNG that was cut"),
    "cut.jpg": (image("JPEG")[:-2], "is a JPEG that was cut"),
    "page.png": (b"<!DOCTYPE html><html>Not found</html>", "is HTML"),
    "error.png": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "is HTML, SVG or XML"),
    "other.png": (image("WEBP"), "is a WebP, whatever its name says"),
    "moving.jpg": (image("GIF"), "is a GIF"),
    "empty.png": (b"", "is empty"),
    "large.png": (padded(MAX_BYTES + 1), "has 10,485,761 bytes; Kling takes at most 10,485,760 (10 MB)"),
    "narrow.png": (image("PNG", (299, 400)), "is 299 x 400 pixels; each side needs at least 300"),
    "wide.jpg": (image("JPEG", (900, 300)), "the ratio of its sides may be 1:2.5 to 2.5:1"),
}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.client.create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture(scope="module")
def filled(s3: S3Server) -> Bucket:
    bucket = Bucket(s3)
    for key, (content, _) in {**WRONG, GOOD: (image(), "")}.items():
        bucket.put(key, content)
    bucket.put("folder/inside.png", image())
    return bucket


@pytest.fixture
def bucket(filled: Bucket) -> Bucket:
    filled.connect()
    return filled


def refused(sandbox: Sandbox, **arguments: Any) -> KlingError:
    """Return the error of an attempt that neither submits nor records anything."""
    store = StateStore()
    arguments = {"prompt": "x", **arguments}
    task = KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", deferrable=False, **arguments)
    with pytest.raises(KlingError) as caught:
        run(task, store=store)
    assert not store
    assert sandbox.ledger() == []
    assert sandbox.requests["submit"] == 0
    return caught.value


def assert_wrong(error: KlingError, field: str, uri: str, words: str) -> None:
    assert isinstance(error, KlingValidationError)
    assert isinstance(error, AirflowFailException)
    assert f"  - {field}={uri!r}: " in f"  - {error}"
    assert words in str(error)
    assert "This attempt submitted nothing" in str(error)


@pytest.mark.parametrize("key", WRONG)
def test_what_kling_does_not_take(sandbox: Sandbox, connected: str, bucket: Bucket, key: str) -> None:
    uri = bucket.uri(key)
    assert_wrong(refused(sandbox, image=uri), "image", uri, WRONG[key][1])


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("missing.png", "does not exist, nor perhaps its bucket or folder"),
        ("folder", "is a folder; name the object"),
        ("good.png?", "would be read as"),
        ("good.png#", "would be read as"),
    ],
)
def test_what_is_not_there(sandbox: Sandbox, connected: str, bucket: Bucket, key: str, words: str) -> None:
    uri = bucket.uri(key)
    assert_wrong(refused(sandbox, image=uri), "image", uri, words)


def test_a_bucket_that_is_not_there(sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
    uri = f"s3://{bucket.conn_id}@no-such-bucket/a.png"
    assert_wrong(refused(sandbox, image=uri), "image", uri, "does not exist")


def test_every_field_is_named_at_once(sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
    good, cut, page = bucket.uri(GOOD), bucket.uri("cut.png"), bucket.uri("page.png")
    error = refused(
        sandbox,
        image=good,
        last_image=cut,
        element_list=[{"image": page}],
        extra_body={"mask": {"url": bucket.uri("missing.png")}},
    )
    assert "3 problems" in str(error)
    assert_wrong(error, "last_image", cut, "a PNG that was cut")
    assert_wrong(error, "element_list[0].image", page, "is HTML")
    assert_wrong(error, "extra_body.mask.url", bucket.uri("missing.png"), "does not exist")
    assert "image='s3" in str(error)
    assert f"  - image={good!r}" not in str(error)


def test_a_connection_without_the_permission(sandbox: Sandbox, connected: str, s3: S3Server) -> None:
    other = Bucket(s3)
    with RawServer(FORBIDDEN) as server:
        other.connect(endpoint_url=server.base_url, service_config={})
        error = refused(sandbox, image=other.uri(GOOD))
    assert_wrong(error, "image", other.uri(GOOD), "may not be read with this connection (PermissionError")


def test_a_connection_that_airflow_does_not_have(
    sandbox: Sandbox, connected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow then asks without any credentials, which a bucket that is not public refuses."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with RawServer(FORBIDDEN) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.base_url)
        uri = "s3://no_such_connection@frames/a.png"
        assert_wrong(refused(sandbox, image=uri), "image", uri, "may not be read with this connection")


def test_a_store_that_cannot_be_reached_now(sandbox: Sandbox, connected: str, s3: S3Server) -> None:
    other = Bucket(s3)
    other.connect(
        endpoint_url=f"http://127.0.0.1:{free_port()}",
        service_config={},
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 1},
    )
    error = refused(sandbox, image=other.uri(GOOD))
    assert error.retryable
    assert not isinstance(error, AirflowFailException)
    assert error.message.startswith(f"image={other.uri(GOOD)!r}: its store cannot be read now (")
    assert "Check the connection of the store" in str(error)


def test_an_image_that_is_gone_does_not_lose_the_job(sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
    """It is joined; only a purchase needs the image."""
    store = StateStore()
    arguments: dict[str, Any] = {"prompt": "x", "image": bucket.put("short.png", image())}

    def attempt() -> Any:
        task = KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", **arguments)
        return run(task, store=store)

    first = attempt()
    bucket.server.client.delete_object(Bucket=BUCKET, Key="short.png")
    assert attempt() == first
    bucket.put("short.png", b"no image")
    assert attempt() == first
    bucket.put("short.png", image())
    assert attempt() == first
    assert len(sandbox.ledger()) == 1
    arguments["prompt"] = "y"
    bucket.server.client.delete_object(Bucket=BUCKET, Key="short.png")
    with pytest.raises(KlingValidationError, match="does not exist"):
        attempt()
    assert len(sandbox.ledger()) == 1


def test_the_last_image_decides_which_job_is_joined_once_it_is_gone(
    sandbox: Sandbox, connected: str, bucket: Bucket
) -> None:
    store = StateStore()

    def attempt() -> Any:
        task = KlingGenerateOperator(
            task_id="video", model="kling-v3-std-silent", prompt="x", image=bucket.uri("turns.png")
        )
        return run(task, store=store)

    ids = []
    for color in ("red", "blue"):
        bucket.put("turns.png", image(color=color))
        ids.append(attempt())
    bucket.server.client.delete_object(Bucket=BUCKET, Key="turns.png")
    assert attempt() == ids[1] != ids[0]
    assert len(sandbox.ledger()) == 2


def test_a_lost_submit_is_reported_although_its_image_is_gone(
    sandbox: Sandbox, connected: str, bucket: Bucket
) -> None:
    store = StateStore()
    sandbox.add_fault(Fault("submit", "drop_after"))
    uri = bucket.put("lost.png", image())
    for _ in range(2):
        task = KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", prompt="x", image=uri)
        with pytest.raises(KlingUncertainSubmissionError):
            run(task, store=store)
        bucket.server.client.delete_object(Bucket=BUCKET, Key="lost.png")
    assert len(sandbox.ledger()) == 1


def test_a_failed_job_is_not_bought_again_without_its_image(
    sandbox: Sandbox, connected: str, bucket: Bucket
) -> None:
    store = StateStore()
    sandbox.add_fault(Fault("submit", "job_fails"))
    uri = bucket.put("failed.png", image())

    def attempt() -> Any:
        arguments: dict[str, Any] = {"prompt": "x", "image": uri, "wait_for_completion": True, "deferrable": False}
        return run(
            KlingGenerateOperator(
                task_id="video", model="kling-v3-std-silent", poll_interval=0.1, timeout=20, **arguments
            ),
            store=store,
        )

    with pytest.raises(KlingGenerationFailedError):
        attempt()
    bucket.server.client.delete_object(Bucket=BUCKET, Key="failed.png")
    with pytest.raises(KlingValidationError, match="does not exist"):
        attempt()
    assert len(sandbox.ledger()) == 1
