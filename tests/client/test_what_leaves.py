# SPDX-License-Identifier: Apache-2.0
"""A server may repeat the key in any spelling and any place: no text that leaves this package holds it."""

from __future__ import annotations

import asyncio
import base64
import html
import http.client
import io
import json
import logging
import pickle
import re
import socket
import threading
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import assume, example, given
from hypothesis import strategies as st

from airflow_provider_kling.api.base import Credentials
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.job import VideoJob
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.api.response import Response
from airflow_provider_kling.client.connection import KlingConnection
from airflow_provider_kling.client.redaction import Masks, redact_error, redacted_logs
from airflow_provider_kling.exceptions import KlingError, KlingServerError
from airflow_provider_kling.hooks.kling import KlingHook
from airflow_provider_kling.jobs.result import generation_error
from airflow_provider_kling.media.download import download
from airflow_provider_kling.triggers.kling import KlingTaskTrigger
from airflow_provider_kling.utils.masking import SecretMask, forms_of
from tests.conftest import Connect
from tests.raw_server import RawServer, Request, http_response

SECRET = "Zx9Qv7Kp3Lm8Rt2Wy5Nb4Hc6Jd1Fg0Sa/9+T="
KEY = f"sk-{SECRET}"
REQUEST = VideoRequest.build(model="kling-v3-std-silent", prompt="A traveler in desert ruins")
INVISIBLE = ["\u200b", "\u200d", "\u00ad", "\u2060", "\ufeff", "\u202e", "\x00", "\x0b", "\x1f", "\x7f", "\x85"]


def spread(text: str, between: str) -> str:
    """Put something between every two characters of a text."""
    return between.join(text)


#: Spellings of the key in the text of a response.
SPELLINGS: dict[str, str] = {
    "as it is": KEY,
    "without the prefix": SECRET,
    "in capitals": KEY.upper(),
    "in lower case": KEY.lower(),
    "with swapped case": KEY.swapcase(),
    "on two lines": KEY[:20] + "\n" + KEY[20:],
    "on lines that are indented": KEY[:20] + "\r\n\t  " + KEY[20:],
    "in spaced letters": spread(KEY, " "),
    "behind Bearer": f"Bearer {KEY}",
    "in a URL": quote(KEY, safe=""),
    "in a URL in a URL": quote(quote(KEY, safe=""), safe=""),
    "in a URL, every character": "".join(f"%{ord(c):02x}" for c in KEY),
    "in HTML": html.escape("".join(f"&#{ord(c)};" for c in KEY)),
    "in HTML, hexadecimal": "".join(f"&#x{ord(c):X};" for c in KEY),
    "in JSON, every character": "".join(rf"\u{ord(c):04x}" for c in KEY),
    "in JSON inside JSON": json.dumps(json.dumps({"k": KEY}).replace("/", "\\/")),
    "in the repr of bytes": "".join(rf"\x{ord(c):02x}" for c in KEY),
    "in Base64": base64.b64encode(KEY.encode()).decode(),
    "in Base64 with Bearer": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "in Base64 as a user's password": base64.b64encode(f"api:{KEY}".encode()).decode(),
    "in Base64 of URLs": base64.urlsafe_b64encode(f"x{KEY}".encode()).decode(),
    "in JSON with a zero-width escape": r"\u200b".join(KEY),
    "in JSON with half surrogates": r"\ud800".join(KEY),
    "in a URL with zero-width characters": quote("\u200b").join(KEY),
    **{f"with U+{ord(c):04X} inside": spread(KEY, c) for c in INVISIBLE},
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


def visible(text: str) -> str:
    """Return a text as a person can read it, in small letters and without what cannot be seen."""
    kept = (c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs") and not c.isspace())
    return "".join(kept).casefold()


def decodings(text: str) -> Iterator[str]:
    """Yield a text, and what can be decoded from it."""
    from urllib.parse import unquote

    for _ in range(4):
        yield text
        text = html.unescape(unquote(text))
        text = re.sub(r"\\+(?:u00|x)([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), text)
        text = re.sub(r"\\+u[0-9a-fA-F]{4}", "", text)
        text = re.sub(r"\\+[nrt]", "", text).replace("\\", "")


def assert_no_key(text: str) -> None:
    parts = [SECRET[i : i + 8].casefold() for i in range(len(SECRET) - 8)]
    for decoded in decodings(text):
        plain = visible(decoded)
        for part in parts:
            assert part not in plain, text
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + SECRET.encode()).decode()
        assert encoded[4:-4].casefold() not in visible(text).replace("-", "+").replace("_", "/")


@dataclass
class Way:
    """
    A place in which a server repeats the key.

    :param status: The HTTP status.
    :param shape: Returns the body from a spelling of the key, as JSON text or as any other text.
    """

    status: int
    shape: Callable[[str], str]


def in_json(data: Any) -> Callable[[str], str]:
    """Return a function that puts a spelling into every ``KEY`` of a JSON text, valid where it can be."""

    def fill(spelling: str) -> str:
        valid = (
            spelling if "\\" in spelling and not re.search("[\x00-\x1f]", spelling) else json.dumps(spelling)[1:-1]
        )
        return json.dumps(data).replace("KEY", valid)

    return fill


WAYS: dict[str, Way] = {
    "an error": Way(401, in_json({"error": {"message": "Incorrect API key KEY", "code": "KEY", "type": "KEY"}})),
    "a flat error": Way(400, in_json({"code": "KEY", "message": "KEY"})),
    "a server error": Way(500, in_json({"error": {"message": "token KEY is not valid"}})),
    "an error in an error": Way(500, in_json({"error": {"message": '{"error": {"message": "KEY"}}'}})),
    "a failed job": Way(
        200, in_json({"status": "failed", "fail_reason": "KEY", "error": {"code": "KEY"}, "id": "t"})
    ),
    "a running job": Way(200, in_json({"id": "t", "status": "KEY", "model": "KEY", "progress": 5})),
    "a finished job": Way(
        200,
        in_json({"id": "t", "status": "completed", "model": "KEY", "video_url": "https://c.example.com/KEY.mp4"}),
    ),
    "no status": Way(200, in_json({"note": "KEY"})),
    "a page": Way(502, lambda spelling: f"<html><b>Bad</b> gateway: Authorization {spelling}</html>"),
    "a text": Way(400, lambda spelling: f"no such key: {spelling}"),
    "an excerpt that ends inside": Way(403, lambda spelling: "x" * 470 + " " + spelling + " y" * 50),
}


def everything_of(outcome: Any) -> str:
    """Return every text that leaves with a job, a message or an error: to a log, a database or another process."""
    if isinstance(outcome, VideoJob):
        return (
            json.dumps(asdict(outcome), ensure_ascii=False)
            + repr(outcome)
            + repr(pickle.loads(pickle.dumps(outcome)))  # noqa: S301
        )
    if not isinstance(outcome, BaseException):
        return json.dumps(outcome, ensure_ascii=False, default=str)
    texts = [str(outcome), repr(outcome), repr(outcome.args), *traceback.format_exception(outcome)]
    if isinstance(outcome, KlingError):
        again = pickle.loads(pickle.dumps(outcome))  # noqa: S301
        texts += [json.dumps(outcome.to_dict(), ensure_ascii=False), str(again), repr(vars(again))]
    for behind in (outcome.__cause__, outcome.__context__):
        if behind is not None:
            texts.append(everything_of(behind))
    return "\n".join(texts)


async def event_of(conn_id: str) -> Any:
    """Return the event of a trigger that asks once or twice."""
    trigger = KlingTaskTrigger(kling_task_id="t", kling_conn_id=conn_id, timeout=0.01, poll_interval=0.01)
    return [event.payload async for event in trigger.run()]


CALLS: dict[str, Callable[[KlingHook], Any]] = {
    "submit": lambda hook: hook.submit_video(REQUEST),
    "status": lambda hook: hook.get_video("t"),
    "status on the triggerer": lambda hook: asyncio.run(hook.aget_video("t")),
    "trigger": lambda hook: asyncio.run(event_of(hook.kling_conn_id)),
    "test connection": lambda hook: hook.test_connection(),
    "download": lambda hook: download(hook.client, f"{hook.connection.base_url}/x.mp4", io.BytesIO(), seconds=5),
}


class Records(logging.Handler):
    """A handler that formats every record with its traceback, as a task's log does."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def records() -> Iterator[Records]:
    """What reaches the root logger at DEBUG."""
    handler, root = Records(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def outcome_of(call: Callable[[KlingHook], Any], hook: KlingHook) -> Any:
    with hook.client.session, hook.client.public_session:
        try:
            return call(hook)
        except KlingError as error:
            return error


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_every_spelling_is_masked(way: Way, spelling: str) -> None:
    one = connection()
    body = way.shape(spelling).encode("utf-8", "surrogatepass")
    for http_status in (way.status, 200, 401, 500):
        response = Response.from_http(http_status, body, {}, masked=one.masked)
        for read in (_read_submit, one.api.read_probe, one.api.describe_probe, _read_status):
            try:
                outcome = one.redacted(lambda read=read, response=response: read(response))  # type: ignore[misc]
            except KlingError as error:
                outcome = error
            assert_no_key(everything_of(outcome))


def _read_submit(response: Response) -> Any:
    return GatewayApi(Credentials("key")).read_submit(response, REQUEST)


def _read_status(response: Response) -> Any:
    return GatewayApi(Credentials("key")).read_status(response, ["t"])["t"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("call", CALLS)
def test_every_spelling_in_every_place(connect: Connect, records: Records, call: str, way: str) -> None:
    # Each call meets a third of the spellings in each place, and all spellings in three places.
    first = (list(CALLS).index(call) + list(WAYS).index(way)) % 3
    spellings = list(SPELLINGS.values())[first::3]
    current = [""]

    def repeat(connection: socket.socket, request: Request) -> None:
        body = WAYS[way].shape(current[0]).encode("utf-8", "surrogatepass")
        connection.sendall(http_response(body, WAYS[way].status))

    with RawServer(repeat) as server:
        hook = KlingHook(connect(server.base_url, KEY, connect_timeout=2, read_timeout=2))
        for current[0] in spellings:
            assert_no_key(everything_of(outcome_of(CALLS[call], hook)))
    assert_no_key("\n".join(records.lines))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_encoding(
    connect: Connect, records: Records, call: Callable[[KlingHook], Any], encoding: str
) -> None:
    error = {"error": {"message": f"x {KEY} y", "code": KEY.upper()}, "status": "failed", "id": "t"}
    for text in (json.dumps(error), f"<html>{KEY}</html>", "x" * 480 + KEY):
        with RawServer(http_response(text.encode(encoding), 401)) as server:
            hook = KlingHook(connect(server.base_url, KEY, connect_timeout=2, read_timeout=2))
            assert_no_key(everything_of(outcome_of(call, hook)))
    assert_no_key("\n".join(records.lines))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_other_words_of_a_response_in_any_encoding_stay(encoding: str) -> None:
    body = json.dumps({"error": {"message": f"Schlüssel {KEY} 无效", "code": "invalid_key"}}, ensure_ascii=False)
    response = Response.from_http(401, body.encode(encoding), {}, masked=connection().masked)
    assert response.json == {"error": {"message": "Schlüssel sk-*** 无效", "code": "invalid_key"}}


@pytest.mark.parametrize("cut", range(460, 501, 3))
@pytest.mark.parametrize(
    "spelling", [KEY, KEY.upper(), quote(KEY, safe=""), spread(KEY, "\x00"), f"<b>{KEY[:9]}</b>{KEY[9:]}"]
)
def test_an_excerpt_ends_nowhere_inside_the_key(cut: int, spelling: str) -> None:
    for body in (
        f"<p>{'x' * cut} {spelling} and more words {'y' * 60}".encode(),
        f"{'x' * cut} {spelling}".encode("utf-16"),
    ):
        response = Response.from_http(403, body, {}, masked=connection().masked)
        with pytest.raises(KlingError) as caught:
            connection().redacted(lambda response=response: connection().api.read_status(response, ["t"]))  # type: ignore[misc]
        assert_no_key(everything_of(caught.value))


HEADERS: dict[str, bytes] = {
    "a redirect": http_response("", 302, Location=f"https://elsewhere.example.com/?key={quote(KEY)}"),
    "a redirect to a host": http_response("", 302, Location=f"https://{KEY}/x"),
    "a redirect to this machine": http_response("", 302, Location=f"http://user:{KEY}@127.0.0.1:9/{KEY}.mp4"),
    "a redirect with a control character": http_response("", 302, Location=f"/{KEY[:9]}\x7f{KEY[9:]}"),
    "a redirect in capitals": http_response("", 302, Location=f"https://elsewhere.example.com/{KEY.upper()}"),
    "a redirect, zero-width": (
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: /"
        + spread(KEY, "\u200b")
        + "\r\n\r\n"
    ).encode(),
    "a request id": http_response('{"error": {"message": "no"}}', 400, X_Request_Id=KEY),
    "a request id in capitals": http_response(
        '{"error": {"message": "no"}}', 400, X_Oneapi_Request_Id="r" * 80 + KEY.upper()
    ),
    "a pause": http_response('{"error": {"message": "no"}}', 429, Retry_After=KEY),
    "a content type": http_response("{}", 200, Content_Type=f"text/{KEY}"),
    "a content encoding": http_response("{}", 200, Content_Encoding=KEY),
    "a reason phrase": f"HTTP/1.1 401 {KEY}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}".encode(),
    "a status line": f"HTTP/9.9 {KEY}\r\n\r\n".encode(),
    "no status line": f"{KEY}\r\n\r\n".encode(),
    "a header line that does not parse": f"HTTP/1.1 401 No\r\n{KEY}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a header without a name": f"HTTP/1.1 401 No\r\nX: 1\r\n : {KEY}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a header with a zero": f"HTTP/1.1 401 No\r\nX: \0{KEY}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a header that is folded": (
        f"HTTP/1.1 401 No\r\nX-Request-Id: {KEY[:12]}\r\n {KEY[12:]}\r\nContent-Length: 2\r\n\r\n{{}}"
    ).encode(),
    "a name of a header": f"HTTP/1.1 401 No\r\n{KEY}: 1\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a length": f"HTTP/1.1 401 No\r\nContent-Length: {KEY}\r\n\r\n{{}}".encode(),
    "a chunk": f"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "a long header": f"HTTP/1.1 401 No\r\nX: {KEY * 400}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
}


@pytest.mark.parametrize("raw", HEADERS.values(), ids=HEADERS.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_every_header(
    connect: Connect,
    records: Records,
    capfd: pytest.CaptureFixture[str],
    call: Callable[[KlingHook], Any],
    raw: bytes,
) -> None:
    with RawServer(raw) as server:
        hook = KlingHook(connect(server.base_url, KEY, connect_timeout=2, read_timeout=2))
        assert_no_key(everything_of(outcome_of(call, hook)))
    assert_no_key("\n".join(records.lines))
    assert_no_key("".join(capfd.readouterr()))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
@pytest.mark.parametrize("status_line", [f"407 {KEY}", f"502 {KEY.upper()}", f"403 {spread(KEY, chr(127))}"])
def test_a_proxy(connect: Connect, records: Records, call: Callable[[KlingHook], Any], status_line: str) -> None:
    with RawServer(f"HTTP/1.1 {status_line}\r\n{KEY}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")) as proxy:
        for base_url in ("http://kling.example.com", "https://kling.example.com"):
            hook = KlingHook(connect(base_url, KEY, proxy=f"127.0.0.1:{proxy.port}", connect_timeout=2))
            assert_no_key(everything_of(outcome_of(call, hook)))
    assert_no_key("\n".join(records.lines))


class TestLogsOfLibraries:
    MALFORMED = f"HTTP/1.1 200 OK\r\n{KEY}\r\nContent-Length: 2\r\n\r\n{{}}".encode()

    def test_urllib3_itself_would_log_what_the_server_sent(self, records: Records) -> None:
        with RawServer(self.MALFORMED) as server:
            requests.get(server.base_url, timeout=2)
        assert KEY in "\n".join(records.lines)

    def test_others_keep_their_records_while_this_package_sends(self, connect: Connect, records: Records) -> None:
        asked = threading.Event()
        finished = threading.Event()

        def hold(connection: socket.socket, request: Request) -> None:
            asked.set()
            finished.wait(5)
            connection.sendall(self.MALFORMED)

        with RawServer(hold) as slow, RawServer(self.MALFORMED) as other:
            hook = KlingHook(connect(slow.base_url, KEY, connect_timeout=5, read_timeout=5))
            ours = threading.Thread(target=outcome_of, args=(CALLS["status"], hook))
            ours.start()
            assert asked.wait(5)
            requests.get(other.base_url, timeout=2)
            assert KEY in "\n".join(records.lines)
            records.lines.clear()
            finished.set()
            ours.join()
        assert_no_key("\n".join(records.lines))

    def test_the_records_of_our_own_requests_stay_otherwise(self, connect: Connect, records: Records) -> None:
        with RawServer(http_response(json.dumps({"id": "t", "status": "queued"}))) as server:
            outcome_of(CALLS["status"], KlingHook(connect(server.base_url, KEY)))
            text = "\n".join(records.lines)
            assert f'http://127.0.0.1:{server.port} "GET /v1/videos/t HTTP/1.1" 200' in text
            assert f"Starting new HTTP connection (1): 127.0.0.1:{server.port}" in text

    def test_the_signature_of_a_video_is_in_no_record(self, connect: Connect, records: Records) -> None:
        with RawServer(http_response("no", 403)) as server:
            hook = KlingHook(connect(server.base_url, KEY))
            url = f"{server.base_url}/x.mp4?X-Amz-Signature=0123456789abcdef0123456789abcdef"
            outcome_of(lambda hook: download(hook.client, url, io.BytesIO(), seconds=5), hook)
        assert "/x.mp4?..." in "\n".join(records.lines)
        assert "0123456789abcdef" not in "\n".join(records.lines)

    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
    def test_the_debug_output_of_python_prints_no_key(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], call: Any
    ) -> None:
        monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
        with RawServer(http_response(json.dumps({"error": {"message": KEY}}), 401)) as server:
            outcome_of(call, KlingHook(connect(server.base_url, KEY)))
        assert_no_key("".join(capfd.readouterr()))

    def test_the_filter_ends_with_the_block(self) -> None:
        record = logging.LogRecord("urllib3.connection", logging.WARNING, "", 1, "text %s", (KEY,), None)
        [filter_] = [one for one in logging.getLogger("urllib3.connection").filters if hasattr(one, "filter")][-1:]
        with redacted_logs(connection().masked):
            pass
        assert filter_.filter(record)  # type: ignore[union-attr]
        assert record.getMessage() == f"text {KEY}"

    def test_debug_mode_of_asyncio(self, connect: Connect, records: Records) -> None:
        with RawServer(HEADERS["a reason phrase"]) as server:
            hook = KlingHook(connect(server.base_url, KEY))
            with pytest.raises(KlingError) as caught:
                asyncio.run(hook.aget_video("t"), debug=True)
        assert_no_key(everything_of(caught.value))
        assert_no_key("\n".join(records.lines))


def connection(key: str = KEY, **fields: Any) -> KlingConnection:
    return KlingConnection(
        base_url="https://api.example.com",
        api=GatewayApi(Credentials(key)),
        credentials=Credentials(key),
        **fields,
    )


class TestRedaction:
    def test_every_field_of_a_job(self) -> None:
        text_fields = [name for name, kind in VideoJob.__annotations__.items() if "str" in kind]
        job = VideoJob(**{**dict.fromkeys(text_fields, f"a {KEY} b"), "status": "running"})  # type: ignore[arg-type]
        masked = asdict(connection().redacted(lambda: job))
        for name in text_fields:
            assert masked[name] == "a sk-*** b", name

    def test_every_argument_of_an_error(self) -> None:
        names = ("message", "kling_task_id", "code", "server_message", "request_id", "advice")
        error = KlingServerError(**dict.fromkeys(names, f"a {KEY.upper()} b"), http_status=500, retry_after=2.0)
        with pytest.raises(KlingServerError) as caught:
            connection().redacted(lambda: _raise(error))
        assert {getattr(caught.value, name) for name in names} == {"a SK-*** b"}
        assert (caught.value.http_status, caught.value.retry_after) == (500, 2.0)
        assert caught.value.__context__ is None
        assert "_raise" in "".join(traceback.format_exception(caught.value))

    def test_nothing_to_mask_is_nothing_changed(self) -> None:
        job = VideoJob(kling_task_id="t", status="running", model="kling-v3-std-silent")
        error = KlingServerError("no")
        assert connection().redacted(lambda: job) is job
        assert redact_error(error, Masks(connection().masked, connection().masked)) is error

    @pytest.mark.parametrize(
        ("key", "task", "url"),
        [
            ("sk-1234", "task-1234abcd", "https://cdn.example.com/task-1234abcd.mp4"),
            ("sk-test", "task-test-1", "https://cdn.example.com/task-test-1.mp4"),
            ("1234567", "91234567", "https://cdn.example.com/91234567.mp4"),
            ("task", "task_1", "https://task.example.com/task_1.mp4"),
            ("sk-20261125abcdefghijkl", "task_20261125", "https://cdn.example.com/20261125abc.mp4?day=20261125"),
            ("sk-user1234-abcdefghijklm", "task_99_user1234", "https://cdn.example.com/user1234"),
            ("kling-production:abcdef0123456789", "t", "https://kling-production.s3.example.com/v.mp4"),
            ("team@cdn.example.com:0123456789abcdef", "t", "https://cdn.example.com/v.mp4"),
            (
                "fa1c0de0-1234-4abc-8abc-1234567890ab:0123456789abcdef",
                "t",
                "https://x.example/fa1c0de0-1234/v.mp4",
            ),
        ],
    )
    def test_an_id_and_a_url_stay_as_they_are(self, key: str, task: str, url: str) -> None:
        """A paid video would be lost by an id that was masked in part."""
        one = connection(key)
        body = json.dumps({"id": task, "status": "completed", "video_url": url}).encode()
        response = Response.from_http(200, body, {}, masked=one.masked, masked_body=one.masked_body)
        job = one.read_status(response, (task,))[task]
        assert (job.kling_task_id, job.video_url) == (task, url)
        submitted = one.redacted(lambda: one.api.read_submit(response, REQUEST))
        assert submitted.kling_task_id == task

    @pytest.mark.parametrize("suppress", [True, False])
    def test_a_cause_with_the_key_goes(self, suppress: bool) -> None:
        def fail() -> None:
            try:
                int(KEY)
            except ValueError as error:
                raise KlingServerError("no") from (None if suppress else error)

        with pytest.raises(KlingServerError) as caught:
            connection().redacted(fail)
        assert_no_key(everything_of(caught.value))

    def test_a_cause_without_it_stays(self) -> None:
        cause = ValueError("a bug")

        def fail() -> None:
            raise KlingServerError("no") from cause

        with pytest.raises(KlingServerError) as caught:
            connection().redacted(fail)
        assert caught.value.__cause__ is cause

    def test_a_reason_of_a_failed_job(self) -> None:
        job = VideoJob(kling_task_id="t", status="failed", raw_status="failed", error=f"bad {KEY.lower()}")
        assert_no_key(everything_of(generation_error(connection().redacted(lambda: job))))


def _raise(error: KlingError) -> None:
    raise error


KEYS = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ0123456789-_+/=", min_size=16, max_size=64).filter(
    lambda key: len(set(key)) > 8
)


@st.composite
def hidden(draw: st.DrawFn, character: str) -> str:
    """One of the many spellings of a character, perhaps with something invisible behind it."""
    code = ord(character)
    spelt = draw(
        st.sampled_from(
            [
                character,
                character.swapcase(),
                f"%{code:02x}",
                f"%25{code:02X}",
                f"&#{code};",
                f"&amp;#x{code:x};",
                rf"\u{code:04x}",
                rf"\\u{code:04X}",
                rf"\x{code:02x}",
            ]
        )
    )
    return spelt + draw(
        st.sampled_from(["", "", "", *INVISIBLE, "\n", " ", r"\n", r"\u200b", "%E2%80%8B", "&shy;"])
    )


@given(st.data(), KEYS, st.text(max_size=20), st.text(max_size=20), st.sampled_from([*ENCODINGS, None]))
def test_no_spelling_of_any_key_leaves(
    data: st.DataObject, key: str, before: str, after: str, encoding: str | None
) -> None:
    spelt = "".join(data.draw(hidden(character)) for character in key)
    text = f"{before} {spelt} {after}"
    body = text if encoding is None else json.dumps({"error": {"message": text, "code": text}, "status": text})
    one = connection(key)
    response = Response.from_http(
        data.draw(st.sampled_from([200, 401, 500])),
        body.encode(encoding or "utf-8", "surrogatepass"),
        {"X-Request-Id": spelt},
        masked=one.masked,
    )
    outcome: Any
    try:
        outcome = one.redacted(lambda: one.api.read_status(response, ["t"])["t"])
    except KlingError as error:
        outcome = error
    left = everything_of(outcome)
    for decoded in decodings(left):
        assert visible(key) not in visible(decoded)


@given(KEYS, st.text(), st.booleans())
@example("a1" * 8 + "bcdefgh", "A text %41 with \\u0041 escapes &amp; entities\n", True)
def test_other_text_is_left_as_it_is(key: str, text: str, excerpt: bool) -> None:
    assume(not any(form[:8].lower() in visible(decoded) for form in forms_of(key) for decoded in decodings(text)))
    mask = SecretMask(forms_of(key))
    assert (mask.in_excerpt if excerpt else mask)(text) == text


@given(KEYS, st.integers(8, 63), st.sampled_from(["", "…"]))
def test_a_beginning_is_masked_where_a_text_was_cut(key: str, length: int, end: str) -> None:
    cut = key[: min(length, len(key) - 1)]
    assert SecretMask([key]).in_excerpt(f"the key ({cut}{end}") == f"the key (***{end}"
    assert SecretMask([key])(f"the key ({cut}{end}") == f"the key ({cut}{end}"


def test_a_short_key_masks_no_words() -> None:
    assert connection("sk-sandbox").masked("The sandbox of task sandbox-1") == "The sandbox of task sandbox-1"
