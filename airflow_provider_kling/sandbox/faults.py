# SPDX-License-Identifier: Apache-2.0
"""Scripted trouble.

Every fault is one of four things: a pause, a change to a job, a change to the answer, or an answer that takes
the place of the proper one. The table ``KINDS`` says which; there is no further special case anywhere else.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_kling.sandbox.contract import upstream_message
from airflow_provider_kling.sandbox.dialects import Dialect, dialect_of, error_body
from airflow_provider_kling.sandbox.jobs import OVER_CONCURRENCY, Failure

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_kling.sandbox.jobs import Job

Route = Literal["submit", "status", "probe", "content"]
ROUTES: tuple[Route, ...] = ("submit", "status", "probe", "content")
BODY_STYLES = ("openai", "flat", "html", "empty", "upstream")
CONTENT_REFUSED = 1301
REFUSED_WORDS = "内容不符合社区规范"
UPSTREAM_TROUBLE = 5000
COMMON_PARAMETERS = {"on", "kind", "times", "skip", "match"}
BLOCK = 64 * 1024
DEFAULT_SIZE = 256 * 1024 * 1024
GZIP_BITS = 31
HTML = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>"


@dataclass(frozen=True)
class Reply:
    """An HTTP answer before it is sent.

    :param parts: pieces of the body and how often each is repeated, so that a huge body needs no memory.
    :param file: body to send when there are no ``parts``.
    :param sent: share of the body to send before the connection is cut; None sends all of it.
    :param drop: cut the connection without any answer.
    :param seconds: time over which the body is spread, in small pieces.
    """

    status: int = 200
    parts: tuple[tuple[bytes, int], ...] = ()
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    file: Path | None = None
    sent: float | None = None
    drop: bool = False
    seconds: float = 0.0

    @classmethod
    def of(cls, status: int, answer: object) -> Reply:
        """Make an ordinary JSON answer."""
        return cls(status, ((json.dumps(answer, ensure_ascii=False).encode(), 1),))

    @property
    def body(self) -> bytes:
        """The whole body; read from the file where there is one."""
        if self.file is not None and not self.parts:
            return self.file.read_bytes()
        return b"".join(piece * times for piece, times in self.parts)

    @property
    def length(self) -> int:
        return sum(len(piece) * times for piece, times in self.parts)

    def with_body(self, body: bytes | str, **changes: Any) -> Reply:
        data = body.encode() if isinstance(body, str) else body
        return replace(self, parts=((data, 1),), file=None, **changes)


@dataclass(frozen=True)
class Fault:
    """One piece of scripted trouble.

    :param on: the request it strikes: ``submit``, ``status``, ``probe`` (a status question for a task that does
        not exist) or ``content`` (the video file, at either address).
    :param kind: a key of :data:`KINDS`.
    :param times: how many requests it strikes; None is every one.
    :param skip: how many matching requests pass unharmed first.
    :param match: a part of the prompt, or a task id; None matches every request.
    :param accepted: whether the request is carried out before its answer goes wrong; None leaves it to the kind.
    :param status: HTTP status of the answer.
    :param code: the error's code; a number stands for a code of the official platform inside the message.
    :param message: the error's message, or the reason why a job fails.
    :param body: body of an error: a style of :data:`BODY_STYLES`, or the literal text.
    :param content_type: media type to claim.
    :param headers: headers to add, for example ``{"Retry-After": "2"}``.
    :param seconds: length of a pause, of a drip or of a job's run; how long a new job is ``not_visible``.
    :param location: where a redirect leads; None leads to the same address again, without end.
    :param size: bytes of a huge body, or of an unpacked bomb.
    :param fields: fields that an answer lacks.
    :param reason_at: field with the reason of a failed job: ``error.message``, ``fail_reason``,
        ``task_status_msg`` or ``none``.
    :param dialect: name of a dialect, or the fields in which it differs from the vendor's page.
    :raises ValueError: unknown kind, or a parameter that means nothing to the kind.
    """

    on: Route
    kind: str
    times: int | None = 1
    skip: int = 0
    match: str | None = None
    accepted: bool | None = None
    status: int | None = None
    code: int | str | None = None
    message: str | None = None
    body: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] | None = None
    seconds: float | None = None
    location: str | None = None
    size: int | None = None
    fields: tuple[str, ...] | None = None
    reason_at: str | None = None
    dialect: str | Mapping[str, Any] | Dialect | None = None

    def __post_init__(self) -> None:
        if self.on not in ROUTES:
            raise ValueError(f"on must be one of {', '.join(ROUTES)}, not {self.on!r}")
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault kind {self.kind!r}; known are {', '.join(KINDS)}")
        if self.on not in KINDS[self.kind].routes:
            raise ValueError(f"{self.kind} strikes {' and '.join(KINDS[self.kind].routes)}, not {self.on}")
        given = {spec.name for spec in fields(self) if getattr(self, spec.name) is not None}
        strange = given - KINDS[self.kind].parameters - COMMON_PARAMETERS
        if strange:
            raise ValueError(f"{self.kind} has no parameter {', '.join(sorted(strange))}")
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1, or None for every request")
        if self.dialect is not None:
            object.__setattr__(self, "dialect", dialect_of(self.dialect))

    @classmethod
    def from_json(cls, given: object) -> Fault:
        """Build a fault from decoded JSON.

        :raises ValueError: as the constructor, and for unknown names.
        :raises TypeError: not an object.
        """
        if not isinstance(given, Mapping):
            raise TypeError("a fault must be a JSON object")
        unknown = set(given) - {spec.name for spec in fields(cls)}
        if unknown:
            raise ValueError(f"a fault has no parameter {', '.join(sorted(unknown))}")
        if "on" not in given or "kind" not in given:
            raise ValueError("a fault needs on and kind")
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Return the parameters that were given, ready for :meth:`from_json`."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {**given, "times": self.times}

    @property
    def carries_out(self) -> bool:
        """Whether the request does its work although the answer goes wrong."""
        return KINDS[self.kind].accepted if self.accepted is None else self.accepted

    @property
    def role(self) -> str:
        """``pause``, ``job`` or ``answer``: what the fault acts on."""
        if self.kind == "refuse_content" and self.carries_out:
            return "job"
        return KINDS[self.kind].role

    def strikes_at_age(self, age: float | None) -> bool:
        """Tell whether a job of that age, in seconds, is still hidden; other kinds know no age."""
        return self.kind != "not_visible" or self.seconds is None or age is None or age < self.seconds

    def change_job(self, job: Job) -> None:
        change = KINDS[self.kind].change_job
        if change is not None:
            change(job, self)

    def change_reply(self, reply: Reply) -> Reply:
        """Turn the proper answer (an empty one if the request was not carried out) into the faulty one."""
        change = KINDS[self.kind].change_reply
        changed = change(reply, self) if change is not None else reply
        return replace(
            changed,
            status=self.status or changed.status,
            headers={**changed.headers, **(self.headers or {})},
            content_type=self.content_type or changed.content_type,
        )


def _fail(job: Job, fault: Fault) -> None:
    code = "" if fault.code is None else str(fault.code)
    job.failure = Failure(fault.message or "video generation failed", code, fault.reason_at or "error.message")


def _refuse_later(job: Job, fault: Fault) -> None:
    message = upstream_message(CONTENT_REFUSED, fault.message or REFUSED_WORDS)
    job.failure = Failure(message, "fail_to_fetch_task", fault.reason_at or "error.message")


def _stick(job: Job, _fault: Fault) -> None:
    job.stuck = True


def _pace(job: Job, fault: Fault) -> None:
    job.run_seconds = fault.seconds or 0.0


def _respell(job: Job, fault: Fault) -> None:
    if isinstance(fault.dialect, Dialect):
        job.dialect = fault.dialect


def _error(
    status: int, *, body: str = "openai", code: int | str = "", message: str = ""
) -> Callable[[Reply, Fault], Reply]:
    """Make the change that puts an error in the answer's place; the fault's own parameters go before these."""

    def change(_reply: Reply, fault: Fault) -> Reply:
        style = body if fault.body is None else fault.body
        text = fault.message or message or f"sandbox fault {fault.kind}"
        if style == "html":
            return Reply(status, content_type="text/html").with_body(HTML.format(text))
        if style == "empty":
            return Reply(status)
        if style not in BODY_STYLES:
            return Reply(status, content_type="text/plain").with_body(style)
        return Reply.of(status, _envelope(style, code if fault.code is None else fault.code, text))

    return change


def _envelope(style: str, code: int | str, message: str) -> dict[str, Any]:
    """Build a JSON error; codes of the official platform surface inside the message only."""
    if style == "upstream":
        number = code if isinstance(code, int) else UPSTREAM_TROUBLE
        word = code if isinstance(code, str) else ""
        return error_body("openai", word or "fail_to_fetch_task", upstream_message(number, message))
    if isinstance(code, int):
        return error_body(style, "", upstream_message(code, message))
    return error_body(style, code, message)


def _drop(reply: Reply, _fault: Fault) -> Reply:
    return replace(reply, drop=True)


def _break_json(reply: Reply, _fault: Fault) -> Reply:
    return reply.with_body(reply.body[: reply.length // 2])


def _wrong_types(reply: Reply, _fault: Fault) -> Reply:
    """Every text becomes a list, every number a text, every object a null: nothing is what it should be."""
    return Reply.of(reply.status, {name: _mistype(value) for name, value in json.loads(reply.body).items()})


def _mistype(value: object) -> object:
    if isinstance(value, str):
        return [value]
    return str(value) if isinstance(value, int | float) else None


def _lack_fields(reply: Reply, fault: Fault) -> Reply:
    lacking = fault.fields or ("id", "task_id", "status", "video_url")
    answer = json.loads(reply.body)
    return Reply.of(reply.status, {name: value for name, value in answer.items() if name not in lacking})


def _empty(reply: Reply, _fault: Fault) -> Reply:
    return reply.with_body(b"")


def _swell(reply: Reply, fault: Fault) -> Reply:
    """Blow the answer up by ``size`` bytes, still valid: JSON by a long text, MP4 by a ``free`` box."""
    size = DEFAULT_SIZE if fault.size is None else fault.size
    if reply.content_type == "application/json":
        rest = reply.body.removeprefix(b"{")
        parts = ((b'{"padding":"', 1), *_filler(b"x", size), (b'",' + rest, 1))
    else:
        # A box of this form has room for more than 4 GiB: its length follows the header in eight bytes.
        header = b"\x00\x00\x00\x01free" + (size + 16).to_bytes(8, "big")
        parts = ((reply.body + header, 1), *_filler(b"\x00", size))
    return replace(reply, parts=parts, file=None)


def _filler(letter: bytes, size: int) -> tuple[tuple[bytes, int], ...]:
    return (letter * BLOCK, size // BLOCK), (letter * (size % BLOCK), 1)


def _bomb(reply: Reply, fault: Fault) -> Reply:
    """Send the swollen answer packed: small on the wire, ``size`` bytes for who unpacks it."""
    swollen = _swell(reply, fault)
    packer = zlib.compressobj(level=1, wbits=GZIP_BITS)
    packed = [packer.compress(piece) for piece, times in swollen.parts for _ in range(times)]
    body = b"".join([*packed, packer.flush()])
    return reply.with_body(body, headers={**reply.headers, "Content-Encoding": "gzip"})


def _drip(reply: Reply, fault: Fault) -> Reply:
    return reply.with_body(reply.body, seconds=10.0 if fault.seconds is None else fault.seconds)


def _mislabel(reply: Reply, _fault: Fault) -> Reply:
    return reply.with_body(reply.body, content_type="text/plain")


def _redirect(_reply: Reply, fault: Fault) -> Reply:
    return Reply(302, headers={"Location": fault.location or "?again"})


def _truncate(reply: Reply, _fault: Fault) -> Reply:
    return reply.with_body(reply.body, sent=0.5)


def _web_page(_reply: Reply, fault: Fault) -> Reply:
    return Reply(200, content_type="text/html").with_body(HTML.format(fault.message or "Link expired"))


class Kind(NamedTuple):
    """What a fault of one kind acts on, which parameters mean something to it, and where it may strike."""

    role: Literal["pause", "job", "answer"]
    parameters: frozenset[str] = frozenset()
    accepted: bool = True
    routes: tuple[Route, ...] = ROUTES
    change_job: Callable[[Job, Fault], None] | None = None
    change_reply: Callable[[Reply, Fault], Reply] | None = None


def _of_job(change: Callable[[Job, Fault], None], *parameters: str) -> Kind:
    """Describe a fault of the job itself; on ``status`` it strikes a job that is under way."""
    return Kind("job", frozenset(parameters), routes=("submit", "status"), change_job=change)


def _instead(
    change: Callable[[Reply, Fault], Reply], *parameters: str, routes: tuple[Route, ...] = ROUTES
) -> Kind:
    """Describe an answer in place of the proper one; only ``accepted`` lets the request be carried out."""
    common = ("accepted", "headers", "content_type")
    return Kind("answer", frozenset((*common, *parameters)), False, routes, change_reply=change)


def _spoiled(
    change: Callable[[Reply, Fault], Reply], *parameters: str, routes: tuple[Route, ...] = ROUTES
) -> Kind:
    """Describe the proper answer of a request that was carried out, changed on its way."""
    return Kind(
        "answer",
        frozenset(("headers", "content_type", "status", *parameters)),
        True,
        routes,
        change_reply=change,
    )


_ERROR = ("status", "code", "message", "body")

KINDS: Mapping[str, Kind] = {
    "delay_before": Kind("pause", frozenset({"seconds"})),
    "delay_after": Kind("pause", frozenset({"seconds"})),
    "job_fails": _of_job(_fail, "code", "message", "reason_at"),
    "stuck": _of_job(_stick),
    "pace": _of_job(_pace, "seconds"),
    "dialect": _of_job(_respell, "dialect"),
    "refuse_content": _instead(
        _error(400, code=CONTENT_REFUSED, message=REFUSED_WORDS), *_ERROR, "reason_at", routes=("submit",)
    )._replace(change_job=_refuse_later),
    "error": _instead(_error(500), *_ERROR),
    "rate_limit": _instead(_error(429, code=OVER_CONCURRENCY), *_ERROR),
    "proxy_error": _instead(_error(502, body="html", message="Bad Gateway"), *_ERROR),
    "not_visible": _instead(_error(400, code="task_not_exist"), *_ERROR, "seconds", routes=("status",)),
    "redirect": _instead(_redirect, "status", "location"),
    "not_a_video": _instead(_web_page, "message", routes=("content",)),
    "drop_before": Kind("answer", accepted=False, change_reply=_drop),
    "drop_after": Kind("answer", change_reply=_drop),
    "broken_json": _spoiled(_break_json, routes=("submit", "status")),
    "wrong_types": _spoiled(_wrong_types, routes=("submit", "status")),
    "missing_fields": _spoiled(_lack_fields, "fields", routes=("submit", "status")),
    "empty_body": _spoiled(_empty),
    "huge_body": _spoiled(_swell, "size"),
    "slow_drip": _spoiled(_drip, "seconds"),
    "wrong_content_type": _spoiled(_mislabel),
    "gzip_bomb": _spoiled(_bomb, "size"),
    "truncate": _spoiled(_truncate),
}
"""Every kind of fault by name."""


@dataclass
class _Armed:
    fault: Fault
    skip: int
    left: float


@dataclass(frozen=True)
class Struck:
    """The faults that one request met."""

    faults: tuple[Fault, ...] = ()

    @property
    def answer(self) -> Fault | None:
        """The fault that decides the answer, if any."""
        return next((fault for fault in self.faults if fault.role == "answer"), None)

    def pause(self, kind: str) -> float:
        """Seconds to wait ``delay_before`` the request is carried out, or ``delay_after``."""
        return sum(fault.seconds or 0.0 for fault in self.faults if fault.kind == kind)

    def change_job(self, job: Job) -> None:
        for fault in self.faults:
            if fault.role == "job":
                fault.change_job(job)


class FaultBook:
    """The faults that are armed, in the order in which they were added."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def add(self, fault: Fault) -> None:
        self._armed.append(_Armed(fault, fault.skip, float("inf") if fault.times is None else fault.times))

    def clear(self) -> None:
        self._armed.clear()

    def armed(self) -> list[dict[str, Any]]:
        return [
            {**armed.fault.to_json(), "left": None if armed.left == float("inf") else armed.left}
            for armed in self._armed
        ]

    def strike(self, on: Route, text: str, task_id: str | None = None, age: float | None = None) -> Struck:
        """Use up what matches a request.

        Pauses and changes to the job add up; of the faults that decide the answer the first one strikes and
        the others wait for the next request.
        """
        struck: list[Fault] = []
        for armed in self._armed:
            fault = armed.fault
            if fault.on != on or not (fault.match is None or fault.match in text or fault.match == task_id):
                continue
            if fault.role == "answer" and any(other.role == "answer" for other in struck):
                continue
            if not fault.strikes_at_age(age):
                continue
            if armed.skip:
                armed.skip -= 1
                continue
            struck.append(fault)
            if fault.seconds is None or fault.kind != "not_visible":
                armed.left -= 1
        self._armed = [armed for armed in self._armed if armed.left > 0]
        return Struck(tuple(struck))
