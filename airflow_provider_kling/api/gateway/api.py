# SPDX-License-Identifier: Apache-2.0
"""
The API with which gateways serve Kling v3: ``POST /v1/video/generations`` and ``GET /v1/videos/{id}``.

Some serve the status under the path of the submit: ``GET /v1/video/generations/{id}``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NoReturn

from airflow_provider_kling.api.base import Authorization, Credentials, Grace, HttpCall
from airflow_provider_kling.api.gateway.payload import model_name, nearest_name, payload_of
from airflow_provider_kling.api.gateway.routes import STATUS_ROUTES, status_path
from airflow_provider_kling.api.reading.probe import PROBE_TASK_ID, describe_probe, read_probe, serves_route
from airflow_provider_kling.api.reading.status import read_status
from airflow_provider_kling.api.reading.submit import read_submit
from airflow_provider_kling.exceptions import KlingPermanentError, Problem

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.request import VideoRequest
    from airflow_provider_kling.api.response import Response
    from airflow_provider_kling.exceptions import KlingError

SUBMIT_PATH = "/v1/video/generations"
#: Minimum length at which a key without its ``sk-`` prefix is masked on its own; a shorter one may be a word.
SHORTEST_SECRET = 16


@dataclass(frozen=True)
class GatewayApi:
    """
    See :class:`airflow_provider_kling.api.base.KlingApi`.

    :param credentials: The key. Kept out of ``repr``.
    :param base_url: The base URL of the server.
    """

    credentials: Credentials = field(repr=False)
    base_url: str = ""

    default_base_url: ClassVar[str | None] = None
    takes_login: ClassVar[bool] = False
    takes_client_token: ClassVar[bool] = False
    honours_client_token: ClassVar[bool] = False
    takes_base64_images: ClassVar[bool] = False
    status_routes: ClassVar[Sequence[str]] = STATUS_ROUTES
    optional_routes: ClassVar[Sequence[str]] = STATUS_ROUTES
    probe_routes: ClassVar[Sequence[str]] = STATUS_ROUTES
    #: Gateways respond to a submit before they store the task, and store "completed" before the URL.
    grace: ClassVar[Grace] = Grace(visibility=60.0, url=60.0, unknown_word=60.0)

    @staticmethod
    def base_path(path: str) -> str:
        # In the documentation of OpenAI-style gateways the base URL ends with the version; paths start with it.
        return re.sub(r"(^|/)v1$", "", path)

    def credential_problems(self) -> list[Problem]:
        return []

    def secrets(self) -> Sequence[str]:
        # Gateways of this kind store their keys without the prefix, and echo them in that form.
        key = self.credentials.secret
        rest = key.removeprefix("sk-")
        return (rest if len(rest) >= SHORTEST_SECRET else key,)

    def check(self, request: VideoRequest) -> list[Problem]:
        if model_name(request):
            return []  # the checks of every request cover the other limits of the vendor's page
        field = "model" if request.model != "kling-v3" else "mode"
        expected = f"is not served by gateways; the nearest that they serve is {nearest_name(request)}"
        return [Problem(field, getattr(request, field), expected)]

    def authorization(self, *, now: float) -> Authorization:
        return Authorization(f"Bearer {self.credentials.secret}")

    def wants_new_authorization(self, response: Response) -> bool:
        return False

    def submit(self, request: VideoRequest, *, client_token: str | None = None) -> HttpCall:
        return HttpCall("POST", SUBMIT_PATH, payload_of(request))

    def read_submit(
        self,
        response: Response,
        request: VideoRequest,
        *,
        route: str | None = None,
        refusal_codes: Collection[str] = (),
    ) -> VideoJob:
        return read_submit(response, refusal_codes)

    def max_ids_per_status(self, route: str | None) -> int:
        return 1

    def status(self, kling_task_ids: Sequence[str], *, route: str | None = None) -> HttpCall:
        [kling_task_id] = kling_task_ids
        return HttpCall("GET", status_path(kling_task_id, route))

    def serves_route(self, response: Response) -> bool | None:
        return serves_route(response)

    def may_be_on_another_route(self, response: Response) -> bool:
        return False

    def read_status(
        self, response: Response, kling_task_ids: Sequence[str]
    ) -> Mapping[str, VideoJob | KlingError]:
        [kling_task_id] = kling_task_ids
        return {kling_task_id: read_status(response, kling_task_id)}

    def find(self, client_token: str, *, route: str | None = None) -> NoReturn:
        raise KlingPermanentError("A gateway keeps no client tokens, so it cannot look up a submit", advice="")

    def read_find(self, response: Response, client_token: str) -> NoReturn:
        raise NotImplementedError("a gateway takes no client token")

    def content(self, kling_task_id: str, *, route: str | None = None) -> HttpCall | None:
        return HttpCall("GET", f"{status_path(kling_task_id, route)}/content")

    def probe(self, *, route: str | None = None) -> HttpCall:
        return HttpCall("GET", status_path(PROBE_TASK_ID, route))

    def read_probe(self, response: Response) -> str | None:
        return read_probe(response)

    def describe_probe(self, response: Response) -> tuple[bool, str]:
        return describe_probe(response)

    def account(self, *, now: float) -> HttpCall | None:
        return None

    def read_account(self, response: Response, *, now: float) -> NoReturn:
        raise NotImplementedError("a gateway tells nothing of the account")
