# SPDX-License-Identifier: Apache-2.0
"""The stores to write to: a folder of this machine, one in memory, and a bucket of a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.s3_server import S3Server

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2
    from airflow.io.store import attach

_BUCKETS = count()


@dataclass
class Store:
    """A folder to store into, and access to its content that bypasses the code under test."""

    url: str
    fs: Any
    root: str
    client: Any = None

    def files(self) -> dict[str, bytes]:
        """Return all files, by their exact name."""
        if self.url.startswith("file://"):
            folder = Path(self.root)
            return {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}
        if self.url.startswith("memory://"):
            prefix = f"{self.root}/"
            return {name.removeprefix(prefix): file.getvalue() for name, file in self.fs.store.items()}
        bucket, _, folder = self.root.partition("/")
        found = [entry["Key"] for entry in self.client.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {
            key.removeprefix(f"{folder}/"): self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
            for key in found
        }

    def put(self, name: str, content: bytes) -> None:
        """Write a file as another client would."""
        if self.url.startswith("file://"):
            path = Path(self.root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif self.url.startswith("memory://"):
            self.fs.pipe_file(f"{self.root}/{name}", content)
        else:
            bucket, _, folder = self.root.partition("/")
            self.client.put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=content)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    for library in ("s3fs", "moto", "boto3"):
        pytest.importorskip(library, reason="the dependency group `stores` is not installed")
    with S3Server() as server:
        yield server


@pytest.fixture
def s3_store(s3_server: S3Server) -> Store:
    """A folder in a bucket of its own."""
    bucket = f"bucket-{next(_BUCKETS)}"
    s3_server.client.create_bucket(Bucket=bucket)
    attach("s3", "moto", fs=s3_server.filesystem)
    return Store(f"s3://moto@{bucket}/videos", s3_server.filesystem, f"{bucket}/videos", s3_server.client)


@pytest.fixture
def memory_store() -> Iterator[Store]:
    """A folder in memory, which knows no buckets."""
    attach("memory", fs=MemoryFileSystem())
    yield Store("memory://bucket/videos", MemoryFileSystem(), "/bucket/videos")
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture
def file_store(tmp_path: Path) -> Store:
    (tmp_path / "videos").mkdir()
    return Store(f"file://{tmp_path}/videos", None, str(tmp_path / "videos"))


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each of the stores in turn."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found
