# SPDX-License-Identifier: Apache-2.0
"""
What a Markdown page holds that can be wrong: code blocks, links, headings, names in backticks.

A Python block is a program of its own: whoever copies it has everything it needs. Comments right before a block,
which no reader of the rendered page sees, say where it is not:

- ``<!-- continues -->``: it goes on where the Python block before it ends.
- ``<!-- before: CODE -->``: what the reader is told in words to have already, on one line or several.
- ``<!-- inside a DAG -->``: it is the body of one.
- ``<!-- not run: REASON -->``: it is type-checked, but not run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

PYTHON = ("python", "py")
_COMMENT = re.compile(r"<!--\s*(continues|before|inside a DAG|not run)\b:?(.*?)-->", re.DOTALL)
_TARGET = re.compile(r"<(?:a|img)\b[^>]*?\b(?:href|src)\s*=\s*[\"']([^\"']+)", re.IGNORECASE)
_ANCHOR = re.compile(r"<\w+\b[^>]*?\b(?:id|name)\s*=\s*[\"']([^\"']+)", re.IGNORECASE)
_UNDEFINED = re.compile(r"\[[^\[\]]+\]\[[^\[\]]*\]")


class Line(NamedTuple):
    """A line of a program, and where it stands on a page."""

    text: str
    where: str


@dataclass(frozen=True)
class Block:
    """
    A fenced code block.

    :param language: What stands behind the fence; "" if nothing does.
    :param code: What it holds.
    :param where: Page and line of its first line, for messages.
    :param program: For Python: the lines that make it a whole program, itself included.
    :param not_run: Why it is not run; "" if it is.
    """

    language: str
    code: str
    where: str
    program: tuple[Line, ...] = ()
    not_run: str = ""


class Mention(NamedTuple):
    """Something that a page names, and where."""

    text: str
    where: str


@dataclass(frozen=True)
class Page:
    """
    A page, taken apart.

    :param path: Its file, from which its links lead.
    :param blocks: Its code blocks.
    :param links: The targets of its links and images; one that is defined nowhere as ``[text][name]``.
    :param spans: What it has in backticks.
    :param texts: Its paragraphs, headings, list items and table cells, as they read.
    :param anchors: What a link may have behind a ``#``.
    """

    path: Path
    blocks: Sequence[Block]
    links: Sequence[Mention]
    spans: Sequence[Mention]
    texts: Sequence[Mention]
    anchors: frozenset[str]


def read_page(path: Path, name: str) -> Page:
    """
    Return a page taken apart.

    :param path: Its file.
    :param name: Its name in messages.
    """
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text())
    inline = [
        (child, f"{name}:{token.map[0] + 1}") for token in tokens if token.map for child in token.children or ()
    ]
    html = [(token, f"{name}:{token.map[0] + 1}") for token in tokens if token.type == "html_block" and token.map]
    html += [(child, where) for child, where in inline if child.type == "html_inline"]
    links = [
        Mention(str(child.attrs["href" if child.type == "link_open" else "src"]), where)
        for child, where in inline
        if child.type in ("link_open", "image")
    ]
    links += [Mention(found, where) for token, where in html for found in _TARGET.findall(token.content)]
    links += [
        Mention(found, where)
        for child, where in inline
        if child.type == "text"
        for found in _UNDEFINED.findall(child.content)
    ]
    anchors = {*slugs(tokens), *(found for token, _ in html for found in _ANCHOR.findall(token.content))}
    return Page(
        path,
        tuple(_blocks(tokens, name)),
        links,
        [Mention(child.content, where) for child, where in inline if child.type == "code_inline"],
        [
            Mention("".join(_read(child) for child in token.children or ()), f"{name}:{token.map[0] + 1}")
            for token in tokens
            if token.type == "inline" and token.map
        ],
        frozenset(anchors),
    )


def slugs(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield the anchors that GitHub makes of the headings."""
    seen: Counter[str] = Counter()
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(
                child.content for child in heading.children or () if child.type in ("text", "code_inline")
            )
            slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            yield slug + (f"-{seen[slug]}" if seen[slug] else "")
            seen[slug] += 1


def _blocks(tokens: Sequence[Token], name: str) -> Iterator[Block]:
    told = ""
    before: tuple[Line, ...] = ()
    for token in tokens:
        if token.type == "html_block":
            told += token.content
            continue
        if token.type == "fence" and token.map:
            language = token.info.split()[0].lower() if token.info.strip() else ""
            where = f"{name}:{token.map[0] + 2}"
            if language in PYTHON:
                marks: dict[str, str] = dict(_COMMENT.findall(told))
                given = dedent(marks.get("before", "")).strip()
                program = (
                    *(before if "continues" in marks else ()),
                    *(Line(line, f"{where} (what stands before it)") for line in given.splitlines()),
                    *_body(token, name, inside_a_dag="inside a DAG" in marks),
                )
                before = program
                yield Block(language, token.content, where, program, marks.get("not run", "").strip())
            else:
                yield Block(language, token.content, where)
        told = ""


def _read(token: Token) -> str:
    return " " if token.type in ("softbreak", "hardbreak") else token.content


def _body(token: Token, name: str, *, inside_a_dag: bool) -> Iterator[Line]:
    first = (token.map or [0])[0] + 2
    if inside_a_dag:
        for line in ("from airflow.sdk import DAG", f"with DAG('line_{first}'):"):
            yield Line(line, f"{name}:{first} (the DAG around it)")
    for number, line in enumerate(token.content.splitlines(), first):
        yield Line("    " * inside_a_dag + line, f"{name}:{number}")
