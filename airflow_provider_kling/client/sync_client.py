# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of a worker."""

from __future__ import annotations

import io
import json
import logging
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

from requests.auth import AuthBase

from airflow_provider_kling.api.response import (
    MAX_CONTAINERS,
    MAX_RESPONSE_BYTES,
    MAX_SUBMIT_CONTAINERS,
    MAX_SUBMIT_RESPONSE_BYTES,
    Response,
)
from airflow_provider_kling.api.routes import RouteSearch
from airflow_provider_kling.client.connection import HEADERS, KlingConnection
from airflow_provider_kling.client.redaction import Masks, redact_outcome
from airflow_provider_kling.client.response_body import CONTENT_ENCODING, ResponseBody
from airflow_provider_kling.client.transport import TRANSPORT_ERRORS, BoundedAdapter, Session
from airflow_provider_kling.exceptions import (
    KlingConnectionError,
    KlingError,
    KlingServerError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import requests

    from airflow_provider_kling.api.base import AccountPack, HttpCall
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.request import VideoRequest

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Maximum seconds between the record of a submit and its POST, in addition to the connect timeout.
INTENT_MARGIN = 5.0


class SyncClient:
    """
    Sends the calls of the connection's API, each once; twice if the server rejected the first token.

    :param connection: The resolved connection.
    :param masks: What to mask in jobs and errors besides the secrets of the connection; None masks nothing else.
    """

    def __init__(self, connection: KlingConnection, masks: Masks | None = None) -> None:
        self.connection = connection
        self._masks = masks
        #: How many requests were sent to the API.
        self.requests = 0
        #: The status route that the server has, once a response has shown it.
        self.status_route: str | None = None

    def new_session(self) -> Session:
        """Return a session that authenticates its requests."""
        session = self._prepared(BoundedAdapter(mask=self.connection.masked))
        session.auth = _Authorization(self.connection)
        return session

    def new_public_session(self) -> Session:
        """Return a session for other servers: it has no key, and blocks addresses inside this network."""
        session = self._prepared(BoundedAdapter(public_only=True, mask=self.connection.masked))
        # This keeps requests from sending the logins of a .netrc, which are for servers that the user chose.
        session.auth = lambda request: request
        return session

    @cached_property
    def session(self) -> Session:
        """The session that all GETs share."""
        return self.new_session()

    @cached_property
    def public_session(self) -> Session:
        """The session for video URLs on other servers."""
        return self.new_public_session()

    def close(self) -> None:
        """Close the sessions."""
        for name in ("session", "public_session"):
            if name in vars(self):
                vars(self).pop(name).close()

    def get_video(self, kling_task_id: str, *, route: str | None = None) -> VideoJob:
        """
        Return the state of a job, from one status check.

        :param kling_task_id: The job.
        :param route: Its status route, if it is known.
        :raises KlingError: The named error.
        """
        return self.masked(lambda: self._get_video(kling_task_id, route))

    def _get_video(self, kling_task_id: str, route: str | None) -> VideoJob:
        api = self.connection.api
        search = self._search(lambda route: api.status((kling_task_id,), route=route), known=route)
        found = self.connection.read_status(search.response, (kling_task_id,), route=search.response_route)
        job = found[kling_task_id]
        if isinstance(job, KlingError):
            raise job
        return job

    def find_video(self, client_token: str) -> VideoJob | None:
        """
        Return the job of a submit, by its client token; None if the server says that there is none.

        :raises KlingError: The named error, which proves neither.
        """
        return self.masked(lambda: self._find_video(client_token))

    def _find_video(self, client_token: str) -> VideoJob | None:
        api = self.connection.api
        is_absent, response = False, None
        for route in api.status_routes:
            # One route may not know the jobs of another by this token, so each has to say that there is none.
            response = self.send(api.find(client_token, route=route))
            is_optional = route in api.optional_routes
            if is_optional and not api.serves_route(response) and not self._has_route(route):
                continue
            job = self._read_find(response, client_token)
            if job is not None:
                return replace(job, route=route)
            is_absent = True
        if not is_absent and response is not None:
            self._read_find(response, client_token)  # raises what the last route said
        return None

    def _has_route(self, route: str) -> bool:
        """Return whether this is the status route that the server has; it is asked if nothing has shown it."""
        if self.status_route is None:
            self.probe()
        return self.status_route == route

    def _read_find(self, response: Response, client_token: str) -> VideoJob | None:
        return self.connection.redacted(lambda: self.connection.api.read_find(response, client_token))

    def masked(self, call: Callable[[], T]) -> T:
        """Return what a call returns, or raise the KlingError that it raises, with the masks of this client."""
        return call() if self._masks is None else redact_outcome(call, self._masks)

    def account(self) -> list[AccountPack] | None:
        """
        Return what is left in the account; None if the API does not tell.

        :raises KlingError: The named error.
        """
        now = time.time()
        if (call := self.connection.api.account(now=now)) is None:
            return None
        return self.connection.read_account(self.send(call), now=now)

    def describe(self) -> tuple[bool, str]:
        """Return whether the connection works, and why, at no cost."""
        response = self.probe()
        works, why = self.connection.redacted(lambda: self.connection.api.describe_probe(response))
        if works:
            with suppress(KlingError):  # the account's balance is not what was asked for
                why = " ".join([why, *map(str, self.account() or ())])
        return works, why

    def probe(self, *, session: Session | None = None) -> Response:
        """
        Send the free probe request on the status route that the server has, and return the response.

        :param session: As in :meth:`send`.
        """
        api = self.connection.api
        return self._search(lambda route: api.probe(route=route), session=session, is_probe=True).response

    @contextmanager
    def submitting(self) -> Iterator[Submitting]:
        """Open a session to send one submit on; the probe and the submit share its connection."""
        with self.new_session() as session:
            yield Submitting(self, session)

    def send(
        self,
        call: HttpCall,
        *,
        session: Session | None = None,
        body: io.BytesIO | None = None,
        connected: Callable[[], None] = lambda: None,
    ) -> Response:
        """
        Send a call and return the response, whatever its HTTP status; a redirect is a response too.

        :param call: What to send.
        :param session: The session to send it on, the shared one by default.
        :param body: The body, where the caller watches it.
        :param connected: Called whenever a connection is established, before anything is sent on it.
        :raises KlingConnectionError: if the exchange broke.
        :raises KlingServerError: if the response is too large.
        """
        response = self._send_once(call, session or self.session, body, connected)
        if body is None and self.connection.api.wants_new_authorization(response):
            self.connection.renew_authorization()
            response = self._send_once(call, session or self.session, body, connected)
        return response

    def _send_once(
        self, call: HttpCall, session: Session, body: io.BytesIO | None, connected: Callable[[], None]
    ) -> Response:
        connection = self.connection
        self.requests += 1
        url = connection.url(call.path)
        adapter = cast("BoundedAdapter", session.get_adapter(url))
        try:
            with (
                adapter.within(connection.connect_timeout + connection.read_timeout, connected),
                session.request(
                    call.method,
                    url,
                    data=body,
                    headers={"Content-Type": "application/json"} if body else None,
                    stream=True,
                ) as response,
            ):
                # A submit's response may hold the only trace of a paid job: it may repeat the request whole.
                content = _content(
                    response,
                    max_bytes=MAX_RESPONSE_BYTES
                    if body is None
                    else MAX_SUBMIT_RESPONSE_BYTES + 2 * len(body.getbuffer()),
                    masked=connection.masked if body is not None else None,
                )
        except TRANSPORT_ERRORS as error:
            reason = connection.masked(f"{type(error).__name__}: {error}")
        else:
            return Response.from_http(
                response.status_code,
                content,
                response.headers,
                masked=connection.masked,
                masked_body=connection.masked_body,
                most_containers=MAX_CONTAINERS if body is None else MAX_SUBMIT_CONTAINERS,
            )
        # Outside of the except block: the text of the error may contain the key, which some servers echo.
        raise KlingConnectionError(
            f"{call.method} {url} failed: {reason}", advice=connection.named(KlingConnectionError.default_advice)
        )

    def _search(
        self,
        call: Callable[[str], HttpCall],
        *,
        known: str | None = None,
        session: Session | None = None,
        is_probe: bool = False,
    ) -> RouteSearch:
        search = RouteSearch(self.connection.api, known or self.status_route, is_probe=is_probe)
        for route in search:
            search.add(route, self.send(call(route), session=session))
        self.status_route = search.route
        return search

    def _prepared(self, adapter: BoundedAdapter) -> Session:
        connection = self.connection
        session = Session((connection.connect_timeout, connection.read_timeout), verify=connection.verify)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.headers.update({**HEADERS, "Accept-Encoding": CONTENT_ENCODING})
        session.trust_env = connection.trust_env
        if connection.proxy:
            session.proxies = {"http": connection.proxy, "https": connection.proxy}
        return session


class Submitting:
    """
    A session on which one submit is sent.

    :param client: The client, for its connection.
    :param session: The session; its connection to the server is kept alive from the probe to the submit.
    """

    def __init__(self, client: SyncClient, session: Session) -> None:
        self._client = client
        self._session = session

    def probe(self) -> None:
        """
        Check that the API is available, at no cost.

        Only a response that proves the API unavailable raises. One that is merely odd is logged.

        :raises KlingUnavailableError: if the API is unavailable.
        :raises KlingAuthenticationError: if it rejects the key.
        """
        connection = self._client.connection
        if not connection.probe:
            return
        try:
            response = self._client.probe(session=self._session)
        except KlingConnectionError as error:
            advice = connection.named(KlingUnavailableError.default_advice)
            raise KlingUnavailableError(error.message, advice=advice) from error
        except KlingServerError as error:
            log.warning("Before the submit: %s", error)
            return
        if oddity := connection.redacted(lambda: connection.api.read_probe(response)):
            log.warning("Before the submit: %s", oddity)

    def submit(
        self,
        request: VideoRequest,
        *,
        age: Callable[[], float] = lambda: 0.0,
        client_token: str | None = None,
    ) -> VideoJob:
        """
        Send the submit, once; again only if the server rejected its token as expired or not yet valid.

        :param request: The request.
        :param age: Returns the seconds since its intent was recorded. Another attempt may have replaced a process
            that was stopped for longer than a connection takes, so nothing is sent then.
        :param client_token: A text that is unique in the account, if the API takes one.
        :raises KlingConnectionError: if the request provably never reached the server.
        :raises KlingUncertainSubmissionError: if the server may have accepted it, but no id arrived.
        :raises KlingError: any other named error; no job was made.
        """
        redacted = self._client.connection.redacted
        return self._client.masked(lambda: redacted(lambda: self._submit(request, age, client_token)))

    def _submit(self, request: VideoRequest, age: Callable[[], float], client_token: str | None) -> VideoJob:
        connection = self._client.connection
        call = connection.api.submit(request, client_token=client_token)
        response = self._send(call, age)
        if connection.api.wants_new_authorization(response):
            # Refused before anything was made: the vendor checks the token first.
            connection.renew_authorization()
            response = self._send(call, age)
        return connection.api.read_submit(
            response, request, route=self._client.status_route, refusal_codes=connection.refusal_codes
        )

    def _send(self, call: HttpCall, age: Callable[[], float]) -> Response:
        connection = self._client.connection

        def check_age() -> None:
            if (seconds := age()) > connection.connect_timeout + INTENT_MARGIN:
                raise KlingConnectionError(
                    f"{seconds:.0f} s passed between the record of the submit and its sending, so it was not sent",
                    advice="This process was stopped, or the record or the connection took that long.",
                )

        body = _WatchedBody(json.dumps(call.body).encode(), before=check_age)
        try:
            check_age()
            return self._client.send(call, session=self._session, body=body, connected=check_age)
        except Exception as error:
            # For any error, bugs of this package included: what counts is whether the server has the request.
            if not body.was_read and isinstance(error, KlingError):
                raise
            detail = f"{type(error).__name__}: {error}"
            reason = error.message if isinstance(error, KlingError) else connection.masked(detail)
            if not body.was_read:
                raise KlingConnectionError(f"The submit could not be sent ({reason})") from error
            raise KlingUncertainSubmissionError(
                f"The submit was sent, but its response was lost ({reason})",
                http_status=getattr(error, "http_status", None),
                server_message=getattr(error, "server_message", None),
            ) from error


class _Authorization(AuthBase):
    """The connection's authorization; as a session's ``auth`` it keeps a ``.netrc`` from replacing the key."""

    def __init__(self, connection: KlingConnection) -> None:
        self.connection = connection

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.connection.is_own_origin(request.url or ""):
            request.headers["Authorization"] = self.connection.authorization(now=time.time())
        return request


class _WatchedBody(io.BytesIO):
    """
    A request body that records whether the HTTP stack has started to send it.

    The stack reads it only once the connection, TLS and proxy included, is established and the headers are sent.
    If it is unread, the server provably never received the request; nothing else shows this in every failure.

    :param content: The body.
    :param before: Called before the first byte is read. If it raises, the body is not sent.
    """

    def __init__(self, content: bytes, *, before: Callable[[], None]) -> None:
        super().__init__(content)
        self._before = before
        self.was_read = False

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.was_read:
            self._before()
            self.was_read = True
        return super().read(size)


def _content(response: requests.Response, *, max_bytes: int, masked: Callable[[str], str] | None) -> bytes:
    body = ResponseBody(
        f"{response.request.method} {response.url}", response.status_code, max_bytes=max_bytes, masked=masked
    )
    while chunk := response.raw.read1(65536, decode_content=False):
        body.add(chunk)
    return body.content(response.headers.get("Content-Encoding", ""))
