# SPDX-License-Identifier: Apache-2.0
"""What can be checked of a page; each check returns what is wrong, a sentence each with its place."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from configparser import ConfigParser
from configparser import Error as ConfigError
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from urllib.parse import unquote, urlsplit

import yaml
from airflow.models.connection import Connection

from airflow_provider_kling.client.lookup import connection_from
from airflow_provider_kling.exceptions import KlingError
from tests.docs.pages import PYTHON, Block, Mention, Page, read_page

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_kling"
SHELL = ("bash", "sh")
_FILE_SUFFIXES = (".py", ".md", ".toml", ".yml", ".yaml", ".cfg", ".ini", ".json", ".sh", ".typed")
_PATH = re.compile(r"\.?[\w-][\w.-]*(?:/[\w.-]+)*/?")
_DOTTED = re.compile(rf"{PACKAGE}(?:\.\w+)+")
_MYPY_LINE = re.compile(r"^(block_\d+)\.py:(\d+): error: (.*)$", re.MULTILINE)
_SEPARATORS = frozenset("();<>|&\n")
#: The part of Mermaid that the pages use: a flowchart of labelled nodes, and arrows between them.
_MERMAID_NODE = re.compile(r"(\w+)(?:\[\"[^\"\]]+\"\]|\[\(\"[^\"\]]+\"\)\])")
_MERMAID_ARROW = re.compile(r"(\w+) (?:-->|-\.->)(?:\|\"[^\"|]+\"\|)? (\w+)")
_MERMAID_OTHER = re.compile(r"flowchart (?:TD|LR)|subgraph \w+\[\"[^\"\]]+\"\]|end")
_SENTENCE_END = re.compile(r"(?<=[.!?:;])\s+")
#: Words from which on two equal texts are the same sentence, and no term.
_SENTENCE_WORDS = 6
#: What the dots at the end of a key stand for.
_REST_OF_KEY = "0123456789abcdef"
#: What make and the tools of a checkout leave in it.
_MADE = (".venv/", ".build/", ".cache/")


def _ini(text: str) -> None:
    ConfigParser(interpolation=None).read_string(text)


def _yaml(text: str) -> None:
    list(yaml.safe_load_all(text))


def _shell(text: str) -> None:
    done = subprocess.run([which("bash") or "bash", "-n"], input=text, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        raise ValueError(done.stderr.strip())


def _mermaid(text: str) -> None:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("flowchart "):
        raise ValueError("a flowchart begins with its direction")
    nodes = {found[1] for line in lines if (found := _MERMAID_NODE.fullmatch(line))}
    for line in lines:
        if arrow := _MERMAID_ARROW.fullmatch(line):
            if unknown := {arrow[1], arrow[2]} - nodes:
                raise ValueError(f"{line!r} names {min(unknown)}, which is no node")
        elif not _MERMAID_NODE.fullmatch(line) and not _MERMAID_OTHER.fullmatch(line):
            raise ValueError(f"{line!r} is neither a node nor an arrow")
    if sum(line.startswith("subgraph ") for line in lines) != lines.count("end"):
        raise ValueError("a subgraph has no end")


def _nothing(text: str) -> None:
    """Text is free."""


PARSERS: dict[str, Callable[[str], object]] = {
    **dict.fromkeys(PYTHON, ast.parse),
    **dict.fromkeys(SHELL, _shell),
    "json": json.loads,
    "toml": tomllib.loads,
    **dict.fromkeys(("yaml", "yml"), _yaml),
    **dict.fromkeys(("ini", "cfg"), _ini),
    "mermaid": _mermaid,
    "text": _nothing,
}


def parse_problems(block: Block) -> list[str]:
    """Check that a block is what it says it is."""
    parse = PARSERS.get(block.language)
    if parse is None:
        known = ", ".join(PARSERS)
        return [f"{block.where}: a block in {block.language or 'no language'}; known are {known}"]
    try:
        parse(block.code)
    except (ValueError, SyntaxError, ConfigError, yaml.YAMLError) as error:
        return [f"{block.where}: no {block.language}: {error}"]
    return []


def type_problems(blocks: Sequence[Block], folder: Path) -> list[str]:
    """
    Have mypy check every Python block as a program of its own.

    :param blocks: The blocks.
    :param folder: An empty folder to write them to.
    """
    for number, block in enumerate(blocks):
        (folder / f"block_{number}.py").write_text("".join(f"{line.text}\n" for line in block.program))
    (folder / "mypy.ini").write_text(
        "[mypy]\ncheck_untyped_defs = true\nfollow_imports = silent\nwarn_unreachable = true\n"
        f"mypy_path = {CHECKOUT}\nhide_error_codes = true\n"
    )
    # With a cache of its own: what was checked with other options would be thrown away.
    cache = CHECKOUT / ".cache" / "mypy-docs"
    command = [sys.executable, "-m", "mypy", "--config-file=mypy.ini", f"--cache-dir={cache}"]
    files = sorted(path.name for path in folder.glob("block_*.py"))
    done = subprocess.run([*command, *files], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = []
    for name, line, message in _MYPY_LINE.findall(done.stdout):
        block = blocks[int(name.removeprefix("block_"))]
        found.append(f"{block.program[int(line) - 1].where}: {message}")
    assert bool(found) == bool(done.returncode), done.stdout
    return sorted(set(found))


def run_problems(block: Block, folder: Path, environment: dict[str, str]) -> list[str]:
    """
    Run a Python block: as Airflow does if it makes a DAG, or else as Python does.

    :param block: The block.
    :param folder: An empty folder, for the block and for Airflow.
    :param environment: What it finds in the environment besides.
    """
    file = folder / "block.py"
    file.write_text("".join(f"{line.text}\n" for line in block.program))
    makes_dag = any(re.match(r"@dag\b|\s*with DAG\(", line.text) for line in block.program)
    command = (
        [sys.executable, "-m", "tests.docs.parse_dag", str(file)] if makes_dag else [sys.executable, str(file)]
    )
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ
        | {"AIRFLOW_HOME": str(folder), "PYTHONPATH": str(CHECKOUT), "AIRFLOW__SECRETS__BACKEND": ""}
        | {"AIRFLOW__WORKERS__SECRETS_BACKEND": ""}
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == 0:
        return []
    last = "\n".join(f"{done.stdout}\n{done.stderr}".strip().splitlines()[-12:])
    return [f"{block.where}: it ends with {done.returncode}:\n{last}"]


def command_problems(page: Page) -> list[str]:
    """Check the commands of shell blocks and of backticks: make's targets, Python's modules, pip's extras."""
    shown = [Mention(block.code, block.where) for block in page.blocks if block.language in SHELL]
    shown += [span for span in page.spans if re.match(r"make |python\S* -m |pip install ", span.text)]
    return [
        f"{where}: {problem}" for text, where in shown for words in commands(text) for problem in _wrong_in(words)
    ]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each simple command, without redirections, comments and assignments before it."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="".join(_SEPARATORS))
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    in_comment = False
    for word in [*lexer, "\n"]:
        if _SEPARATORS.issuperset(word):
            in_comment = in_comment and "\n" not in word
            if words and not in_comment:
                yield words
                words = []
        elif word.startswith("#"):
            in_comment = True
        elif not in_comment and (words or not re.match(r"\w+=", word)):
            words.append(word)


def connection_problems(page: Page) -> list[str]:
    """Check that each connection of a shell block is one that the hook accepts, with extras that it reads."""
    return [
        f"{block.where}: {problem}"
        for block in page.blocks
        if block.language in SHELL
        for value in re.findall(r"^export AIRFLOW_CONN_\w+='([^']+)'$", block.code, re.MULTILINE)
        for problem in _wrong_with_connection(value.replace("...", _REST_OF_KEY))
    ]


def _wrong_with_connection(value: str) -> Iterator[str]:
    found = Connection.from_json(value) if value.startswith("{") else Connection(uri=value)
    try:
        connection = connection_from("kling_default", found, found.extra_dejson)
    except KlingError as error:
        yield str(error)
    else:
        yield from (f"the extra {name} is not read" for name in connection.unknown_extras)


def _wrong_in(words: list[str]) -> Iterator[str]:
    program, *rest = words
    if Path(program).name == "make":
        targets = set(re.findall(r"^([\w-]+):(?!=)", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
        for word in rest:
            if re.fullmatch(r"[A-Za-z][\w-]*", word) and word not in targets:
                yield f"make has no target {word}"
    elif re.fullmatch(r"python[\d.]*", Path(program).name) and "-m" in rest[:-1]:
        module = rest[rest.index("-m") + 1]
        if not _runs(module):
            yield f"Python has no module {module} to run"
    elif Path(program).name == "pip":
        extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for listed in re.findall(r"^(?:\.|airflow-provider-kling)\[(.*?)\]", "\n".join(rest), re.MULTILINE):
            for extra in listed.split(","):
                if extra.strip() not in extras:
                    yield f"the package has no extra {extra.strip()}"


def _runs(module: str) -> bool:
    try:
        spec = find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = find_spec(f"{module}.__main__")
    except ModuleNotFoundError:
        return False
    return spec is not None


def link_problems(page: Page, root: Path = CHECKOUT) -> list[str]:
    """Check that every link inside the repository leads to a file, and to a heading of it if it names one."""
    return [f"{where}: {problem}" for target, where in page.links if (problem := _wrong_with(target, page, root))]


def _wrong_with(target: str, page: Page, root: Path) -> str:
    if re.match(r"\[[^\[\]]+\]\[", target):
        return f"{target} is defined nowhere"
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return ""
    path = unquote(parts.path)
    file = root / path.lstrip("/") if path.startswith("/") else page.path.parent / path if path else page.path
    file = file.resolve()
    if not file.is_relative_to(root.resolve()) or not file.exists():
        return f"the link {target} leads to no file"
    fragment = unquote(parts.fragment)
    if not fragment or (file.suffix != ".md" and re.fullmatch(r"L\d+(-L\d+)?", fragment)):
        return ""
    anchors = page.anchors if file == page.path.resolve() else frozenset[str]()
    if file.suffix == ".md" and file != page.path.resolve():
        anchors = read_page(file, file.name).anchors
    return "" if fragment in anchors else f"the link {target} leads to no heading"


def name_problems(page: Page, root: Path = CHECKOUT) -> list[str]:
    """
    Check that what looks like a path of the repository or a name of the package, in backticks, is one.

    A path may begin at the page, the checkout or the package; a bare name may be that of any file of ours, since
    the folder is often named in the words around it. In a drawing, where nothing has backticks, every word counts.
    """
    drawn = [
        Mention(word, block.where)
        for block in page.blocks
        if block.language == "mermaid"
        for word in re.split(r"[\s\"|,;()\[\]]+|<br/?>", block.code)
    ]
    return [
        f"{where}: there is no {text}"
        for text, where in [*page.spans, *drawn]
        if (looks_like_path(text, root) and not _is_path(text, page, root))
        or (_DOTTED.fullmatch(text) and not _resolves(text))
    ]


def repeated_sentences(pages: Iterable[Page]) -> list[str]:
    """Check that no sentence stands twice: of two, one is forgotten when the fact changes."""
    places: dict[str, list[str]] = defaultdict(list)
    for page in pages:
        for text, where in page.texts:
            for sentence in _SENTENCE_END.split(text):
                words = sentence.split()
                if len(words) >= _SENTENCE_WORDS:
                    places[" ".join(words).lower().rstrip(".!?:;")].append(where)
    return [f"{', '.join(found)}: {sentence}" for sentence, found in places.items() if len(found) > 1]


def looks_like_path(text: str, root: Path = CHECKOUT) -> bool:
    """Return whether a text in backticks can only be meant as a path of the repository."""
    if not _PATH.fullmatch(text) or text.startswith(_MADE):
        return False
    if text.endswith(("/", *_FILE_SUFFIXES)):
        return True
    first, slash, _ = text.partition("/")
    return bool(slash) and any((base / first).is_dir() for base in (root, root / PACKAGE))


def _is_path(text: str, page: Page, root: Path) -> bool:
    folders: Iterable[Path] = (page.path.parent, root, root / PACKAGE)
    if any((folder / text).exists() for folder in folders):
        return True
    return "/" not in text and any(any((root / top).rglob(text)) for top in (PACKAGE, "tests", "example_dags"))


def _resolves(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True
