# SPDX-License-Identifier: Apache-2.0
"""A task whose images are in a bucket of a real S3 server, from end to end."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("s3fs", reason="the S3 server and its client are tried with the newest Airflow")

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG, ObjectStoragePath

from airflow_provider_kling.exceptions import (
    KlingError,
    KlingUncertainSubmissionError,
    KlingValidationError,
)
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from tests.conftest import Connect, TaskLog
from tests.fixtures.frames import BUCKET, ENDPOINT, Bucket, image, refusing
from tests.raw_server import RawServer
from tests.rendering import rendered as rendered_fields
from tests.s3_server import S3Server
from tests.task_context import StateStore, TaskInstance, context, run


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with S3Server() as server:
        server.client.create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture
def bucket(s3: S3Server) -> Bucket:
    bucket = Bucket(s3)
    bucket.connect()
    return bucket


def operator(**arguments: Any) -> KlingGenerateOperator:
    arguments = {"prompt": "x", "poll_interval": 0.1, "timeout": 20, "deferrable": False} | arguments
    return KlingGenerateOperator(task_id="video", model="kling-v3-std-silent", **arguments)


def attempt(**arguments: Any) -> KlingGenerateOperator:
    """Return the task as the next attempt of it starts."""
    task = operator(**arguments)
    task.render_template_fields({"ds": "2026-11-01"})
    return task


def signature_of(url: str) -> str:
    [signature] = parse_qs(urlsplit(url).query)["X-Amz-Signature"]
    return signature


def sent(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [entry["request"] for entry in sandbox.ledger()]


def test_the_submit_has_a_signed_url_that_the_vendor_can_fetch(
    sandbox: Sandbox, connected: str, bucket: Bucket
) -> None:
    first, last = image("PNG"), image("JPEG", color="red")
    uris = {"image": bucket.put("a.png", first), "last_image": bucket.put("deep/b c+ä.jpg", last)}
    run(attempt(**uris))
    [request] = sent(sandbox)
    assert request["image"].startswith(f"{ENDPOINT}/{BUCKET}/a.png?")
    assert [bucket.fetched(request[name]) for name in uris] == [first, last]
    assert parse_qs(urlsplit(request["image"]).query)["X-Amz-Expires"] == ["86400"]


def test_the_signature_lasts_as_long_as_it_is_configured(
    sandbox: Sandbox, connected: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SIGN_SECONDS", "3600")
    run(attempt(image=bucket.put("a.png", image())))
    assert "X-Amz-Expires=3600" in sent(sandbox)[0]["image"]


@pytest.mark.parametrize("text", ["0", "-1", "an hour", "604801", "1.5"])
def test_a_wrong_time_buys_nothing(
    sandbox: Sandbox, connected: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("AIRFLOW__KLING__SIGN_SECONDS", text)
    store = StateStore()
    with pytest.raises(KlingValidationError, match=r"\[kling\] sign_seconds is"):
        run(attempt(image=bucket.put("a.png", image())), store=store)
    assert sandbox.ledger() == []
    assert not store


def test_images_inside_other_fields_are_signed_too(sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
    uri = bucket.put("a.png", image())
    inside = {
        "element_list": [{"element_id": 1, "frontal": uri, "others": [uri, "https://example.com/b.png"]}],
        "extra_body": {"mask": {"url": ObjectStoragePath(uri)}, "prompt_hint": {"prompt": uri}},
    }
    run(attempt(image=uri, **inside))
    extra = sent(sandbox)[0]["extra_body"]
    [element] = extra["element_list"]
    for url in (element["frontal"], element["others"][0], extra["mask"]["url"]):
        assert bucket.fetched(url) == image()
    assert element["others"][1] == "https://example.com/b.png"
    # A text for the model is none.
    assert extra["prompt_hint"] == {"prompt": uri}


class TestPaths:
    """An ``ObjectStoragePath`` is as good as its URI."""

    def test_as_an_argument(self, sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
        uri, store = bucket.put("a.png", image()), StateStore()
        task = operator(image=ObjectStoragePath(uri))
        assert task.image == uri
        assert run(attempt(image=ObjectStoragePath(uri)), store=store) == run(attempt(image=uri), store=store)

    def test_as_the_output_of_another_task(self, sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
        path = ObjectStoragePath(bucket.put("a.png", image()))
        task = operator(image="{{ path }}", element_list="{{ paths }}")
        # What an XComArg leaves there.
        task.image, task.element_list = path, [{"image": path}]
        run(task)
        assert bucket.fetched(sent(sandbox)[0]["image"]) == image()

    def test_of_a_mapped_task(self, bucket: Bucket) -> None:
        uri = bucket.put("a.png", image())
        path = ObjectStoragePath(uri)
        partial = KlingGenerateOperator.partial(task_id="v", model="kling-v3-std-silent", last_image=path)
        mapped = partial.expand(image=[path, "https://example.com/a.png"])
        assert mapped.partial_kwargs["last_image"] == uri
        assert mapped.expand_input.value["image"] == [uri, "https://example.com/a.png"]
        partial = KlingGenerateOperator.partial(task_id="v", model="kling-v3-std-silent")
        assert partial.expand_kwargs([{"image": path}]).expand_input.value == [{"image": uri}]

    def test_from_a_template(self, sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
        bucket.put("2026-11-01.png", image())
        run(attempt(image=bucket.uri("{{ ds }}.png")))
        assert bucket.fetched(sent(sandbox)[0]["image"]) == image()


class TestSecrecy:
    """The signature is in the body of the submit, and nowhere else."""

    @pytest.mark.parametrize(
        "fault",
        [
            None,
            Fault("submit", "job_fails", message="cannot load the image"),
            Fault("submit", "error", status=400, message="cannot load the image"),
            Fault("submit", "drop_after"),
        ],
        ids=str,
    )
    def test_nothing_that_is_stored_or_logged_has_it(
        self, sandbox: Sandbox, connected: str, bucket: Bucket, task_log: TaskLog, fault: Fault | None
    ) -> None:
        task_log.standard.set_level(logging.DEBUG)
        if fault:
            sandbox.add_fault(fault)
        ti, store, seen = TaskInstance(), StateStore(), ""
        task = attempt(image=bucket.put("a.png", image()), wait_for_completion=True)
        try:
            seen += json.dumps(run(task, ti, store))
        except KlingError as error:
            seen += f"{error} {error.to_dict()} {error!r} {error.__cause__!r}"
        seen += json.dumps(ti.pushed) + json.dumps(store) + task_log.text
        seen += repr({name: getattr(task, name) for name in task.template_fields})
        # What the store's client logs of other requests is there.
        assert "botocore" in seen
        assert store
        assert "X-Amz-Signature" not in seen
        for request in sent(sandbox):
            assert signature_of(request["image"]) not in seen
        assert sent(sandbox) or fault is not None

    def test_what_airflow_stores_of_the_rendered_task_has_the_uri(self, bucket: Bucket) -> None:
        uri = bucket.put("a.png", image())
        with DAG("dag", schedule=None):
            task = operator(image=ObjectStoragePath(uri), element_list=[{"image": ObjectStoragePath(uri)}])
        stored = rendered_fields(task).stored
        assert stored["image"] == uri
        assert stored["element_list"] == [{"image": uri}]

    @pytest.mark.parametrize("status", [400, 500])
    def test_a_server_that_repeats_it_in_its_own_words_is_masked(
        self, connect: Connect, bucket: Bucket, status: int
    ) -> None:
        """The bare signature is in no URL; it is known only because it was made here."""
        store = StateStore()
        with refusing(lambda body: f"the image {signature_of(body['image'])} is bad", status) as server:
            connect(server.base_url, probe=False)
            with pytest.raises(KlingError) as caught:
                run(attempt(image=bucket.put("a.png", image())), store=store)
            [request] = server.requests
        assert "the image *** is bad" in str(caught.value)
        # Of a submit of unknown fate, the record keeps what the server said.
        assert ("the image *** is bad" in json.dumps(store)) == (status == 500)
        assert signature_of(json.loads(request.body)["image"]) not in json.dumps(store)

    def test_a_task_that_waits_for_a_slot_hands_nothing_to_its_trigger(
        self, sandbox: Sandbox, connected: str, bucket: Bucket
    ) -> None:
        sandbox.add_fault(Fault("submit", "rate_limit", times=1))
        with pytest.raises(TaskDeferred) as deferred:
            attempt(image=bucket.put("a.png", image()), deferrable=True).execute(context())
        handed = f"{deferred.value.trigger.serialize()} {deferred.value.kwargs}"
        assert "X-Amz" not in handed
        assert ENDPOINT not in handed


class TestOneVideo:
    """The frame is known by its content, so that a retry joins and a changed frame does not."""

    def test_a_retry_joins(self, sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
        uri, store = bucket.put("a.png", image()), StateStore()
        ids = {run(attempt(image=uri), TaskInstance(try_number=number), store) for number in (1, 2, 3)}
        assert len(ids) == len(sandbox.ledger()) == 1

    def test_the_same_content_under_another_key_joins(
        self, sandbox: Sandbox, connected: str, bucket: Bucket
    ) -> None:
        store = StateStore()
        first = run(attempt(image=bucket.put("a.png", image())), store=store)
        # An ETag differs with the encryption.
        other = bucket.put("b.png", image(), ServerSideEncryption="aws:kms", Metadata={"a": "b"})
        assert run(attempt(image=other), store=store) == first
        assert len(sandbox.ledger()) == 1

    def test_other_content_is_another_request(self, sandbox: Sandbox, connected: str, bucket: Bucket) -> None:
        store = StateStore()
        ids = set()
        for color in ("red", "blue"):
            uri = bucket.put("a.png", image(color=color))
            ids.add(run(attempt(image=uri), store=store))
        assert len(ids) == len(sandbox.ledger()) == 2

    def test_each_post_is_signed_anew(
        self, connect: Connect, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where it was refused for certain, it is sent again by the same attempt."""
        # A signature has the second in which it was made.
        monkeypatch.setattr("airflow_provider_kling.jobs.submission.pause_in_place", lambda error, attempt: 1.1)
        answers = [
            (503, {"error": {"code": "model_not_found", "message": "no channel"}}),
            (200, {"task_id": "task_1", "status": "queued"}),
        ]

        def answer(connection: Any, request: Any) -> None:
            status, content = answers[min(len(server.requests) - 1, 1)]
            body = json.dumps(content).encode()
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + body)

        with RawServer(answer) as server:
            connect(server.base_url, probe=False)
            assert run(attempt(image=bucket.put("a.png", image()))) == "task_1"
            refused, accepted = [json.loads(request.body)["image"] for request in server.requests]
        assert signature_of(refused) != signature_of(accepted)
        assert bucket.fetched(accepted) == image()

    def test_an_image_that_changes_while_the_task_waits_is_not_bought_as_the_old_one(
        self, sandbox: Sandbox, connected: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sandbox.add_fault(Fault("submit", "rate_limit", times=1))
        uri, store = bucket.put("a.png", image(color="red")), StateStore()
        task, real = attempt(image=uri, deferrable=False), time.sleep

        def changing(seconds: float) -> None:
            bucket.put("a.png", image(color="blue"))
            real(0)

        monkeypatch.setattr("airflow_provider_kling.operators.kling.time.sleep", changing)
        with pytest.raises(KlingError, match="has changed while this task waited") as caught:
            run(task, store=store)
        assert caught.value.retryable
        assert sandbox.ledger() == []
        monkeypatch.undo()
        run(attempt(image=uri), store=store)
        assert bucket.fetched(sent(sandbox)[0]["image"]) == image(color="blue")

    def test_a_crash_between_intent_and_response_stops_the_retry(
        self, sandbox: Sandbox, connected: str, bucket: Bucket
    ) -> None:
        sandbox.add_fault(Fault("submit", "drop_after"))
        uri, store = bucket.put("a.png", image()), StateStore()
        for number in (1, 2):
            with pytest.raises(KlingUncertainSubmissionError):
                run(attempt(image=uri), TaskInstance(try_number=number), store)
        assert len(sandbox.ledger()) == 1
