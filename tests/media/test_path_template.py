# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.media.path_template import (
    MAX_SLUG,
    MAX_SLUG_BYTES,
    file_values,
    fill,
    is_distinct,
    slug,
    template_problem,
)

VALUES: dict[str, Any] = {
    "kling_task_id": "task_1",
    "map_index": 3,
    "model": "kling-v3-std-silent",
    "slug": "a-paper-boat",
    "ext": "mp4",
}


@pytest.mark.parametrize(
    ("path", "filled"),
    [
        ("s3://c@b/{slug}.{ext}", "s3://c@b/a-paper-boat.mp4"),
        ("/v/{map_index}/{model}-{kling_task_id}.mp4", "/v/3/kling-v3-std-silent-task_1.mp4"),
        ("/v/", "/v/task_1.mp4"),
        ("/v/{slug}/", "/v/a-paper-boat/task_1.mp4"),
        ("/v/{other}-{}-{0}-{slug!r}-{slug:>9}.mp4", "/v/{other}-{}-{0}-{slug!r}-{slug:>9}.mp4"),
        ("/v/{{slug}}.mp4", "/v/{a-paper-boat}.mp4"),
        ("/v/clip.mp4", "/v/clip.mp4"),
    ],
)
def test_placeholders_are_replaced_and_nothing_else(path: str, filled: str) -> None:
    assert fill(path, VALUES) == filled


def test_nothing_is_replaced_inside_what_a_placeholder_brought() -> None:
    values = VALUES | {"slug": "{ext}{map_index}", "model": "{slug}"}
    assert fill("/v/{model}{slug}", values) == "/v/{slug}{ext}{map_index}"


@given(st.text(), st.dictionaries(st.sampled_from(sorted(VALUES)), st.text()))
def test_any_path_is_filled_without_an_error(path: str, values: dict[str, str]) -> None:
    filled = fill(path, VALUES | values)
    assert filled or not path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Waves roll onto a black sand beach.", "waves-roll-onto-a-black-sand-beach"),
        ("Été à Paris — 2 chats ❤️!", "été-à-paris-2-chats"),
        ("E\u0301te\u0301", "été"),
        ("黑色沙滩上的海浪", "黑色沙滩上的海浪"),
        ("नमस्ते दुनिया", "नमस्ते-दुनिया"),
        ("../../etc/passwd\n", "etc-passwd"),
        ("{ext} {slug}", "ext-slug"),
        ("  ***  ", ""),
        ("", ""),
        ("x" * 200, "x" * MAX_SLUG),
        ("海" * 200, "海" * (MAX_SLUG_BYTES // 3)),
        ("a " * 100, "-".join("a" * 30)),
        ("word " + "y" * 100, "word"),
    ],
)
def test_a_slug_is_the_beginning_of_a_prompt(text: str, expected: str) -> None:
    assert slug(text) == expected


@given(st.text(max_size=300))
@example("İ" * 100)
@example("ﬃ" * 100)
def test_a_slug_is_always_the_part_of_a_name(text: str) -> None:
    found = slug(text)
    assert len(found) <= MAX_SLUG
    assert len(found.encode()) <= MAX_SLUG_BYTES
    assert not found.startswith("-")
    assert not found.endswith("-")
    assert unicodedata.is_normalized("NFC", found)
    assert found == found.lower()
    assert all(character == "-" or unicodedata.category(character)[0] in "LNM" for character in found)


@pytest.mark.parametrize("nothing", ["", "!!!", "❤️", None])
def test_a_prompt_without_words_leaves_the_id(nothing: str | None) -> None:
    assert file_values(kling_task_id="a/b", map_index=0, model=None, prompt=nothing)["slug"].startswith("a_b-")


@pytest.mark.parametrize(
    ("url", "ext"),
    [("https://h/a.MOV?x=1", "mov"), ("https://h/a.webm#f", "webm"), ("https://h/content", "mp4"), (None, "mp4")],
)
def test_the_ending_is_that_of_the_video(url: str | None, ext: str) -> None:
    assert file_values(kling_task_id="t", map_index=None, model="m", prompt="p", url=url)["ext"] == ext


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v/{other}.mp4", "{other}"),
        ("/v/{}.mp4", "{}"),
        ("/v/{slug:20}.mp4", "{slug:20}"),
        ("/v/{ slug }.mp4", "{ slug }"),
        ("/v/{Slug}.mp4", "{Slug}"),
        ("/v/{{ slug }}.mp4", "write {slug}"),
        ("/v/{{slug}}.mp4", "write {slug}"),
        ("/v/{{- ext | upper -}}", "write {ext}"),
        ("{{ params.folder }}/{nr}.mp4", "{nr}"),
    ],
)
def test_an_unknown_placeholder_is_named(path: str, words: str) -> None:
    assert words in (template_problem(path) or "")


@pytest.mark.parametrize(
    "path",
    [
        "/v/clip.mp4",
        "{{ params.folder }}{slug}.{ext}",
        "/v/{{ {'a': 1}['a'] }}.mp4",
        "/v/{% if x %}{map_index}{% endif %}{# {note} #}.mp4",
        "{{ ti.map_index }}",
        "/v/{ lonely",
    ],
)
def test_what_is_well_written_has_no_problem(path: str) -> None:
    assert template_problem(path) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v/", True),
        ("/v/{slug}.mp4", True),
        ("/v/{map_index}.mp4", True),
        ("/v/{kling_task_id}", True),
        ("/v/{{ ds }}.mp4", True),
        ("/v/{model}.{ext}", False),
        ("/v/clip.mp4", False),
    ],
)
def test_whether_rows_get_files_of_their_own(path: str, expected: bool) -> None:
    assert is_distinct(path) is expected
