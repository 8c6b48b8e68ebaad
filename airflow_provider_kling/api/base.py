# SPDX-License-Identifier: Apache-2.0
"""
The interface between this package and an API that makes videos.

An API object builds requests and reads responses. Like h11 and wsproto it does no I/O itself: the clients do.
Everything specific to one API, from its paths to its error codes, is behind this interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.request import VideoRequest
    from airflow_provider_kling.api.response import Response
    from airflow_provider_kling.exceptions import KlingError, Problem


class HttpCall(NamedTuple):
    """
    One HTTP request, without host and key.

    :param method: ``GET`` or ``POST``.
    :param path: Path and query, relative to the base URL.
    :param body: The JSON object to send, None for no body.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None


class Credentials(NamedTuple):
    """
    The credentials of an account.

    :param secret: The key; the password of the Airflow connection.
    :param login: The account name, for an API that has one; the login of the Airflow connection.
    """

    secret: str
    login: str | None = None


class Grace(NamedTuple):
    """
    Seconds for which an API's status responses may lag behind the real state of a job.

    :param visibility: After a submit: "no such task" means "not stored yet".
    :param url: After the first "completed": the URL of the video may still be missing.
    :param unknown_word: After the first response with a URL and progress 100: an unknown status word may still
        mean "running".
    """

    visibility: float
    url: float
    unknown_word: float = 60.0


class KlingApi(Protocol):
    """One API. The connection selects it; nothing else depends on which one it is."""

    #: Maximum number of jobs in one status request.
    max_ids_per_status: ClassVar[int]
    #: The routes on which servers of this API may have the status of jobs, the usual one first; see
    #: :class:`airflow_provider_kling.api.routes.RouteSearch`.
    status_routes: ClassVar[Sequence[str]]
    grace: ClassVar[Grace]

    def base_path(self, path: str) -> str:
        """Return the path of a base URL in the form to which this API's own paths are appended."""
        ...

    def secrets(self, credentials: Credentials) -> Sequence[str]:
        """Return the texts to mask: the key, in each form in which this API echoes it."""
        ...

    def check(self, request: VideoRequest, credentials: Credentials) -> list[Problem]:
        """Return the problems of a request by this API's own limits, when the task runs."""
        ...

    def authorization(self, credentials: Credentials, *, now: float) -> str:
        """Return the ``Authorization`` header of one request; a token may be valid for only minutes."""
        ...

    def submit(self, request: VideoRequest, *, client_token: str | None = None) -> HttpCall:
        """Return the call that buys a video."""
        ...

    def read_submit(self, response: Response, *, refusal_codes: Collection[str] = ()) -> VideoJob:
        """
        Return the job that a submit started.

        :param refusal_codes: Error codes with which this vendor refuses a submit before anything is bought,
            besides the known ones.
        :raises KlingUncertainSubmissionError: if a job may exist.
        :raises KlingError: any other named error: the submit was refused, and no job exists.
        """
        ...

    def status(self, kling_task_ids: Sequence[str], *, route: str | None = None) -> HttpCall:
        """
        Return the status request for jobs, at most :attr:`max_ids_per_status`.

        :param route: One of :attr:`status_routes`; the usual one if None.
        """
        ...

    def serves_route(self, response: Response) -> bool | None:
        """
        Return whether the server has the status route that this response came from.

        Unless it is True, the request is sent on the next route. None means unknown. An error that has nothing to
        do with routes is True.
        """
        ...

    def read_status(
        self, response: Response, kling_task_ids: Sequence[str]
    ) -> Mapping[str, VideoJob | KlingError]:
        """
        Return the state of each job, or the error that concerns only this job.

        :raises KlingError: if the response is an error for all of them.
        """
        ...

    def find(self, client_token: str, request: VideoRequest) -> HttpCall | None:
        """Return the request that looks up a submit whose response was lost; None if this API has none."""
        ...

    def content(self, kling_task_id: str, *, route: str | None = None) -> HttpCall | None:
        """Return the request for the file of a job without a URL; None if this API has none."""
        ...

    def probe(self, *, route: str | None = None) -> HttpCall:
        """
        Return a free request that shows whether the API is available and accepts the key.

        :param route: As in :meth:`status`.
        """
        ...

    def read_probe(self, response: Response) -> str | None:
        """
        Return None if the API is available, or what is odd about its response, as a sentence to log.

        :raises KlingAuthenticationError: if the key is rejected.
        :raises KlingUnavailableError: if the API is provably unavailable.
        """
        ...

    def describe_probe(self, response: Response) -> tuple[bool, str]:
        """Return whether a connection works, and why, for *Test connection*."""
        ...

    def account(self) -> HttpCall | None:
        """Return the request for the balance of the account; None if this API has none."""
        ...
