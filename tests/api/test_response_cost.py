# SPDX-License-Identifier: Apache-2.0
"""What one status response may cost a triggerer, whose loop serves thousands of other triggers."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kling.api.base import Credentials
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.response import (
    MAX_CONTAINERS,
    MAX_RESPONSE_BYTES,
    MAX_RETRY_AFTER,
    Response,
    retry_after_seconds,
)
from airflow_provider_kling.exceptions import KlingError, KlingServerError
from tests.fixtures.cpu import allowed_seconds

SIZE = MAX_RESPONSE_BYTES
RUNNING = '{"id": "task_1", "status": "processing", "extra": '
FAILED = '{"id": "task_1", "status": "failed", "message": "'


pytestmark = pytest.mark.alone


def read(body: bytes, http_status: int = 200) -> VideoJob | KlingError:
    """Read a status response; masking a key in it is measured elsewhere."""
    response = Response.from_http(http_status, body, {}, masked=lambda text: text)
    try:
        found = GatewayApi(Credentials("key")).read_status(response, ("task_1",))["task_1"]
    except KlingError as error:
        return error
    return found


def cpu_seconds(do: Callable[[], Any]) -> float:
    """Return the CPU time of a call, the best of several: other processes and collections may disturb it."""

    def once() -> float:
        started = time.process_time()
        do()
        return time.process_time() - started

    return min(once() for _ in range(5))


def allowed() -> float:
    """
    Return the CPU seconds that a body may take: 4 times what decoding plain numbers takes here and now.

    Where coverage traces each line, Python code is slower by far, and the decoder is not.
    """
    numbers = "[" + "1," * (SIZE // 2 - 1) + "1]"
    return allowed_seconds(4) * cpu_seconds(lambda: json.loads(numbers))


def fill(before: str, unit: str, after: str, encoding: str = "utf-8") -> bytes:
    """Return a body of the largest size there may be, made of one unit again and again."""
    left = SIZE - 4 - len((before + after).encode(encoding, "surrogatepass"))
    unit_size = len(unit.encode(encoding, "surrogatepass")) - len("".encode(encoding))
    return f"{before}{unit * (left // unit_size)}{after}".encode(encoding, "surrogatepass")


def keys(before: str, value: str) -> bytes:
    pairs = ",".join(f'"{number:x}":{value}' for number in range((SIZE - 100) // (8 + len(value))))
    return f"{before}{pairs}}}".encode()


#: Many lists and objects.
CONTAINERS = {
    "nested lists": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "nested lists that never end": b"[" * SIZE,
    "nested objects": fill("", '{"a":', ""),
    "lists": fill(RUNNING + "[", "[],", "[]]}"),
    "lists in lists": fill(RUNNING + "[", "[[[[]]]],", "[]]}"),
    "objects": fill(RUNNING + "[", "{},", "{}]}"),
    "objects as values": keys('{"status":"processing",', "{}"),
    "lists between texts": fill(RUNNING + "[", '"[",[],"\\"]",', "[]]}"),
    "lists, in UTF-16": fill(RUNNING + "[", "[],", "[]]}", "utf-16"),
    "lists between letters that are quotes in UTF-16": fill(RUNNING + "[", '"\u2200\u2222",[],', "[]]}", "utf-16"),
    "lists, in UTF-32": fill(RUNNING + "[", "[],", "[]]}", "utf-32"),
    "lists after a byte order mark": b"\xef\xbb\xbf" + fill(RUNNING + "[", "[],", "[]]}"),
}
#: Everything else that is much work.
OTHERS = {
    "numbers": fill(RUNNING + "[", "1,", "1]}"),
    "long integers": fill(RUNNING + "[", "9" * 4300 + ",", "1]}"),
    "an endless integer": fill(RUNNING, "9", "}"),
    "an endless fraction": fill(RUNNING + "0.", "9", "}"),
    "an endless exponent": fill(RUNNING + "1e", "9", "}"),
    "infinities": fill(RUNNING + "[", "-Infinity,NaN,1e999999,", "1]}"),
    "progress in endless digits": fill('{"status":"processing","progress":"', "9", '"}'),
    "a time in endless digits": fill('{"status":"failed","created_at":"', "9", '"}'),
    "empty texts": fill(RUNNING + "[", '"",', '""]}'),
    "escaped quotes": fill(RUNNING + '"', '\\"', '"}'),
    "backslashes": fill(RUNNING + '"', "\\\\", '"}'),
    "escapes": fill(RUNNING + '"', "\\u4e00", '"}'),
    "halves of letters": fill(RUNNING + '"', "\\ud800", '"}'),
    "brackets in a text": fill(RUNNING + '"', "[{", '"}'),
    "keys": keys('{"status":"failed",', "0"),
    "one key": fill('{"status":"failed"', ',"a":0', "}"),
    "spaces": fill(RUNNING + "1", " ", "}"),
    "nothing but spaces": b" " * SIZE,
    "invalid UTF-8": RUNNING.encode() + b'"' + b"\xff" * (SIZE - 100) + b'"}',
    "an endless status word": fill('{"status":"', "\\u0001x", '"}'),
    "an endless URL": fill('{"status":"completed","video_url":"', "http://a/", '"}'),
    "a reason of braces": fill(FAILED, "{", '"}'),
    "a reason of objects": fill(FAILED, '{\\"a\\":1}', '"}'),
    "a reason of objects that never end": fill(FAILED + '{\\"a\\":' * 20 + "[", "1,", '"}'),
    "a reason of lists that never end": fill(FAILED + '{\\"a\\":' * 20 + "[", "[],", '"}'),
    "a reason of codes": fill(FAILED, "code [1303 error ''''", '"}'),
    "a reason of signed URLs": fill(FAILED, "https://a/b?X-Amz-Signature=%2f&", '"}'),
    "a page of angle brackets": b"<" * SIZE,
    "a page of scripts": fill("", "<script>", ""),
    "a page of styles that begin": fill("", "<style ", ""),
    "a page of scripts that end": fill("", "<script>x</script ", ""),
    "a page of comments": fill("", "<!--", ""),
}


@pytest.mark.parametrize("http_status", [200, 429, 500])
@pytest.mark.parametrize("name", [*CONTAINERS, *OTHERS])
def test_no_body_takes_more_than_a_few_milliseconds(name: str, http_status: int) -> None:
    body = (CONTAINERS | OTHERS)[name]
    assert SIZE * 0.9 < len(body) <= SIZE
    # Measured side by side: a machine that is busy is slow at both.
    assert any(cpu_seconds(lambda: read(body, http_status)) < allowed() for _ in range(4))
    assert isinstance(read(body, http_status), KlingError if http_status != 200 else (KlingError, VideoJob))


@pytest.mark.parametrize("name", CONTAINERS)
def test_no_body_starts_a_full_garbage_collection(name: str) -> None:
    """That would visit every object of the process: a tenth of a second on a triggerer."""
    assert isinstance(read(CONTAINERS[name]), KlingServerError)
    collections: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collections.append(info["generation"])

    gc.collect()
    gc.callbacks.append(note)
    try:
        read(CONTAINERS[name])
    finally:
        gc.callbacks.remove(note)
    assert 2 not in collections
    assert len(collections) <= 1 + MAX_CONTAINERS // 500


def test_a_response_is_read_whatever_brackets_its_texts_hold() -> None:
    body = {"status": "processing", "progress": 7, "prompt": '[{"\\' * 5000, "shots": [{}] * 1000}
    found = read(json.dumps(body).encode())
    assert isinstance(found, VideoJob)
    assert found.progress == 7


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-le"])
def test_a_response_is_read_in_every_encoding_of_json(encoding: str) -> None:
    found = read('{"status": "processing", "model": "可灵"}'.encode(encoding))
    assert isinstance(found, VideoJob)
    assert found.model == "可灵"


#: Pieces of JSON, and what breaks it.
PIECES = st.sampled_from(
    [
        *(
            "[",
            "]",
            "{",
            "}",
            '"',
            ",",
            ":",
            "\\",
            "0",
            "9",
            "-",
            ".",
            "e9",
            "NaN",
            "Infinity",
            " ",
            "\n",
            "\ufeff",
        ),
        *('"status":', '"processing"', '"failed"', '"completed"', '"message":', '"error":', '"data":', '"id":'),
        *(
            '"video_url":',
            '"http://a/b"',
            '"progress":',
            '"created_at":',
            "\\u0000",
            "\\ud800",
            "可",
            "<",
            "<script",
        ),
        *("\\u4e00", '{"a":', "[[", "{}", '"a"', "true", "null", "1e999999", "code", "[1303]", "%41", "&lt;", "&"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    head=st.lists(PIECES, max_size=8),
    unit=st.lists(PIECES, min_size=1, max_size=6),
    tail=st.lists(PIECES, max_size=8),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-32", "utf-8-sig"]),
    http_status=st.sampled_from([200, 200, 400, 404, 429, 500]),
)
def test_whatever_a_body_at_the_limit_is_made_of(
    head: list[str], unit: list[str], tail: list[str], encoding: str, http_status: int
) -> None:
    body = fill("".join(head), "".join(unit), "".join(tail), encoding)
    assert any(cpu_seconds(lambda: read(body, http_status)) < allowed() for _ in range(4))


@given(
    st.text()
    | st.floats().map(str)
    | st.integers().map(str)
    | st.sampled_from(
        ["Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2099 07:28:00 GMT", "Fri, 31 Dec 9999 23:59:59"]
    )
)
def test_any_retry_after_is_within_bounds(header: str) -> None:
    seconds = retry_after_seconds(header, now=time.time())
    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER


def test_a_date_without_a_zone_is_utc_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    try:
        assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00", now=1_445_412_450.0) == 30.0
        assert retry_after_seconds("Wed, 21 Oct 2015 07:28:00 -0000", now=1_445_412_450.0) == 30.0
    finally:
        monkeypatch.undo()
        time.tzset()
