# SPDX-License-Identifier: Apache-2.0
"""
Each day, that day's prompts in a CSV file become videos, a few at a time; a failure is reported with its reason.

Every stored video updates the asset `kling-daily-videos`. The second DAG here runs on these updates, and lists
what their events say of each video: path, checksum, length, model, prompt.
"""

from __future__ import annotations

import csv
import logging
from datetime import UTC, datetime
from itertools import chain

from airflow.providers.common.compat.sdk import Asset, ObjectStoragePath, Param, dag, get_current_context, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator

log = logging.getLogger(__name__)

START = datetime(2026, 1, 1, tzinfo=UTC)
VIDEOS = Asset("kling-daily-videos")
FACTS = ("path", "sha256", "seconds", "model", "kling_task_id", "prompt", "tags")


def report_failure(context) -> None:
    """Send a message to wherever your team looks; here it goes to the log of the task."""
    ti, error = context["ti"], context.get("exception")
    log.error("No video from %s[%s]: %s: %s", ti.task_id, ti.map_index, type(error).__name__, error)


@dag(
    schedule="@daily",
    start_date=START,
    catchup=False,
    # It spends money without being asked: unpause it when the file of prompts is there.
    is_paused_upon_creation=True,
    tags=["kling"],
    doc_md=__doc__,
    params={
        # Its columns are date, prompt and aspect_ratio: 2026-01-31,A paper boat on a lake,16:9
        "prompts": Param("file:///tmp/kling/prompts.csv", type="string", description="file://, s3://, gs:// ..."),
        "folder": Param("file:///tmp/kling/daily/", type="string", pattern="/$", description="Of the videos"),
        "day": Param(None, type=["null", "string"], format="date", description="If not that of the run"),
    },
)
def example_kling_daily():
    @task
    def rows_of_the_day(params: dict, ds: str | None = None) -> list[dict]:
        with ObjectStoragePath(params["prompts"]).open("r") as file:
            rows = [row for row in csv.DictReader(file) if row["date"] == (params["day"] or ds)]
        return [{"prompt": row["prompt"], "aspect_ratio": row["aspect_ratio"]} for row in rows]

    KlingGenerateOperator.partial(
        task_id="generate",
        model="kling-v3-std-silent",
        duration=5,
        save_to="{{ params.folder }}{{ params.day or ds }}/{map_index}-{slug}.{ext}",
        # Videos being made at once; others may need the account too.
        max_active_tis_per_dag=2,
        on_failure_callback=report_failure,
        outlets=[VIDEOS],
    ).expand_kwargs(rows_of_the_day())


@dag(schedule=[VIDEOS], start_date=START, tags=["kling"], doc_md=__doc__)
def example_kling_catalogue():
    @task
    def catalogue() -> list[dict]:
        context = get_current_context()
        # The second name is that of Airflow 2.
        events = context.get("triggering_asset_events", context.get("triggering_dataset_events", {}))
        rows = [{name: event.extra.get(name) for name in FACTS} for event in chain.from_iterable(events.values())]
        for row in rows:
            log.info("%(path)s: %(seconds)s s by %(model)s for %(prompt)r", row)
        return rows

    catalogue()


example_kling_daily()
example_kling_catalogue()
