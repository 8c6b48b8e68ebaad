# SPDX-License-Identifier: Apache-2.0
"""What the page on the sandbox says of making trouble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_kling.sandbox.prompt_words import WORDS
from tests.docs.pages import read_page

PAGE = read_page(Path(__file__).parents[2] / "docs" / "sandbox.md", "sandbox.md")
COMMANDS = [
    line
    for block in PAGE.blocks
    if block.language == "bash"
    for line in block.code.splitlines()
    if "/_sandbox/" in line
]


def test_each_way_to_the_controls_is_shown() -> None:
    assert len(COMMANDS) == 10


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_does_what_it_says(caller: Any, command: str) -> None:
    command = command.replace("TASK_ID", caller.task())
    armed = len(caller.sandbox.faults())
    answer = caller.curl(command)
    assert answer.status_code == 200, answer.text
    assert len(caller.sandbox.faults()) - armed == (" -d " in command)


def test_every_word_is_explained() -> None:
    assert set(WORDS) <= {span.text for span in PAGE.spans}
