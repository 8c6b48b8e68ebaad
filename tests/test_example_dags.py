# SPDX-License-Identifier: Apache-2.0
"""What is to be known of the example DAGs without an Airflow that runs them."""

from __future__ import annotations

import runpy
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
