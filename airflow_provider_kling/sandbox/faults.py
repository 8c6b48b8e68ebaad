# SPDX-License-Identifier: Apache-2.0
"""
Scripted faults.

Every fault is one of five things: a pause, a change to a job, a job that is not found, a change to the response,
or a replacement of the response. The table ``KINDS`` defines which; there are no special cases elsewhere.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from airflow_provider_kling.sandbox.dialects import Dialect, dialect_of, error_body
from airflow_provider_kling.sandbox.jobs import OVER_CONCURRENCY, Failure

if TYPE_CHECKING:
    from airflow_provider_kling.sandbox.jobs import Job

Route = Literal["submit", "status", "probe", "content", "find", "account"]
ROUTES: tuple[Route, ...] = ("submit", "status", "probe", "content", "find", "account")
#: The routes with a JSON response about a job.
JOB_ROUTES: tuple[Route, ...] = ("submit", "status", "find")
#: Return an API's own error response for a status, a code (None for the usual one) and a message.
Envelope = Callable[[int, "int | str | None", str], "dict[str, Any]"]
BODY_STYLES = ("openai", "flat", "html", "empty", "upstream")
CONTENT_REFUSED = 1301
REFUSED_MESSAGE = "内容不符合社区规范"
COMMON_PARAMETERS = {"on", "kind", "times", "skip", "match"}
BLOCK = 64 * 1024
DEFAULT_SIZE = 256 * 1024 * 1024
GZIP_BITS = 31
HTML = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>"


@dataclass(frozen=True)
class Reply:
    """
    An HTTP response before it is sent.

    :param status: The HTTP status.
    :param parts: Pieces of the body, each with its number of repetitions, so that a huge body needs no memory.
    :param content_type: The media type.
    :param headers: Additional headers.
    :param span: The first byte of the body to send and the one after the last; None sends all of it.
    :param sent: Fraction of that to send before the connection is cut; None sends all of it.
    :param drop: Cut the connection without a response.
    :param seconds: Time over which the body is sent, in small pieces.
    """

    status: int = 200
    parts: tuple[tuple[bytes, int], ...] = ()
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    span: tuple[int, int] | None = None
    sent: float | None = None
    drop: bool = False
    seconds: float = 0.0

    @classmethod
    def of(cls, status: int, response: object) -> Reply:
        """Return an ordinary JSON response."""
        return cls(status, ((json.dumps(response, ensure_ascii=False).encode(), 1),))

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(piece * times for piece, times in self.parts)

    @property
    def length(self) -> int:
        return sum(len(piece) * times for piece, times in self.parts)

    def with_body(self, body: bytes | str, **changes: Any) -> Reply:
        data = body.encode() if isinstance(body, str) else body
        return replace(self, parts=((data, 1),), **changes)

    def within_span(self) -> Reply:
        """Return the response with the requested part of its body."""
        if self.span is None or self.status != 200 or self.span[1] > self.length:
            return self
        first, end = self.span
        where = {"Content-Range": f"bytes {first}-{end - 1}/{self.length}"}
        return self.with_body(self.body[first:end], status=206, span=None, headers={**where, **self.headers})


@dataclass(frozen=True)
class Fault:
    """
    One scripted fault.

    :param on: The route that it affects: ``submit``, ``status``, ``probe`` (a status request for a task that does
        not exist), ``content`` (the video file, at either address); Kling's own platform also has ``find`` (a
        look-up by external id) and ``account`` (the resource packs).
    :param kind: A key of :data:`KINDS`.
    :param times: Number of requests that it affects; None affects every request.
    :param skip: Number of matching requests that are not affected first.
    :param match: A part of the prompt, a task id, or an external id; None matches every request.
    :param accepted: Whether the request is carried out although its response is faulty; None is the default of the
        kind.
    :param status: HTTP status of the response.
    :param code: The error's code; a number stands for a code of the official platform inside the message.
    :param message: The error's message, or the reason why a job fails.
    :param body: Body of an error: a style of :data:`BODY_STYLES`, or the literal text; None is the API's own.
    :param content_type: Media type in the header.
    :param headers: Headers to add, for example ``{"Retry-After": "2"}``.
    :param seconds: Seconds of a pause, of a slow response, of a job's run, or for which a new job is
        ``not_visible``.
    :param location: Target of a redirect; None redirects to the same address again, endlessly.
    :param size: Bytes of a huge body, or of a decompressed bomb.
    :param fields: Fields to remove from a response.
    :param reason_at: Field with the reason of a failed job: ``error.message``, ``fail_reason``,
        ``task_status_msg`` or ``none``.
    :param dialect: Name of a dialect, or the fields in which it differs from the vendor's page.
    :raises ValueError: if the kind is unknown, or does not support a parameter.
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
        """
        Return a fault from decoded JSON.

        :raises ValueError: as the constructor, and for unknown names.
        :raises TypeError: if it is not an object.
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
        """Return the parameters that are set, in the form for :meth:`from_json`."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return {**given, "times": self.times}

    @property
    def carries_out(self) -> bool:
        """Whether the request is carried out although the response is faulty."""
        return KINDS[self.kind].accepted if self.accepted is None else self.accepted

    @property
    def role(self) -> Role:
        """``pause``, ``job``, ``response`` or ``hides`` (the job is not found): what the fault acts on."""
        if self.kind == "refuse_content" and self.carries_out:
            return "job"
        return KINDS[self.kind].role

    def strikes_at_age(self, age: float | None) -> bool:
        """Return whether a job of that age, in seconds, is still hidden; other kinds do not depend on the age."""
        return self.kind != "not_visible" or self.seconds is None or age is None or age < self.seconds

    def change_job(self, job: Job) -> None:
        change = KINDS[self.kind].change_job
        if change is not None:
            change(job, self)

    def change_reply(self, reply: Reply, envelope: Envelope) -> Reply:
        """Return the faulty response for the normal one, which is empty if the request was not carried out."""
        kind = KINDS[self.kind]
        changed = kind.change_reply(reply, self) if kind.change_reply is not None else reply
        if kind.error is not None:
            changed = kind.error.reply(self, envelope)
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
    job.failure = Failure(fault.message or REFUSED_MESSAGE, CONTENT_REFUSED, fault.reason_at or "error.message")


def _stick(job: Job, _fault: Fault) -> None:
    job.stuck = True


def _pace(job: Job, fault: Fault) -> None:
    job.run_seconds = fault.seconds or 0.0


def _leave_watermark(job: Job, _fault: Fault) -> None:
    job.only_watermark = True


def _respell(job: Job, fault: Fault) -> None:
    if isinstance(fault.dialect, Dialect):
        job.dialect = fault.dialect


@dataclass(frozen=True)
class Error:
    """The defaults of a kind that answers with an error; the fault's parameters override them."""

    status: int
    body: str | None = None
    code: int | str | None = None
    message: str = ""

    def reply(self, fault: Fault, envelope: Envelope) -> Reply:
        style = self.body if fault.body is None else fault.body
        code = self.code if fault.code is None else fault.code
        status = fault.status or self.status
        text = fault.message or self.message or f"sandbox fault {fault.kind}"
        if style is None:
            return Reply.of(status, envelope(status, code, text))
        if style == "html":
            return Reply(status, content_type="text/html").with_body(HTML.format(text))
        if style == "empty":
            return Reply(status)
        if style not in BODY_STYLES:
            return Reply(status, content_type="text/plain").with_body(style)
        return Reply.of(status, error_body(style, "" if code is None else code, text))


def _drop(reply: Reply, _fault: Fault) -> Reply:
    return replace(reply, drop=True)


def _break_json(reply: Reply, _fault: Fault) -> Reply:
    return reply.with_body(reply.body[: reply.length // 2])


def _wrong_types(reply: Reply, _fault: Fault) -> Reply:
    """Change the type of every value: strings become lists, numbers strings, and objects null."""
    return Reply.of(reply.status, {name: _mistype(value) for name, value in json.loads(reply.body).items()})


def _mistype(value: object) -> object:
    if isinstance(value, str):
        return [value]
    return str(value) if isinstance(value, int | float) else None


def _remove_fields(reply: Reply, fault: Fault) -> Reply:
    removed = fault.fields or ("id", "task_id", "status", "task_status", "video_url")
    return Reply.of(reply.status, _without(json.loads(reply.body), removed))


def _without(value: Any, removed: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_without(item, removed) for item in value]
    if isinstance(value, dict):
        return {name: _without(item, removed) for name, item in value.items() if name not in removed}
    return value


def _empty(reply: Reply, _fault: Fault) -> Reply:
    return reply.with_body(b"")


def _swell(reply: Reply, fault: Fault) -> Reply:
    """Add ``size`` bytes to the response and keep it valid: a long text in JSON, a ``free`` box in an MP4."""
    size = DEFAULT_SIZE if fault.size is None else fault.size
    if reply.content_type == "application/json":
        rest = reply.body.removeprefix(b"{")
        parts = ((b'{"padding":"', 1), *_filler(b"x", size), (b'",' + rest, 1))
    else:
        # The form of box that allows more than 4 GiB: its length follows the header in eight bytes.
        header = b"\x00\x00\x00\x01free" + (size + 16).to_bytes(8, "big")
        parts = ((reply.body + header, 1), *_filler(b"\x00", size))
    return replace(reply, parts=parts)


def _filler(letter: bytes, size: int) -> tuple[tuple[bytes, int], ...]:
    return (letter * BLOCK, size // BLOCK), (letter * (size % BLOCK), 1)


def _bomb(reply: Reply, fault: Fault) -> Reply:
    """Compress the enlarged response: it is small on the network, and ``size`` bytes when decompressed."""
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


def _keep(reply: Reply, _fault: Fault) -> Reply:
    return reply


def _ignore_range(reply: Reply, _fault: Fault) -> Reply:
    return replace(reply, span=None)


def _web_page(_reply: Reply, fault: Fault) -> Reply:
    return Reply(200, content_type="text/html").with_body(HTML.format(fault.message or "Link expired"))


Role = Literal["pause", "job", "response", "hides"]
ROLES: tuple[Role, ...] = ("pause", "job", "response", "hides")


class Kind(NamedTuple):
    """
    A kind of fault.

    :param role: What the fault acts on.
    :param parameters: The parameters of :class:`Fault` that the kind supports, besides the common ones.
    :param accepted: Whether the request is carried out by default.
    :param routes: The routes that it can affect.
    :param change_job: Its change to a job.
    :param change_reply: Its change to the response.
    :param error: The error that replaces the response.
    """

    role: Role
    parameters: frozenset[str] = frozenset()
    accepted: bool = True
    routes: tuple[Route, ...] = ROUTES
    change_job: Callable[[Job, Fault], None] | None = None
    change_reply: Callable[[Reply, Fault], Reply] | None = None
    error: Error | None = None


def _of_job(change: Callable[[Job, Fault], None], *parameters: str) -> Kind:
    """Return a kind of fault of the job itself; on ``status`` it affects a job that is under way."""
    return Kind("job", frozenset(parameters), routes=("submit", "status"), change_job=change)


_ERROR = frozenset({"status", "code", "message", "body"})
INSTEAD = frozenset({"accepted", "headers", "content_type"})


def _instead(
    change: Callable[[Reply, Fault], Reply], *parameters: str, routes: tuple[Route, ...] = ROUTES
) -> Kind:
    """Return a kind that replaces the response; the request is carried out only with ``accepted``."""
    return Kind("response", INSTEAD | set(parameters), False, routes, change_reply=change)


def _error(error: Error, *parameters: str, routes: tuple[Route, ...] = ROUTES) -> Kind:
    """Return a kind that replaces the response by an error."""
    return Kind("response", INSTEAD | _ERROR | set(parameters), False, routes, error=error)


def _spoiled(
    change: Callable[[Reply, Fault], Reply], *parameters: str, routes: tuple[Route, ...] = ROUTES
) -> Kind:
    """Return a kind that changes the response to a request that was carried out."""
    return Kind(
        "response",
        frozenset(("headers", "content_type", "status", *parameters)),
        True,
        routes,
        change_reply=change,
    )


#: Every kind of fault by name.
KINDS: Mapping[str, Kind] = {
    "delay_before": Kind("pause", frozenset({"seconds"})),
    "delay_after": Kind("pause", frozenset({"seconds"})),
    "job_fails": _of_job(_fail, "code", "message", "reason_at"),
    "stuck": _of_job(_stick),
    "pace": _of_job(_pace, "seconds"),
    "dialect": _of_job(_respell, "dialect"),
    "only_watermark": _of_job(_leave_watermark),
    "refuse_content": _error(
        Error(400, code=CONTENT_REFUSED, message=REFUSED_MESSAGE), "reason_at", routes=("submit",)
    )._replace(change_job=_refuse_later),
    "error": _error(Error(500)),
    "rate_limit": _error(Error(429, code=OVER_CONCURRENCY)),
    "proxy_error": _error(Error(502, body="html", message="Bad Gateway")),
    "not_visible": _error(Error(400, code="task_not_exist"), "seconds", routes=("status", "find"))._replace(
        role="hides"
    ),
    "redirect": _instead(_redirect, "status", "location"),
    "not_a_video": _instead(_web_page, "message", routes=("content",)),
    "drop_before": Kind("response", accepted=False, change_reply=_drop),
    "drop_after": Kind("response", change_reply=_drop),
    "broken_json": _spoiled(_break_json, routes=JOB_ROUTES),
    "wrong_types": _spoiled(_wrong_types, routes=JOB_ROUTES),
    "missing_fields": _spoiled(_remove_fields, "fields", routes=JOB_ROUTES),
    "empty_body": _spoiled(_empty),
    "huge_body": _spoiled(_swell, "size"),
    "slow_drip": _spoiled(_drip, "seconds"),
    "wrong_content_type": _spoiled(_mislabel),
    "gzip_bomb": _spoiled(_bomb, "size"),
    "truncate": _spoiled(_truncate),
    "other_headers": _spoiled(_keep),
    "ignore_range": _spoiled(_ignore_range, routes=("content",)),
}


REPLACES = ("response", "hides")


@dataclass
class _Armed:
    fault: Fault
    skip: int
    left: float


@dataclass(frozen=True)
class Struck:
    """The faults that apply to one request."""

    faults: tuple[Fault, ...] = ()

    @property
    def response(self) -> Fault | None:
        """The fault that determines the response, if any."""
        return next((fault for fault in self.faults if fault.role in REPLACES), None)

    def pause(self, kind: str) -> float:
        """Return the seconds to wait before the request is carried out (``delay_before``) or after it."""
        return sum(fault.seconds or 0.0 for fault in self.faults if fault.kind == kind)

    def change_job(self, job: Job) -> None:
        for fault in self.faults:
            if fault.role == "job":
                fault.change_job(job)


class FaultBook:
    """The active faults, in the order in which they were added."""

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

    def strike(
        self,
        on: Route,
        text: str,
        names: Sequence[str] = (),
        age: float | None = None,
        roles: Sequence[Role] = ROLES,
    ) -> Struck:
        """
        Return the faults that apply to a request, and count them as used.

        Pauses and changes to the job add up. Of the faults that determine the response, the first one applies, and
        the others wait for the next request.

        :param on: The route.
        :param text: The prompt.
        :param names: The ids of the job.
        :param age: Seconds since the job was accepted.
        :param roles: The roles of the faults that may apply.
        """
        struck: list[Fault] = []
        for armed in self._armed:
            fault = armed.fault
            if fault.on != on or fault.role not in roles:
                continue
            if not (fault.match is None or fault.match in text or fault.match in names):
                continue
            if fault.role in REPLACES and any(other.role in REPLACES for other in struck):
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
