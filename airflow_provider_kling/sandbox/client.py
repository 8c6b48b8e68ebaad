# SPDX-License-Identifier: Apache-2.0
"""The controls of a sandbox that runs in another process."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from airflow_provider_kling.sandbox.faults import Fault

POLL_SECONDS = 0.05


class SandboxClient:
    """
    Control a running sandbox over its control endpoints, with the method names of :class:`Sandbox`.

    :param base_url: The sandbox's base URL, which it prints at its start.
    :param timeout: Seconds to wait for a response.
    """

    def __init__(self, base_url: str, timeout: float = 10.0) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        # Without the environment's proxy, which cannot reach this machine's loopback address.
        self._opener = build_opener(ProxyHandler({}))

    @property
    def requests(self) -> dict[str, int]:
        counts: dict[str, int] = self._call("GET", "stats")["requests"]
        return counts

    def ledger(self) -> list[dict[str, Any]]:
        return self._list("ledger")

    def jobs(self) -> list[dict[str, Any]]:
        return self._list("jobs")

    def seen(self) -> list[dict[str, Any]]:
        return self._list("seen")

    def faults(self) -> list[dict[str, Any]]:
        return self._list("faults")

    def add_fault(self, fault: Fault) -> None:
        self._call("POST", "faults", fault.to_json())

    def clear_faults(self) -> None:
        self._call("DELETE", "faults")

    def reset(self) -> None:
        self._call("POST", "reset")

    def finish(self, task_id: str | int) -> None:
        """
        End a job now.

        :raises KeyError: if there is no such job.
        """
        try:
            self._call("POST", f"jobs/{task_id}/finish")
        except HTTPError as error:
            if error.code == 404:
                raise KeyError(task_id) from None
            raise

    def wait_for(self, what: str, count: int, timeout: float = 30.0) -> None:
        """
        Block until ``requests[what]`` has reached ``count``.

        :raises TimeoutError: if it has not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while (seen := self.requests[what]) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen} instead of {count} {what} after {timeout} s")
            time.sleep(POLL_SECONDS)

    def _list(self, name: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._call("GET", name)
        return entries

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310
            f"{self.base_url}/_sandbox/{path}",
            data=data,
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=self.timeout) as response:
            return json.load(response)
