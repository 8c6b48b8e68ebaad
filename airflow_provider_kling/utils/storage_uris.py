# SPDX-License-Identifier: Apache-2.0
"""Paths of ``ObjectStoragePath`` as URIs that identify an object, whichever connection reaches it."""

from __future__ import annotations


def storage_uri(path: str) -> str:
    """
    Return a path as a URI without an Airflow connection: ``s3://bucket/clip.mp4`` for ``s3://conn@bucket/clip.mp4``.

    :param path: A path for ``ObjectStoragePath``, or of a local file.
    """
    scheme, separator, rest = path.partition("://")
    if not separator:
        return f"file://{path}"
    authority, slash, key = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{key}"
