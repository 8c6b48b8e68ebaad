# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.ui.airflows import Airflow, airflow
from tests.ui.browser import Ui
from tests.ui.catalogue import Catalogue
from tests.ui.trailer import Trailer

SCREENSHOTS = Path(__file__).parents[2] / ".build" / "screenshots"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the browser that the environment variable CHROMIUM names: the system's own, for it plays H.264."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["CHROMIUM"],
            # It has no sandbox for root; the pages that it opens are our own. A video starts without a click.
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=["3.3", "3.1"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """Start an Airflow; all tests of one version share it."""
    with airflow(request.param, tmp_path_factory.mktemp(f"airflow-{request.param}")) as running:
        yield running


@pytest.fixture(scope="session")
def ui(running: Airflow, browser: Browser) -> Ui:
    """Return what opens pages of that Airflow."""
    folder = SCREENSHOTS / running.version
    shutil.rmtree(folder, ignore_errors=True)
    return Ui(browser, running, folder)


@pytest.fixture(scope="session")
def trailer(running: Airflow) -> Trailer:
    """Return a run that has settled, with a video in each state."""
    trailer = Trailer.start(running)
    trailer.until_settled()
    return trailer


@pytest.fixture(scope="session")
def catalogue(running: Airflow, trailer: Trailer) -> Catalogue:
    """Return a run of 300 videos."""
    return Catalogue.fill(running, trailer)
