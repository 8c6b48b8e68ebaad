# SPDX-License-Identifier: Apache-2.0
"""Authentication and HTTP for the Kling video API."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import mask_secret
from airflow.providers.http.hooks.http import HttpHook

from airflow_provider_kling.api.images import stored_images
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.client.lookup import connection_from, lookup_error, unconfirmed_refusal
from airflow_provider_kling.client.sync_client import SyncClient
from airflow_provider_kling.connection_form import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_provider_kling.exceptions import (
    KlingAuthenticationError,
    KlingError,
    KlingPermanentError,
    KlingUncertainSubmissionError,
    KlingValidationError,
    Problem,
)
from airflow_provider_kling.jobs.client_token import new_client_token
from airflow_provider_kling.jobs.look_up import MIN_PAUSE, LookUp
from airflow_provider_kling.jobs.poll_schedule import delay_for
from airflow_provider_kling.jobs.polling import Finished, Poller, steady_clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from airflow_provider_kling.api.base import AccountPack
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.client.connection import KlingConnection
    from airflow_provider_kling.client.redaction import Masks
    from airflow_provider_kling.client.sync_client import Submitting
    from airflow_provider_kling.client.transport import Session
    from airflow_provider_kling.jobs.result import KlingVideo


class KlingHook(HttpHook):
    """
    Call the Kling video API through an Airflow connection of type ``kling``.

    It is an ``HttpHook`` with bearer authentication, a deadline for every exchange, and an allow-list of
    connection extras (``HttpHook`` sends unknown extras as headers). A request is repeated only with a new key, or
    with a new token of an access key, where the server rejected the old one: the callers decide what else may be
    sent again, since only they know whether it is billed.

    :param kling_conn_id: The Airflow connection, of type ``kling``; see ``docs/connection.md``.
    """

    conn_name_attr = "kling_conn_id"
    default_conn_name = "kling_default"
    conn_type = "kling"
    hook_name = "Kling"

    def __init__(self, kling_conn_id: str = default_conn_name) -> None:
        # GET, so that HttpHook's own retries (run_with_advanced_retry) cannot buy anything.
        super().__init__(method="GET", http_conn_id=kling_conn_id)
        self.kling_conn_id = kling_conn_id
        #: What to mask in jobs and errors besides the secrets of the connection; set before the first request.
        self.masks: Masks | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the connection form's labels, for Airflow versions that call this method (before 3.2)."""
        # In these versions the keys have underscores.
        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the connection form's own fields, for Airflow versions that call this method (before 3.2)."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
        from flask_babel import lazy_gettext
        from wtforms import IntegerField, StringField
        from wtforms.validators import NumberRange, Optional, any_of

        # In Airflow 2 every field may be empty: it checks the fields of all connection types, whichever is chosen.
        def widget(field: dict[str, Any]) -> Any:
            schema, field_class, check = field["schema"], StringField, []
            if "minimum" in schema:
                field_class, check = IntegerField, [NumberRange(min=schema["minimum"])]
            elif "enum" in schema:
                check = [any_of(schema["enum"])]
            elif "boolean" in schema["type"]:
                check = [any_of(["true", "false"])]  # Airflow 2 forgets a box that is not ticked
            return field_class(
                lazy_gettext(field["label"]),
                validators=[Optional(), *check],
                widget=BS3TextFieldWidget(),
                description=field["description"],
            )

        return {name: widget(field) for name, field in CONN_FIELDS.items()}

    @cached_property
    def connection(self) -> KlingConnection:
        """
        The resolved connection, looked up once.

        :raises KlingValidationError: naming what is missing or wrong in it.
        :raises KlingError: if Airflow cannot return it.
        """
        return self._resolve_connection()

    @cached_property
    def client(self) -> SyncClient:
        """The HTTP client of the connection."""
        return SyncClient(self.connection, self.masks)

    @property
    def status_route(self) -> str | None:
        """The status route that the server has, if a request of this hook has shown it."""
        return self.client.status_route if "client" in vars(self) else None

    def take_requests(self) -> int:
        """Return how many requests this hook has sent to the API since the last call."""
        if "client" not in vars(self):
            return 0
        count, self.client.requests = self.client.requests, 0
        return count

    @cached_property
    def look_up(self) -> LookUp | None:
        """How a submit whose response was lost is looked up; None if the API has no client tokens."""
        connection = self.connection
        if not connection.api.takes_client_token:
            return None
        return LookUp(
            find=self.find_video,
            account=lambda: self.connection.account,
            server=connection.base_url,
            is_honoured=connection.api.honours_client_token,
            pause=max(MIN_PAUSE, connection.read_timeout),
        )

    def get_conn(
        self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None
    ) -> Session:
        """
        Return a ``requests`` session that reads from Kling, within the limits of the connection.

        A submit is refused, since it would be neither recorded nor sent just once.

        :param headers: Headers of every request.
        :param extra_options: Not used.
        """
        session = self.client.new_session()
        session.reads_only = True
        session.headers.update(headers or {})
        return session

    def run(self, *args: Any, **kwargs: Any) -> NoReturn:
        """
        Raise: these requests of ``HttpHook`` would have no deadline and no named errors, and could buy a video.

        :raises KlingError: with the methods to call instead.
        """
        raise KlingPermanentError(
            "KlingHook sends no other requests",
            advice="Call submit_video, get_video or wait_for_video.",
        )

    run_and_check = run
    run_with_advanced_retry = run

    def submitting(self) -> AbstractContextManager[Submitting]:
        """Open a session to send one submit on; the probe and the submit share its connection."""
        return self.client.submitting()

    def submit_video(
        self, request: VideoRequest | Mapping[str, Any], *, client_token: str | None = None
    ) -> VideoJob:
        """
        Submit a job, once.

        Each accepted submit is billed, so it is sent a second time only if the server rejected the token of an
        access key, before anything was made.

        :param request: The request, or its fields; fields inside ``extra_body`` are accepted too. Its images are
            public URLs: only ``KlingGenerateOperator`` reads and signs those in an object storage.
        :param client_token: A text of ``[A-Za-z0-9_-]`` that is unique in the account, for :meth:`find_video`.
            A random one by default; an API that takes none gets none.
        :return: The job, with the id for its status requests.
        :raises KlingValidationError: if the request is wrong; nothing was sent then.
        :raises KlingConnectionError: if the request provably never reached the server.
        :raises KlingUncertainSubmissionError: if the server may have accepted it, but no id arrived.
        :raises KlingError: any other named error; no job was made.
        """
        fields = request._asdict() if isinstance(request, VideoRequest) else request
        request = VideoRequest.build(**fields)
        if stored := stored_images(request):
            expected = "is not signed here; pass a signed URL, as ObjectStoragePath(...).sign(expiration=86400) is"
            raise KlingValidationError.from_problems(
                [Problem(place, uri, expected) for place, uri in stored.items()]
            )
        self.connection.check(request)
        if not self.connection.api.takes_client_token:
            client_token = None
        elif client_token is None:
            client_token = new_client_token()
        try:
            with self.submitting() as session:
                return session.submit(request, client_token=client_token)
        except KlingUncertainSubmissionError as error:
            if client_token is None:
                raise
            advice = f"{error.advice} find_video({client_token!r}) looks it up."
            raise error.replace(advice=advice) from error.__cause__

    def find_video(self, client_token: str) -> VideoJob | None:
        """
        Look up the job of a submit by its client token, once; this is free.

        :param client_token: The text that was sent with the submit; Kling's own platform calls it
            ``external_task_id``.
        :return: The job; None if the server says that there is none.
        :raises KlingError: The named error; it proves neither.
        """
        return self.client.find_video(client_token)

    def account(self) -> list[AccountPack] | None:
        """
        Return the packs of the account, with what is left in them; None if the API does not tell.

        :raises KlingError: The named error.
        """
        return self.client.account()

    def get_video(self, kling_task_id: str, *, route: str | None = None) -> VideoJob:
        """
        Request the state of a job, once; a key that was replaced in Airflow meanwhile is used.

        :param kling_task_id: The id from the submit response.
        :param route: The job's status route (``VideoJob.route``), if it is known.
        :raises KlingError: The named error; after a retryable one another call makes sense.
        """
        try:
            return self.client.get_video(kling_task_id, route=route)
        except KlingAuthenticationError as error:
            try:
                is_another = self._renew()
            except KlingError:
                raise unconfirmed_refusal(self.kling_conn_id, error) from None
            if not is_another:
                raise
            return self.client.get_video(kling_task_id, route=route)

    def wait_for_video(
        self,
        kling_task_id: str,
        *,
        started_at: float,
        deadline: float,
        poll_interval: float | None = None,
        other_id: str | None = None,
        route: str | None = None,
    ) -> KlingVideo:
        """
        Wait for a job in this process.

        :param kling_task_id: The id from the submit response.
        :param started_at: When the job was submitted or, if unknown, the wait started (epoch seconds).
        :param deadline: When the wait times out (epoch seconds).
        :param poll_interval: Fixed seconds between two checks; None leaves the schedule to the provider.
        :param other_id: Another id from the submit response (``VideoJob.other_id``), for a server that does not
            know the first.
        :param route: Its status route (``VideoJob.route``), if it is known.
        :return: The finished video.
        :raises KlingError: The named error that ended the wait instead.
        """
        grace = self.connection.api.grace
        poller = Poller(
            kling_task_id,
            started_at=started_at,
            deadline=deadline,
            delay=delay_for(poll_interval),
            other_id=other_id,
        )
        now = steady_clock()
        time.sleep(poller.first_pause(now=now()))
        while True:
            try:
                job = self.get_video(poller.kling_task_id, route=route)
                route = job.route or route
                decision = poller.on_job(job, grace=grace, now=now())
            except KlingError as error:
                decision = poller.on_error(error, grace=grace, now=now())
            if line := poller.progress_message(now=now()):
                self.log.info(line)
            if isinstance(decision, Finished):
                return decision.result()
            time.sleep(decision.seconds)

    async def aget_video(self, kling_task_id: str, *, route: str | None = None) -> VideoJob:
        """
        Request the state of a job without blocking the event loop; otherwise as :meth:`get_video`.

        All callers in one loop that use the same connection share one HTTP client.
        """
        from airflow_provider_kling.client.async_client import shared_client

        async with shared_client(self.kling_conn_id) as client:
            return await client.get_video(kling_task_id, route=route)

    def test_connection(self) -> tuple[bool, str]:
        """Return whether the connection works, and why, at no cost."""
        try:
            return self.client.describe()
        except KlingError as error:
            # The button in the UI tests a copy of the connection, whose random id says nothing.
            return False, str(error).replace(f" {self.kling_conn_id!r}", "")

    def _resolve_connection(self) -> KlingConnection:
        try:
            found = self.get_connection(self.kling_conn_id)
            extra = found.extra_dejson
        except Exception as error:  # noqa: BLE001 - a secrets backend may raise anything
            failure = lookup_error(self.kling_conn_id, error)
            raise failure from failure.__cause__
        connection = connection_from(self.kling_conn_id, found, extra)
        if connection.credentials.secret != found.password:
            # Airflow masks the password as it is stored, which differs from the key that is sent.
            mask_secret(connection.credentials.secret)
        return connection

    def _renew(self) -> bool:
        """
        Look the connection up again, and use it from now on if its key is another one; return whether it is.

        :raises KlingError: if Airflow cannot return it.
        """
        renewed = self._resolve_connection()
        if renewed.credentials == self.connection.credentials:
            return False
        self.client.close()
        self.connection, self.client = renewed, SyncClient(renewed, self.masks)
        return True
