# SPDX-License-Identifier: Apache-2.0
"""What is to be known of the example DAGs without an Airflow that runs them."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "example_dags"


@pytest.mark.parametrize(
    ("folder", "fits"), [("s3://bucket/clips/", True), ("s3://bucket/clips", False), ("", False)]
)
def test_a_batch_takes_a_folder_only(folder: str, fits: bool) -> None:
    """Without a slash the names of the files would begin with the name of the folder."""
    params = runpy.run_path(str(EXAMPLES / "example_kling_batch.py"))["example_kling_batch"]().params
    if fits:
        params["folder"] = folder
    else:
        with pytest.raises(Exception, match="does not match"):
            params["folder"] = folder


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_ui_says_what_it_shows(example: Path) -> None:
    found = runpy.run_path(str(example))
    if example.stem not in found:
        pytest.skip("this version of Airflow cannot run it")
    assert found[example.stem]().doc_md == found["__doc__"]
    assert len(found["__doc__"].strip().splitlines()) <= 4


def test_what_needs_a_newer_airflow_is_not_defined_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where the provider is missing, as on Airflow 2, nor where it refuses, as on 3.0."""
    path = str(EXAMPLES / "example_kling_review.py")
    monkeypatch.setitem(sys.modules, "airflow.providers.standard.operators.hitl", None)
    assert "example_kling_review" not in runpy.run_path(path)
