# SPDX-License-Identifier: Apache-2.0
"""
The fields of a response body, read with bounded work: their names, and which of them echo the request.

Gateways put the same fact in many places, and a body is untrusted. So a search is breadth-first, visits a bounded
number of values, and reads each value once.
"""

from __future__ import annotations

import json
import re
from collections import deque
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: Maximum number of values of a body that a search visits; a usual response has a few dozen.
MAX_VALUES = 600
#: Maximum depth of a search in a body.
MAX_DEPTH = 12
#: Maximum number of texts of a body that are decoded as JSON (``resultJson``), and maximum characters of each.
MAX_DECODED, MAX_DECODED_LENGTH = 4, 16 << 10
#: Maximum characters of a name that are read, and of a text that are shown.
MAX_NAME, MAX_SHOWN = 64, 300


def vocabulary(words: str) -> frozenset[str]:
    """Return the words of a space-separated text."""
    return frozenset(words.split())


#: Words in the names of fields that echo the request.
ECHO = vocabulary(
    """
    input inputs request requests param params parameter parameters payload arg args argument arguments option
    options config prompt prompts reference references ref refs source sources init initial driving control
    template conditioning guide guidance element elements subject subjects
    """
)
#: Words in the names of fields that describe an error; ``input_error`` does not echo the request.
ERROR = vocabulary(
    """
    error errors err errno fail failed failure failures reason reasons cause exception exceptions fault blocked
    refusal rejection
    """
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_A-Za-z0-9]+")
#: The kind of a job includes its input: ``image_to_video`` contains a video, and no image.
_KIND_OF_JOB = re.compile(
    r"(?:text|txt|image|img|video|frames?|start_end)[ _-]?(?:to|2)[ _-]?video", re.IGNORECASE
)


#: Words that also count inside a longer word.
_STEMS = (
    "image",
    "cover",
    "thumb",
    "poster",
    "preview",
    "frame",
    "input",
    "reference",
    "watermark",
    "video",
    "result",
)


class Field(NamedTuple):
    """
    A value of a body that is neither an object nor a list.

    :param name: Its name; the items of a list have the name of the list.
    :param around: The words in the names of all objects around it.
    :param value: The value.
    :param holder: The object that contains it, or the list around it.
    :param is_echo: Whether it echoes the request.
    :param is_inside: Whether it belongs to the first of the objects that were searched.
    """

    name: str
    around: frozenset[str]
    value: Any
    holder: Mapping[str, Any]
    is_echo: bool
    is_inside: bool


def words_of(name: str) -> frozenset[str]:
    """Return the words of a name in lower case, with any separators: ``firstFrame_url``."""
    return _words_of(name[:MAX_NAME])


@lru_cache(maxsize=4096)
def _words_of(name: str) -> frozenset[str]:
    words = {word.lower() for word in _WORD.findall(_KIND_OF_JOB.sub("video", name))}
    # Some names have no separators: failreason, errormsg, coverurl.
    for word in tuple(words):
        words.update(stem for stem in _STEMS if stem in word)
        if word.startswith(("error", "errmsg", "fail")) or word.endswith(("error", "reason")):
            words.add("error")
        if word.endswith(("msg", "message")):
            words.add("message")
    return frozenset(words)


def is_echo(name: str) -> bool:
    """Return whether a field of this name echoes the request."""
    words = words_of(name)
    return name == "extra_body" or (not words.isdisjoint(ECHO) and words.isdisjoint(ERROR))


def fields_of(first: Any, whole: Any = None, *, without: Collection[int] = ()) -> Iterator[Field]:
    """
    Yield the values of a body: those of one object first, then the others; higher levels before deeper ones.

    :param first: The object to start with.
    :param whole: The body around it; None to skip the rest.
    :param without: The ``id()`` of objects to skip.
    """
    search = _Search()
    yield from search.fields_of(first, without, is_inside=True)
    if whole is not None and whole is not first:
        yield from search.fields_of(whole, {id(first), *without}, is_inside=False)


class _Place(NamedTuple):
    name: str
    around: frozenset[str]
    holder: Mapping[str, Any]
    is_echo: bool
    depth: int


class _Search:
    """A search, with the number of values and texts that it may still read."""

    def __init__(self) -> None:
        self.values, self.texts = MAX_VALUES, MAX_DECODED

    def fields_of(self, root: Any, without: Collection[int], *, is_inside: bool) -> Iterator[Field]:
        left: deque[tuple[Any, _Place]] = deque([(root, _Place("", frozenset(), {}, is_echo=False, depth=0))])
        while left:
            value, place = left.popleft()
            if not isinstance(value, (dict, list)):
                yield Field(place.name, place.around, value, place.holder, place.is_echo, is_inside)
                value = self._decoded(value)
            if value is not None and place.depth < MAX_DEPTH:
                children = [child for child in self._children(value, place) if id(child[0]) not in without]
                self.values -= len(children)
                left.extend(children)

    def _children(self, value: dict[str, Any] | list[Any], place: _Place) -> Iterator[tuple[Any, _Place]]:
        if isinstance(value, list):
            inner = place._replace(depth=place.depth + 1)
            for child in islice(value, self.values):
                yield child, inner
            return
        around = place.around | words_of(place.name)
        for name, child in islice(value.items(), self.values):
            yield child, _Place(name, around, value, place.is_echo or is_echo(name), place.depth + 1)

    def _decoded(self, value: Any) -> Any:
        """Return the object or list that a text contains as JSON (``resultJson``), or None."""
        if not isinstance(value, str) or value[:1] not in ("{", "[") or len(value) > MAX_DECODED_LENGTH:
            return None
        if not self.texts:
            return None
        self.texts -= 1
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return None


def without_echoes(body: Any, room: int = 100) -> Any:
    """Return the beginning of a body without echoes of the request, for example the prompt."""
    left = [room]

    def pruned(value: Any, depth: int) -> Any:
        left[0] -= 1
        if isinstance(value, dict):
            fields = islice(value.items(), max(0, left[0])) if depth else ()
            return {name[:MAX_NAME]: pruned(child, depth - 1) for name, child in fields if not is_echo(name)}
        if isinstance(value, list):
            return [pruned(child, depth - 1) for child in islice(value, max(0, left[0]) if depth else 0)]
        return value[:MAX_SHOWN] if isinstance(value, str) else value

    return pruned(body, MAX_DEPTH)
