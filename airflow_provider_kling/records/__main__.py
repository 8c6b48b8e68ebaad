# SPDX-License-Identifier: Apache-2.0
"""List and delete the records of paid jobs in ``[kling] state_path``."""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from airflow_provider_kling.exceptions import KlingError
from airflow_provider_kling.jobs.journal import Journal, Submit
from airflow_provider_kling.jobs.uncertain import iso
from airflow_provider_kling.records.folder import RecordFiles, records_in
from airflow_provider_kling.utils.file_names import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    if not options.path:
        print("No folder: set [kling] state_path, or pass --path", file=sys.stderr)
        return 2
    if options.command == "delete" and not (options.dag or options.run or options.older_than):
        print("Nothing selected: pass --dag, --run or --older-than", file=sys.stderr)
        return 2
    newest = time.time() - options.older_than.total_seconds() if options.older_than else None
    selected = (files for files in records_in(options.path) if _is_selected(files, options.dag, options.run))
    if options.command == "list":
        return _list(selected, newest)
    return _delete(selected, newest, force=options.force)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m airflow_provider_kling.records", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("list", "print one line for each submit"), ("delete", "delete whole records")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--dag", help="only records of this DAG id")
        command.add_argument("--run", help="only records of this run id")
        command.add_argument(
            "--older-than", type=_age, metavar="AGE", help="only records without newer events: 30d, 12h, 90m, 4w"
        )
        command.add_argument(
            "--path",
            default=conf.get("kling", "state_path", fallback=""),
            help="the folder (default: [kling] state_path)",
        )
    commands.choices["delete"].add_argument(
        "--force", action="store_true", help="also delete unreadable records, and submits of unknown fate"
    )
    return parser


def _age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d+)([mhdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not an age such as 30d, 12h, 90m or 4w")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _is_selected(files: RecordFiles, dag_id: str | None, run_id: str | None) -> bool:
    return (not dag_id or files.folders[0] == safe_name(dag_id)) and (
        not run_id or files.folders[1] == safe_name(run_id)
    )


def _list(selected: Iterator[RecordFiles], newest: float | None) -> int:
    for files in selected:
        name = " ".join(files.folders)
        try:
            events = files.events()
            submits = Journal(events).submits.values()
        except KlingError as error:
            print(f"{name}  unreadable: {error}")
            continue
        if newest is None or all(event["at"] < newest for event in events):
            for submit in submits:
                print(f"{name}  {iso(submit.sent_at)}  {_fate(submit)}  {submit.summary}")
    return 0


def _fate(submit: Submit) -> str:
    if submit.kling_task_ids:
        return f"Kling task {', '.join(submit.kling_task_ids)}"
    return {"unknown": "UNCERTAIN", "dismissed": f"dismissed by {submit.dismissed_by}"}.get(submit.fate, "nothing")


def _delete(selected: Iterator[RecordFiles], newest: float | None, *, force: bool) -> int:
    deleted = kept = 0
    for files in selected:
        name = " ".join(files.folders)
        # Listed before the events are read: objects that an attempt adds meanwhile were not checked.
        objects = files.names()
        age_known = True
        try:
            events = files.events()
            reason = "a submit of unknown fate" if Journal(events).unknown() else ""
            is_newer = newest is not None and any(event["at"] >= newest for event in events)
        except KlingError:
            reason, is_newer, age_known = "an unreadable record", False, newest is None
        if is_newer:
            continue
        if reason and not (force and age_known):
            option = "--force" if age_known else "--force without --older-than"
            print(f"kept {name}: {reason}; {option} deletes it, and the ids of paid jobs are then lost")
            kept += 1
            continue
        files.delete(objects)
        print(f"deleted {name}")
        deleted += 1
    print(f"{deleted} deleted, {kept} kept")
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(main())
