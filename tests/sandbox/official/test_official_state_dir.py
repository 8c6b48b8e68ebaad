# SPDX-License-Identifier: Apache-2.0
"""A sandbox of Kling's own platform that keeps its jobs for the next one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_jobs_ids_and_units_outlive_the_sandbox(start: Callable[..., Any], tmp_path: Path) -> None:
    first = start(state_dir=tmp_path, units=10)
    ids = [
        first.task(external_task_id="mine"),
        first.new(settings={"duration": 3}).json()["data"]["id"],
        first.image().json()["data"]["task_id"],
    ]
    ledger, costs = first.sandbox.ledger(), {"start_time": 0, "end_time": 10**15}
    [pack] = first.get("/account/costs", params=costs).json()["data"]["resource_pack_subscribe_infos"]
    first.sandbox.stop()

    second = start(state_dir=tmp_path, units=10)
    assert second.sandbox.ledger() == ledger
    assert [entry["id"] for entry in ledger] == ids
    assert {task["id"] for task in second.tasks(task_ids=",".join(ids)).json()["data"]} == set(ids)
    [found] = second.tasks(external_task_ids="mine").json()["data"]
    assert found["id"] == ids[0]
    again = second.legacy(external_task_id="mine").json()
    assert "already exists" in again["message"]
    [after] = second.get("/account/costs", params=costs).json()["data"]["resource_pack_subscribe_infos"]
    assert after["remaining_quantity"] == pack["remaining_quantity"] < 10
