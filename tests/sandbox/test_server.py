# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gc
import json
import socket
import ssl
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from airflow_provider_kling.sandbox import Fault, Sandbox, SandboxClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def self_signed(folder: Path) -> ssl.SSLContext:
    """Make a certificate for 127.0.0.1, kept as ``certificate.pem``, and a context that serves with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


class TestSubmit:
    def test_the_typical_answer(self, caller: Any) -> None:
        answer = caller.submit("a traveler")
        body = answer.json()
        assert answer.status_code == 200
        assert body["id"] == body["task_id"]
        assert body["id"].startswith("task_")
        assert len(body["id"]) == len("task_") + 32
        assert isinstance(body.pop("created_at"), int)
        assert {name: body[name] for name in ("object", "model", "status", "progress")} == {
            "object": "video",
            "model": "kling-v3-std-silent",
            "status": "queued",
            "progress": 0,
        }

    @pytest.mark.parametrize(
        "headers", [{"Authorization": None}, {"Authorization": "Bearer sk-wrong"}, {"Authorization": "sk-sandbox"}]
    )
    def test_a_bad_key_is_refused(self, caller: Any, headers: dict[str, str]) -> None:
        for answer in (
            caller.post({"model": "kling-v3-std-silent", "prompt": "a"}, headers=headers),
            caller.status("task_1", headers=headers),
        ):
            assert answer.status_code == 401
            assert set(answer.json()["error"]) == {"message", "type", "code"}
        assert caller.sandbox.ledger() == []

    def test_a_bad_request_is_refused(self, caller: Any) -> None:
        answer = caller.submit(duration=99)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert "3 to 15" in answer.json()["error"]["message"]
        assert caller.sandbox.ledger() == []

    @pytest.mark.parametrize(
        ("body", "kind"), [(b"{", "application/json"), (b"\xff\xfe", "application/json"), (b"{}", "text/plain")]
    )
    def test_a_body_that_is_no_json(self, caller: Any, body: bytes, kind: str) -> None:
        answer = caller.post(None, data=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")

    def test_the_account_is_full(self, start: Callable[..., Any]) -> None:
        caller = start(max_concurrent=2, run_seconds=3600, api_keys=("sk-one", "sk-two"))
        first = caller.task()
        caller.task()
        refused = caller.submit()
        assert refused.status_code == 429
        assert json.loads(refused.json()["error"]["message"])["code"] == 1303
        assert "Retry-After" not in refused.headers
        caller.key = "sk-two"
        caller.task()
        caller.key = "sk-one"
        caller.sandbox.finish(first)
        caller.task()
        assert caller.sandbox.requests == {"submit": 5, "status": 0, "probe": 0, "content": 0, "accepted": 4}

    def test_many_at_once(self, start: Callable[..., Any]) -> None:
        caller = start(max_concurrent=5, run_seconds=3600)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: caller.submit(f"prompt {number}").status_code, range(24)))
        assert sorted(answers) == [200] * 5 + [429] * 19
        assert len(caller.sandbox.ledger()) == 5


class TestStatus:
    def test_a_job_queues_runs_and_ends(self, start: Callable[..., Any]) -> None:
        waiting = start(queue_seconds=3600)
        assert waiting.status(waiting.task()).json()["status"] == "queued"
        running = start(run_seconds=3600)
        seen = running.status(running.task()).json()
        assert (seen["status"], seen["progress"]) == ("in_progress", 0)
        assert "video_url" not in seen

    def test_a_finished_job(self, caller: Any) -> None:
        task_id = caller.task()
        seen = caller.status(task_id).json()
        assert seen.pop("completed_at") >= seen.pop("created_at")
        assert seen == {
            "id": task_id,
            "task_id": task_id,
            "object": "video.generation.job",
            "model": "kling-v3-std-silent",
            "status": "completed",
            "progress": 100,
            "video_url": f"{caller.sandbox.base_url}/files/{task_id}.mp4",
        }

    def test_an_unknown_task(self, caller: Any) -> None:
        answer = caller.status("task_none")
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "task_not_exist")

    def test_the_task_of_another_key(self, start: Callable[..., Any]) -> None:
        caller = start(api_keys=("sk-one", "sk-two"))
        task_id = caller.task()
        caller.key = "sk-two"
        assert caller.status(task_id).status_code == 400


class TestContent:
    def test_before_the_end_there_is_none(self, start: Callable[..., Any]) -> None:
        caller = start(run_seconds=3600)
        assert caller.video(caller.task()).status_code == 400

    def test_an_unknown_file(self, caller: Any) -> None:
        assert caller.video("task_none").status_code == 404

    def test_the_gateways_own_address_needs_the_key(self, caller: Any) -> None:
        task_id = caller.task(duration=3)
        content = caller.status(f"{task_id}/content")
        assert content.headers["Content-Type"] == "video/mp4"
        assert content.headers["Content-Disposition"] == f'inline; filename="{task_id}.mp4"'
        assert content.content == caller.video(task_id).content
        assert caller.status(f"{task_id}/content", headers={"Authorization": None}).status_code == 401
        assert caller.status("task_none/content").status_code == 400

    def test_a_part_of_the_file(self, caller: Any) -> None:
        part = caller.video(caller.task(duration=3), headers={"Range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp")


class TestWitness:
    def test_the_ledger_lists_what_was_accepted_in_order(self, caller: Any) -> None:
        first = caller.task("one")
        caller.submit("refused", duration=1)
        second = caller.task("two", extra_body={"cfg_scale": 0.5})
        entries = caller.sandbox.ledger()
        assert [entry["id"] for entry in entries] == [first, second]
        assert entries[1]["request"] == {
            "model": "kling-v3-std-silent",
            "prompt": "two",
            "extra_body": {"cfg_scale": 0.5},
        }
        assert [entry["key_suffix"] for entry in entries] == ["dbox", "dbox"]
        assert [entry["answered"] for entry in entries] == [True, True]
        assert entries[0]["accepted_at"] <= entries[1]["accepted_at"]

    def test_a_response_without_a_client(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="delay_after", seconds=0.3))
        with pytest.raises(requests.ReadTimeout):
            caller.session.post(
                f"{caller.sandbox.base_url}/v1/video/generations",
                json={"model": "kling-v3-std-silent", "prompt": "a"},
                headers={"Authorization": "Bearer sk-sandbox"},
                timeout=0.1,
            )
        caller.sandbox.add_fault(Fault(on="submit", kind="delay_after", seconds=0.5))
        caller.task()
        assert [entry["answered"] for entry in caller.sandbox.ledger()] == [False, True]

    def test_headers_are_seen_and_keys_are_not(self, caller: Any) -> None:
        caller.status("task_none", headers={"User-Agent": "airflow-provider-kling/1"})
        (exchange,) = caller.sandbox.seen()
        assert (exchange["route"], exchange["method"], exchange["path"]) == (
            "probe",
            "GET",
            "/v1/videos/task_none",
        )
        assert exchange["headers"]["User-Agent"] == "airflow-provider-kling/1"
        assert exchange["headers"]["Authorization"] == "...dbox"

    def test_jobs_and_finish(self, start: Callable[..., Any]) -> None:
        caller = start(run_seconds=3600)
        task_id = caller.task("a prompt")
        caller.sandbox.finish(task_id)
        (job,) = caller.sandbox.jobs()
        assert (job["id"], job["prompt"], job["state"], job["progress"]) == (task_id, "a prompt", "completed", 100)
        with pytest.raises(KeyError):
            caller.sandbox.finish("task_none")

    def test_reset(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="submit", kind="error"))
        caller.sandbox.reset()
        assert caller.status(task_id).status_code == 400
        assert (caller.sandbox.ledger(), caller.sandbox.faults()) == ([], [])
        assert caller.sandbox.requests == {"submit": 0, "status": 0, "probe": 1, "content": 0, "accepted": 0}

    def test_wait_for(self, caller: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(caller.sandbox.wait_for, "accepted", 1, 20)
            caller.task()
            waiting.result()
        with pytest.raises(TimeoutError, match="1 instead of 2 accepted"):
            caller.sandbox.wait_for("accepted", 2, timeout=0.01)


class TestFromAnotherProcess:
    def test_the_same_powers(self, start: Callable[..., Any]) -> None:
        caller = start(run_seconds=3600, prefix="kling/")
        remote = SandboxClient(caller.sandbox.base_url)
        remote.add_fault(
            Fault(on="submit", kind="error", match="unlucky", times=None, headers={"Retry-After": "1"})
        )
        assert remote.faults() == caller.sandbox.faults()
        assert caller.submit("unlucky").status_code == 500
        remote.clear_faults()
        task_id = caller.task("unlucky")
        remote.wait_for("accepted", 1)
        remote.finish(task_id)
        assert remote.jobs() == caller.sandbox.jobs()
        assert remote.ledger() == caller.sandbox.ledger()
        assert remote.requests == caller.sandbox.requests
        assert [exchange["route"] for exchange in remote.seen()] == ["submit", "submit"]
        remote.reset()
        assert caller.sandbox.ledger() == []

    def test_what_it_refuses(self, caller: Any) -> None:
        remote = SandboxClient(caller.sandbox.base_url)
        with pytest.raises(KeyError):
            remote.finish("task_none")
        with pytest.raises(TimeoutError):
            remote.wait_for("accepted", 1, timeout=0.01)
        for given in ([], {"on": "submit"}, {"on": "submit", "kind": "error", "volume": 11}, "{"):
            answer = caller.session.post(f"{remote.base_url}/_sandbox/faults", json=given, timeout=5)
            assert answer.status_code == 400
            assert answer.json()["error"]

    def test_stats(self, caller: Any) -> None:
        stats = caller.session.get(f"{caller.sandbox.base_url}/_sandbox/stats", timeout=5).json()
        assert stats == {"requests": caller.sandbox.requests, "faults": []}


class TestLife:
    def test_the_connection(self) -> None:
        with Sandbox(api_keys=("sk-one", "sk-two"), prefix="/a/b") as sandbox:
            assert json.loads(sandbox.connection_json) == {
                "conn_type": "kling",
                "host": f"http://127.0.0.1:{sandbox.port}/a/b",
                "password": "sk-one",
            }

    def test_an_address_that_is_taken(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            sandbox = Sandbox(port=taken.getsockname()[1])
            with pytest.raises(OSError, match="in use"):
                sandbox.start()
        with sandbox:
            assert sandbox.ledger() == []

    def test_it_comes_back_with_its_jobs_on_the_same_port(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.stop()
        with pytest.raises(requests.ConnectionError):
            caller.status(task_id)
        assert len(caller.sandbox.ledger()) == 1
        caller.sandbox.start()
        assert caller.status(task_id).json()["status"] == "completed"

    def test_it_starts_once_and_stops_any_number_of_times(self, sandbox: Sandbox) -> None:
        with pytest.raises(RuntimeError, match="already"):
            sandbox.start()
        sandbox.stop()
        sandbox.stop()

    def test_it_stops_while_answers_are_pending(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="delay_after", seconds=3600))
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(caller.submit)
            caller.sandbox.wait_for("accepted", 1)
            caller.sandbox.stop()
            assert isinstance(answer.exception(), requests.ConnectionError)
        assert [entry["answered"] for entry in caller.sandbox.ledger()] == [None]

    def test_over_tls(self, start: Callable[..., Any], tmp_path: Path) -> None:
        caller = start(ssl_context=self_signed(tmp_path))
        assert caller.sandbox.base_url.startswith("https://127.0.0.1:")
        with pytest.raises(requests.exceptions.SSLError):
            caller.submit()
        caller.session.verify = str(tmp_path / "certificate.pem")
        seen = caller.status(caller.task()).json()
        assert seen["video_url"].startswith(caller.sandbox.base_url)

    def test_only_a_download_needs_the_encoder_and_nothing_needs_airflow(self) -> None:
        program = (
            "import sys; from airflow_provider_kling.sandbox import Sandbox, SandboxClient, Fault, Dialect\n"
            "with Sandbox() as sandbox: pass\n"
            "print({'av', 'PIL', 'airflow'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "set()\n"


def test_a_connection_that_comes_at_the_end_is_closed(start: Callable[..., Any]) -> None:
    leaks: list[str] = []
    before, sys.unraisablehook = sys.unraisablehook, lambda unraisable: leaks.append(str(unraisable.exc_value))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            for _ in range(20):
                sandbox = start().sandbox
                socket.create_connection(("127.0.0.1", sandbox.port)).close()
                sandbox.stop()
            gc.collect()
    finally:
        sys.unraisablehook = before
    assert leaks == []
