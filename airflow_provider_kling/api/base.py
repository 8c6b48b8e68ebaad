# SPDX-License-Identifier: Apache-2.0
"""
The interface between this package and an API that makes videos.

An API object builds requests and reads responses. Like h11 and wsproto it does no I/O itself: the clients do.
Everything specific to one API, from its paths to its error codes, is behind this interface.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

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

    def __repr__(self) -> str:
        return "Credentials(***)"


class Authorization(NamedTuple):
    """
    An ``Authorization`` header.

    :param header: Its value.
    :param expires_at: When it expires (epoch seconds); never by default.
    """

    header: str
    expires_at: float = math.inf

    def __repr__(self) -> str:
        return f"Authorization(***, expires_at={self.expires_at})"


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


class AccountPack(NamedTuple):
    """
    One pack of an account.

    :param name: Its name.
    :param total: The units that it had, if reported.
    :param remaining: The units that are left, if reported; up to 12 hours late.
    :param max_concurrent_jobs: The jobs at once that its name promises, if it does.
    :param expires_at: ISO 8601 in UTC, if reported.
    """

    name: str
    total: float | None = None
    remaining: float | None = None
    max_concurrent_jobs: int | None = None
    expires_at: str | None = None

    def __str__(self) -> str:
        # 15 digits, which are all that a float has, without an exponent for any number of units that is sold.
        left = f"{self.remaining:.15g}" if self.remaining is not None else "an unknown number"
        total = f" of {self.total:.15g}" if self.total is not None else ""
        limit = f", {self.max_concurrent_jobs} jobs at once" if self.max_concurrent_jobs else ""
        return f"{self.name}: {left}{total} units left{limit}."


def max_concurrent_jobs(packs: Iterable[AccountPack]) -> int | None:
    """
    Return how many unfinished jobs an account with these packs may have at once; None if no pack says so.

    Whether the limits of several packs add up is not documented, so the largest one counts.
    """
    return max((pack.max_concurrent_jobs for pack in packs if pack.max_concurrent_jobs), default=None)


class KlingApi(Protocol):
    """
    One API, for one account. The connection selects it; nothing else depends on which one it is.

    An implementation is made from the :class:`Credentials` of the account and the base URL of the server.
    """

    #: The base URL of a connection that has none; None if each connection needs its own.
    default_base_url: ClassVar[str | None]
    #: Whether the login of a connection may be a key too.
    takes_login: ClassVar[bool]
    grace: ClassVar[Grace]
    #: Whether a submit takes a client token, by which :meth:`find` finds it when its response was lost.
    takes_client_token: ClassVar[bool]
    #: Whether a submit takes an image itself, as Base64 without a prefix, in place of the URL of a frame.
    takes_base64_images: ClassVar[bool]

    @property
    def honours_client_token(self) -> bool:
        """Whether the server is known to refuse a second submit with the same client token."""
        ...

    @property
    def status_routes(self) -> Sequence[str]:
        """
        The routes on which this account may find the status of a job, the usual one first.

        See :class:`airflow_provider_kling.api.routes.RouteSearch`. They are stored in the arguments of triggers.
        """
        ...

    @property
    def optional_routes(self) -> Sequence[str]:
        """Those of :attr:`status_routes` that some servers of this API lack."""
        ...

    @property
    def probe_routes(self) -> Sequence[str]:
        """Those of :attr:`status_routes` on which :meth:`probe` may ask."""
        ...

    @staticmethod
    def base_path(path: str) -> str:
        """Return the path of a base URL in the form to which this API's own paths are appended."""
        ...

    def credential_problems(self) -> list[Problem]:
        """Return what is wrong with the credentials, by field of the connection."""
        ...

    def secrets(self) -> Sequence[str]:
        """Return the texts to mask: the key, in each form in which this API echoes it."""
        ...

    def check(self, request: VideoRequest) -> list[Problem]:
        """Return the problems of a request by this API's own limits, when the task runs."""
        ...

    def authorization(self, *, now: float) -> Authorization:
        """
        Return a new ``Authorization`` header.

        :param now: The time (epoch seconds).
        """
        ...

    def wants_new_authorization(self, response: Response) -> bool:
        """Return whether a request was refused, before anything was done, for a header that a new one may cure."""
        ...

    def submit(self, request: VideoRequest, *, client_token: str | None = None) -> HttpCall:
        """
        Return the call that buys a video.

        :param client_token: A text that is unique in the account, where :attr:`takes_client_token` is true.
        """
        ...

    def read_submit(
        self,
        response: Response,
        request: VideoRequest,
        *,
        route: str | None = None,
        refusal_codes: Collection[str] = (),
    ) -> VideoJob:
        """
        Return the job that a submit started.

        :param request: What was submitted.
        :param route: The status route on which the server answered the probe, if it was asked.
        :param refusal_codes: Error codes with which this vendor refuses a submit before anything is bought,
            besides the known ones.
        :raises KlingDuplicateSubmissionError: if a job with the same client token exists already.
        :raises KlingUncertainSubmissionError: if a job may exist.
        :raises KlingError: any other named error: the submit was refused, and no job exists.
        """
        ...

    def max_ids_per_status(self, route: str | None) -> int:
        """Return the maximum number of jobs in one status request on a route."""
        ...

    def status(self, kling_task_ids: Sequence[str], *, route: str | None = None) -> HttpCall:
        """
        Return the status request for jobs, at most :meth:`max_ids_per_status`.

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

    def may_be_on_another_route(self, response: Response) -> bool:
        """Return whether the route has no such job, while another route of this API may have it."""
        ...

    def read_status(
        self, response: Response, kling_task_ids: Sequence[str]
    ) -> Mapping[str, VideoJob | KlingError]:
        """
        Return the state of each job, or the error that concerns only this job.

        :raises KlingError: if the response is an error for all of them.
        """
        ...

    def find(self, client_token: str, *, route: str | None = None) -> HttpCall:
        """
        Return the free request that looks up a submit by its client token.

        :param route: As in :meth:`status`.
        :raises KlingPermanentError: if :attr:`takes_client_token` is false.
        """
        ...

    def read_find(self, response: Response, client_token: str) -> VideoJob | None:
        """
        Return the job with a client token; None if the server says that there is none.

        It is called only with a response to :meth:`find`.

        :raises KlingError: if the response proves neither.
        """
        ...

    def content(self, kling_task_id: str, *, route: str | None = None) -> HttpCall | None:
        """Return the request for the file of a job without a URL; None if this API has none."""
        ...

    def probe(self, *, route: str | None = None) -> HttpCall:
        """
        Return a free request that shows whether the API is available and accepts the key.

        :param route: One of :attr:`probe_routes`.
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

    def account(self, *, now: float) -> HttpCall | None:
        """
        Return the request for what is left in the account; None if this API has none.

        :param now: The time (epoch seconds).
        """
        ...

    def read_account(self, response: Response, *, now: float) -> list[AccountPack]:
        """
        Return the packs of the account that can be used.

        It is called only with a response to :meth:`account`.

        :param now: The time (epoch seconds).
        :raises KlingError: if the response is an error.
        """
        ...
