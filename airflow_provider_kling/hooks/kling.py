# SPDX-License-Identifier: Apache-2.0
"""Authentication and HTTP for the Kling video API."""

from __future__ import annotations

import io
import json
import time
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.http.hooks.http import HttpHook
from requests.auth import AuthBase

from airflow_provider_kling.api.gateway.responses import (
    PROBE_TASK_ID,
    read_presence,
    read_probe,
    read_status,
    read_submit,
    status_path,
)
from airflow_provider_kling.api.request import SUBMIT_PATH, VideoRequest
from airflow_provider_kling.api.response import Answer
from airflow_provider_kling.client.connection import HEADERS, KlingConnection
from airflow_provider_kling.client.response_body import PACKING, Body
from airflow_provider_kling.client.transport import TRANSPORT_ERRORS, BoundedAdapter, Session
from airflow_provider_kling.exceptions import (
    KlingConnectionError,
    KlingError,
    KlingServerError,
    KlingUnavailableError,
    KlingUncertainSubmissionError,
)
from airflow_provider_kling.jobs.poll_schedule import delay_for
from airflow_provider_kling.jobs.polling import Finished, Poller, steady_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from requests import PreparedRequest, Response

    from airflow_provider_kling.api.job import VideoJob


#: Seconds beyond the connect timeout that may pass between the record of a submit and its sending.
INTENT_MARGIN = 5.0


class KlingHook(HttpHook):
    """
    Talk to the Kling video API through an Airflow connection of type ``kling``.

    It is an ``HttpHook`` with bearer authentication, an end to every exchange, and an allow-list of connection
    extras in place of ``HttpHook``'s habit of sending unknown extras as headers. Nothing here repeats a request:
    what may be sent again is decided by the callers, who know whether money is at stake.

    :param kling_conn_id: The Airflow connection: host is the base URL, password the API key.
    """

    conn_name_attr = "kling_conn_id"
    default_conn_name = "kling_default"
    conn_type = "kling"
    hook_name = "Kling"

    def __init__(self, kling_conn_id: str = default_conn_name) -> None:
        # GET, so that what HttpHook offers for repeating requests (run_with_advanced_retry) cannot buy anything.
        super().__init__(method="GET", http_conn_id=kling_conn_id)
        self.kling_conn_id = kling_conn_id

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the connection form's labels, for Airflow versions that ask the hook (before 3.2)."""
        from airflow_provider_kling.get_provider_info import UI_FIELD_BEHAVIOUR

        # These versions spell the keys with underscores.
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's own fields, for Airflow versions that ask the hook (before 3.2)."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import StringField

        from airflow_provider_kling.get_provider_info import CONN_FIELDS

        return {
            name: StringField(
                lazy_gettext(field["label"]), widget=BS3TextFieldWidget(), description=field["description"]
            )
            for name, field in CONN_FIELDS.items()
        }

    @cached_property
    def connection(self) -> KlingConnection:
        """
        The resolved connection, looked up once.

        :raises KlingValidationError: naming what is missing or wrong in it.
        """
        found = self.get_connection(self.kling_conn_id)
        connection = KlingConnection.parse(
            conn_id=self.kling_conn_id,
            host=found.host,
            password=found.password,
            schema=found.schema,
            port=found.port,
            extra=found.extra_dejson,
        )
        if connection.unknown_extras:
            names = ", ".join(connection.unknown_extras)
            self.log.warning("Connection %r has extras that nobody reads: %s", self.kling_conn_id, names)
        return connection

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> Session:
        """Return a session that is logged in to Kling, with this provider's transport."""
        session = self._prepared(BoundedAdapter())
        session.auth = _BearerAuth(self.connection)
        session.headers.update(headers or {})
        return session

    def get_public_conn(self) -> Session:
        """Return a session for strangers' servers: it knows no key, and no address inside this network."""
        session = self._prepared(BoundedAdapter(public_only=True))
        # A .netrc is for servers that the user chose.
        session.auth = lambda request: request
        return session

    def _prepared(self, adapter: BoundedAdapter) -> Session:
        connection = self.connection
        self.base_url, self._base_url_initialized = connection.base_url, True
        session = Session()
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.headers.update({**HEADERS, "Accept-Encoding": PACKING})
        session.trust_env = connection.trust_env
        if connection.proxy:
            session.proxies = {"http": connection.proxy, "https": connection.proxy}
        return session

    @cached_property
    def session(self) -> Session:
        """The session that this hook's GETs share."""
        return self.get_conn()

    @cached_property
    def public_session(self) -> Session:
        """The session for video URLs that lie elsewhere."""
        return self.get_public_conn()

    @contextmanager
    def submitting(self) -> Iterator[Submitting]:
        """Open a session to send one submit on; what it sends first is answered on the connection that stands."""
        with self.get_conn() as session:
            yield Submitting(self, session)

    def submit_video(self, request: VideoRequest | Mapping[str, Any]) -> VideoJob:
        """
        Submit a job, once. Each accepted submit is billed, so nothing here ever sends it a second time.

        :param request: The request, or the vendor's own JSON form of one.
        :return: The job, with the id to ask for it by.
        :raises KlingValidationError: if the request is wrong; nothing was sent then.
        :raises KlingConnectionError: if the request surely never reached the server.
        :raises KlingUncertainSubmissionError: if the server may have accepted it, but no id arrived.
        :raises KlingError: any other named refusal; no job was made.
        """
        if not isinstance(request, VideoRequest):
            request = VideoRequest.from_payload(request)
        with self.submitting() as session:
            return session.submit(request)

    def get_video(self, task_id: str) -> VideoJob:
        """
        Ask for the state of a job, once.

        :param task_id: The id that the submit gave.
        :raises KlingError: what went wrong, by name; the retryable ones are worth another call.
        """
        return read_status(self._send(self.session, "GET", status_path(task_id)), task_id)

    def wait_for_video(
        self, task_id: str, *, started_at: float, deadline: float, poll_interval: float | None = None
    ) -> dict[str, Any]:
        """
        Wait for a job in this process.

        :param task_id: The id that the submit gave.
        :param started_at: When the job was submitted or, if unknown, the wait began (epoch seconds).
        :param deadline: When to give up (epoch seconds).
        :param poll_interval: Fixed seconds between two checks; None leaves the pace to the provider.
        :return: The finished video.
        :raises KlingError: what ended the wait instead.
        """
        poller = Poller(task_id, started_at=started_at, deadline=deadline, delay=delay_for(poll_interval))
        now = steady_clock()
        time.sleep(poller.first_pause(now=now()))
        while True:
            try:
                decision = poller.on_job(self.get_video(task_id), now=now())
            except KlingError as error:
                decision = poller.on_error(error, now=now())
            if line := poller.news(now=now()):
                self.log.info(line)
            if isinstance(decision, Finished):
                return decision.video()
            time.sleep(decision.seconds)

    async def aget_video(self, task_id: str) -> VideoJob:
        """
        Ask for the state of a job without blocking the event loop; otherwise as :meth:`get_video`.

        All callers in one loop that name the same connection share one HTTP client.
        """
        from airflow_provider_kling.client.async_client import shared_client

        async with shared_client(self.kling_conn_id) as client:
            return await client.get_video(task_id)

    def test_connection(self) -> tuple[bool, str]:
        """Tell whether the connection works, at no cost: ask for a task that cannot exist."""
        try:
            return read_probe(self._send(self.session, "GET", status_path(PROBE_TASK_ID)))
        except KlingError as error:
            return False, str(error)

    def _send(
        self,
        session: Session,
        method: str,
        path: str,
        body: io.BytesIO | None = None,
        connected: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Send one request and return its answer, whatever its HTTP status; redirects are answers too."""
        connection = self.connection
        url = connection.url(path)
        adapter = cast("BoundedAdapter", session.get_adapter(url))
        try:
            with (
                adapter.within(connection.connect_timeout + connection.read_timeout, connected),
                session.request(
                    method,
                    url,
                    data=body,
                    headers={"Content-Type": "application/json"} if body else None,
                    timeout=(connection.connect_timeout, connection.read_timeout),
                    # Said per request: a session's own word yields to REQUESTS_CA_BUNDLE.
                    verify=connection.verify,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                content = _content(response)
        except TRANSPORT_ERRORS as error:
            reason = connection.masked(f"{type(error).__name__}: {error}")
            # Not from the error, whose own words may hold the key: some servers repeat it in the status line.
            raise KlingConnectionError(f"{method} {url} failed: {reason}") from None
        return Answer.received(response.status_code, content, response.headers, masked=connection.masked)


class Submitting:
    """
    A session on which one submit is sent.

    :param hook: The hook, for its connection.
    :param session: The session; its connection to the server is kept alive from the probe to the submit.
    """

    def __init__(self, hook: KlingHook, session: Session) -> None:
        self._hook = hook
        self._session = session

    def probe(self) -> None:
        """
        Ask whether the API is there, with the status of a task that cannot exist; this costs nothing.

        Only what says for sure that it is not there raises. A response that is merely odd is logged.

        :raises KlingUnavailableError: if the API is not there.
        :raises KlingAuthenticationError: if it refuses the key.
        """
        if not self._hook.connection.probe:
            return
        try:
            answer = self._hook._send(self._session, "GET", status_path(PROBE_TASK_ID))
        except KlingConnectionError as error:
            raise KlingUnavailableError(error.what) from error
        except KlingServerError as error:
            self._hook.log.warning("Before the submit: %s", error)
            return
        if oddity := read_presence(answer):
            self._hook.log.warning("Before the submit: %s", oddity)

    def submit(self, request: VideoRequest, *, age: Callable[[], float] = lambda: 0.0) -> VideoJob:
        """
        Send the submit, once.

        :param request: The request.
        :param age: Returns the seconds since its intent was recorded. A process that was stopped for longer than a
            connection takes may have been replaced by another attempt, so it does not send.
        :raises KlingError: see :meth:`KlingHook.submit_video`.
        """
        connection = self._hook.connection

        def check_age() -> None:
            if (seconds := age()) > connection.connect_timeout + INTENT_MARGIN:
                raise KlingConnectionError(
                    f"{seconds:.0f} s passed between the record of the submit and its sending, so it was not sent",
                    advice="This process was stopped, or the record or the connection took that long.",
                )

        body = _WatchedBody(json.dumps(request.payload()).encode(), before=check_age)
        try:
            check_age()
            answer = self._hook._send(self._session, "POST", SUBMIT_PATH, body=body, connected=check_age)
        except Exception as error:
            # Whatever it was, a fault of ours included: what counts is whether the server may have the request.
            if not body.was_read and isinstance(error, KlingError):
                raise
            told = f"{type(error).__name__}: {error}"
            reason = error.what if isinstance(error, KlingError) else connection.masked(told)
            if not body.was_read:
                raise KlingConnectionError(f"The submit could not be sent ({reason})") from error
            raise KlingUncertainSubmissionError(
                f"The submit was sent, but its answer was lost ({reason})",
                http_status=getattr(error, "http_status", None),
            ) from error
        return read_submit(answer, connection.refusal_codes)


class _BearerAuth(AuthBase):
    """Bearer authentication; as a session's ``auth`` it also keeps a ``.netrc`` from replacing the key."""

    def __init__(self, connection: KlingConnection) -> None:
        self.connection = connection

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if self.connection.owns(request.url or ""):
            request.headers["Authorization"] = self.connection.authorization
        return request


class _WatchedBody(io.BytesIO):
    """
    A request body that knows whether anybody began to send it.

    The HTTP stack reads it only once the connection, TLS and proxy included, stands and the headers are out.
    Unread, the server surely never had the request; nothing else tells this apart in every failure.

    :param content: The body.
    :param before: Called before the first byte is handed out. What it raises keeps the body from being sent.
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


def _content(response: Response) -> bytes:
    body = Body(f"{response.request.method} {response.url}", response.status_code)
    while chunk := response.raw.read1(65536, decode_content=False):
        body.add(chunk)
    return body.content(response.headers.get("Content-Encoding", ""))
