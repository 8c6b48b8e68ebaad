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

COMMENTS_TO_COME = {
    "README.md": {
        "from airflow_provider_kling.sensors.kling import KlingTaskSensor": """
            <!-- continues -->
            <!-- inside a DAG -->
            <!-- before:
            from airflow.sdk import task

            @task
            def prompts() -> list[str]:
                return ["A paper boat drifts down a rainy street."]
            -->
        """,
        "from airflow_provider_kling.exceptions import KlingUncertainSubmissionError": """
            <!-- before:
            import pytest

            monkeypatch = pytest.MonkeyPatch()
            -->
        """,
    },
}
"""Comments (see ``pages.py``) that a page does not have yet, by page and first line of the block."""

KNOWN_TYPE_ERRORS = {
    (
        'Argument "video" to "KlingToObjectStorageOperator" has incompatible type "XComArg"; '
        'expected "Mapping[str, Any] | str"'
    ),
}
"""What mypy says of a block that is right: the package's own types are too narrow there."""


def pages() -> list[Path]:
    """All pages; the changelog tells of a past in which other things were true."""
    return [
        *(path for path in sorted(CHECKOUT.glob("*.md")) if path.name != "CHANGELOG.md"),
        *sorted((CHECKOUT / "docs").rglob("*.md")),
    ]


def read(path: Path) -> Page:
    name = str(path.relative_to(CHECKOUT))
    return read_page(path, name, COMMENTS_TO_COME.get(name))


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
def test_every_link_leads_somewhere(page: Page) -> None:
    assert checks.link_problems(page) == []


@each_page
def test_every_path_and_name_exists(page: Page) -> None:
    assert checks.name_problems(page) == []


def test_every_program_type_checks(tmp_path: Path) -> None:
    found = checks.type_problems(PROGRAMS, tmp_path)
    assert [problem for problem in found if problem.partition(": ")[2] not in KNOWN_TYPE_ERRORS] == []
    assert {problem.partition(": ")[2] for problem in found} >= KNOWN_TYPE_ERRORS, (
        "one is gone: take it off the list"
    )


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.where)
def test_every_program_runs(block: Block, sandbox: Sandbox, tmp_path: Path) -> None:
    if block.not_run:
        pytest.skip(f"{block.where} is only type-checked: {block.not_run}")
    environment = {"AIRFLOW_CONN_KLING_DEFAULT": sandbox.connection_json}
    assert checks.run_problems(block, tmp_path, environment) == []


def test_every_comment_to_come_has_its_block() -> None:
    for name, comments in COMMENTS_TO_COME.items():
        text = (CHECKOUT / name).read_text()
        for first_line in comments:
            block = f"```python\n{first_line}\n"
            assert f"\n\n{block}" in text, f"{name} has the comment now, or no such block: take it off the list"
