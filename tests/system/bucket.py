# SPDX-License-Identifier: Apache-2.0
"""A bucket of a real S3 server, and the connection by which a real Airflow uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.fixtures.frames import ENDPOINT
from tests.s3_server import NAME, REGION, S3Server
from tests.system.airflow_api import AirflowApi
from tests.system.scene import set_connection

_CONNECTION = "store"
_NAME = "films"


@dataclass(frozen=True)
class Bucket:
    """A bucket: its URL for Airflow, and the server, which can be asked without it."""

    url: str
    server: S3Server

    def put(self, key: str, content: bytes) -> str:
        """Store an object; return its URI."""
        self.server.client.put_object(Bucket=_NAME, Key=key, Body=content)
        return f"{self.url}/{key}"

    def head(self, key: str) -> dict[str, object]:
        """Return what the server says of an object, such as ``LastModified``."""
        return dict(self.server.client.head_object(Bucket=_NAME, Key=key))

    def files(self, folder: str, into: Path) -> dict[str, Path]:
        """Download a folder; return name -> file."""
        found = {}
        for page in self.server.client.get_paginator("list_objects_v2").paginate(Bucket=_NAME, Prefix=folder):
            for entry in page.get("Contents", []):
                name = entry["Key"].removeprefix(folder)
                found[name] = into / name.replace("/", "-")
                self.server.client.download_file(_NAME, entry["Key"], str(found[name]))
        return found

    def unfinished_uploads(self) -> list[str]:
        """Return the keys of uploads in parts that were begun, and neither finished nor given up."""
        return [
            upload["Key"] for upload in self.server.client.list_multipart_uploads(Bucket=_NAME).get("Uploads", [])
        ]

    def fetched(self, url: str) -> bytes:
        """Return what a signed URL leads to, as the vendor fetches it."""
        response = requests.get(url, proxies={"http": self.server.url}, timeout=20)
        response.raise_for_status()
        return response.content


@contextmanager
def connected_bucket(airflow: AirflowApi) -> Iterator[Bucket]:
    """Start a server with a bucket, and make the connection that leads to it."""
    with S3Server() as server:
        server.client.create_bucket(Bucket=_NAME)
        # The server is the proxy to a public address, which a signed URL has to have.
        extra = {
            "endpoint_url": ENDPOINT,
            "region_name": REGION,
            "service_config": {"s3": {"proxy-uri": server.url}},
            "config_kwargs": {"signature_version": "s3v4", "s3": {"addressing_style": "path"}},
        }
        fields = {"conn_type": "aws", "login": NAME, "password": NAME, "extra": extra}
        set_connection(airflow, _CONNECTION, fields)
        yield Bucket(f"s3://{_CONNECTION}@{_NAME}", server)
