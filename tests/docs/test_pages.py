# SPDX-License-Identifier: Apache-2.0
"""What the pages for readers show works, and where they lead there is something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs import checks
from tests.docs.checks import CHECKOUT
from tests.docs.pages import PYTHON, Block, Page, read_page

if TYPE_CHECKING:
    from airflow_provider_kling.sandbox import Sandbox


def pages() -> list[Path]:
    """All pages; the changelog tells of a past in which other things were true."""
    return [
        *(path for path in sorted(CHECKOUT.glob("*.md")) if path.name != "CHANGELOG.md"),
        *sorted((CHECKOUT / "docs").rglob("*.md")),
    ]


def read(path: Path) -> Page:
    name = str(path.relative_to(CHECKOUT))
    return read_page(path, name)


PAGES = [read(path) for path in pages()]
BLOCKS = [block for page in PAGES for block in page.blocks]
PROGRAMS = [block for block in BLOCKS if block.language in PYTHON]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.path.relative_to(CHECKOUT)))


def test_there_is_something_to_check() -> None:
    assert "README.md" in [page.path.name for page in PAGES]
    assert PROGRAMS
    assert any(page.links for page in PAGES)


@each_page
def test_every_block_is_what_it_says(page: Page) -> None:
    assert [problem for block in page.blocks for problem in checks.parse_problems(block)] == []


@each_page
def test_every_command_exists(page: Page) -> None:
    assert checks.command_problems(page) == []


@each_page
def test_every_connection_is_accepted(page: Page) -> None:
    assert checks.connection_problems(page) == []


@each_page
def test_every_link_leads_somewhere(page: Page) -> None:
    assert checks.link_problems(page) == []


@each_page
def test_every_path_and_name_exists(page: Page) -> None:
    assert checks.name_problems(page) == []


def test_the_map_of_the_folders_names_every_module() -> None:
    package = CHECKOUT / checks.PACKAGE
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if not path.name.startswith("__")}
    [architecture] = [page for page in PAGES if page.path.name == "architecture.md"]
    assert modules - {span.text for span in architecture.spans} == set()


def test_no_sentence_stands_twice() -> None:
    assert checks.repeated_sentences(PAGES) == []


def test_every_program_type_checks(tmp_path: Path) -> None:
    assert checks.type_problems(PROGRAMS, tmp_path) == []


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.where)
def test_every_program_runs(block: Block, sandbox: Sandbox, tmp_path: Path) -> None:
    if block.not_run:
        pytest.skip(f"{block.where} is only type-checked: {block.not_run}")
    environment = {"AIRFLOW_CONN_KLING_DEFAULT": sandbox.connection_json}
    assert checks.run_problems(block, tmp_path, environment) == []
