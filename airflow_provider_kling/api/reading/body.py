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

from airflow_provider_kling.api.reading.status_words import STATUS_NAMES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: Maximum number of values of a body that a search visits; a usual response has a few dozen.
MAX_VALUES = 600
#: Items of one list that a search looks at, so that a log does not use up all of them.
MAX_ITEMS = 40
#: Objects and lists among which the way to one of them is looked for.
MAX_CONTAINERS = 2000
#: Fields of an object among which one that says what it holds is looked for.
MAX_LABELS = 30
#: Levels of a body that a search looks at.
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
    template conditioning guide guidance element elements subject subjects kwargs req parent prev previous driven
    customer
    """
)
#: Words that do so in the name of a video: ``base_video_url``; and those that do so in that of a task, too.
_ECHO_OF_VIDEO = vocabulary("origin original base motion extend uploaded user")
ORIGIN = frozenset({"origin", "original"})
#: Words in the names of what a job has made; ``request_result`` does not repeat the request.
OUTPUTS = vocabulary("output outputs result results works creations generations artifacts assets")
_MADE = OUTPUTS | {"response", "video", "videos"}
#: Words in the names of fields that say what went wrong; ``input_error`` does not repeat the request.
ERROR = vocabulary(
    """
    error errors err errno fail failed failure failures reason reasons cause exception exceptions fault blocked
    refusal rejection 失败 失败原因 失败信息 错误 错误信息 错误原因 原因
    """
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_A-Za-z0-9]+")
#: The kind of a job includes its input: ``image_to_video`` contains a video, and no image.
_KIND_OF_JOB = re.compile(
    r"(?:text|txt|image|img|video|frames?|start_end|references?|ref|elements?|subjects?)[ _-]?(?:to|2)[ _-]?video",
    re.IGNORECASE,
)
#: Names of a prompt, and of the pictures that a video is made from; a cover may be called ``image``.
_PROMPT = re.compile(r"(?:negative|multi|text)?_?prompts?(?:_?text)?", re.IGNORECASE)
_INPUT_PICTURE = re.compile(
    r"(?:(?:first|start)_?(?:frame|image)|(?:tail|end|input|init|ref|reference)_?image|image_?tail)(?:_?urls?)?",
    re.IGNORECASE,
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
    :param holders: The objects around it, the outermost first.
    :param is_echo: Whether it repeats the request.
    :param is_beside_prompt: Whether it stands in an object that holds a prompt, and so may repeat the request.
    :param is_inside: Whether it belongs to the first of the objects that were searched.
    """

    name: str
    around: frozenset[str]
    value: Any
    holders: tuple[Mapping[str, Any], ...]
    is_echo: bool
    is_beside_prompt: bool
    is_inside: bool

    @property
    def holder(self) -> Mapping[str, Any]:
        """The object that it, or the list around it, stands in."""
        return self.holders[-1] if self.holders else {}


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
        if word.endswith(("msg", "msgs", "message")):
            words.add("message")
    return frozenset(words)


def is_echo(name: str) -> bool:
    """Return whether a field of this name echoes the request."""
    words = words_of(name)
    if name == "extra_body":
        return True
    if not words.isdisjoint(ERROR) or not words.isdisjoint(OUTPUTS):
        return False
    if not words.isdisjoint(ECHO) or ("task" in words and not words.isdisjoint(ORIGIN)):
        return True
    return "video" in words and not words.isdisjoint(_ECHO_OF_VIDEO)


def objects_around(whole: Any, inner: Any) -> list[Any]:
    """Return the objects and lists of a body around one of its objects, the outermost first."""
    left: deque[tuple[Any, int, int]] = deque([(whole, -1, 0)])
    seen: list[tuple[Any, int]] = []
    while left and len(seen) < MAX_CONTAINERS:
        value, around, depth = left.popleft()
        if value is inner:
            path = []
            while around >= 0:
                value, around = seen[around]
                path.append(value)
            return path[::-1]
        seen.append((value, around))
        if depth < 2 * MAX_DEPTH:
            children = islice(value.values() if isinstance(value, dict) else value, MAX_CONTAINERS)
            here = len(seen) - 1
            left.extend((child, here, depth + 1) for child in children if isinstance(child, (dict, list)))
    return []


def fields_of(first: Any, whole: Any = None, *, without: Collection[int] = ()) -> Iterator[Field]:
    """
    Yield the values of a body: those of one object first, then the others; higher levels before deeper ones.

    :param first: The object to start with.
    :param whole: The body around it; None to skip the rest.
    :param without: The ``id()`` of objects to skip.
    """
    search = _Search([first, *objects_around(whole, first)] if isinstance(whole, (dict, list)) else [first])
    yield from search.fields_of(first, without, is_inside=True)
    if whole is not None and whole is not first:
        yield from search.fields_of(whole, {id(first), *without}, is_inside=False)


class _Place(NamedTuple):
    name: str
    around: frozenset[str]
    holders: tuple[Mapping[str, Any], ...]
    is_echo: bool
    is_beside_prompt: bool
    depth: int


_ROOT = _Place("", frozenset(), (), is_echo=False, is_beside_prompt=False, depth=0)


class _Search:
    """
    A search, and what it may still look at.

    :param jobs: The object that speaks of the job, and those around it: they may hold the prompt as well.
    """

    def __init__(self, jobs: list[Any]) -> None:
        self.values, self.texts = MAX_VALUES, MAX_DECODED
        self.jobs = {id(job) for job in jobs}

    def fields_of(self, root: Any, without: Collection[int], *, is_inside: bool) -> Iterator[Field]:
        left: deque[tuple[Any, _Place]] = deque([(root, _ROOT)])
        while left:
            value, place = left.popleft()
            if not isinstance(value, (dict, list)):
                yield Field(
                    place.name,
                    place.around,
                    value,
                    place.holders,
                    place.is_echo,
                    place.is_beside_prompt,
                    is_inside,
                )
                value = self._decoded(value)
            if value is not None and place.depth < MAX_DEPTH:
                children = list(self._children(value, place, without))
                self.values -= len(children)
                left.extend(children)

    def _children(
        self, value: dict[str, Any] | list[Any], place: _Place, without: Collection[int]
    ) -> Iterator[tuple[Any, _Place]]:
        if isinstance(value, list):
            inner = place._replace(depth=place.depth + 1)
            first = islice(value, MAX_CONTAINERS)
            items = (item for item in first if isinstance(item, (str, dict, list)) and id(item) not in without)
            for item in islice(items, min(MAX_ITEMS, self.values)):
                yield item, inner
            return
        around = place.around | words_of(place.name)
        is_error = not around.isdisjoint(ERROR)
        is_beside_prompt = place.is_beside_prompt or (
            not is_error and id(value) not in self.jobs and around.isdisjoint(_MADE) and repeats_request(value)
        )
        # An error names the field that it is about; beside a message, that field is repeated.
        may_repeat = not is_error or _holds_message(value)
        holders = (*place.holders, value)
        # No ids are asked for where none are left out: an object may have thousands of fields.
        children = ((name, child) for name, child in value.items() if id(child) not in without)
        for name, child in islice(children if without else value.items(), self.values):
            echo = place.is_echo or (may_repeat and is_echo(name) and not _is_result_payload(name, child))
            yield child, _Place(name, around, holders, echo, is_beside_prompt, place.depth + 1)

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


def repeats_request(value: Mapping[str, Any]) -> bool:
    """Return whether an object holds what a request holds, and no status."""
    if any(name in value for name in STATUS_NAMES):
        return False
    names = islice(value, MAX_LABELS)
    return any(_PROMPT.fullmatch(name) or _INPUT_PICTURE.fullmatch(name) for name in names if len(name) < MAX_NAME)


def _holds_message(value: Mapping[str, Any]) -> bool:
    return any("message" in words_of(name) for name in islice(value, MAX_LABELS))


def _is_result_payload(name: str, value: Any) -> bool:
    """Return whether a ``payload`` is the job's: it holds no prompt, and no picture."""
    if name.lower() != "payload" or not isinstance(value, dict) or repeats_request(value):
        return False
    return not any("image" in words_of(inner) for inner in islice(value, MAX_LABELS))


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
