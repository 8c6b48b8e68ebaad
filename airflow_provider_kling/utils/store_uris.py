# SPDX-License-Identifier: Apache-2.0
"""URIs of objects in an object storage, judged by their spelling alone."""

from __future__ import annotations

import re

#: The schemes of ``ObjectStoragePath``: those of Airflow's providers, and those that deployments often attach.
SCHEMES = (
    *("s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "adl", "az", "oss"),
    *("file", "local", "memory", "sftp", "ssh", "hdfs", "webhdfs"),
)
_LOCAL = ("file", "local")
_URI = re.compile(
    rf"(?P<scheme>{'|'.join(SCHEMES)})://(?:[^/]*@)?(?P<place>[^/]*)(?P<key>.*)", re.IGNORECASE | re.DOTALL
)


def is_store_uri(value: object) -> bool:
    """Return whether a value is the URI of an object storage, such as ``s3://conn@bucket/key``."""
    return isinstance(value, str) and _URI.match(value) is not None


def store_uri_problem(uri: str) -> str | None:
    """Return why the URI of an object storage names no object, as far as its spelling shows."""
    found = _URI.match(uri)
    if found is None:
        return "is not the URI of an object storage"
    if found["scheme"].lower() in _LOCAL and (found["place"] or not found["key"].startswith("/")):
        return "is not absolute; write three slashes, as in file:///folder/frame.png"
    if not found["key"].strip("/"):
        return "names no object in a bucket, such as s3://conn@bucket/frame.png"
    return "is a folder; name the object" if found["key"].endswith("/") else None


def without_connection(path: str) -> str:
    """
    Return a path as a URI without an Airflow connection: ``s3://bucket/clip.mp4`` for ``s3://conn@bucket/clip.mp4``.

    :param path: A path for ``ObjectStoragePath``, or of a local file.
    """
    scheme, separator, rest = path.partition("://")
    if not separator:
        return f"file://{path}"
    authority, slash, key = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}"
