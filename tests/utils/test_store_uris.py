# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from airflow_provider_kling.utils.store_uris import without_connection


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("s3://aws_default@bucket/a b/c@d?.mp4", "s3://bucket/a b/c@d?.mp4"),
        ("gs://bucket/c.mp4", "gs://bucket/c.mp4"),
        ("file:///data/a@b.mp4", "file:///data/a@b.mp4"),
        ("/data/c.mp4", "file:///data/c.mp4"),
    ],
)
def test_a_uri_names_the_object_and_not_the_connection(path: str, uri: str) -> None:
    assert without_connection(path) == uri
