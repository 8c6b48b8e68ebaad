# SPDX-License-Identifier: Apache-2.0
"""Airflow's UI in a browser: pages with a login of a role, and the frame in them that is ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Frame, Page, Request

from tests.ui.airflows import Airflow

WIDE, PHONE = (1440, 900), (390, 844)
PATIENCE = 30.0
"""Seconds to wait for anything in a page; far more than needed, for a busy machine."""
MOUNT = "/kling/"
"""What the addresses of our pages have in them, and those of Airflow's pages have not."""
SERIOUS = ("serious", "critical")


class Ui:
    """
    Open pages of one Airflow.

    :param browser: The browser.
    :param airflow: The Airflow.
    :param screenshots: Folder for the pictures, the last one of a test that failed among them.
    """

    def __init__(self, browser: Browser, airflow: Airflow, screenshots: Path) -> None:
        self.airflow = airflow
        self._browser = browser
        self._screenshots = screenshots
        self._logins: dict[tuple[str, bool], Any] = {}

    @contextmanager
    def page(
        self, role: str = "admin", *, size: tuple[int, int] = WIDE, dark: bool = False, with_path: bool = False
    ) -> Iterator[Page]:
        """
        Yield a page in which a user is logged in; fail at the end if a page of ours had an error.

        :param role: The user, who is named as the role.
        :param size: Width and height in pixels.
        :param dark: Whether Airflow is set to dark.
        :param with_path: Whether to use the UI that is served under a base path.
        """
        key = (role, with_path)
        if key not in self._logins:
            self._logins[key] = self._login(role, self.base(with_path))
        context = self._browser.new_context(
            base_url=self.base(with_path),
            storage_state=self._logins[key],
            viewport={"width": size[0], "height": size[1]},
        )
        context.set_default_timeout(PATIENCE * 1000)
        context.add_init_script(f"localStorage.setItem('theme', '{'dark' if dark else 'light'}')")
        with _closing(context):
            page = context.new_page()
            errors = _errors_of(page)
            try:
                yield page
            except BaseException:
                self.shoot(page, "failure")
                raise
            assert errors == []

    def base(self, with_path: bool) -> str:
        """Return the address of the UI, with a slash at its end."""
        return f"{self.airflow.url_with_path if with_path else self.airflow.url}/"

    def _login(self, user: str, url: str) -> Any:
        context = self._browser.new_context(base_url=url)
        with _closing(context):
            page = context.new_page()
            page.goto(url)
            page.locator("input[name=username]").fill(user)
            page.locator("input[name=password]").fill(user)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(lambda there: "/auth/login" not in there)
            return context.storage_state()

    def shoot(self, page: Page, name: str) -> None:
        """Take a picture of what is seen."""
        page.screenshot(path=self._screenshots / f"{name}.png", animations="disabled")


def tab(dag_id: str, run_id: str = "", task_id: str = "", map_index: int = -1) -> str:
    """Return the path of our tab in Airflow's UI: of a DAG, a run, or a task instance."""
    path = f"dags/{dag_id}"
    if not run_id:
        return f"{path}/plugin/kling-dag"
    path += f"/runs/{quote(run_id, safe='')}"
    if not task_id:
        return f"{path}/plugin/kling-run"
    path += f"/tasks/{task_id}"
    return f"{path}/plugin/kling" if map_index < 0 else f"{path}/mapped/{map_index}/plugin/kling"


def own_frame(page: Page) -> Frame:
    """Return the frame of our page, once it has loaded."""
    element = page.locator(f"iframe[src*='{MOUNT.strip('/')}']").element_handle()
    frame = element.content_frame()
    assert frame is not None
    frame.wait_for_load_state()
    return frame


def serious_findings(frame: Frame | Page) -> str:
    """Return what axe finds in a frame that keeps somebody from using it; empty if there is nothing."""
    found = Axe().run(frame)
    found.response["violations"] = [v for v in found.response["violations"] if v["impact"] in SERIOUS]
    return str(found.generate_report()) if found.violations_count else ""


@contextmanager
def _closing(context: BrowserContext) -> Iterator[None]:
    try:
        yield
    finally:
        context.close()


def _errors_of(page: Page) -> list[str]:
    """Return a list that takes the errors of our pages: scripts, requests, content security policy."""
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and MOUNT in message.location["url"]:
            errors.append(f"{message.location['url']}: {message.text}")

    def fail(request: Request) -> None:
        # A video that is no longer looked at is aborted.
        if MOUNT in request.url and request.resource_type != "media" and "ABORTED" not in (request.failure or ""):
            errors.append(f"{request.url}: {request.failure}")

    page.on("console", note)
    page.on("requestfailed", fail)
    return errors
