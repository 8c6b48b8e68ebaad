# SPDX-License-Identifier: Apache-2.0
"""
The web application behind the Videos page; Airflow's API server mounts it.

Every route needs a login, and the pages of a DAG the right to read its XComs: without a dependency a mounted route
would be public.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002 (FastAPI reads it)
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import FileResponse, HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_provider_kling.videos_page import decisions, stored_copy
from airflow_provider_kling.videos_page.cards import (
    Amount,
    Card,
    Group,
    cards_of,
)
from airflow_provider_kling.videos_page.map_index import map_index_of
from airflow_provider_kling.videos_page.rows import (
    Run,
    by_run,
    dags_with_videos,
    find_run,
    latest_runs,
    latest_runs_with_videos,
    read_rows,
)
from airflow_provider_kling.videos_page.totals import matching, totals_of
from airflow_provider_kling.videos_page.values import MAX_NAME

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, MutableMapping, Sequence

    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from sqlalchemy.orm import Session


#: Runs on the page of a DAG, and on that of all DAGs; and the cards of each that are shown there.
MAX_RUNS, CARDS_PER_RUN = 20, 8
#: Seconds between two updates of an open page: of one with few cards, of one with very many.
POLL_SECONDS, SLOWEST_POLL = 5, 60
#: Cards for which a page is updated one second later.
_CARDS_PER_SECOND = 50
_STATIC = {
    "page.js": "text/javascript",
    "page.css": "text/css",
    "icon.svg": "image/svg+xml",
    "icon-dark.svg": "image/svg+xml",
}
_FOLDER = Path(__file__).parent / "static"
_ACTIVE_RUNS = ("queued", "running")
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    # The vendor's URLs may be of any host.
    "media-src 'self' https: http:",
    "base-uri 'none'",
    "frame-ancestors 'self'",
)
_HEADERS = {
    "content-security-policy": "; ".join(_POLICY),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_MESSAGES = {
    401: "You are not logged in, or your login has expired. Reload Airflow and log in again.",
    403: "Your user may not see this. It needs the right to read this DAG and its XComs.",
    404: "There is no such page.",
}


def build_app() -> FastAPI:
    """Return the application."""
    # Without its own documentation: those routes would need no login.
    app = FastAPI(
        title="Kling videos",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(get_user)],
        exception_handlers={StarletteHTTPException: _error_page},
    )
    app.include_router(stored_copy.router)
    app.include_router(decisions.router)
    app.include_router(router)
    app.add_middleware(_Headers)
    return app


class _Headers:
    """Adds the security headers to every response; pages and errors are not stored by caches."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", [])}
                wanted = {**_HEADERS, "cache-control": "no-store"}
                added = [(name.encode(), value.encode()) for name, value in wanted.items()]
                message["headers"] = [
                    *message.get("headers", []),
                    *((name, value) for name, value in added if name not in given),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)


router = APIRouter()
_of_dag = APIRouter(
    prefix="/dags/{dag_id}",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)


class Filter(NamedTuple):
    """
    What the form above the cards selects.

    :param status: The value of a :class:`Group`; empty for all.
    :param model: A model; empty for all.
    :param q: Words to search for.
    """

    status: str
    model: str
    q: str


class Page:
    """
    The response to one request: what all pages share.

    :param request: The request.
    :param user: Who is logged in.
    :param session: A session on Airflow's database.
    :param wanted: The filter.
    """

    def __init__(self, request: Request, user: BaseUser, session: Session, wanted: Filter) -> None:
        self.user = user
        self.session = session
        self.wanted = wanted
        self.root = _root(request)

    def run(self, dag_id: str, run_id: str) -> Run:
        """Return a run of a DAG; a page that is not found if there is none."""
        run = find_run(self.session, dag_id, run_id)
        if run is None:
            raise HTTPException(404)
        return run

    def may(self, dag_id: str, method: Any, entity: DagAccessEntity) -> bool:
        """Return whether the user has a right on a part of a DAG."""
        details = DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))
        return get_auth_manager().is_authorized_dag(
            method=method, access_entity=entity, details=details, user=self.user
        )

    def of_videos(
        self,
        title: str,
        run: Run,
        cards: list[Card],
        *,
        is_ours: bool,
        task_id: str | None = None,
        is_single: bool = False,
        is_complete: bool = True,
    ) -> HTMLResponse:
        """
        Return the page of the videos of a run, or of a part of it.

        :param title: Its title.
        :param run: The run.
        :param cards: The videos.
        :param is_ours: Whether there are tasks of this package.
        :param task_id: The task whose page it is, if it is that of a task.
        :param is_single: Whether it is the page of one task instance.
        :param is_complete: Whether all tasks were read.
        """
        wanted = self.wanted
        shown = matching(cards, group=wanted.status, model=wanted.model, text=wanted.q)
        is_active = is_ours and run.state in _ACTIVE_RUNS
        views = self._views(shown)
        return self._render(
            "videos.html",
            title=title,
            run=run,
            cards=views,
            total=len(cards),
            totals=totals_of(cards),
            models=sorted({card.model for card in cards if card.model}),
            filter=wanted,
            is_ours=is_ours,
            is_single=is_single,
            is_complete=is_complete,
            task_id=task_id,
            decisions_url=self._url("dags", run.dag_id, "runs", run.run_id, "decisions"),
            may_decide=any(view["token"] for view in views)
            and self.may(run.dag_id, "PUT", DagAccessEntity.TASK_INSTANCE),
            poll_seconds=_poll_seconds(cards, is_active=is_active),
            crumbs=self._crumbs(run.dag_id, *([run.run_id] if task_id is not None else [])),
        )

    def of_runs(self, title: str, runs: Sequence[Run], *, dag_id: str | None = None) -> HTMLResponse:
        """
        Return the page of several runs.

        :param title: Its title.
        :param runs: The runs, newest first.
        :param dag_id: The DAG, if all are of one.
        """
        read = read_rows(self.session, runs)
        by_key = {(run.dag_id, run.run_id): run for run in runs}
        sections: list[dict[str, Any]] = []
        now = time.time()
        groups = list(by_run(read.rows))
        if not read.is_complete and len(groups) > 1:
            groups.pop()  # the totals of a part of a run would be wrong
        for key, rows in groups:
            run, cards = by_key[key], cards_of(rows, now)
            if cards:
                sections.append(
                    {
                        "run": run,
                        "url": self._url("dags", run.dag_id, "runs", run.run_id),
                        "totals": totals_of(cards),
                        "cards": self._views(cards[:CARDS_PER_RUN]),
                        "more": max(0, len(cards) - CARDS_PER_RUN),
                        "poll_seconds": _poll_seconds(cards, is_active=False),
                    }
                )
        return self._render(
            "runs.html",
            title=title,
            sections=sections,
            dag_id=dag_id,
            poll_seconds=max((section["poll_seconds"] for section in sections), default=0),
            crumbs=self._crumbs() if dag_id is not None else [],
        )

    def _views(self, cards: Sequence[Card]) -> list[dict[str, Any]]:
        names = {card.uncertain.name for card in cards if card.uncertain}
        decided = decisions.decided_of(names, self.session)
        return [self._view(card, decided) for card in cards]

    def _view(self, card: Card, decided: Collection[str]) -> dict[str, Any]:
        """
        Return a card with what the page adds to it: its addresses, and the token of its buttons.

        :param card: The card.
        :param decided: The names of the Variables that exist: their submits have no buttons.
        """
        run = ("dags", card.dag_id, "runs", card.run_id)
        media, token, variable = None, None, None
        if (copy := card.stored) and stored_copy.may_stream(copy.path):
            media = self._url(*run, "tasks", copy.task_id, str(copy.map_index), "file")
        elif card.video_url and not card.has_expired:
            media = card.video_url
        submit = card.uncertain
        if submit and submit.name in decided:
            variable = submit.name
        elif submit:
            token = decisions.token_for(
                str(self.user.get_id()), card.dag_id, card.run_id, submit.task_id, submit.map_index, submit.name
            )
        page = self._url(*run, "tasks", card.task_id, str(card.map_index))
        return {"card": card, "media": media, "token": token, "decided_by": variable, "url": page}

    def _crumbs(self, *ids: str) -> list[tuple[str, str]]:
        """Return the names and addresses of the pages above this one: of all videos, a DAG and a run."""
        crumbs = [("All videos", self._url("videos"))]
        for count, name in enumerate(ids, start=1):
            pairs = zip(("dags", "runs")[:count], ids[:count], strict=True)
            crumbs.append((name, self._url(*(part for pair in pairs for part in pair))))
        return crumbs

    def _url(self, *segments: str) -> str:
        return self.root + "".join(f"/{quote(segment, safe='')}" for segment in segments)

    def _render(self, template: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(_TEMPLATES.get_template(template).render(root=self.root, groups=list(Group), **values))


# A function: the FastAPI of Airflow 3.1 does not read annotations of a class that are texts.
def _page(
    *,
    request: Request,
    user: GetUserDep,
    session: SessionDep,
    status: Annotated[str, Query(max_length=40)] = "",
    model: Annotated[str, Query(max_length=MAX_NAME)] = "",
    q: Annotated[str, Query(max_length=200)] = "",
) -> Page:
    return Page(request, user, session, Filter(status if status in set(Group) else "", model, q))


PageDep = Annotated[Page, Depends(_page)]


@_of_dag.get("/runs/{run_id}/tasks/{task_id}/{map_index}")
def task_instance_page(dag_id: str, run_id: str, task_id: str, map_index: str, page: PageDep) -> HTMLResponse:
    """Show the video of one task instance."""
    index, run = map_index_of(map_index), page.run(dag_id, run_id)
    # The other tasks of the same video have the same index, or none.
    read = read_rows(page.session, [run], map_indexes={index, -1})
    here = [row for row in read.rows if (row.task_id, row.map_index) == (task_id, index)]
    if index == -1 and not here:
        # The tab of a mapped task, whose page does not know an index.
        return task_page(dag_id, run_id, task_id, page)
    cards = [card for card in cards_of(read.rows, time.time()) if (task_id, index) in card.members]
    title = task_id if index < 0 else f"{task_id} [{index}]"
    return page.of_videos(title, run, cards, task_id=task_id, is_ours=bool(here), is_single=True)


@_of_dag.get("/runs/{run_id}/tasks/{task_id}")
def task_page(dag_id: str, run_id: str, task_id: str, page: PageDep) -> HTMLResponse:
    """Show the videos of all instances of a mapped task."""
    run = page.run(dag_id, run_id)
    read = read_rows(page.session, [run])
    cards = [card for card in cards_of(read.rows, time.time()) if task_id in dict(card.members)]
    is_ours = any(row.task_id == task_id for row in read.rows)
    return page.of_videos(task_id, run, cards, task_id=task_id, is_ours=is_ours, is_complete=read.is_complete)


@_of_dag.get("/runs/{run_id}")
def run_page(dag_id: str, run_id: str, page: PageDep) -> HTMLResponse:
    """Show all videos of a run."""
    run = page.run(dag_id, run_id)
    read = read_rows(page.session, [run])
    cards, is_ours = cards_of(read.rows, time.time()), bool(read.rows)
    return page.of_videos("Videos of this run", run, cards, is_ours=is_ours, is_complete=read.is_complete)


@_of_dag.get("")
def dag_page(dag_id: str, page: PageDep) -> HTMLResponse:
    """Show the latest videos of a DAG."""
    return page.of_runs("Videos of this DAG", latest_runs(page.session, dag_id, MAX_RUNS), dag_id=dag_id)


@router.get("/videos")
def videos_page(page: PageDep) -> HTMLResponse:
    """Show the latest videos of all DAGs that the user may read."""
    candidates = dags_with_videos(page.session)
    if candidates:
        candidates &= get_auth_manager().get_authorized_dag_ids(user=page.user, session=page.session)
    runs = latest_runs_with_videos(page.session, candidates, MAX_RUNS) if candidates else []
    readable = {dag_id for dag_id in {run.dag_id for run in runs} if page.may(dag_id, "GET", DagAccessEntity.XCOM)}
    return page.of_runs("Kling videos", [run for run in runs if run.dag_id in readable])


@router.get("/static/{name}")
def static_file(name: str) -> Response:
    """Serve the script, the stylesheet and the icons."""
    if name not in _STATIC:
        raise HTTPException(404)
    return FileResponse(_FOLDER / name, media_type=_STATIC[name], headers={"cache-control": "private, no-cache"})


router.include_router(_of_dag)


async def _error_page(request: Request, error: Exception) -> Response:
    """Show an error in words where a page was asked for."""
    if not isinstance(error, StarletteHTTPException):
        raise error
    if "text/html" not in request.headers.get("accept", ""):
        return await http_exception_handler(request, error)
    message = _MESSAGES.get(error.status_code, str(error.detail))
    html = _TEMPLATES.get_template("message.html").render(
        root=_root(request), title="Kling videos", message=message, crumbs=[]
    )
    return HTMLResponse(html, status_code=error.status_code, headers=error.headers)


def _poll_seconds(cards: Sequence[Card], *, is_active: bool) -> int:
    """Return the seconds until the page is worth an update; 0 if nothing on it will change."""
    if not is_active and not any(card.is_unfinished for card in cards):
        return 0
    return min(POLL_SECONDS + len(cards) // _CARDS_PER_SECOND, SLOWEST_POLL)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def _duration(seconds: float) -> str:
    """Return seconds as people write them: 7 s, 4 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def _cost(amounts: Sequence[Amount]) -> str:
    return " + ".join(f"{amount.value:,.10g} {amount.unit}" for amount in amounts)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("airflow_provider_kling.videos_page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": _duration, "cost": _cost, "moment": _moment}
    return environment


_TEMPLATES = _templates()
