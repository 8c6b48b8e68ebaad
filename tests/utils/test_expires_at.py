# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.utils.signed_urls import expires_at

#: 2026-01-02 03:04:05 UTC.
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260102T020405Z&X-Amz-Expires=3600&X-Amz-Signature=0a",
        "x-amz-date=20260102T020405Z&x-amz-expires=3600",
        "X-Goog-Date=20260102T020405Z&X-Goog-Expires=3600&X-Goog-Signature=0a",
        "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20260102T020405Z&x-oss-expires=3600",
        "x-oss-signature-version=OSS2&x-oss-expires=1767323045&x-oss-signature=0a",
        "X-Tos-Date=20260102T020405Z&X-Tos-Expires=3600&X-Tos-Signature=0a",
        "q-sign-algorithm=sha1&q-ak=a&q-sign-time=1767319445;1767323045&q-signature=0a",
        "q-sign-time=1767319445%3B1767323045&q-signature=0a",
        "OSSAccessKeyId=a&Expires=1767323045&Signature=b",
        "GoogleAccessId=a&Expires=1767323045&Signature=b",
        "Expires=1767323045&Signature=b&Key-Pair-Id=c",
        "sv=2022-11-02&se=2026-01-02T03%3A04%3A05Z&sr=b&sig=0a",
        "sv=2022-11-02&se=2026-01-02T03:04:05&sr=b&sig=0a",
        "sv=2022-11-02&se=2026-01-02T04:04:05%2B01:00&sr=b&sig=0a",
        "Expires=1767323045&Expires=1999999999",
        "Expires=1767323045&X-Amz-Date=20260102T020405Z&X-Amz-Expires=7200",
    ],
)
def test_the_end_of_a_signed_url_is_known(query: str) -> None:
    assert expires_at(f"https://cdn.example.com/clip.mp4?{query}") == MOMENT
    assert expires_at(f"https://cdn.example.com/clip.mp4?a=b&{query}&c#fragment") == MOMENT


def test_a_day_is_its_first_moment() -> None:
    assert expires_at("https://x/y?se=2026-01-02&sig=0a") == datetime(2026, 1, 2, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Expires=1767323045",
        "https://cdn.example.com/clip.mp4",
        "https://cdn.example.com/clip.mp4?",
        "https://cdn.example.com/clip.mp4?Expires=3600",
        "https://cdn.example.com/clip.mp4?Expires=never",
        "https://cdn.example.com/clip.mp4?Expires=" + "9" * 400,
        "https://cdn.example.com/clip.mp4?Expires=١٧٦٧٣٢٣٠٤٥",
        "https://cdn.example.com/clip.mp4?X-Amz-Date=20260102T020405Z",
        "https://cdn.example.com/clip.mp4?X-Amz-Expires=3600",
        "https://cdn.example.com/clip.mp4?X-Amz-Date=20261302T020405Z&X-Amz-Expires=3600",
        "https://cdn.example.com/clip.mp4?X-Amz-Date=20260102T020405Z&X-Amz-Expires=1e3",
        "https://cdn.example.com/clip.mp4?q-sign-time=1767319445",
        "https://cdn.example.com/clip.mp4?se=2026-01-02T03:04:05Z",
        "https://cdn.example.com/clip.mp4?se=soon&sig=0a",
    ],
)
def test_another_text_tells_none(text: str) -> None:
    assert expires_at(text) is None


@given(st.text())
def test_no_query_ends_in_an_error(query: str) -> None:
    expires_at(f"https://x/y?{query}")
    expires_at(f"https://x/y?se={query}&sig=1&X-Amz-Date={query}&X-Amz-Expires={query}&Expires={query}")
