# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_kling.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT, IMAGE = "/v1/videos/text2video", "/v1/videos/image2video"
ALWAYS = "/account/costs?start_time=0&end_time=99999999999999"


def not_found(answer: requests.Response, name: str) -> bool:
    body = answer.json()
    message = f"Task not found by id/external id: {name}"
    return (answer.status_code, body["code"], body["message"]) == (400, 1201, message)


class TestLegacy:
    def test_the_answer_to_a_create_request(self, caller: Any) -> None:
        body = caller.legacy(external_task_id="dag-1").json()
        assert (body["code"], body["message"]) == (0, "SUCCEED")
        assert body["request_id"]
        data = body["data"]
        assert re.fullmatch(r"867\d{15}", data["task_id"])
        assert data["created_at"] == data["updated_at"] > 10**12
        assert (data["task_status"], data["task_info"]) == ("submitted", {"external_task_id": "dag-1"})

    @pytest.mark.parametrize(
        ("times", "word"), [({"queue_seconds": 3600}, "submitted"), ({"run_seconds": 3600}, "processing")]
    )
    def test_while_it_runs(self, start: Callable[..., Any], times: dict[str, float], word: str) -> None:
        caller = start(**times)
        data = caller.status(caller.task()).json()["data"]
        assert data["task_status"] == word
        assert "task_result" not in data
        assert "final_unit_deduction" not in data

    def test_a_finished_task(self, caller: Any) -> None:
        task_id = caller.task(external_task_id="dag-1", mode="pro", sound="on")
        data = caller.status(task_id).json()["data"]
        assert (data["task_id"], data["task_status"], data["task_status_msg"]) == (task_id, "succeed", "")
        assert data["task_info"] == {"external_task_id": "dag-1"}
        assert data["final_unit_deduction"] == "6"
        (video,) = data["task_result"]["videos"]
        assert video["duration"] == "5.0"
        assert "watermark_url" not in video
        assert "?Expires=" in video["url"]

    def test_a_file_needs_no_key(self, caller: Any) -> None:
        task_id = caller.task(duration="3", watermark_info={"enabled": True})
        (video,) = caller.status(task_id).json()["data"]["task_result"]["videos"]
        plain, marked = (requests.get(video[name], timeout=20) for name in ("url", "watermark_url"))
        assert (plain.headers["Content-Type"], plain.content[4:8]) == ("video/mp4", b"ftyp")
        assert marked.content == plain.content

    def test_each_path_knows_its_own_tasks(self, caller: Any) -> None:
        text = caller.task(external_task_id="x")
        image = caller.image().json()["data"]["task_id"]
        assert caller.status(image, IMAGE).ok
        assert not_found(caller.status(image), image)
        assert not_found(caller.status(text, IMAGE), text)
        assert not_found(caller.status("x", IMAGE), "x")
        new = caller.new().json()["data"]["id"]
        assert not_found(caller.status(new), new)

    def test_a_list(self, caller: Any) -> None:
        tasks = [caller.task() for _ in range(3)]
        caller.image()
        pages = [
            [task["task_id"] for task in caller.get(f"{TEXT}?pageNum={page}&pageSize=2").json()["data"]]
            for page in (1, 2, 3)
        ]
        assert pages == [tasks[:0:-1], tasks[:1], []]
        assert len(caller.get(TEXT).json()["data"]) == 3
        assert caller.get(f"{TEXT}?pageSize=501").json()["code"] == 1201


class TestNew:
    def test_the_answer_to_a_create_request(self, caller: Any) -> None:
        data = caller.new(options={"external_task_id": "dag-1"}).json()["data"]
        assert data.pop("create_time") == data.pop("update_time") > 10**12
        assert re.fullmatch(r"867\d{15}", data.pop("id"))
        assert data == {"status": "submitted", "message": "", "external_id": "dag-1"}

    def test_a_finished_task(self, caller: Any) -> None:
        options = {"external_task_id": "dag-1", "watermark_info": {"enabled": True}}
        settings = {"duration": 3, "audio": "native", "resolution": "720p"}
        task_id = caller.new(options=options, settings=settings).json()["data"]["id"]
        (task,) = caller.tasks(task_ids=task_id).json()["data"]
        assert task["update_time"] >= task["create_time"]
        assert {name: task[name] for name in ("id", "status", "message", "external_id")} == {
            "id": task_id,
            "status": "succeeded",
            "message": "",
            "external_id": "dag-1",
        }
        (output,) = task["outputs"]
        assert (output["type"], output["duration"]) == ("video", "3.000")
        assert output["watermark_url"].startswith(output["url"])
        (bill,) = task["billing"]
        assert (bill["charge_type"], bill["amount"]) == ("unit", "2.7")

    def test_several_at_once_and_only_those_that_exist(self, caller: Any) -> None:
        made = [caller.task(), caller.image().json()["data"]["task_id"], caller.new().json()["data"]["id"]]
        answer = caller.tasks(task_ids=",".join([*made, "0"]))
        assert sorted(task["id"] for task in answer.json()["data"]) == sorted(made)
        assert {task["status"] for task in answer.json()["data"]} == {"succeeded"}

    def test_none_exists(self, caller: Any) -> None:
        for query in ({"task_ids": "0"}, {"external_task_ids": "x"}):
            answer = caller.tasks(**query)
            assert (answer.status_code, answer.json()["code"], answer.json()["data"]) == (200, 0, [])

    def test_by_external_ids(self, caller: Any) -> None:
        made = {caller.task(external_task_id="a"), caller.task(external_task_id="b")}
        answer = caller.tasks(external_task_ids="a,b,c")
        assert {task["id"] for task in answer.json()["data"]} == made

    @pytest.mark.parametrize("name", ["task_ids", "external_task_ids"])
    def test_more_ids_than_allowed(self, caller: Any, name: str) -> None:
        assert caller.tasks(**{name: ",".join(map(str, range(20)))}).ok
        answer = caller.tasks(**{name: ",".join(map(str, range(21)))})
        assert (answer.status_code, answer.json()["code"]) == (400, 1201)

    def test_no_ids(self, caller: Any) -> None:
        for query in ({}, {"task_ids": ""}, {"task_ids": "1", "external_task_ids": "a"}):
            assert caller.tasks(**query).json()["code"] == 1201

    def test_a_list_with_a_cursor(self, caller: Any) -> None:
        tasks = [caller.task() for _ in range(3)]
        first = caller.post("/tasks", {"limit": 2}).json()["data"]
        second = caller.post("/tasks", {"limit": 2, "cursor": first["next_cursor"]}).json()["data"]
        assert [task["id"] for task in (*first["tasks"], *second["tasks"])] == tasks[::-1]
        assert second["next_cursor"] == ""


class TestExternalIds:
    def test_a_task_is_found_by_its_external_id(self, caller: Any) -> None:
        task_id = caller.task(external_task_id="dag-1")
        assert caller.status("dag-1").json()["data"]["task_id"] == task_id
        assert not_found(caller.status("dag-2"), "dag-2")

    def test_it_is_unique_over_all_products(self, caller: Any) -> None:
        caller.task(external_task_id="x")
        for answer in (
            caller.legacy(external_task_id="x"),
            caller.image(external_task_id="x"),
            caller.new(options={"external_task_id": "x"}),
        ):
            body = answer.json()
            assert (answer.status_code, body["code"]) == (400, 1201)
            assert body["message"] == "External_task_id x already exists"
            assert "data" not in body
        assert len(caller.sandbox.ledger()) == 1
        caller.task(external_task_id="")
        caller.task(external_task_id="")

    def test_a_server_that_drops_it(self, start: Callable[..., Any]) -> None:
        caller = start(drops_external_ids=True)
        for answer in (caller.legacy(external_task_id="x"), caller.legacy(external_task_id="x")):
            assert answer.json()["data"]["task_info"] == {}
        assert "external_id" not in caller.new(options={"external_task_id": "x"}).json()["data"]
        assert not_found(caller.status("x"), "x")
        assert caller.tasks(external_task_ids="x").json()["data"] == []
        assert [entry["effective"]["external_id"] for entry in caller.sandbox.ledger()] == ["", "", ""]


class TestAccount:
    def test_the_parallel_limit(self, start: Callable[..., Any]) -> None:
        caller = start(max_concurrent=2, run_seconds=3600)
        first = caller.task()
        assert caller.new().ok
        for answer in (caller.legacy(), caller.image(), caller.new()):
            assert (answer.status_code, answer.json()["code"]) == (429, 1303)
        caller.sandbox.finish(first)
        assert caller.image().ok
        (pack,) = caller.get(ALWAYS).json()["data"]["resource_pack_subscribe_infos"]
        assert "-2Con-" in pack["resource_pack_name"]

    def test_a_pack_is_used_up(self, start: Callable[..., Any]) -> None:
        caller = start(units=6.5)
        caller.task()
        caller.task()
        answer = caller.legacy()
        assert (answer.status_code, answer.json()["code"]) == (429, 1102)
        data = caller.get(ALWAYS).json()["data"]
        (pack,) = data["resource_pack_subscribe_infos"]
        assert (data["code"], pack["total_quantity"], pack["remaining_quantity"]) == (0, 6.5, 0.5)
        assert pack["status"] == "online"
        assert pack["purchase_time"] <= pack["effective_time"] < pack["invalid_time"]

    def test_units_are_taken_when_a_task_succeeds(self, start: Callable[..., Any]) -> None:
        caller = start(units=3, run_seconds=3600)
        task_id = caller.task()
        quantity = []
        for _ in range(2):
            (pack,) = caller.get(ALWAYS).json()["data"]["resource_pack_subscribe_infos"]
            quantity.append((pack["remaining_quantity"], pack["status"]))
            caller.sandbox.finish(task_id)
        assert quantity == [(3, "online"), (0, "runOut")]

    def test_only_packs_bought_in_the_time_asked_for(self, caller: Any) -> None:
        answer = caller.get("/account/costs?start_time=0&end_time=1000")
        assert answer.json()["data"]["resource_pack_subscribe_infos"] == []
        for query in ("", "?start_time=0", "?start_time=a&end_time=1"):
            assert caller.get(f"/account/costs{query}").json()["code"] == 1201

    def test_one_request_a_second(self, start: Callable[..., Any]) -> None:
        caller = start(account_seconds=60)
        assert caller.get(ALWAYS).ok
        answer = caller.get(ALWAYS)
        assert (answer.status_code, answer.json()["code"]) == (429, 1302)


class TestServer:
    def test_a_reseller_has_the_legacy_standard_only(self, start: Callable[..., Any]) -> None:
        caller = start(serves=("legacy",), prefix="/kling", unknown_routes="new-api")
        assert caller.sandbox.base_url.endswith("/kling")
        (video,) = caller.status(caller.task(duration="3")).json()["data"]["task_result"]["videos"]
        assert requests.get(video["url"], timeout=20).content[4:8] == b"ftyp"
        for answer in (caller.tasks(task_ids="0"), caller.new(), caller.get(ALWAYS)):
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, "invalid_request_error")

    def test_the_old_host_has_no_tasks(self, start: Callable[..., Any]) -> None:
        caller = start(serves=("legacy", "new", "account"))
        assert caller.new().ok
        assert caller.tasks(task_ids="0").status_code == 404

    def test_what_is_counted(self, caller: Any) -> None:
        task_id = caller.task(external_task_id="x")
        caller.tasks(task_ids=",".join([task_id, *map(str, range(19))]))
        caller.status(task_id)
        caller.status("x")
        caller.tasks(external_task_ids="x,y")
        caller.tasks(task_ids="0")
        caller.status("0")
        caller.get(ALWAYS)
        assert caller.sandbox.requests == {
            "submit": 1,
            "status": 2,
            "probe": 2,
            "content": 0,
            "find": 2,
            "account": 1,
            "accepted": 1,
            "ids": 26,
        }

    def test_the_connection(self) -> None:
        with Sandbox(api="official", access_keys={"ak-one": "sk-one"}) as sandbox:
            shared = {"conn_type": "kling", "host": sandbox.base_url, "extra": {"api": "official"}}
            assert json.loads(sandbox.connection_json) == {**shared, "password": "api-key-kling-sandbox"}
            assert json.loads(sandbox.access_key_connection_json) == {
                **shared,
                "login": "ak-one",
                "password": "sk-one",
            }

    def test_options_that_do_not_exist(self) -> None:
        with pytest.raises(TypeError, match="gateway.*has no option units"):
            Sandbox(units=3)
        with pytest.raises(TypeError, match="unit"):
            Sandbox(api="official", unit=3)
        with pytest.raises(ValueError, match="unknown api 'klingon'"):
            Sandbox(api="klingon")  # type: ignore[arg-type]

    def test_one_video_for_all(self, start: Callable[..., Any], tmp_path: Path) -> None:
        caller = start(one_video=True, cache_dir=tmp_path)
        contents = set()
        for prompt in ("one", "two", "three"):
            task_id = caller.task(prompt=prompt, duration="3")
            contents.add(caller.get(f"/files/{task_id}.mp4").content)
        assert len(contents) == 1
        assert len(list(tmp_path.glob("*.mp4"))) == 1
