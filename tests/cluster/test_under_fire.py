# SPDX-License-Identifier: Apache-2.0
"""Forty videos on a cluster whose parts are killed one after the other, with the server's ledger as witness."""

from __future__ import annotations

from pathlib import Path

from airflow_provider_kling.sandbox import Sandbox
from tests.cluster.batch import UNCERTAIN, play

COUNT, SLOTS, VIDEO_SECONDS = 40, 5, 10.0
PATIENCE = 900.0
"""Seconds; far more than needed, for a busy machine."""


def test_each_video_is_paid_for_once_and_stored_whole(tmp_path: Path) -> None:
    with Sandbox(max_concurrent=SLOTS, run_seconds=VIDEO_SECONDS, one_video=True) as sandbox:
        outcome = play(sandbox, COUNT, timeout=PATIENCE, folder=tmp_path)
    assert outcome.faults == []
    # It stops for a person, and no retry has bought it again.
    assert outcome.states[outcome.unanswered] == UNCERTAIN
    assert outcome.accepted[outcome.unanswered] == 1
