# SPDX-License-Identifier: Apache-2.0
"""
Try one Airflow version, inside the environment that it is installed in.

``python -m tests.versions.probe FOLDER RECORD ...`` runs the example DAGs, tasks that are retried and, with each
of these records, what ``paid_once`` plays, against the sandbox, in the Airflow that ``AIRFLOW_HOME`` names. It
writes ``FOLDER/report.json``: column -> "" for what works, or what went wrong. All else is printed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from airflow import __version__ as airflow_version

from airflow_provider_kling.client.connection import EXTRAS
from airflow_provider_kling.sandbox import Sandbox
from tests.system.examples import EXAMPLES
from tests.system.video import VideoFacts, look_into
from tests.versions.paid_once import places
from tests.versions.runs import RETRIED, VIDEOS, Outcome, Report, Task

IS_AIRFLOW_2 = airflow_version.startswith("2.")
HAS_STATE_STORE = not airflow_version.startswith(("2.", "3.0", "3.1", "3.2"))


def check_installed() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    hook = manager.hooks.get("kling")
    assert "airflow-provider-kling" in manager.providers, "Airflow does not list the provider"
    assert hook is not None, "Airflow does not list the connection type"
    assert hook.hook_name == "Kling"
    assert "airflow_provider_kling.links.kling.KlingVideoLink" in manager.extra_links_class_names
    assert "kling" in dict(manager.taskflow_decorators), "Airflow does not list @task.kling"


def check_form() -> None:
    """Raise unless the form to make a connection with has the fields of this provider."""
    if IS_AIRFLOW_2:
        from airflow.providers_manager import ProvidersManager

        widgets = ProvidersManager().connection_form_widgets.values()
        fields = {widget.field_name for widget in widgets if widget.hook_class_name == "KlingHook"}
        password = ProvidersManager().field_behaviours["kling"]["relabeling"]["password"]
    else:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

        [kling] = [hook for hook in HookMetaService.hook_meta_data() if hook.connection_type == "kling"]
        fields = set(kling.extra_fields or ())
        standard = kling.standard_fields
        password = standard.password.title if standard and standard.password else None
    assert fields == set(EXTRAS), f"the form has the fields {sorted(fields)}"
    assert password == "API key", f"the form calls the password {password!r}"


def judge(report: Report, outcome: Outcome, sandbox: Sandbox, videos: Path) -> None:
    """Fill in the columns that tell of runs that have ended."""
    ledger = sandbox.ledger()
    examples = [task for task in outcome.tasks if task.dag_id not in RETRIED]
    waiting = [task for task in outcome.tasks if task.waits]
    with report.column("submit"):
        all_succeeded([task for task in examples if task.name == "generate"], count=VIDEOS - len(RETRIED))
        assert len(ledger) == VIDEOS, f"{len(ledger)} jobs were bought instead of {VIDEOS}"
    with report.column("wait"):
        all_succeeded([task for task in examples if task.waits], count=VIDEOS - len(RETRIED))
    with report.column("retry joins"):
        for dag_id, retried in RETRIED.items():
            [task] = [task for task in outcome.tasks if task.dag_id == dag_id]
            all_succeeded([task], count=1)
            assert task.attempts == 2, f"{dag_id} was tried {task.attempts} times"
            bought = sum(entry["request"].get("prompt") == retried.prompt for entry in ledger)
            assert bought == 1, f"{dag_id} was bought {bought} times"
        if outcome.records is not None:
            assert bool(outcome.records) != HAS_STATE_STORE, f"while it waited, there were {outcome.records}"
        assert not outcome.records_left, f"after success there are still {outcome.records_left}"
        expected = set(RETRIED) if IS_AIRFLOW_2 else set()
        assert outcome.test_runs == expected, f"these took themselves for test runs: {outcome.test_runs}"
    with report.column("transfer"):
        # The tasks of the batch store by themselves.
        stored = VIDEOS - len(RETRIED) - EXAMPLES["example_kling_batch"].count
        all_succeeded([task for task in examples if task.name == "store"], count=stored)
        for dag_id, example in EXAMPLES.items():
            found = [look_into(path) for path in (videos / dag_id).iterdir()]
            assert len(found) == example.count, f"{dag_id} stored {len(found)} files"
            for facts in found:
                assert abs(facts.seconds - example.video.seconds) < 0.1, f"{dag_id} stored {facts}"
                assert facts == VideoFacts(**{**vars(example.video), "seconds": facts.seconds}), facts
    with report.column("link"):
        bought_ids = sorted(entry["id"] for entry in ledger)
        led_to = sorted(Path(task.link or "").stem for task in waiting)
        assert led_to == bought_ids, f"the links lead to {led_to}, not to {bought_ids}"


def all_succeeded(tasks: list[Task], *, count: int) -> None:
    others = [str(task) for task in tasks if task.state != "success"]
    assert not others, ", ".join(others)
    assert len(tasks) == count, f"{len(tasks)} tasks instead of {count}"


def main(folder: Path, records: list[str]) -> int:
    """Write the report, and return the exit code."""
    if IS_AIRFLOW_2:
        from tests.versions.airflow_2 import RUN_SECONDS, run_dags
    else:
        from tests.versions.airflow_3 import RUN_SECONDS, run_dags
    report = Report()
    # First, as in an API server: Airflow looks at the forms of providers once in each process.
    with report.column("form"):
        check_form()
    with report.column("install"):
        check_installed()
    with (
        Sandbox(run_seconds=RUN_SECONDS, cache_dir=folder / "rendered") as sandbox,
        places(folder / "records", records) as environment,
    ):
        os.environ.update(environment)
        outcome = Outcome(tasks=[], records=None, records_left=set(), test_runs=set())
        with report.column("parse"):
            outcome = run_dags(sandbox, folder / "videos", records, report)
        print(*outcome.tasks, sep="\n")
        judge(report, outcome, sandbox, folder / "videos")
    (folder / "report.json").write_text(json.dumps(report.columns, indent=2))
    return int(any(report.columns.values()))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), sys.argv[2:]))
