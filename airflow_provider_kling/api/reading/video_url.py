# SPDX-License-Identifier: Apache-2.0
"""
Find the URL of the finished video.

The documented places go first. Gateways have many others, so the whole body is searched after that, by the names
of fields and by their values. An echoed input, a picture of the video, and an address of the API itself are never
used; a copy with a watermark only if there is no clean one.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from airflow_provider_kling.api.reading.body import (
    ECHO,
    MAX_LABELS,
    ORIGIN,
    OUTPUTS,
    Field,
    fields_of,
    is_echo,
    repeats_request,
    vocabulary,
    words_of,
)
from airflow_provider_kling.api.reading.job_object import status_word_in, task_id_in
from airflow_provider_kling.utils.text import as_mapping, clean_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

#: Maximum characters of a video's URL, including its signature.
MAX_URL = 8192

#: Words in names of files that belong to a video, but are not it.
_NO_VIDEO = vocabulary(
    """
    image images img imgs photo photos picture pictures pic frame frames keyframe keyframes firstframe lastframe
    tail cover covers thumbnail thumbnails thumb thumbs poster posters preview previews snapshot snapshots
    screenshot sprite icon avatar logo gif audio audios music sound voice speech mask subtitle subtitles caption
    captions srt vtt lyrics text bgm tts background garment lora loras license invoice payment upload presigned put
    callback callbacks webhook webhooks hook hooks notify redirect
    """
)
#: Words in names of what repeats the request, or shows the videos of others; an error may stand there as well.
_NOT_MADE = vocabulary(
    """
    query submit settings setting spec form properties messages recent history related example examples demo
    tutorial ads
    """
)
#: Words in names of addresses that a person is led to afterwards: ``success_url``, ``return_url``.
_LED_TO, _LINK = vocabulary("success error return back"), vocabulary("url urls uri link")
#: Words in names of addresses that lead to a page or to the API itself.
_NO_FILE = vocabulary(
    """
    status cancel get stream poll polling query queue web page share docs doc help support console billing
    edit delete terms homepage website site host domain origin endpoint base api
    response detail details next prev schema log logs model user project proxy
    """
)
#: Words in names of a result.
_RESULT = vocabulary(
    """
    url urls uri output outputs result results file files download downloads resource resources asset assets work
    works src creation creations generation generations generated artifact artifacts media content sample samples
    clip clips data mp4 movie
    """
)
_VIDEO = frozenset({"video", "videos", "mp", "movie"})
#: The end of a kind of job: ``REFERENCE_2_VIDEO``.
_TO_VIDEO = re.compile(r"(?:to|2)[ _-]?video", re.IGNORECASE)
_WATERMARK = frozenset({"watermark", "watermarks", "watermarked", "wm", "nwm"})
_CLEAN = frozenset({"without", "no", "non", "free", "clean", "remove", "removed", "un", "nwm"})
#: Words in the names of fields that say what stands beside them, and names that do so alone.
_LABELS, _LABEL_NAMES = vocabulary("type role kind format mime"), ("name", "key", "field", "label")
#: How the path of a video ends; ``/content`` is where gateways of this family serve it.
_VIDEO_FILE = re.compile(r"\.(?:mp4|mov|webm|m4v|mkv|avi|mpe?g|ogv|flv)$|/content$", re.IGNORECASE)
#: A list of pieces rather than a file.
_PLAYLIST = re.compile(r"\.(?:m3u8?|mpd)$", re.IGNORECASE)
#: Where a path leads on the machine of the server, and not on the web.
_LOCAL = re.compile(r"/(?:tmp|home|root|var|mnt|opt|usr|workspace)/")
#: Parts of the path of a job's status, and what may follow the job's id in them.
_ROUTES = vocabulary(
    """
    videos video tasks task jobs job predictions requests generations generation status query
    image2video text2video
    """
)
_AFTER_ID = vocabulary("status result results response cancel get fetch")
_OTHER_FILE = re.compile(
    r"\.(?:png|jpe?g|webp|gif|bmp|svg|avif|heic|tiff?|ico|mp3|wav|m4a|aac|flac|ogg|opus|json|html?|xml|txt|md|pdf"
    r"|srt|vtt|zip|tar|gz|safetensors|ckpt|js|css|php)$",
    re.IGNORECASE,
)
_MARKED_FILE = re.compile(
    r"(?<![a-z])(no[_-]?|non[_-]?|without[_-]?|un|free[_-]?)?(?:water_?mark|wm(?![a-z]))", re.IGNORECASE
)
_MARKED_FOLDER = re.compile(r"/(?:water_?mark(?:s|ed)?|wm)/", re.IGNORECASE)
#: A video without a watermark goes before one of which nothing is known, and one with a watermark last.
_IS_CLEAN, _IS_UNKNOWN, _IS_MARKED = range(3)


def video_url(
    fields: Mapping[str, Any], body: Any = None, *, without: Collection[int] = (), kling_task_id: str = ""
) -> str | None:
    """
    Return the URL of the finished video, or None.

    :param fields: The object that describes the job.
    :param body: The body around it.
    :param without: The ``id()`` of objects that concern other jobs.
    :param kling_task_id: The id that the job was asked for by; addresses of its status end in it.
    """
    echoed: set[str] = set()
    ids = {kling_task_id, task_id_in(fields) or kling_task_id}
    labels = _Labels()
    found: list[tuple[int, bool, int, int, str]] = []
    for place, field in enumerate(fields_of(fields, body, without=without)):
        url = _address(field.value)
        if url is None:
            continue
        if field.is_echo or _is_echoed_picture(field):
            # An original may be the result, where the server keeps a copy of it.
            if words_of(field.name).isdisjoint(ORIGIN):
                echoed.add(url)
            continue
        if field.is_beside_prompt or _is_status_route(url, ids):
            continue
        rank = _rank(field, url, labels.kind_of(field.holders))
        if rank is None or (url[0] == "/" and (rank > 2 or _LOCAL.match(url))):
            continue
        is_second = url[0] == "/" or "progress" in words_of(field.name) or bool(_PLAYLIST.search(_path(url)))
        found.append((_mark_of(field, url, labels), is_second, rank, place, url))
    for place, text in enumerate(_documented(fields)):
        url = _address(text, may_be_relative=True)
        if url and not _OTHER_FILE.search(_path(url)) and not _is_status_route(url, ids):
            mark = _mark_in_url(url) or labels.mark_of(fields) or _IS_UNKNOWN
            found.append((mark, bool(_PLAYLIST.search(_path(url))), -1, place, url))
    found.sort()
    return next((url for *_, url in found if url not in echoed), None)


def _documented(fields: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the value in the documented place, and then those in places that many gateways share."""
    documented = as_mapping(fields.get("metadata")).get("url")
    parts = (as_mapping(fields.get(name)) for name in ("metadata", "data", "task_result"))
    metadata, data, result = ({} if repeats_request(part) else part for part in parts)
    yield from (fields.get("video_url"), fields.get("url"), documented, metadata.get("video_url"))
    yield from (fields.get("output_url"), fields.get("result_url"), data.get("result_url"), data.get("video_url"))
    for holder in (result, as_mapping(data.get("task_result"))):
        videos = holder.get("videos")
        yield from (as_mapping(video).get("url") for video in videos[:1]) if isinstance(videos, list) else ()


def _rank(field: Field, url: str, label: bool | None) -> int | None:
    """
    Return the rank of a URL, 0 for the most likely URL of the video; None if it is not one.

    :param label: Whether the other fields of its object label it as a video.
    """
    name, path = words_of(field.name), _path(url)
    words = name | field.around
    is_video_file = bool(_VIDEO_FILE.search(path))
    if label is False or _OTHER_FILE.search(path) or _names_no_video(name, words, is_video_file=is_video_file):
        return None
    if _mark_in_words(name) == _IS_CLEAN:
        return 0
    is_video = label is True or not words.isdisjoint(_VIDEO)
    is_result = not words.isdisjoint(_RESULT)
    if is_video_file:
        return 1 if is_video else 2 if is_result else 4
    if is_video:
        return 3
    return 5 if not name.isdisjoint(_RESULT) else 6 if not field.around.isdisjoint(OUTPUTS) else None


def _names_no_video(name: frozenset[str], words: frozenset[str], *, is_video_file: bool) -> bool:
    """
    Return whether a field's name, or those around it, are no video's.

    :param name: The words in its name.
    :param words: Those and the words in the names of the objects around it.
    """
    if not words.isdisjoint(_NO_VIDEO | _NOT_MADE) or {"call", "back"} <= name:
        return True
    if not name.isdisjoint(_LED_TO) and not name.isdisjoint(_LINK) and name.isdisjoint(_VIDEO):
        return True
    return not is_video_file and not name.isdisjoint(_NO_FILE)


def _is_echoed_picture(field: Field) -> bool:
    """Return whether the name of a field means a picture that the video was made from."""
    return not words_of(field.name).isdisjoint({"image", "images", "frame", "frames", "keyframes", "img", "photo"})


def _is_status_route(url: str, ids: Collection[str]) -> bool:
    """Return whether an address is that of the API for the job, and not of its file."""
    parts = _path(url).split("/")[-8:]
    if len(parts) > 1 and parts[-1].lower() in _AFTER_ID:
        parts.pop()
    return parts[-1] != "" and parts[-1] in ids and any(part.lower() in _ROUTES for part in parts[:-1])


def _mark_of(field: Field, url: str, labels: _Labels) -> int:
    """Return whether a video has a watermark: by its name, by what stands beside it, and by its URL."""
    words = words_of(field.name) | field.around
    for mark in (_mark_in_words(words), labels.mark_of(field.holder), _mark_in_url(url)):
        if mark is not None:
            return mark
    return _IS_UNKNOWN


def _mark_in_words(words: frozenset[str]) -> int | None:
    if words.isdisjoint(_WATERMARK) and not {"water", "mark"} <= words:
        return None
    return _IS_MARKED if words.isdisjoint(_CLEAN) else _IS_CLEAN


def _mark_in_url(url: str) -> int | None:
    path = _path(url)
    found = _MARKED_FILE.search(path.rpartition("/")[2])
    if found is not None:
        return _IS_UNKNOWN if found[1] else _IS_MARKED
    return _IS_MARKED if _MARKED_FOLDER.search(path) else None


class _Labels:
    """What objects say of what they hold, each read once."""

    def __init__(self) -> None:
        #: By the ``id()`` of an object: the object, which must live as long as that, and what it says.
        self._read: dict[int, tuple[Mapping[str, Any], frozenset[bool | None], int | None]] = {}

    def kind_of(self, holders: tuple[Mapping[str, Any], ...]) -> bool | None:
        """Return whether the objects around a URL say that it is a video's; the nearest that says so counts."""
        verdicts = [self._of(holder)[1] for holder in reversed(holders)]
        if any(None in verdict for verdict in verdicts):
            return False
        verdict = next(filter(None, verdicts), frozenset[bool | None]())
        return False if False in verdict else True if True in verdict else None

    def mark_of(self, holder: Mapping[str, Any]) -> int | None:
        """Return whether an object says that its video has a watermark; None if it does not say."""
        return self._of(holder)[2]

    def _of(self, holder: Mapping[str, Any]) -> tuple[Mapping[str, Any], frozenset[bool | None], int | None]:
        if id(holder) not in self._read:
            self._read[id(holder)] = holder, *_labels_of(holder)
        return self._read[id(holder)]


def _labels_of(holder: Mapping[str, Any]) -> tuple[frozenset[bool | None], int | None]:
    """Return what the fields of an object say: of what kind it is, None for an input, and of its watermark."""
    kinds: set[bool | None] = set()
    mark = None
    if status_word_in(holder):
        return frozenset(), None  # what they say is about the job: it may be made from an image
    for name, value in islice(holder.items(), MAX_LABELS):
        if isinstance(value, bool):
            said = _mark_in_words(words_of(name))
            if said is not None:
                mark = said if value else _IS_MARKED + _IS_CLEAN - said
        elif isinstance(value, str) and len(value) < 80 and _is_label(name):
            kinds.update(_kind(value))
            said = _mark_in_words(words_of(value))
            mark = mark if said is None else said
    return frozenset(kinds), mark


def _is_label(name: str) -> bool:
    return name in _LABEL_NAMES or (not words_of(name).isdisjoint(_LABELS) and not is_echo(name))


@lru_cache(maxsize=1024)
def _kind(label: str) -> tuple[bool | None, ...]:
    """Return whether a word such as ``video/mp4`` or ``cover.png`` stands for a video; None for an input."""
    if _VIDEO_FILE.search(label) or _TO_VIDEO.search(label):
        return (True,)
    if " " in label or not label.isascii():  # a title that a person gave
        return ()
    words = words_of(label)
    if not words.isdisjoint(ECHO):
        return (None,)
    if not words.isdisjoint(_NO_VIDEO):
        return (False,)
    return (True,) if not words.isdisjoint(_VIDEO) else ()


def _address(value: Any, *, may_be_relative: bool = False) -> str | None:
    """
    Return the URL of a file on the web that a value holds.

    A path on the server must begin with a slash and end as a video does, except in a documented place.
    """
    if not isinstance(value, str) or not 0 < len(value) <= MAX_URL + 100:
        return None
    start = value.lstrip()[:4].lower()
    is_address = start[:1] == "/" and start[:2] != "//" and bool(_VIDEO_FILE.search(_path(value.strip())))
    if not may_be_relative and not is_address and start != "http":
        return None
    text = clean_text(value)
    if not 0 < len(text) <= MAX_URL:
        return None
    try:
        parts = urlsplit(text)
        has_host, _ = bool(parts.hostname), parts.port
    except ValueError:
        return None
    if parts.scheme:
        is_address = parts.scheme in ("http", "https") and has_host
    else:
        is_address = is_address or (may_be_relative and (text[0] == "/" or bool(_VIDEO_FILE.search(parts.path))))
    if not is_address or (len(text.split()) != 1 and not _is_path_with_spaces(text, parts)):
        return None
    return text.replace(" ", "%20")


def _is_path_with_spaces(text: str, parts: SplitResult) -> bool:
    """Return whether single spaces stand in a URL, and nowhere but in the path of its video."""
    if not _VIDEO_FILE.search(parts.path) or "://" in parts.path or text.split() != text.split(" "):
        return False
    return not any(" " in part for part in (parts.netloc, parts.query, parts.fragment))


def _path(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0].rstrip("/")
