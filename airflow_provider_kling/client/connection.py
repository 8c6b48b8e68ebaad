# SPDX-License-Identifier: Apache-2.0
"""
The fields of an Airflow connection of type ``kling``, as plain checked values.

The extras are read by name from an allow-list. Nothing else of the connection leaves this process: unknown extras
never become HTTP headers, as they would in ``HttpHook``.
"""

from __future__ import annotations

import ipaddress
import math
import re
from base64 import b64encode
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from yarl import URL

from airflow_provider_kling import __version__
from airflow_provider_kling.api.base import Authorization, Credentials, KlingApi
from airflow_provider_kling.api.gateway.api import GatewayApi
from airflow_provider_kling.api.official.api import OfficialApi
from airflow_provider_kling.api.prices import Prices
from airflow_provider_kling.client.pasted_keys import (
    clean_key,
    key_problem,
    mask_keys,
    misplaced_keys,
    without_key,
)
from airflow_provider_kling.client.redaction import Masks, redact_outcome
from airflow_provider_kling.connection_form import field_name
from airflow_provider_kling.exceptions import THE_CONNECTION, KlingError, KlingValidationError, Problem, short_repr
from airflow_provider_kling.utils.coerce import parse_number
from airflow_provider_kling.utils.masking import SecretMask, forms_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_kling.api.base import AccountPack
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.request import VideoRequest
    from airflow_provider_kling.api.response import Response

T = TypeVar("T")
_ApiClass = type[GatewayApi] | type[OfficialApi]

#: Headers of every request, apart from Authorization.
HEADERS = {"User-Agent": f"airflow-provider-kling/{__version__}", "Accept": "application/json"}

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
#: Minimum length of a key that is masked even inside ids and URLs; a shorter one may be part of one by chance.
LONG_KEY = 16
#: Maximum number of texts that :meth:`KlingConnection.hide` masks.
MAX_HIDDEN = 200
#: Seconds before its end at which an Authorization header is replaced.
RENEW_BEFORE = 60.0
#: Rate limit of status requests per second, shared by all waiting videos of a process.
MAX_REQUESTS_PER_SECOND = 50.0
_BASE_URL = "must be the address of the API, such as https://api.example.com"
_PORT = "must be 1 to 65535, or 0 for that of the Base URL"
#: The spellings of a switch.
_SWITCH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
#: The APIs that a connection can name, and their classes.
APIS: dict[str, _ApiClass] = {"gateway": GatewayApi, "official": OfficialApi}
DEFAULT_API = "gateway"
EXTRAS = (
    "api",
    "connect_timeout",
    "read_timeout",
    "verify",
    "proxy",
    "trust_env",
    "max_concurrent_jobs",
    "max_requests_per_second",
    "private_hosts",
    "refusal_codes",
    "prices",
    "probe",
)
#: Where a text speaks of the Airflow connection without its id.
_UNNAMED = re.compile(rf"{THE_CONNECTION}(?! ['\"])")
#: URL parsers differ here: some end the host at a backslash, some drop white space inside it.
_AMBIGUOUS_HOST = re.compile(r"[^/?#]*//[^/?#]*[\x00-\x20\x7f\\]")
#: The ports of the schemes.
_PORTS = {"http": 80, "https": 443}
_PRIVATE_HOST = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>[^\s/:@?#\[\]*]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}|\*))?/?"
)
_NUMBERS = {
    "connect_timeout": CONNECT_TIMEOUT,
    "read_timeout": READ_TIMEOUT,
    "max_requests_per_second": MAX_REQUESTS_PER_SECOND,
}


class PrivateHost(NamedTuple):
    """
    A host inside this network that may serve videos.

    Other ports belong to other services, so an entry without a port allows the ports of http and https only.

    :param scheme: ``http``, ``https``, or "" for both.
    :param host: Its name or address.
    :param port: A number, ``*`` for all ports, or "" for the scheme's default port.
    """

    scheme: str
    host: str
    port: str

    @classmethod
    def parse(cls, text: str) -> PrivateHost:
        """
        Parse ``host``, ``host:port`` or ``scheme://host[:port]``; the port may be ``*``.

        :raises ValueError: if the text is none of these.
        """
        found = _PRIVATE_HOST.fullmatch(_bracketed(text.strip().lower()))
        port = (found["port"] or "") if found else ""
        if not found or (port.isdecimal() and not 0 < int(port) < 65536):
            raise ValueError(f"{text!r} is not host, host:port or scheme://host:port")
        return cls(found["scheme"] or "", found["host"].strip("[]"), port.lstrip("0"))

    def takes(self, scheme: str, host: str, port: int | None) -> bool:
        """Return whether this entry matches an origin, as :func:`origin` returns it."""
        ports = ("*", str(port), "" if port == _PORTS.get(scheme) else None)
        return host == self.host and self.scheme in ("", scheme) and self.port in ports


@dataclass(frozen=True, kw_only=True)
class KlingConnection:
    """
    A resolved connection.

    :param base_url: Scheme, host, port and path prefix, without a slash at the end.
    :param api: The API of that server.
    :param credentials: The credentials of the account. Kept out of ``repr``.
    :param connect_timeout: Seconds to reach the server.
    :param read_timeout: Maximum seconds between two bytes of the response. The whole exchange may take both
        timeouts together. A triggerer applies only that sum, since a timer per byte is too expensive there.
    :param verify: TLS verification: True, False, or the path of a CA bundle that replaces the public ones.
    :param proxy: URL of an HTTP proxy for both schemes; without one the environment's proxy variables apply.
    :param trust_env: Whether the environment's variables for proxies and CA bundles apply at all.
    :param max_concurrent_jobs: How many unfinished jobs the account may have at once; None if it is not known.
    :param max_requests_per_second: Rate limit of status requests, shared by all waiting videos of one process.
    :param private_hosts: Hosts inside this network that a video URL may lead to, as :class:`PrivateHost`.
    :param refusal_codes: Error codes, in lower case, with which this vendor refuses a submit that is not billed.
    :param prices: What a second of video costs, for estimates; None if unknown. No part of what is sent.
    :param probe: Whether a free status request precedes each submit, which is not sent if the API is unavailable.
    :param unknown_extras: Names of extras that are not read, for a warning: most are typing errors.
    :param conn_id: The Airflow connection, for messages.
    """

    base_url: str
    api: KlingApi
    credentials: Credentials
    connect_timeout: float = CONNECT_TIMEOUT
    read_timeout: float = READ_TIMEOUT
    verify: bool | str = True
    proxy: str | None = None
    trust_env: bool = True
    max_concurrent_jobs: int | None = None
    max_requests_per_second: float = MAX_REQUESTS_PER_SECOND
    private_hosts: tuple[PrivateHost, ...] = ()
    refusal_codes: tuple[str, ...] = ()
    prices: Prices | None = field(default=None, compare=False)
    probe: bool = True
    unknown_extras: tuple[str, ...] = ()
    conn_id: str = field(default="", compare=False)

    def __repr__(self) -> str:
        return f"KlingConnection({self.base_url!r})"

    @classmethod
    def parse(
        cls,
        *,
        conn_id: str,
        host: str | None,
        password: str | None,
        login: str | None = None,
        schema: str | None = None,
        port: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> KlingConnection:
        """
        Return the connection that these fields of an Airflow connection describe.

        :raises KlingValidationError: naming every field that is missing or wrong.
        """
        extra = {name: value for name, value in (extra or {}).items() if value is not None and value != ""}
        problems: list[Problem] = []
        kind = _api_named(extra.get("api", DEFAULT_API), problems)
        base_url = _base_url(host, schema, _port(port, problems), kind, problems)
        key = clean_key(password)
        credentials = Credentials(key, clean_key(login) or None)
        api = kind(credentials, base_url)
        # What the API knows of its keys says more than that there is none.
        own_problems = api.credential_problems()
        if (problem := key_problem(key)) and (key or not own_problems):
            problems.append(problem)
        else:
            problems += own_problems
        proxy = None
        if "proxy" in extra:
            try:
                proxy = proxy_url(str(extra["proxy"]))
            except ValueError as error:
                problems.append(Problem("extra.proxy", "***", str(error)))
        private_hosts = _private_hosts(extra.get("private_hosts", ""), problems)
        refusal_codes = _codes(extra.get("refusal_codes", ""), problems)
        prices = _prices(extra.get("prices"), problems)
        numbers = {name: _positive(name, extra, default, problems) for name, default in _NUMBERS.items()}
        max_concurrent_jobs = _whole("max_concurrent_jobs", extra, problems)
        trust_env, probe = (_switch(name, extra, problems) for name in ("trust_env", "probe"))
        fields = {"host": host, "schema": schema, "login": None if kind.takes_login else login, "port": port}
        misplaced = {problem.field: problem for problem in misplaced_keys(fields, extra, frozenset(EXTRAS))}
        problems = [problem for problem in problems if problem.field not in misplaced]
        problems = [*misplaced.values(), *(p._replace(value=without_key(p.value)) for p in problems)]
        if problems:
            listed = "".join(f"\n  - {_described(problem)}" for problem in problems)
            raise KlingValidationError(
                f"The Airflow connection {conn_id!r} cannot be used:{listed}",
                advice="Correct it under Admin > Connections, or where it is stored.",
            )
        return cls(
            base_url=base_url,
            api=api,
            credentials=credentials,
            verify=_parse_bool_or_path(extra.get("verify", True)),
            proxy=proxy,
            trust_env=trust_env,
            max_concurrent_jobs=max_concurrent_jobs,
            private_hosts=private_hosts,
            refusal_codes=refusal_codes,
            prices=prices,
            probe=probe,
            unknown_extras=tuple(sorted(map(without_key, extra.keys() - set(EXTRAS)))),
            conn_id=conn_id,
            **numbers,
        )

    def check(self, request: VideoRequest) -> None:
        """
        Raise unless the API can make this video.

        :raises KlingValidationError: naming every limit of this API that the request does not keep.
        """
        if problems := self.api.check(request):
            raise KlingValidationError.from_problems(problems)

    def read_status(
        self, response: Response, kling_task_ids: Sequence[str], *, route: str | None = None
    ) -> Mapping[str, VideoJob | KlingError]:
        """
        Return the state of each job, with its status route, and the URL of its file at the API if it has no other.

        :param response: The response to a status request.
        :param kling_task_ids: The requested jobs.
        :param route: The status route of the response.
        :return: By id, the job, or the named error that concerns only this job.
        :raises KlingError: The named error that the response means for all of them.
        """
        found = self.redacted(lambda: self.api.read_status(response, kling_task_ids))
        return {
            kling_task_id: job if isinstance(job, KlingError) else self._complete(job, kling_task_id, route)
            for kling_task_id, job in found.items()
        }

    def read_account(self, response: Response, *, now: float) -> list[AccountPack]:
        """
        Return the packs of the account that can be used.

        :param response: The response to the API's request for the account.
        :param now: The time (epoch seconds).
        :raises KlingError: The named error.
        """
        return self.redacted(lambda: self.api.read_account(response, now=now))

    def _complete(self, job: VideoJob, kling_task_id: str, route: str | None) -> VideoJob:
        if job.status == "completed" and job.video_url is None:
            return replace(job, route=route, content_url=self._content_url(kling_task_id, route))
        return replace(job, route=route)

    def is_content_url(self, url: str, kling_task_id: str) -> bool:
        """Return whether the API itself serves the file of a job under this URL."""
        return url in {self._content_url(kling_task_id, route) for route in (None, *self.api.status_routes)}

    def _content_url(self, kling_task_id: str, route: str | None) -> str | None:
        call = self.api.content(kling_task_id, route=route)
        return None if call is None else self.url(call.path)

    def url(self, path: str) -> str:
        """Return the URL of an API path."""
        return self.base_url + path

    def is_own_origin(self, url: str) -> bool:
        """Return whether a URL has this connection's own scheme, host and port; the key is sent nowhere else."""
        try:
            return origin(url) == origin(self.base_url)
        except ValueError:  # not a URL
            return False

    def may_download_from(self, url: str) -> bool:
        """Return whether a video may be downloaded from a URL even if its address is inside this network."""
        if self.is_own_origin(url):
            return True
        scheme, host, port = origin(url)
        return any(entry.takes(scheme, host, port) for entry in self.private_hosts)

    def masked(self, text: str) -> str:
        """Return a text from another program with the key and the login of the proxy masked."""
        return self._secrets.mask(text)

    def masked_body(self, text: str) -> str:
        """Return the body of a response with the key masked, and every id and URL in it as it was."""
        return self._secrets.whole_key_mask(text)

    def hide(self, texts: Sequence[str]) -> None:
        """
        Mask more texts from now on, wherever the key is masked but in ids and URLs.

        :param texts: Credentials that are sent inside a request, in ASCII; the latest :data:`MAX_HIDDEN` are kept.
        """
        self._secrets.hide(texts)

    def redacted(self, call: Callable[[], T]) -> T:
        """
        Return what a call returns, or raise the KlingError that it raises.

        Every text is masked, and errors that speak of the Airflow connection name it.
        """
        masks = Masks(self._secrets.mask.in_excerpt, self._secrets.whole_key_mask, sentence=self.named)
        return redact_outcome(call, masks)

    def named(self, text: str) -> str:
        """Return a text about the Airflow connection with its id; the APIs, which write most of them, lack it."""
        return _UNNAMED.sub(lambda match: f"{match[0]} {self.conn_id!r}", text) if self.conn_id else text

    @cached_property
    def _secrets(self) -> _Secrets:
        user, at, _ = urlsplit(self.proxy or "").netloc.rpartition("@")
        # The password of a proxy may be a common word, so only `user:password@` and the Basic header are masked.
        logins = [user + at, f"Basic {b64encode(unquote(user).encode()).decode()}"] if at else []
        return _Secrets(self.api, logins)

    def authorization(self, *, now: float) -> str:
        """Return the Authorization header; send it only where :meth:`is_own_origin` allows."""
        return self._secrets.authorization(now=now)

    def renew_authorization(self) -> None:
        """Let the next request have a new Authorization header: the server refused the current one."""
        self._secrets.issued = None

    @property
    def account(self) -> str:
        """A name of the account, which does not show its key: it changes with the server and with the key."""
        known_by = "\0".join((self.base_url, self.credentials.login or "", self.credentials.secret))
        return sha256(known_by.encode()).hexdigest()[:16]


class _Secrets:
    """
    The current Authorization header, and the masks for everything that has been secret.

    :param api: The API.
    :param others: Other secrets of the connection.
    """

    def __init__(self, api: KlingApi, others: Sequence[str]) -> None:
        self._api = api
        self._others = others
        self._hidden: tuple[str, ...] = ()
        #: Tokens that were issued; the server may echo the one before, too.
        self._tokens: tuple[str, ...] = ()
        self.issued: Authorization | None = None
        self._make_masks()

    def authorization(self, *, now: float) -> str:
        if self.issued is None or now > self.issued.expires_at - RENEW_BEFORE:
            self.issued = self._api.authorization(now=now)
            if math.isfinite(self.issued.expires_at):
                self._tokens = (self.issued.header.rpartition(" ")[2], *self._tokens[:1])
                self._make_masks()
        return self.issued.header

    def hide(self, texts: Sequence[str]) -> None:
        self._hidden = tuple(dict.fromkeys((*texts, *self._hidden)))[:MAX_HIDDEN]
        self._make_masks()

    def _make_masks(self) -> None:
        keys = [*self._api.secrets(), *self._tokens]
        self.mask = SecretMask([*(form for key in keys for form in forms_of(key)), *self._others, *self._hidden])
        # A short key, or a part of one, may be part of an id or a URL. A paid video must not be lost by masking.
        self.whole_key_mask = SecretMask(
            [form for key in keys if len(key) >= LONG_KEY for form in forms_of(key, parts=False)]
        )


def _described(problem: Problem) -> str:
    name = field_name(problem.field)
    if problem.value in (None, ""):
        return f"{name} is empty: it {problem.expected}"
    return f"{name}={short_repr(problem.value)}: it {problem.expected}"


def _api_named(name: Any, problems: list[Problem]) -> _ApiClass:
    if not isinstance(name, str) or name not in APIS:
        problems.append(Problem("extra.api", name, f"must be one of {', '.join(APIS)}"))
        name = DEFAULT_API
    return APIS[name]


def origin(url: str) -> tuple[str, str, int | None]:
    """
    Return scheme, host and port of a URL, with the scheme's default port where the URL has none.

    It splits a URL as ``requests`` does right before it connects.

    :raises ValueError: if the URL cannot be split, or if parsers differ over where its host ends.
    """
    if _AMBIGUOUS_HOST.match(url):
        raise ValueError("its host has white space, a control character or a backslash")
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme)


def proxy_url(text: str) -> str:
    """
    Return the URL of a proxy; the default scheme is http.

    :raises ValueError: if the text is not a URL, or another kind of proxy. The message does not quote the text,
        since it may contain a password.
    """
    text = text.strip()
    url = text if "://" in text else f"http://{text.lstrip('/')}"
    try:
        parts = urlsplit(url)
        scheme, host, _ = parts.scheme, parts.hostname or "", parts.port  # reading the port checks it
    except ValueError:
        scheme = host = ""
    if scheme not in ("http", "https") or not re.fullmatch(r"[^\s/]+", host):
        raise ValueError("must be the http(s) URL of a proxy")
    return url


def _base_url(
    host: str | None, schema: str | None, port: int | None, api: _ApiClass, problems: list[Problem]
) -> str:
    host = (host or "").strip() or api.default_base_url or ""
    # Anything in the host besides a plain URL may be a key in the wrong field.
    shown = "***" if re.search("[@?#]", host) else without_key(host)
    # The URI form of a connection has a path prefix where other connection types have the scheme.
    scheme, prefix = ("https", schema or "") if (schema or "").lower() not in ("http", "https") else (schema, "")
    try:
        parts = urlsplit(host if "://" in host else f"{scheme}://{_bracketed(host)}")
        name = _ascii_host(parts.hostname or "")
        own_port = parts.port
    except ValueError:
        problems.append(Problem("host", shown, _BASE_URL))
        return ""
    if parts.username or parts.password or parts.query or parts.fragment:
        problems.append(Problem("host", "***", "must be a plain URL, without user, query or fragment"))
    elif parts.scheme not in ("http", "https") or not re.fullmatch(r"[^\x00-\x20\x7f/\\]+", name):
        problems.append(Problem("host", shown, _BASE_URL))
    elif port and not 0 < port < 65536:
        problems.append(Problem("port", port, _PORT))
    elif port and own_port and port != own_port:
        expected = f"must be that of the Base URL, which has {own_port}, or 0"
        problems.append(Problem("port", port, expected))
    port = own_port or port
    netloc = _bracketed(name) + (f":{port}" if port and port != _PORTS.get(parts.scheme) else "")
    path = api.base_path("/".join(filter(None, (parts.path.strip("/"), prefix.strip("/")))))
    return f"{parts.scheme}://{netloc}" + (f"/{path}" if path else "")


def _ascii_host(host: str) -> str:
    """
    Return a host as HTTP clients send it: IDNA encodes a name in another script as ASCII.

    :raises ValueError: if it is not a host name.
    """
    return host if host.isascii() else URL.build(scheme="https", host=host).raw_host or ""


def _port(port: Any, problems: list[Problem]) -> int | None:
    """Return a port, which is a text in a connection that is stored as JSON."""
    text = str(port or "").strip()
    if re.fullmatch(r"-?[0-9]{0,10}", text) is None or text == "-":
        problems.append(Problem("port", port, _PORT))
        return None
    return int(text) if text else None


def _bracketed(host: str) -> str:
    """Return a host as in a URL: the URI form of a connection loses the brackets of an IPv6 address."""
    try:
        return f"[{ipaddress.IPv6Address(host)}]"
    except ValueError:
        return host


def _positive(name: str, extra: Mapping[str, Any], default: float, problems: list[Problem]) -> float:
    if name not in extra:
        return default
    seconds = parse_number(extra[name])
    if seconds is None or seconds <= 0:
        problems.append(Problem(f"extra.{name}", extra[name], "must be a positive number"))
        return default
    return seconds


def _whole(name: str, extra: Mapping[str, Any], problems: list[Problem]) -> int | None:
    """Return a positive whole number; None if the extra is absent."""
    if name not in extra:
        return None
    number = parse_number(extra[name])
    if number is None or number < 1 or not number.is_integer():
        problems.append(Problem(f"extra.{name}", extra[name], "must be a positive whole number"))
        return None
    return int(number)


def _parse_bool_or_path(value: Any) -> bool | str:
    """Return the boolean for any common spelling; any other text (a path) stays as it is."""
    return _SWITCH.get(str(value).strip().lower(), str(value))


def _switch(name: str, extra: Mapping[str, Any], problems: list[Problem]) -> bool:
    """Return the value of a switch, which is on by default."""
    value = _parse_bool_or_path(extra.get(name, True))
    if isinstance(value, bool):
        return value
    problems.append(Problem(f"extra.{name}", extra[name], "must be true or false"))
    return True


def _private_hosts(value: Any, problems: list[Problem]) -> tuple[PrivateHost, ...]:
    """Return the hosts from a list, or from comma-separated text."""
    entries = value if isinstance(value, (list, tuple)) else str(value).split(",")
    hosts = []
    for entry in filter(None, (str(entry).strip() for entry in entries)):
        try:
            hosts.append(PrivateHost.parse(entry))
        except ValueError:
            expected = "must be host, host:port or scheme://host:port, where the port may be *"
            problems.append(Problem("extra.private_hosts", "***" if "@" in entry else entry, expected))
    return tuple(hosts)


def _prices(value: Any, problems: list[Problem]) -> Prices | None:
    if value is None or value == {}:
        return None
    try:
        return Prices.parse(value)
    except ValueError as error:
        problems.append(Problem("extra.prices", value, mask_keys(str(error))))
        return None


def _codes(value: Any, problems: list[Problem]) -> tuple[str, ...]:
    """Return error codes from a list, or from comma-separated text; pasted brackets and quotes are removed."""
    entries = value.split(",") if isinstance(value, str) else [value] if type(value) is int else value
    if not isinstance(entries, (list, tuple)) or not all(type(code) in (str, int) for code in entries):
        expected = "must be error codes, in a list or with commas between"
        problems.append(Problem("extra.refusal_codes", value, expected))
        return ()
    codes = (str(code).strip(" \t\r\n[]\"'").lower() for code in entries)
    return tuple(code for code in codes if code)
