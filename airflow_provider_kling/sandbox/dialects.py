# SPDX-License-Identifier: Apache-2.0
"""The formats in which servers of this kind send the same response."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_kling.sandbox.errors import upstream_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.sandbox.jobs import Job, Snapshot

UPSTREAM_PREFIX = "upstream_"
UPSTREAM_ERROR = 5000


@dataclass(frozen=True)
class Dialect:
    """
    The format of responses; the defaults are those of the vendor's page.

    :param queued: Status word of a queued job, sent exactly as written.
    :param running: Status word of a running job.
    :param completed: Status word of a finished job.
    :param failed: Status word of a failed job.
    :param progress: ``int`` sends 30, ``percent`` sends "30%", ``none`` leaves the field out.
    :param url_at: The field of the video URL, as a path such as ``task_result.videos[0].url``.
    :param url_kind: ``files`` is a public link; ``content`` is ``{BASE}/v1/videos/{id}/content``, which needs the
        bearer key.
    :param wrapped: Put the object into ``{"code": "success", "message": "", "data": {...}}``.
    :param ids: ``text`` makes ids such as ``task_0f...``; ``number`` makes JSON numbers.
    :param identity: The id fields that are sent: ``both``, only ``id``, only ``task_id``, or ``differ``: then the
        ``task_id`` of a status response is a different one, which the server does not know.
    :param created_at: Unit of ``created_at`` in a status response: ``s`` or ``ms``.
    :param bare_submit: Send only ``task_id`` and ``status`` in the response to a submit.
    :param errors: ``openai`` for ``{"error": {...}}``, ``flat`` for ``{"code", "message", "data": null}``.
    """

    queued: str = "queued"
    running: str = "in_progress"
    completed: str = "completed"
    failed: str = "failed"
    progress: Literal["int", "percent", "none"] = "int"
    url_at: str = "video_url"
    url_kind: Literal["files", "content"] = "files"
    wrapped: bool = False
    ids: Literal["text", "number"] = "text"
    identity: Literal["both", "id", "task_id", "differ"] = "both"
    created_at: Literal["s", "ms"] = "s"
    bare_submit: bool = False
    errors: Literal["openai", "flat"] = "openai"

    def new_id(self) -> str:
        """Return the id of a new job; inside the sandbox ids are strings."""
        return str(secrets.randbelow(10**12) + 10**12) if self.ids == "number" else f"task_{secrets.token_hex(16)}"

    def submit_response(self, job: Job) -> dict[str, Any]:
        """Return the response to an accepted submit."""
        if self.bare_submit:
            return self._wrap({"task_id": self._id(job), "status": self.queued})
        return self._wrap(
            {
                **self._identity(job, task_id=self._id(job)),
                "object": "video",
                "model": job.request.model,
                "status": self.queued,
                **self._progress(0),
                "created_at": int(job.accepted_at),
            }
        )

    def status_response(self, job: Job, seen: Snapshot, base_url: str) -> dict[str, Any]:
        """
        Return the response to a status request.

        :param job: The job.
        :param seen: Its state.
        :param base_url: The beginning of links to the video.
        """
        foreign = f"{UPSTREAM_PREFIX}{job.id}" if self.identity == "differ" else self._id(job)
        response: dict[str, Any] = {
            **self._identity(job, task_id=foreign),
            "object": "video.generation.job",
            "model": job.request.model,
            "status": getattr(self, seen.state),
            **self._progress(seen.progress),
            "created_at": self._time(job.accepted_at),
        }
        if seen.state == "completed":
            response["completed_at"] = self._time(seen.ended_at)
            put(response, self.url_at, self._url(job, base_url))
        elif seen.state == "failed" and job.failure and job.failure.reason_at != "none":
            code, message = job.failure.code, job.failure.message
            if isinstance(code, int):
                message, code = upstream_message(code, message), "fail_to_fetch_task"
            put(response, job.failure.reason_at, message)
            if job.failure.reason_at == "error.message":
                response["error"]["code"] = code
        return self._wrap(response)

    def _id(self, job: Job) -> str | int:
        return int(job.id) if self.ids == "number" else job.id

    def _identity(self, job: Job, task_id: str | int) -> dict[str, str | int]:
        sent: dict[str, str | int] = {}
        if self.identity != "task_id":
            sent["id"] = self._id(job)
        if self.identity != "id":
            sent["task_id"] = task_id
        return sent

    def _progress(self, percent: int) -> dict[str, int | str]:
        if self.progress == "none":
            return {}
        return {"progress": f"{percent}%" if self.progress == "percent" else percent}

    def _time(self, seconds: float) -> int:
        return int(seconds * 1000) if self.created_at == "ms" else int(seconds)

    def _url(self, job: Job, base_url: str) -> str:
        if self.url_kind == "content":
            return f"{base_url}/v1/videos/{job.id}/content"
        return f"{base_url}/files/{job.id}.mp4"

    def _wrap(self, response: dict[str, Any]) -> dict[str, Any]:
        return {"code": "success", "message": "", "data": response} if self.wrapped else response


#: Predefined dialects by name. Each is a combination that a gateway could use.
DIALECTS: Mapping[str, Dialect] = {
    "documented": Dialect(),
    "wrapped": Dialect(
        queued="NOT_START",
        running="IN_PROGRESS",
        completed="SUCCESS",
        failed="FAILURE",
        progress="percent",
        url_at="result_url",
        wrapped=True,
        errors="flat",
    ),
    "official": Dialect(
        queued="submitted",
        running="processing",
        completed="succeed",
        progress="none",
        url_at="task_result.videos[0].url",
        created_at="ms",
    ),
    "numeric": Dialect(ids="number", progress="percent", url_at="url", completed="success"),
    "gateway": Dialect(url_kind="content", url_at="metadata.url", created_at="ms", identity="differ"),
    "bare": Dialect(identity="task_id", bare_submit=True, progress="none", url_at="output_url"),
    "shouting": Dialect(queued="QUEUED", running="RUNNING", completed="COMPLETED", failed="FAILED"),
    "unheard": Dialect(queued="unknown", running="dreaming"),
}


def dialect_of(given: Dialect | str | Mapping[str, Any]) -> Dialect:
    """
    Return a dialect from an object, a name, or a mapping of the fields that differ from the vendor's page.

    :raises ValueError: if the name or a field is unknown.
    """
    if isinstance(given, Dialect):
        return given
    if isinstance(given, str):
        if given not in DIALECTS:
            raise ValueError(f"unknown dialect {given!r}; known are {', '.join(DIALECTS)}")
        return DIALECTS[given]
    unknown = set(given) - {field.name for field in fields(Dialect)}
    if unknown:
        raise ValueError(f"unknown dialect fields: {', '.join(sorted(unknown))}")
    return Dialect(**given)


def error_body(style: str, code: int | str, message: str) -> dict[str, Any]:
    """
    Return one of the JSON error envelopes ``openai``, ``flat`` and ``upstream``.

    Codes of Kling's own platform are numbers, and appear inside the message only.
    """
    if style == "upstream":
        number = code if isinstance(code, int) else UPSTREAM_ERROR
        text_code = code if isinstance(code, str) else ""
        return error_body("openai", text_code or "fail_to_fetch_task", upstream_message(number, message))
    if isinstance(code, int):
        return error_body(style, "", upstream_message(code, message))
    if style == "flat":
        return {"code": code, "message": message, "data": None}
    return {"error": {"message": message, "type": "new_api_error", "code": code}}


def put(target: dict[str, Any], path: str, value: object) -> None:
    """Store ``value`` under a path such as ``task_result.videos[0].url``; the only supported index is 0."""
    *parents, last = path.split(".")
    for step in parents:
        name, is_list = re.subn(r"\[0\]$", "", step)
        inner: dict[str, Any] = {}
        if is_list:
            target[name] = [inner]
        else:
            inner = target.setdefault(name, inner)
        target = inner
    target[last] = value
