# SPDX-License-Identifier: Apache-2.0
"""Kling's own platform, and resellers that serve its API under another host."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from airflow_provider_kling.api.base import Authorization, Credentials, Grace, HttpCall
from airflow_provider_kling.api.official import account, token
from airflow_provider_kling.api.official.checks import problems_of
from airflow_provider_kling.api.official.envelope import data_of, error_code
from airflow_provider_kling.api.official.errors import TIME_CODES, explained
from airflow_provider_kling.api.official.find import read_find, says_no_task
from airflow_provider_kling.api.official.payload import legacy_path, model_of, submit_call
from airflow_provider_kling.api.official.routes import (
    INTERNATIONAL,
    LEGACY_ROUTES,
    MAX_IDS,
    TASKS,
    find_path,
    has_tasks,
    is_vendors_host,
    probe_path,
    status_path,
)
from airflow_provider_kling.api.official.status import read_status
from airflow_provider_kling.api.official.submit import read_submit
from airflow_provider_kling.api.reading import probe as any_probe
from airflow_provider_kling.exceptions import KlingAuthenticationError, KlingUnavailableError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from contextlib import AbstractContextManager

    from airflow_provider_kling.api.base import AccountPack
    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.request import VideoRequest
    from airflow_provider_kling.api.response import Response
    from airflow_provider_kling.exceptions import KlingError, Problem


@dataclass(frozen=True)
class OfficialApi:
    """
    See :class:`airflow_provider_kling.api.base.KlingApi`.

    :param credentials: An API key; or an access key as the login, with its secret key. Kept out of ``repr``.
    :param base_url: The base URL of the server.
    """

    credentials: Credentials = field(repr=False)
    base_url: str = INTERNATIONAL

    default_base_url: ClassVar[str | None] = INTERNATIONAL
    takes_login: ClassVar[bool] = True
    takes_client_token: ClassVar[bool] = True
    takes_base64_images: ClassVar[bool] = True
    #: Resellers and the platform's old host lack it.
    optional_routes: ClassVar[Sequence[str]] = (TASKS,)
    #: No lag is known of the platform; these periods are for servers in between.
    grace: ClassVar[Grace] = Grace(visibility=60.0, url=60.0, unknown_word=60.0)

    @property
    def honours_client_token(self) -> bool:
        return is_vendors_host(self.base_url)

    @property
    def status_routes(self) -> Sequence[str]:
        return (TASKS, *LEGACY_ROUTES) if self._has_api_key else LEGACY_ROUTES

    @property
    def probe_routes(self) -> Sequence[str]:
        return self.status_routes[:2] if self._has_api_key else self.status_routes[:1]

    @property
    def _has_api_key(self) -> bool:
        # The new standard takes no token of an access key. The keys of resellers are sent as an API key is.
        return self.credentials.login is None

    @staticmethod
    def base_path(path: str) -> str:
        # What follows the host in the documentation: the version, or the whole path of a create request.
        return re.sub(
            r"(^|/)(?:v1(?:/videos(?:/(?:text|image)2video)?)?|(?:text|image)-to-video|tasks)$", "", path
        )

    def credential_problems(self) -> list[Problem]:
        return token.problems_of(self.credentials, is_vendors_host=is_vendors_host(self.base_url))

    def secrets(self) -> Sequence[str]:
        return token.secrets_of(self.credentials)

    def check(self, request: VideoRequest) -> list[Problem]:
        return problems_of(request, has_api_key=self._has_api_key)

    def authorization(self, *, now: float) -> Authorization:
        return token.authorization(self.credentials, now=now)

    def wants_new_authorization(self, response: Response) -> bool:
        return not self._has_api_key and response.http_status == 401 and error_code(response) in TIME_CODES

    def submit(self, request: VideoRequest, *, client_token: str | None = None) -> HttpCall:
        return submit_call(request, client_token)

    def read_submit(
        self,
        response: Response,
        request: VideoRequest,
        *,
        route: str | None = None,
        refusal_codes: Collection[str] = (),
    ) -> VideoJob:
        with self._explained(response):
            job = read_submit(response, refusal_codes)
        return replace(job, route=self._route_of(request, route))

    def _route_of(self, request: VideoRequest, probed: str | None) -> str:
        """Return the status route of a new job; a legacy route has only the jobs that were created on it."""
        is_legacy = model_of(request).standard == "legacy"
        knows_all = probed == TASKS or (probed is None and has_tasks(self.base_url)) or not is_legacy
        return TASKS if self._has_api_key and knows_all else legacy_path(request)

    def max_ids_per_status(self, route: str | None) -> int:
        return MAX_IDS if self._known(route) == TASKS else 1

    def status(self, kling_task_ids: Sequence[str], *, route: str | None = None) -> HttpCall:
        return HttpCall("GET", status_path(kling_task_ids, self._known(route)))

    def _known(self, route: str | None) -> str:
        return route if route is not None and route in self.status_routes else self.status_routes[0]

    def serves_route(self, response: Response) -> bool | None:
        return True if isinstance(data_of(response), list) else any_probe.serves_route(response)

    def may_be_on_another_route(self, response: Response) -> bool:
        # Whether the list has every job of the legacy standard was never measured.
        return says_no_task(response) or data_of(response) == []

    def read_status(
        self, response: Response, kling_task_ids: Sequence[str]
    ) -> Mapping[str, VideoJob | KlingError]:
        with self._explained(response):
            return read_status(response, kling_task_ids)

    def find(self, client_token: str, *, route: str | None = None) -> HttpCall:
        return HttpCall("GET", find_path(client_token, self._known(route)))

    def read_find(self, response: Response, client_token: str) -> VideoJob | None:
        with self._explained(response):
            return read_find(response, client_token)

    def content(self, kling_task_id: str, *, route: str | None = None) -> HttpCall | None:
        return None

    def probe(self, *, route: str | None = None) -> HttpCall:
        return HttpCall("GET", probe_path(self._known(route)))

    def read_probe(self, response: Response) -> str | None:
        if isinstance(data_of(response), list):
            return None
        with self._explained(response):
            return any_probe.read_probe(response)

    def describe_probe(self, response: Response) -> tuple[bool, str]:
        try:
            self.read_probe(response)
        except KlingAuthenticationError as error:
            return False, f"The API rejects the key. {error}"
        except KlingUnavailableError:
            pass  # described below
        if isinstance(data_of(response), list):
            return True, any_probe.CONNECTED
        return any_probe.describe_probe(response)

    def account(self, *, now: float) -> HttpCall | None:
        return account.account_call(now=now)

    def read_account(self, response: Response, *, now: float) -> list[AccountPack]:
        with self._explained(response):
            return account.read_account(response, now=now)

    def _explained(self, response: Response) -> AbstractContextManager[None]:
        return explained(response, self.credentials, self.base_url)
