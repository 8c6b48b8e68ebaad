# SPDX-License-Identifier: Apache-2.0
"""
What a video file says of itself.

The boxes of an MP4 or QuickTime file are read as ISO/IEC 14496-12 defines them; a WebM or Matroska file tells
nothing here. The content is untrusted: a short read gives zeros rather than an error, a value of zero is an
unknown one, and no byte is read more than a few times.
"""

from __future__ import annotations

import math
import sys
from array import array
from itertools import islice
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class VideoFacts(NamedTuple):
    """
    Facts about a video, each None where the file does not tell it.

    :param seconds: Its length.
    :param width: Pixels, as it is displayed.
    :param height: Pixels, as it is displayed.
    :param fps: Frames per second, on average.
    :param video_codec: The codec, as FFmpeg names it: ``h264``, ``hevc``, ``av1`` ...
    :param has_audio: Whether it has an audio track.
    :param audio_codec: The codec of that track: ``aac`` ...
    """

    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    video_codec: str | None = None
    has_audio: bool | None = None
    audio_codec: str | None = None


UNKNOWN = VideoFacts()

_VIDEO_CODECS = {
    **dict.fromkeys((b"avc1", b"avc3", b"dvav", b"dva1"), "h264"),
    **dict.fromkeys((b"hvc1", b"hev1", b"dvh1", b"dvhe"), "hevc"),
    **dict.fromkeys((b"apch", b"apcn", b"apcs", b"apco", b"ap4h", b"ap4x"), "prores"),
    **dict.fromkeys((b"jpeg", b"mjpa"), "mjpeg"),
    b"vvc1": "vvc",
    b"av01": "av1",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"s263": "h263",
}
_AUDIO_CODECS = {
    b"Opus": "opus",
    b"ac-3": "ac3",
    b"ec-3": "eac3",
    b"alac": "alac",
    b"fLaC": "flac",
    b".mp3": "mp3",
    b"samr": "amr_nb",
    b"sawb": "amr_wb",
    b"sowt": "pcm_s16le",
    b"twos": "pcm_s16be",
}
#: The codec of a sample entry ``mp4v`` or ``mp4a``, by the object type in its ``esds``.
_OBJECT_TYPES = {
    0x20: "mpeg4",
    **dict.fromkeys(range(0x60, 0x66), "mpeg2video"),
    0x6A: "mpeg1video",
    0x6C: "mjpeg",
    **dict.fromkeys((0x40, 0x66, 0x67, 0x68), "aac"),
    **dict.fromkeys((0x69, 0x6B), "mp3"),
    0xA5: "ac3",
    0xA6: "eac3",
    0xAD: "opus",
}
#: Maximum tracks that are read, and boxes inside one box.
_MAX_TRACKS = 32
_MAX_BOXES = 10_000
_ALL_ONES = (0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


class _Box(NamedTuple):
    kind: bytes
    content: memoryview


class _Track(NamedTuple):
    """
    One track.

    :param timescale: Units of its times per second, 0 if unknown.
    :param samples: Samples in ``moov``.
    :param duration: Their duration in those units.
    """

    track_id: int
    handler: bytes
    timescale: int
    samples: int
    duration: int
    size: tuple[int, int]
    entry: _Box | None


def facts_of(description: bytes | None) -> VideoFacts:
    """
    Return the facts that the boxes of an MP4 tell.

    :param description: The boxes ``moov`` and ``moof`` of the file, headers included; None if they are unknown.
    :return: The facts, each None where it is not told or not understood. Never raises.
    """
    boxes = list(_boxes(memoryview(description or b"")))
    fragments = [box.content for box in boxes if box.kind == b"moof"]
    moov = next((list(_boxes(box.content)) for box in boxes if box.kind == b"moov"), [])
    traks = [box.content for box in moov if box.kind == b"trak"]
    if not traks:
        return UNKNOWN
    header, extends = (_content_of(moov, kind) for kind in (b"mvhd", b"mvex"))
    tracks = _with_fragments([_track(trak) for trak in traks[:_MAX_TRACKS]], extends, fragments)
    video = next((track for track in tracks if track.handler == b"vide"), None)
    audio = next((track for track in tracks if track.handler == b"soun"), None)
    width, height = video.size if video else (0, 0)
    return VideoFacts(
        seconds=_seconds(header, extends, tracks, has_fragments=bool(fragments)),
        width=width or None,
        height=height or None,
        fps=_fps(video) if video else None,
        video_codec=_codec(video, _VIDEO_CODECS, 78) if video else None,
        has_audio=audio is not None,
        audio_codec=_codec(audio, _AUDIO_CODECS, 28) if audio else None,
    )


def _boxes(content: memoryview) -> Iterator[_Box]:
    """Yield the boxes inside a box; one that reaches beyond its end is cut there."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(content):
            return
        size, begin = _number(content, at, 4), at + 8
        if size == 1:
            size, begin = _number(content, at + 8, 8), at + 16
        elif size == 0:
            size = len(content) - at
        if at + size < begin:
            return
        yield _Box(bytes(content[at + 4 : at + 8]), content[begin : at + size])
        at += size


def _content_of(boxes: Iterable[_Box], kind: bytes) -> memoryview:
    """Return the content of the first box of a kind, empty if there is none."""
    return next((box.content for box in boxes if box.kind == kind), memoryview(b""))


def _inside(content: memoryview, *path: bytes) -> memoryview:
    """Return the content of a box inside boxes, empty if there is none."""
    for kind in path:
        content = _content_of(_boxes(content), kind)
    return content


def _number(content: memoryview, at: int, length: int) -> int:
    """Return an unsigned number, 0 if the content ends before it."""
    piece = content[at : at + length]
    return int.from_bytes(piece) if len(piece) == length else 0


def _table(content: memoryview, at: int, columns: int) -> array[int]:
    """Return the numbers of 32 bits of a table, after the number of its rows."""
    rows = _number(content, at, 4)
    begin = at + 4
    whole = max(0, len(content) - begin) // (4 * columns)
    numbers = array("I", bytes(content[begin : begin + 4 * columns * min(rows, whole)]))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _timescale_and_duration(content: memoryview) -> tuple[int, int]:
    """Return both numbers of an ``mvhd`` or ``mdhd``; 0 is unknown."""
    is_long = _number(content, 0, 1) == 1
    timescale = _number(content, 20 if is_long else 12, 4)
    duration = _number(content, 24, 8) if is_long else _number(content, 16, 4)
    return timescale, 0 if duration in _ALL_ONES else duration


def _track(trak: memoryview) -> _Track:
    mdia = list(_boxes(_inside(trak, b"mdia")))
    timescale, _ = _timescale_and_duration(_content_of(mdia, b"mdhd"))
    stbl = list(_boxes(_inside(_content_of(mdia, b"minf"), b"stbl")))
    runs = _table(_content_of(stbl, b"stts"), 4, 2)
    counts, deltas = runs[::2], runs[1::2]
    entry = next(_boxes(_content_of(stbl, b"stsd")[8:]), None)
    header = _inside(trak, b"tkhd")
    return _Track(
        track_id=_number(header, 20 if _number(header, 0, 1) == 1 else 12, 4),
        handler=bytes(_content_of(mdia, b"hdlr")[8:12]),
        timescale=timescale,
        samples=sum(counts),
        duration=sum(map(mul, counts, deltas)),
        size=_size(header, entry),
        entry=entry,
    )


def _size(header: memoryview, entry: _Box | None) -> tuple[int, int]:
    """Return width and height as displayed, from a ``tkhd``, otherwise from the sample entry."""
    at = 52 if _number(header, 0, 1) == 1 else 40
    a, b, c, d = (_number(header, at + offset, 4) for offset in (0, 4, 12, 16))
    # Numbers with 16 bits behind the point.
    width, height = (round(_number(header, at + offset, 4) / 65536) for offset in (36, 40))
    if not (width and height) and entry is not None:
        width, height = _number(entry.content, 24, 2), _number(entry.content, 26, 2)
    is_turned = not a and not d and b and c
    return (height, width) if is_turned else (width, height)


def _with_fragments(tracks: list[_Track], extends: memoryview, fragments: Sequence[memoryview]) -> list[_Track]:
    """Return the tracks with the samples of the fragments; ``extends`` has their default durations."""
    defaults = {
        _number(box.content, 4, 4): _number(box.content, 12, 4) for box in _boxes(extends) if box.kind == b"trex"
    }
    samples: dict[int, int] = {}
    durations: dict[int, int] = {}
    for moof in fragments:
        for traf in _boxes(moof):
            if traf.kind == b"traf":
                track_id, count, duration = _fragment(traf.content, defaults)
                samples[track_id] = samples.get(track_id, 0) + count
                durations[track_id] = durations.get(track_id, 0) + duration
    return [
        track._replace(
            samples=track.samples + samples.get(track.track_id, 0),
            duration=track.duration + durations.get(track.track_id, 0),
        )
        for track in tracks
    ]


def _fragment(traf: memoryview, defaults: dict[int, int]) -> tuple[int, int, int]:
    """Return the track of a fragment, its number of samples and their duration."""
    header = _inside(traf, b"tfhd")
    flags = _number(header, 1, 3)
    track_id = _number(header, 4, 4)
    # Optional fields before the default duration: an offset of 8 bytes, and the index of the sample entry.
    at = 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
    default = _number(header, at, 4) if flags & 0x8 else defaults.get(track_id, 0)
    samples = duration = 0
    for box in _boxes(traf):
        if box.kind != b"trun":
            continue
        flags = _number(box.content, 1, 3)
        begin = 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
        columns = (flags >> 8 & 0xF).bit_count()
        count = _number(box.content, 4, 4)
        if columns:
            rows = max(0, len(box.content) - begin) // (4 * columns)
            count = min(count, rows)
        samples += count
        if flags & 0x100:  # each sample has its duration, in the first column
            table = array("I", bytes(box.content[begin : begin + 4 * columns * count]))
            if sys.byteorder == "little":
                table.byteswap()
            duration += sum(islice(table, 0, None, columns))
        else:
            duration += count * default
    return track_id, samples, duration


def _seconds(
    header: memoryview, extends: memoryview, tracks: Sequence[_Track], *, has_fragments: bool
) -> float | None:
    timescale, duration = _timescale_and_duration(header)
    if has_fragments or not duration:
        # The header describes the samples before the fragments only.
        whole = _inside(extends, b"mehd")
        duration = _number(whole, 4, 8 if _number(whole, 0, 1) == 1 else 4)
    if duration and timescale and duration not in _ALL_ONES:
        return _rounded(duration / timescale)
    of_tracks = [track.duration / track.timescale for track in tracks if track.timescale]
    return _rounded(max(of_tracks, default=0.0))


def _fps(track: _Track) -> float | None:
    return _rounded(track.samples * track.timescale / track.duration) if track.duration else None


def _rounded(value: float) -> float | None:
    return round(value, 3) or None if math.isfinite(value) else None


def _codec(track: _Track, names: dict[bytes, str], inner: int) -> str | None:
    """
    Return the name of a track's codec.

    :param names: The names by the kind of the sample entry.
    :param inner: Where the boxes inside a sample entry begin.
    """
    if track.entry is None:
        return None
    kind, content = track.entry
    if kind not in (b"mp4v", b"mp4a"):
        return names.get(kind)
    if kind == b"mp4a":
        # The versions of QuickTime have further fields, and one box more around the description.
        inner += {1: 16, 2: 36}.get(_number(content, 8, 2), 0)
    esds = _inside(content[inner:], b"esds") or _inside(content[inner:], b"wave", b"esds")
    return _OBJECT_TYPES.get(_object_type(esds))


def _object_type(esds: memoryview) -> int:
    """Return the object type in a chain of MPEG-4 descriptors, 0 if it is not understood."""
    at = _after_descriptor(esds, 4, 0x03)
    flags = _number(esds, at + 2, 1)
    at += 3 + (2 if flags & 0x80 else 0) + (2 if flags & 0x20 else 0)
    if flags & 0x40:
        at += 1 + _number(esds, at, 1)
    at = _after_descriptor(esds, at, 0x04)
    return _number(esds, at, 1) if at < len(esds) else 0


def _after_descriptor(esds: memoryview, at: int, tag: int) -> int:
    """Return where the content of a descriptor begins, the end of the box if there is no such one."""
    if _number(esds, at, 1) != tag:
        return len(esds)
    # Its length has seven bits in each of at most four bytes.
    for length in range(1, 5):
        if not _number(esds, at + length, 1) & 0x80:
            return at + length + 1
    return len(esds)
