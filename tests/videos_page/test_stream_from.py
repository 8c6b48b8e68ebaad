# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.videos_page.stream_from import listed_prefixes, location_of, prefix_above

LISTED = "s3://my_s3@videos/clips, gs://other\nfile:///data/clips/ abfs://adls@container/a/b"


def is_allowed(path: str, listed: str = LISTED) -> bool:
    location = location_of(path)
    return location is not None and prefix_above(location, listed_prefixes(listed)[0]) is not None


@pytest.mark.parametrize(
    "path",
    [
        "s3://my_s3@videos/clips/a.mp4",
        "S3://my_s3@videos/clips/a.mp4",
        "s3://my_s3@videos/clips/2026/a cat, and a dog.mp4",
        "gs://other/a.mp4",
        "gs://other/a/b/ü.mp4",
        "/data/clips/a.mp4",
        "file:///data/clips/run/a.mp4",
        "local:///data/clips/a.mp4",
        "abfs://adls@container/a/b/c.mp4",
        "s3://my_s3@videos/clips/..a/a..mp4",
    ],
)
def test_a_file_below_a_listed_prefix_is_streamed(path: str) -> None:
    assert is_allowed(path)


@pytest.mark.parametrize(
    "path",
    [
        # beside the prefix
        "s3://my_s3@videos/clips-secret/a.mp4",
        "s3://my_s3@videos/clips.mp4",
        "s3://my_s3@videos/clips",
        "s3://my_s3@videos/clips/",
        "s3://my_s3@videos/a.mp4",
        "s3://my_s3@videos/CLIPS/a.mp4",
        "/data/clips",
        "/data/clips-secret/a.mp4",
        "file:///data/a.mp4",
        # another connection, bucket or scheme
        "s3://videos/clips/a.mp4",
        "s3://admin@videos/clips/a.mp4",
        "s3://MY_S3@videos/clips/a.mp4",
        "s3://my_s3@videos@secret/clips/a.mp4",
        "s3://my_s3@secret@videos/clips/a.mp4",
        "s3://my_s3:x@videos/clips/a.mp4",
        "s3://@videos/clips/a.mp4",
        "s3a://my_s3@videos/clips/a.mp4",
        "gs://my_s3@videos/clips/a.mp4",
        "gs://conn@other/a.mp4",
        "gs://other.example/a.mp4",
        "file://my_s3@videos/clips/a.mp4",
        "file://host/data/clips/a.mp4",
        "http://my_s3@videos/clips/a.mp4",
        "sftp://my_s3@videos/clips/a.mp4",
        # a way out of the prefix
        "s3://my_s3@videos/clips/../secret/a.mp4",
        "s3://my_s3@videos/clips/..",
        "s3://my_s3@videos/clips/./a.mp4",
        "s3://my_s3@videos/clips//a.mp4",
        "s3://my_s3@videos//clips/a.mp4",
        "s3://my_s3@videos/clips/%2e%2e/a.mp4",
        "s3://my_s3@videos/clips/%2E%2E/a.mp4",
        "s3://my_s3@videos/clips/a%2fb.mp4",
        "s3://my_s3@videos/clips/..\\secret\\a.mp4",
        "/data/clips/../../etc/passwd",
        "file:///data/clips/../secret.mp4",
        "//data/clips/a.mp4",
        "file:////data/clips/a.mp4",
        "data/clips/a.mp4",
        "~/data/clips/a.mp4",
        # what a URL or a store may read as something else
        "s3://my_s3@videos/clips/a.mp4?versionId=1",
        "s3://my_s3@videos/clips/a.mp4#x",
        "s3://my_s3@videos?/clips/a.mp4",
        "zip://a.mp4::s3://my_s3@videos/clips/a.zip",
        "s3://my_s3@videos/clips/a.zip::zip://a.mp4",
        "simplecache::s3://my_s3@videos/clips/a.mp4",
        "s3://my_s3@videos/clips/a.mp4\n",
        "s3://my_s3@videos/clips/\ta.mp4",
        "s3://my_s3@videos/clips/\x00.mp4",
        "s3://my_s3@videos/clips/.\u200b./a.mp4",
        "s3://my_s3@videos/clips/\ud800.mp4",
        " s3://my_s3@videos/clips/a.mp4",
        "s3:///my_s3@videos/clips/a.mp4",
        "s3:my_s3@videos/clips/a.mp4",
        "",
        "/",
        "s3://",
        "://",
        f"s3://my_s3@videos/clips/{'a' * 3000}.mp4",
    ],
)
def test_any_other_file_is_not(path: str) -> None:
    assert not is_allowed(path)


@pytest.mark.parametrize("path", ["/etc/passwd", "file:///a.mp4", "s3://videos/a.mp4", "gs://c@b/a.mp4"])
def test_nothing_is_streamed_unless_it_is_listed(path: str) -> None:
    assert not is_allowed(path, "")
    assert not is_allowed(path, " ,\n")


@pytest.mark.parametrize(
    "entry",
    [
        "/",
        "file:///",
        "file://",
        "s3://",
        "clips",
        "../clips",
        "/data/../etc",
        "sftp://host/clips",
        "memory:///clips",
        "https://host/clips",
        "s3://b/a%20b",
        "s3://b/*?",
    ],
)
def test_an_entry_that_names_no_folder_lists_nothing(entry: str) -> None:
    assert listed_prefixes(entry) == ([], [entry])


def test_a_whole_bucket_can_be_listed() -> None:
    assert is_allowed("s3://b/a.mp4", "s3://b")
    assert is_allowed("s3://b/a.mp4", "s3://b/")
    assert not is_allowed("s3://bb/a.mp4", "s3://b")
    assert not is_allowed("s3://c@b/a.mp4", "s3://b")


PIECES = st.sampled_from(
    [
        *("s3://", "S3://", "file://", "local://", "/", "//", "my_s3@", "videos", "clips", "data", "..", ".", "a"),
        *("%2e", "%2f", "?", "#", "\\", "::", "@", ":", "-", "~", "*", "[", "]", "é", " ", "\n", "\u200b"),
    ]
)
PATHS = st.lists(PIECES, max_size=8).map("".join)


@given(
    PATHS | PATHS.map(lambda rest: f"s3://my_s3@videos/clips{rest}") | PATHS.map(lambda rest: f"/data/clips{rest}")
)
def test_what_is_streamed_stays_below_the_prefix_however_it_is_read(path: str) -> None:
    if not is_allowed(path, "s3://my_s3@videos/clips,file:///data/clips"):
        return
    parts = urlsplit(path if "://" in path else f"file://{path}")
    if parts.scheme == "s3":
        assert (parts.netloc, parts.path[:7]) == ("my_s3@videos", "/clips/")
    else:
        assert (parts.netloc, parts.path[:12]) == ("", "/data/clips/")
    assert not parts.query
    assert not parts.fragment
    assert not {"", ".", ".."} & set(unquote(parts.path).split("/")[1:])


@given(st.text())
def test_no_text_is_read_as_a_location_outside_of_its_own_spelling(path: str) -> None:
    location = location_of(path)
    assert location is None or path.endswith("/".join(location.segments))
