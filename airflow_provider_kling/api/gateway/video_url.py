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
from urllib.parse import urlsplit

from airflow_provider_kling.api.gateway.body import ECHO, Field, fields_of, is_echo, vocabulary, words_of
from airflow_provider_kling.api.gateway.job_object import status_word_in
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
    captions srt vtt lyrics text
    """
)
#: Words in names of URLs that lead to a page or to the API itself.
_NO_FILE = vocabulary(
    """
    status cancel get stream poll polling query queue callback webhook notify hook web page share docs doc help
    support console billing upload edit delete terms homepage website site host domain origin endpoint base api
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
#: Words in names of lists and objects that contain results.
_OUTPUTS = vocabulary("output outputs result results works creations generations artifacts assets")
#: Words in the names of fields that describe the other fields of their object, and whole names of such fields.
_LABELS, _LABEL_NAMES = vocabulary("type role kind format mime"), ("name", "key", "field", "label")
#: Maximum number of fields of an object that are searched for such a label.
MAX_LABELS = 30
#: Endings of the path of a video; gateways of this family serve it at ``/content``.
_VIDEO_FILE = re.compile(r"\.(?:mp4|mov|webm|m4v|mkv|avi|mpe?g|ogv|flv)$|/content$", re.IGNORECASE)
_OTHER_FILE = re.compile(
    r"\.(?:png|jpe?g|webp|gif|bmp|svg|avif|heic|tiff?|ico|mp3|wav|m4a|aac|flac|ogg|opus|json|html?|xml|txt|md|pdf"
    r"|srt|vtt|zip|tar|gz|safetensors|ckpt|js|css|php)$",
    re.IGNORECASE,
)
_MARKED_FILE = re.compile(
    r"(?<![a-z])(no[_-]?|non[_-]?|without[_-]?|un|free[_-]?)?(?:watermark|wm(?![a-z]))", re.IGNORECASE
)


def video_url(fields: Mapping[str, Any], body: Any = None, *, without: Collection[int] = ()) -> str | None:
    """
    Return the URL of the finished video, or None.

    :param fields: The object that describes the job.
    :param body: The body around it.
    :param without: The ``id()`` of objects that describe other jobs.
    """
    echoed: set[str] = set()
    #: By the ``id()`` of an object: the object, to keep that ``id()`` valid, and its label.
    labels: dict[int, tuple[Mapping[str, Any], bool | None]] = {}
    found: list[tuple[bool, int, int, str]] = []
    for place, field in enumerate(fields_of(fields, body, without=without)):
        url = _address(field.value)
        if url is None:
            continue
        if field.is_echo or _is_echoed_picture(field):
            echoed.add(url)
            continue
        holder = id(field.holder)
        if holder not in labels:
            labels[holder] = field.holder, _label_of(field.holder)
        if (rank := _rank(field, url, labels[holder][1])) is not None:
            found.append((_is_marked(field, url), rank, place, url))
    for place, text in enumerate(_documented(fields)):
        if (url := _address(text, may_be_relative=True)) and not _OTHER_FILE.search(_path(url)):
            found.append((_is_marked_file(url), -1, place, url))
    found.sort()
    return next((url for _, _, _, url in found if url not in echoed), None)


def _documented(fields: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the value in the documented place, and then those in places that many gateways share."""
    metadata, data, result = (as_mapping(fields.get(name)) for name in ("metadata", "data", "task_result"))
    yield from (fields.get("video_url"), fields.get("url"), metadata.get("url"), metadata.get("video_url"))
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
    if not words.isdisjoint(_NO_VIDEO) or _OTHER_FILE.search(path) or label is False:
        return None
    if not name.isdisjoint(_NO_FILE) and not is_video_file:
        return None
    if not name.isdisjoint(_WATERMARK) and not name.isdisjoint(_CLEAN):
        return 0
    is_video = label is True or not words.isdisjoint(_VIDEO)
    is_result = not words.isdisjoint(_RESULT)
    if is_video_file:
        return 1 if is_video else 2 if is_result else 4
    if is_video:
        return 3
    return 5 if not name.isdisjoint(_RESULT) else 6 if not field.around.isdisjoint(_OUTPUTS) else None


def _is_echoed_picture(field: Field) -> bool:
    """Return whether the name of a field means a picture that the video was made from."""
    return not words_of(field.name).isdisjoint({"image", "images", "frame", "frames", "keyframes", "img", "photo"})


def _is_marked(field: Field, url: str) -> bool:
    """Return whether a video has a watermark."""
    words = words_of(field.name) | field.around
    if not words.isdisjoint(_WATERMARK):
        return words.isdisjoint(_CLEAN)
    return _is_marked_file(url)


def _is_marked_file(url: str) -> bool:
    found = _MARKED_FILE.search(_path(url).rpartition("/")[2])
    return found is not None and not found[1]


def _label_of(holder: Mapping[str, Any]) -> bool | None:
    """Return whether the fields of an object label its URL as a video; None if there is no label."""
    if status_word_in(holder):
        return None  # its fields describe the job, which may be made from an image
    verdicts = {
        _kind(value)
        for name, value in islice(holder.items(), MAX_LABELS)
        if isinstance(value, str) and len(value) < 80 and _is_label(name)
    }
    return False if False in verdicts else True if True in verdicts else None


def _is_label(name: str) -> bool:
    return name in _LABEL_NAMES or (not words_of(name).isdisjoint(_LABELS) and not is_echo(name))


@lru_cache(maxsize=1024)
def _kind(label: str) -> bool | None:
    """Return whether a word such as ``video/mp4``, ``first_frame`` or ``cover.png`` means a video."""
    if _VIDEO_FILE.search(label) or _TO_VIDEO.search(label):
        return True
    if " " in label or not label.isascii():  # a title written by a person
        return None
    words = words_of(label)
    if not words.isdisjoint(ECHO | _NO_VIDEO):
        return False
    return True if not words.isdisjoint(_VIDEO) else None


def _address(value: Any, *, may_be_relative: bool = False) -> str | None:
    """Return the URL of a file on the web in a value; in a documented place also a path on the server."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_URL + 100:
        return None
    if not may_be_relative and value.lstrip()[:4].lower() != "http":
        return None
    text = clean_text(value)
    if not 0 < len(text) <= MAX_URL or len(text.split()) != 1:
        return None
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme in ("http", "https"):
        return text if host else None
    is_path = may_be_relative and not parts.scheme and (text[0] == "/" or _VIDEO_FILE.search(parts.path))
    return text if is_path else None


def _path(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0].rstrip("/")
