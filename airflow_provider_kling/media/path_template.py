# SPDX-License-Identifier: Apache-2.0
"""Names of files with placeholders such as ``{slug}``, which are filled after Airflow's templates."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_kling.utils.file_names import safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACEHOLDERS = ("kling_task_id", "map_index", "model", "slug", "ext")
#: Placeholders that give each row of a mapped task its own file; with ``slug`` two rows may still meet.
DISTINCT = ("kling_task_id", "map_index", "slug")
#: Maximum length of a slug in characters, and in bytes of UTF-8.
MAX_SLUG, MAX_SLUG_BYTES = 60, 120
EXTENSIONS = ("mp4", "mov", "webm")

_NAMES = "|".join(PLACEHOLDERS)
_PLACEHOLDER = re.compile(rf"\{{({_NAMES})\}}")
_BRACES = re.compile(r"\{[^{}]*\}")
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_AS_JINJA = re.compile(rf"\{{\{{-?\s*({_NAMES})\b")


def template_problem(path: str) -> str | None:
    """
    Return what is wrong with the placeholders of a path that Airflow has not rendered yet, None if nothing is.

    :param path: The path as the DAG file has it; what stands inside Jinja's marks is Airflow's.
    """
    if found := _AS_JINJA.search(path):
        return f"has {found[0]}...}}}}, which is no variable of Airflow; write {{{found[1]}}}"
    for found in _BRACES.finditer(_JINJA.sub("", path)):
        if not _PLACEHOLDER.fullmatch(found[0]):
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            return f"has the unknown placeholder {found[0]}; there are {known}"
    return None


def is_distinct(path: str) -> bool:
    """Return whether a path gives every row of a mapped task another file, as far as one can tell beforehand."""
    is_template = bool(_JINJA.search(path))
    return is_template or path.endswith("/") or any(f"{{{name}}}" in path for name in DISTINCT)


def may_meet(path: str) -> bool:
    """Return whether two rows of a mapped task may have the same file, though :func:`is_distinct` is true."""
    return not path.endswith("/") and "{kling_task_id}" not in path and "{map_index}" not in path


def needs_task_id(path: str) -> bool:
    """Return whether the name of the file depends on the id of the job."""
    return path.endswith("/") or "{kling_task_id}" in path


def fill(path: str, values: Mapping[str, object]) -> str:
    """
    Return a path with its placeholders replaced, in one pass: nothing is replaced inside what one brought.

    A path that ends in ``/`` is a folder; the file is ``{kling_task_id}.{ext}`` there.

    :param path: The path after Airflow's templates were rendered.
    :param values: The value of each placeholder.
    """
    template = f"{path}{{kling_task_id}}.{{ext}}" if path.endswith("/") else path
    return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), template)


def file_values(
    *, kling_task_id: str, map_index: int | None, model: str | None, prompt: str | None, url: str | None = None
) -> dict[str, object]:
    """
    Return the value of each placeholder, as the part of one file name.

    :param kling_task_id: The Kling task.
    :param map_index: Index of the row; 0 where the task is not mapped (None or -1).
    :param model: The model, if it is known.
    :param prompt: The prompt, if it is known.
    :param url: The URL of the video, whose ending is taken if it is one of :data:`EXTENSIONS`.
    """
    task = safe_name(kling_task_id)
    ending = urlsplit(url or "").path.rpartition(".")[2].lower()
    return {
        "kling_task_id": task,
        "map_index": max(map_index or 0, 0),
        "model": safe_name(model) if model else "kling",
        "slug": slug(prompt or "") or task,
        "ext": ending if ending in EXTENSIONS else EXTENSIONS[0],
    }


def slug(text: str) -> str:
    """
    Return the beginning of a text as the part of a file name: its words in lower case, joined by ``-``.

    Letters and digits of any script are kept, with the marks that belong to them. It has at most
    :data:`MAX_SLUG` characters and :data:`MAX_SLUG_BYTES` bytes; a word is cut only if it is the first.

    :param text: A prompt.
    :return: The slug; empty if the text has neither a letter nor a digit.
    """
    # Lower case may take a composed letter apart.
    normal = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())
    found = ""
    for word in _words(normal):
        longer = f"{found}-{word}" if found else _cut(word)
        if len(longer) > MAX_SLUG or len(longer.encode()) > MAX_SLUG_BYTES:
            break
        found = longer
    return found


def _words(text: str) -> list[str]:
    kept = ""
    for character in text:
        category = unicodedata.category(character)
        # A mark belongs to the letter before it; a variation selector only says how an emoji looks.
        is_mark = category in ("Mn", "Mc") and kept[-1:].strip() != "" and not "\ufe00" <= character <= "\ufe0f"
        kept += character if category[0] == "L" or category == "Nd" or is_mark else " "
    return kept.split()


def _cut(word: str) -> str:
    return word[:MAX_SLUG].encode()[:MAX_SLUG_BYTES].decode(errors="ignore")
