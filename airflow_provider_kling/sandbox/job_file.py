# SPDX-License-Identifier: Apache-2.0
"""A file that keeps the jobs of a sandbox for its next start, one change a line."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.sandbox.dialects import Dialect
from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.jobs import KEY_SUFFIX_LENGTH, Failure, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from airflow_provider_kling.sandbox.jobs import JobOrder
    from airflow_provider_kling.sandbox.video import VideoRequest

log = logging.getLogger(__name__)
#: What may change after a job was accepted.
CHANGING = ("queue_seconds", "run_seconds", "stuck", "finished_at", "answered", "only_watermark")


class JobFile:
    """
    Append jobs and their changes to a file. Only one sandbox at a time may use it.

    Of a key, the file has only the characters that the ledger shows.

    :param path: The file; made with its folder if missing.
    :param parse: Returns what a request ordered, from its path (empty for a gateway) and its decoded body.
    """

    def __init__(
        self, path: Path, parse: Callable[[str, Mapping[str, Any]], tuple[VideoRequest, JobOrder | None]]
    ) -> None:
        self._path = path
        self._parse = parse

    def load(self) -> list[Job]:
        """
        Return the jobs in the order in which they were accepted, and write the file anew with one line for each.

        A request that the sandbox would refuse today is left out.

        :raises OSError: if the file can be neither read nor written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        entries: dict[str, dict[str, Any]] = {}
        for entry in self._entries():
            entries.setdefault(entry["id"], {}).update(entry)
        jobs = list(self._jobs(entries))
        unfinished = self._path.with_suffix(".part")
        unfinished.write_text("".join(_line(_whole(job)) for job in jobs))
        unfinished.replace(self._path)
        return jobs

    def add(self, job: Job) -> None:
        """Write an accepted job."""
        self._append(_whole(job))

    def update(self, job: Job) -> None:
        """Write what may have changed of a job."""
        self._append({"id": job.id, **_changing(job)})

    def clear(self) -> None:
        """Forget all jobs."""
        self._path.write_text("")

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(_line(entry))

    def _entries(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        for line in self._path.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                log.warning("%s: a line that was not written to its end is left out", self._path)

    def _jobs(self, entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Job]:
        for task_id, entry in entries.items():
            try:
                request, order = self._parse(entry["path"], entry["request"])
            except (ApiError, KeyError) as error:
                log.warning("%s: job %s is left out: %r", self._path, task_id, error)
                continue
            failure = entry["failure"]
            yield Job(
                id=task_id,
                key=entry["key_suffix"],
                account=entry["account"],
                request=request,
                raw=entry["request"],
                order=order,
                accepted_at=entry["accepted_at"],
                dialect=Dialect(**entry["dialect"]),
                failure=failure and Failure(**failure),
                **{name: entry[name] for name in CHANGING},
            )


def _line(entry: Mapping[str, Any]) -> str:
    return f"{json.dumps(entry)}\n"


def _whole(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "key_suffix": job.key[-KEY_SUFFIX_LENGTH:],
        "account": job.account,
        "path": job.order.path if job.order else "",
        "request": job.raw,
        "accepted_at": job.accepted_at,
        **_changing(job),
    }


def _changing(job: Job) -> dict[str, Any]:
    return {
        **{name: getattr(job, name) for name in CHANGING},
        "failure": job.failure and asdict(job.failure),
        "dialect": asdict(job.dialect),
    }
