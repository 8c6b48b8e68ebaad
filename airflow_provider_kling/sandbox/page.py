# SPDX-License-Identifier: Apache-2.0
"""The sandbox's own page: its ledger and its jobs, and how to make trouble."""

from __future__ import annotations

import json
import time
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.sandbox.prompt_words import WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_provider_kling.sandbox.controls import Controls
    from airflow_provider_kling.sandbox.jobs import Job

REFRESH_SECONDS = 5
MOST_JOBS = 200
LONGEST_PROMPT = 300
#: The page has no script, and loads nothing.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
}
FAULTS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("Refuse the content of the next submit", {"on": "submit", "kind": "refuse_content"}),
    ("Have no free slot for the next three submits", {"on": "submit", "kind": "rate_limit", "times": 3}),
    (
        "Accept the next submit with boat in its prompt, and cut the connection before the response",
        {"on": "submit", "kind": "drop_after", "match": "boat"},
    ),
    ("Let the next job fail", {"on": "submit", "kind": "job_fails", "message": "bad luck"}),
    ("Answer the next ten status requests with 502", {"on": "status", "kind": "proxy_error", "times": 10}),
    ("Cut the next download in the middle", {"on": "content", "kind": "truncate"}),
)
ANSWERED = {True: "yes", False: "no: the connection was cut", None: "not yet"}
STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
section { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
td { min-width: 5rem; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
code, pre { font-size: .9rem; }
"""
_ABOUT = f"Its videos cost nothing. This page reloads every {REFRESH_SECONDS} seconds."
_HEAD = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<title>Kling sandbox</title>
<style>{STYLE}</style>
</head>
<body>"""


def page_of(controls: Controls, base_url: str) -> bytes:
    """
    Return the page as HTML in UTF-8. It needs no script, and reloads itself.

    :param controls: The state of the sandbox.
    :param base_url: The address under which the reader reached the sandbox.
    """
    jobs = list(controls.book.jobs.values())
    parts = (
        _HEAD,
        f"<h1>Kling sandbox</h1>\n<p>A local stand-in for Kling at {_code(base_url)}. {_ABOUT}</p>",
        _section("Ledger and jobs", _ledger(jobs, base_url)),
        _section("Words in a prompt that make trouble", _words(controls.prompt_words)),
        _section("Trouble from the command line", _commands(base_url)),
        _section("Active faults", _faults(controls.faults())),
        "</body>\n</html>\n",
    )
    # A fault may contain what is no Unicode: half of a pair of surrogates.
    return "\n".join(parts).encode(errors="replace")


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; its cells are HTML."""
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _ledger(jobs: Sequence[Job], base_url: str) -> str:
    control = f"{base_url}/_sandbox"
    links = " and ".join(f'<a href="{escape(f"{control}/{name}")}">{name}</a>' for name in ("ledger", "jobs"))
    if not jobs:
        return "<p>No submit was accepted yet.</p>"
    now = time.time()
    shown = jobs[: -MOST_JOBS - 1 : -1]
    beginning = f"The newest {len(shown)} of them" if len(shown) < len(jobs) else "All of them, newest first"
    return (
        f"<p>Accepted submits: {len(jobs)}. Kling would bill them. {beginning}; as JSON: {links}.</p>\n"
        + _table(
            ("Accepted", "State", "Prompt", "Model", "Seconds", "Response sent", "Task id"),
            [_row(job, base_url, now) for job in shown],
        )
    )


def _row(job: Job, base_url: str, now: float) -> Sequence[str]:
    text = job.request.text
    prompt = text if len(text) <= LONGEST_PROMPT else f"{text[:LONGEST_PROMPT]}…"
    accepted_at = datetime.fromtimestamp(job.accepted_at).astimezone()
    return (
        f"{accepted_at:%Y-%m-%d %H:%M:%S}",
        _state(job, base_url, now),
        escape(prompt),
        escape(job.request.model),
        str(job.request.seconds),
        ANSWERED[job.answered],
        _code(job.id),
    )


def _state(job: Job, base_url: str, now: float) -> str:
    seen = job.at(now)
    if seen.state == "completed":
        return f'<a href="{escape(f"{base_url}/files/{job.id}.mp4")}">completed</a>'
    if seen.state == "failed" and job.failure:
        return f"failed: {escape(job.failure.message)}"
    return f"{seen.state}, {seen.progress}&nbsp;%"


def _words(active: bool) -> str:
    if not active:
        return (
            "<p>They are off. The option <code>prompt_words=True</code> of <code>Sandbox</code> "
            "switches them on; on the command line they are on.</p>"
        )
    rows = [(_code(word), escape(meaning.meaning)) for word, meaning in WORDS.items()]
    return f"<p>Write one anywhere in a prompt.</p>\n{_table(('Word', 'What happens'), rows)}"


def _commands(base_url: str) -> str:
    control = f"{base_url}/_sandbox"
    lines = [f"# {meaning}\ncurl -s {control}/faults -d '{json.dumps(fault)}'" for meaning, fault in FAULTS]
    lines += [
        f"# Remove all faults\ncurl -s -X DELETE {control}/faults",
        f"# Finish a job now\ncurl -s -X POST {control}/jobs/TASK_ID/finish",
        f"# Forget all jobs, the ledger and the faults\ncurl -s -X POST {control}/reset",
    ]
    return f"<pre>{escape(chr(10).join(lines), quote=False)}</pre>"


def _faults(faults: Sequence[Mapping[str, Any]]) -> str:
    if not faults:
        return "<p>There are none.</p>"
    lines = "\n".join(json.dumps(fault, ensure_ascii=False, default=str) for fault in faults)
    return f"<pre>{escape(lines, quote=False)}</pre>"
