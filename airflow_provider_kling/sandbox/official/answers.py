# SPDX-License-Identifier: Apache-2.0
"""The responses of both standards."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.sandbox.official.account import order_of
from airflow_provider_kling.sandbox.official.order import units_text

if TYPE_CHECKING:
    from airflow_provider_kling.sandbox.jobs import Job, State

LEGACY_STATUS: dict[State, str] = {
    "queued": "submitted",
    "running": "processing",
    "completed": "succeed",
    "failed": "failed",
}
NEW_STATUS: dict[State, str] = {**LEGACY_STATUS, "completed": "succeeded"}
#: The code of an error response that has no other.
USUAL_CODES = {400: 1201, 401: 1000, 403: 1103, 404: 1203, 429: 1303, 503: 5001, 504: 5002}
LINK_SECONDS = 30 * 86_400


def new_task_id(_job: Job) -> str:
    return f"867{secrets.randbelow(10**15):015}"


def envelope(data: object) -> dict[str, Any]:
    """Return a response around its data."""
    return {"code": 0, "message": "SUCCEED", "request_id": _request_id(), "data": data}


def error_envelope(status: int, code: int | str | None, message: str) -> dict[str, Any]:
    """Return an error response; a code of None stands for the usual one of the HTTP status."""
    usual = USUAL_CODES.get(status, 1200 if status < 500 else 5000)
    return {"code": usual if code in (None, "") else code, "message": message, "request_id": _request_id()}


def _request_id() -> str:
    return secrets.token_hex(16)


class Answers:
    """
    How jobs are shown.

    :param clock_offset: Seconds by which the server's clock is fast.
    :param echo: Whether responses have the external id.
    """

    def __init__(self, clock_offset: float, *, echo: bool) -> None:
        self._offset = clock_offset
        self._echo = echo

    def legacy_created(self, job: Job) -> dict[str, Any]:
        """Return the data of the response to a create request of the legacy standard."""
        created = self._ms(job.accepted_at)
        return {
            "task_id": job.id,
            "task_status": "submitted",
            "task_info": self._task_info(job),
            "created_at": created,
            "updated_at": created,
        }

    def legacy(self, job: Job, now: float, base_url: str) -> dict[str, Any]:
        """Return the data of a status response of the legacy standard; ``now`` is in epoch seconds."""
        seen = job.at(now)
        data = {
            "task_id": job.id,
            "task_status": LEGACY_STATUS[seen.state],
            "task_status_msg": job.failure.message if job.failure and seen.state == "failed" else "",
            "task_info": self._task_info(job),
            "created_at": self._ms(job.accepted_at),
            "updated_at": self._ms(seen.ended_at or now),
        }
        if seen.state == "completed":
            order = order_of(job)
            video = {"id": f"v{job.id}", **self._links(job, base_url), "duration": f"{order.seconds}.0"}
            data["task_result"] = {"videos": [video]}
            data["final_unit_deduction"] = units_text(order.units)
        return data

    def new_created(self, job: Job) -> dict[str, Any]:
        """Return the data of the response to a create request of the new standard."""
        created = self._ms(job.accepted_at)
        return {
            "id": job.id,
            "status": "submitted",
            "message": "",
            "create_time": created,
            "update_time": created,
            **self._external_id(job),
        }

    def new(self, job: Job, now: float, base_url: str) -> dict[str, Any]:
        """Return one task of a status response of the new standard; ``now`` is in epoch seconds."""
        seen = job.at(now)
        task = {
            "id": job.id,
            "status": NEW_STATUS[seen.state],
            "message": job.failure.message if job.failure and seen.state == "failed" else "",
            "create_time": self._ms(job.accepted_at),
            "update_time": self._ms(seen.ended_at or now),
            **self._external_id(job),
            "outputs": [],
            "billing": [],
        }
        if seen.state == "completed":
            order = order_of(job)
            links = self._links(job, base_url)
            task["outputs"] = [{"type": "video", "id": f"v{job.id}", **links, "duration": f"{order.seconds}.000"}]
            task["billing"] = [{"charge_type": "unit", "amount": units_text(order.units), "package_type": "video"}]
        return task

    def _ms(self, seconds: float) -> int:
        return int((seconds + self._offset) * 1000)

    def _task_info(self, job: Job) -> dict[str, str]:
        return {"external_task_id": order_of(job).external_id} if self._echo else {}

    def _external_id(self, job: Job) -> dict[str, str]:
        return {"external_id": order_of(job).external_id} if self._echo else {}

    def _links(self, job: Job, base_url: str) -> dict[str, str]:
        expires = int(job.accepted_at + self._offset) + LINK_SECONDS
        link = f"{base_url}/files/{job.id}.mp4?Expires={expires}"
        links = {} if job.only_watermark else {"url": link}
        if job.only_watermark or order_of(job).watermark:
            links["watermark_url"] = f"{link}&watermark=1"
        return links
