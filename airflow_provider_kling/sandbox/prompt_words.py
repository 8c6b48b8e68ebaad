# SPDX-License-Identifier: Apache-2.0
"""Words in a prompt that make trouble, for those who try out a DAG and write no code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from airflow_provider_kling.sandbox.faults import Fault

FAILING_SHARE = 0.25
SLOW_FACTOR = 5
LOST = "[lost answer]"


class Word(NamedTuple):
    """
    A word.

    :param meaning: What happens to the job, as a sentence.
    :param faults: Makes the faults of the submit from the seconds for which other jobs run.
    """

    meaning: str
    faults: Callable[[float], tuple[Fault, ...]]


#: Every word, in lower case.
WORDS: Mapping[str, Word] = {
    "[refuse]": Word(
        "The content is refused at the submit. There is no job, and nothing is billed.",
        lambda _: (
            Fault("submit", "refuse_content", message="content refused: the prompt has the word [refuse]"),
        ),
    ),
    "[fail]": Word(
        "The job is accepted, and fails after a quarter of the usual running time.",
        lambda seconds: (
            Fault("submit", "job_fails", message="generation failed: the prompt has the word [fail]"),
            Fault("submit", "pace", seconds=FAILING_SHARE * seconds),
        ),
    ),
    "[slow]": Word(
        f"The job runs {SLOW_FACTOR} times as long as others.",
        lambda seconds: (Fault("submit", "pace", seconds=SLOW_FACTOR * seconds),),
    ),
    LOST: Word(
        "The job is accepted, and the connection is cut before the response. "
        "The next submit of the same prompt gets its response.",
        lambda _: (Fault("submit", "drop_after"),),
    ),
}


def faults_of(prompt: str, run_seconds: float, *, lost_before: bool) -> tuple[Fault, ...]:
    """
    Return the faults that the words in a prompt stand for; upper and lower case are the same.

    :param prompt: All prompts of the request.
    :param run_seconds: Seconds for which other jobs run.
    :param lost_before: Whether the last submit of this prompt lost its response. This one then keeps it, so that a
        repeated submit can succeed.
    """
    text = prompt.lower()
    named = [word for word in WORDS if word in text and not (lost_before and word == LOST)]
    return tuple(fault for word in named for fault in WORDS[word].faults(run_seconds))
