# SPDX-License-Identifier: Apache-2.0
"""The routes of Kling's own platform."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.faults import Reply
from airflow_provider_kling.sandbox.handlers import Handlers, read_json
from airflow_provider_kling.sandbox.official import legacy, new
from airflow_provider_kling.sandbox.official.account import AccountBook, order_of
from airflow_provider_kling.sandbox.official.answers import Answers, envelope, error_envelope
from airflow_provider_kling.sandbox.official.keys import Caller, Keys
from airflow_provider_kling.sandbox.official.order import BAD_PARAMETER, Order

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from airflow_provider_kling.sandbox.controls import Controls
    from airflow_provider_kling.sandbox.faults import Role, Route
    from airflow_provider_kling.sandbox.jobs import Job
    from airflow_provider_kling.sandbox.studio import Studio

Part = Literal["legacy", "new", "tasks", "account"]
PARTS: tuple[Part, ...] = ("legacy", "new", "tasks", "account")
MOST_IDS = 20
TOO_FAST = 1302
MOST_PER_PAGE, USUAL_PER_PAGE = 500, 30
OF_JOBS: tuple[Role, ...] = ("job", "hides")
OF_REQUESTS: tuple[Role, ...] = ("pause", "response")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OfficialOptions:
    """
    What :class:`Sandbox` takes in addition when it serves Kling's own platform.

    A key that is neither in ``api_keys`` nor here gets 401 and 1002, as a key of the other region does.

    :param access_keys: Access key -> secret key, for JWTs; one pair, ``ak-sandbox``, by default.
    :param accounts: API key or access key -> name of its account; keys that are not here share one account.
    :param units: Units in the resource pack of each account; None sets no limit.
    :param drops_external_ids: Ignore ``external_task_id``, as some resellers do: it is not in responses, need not
        be unique, and finds nothing.
    :param frees_failed_ids: Let an external id be used again once its job has failed.
    :param clock_offset: Seconds by which the server's clock is fast; it checks JWTs and dates responses.
    :param serves: The parts that exist: ``legacy`` and ``new`` (the two standards), ``tasks`` (the status of
        the jobs of both) and ``account`` (the resource packs). Some resellers have ``legacy`` only.
    :param account_seconds: Seconds between two requests for the resource packs of an account, below which they get
        429 and 1302; 0 sets no limit.
    """

    access_keys: Mapping[str, str] = field(
        default_factory=lambda: {"ak-sandbox": "sk-secret-sandbox-of-32-characters"}
    )
    accounts: Mapping[str, str] = field(default_factory=dict)
    units: float | Decimal | None = None
    drops_external_ids: bool = False
    frees_failed_ids: bool = False
    clock_offset: float = 0.0
    serves: Sequence[Part] = PARTS
    account_seconds: float = 0.0

    def order(self, path: str, body: Any) -> Order:
        """
        Return what a create request orders.

        :param path: The create path, without a prefix.
        :param body: The decoded body.
        :raises ApiError: if the body is wrong.
        """
        if path in legacy.LEGACY_PATHS:
            order = legacy.parse_legacy(path, body)
        else:
            _, kind, model = path.split("/", 2)
            order = new.parse_new(f"/{kind}", model, body)
        return replace(order, external_id="") if self.drops_external_ids else order

    def new_book(self, max_concurrent: int | None) -> AccountBook:
        units = None if self.units is None else Decimal(str(self.units))
        return AccountBook(max_concurrent, units=units, frees_failed_ids=self.frees_failed_ids)


class OfficialHandlers(Handlers):
    """
    The routes of Kling's own platform.

    :param controls: The state of the sandbox.
    :param studio: Renders the videos.
    :param prefix: A path in front of all routes.
    :param api_keys: The valid API keys.
    :param options: What else is served, and how.
    """

    def __init__(
        self, controls: Controls, studio: Studio, prefix: str, *, api_keys: Sequence[str], options: OfficialOptions
    ) -> None:
        super().__init__(controls, studio, prefix)
        self.clock_offset = options.clock_offset
        self._options = options
        self._keys = Keys(frozenset(api_keys), options.access_keys, options.accounts)
        self._answers = Answers(options.clock_offset, echo=not options.drops_external_ids)
        self._account_asked: dict[str, float] = {}

    def routes(self) -> list[web.RouteDef]:
        parts: dict[str, list[web.RouteDef]] = {
            "legacy": [route for path in legacy.LEGACY_PATHS for route in self._legacy_routes(path)],
            "new": [
                web.post(f"{self.prefix}{path}/{{model}}", self._new_create(path))
                for path in (new.TEXT_TO_VIDEO, new.IMAGE_TO_VIDEO)
            ],
            "tasks": [
                web.get(f"{self.prefix}/tasks", self.tasks),
                web.post(f"{self.prefix}/tasks", self.list_tasks),
            ],
            "account": [web.get(f"{self.prefix}/account/costs", self.account_costs)],
        }
        return [route for part in self._options.serves for route in parts[part]]

    def error(self, status: int, code: int | str | None, message: str) -> dict[str, Any]:
        return error_envelope(status, code, message)

    def _legacy_routes(self, path: str) -> list[web.RouteDef]:
        async def create(request: web.Request) -> web.StreamResponse:
            return await self._create(request, path, self._answers.legacy_created, jwt=True)

        async def status(request: web.Request) -> web.StreamResponse:
            return await self._legacy_status(request, path)

        async def listing(request: web.Request) -> web.StreamResponse:
            return await self._legacy_list(request, path)

        return [
            web.post(f"{self.prefix}{path}", create),
            web.get(f"{self.prefix}{path}/{{task_id}}", status),
            web.get(f"{self.prefix}{path}", listing),
        ]

    def _new_create(self, path: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def create(request: web.Request) -> web.StreamResponse:
            return await self._create(
                request, f"{path}/{request.match_info['model']}", self._answers.new_created, jwt=False
            )

        return create

    async def _create(
        self,
        request: web.Request,
        path: str,
        show: Callable[[Job], dict[str, Any]],
        *,
        jwt: bool,
    ) -> web.StreamResponse:
        async def exchange(accepted: list[Job]) -> Reply:
            caller = self._caller(request, jwt=jwt)
            raw = await read_json(request, BAD_PARAMETER)
            order = self._options.order(path, raw)
            struck = self.controls.strike(
                "submit", order.video.text, names=[order.external_id] if order.external_id else []
            )

            async def accept() -> Reply:
                job = self.controls.accept(
                    order.video, raw, caller.key, struck, account=caller.account, order=order
                )
                accepted.append(job)
                log.info("accepted %s: %s, %s s, %r", job.id, order.model, order.seconds, order.video.text[:80])
                return Reply.of(200, envelope(show(job)))

            return await self.with_faults(struck, accept)

        return await self.submission(request, exchange)

    async def _legacy_status(self, request: web.Request, path: str) -> web.StreamResponse:
        asked = request.match_info["task_id"]
        route = self._route([asked], external=not self.controls.has_job(asked) and not _is_id(asked))

        async def exchange() -> Reply:
            caller = self._caller(request, jwt=True)
            found = self.controls.find(asked, caller.account) or self._book.by_external_id(caller.account, asked)
            jobs = [found] if found is not None and order_of(found).path == path else []

            def report(visible: Sequence[Job]) -> Reply:
                if not visible:
                    raise ApiError(400, BAD_PARAMETER, f"Task not found by id/external id: {asked}")
                job = visible[0]
                return Reply.of(200, envelope(self._answers.legacy(job, time.time(), self.base_url(request))))

            return await self._report(route, [asked], jobs, report)

        return await self.answer(route, request, exchange, ids=1)

    async def tasks(self, request: web.Request) -> web.StreamResponse:
        by_id, by_external_id = (
            list(dict.fromkeys(part for part in request.query.get(name, "").split(",") if part))
            for name in ("task_ids", "external_task_ids")
        )
        asked = by_id or by_external_id
        route = self._route(asked, external=not by_id and bool(by_external_id))

        async def exchange() -> Reply:
            caller = self._caller(request, jwt=False)
            if bool(by_id) == bool(by_external_id):
                raise ApiError(400, BAD_PARAMETER, "either task_ids or external_task_ids is required")
            if len(asked) > MOST_IDS:
                raise ApiError(400, BAD_PARAMETER, f"at most {MOST_IDS} ids are allowed, not {len(asked)}")
            if by_id:
                found = [self.controls.find(name, caller.account) for name in by_id]
            else:
                found = [self._book.by_external_id(caller.account, name) for name in by_external_id]
            # In another order than asked for: the vendor promises none.
            jobs = [job for job in reversed(found) if job is not None]
            return await self._report(route, asked, jobs, lambda visible: self._tasks_reply(request, visible))

        return await self.answer(route, request, exchange, ids=len(asked))

    async def list_tasks(self, request: web.Request) -> web.StreamResponse:
        """List the tasks of the account, newest first; the cursor is the number of those before."""

        async def exchange() -> Reply:
            caller = self._caller(request, jwt=False)
            body = await read_json(request, BAD_PARAMETER)
            given = body if isinstance(body, dict) else {}
            start = _number("cursor", given.get("cursor") or 0, 0, 10**9)
            size = _number("limit", given.get("limit") or USUAL_PER_PAGE, 1, MOST_PER_PAGE)
            jobs = self._jobs_of(caller)
            page = jobs[start : start + size]
            cursor = str(start + size) if start + size < len(jobs) else ""

            def report(visible: Sequence[Job]) -> Reply:
                tasks = [self._answers.new(job, time.time(), self.base_url(request)) for job in visible]
                return Reply.of(200, envelope({"tasks": tasks, "next_cursor": cursor}))

            return await self._report("status", [], page, report)

        return await self.answer("status", request, exchange)

    async def _legacy_list(self, request: web.Request, path: str) -> web.StreamResponse:
        async def exchange() -> Reply:
            caller = self._caller(request, jwt=True)
            page = _number("pageNum", request.query.get("pageNum", 1), 1, 1000)
            size = _number("pageSize", request.query.get("pageSize", USUAL_PER_PAGE), 1, MOST_PER_PAGE)
            jobs = [job for job in self._jobs_of(caller) if order_of(job).path == path]

            def report(visible: Sequence[Job]) -> Reply:
                tasks = [self._answers.legacy(job, time.time(), self.base_url(request)) for job in visible]
                return Reply.of(200, envelope(tasks))

            return await self._report("status", [], jobs[(page - 1) * size : page * size], report)

        return await self.answer("status", request, exchange)

    async def account_costs(self, request: web.Request) -> web.StreamResponse:
        async def exchange() -> Reply:
            caller = self._caller(request, jwt=True)
            struck = self.controls.strike("account", "")

            async def report() -> Reply:
                start, end = (
                    _number(name, request.query.get(name), 0, 10**15) for name in ("start_time", "end_time")
                )
                self._limit_account_rate(caller)
                # The platform selects the packs that were bought between the two times.
                packs = [
                    pack
                    for pack in self._book.packs(caller.account, time.time())
                    if start <= pack["purchase_time"] <= end
                ]
                return Reply.of(
                    200, envelope({"code": 0, "msg": "success", "resource_pack_subscribe_infos": packs})
                )

            return await self.with_faults(struck, report)

        return await self.answer("account", request, exchange)

    async def _report(
        self, route: Route, asked: Sequence[str], jobs: Sequence[Job], report: Callable[[Sequence[Job]], Reply]
    ) -> Reply:
        """Return the response about jobs: faults of jobs affect each alone, other faults the request."""
        visible = [
            job
            for job in jobs
            if self.controls.strike(route, job.request.text, job, roles=OF_JOBS).response is None
        ]
        texts = "\n".join(job.request.text for job in jobs)
        names = [*asked, *(name for job in jobs for name in job.names)]
        struck = self.controls.strike(route, texts, names=names, roles=OF_REQUESTS)

        async def carry_out() -> Reply:
            return report(visible)

        return await self.with_faults(struck, carry_out)

    def _tasks_reply(self, request: web.Request, jobs: Sequence[Job]) -> Reply:
        now, base_url = time.time(), self.base_url(request)
        return Reply.of(200, envelope([self._answers.new(job, now, base_url) for job in jobs]))

    def _route(self, asked: Sequence[str], *, external: bool) -> Route:
        if external:
            return "find"
        return "status" if any(self.controls.has_job(name) for name in asked) else "probe"

    def _jobs_of(self, caller: Caller) -> list[Job]:
        """Return the jobs of the account, newest first."""
        return [job for job in reversed(self._book.jobs.values()) if job.account == caller.account]

    def _limit_account_rate(self, caller: Caller) -> None:
        now = time.monotonic()
        if now - self._account_asked.get(caller.account, float("-inf")) < self._options.account_seconds:
            raise ApiError(429, TOO_FAST, "The requests are too fast, exceed the limit")
        self._account_asked[caller.account] = now

    def _caller(self, request: web.Request, *, jwt: bool) -> Caller:
        return self._keys.caller(
            request.headers.get("Authorization", ""), now=time.time() + self.clock_offset, jwt_allowed=jwt
        )

    @property
    def _book(self) -> AccountBook:
        book = self.controls.book
        if not isinstance(book, AccountBook):
            raise TypeError("the sandbox does not serve Kling's own platform")
        return book


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(name: str, given: object, least: int, most: int) -> int:
    if isinstance(given, str) and _is_id(given):
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise ApiError(400, BAD_PARAMETER, f"{name} must be a number from {least} to {most}")
    return given
