# SPDX-License-Identifier: Apache-2.0
"""A real S3 server in a process of its own, as far as moto's is one."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import cached_property
from typing import Any, Self
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from tests.raw_server import free_port

#: Any: the server asks for no right.
NAME = "anybody"
REGION = "us-east-1"


class S3Server:
    """Serve S3 at ``url`` while the block lasts."""

    def __init__(self) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("the S3 server did not start")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        if "client" in vars(self):
            self.client.close()
        self._process.kill()
        self._process.wait()

    @cached_property
    def filesystem(self) -> Any:
        """What ``fsspec`` speaks to it by."""
        from s3fs import S3FileSystem

        return S3FileSystem(key=NAME, secret=NAME, endpoint_url=self.url, client_kwargs={"region_name": REGION})

    @cached_property
    def client(self) -> Any:
        """What everybody else speaks to it by."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=NAME,
            aws_secret_access_key=NAME,
        )

    def _answers(self) -> bool:
        try:
            with build_opener(ProxyHandler({})).open(f"{self.url}/moto-api/", timeout=5):
                return True
        except (URLError, OSError):
            return False
