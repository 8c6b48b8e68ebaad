# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import time
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import KINDS, Dialect, Fault
from airflow_provider_kling.sandbox.faults import FaultBook

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
CUT = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


def accepted(caller: Any) -> int:
    return len(caller.sandbox.ledger())


class TestFault:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"on": "poll", "kind": "error"}, "on must be one of submit, status, probe, content"),
            ({"on": "submit", "kind": "eror"}, "unknown fault kind 'eror'; known are"),
            ({"on": "submit", "kind": "not_visible"}, "not_visible strikes status and find, not submit"),
            ({"on": "submit", "kind": "drop_after", "status": 500}, "drop_after has no parameter status"),
            ({"on": "submit", "kind": "dialect", "dialect": "klingon"}, "unknown dialect 'klingon'"),
            ({"on": "submit", "kind": "dialect", "dialect": {"done": "ok"}}, "unknown dialect fields: done"),
            ({"on": "submit", "kind": "error", "volume": 11}, "no parameter volume"),
            ({"on": "submit", "kind": "error", "times": 0}, "at least 1"),
            ({"kind": "error"}, "needs on and kind"),
        ],
    )
    def test_an_invalid_fault_is_rejected(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Fault.from_json(given)

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_kind_travels_as_json(self, kind: str) -> None:
        fault = Fault(on=KINDS[kind].routes[0], kind=kind, times=None, match="x")
        assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault

    def test_a_dialect_travels_as_json(self) -> None:
        fault = Fault(on="submit", kind="dialect", dialect=Dialect(running="RUNNING"))
        assert Fault.from_json(json.loads(json.dumps(fault.to_json()))) == fault


class TestFaultBook:
    def test_it_skips_then_strikes_then_is_spent(self) -> None:
        book = FaultBook()
        book.add(Fault(on="submit", kind="error", skip=1, times=2))
        struck = [book.strike("submit", "").response is not None for _ in range(5)]
        assert struck == [False, True, True, False, False]
        assert book.armed() == []

    def test_for_ever(self) -> None:
        book = FaultBook()
        book.add(Fault(on="submit", kind="error", times=None))
        assert all(book.strike("submit", "").response for _ in range(50))
        assert book.armed() == [{"on": "submit", "kind": "error", "times": None, "skip": 0, "left": None}]

    def test_it_matches_the_route_the_prompt_and_the_task(self) -> None:
        book = FaultBook()
        book.add(Fault(on="submit", kind="error", match="desert"))
        book.add(Fault(on="status", kind="error", match="task_1"))
        assert book.strike("status", "a desert", ("task_2",)).response is None
        assert book.strike("submit", "a forest").response is None
        assert book.strike("submit", "a desert").response
        assert book.strike("status", "a forest", ("task_1",)).response

    def test_answers_wait_for_their_turn_and_the_rest_adds_up(self) -> None:
        book = FaultBook()
        for kind in ("error", "delay_before", "drop_before", "delay_before"):
            book.add(Fault(on="submit", kind=kind, seconds=2 if kind == "delay_before" else None))
        first, second = book.strike("submit", ""), book.strike("submit", "")
        assert (first.response and first.response.kind, first.pause("delay_before")) == ("error", 4)
        assert (second.response and second.response.kind, second.pause("delay_before")) == ("drop_before", 0)


class TestErrors:
    @pytest.mark.parametrize("on", ["submit", "status", "content"])
    @pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 500, 503, 504])
    def test_any_status_anywhere_and_once(self, caller: Any, on: Any, status: int) -> None:
        task_id = caller.task()
        calls: dict[str, Callable[[], requests.Response]] = {
            "submit": caller.submit,
            "status": lambda: caller.status(task_id),
            "content": lambda: caller.video(task_id, headers={"Range": "bytes=0-0"}),
        }
        caller.sandbox.add_fault(Fault(on=on, kind="error", status=status, code="word", message="余额不足"))
        answer = calls[on]()
        assert answer.status_code == status
        assert answer.json() == {"error": {"message": "余额不足", "type": "new_api_error", "code": "word"}}
        assert accepted(caller) == 1
        assert calls[on]().ok

    @pytest.mark.parametrize(
        ("given", "content_type", "body"),
        [
            (
                {"body": "flat", "code": "task_not_exist", "message": "gone"},
                "application/json",
                '{"code": "task_not_exist", "message": "gone", "data": null}',
            ),
            ({"body": "empty"}, "application/json", ""),
            ({"body": "upstream connect error"}, "text/plain", "upstream connect error"),
            ({"body": "{}", "content_type": "application/json"}, "application/json", "{}"),
        ],
    )
    def test_bodies(self, caller: Any, given: dict[str, Any], content_type: str, body: str) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="error", **given))
        answer = caller.submit()
        assert (answer.status_code, answer.text) == (500, body)
        assert answer.headers["Content-Type"].startswith(content_type)

    def test_a_page(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="error", body="html", message="Down for tea"))
        answer = caller.submit()
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "<h1>Down for tea</h1>" in answer.text

    def test_what_the_platform_said_inside_the_message(self, caller: Any) -> None:
        caller.sandbox.add_fault(
            Fault(on="submit", kind="error", status=401, body="upstream", code=1002, message='say "key"')
        )
        error = caller.submit().json()["error"]
        assert error["code"] == "fail_to_fetch_task"
        assert json.loads(error["message"]) == {"code": 1002, "message": 'say "key"', "request_id": "sandbox"}

    def test_an_error_although_the_job_was_accepted(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="error", accepted=True))
        assert caller.submit().status_code == 500
        assert accepted(caller) == 1

    @pytest.mark.parametrize("code", [1302, 1303, 1100, 1101, 1102, 1304])
    def test_rate_limits(self, caller: Any, code: int) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="rate_limit", code=code, headers={"Retry-After": "2"}))
        answer = caller.submit()
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "2")
        assert json.loads(answer.json()["error"]["message"])["code"] == code
        assert accepted(caller) == 0

    def test_the_usual_rate_limit(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="rate_limit"))
        answer = caller.submit()
        assert "Retry-After" not in answer.headers
        assert json.loads(answer.json()["error"]["message"])["code"] == 1303

    @pytest.mark.parametrize("was_accepted", [False, True])
    @pytest.mark.parametrize("status", [502, 504])
    def test_a_proxy_in_front(self, caller: Any, status: int, was_accepted: bool) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="proxy_error", status=status, accepted=was_accepted))
        answer = caller.submit()
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html")
        assert accepted(caller) == was_accepted

    def test_content_refused_at_submit(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="refuse_content", match="war"))
        caller.task("peace")
        answer = caller.submit("war")
        assert answer.status_code == 400
        assert json.loads(answer.json()["error"]["message"])["code"] == 1301
        assert accepted(caller) == 1

    def test_content_refused_later(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="refuse_content", accepted=True))
        seen = caller.status(caller.task()).json()
        assert seen["status"] == "failed"
        assert json.loads(seen["error"]["message"])["code"] == 1301


class TestNotVisible:
    def test_for_a_number_of_polls(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="not_visible", times=2))
        answers = [caller.status(task_id) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [400, 400, 200]
        assert answers[0].json()["error"]["code"] == "task_not_exist"

    def test_as_not_found(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="status", kind="not_visible", status=404))
        assert caller.status(caller.task()).status_code == 404

    def test_while_a_job_is_young(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="status", kind="not_visible", seconds=0.5))
        task_id = caller.task()
        deadline = time.monotonic() + 20
        codes = [caller.status(task_id).status_code]
        while codes[-1] == 400 and time.monotonic() < deadline:
            codes.append(caller.status(task_id).status_code)
        assert len(codes) > 2
        assert codes[-1] == 200


class TestJobs:
    @pytest.mark.parametrize(
        ("reason_at", "shown"),
        [
            (None, {"error": {"message": "bad luck", "code": "500"}}),
            ("error.message", {"error": {"message": "bad luck", "code": "500"}}),
            ("fail_reason", {"fail_reason": "bad luck"}),
            ("task_status_msg", {"task_status_msg": "bad luck"}),
            ("none", {}),
        ],
    )
    def test_a_job_fails(self, caller: Any, reason_at: str | None, shown: dict[str, Any]) -> None:
        caller.sandbox.add_fault(
            Fault(on="submit", kind="job_fails", message="bad luck", code=500, reason_at=reason_at)
        )
        task_id = caller.task()
        seen = caller.status(task_id).json()
        assert (seen["status"], seen["progress"]) == ("failed", 100)
        assert {name: seen[name] for name in ("error", "fail_reason", "task_status_msg") if name in seen} == shown
        assert caller.video(task_id).status_code == 400

    def test_a_job_under_way_is_made_to_fail(self, start: Callable[..., Any]) -> None:
        caller = start(run_seconds=3600)
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="job_fails", match=task_id))
        assert caller.status(task_id).json()["status"] == "in_progress"
        caller.sandbox.finish(task_id)
        assert caller.status(task_id).json()["status"] == "failed"

    def test_a_stuck_job_ends_only_by_hand(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="stuck"))
        task_id = caller.task()
        seen = caller.status(task_id).json()
        assert (seen["status"], seen["progress"]) == ("in_progress", 99)
        caller.sandbox.finish(task_id)
        assert caller.status(task_id).json()["status"] == "completed"

    def test_a_job_with_a_pace_of_its_own(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="pace", seconds=3600, match="slow"))
        assert caller.status(caller.task("slow")).json()["status"] == "in_progress"
        assert caller.status(caller.task("fast")).json()["status"] == "completed"

    def test_a_job_with_a_dialect_of_its_own(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="dialect", dialect="wrapped", match="odd"))
        odd = caller.submit("odd").json()
        assert caller.status(odd["data"]["task_id"]).json()["data"]["status"] == "SUCCESS"
        assert caller.status(caller.task("plain")).json()["status"] == "completed"


class TestConnection:
    @pytest.mark.parametrize(("kind", "jobs"), [("drop_before", 0), ("drop_after", 1)])
    def test_cut_without_a_response(self, caller: Any, kind: str, jobs: int) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind=kind))
        with pytest.raises(CUT):
            caller.submit()
        assert [entry["answered"] for entry in caller.sandbox.ledger()] == [False] * jobs
        caller.task()

    @pytest.mark.parametrize("kind", ["drop_before", "drop_after"])
    def test_cut_at_any_route(self, caller: Any, kind: str) -> None:
        task_id = caller.task(duration=3)
        caller.sandbox.add_fault(Fault(on="status", kind=kind))
        caller.sandbox.add_fault(Fault(on="content", kind=kind))
        for call in (caller.status, caller.video):
            with pytest.raises(CUT):
                call(task_id)
            assert call(task_id).ok

    @pytest.mark.parametrize(("kind", "at_once"), [("delay_before", 0), ("delay_after", 1)])
    def test_delays(self, caller: Any, kind: str, at_once: int) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind=kind, seconds=0.5))
        url = f"{caller.sandbox.base_url}/v1/video/generations"
        with pytest.raises(requests.ReadTimeout):
            caller.session.post(
                url,
                json={"model": "kling-v3-std-silent", "prompt": "a"},
                headers={"Authorization": f"Bearer {caller.key}"},
                timeout=0.2,
            )
        assert accepted(caller) == at_once
        caller.sandbox.wait_for("accepted", 1)

    def test_a_delay_and_then_a_cut(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="delay_after", seconds=0.2))
        caller.sandbox.add_fault(Fault(on="submit", kind="drop_after"))
        started = time.monotonic()
        with pytest.raises(CUT):
            caller.submit()
        assert time.monotonic() - started >= 0.2
        assert accepted(caller) == 1

    @pytest.mark.parametrize("route", ["submit", "status", "content"])
    def test_half_a_response(self, caller: Any, route: Any) -> None:
        task_id = caller.task(duration=3)
        calls = {"submit": caller.submit, "status": lambda: caller.status(task_id)}
        caller.sandbox.add_fault(Fault(on=route, kind="truncate"))
        with pytest.raises(CUT):
            calls.get(route, lambda: caller.video(task_id))()
        assert accepted(caller) == (2 if route == "submit" else 1)
        assert caller.sandbox.ledger()[-1]["answered"] is (route != "submit")

    def test_half_a_file_was_announced_whole(self, caller: Any) -> None:
        task_id = caller.task(duration=3)
        whole = caller.video(task_id).content
        caller.sandbox.add_fault(Fault(on="content", kind="truncate"))
        got = bytearray()
        with caller.video(task_id, stream=True) as answer, pytest.raises(CUT):
            deque(map(got.extend, answer.iter_content(1024)))
        assert int(answer.headers["Content-Length"]) == len(whole)
        assert 0 < len(got) < len(whole)
        assert whole.startswith(got)

    def test_a_slow_drip(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="slow_drip", seconds=0.4))
        started = time.monotonic()
        assert caller.status(task_id).json()["status"] == "completed"
        assert time.monotonic() - started >= 0.3


class TestBodies:
    @pytest.mark.parametrize("route", ["submit", "status"])
    def test_broken_json(self, caller: Any, route: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on=route, kind="broken_json"))
        answer = caller.submit() if route == "submit" else caller.status(task_id)
        assert answer.status_code == 200
        assert answer.text.startswith('{"id"')
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
        assert accepted(caller) == (2 if route == "submit" else 1)

    def test_wrong_types(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="wrong_types"))
        seen = caller.status(task_id).json()
        assert (seen["id"], seen["status"], seen["progress"]) == ([task_id], ["completed"], "100")

    def test_missing_fields(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="missing_fields"))
        caller.sandbox.add_fault(Fault(on="status", kind="missing_fields", fields=("progress",)))
        assert set(caller.status(task_id).json()) == {"object", "model", "progress", "created_at", "completed_at"}
        seen = caller.status(task_id).json()
        assert "progress" not in seen
        assert seen["status"] == "completed"

    def test_an_empty_body(self, caller: Any) -> None:
        caller.sandbox.add_fault(Fault(on="submit", kind="empty_body", status=202))
        answer = caller.submit()
        assert (answer.status_code, answer.content) == (202, b"")
        assert accepted(caller) == 1

    def test_a_wrong_content_type(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="wrong_content_type"))
        caller.sandbox.add_fault(Fault(on="status", kind="wrong_content_type", content_type="image/png"))
        for expected in ("text/plain", "image/png"):
            answer = caller.status(task_id)
            assert answer.headers["Content-Type"] == expected
            assert answer.json()["status"] == "completed"

    def test_a_huge_answer_is_still_valid(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="status", kind="huge_body", size=3 * MIB + 1))
        answer = caller.status(task_id)
        assert len(answer.json()["padding"]) == 3 * MIB + 1
        assert answer.json()["status"] == "completed"

    def test_a_huge_file_arrives_as_announced(self, caller: Any) -> None:
        task_id = caller.task(duration=3)
        plain = caller.video(task_id).content
        caller.sandbox.add_fault(Fault(on="content", kind="huge_body", size=3 * MIB))
        answer = caller.video(task_id)
        assert answer.content.startswith(plain)
        assert len(answer.content) == int(answer.headers["Content-Length"]) == len(plain) + 16 + 3 * MIB

    @pytest.mark.parametrize("route", ["status", "content"])
    def test_a_bomb_is_small_until_it_is_unpacked(self, caller: Any, route: Any) -> None:
        task_id = caller.task(duration=3)
        caller.sandbox.add_fault(Fault(on=route, kind="gzip_bomb", size=20 * MIB))
        call = caller.status if route == "status" else caller.video
        with call(task_id, stream=True) as answer:
            packed = answer.raw.read(decode_content=False)
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(packed) < MIB
        assert len(zlib.decompress(packed, wbits=31)) > 20 * MIB

    def test_not_a_video(self, caller: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on="content", kind="not_a_video"))
        answer = caller.video(task_id)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
        assert b"<html>" in answer.content


class TestRedirects:
    @pytest.mark.parametrize("route", ["status", "content"])
    def test_without_end(self, caller: Any, route: Any) -> None:
        task_id = caller.task()
        caller.sandbox.add_fault(Fault(on=route, kind="redirect", times=None))
        with pytest.raises(requests.TooManyRedirects):
            (caller.status if route == "status" else caller.video)(task_id)

    def test_to_another_place(self, caller: Any, start: Callable[..., Any]) -> None:
        other = start()
        other_id = other.task(duration=3)
        task_id = caller.task()
        location = f"{other.sandbox.base_url}/files/{other_id}.mp4"
        caller.sandbox.add_fault(Fault(on="content", kind="redirect", status=307, location=location))
        answer = caller.video(task_id)
        assert answer.url == location
        assert [step.status_code for step in answer.history] == [307]
        assert answer.content[4:8] == b"ftyp"
