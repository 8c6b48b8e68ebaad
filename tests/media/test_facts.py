# SPDX-License-Identifier: Apache-2.0
"""What a file says of itself, beside what FFmpeg reads in it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_kling.media.facts import UNKNOWN, VideoFacts, facts_of
from airflow_provider_kling.media.mp4 import MAX_DESCRIPTION_BYTES, Mp4BoxReader
from airflow_provider_kling.sandbox.video import Shot, VideoRequest

av = pytest.importorskip("av", reason="the extra `sandbox` is not installed")


def read(content: bytes, step: int = 4096) -> VideoFacts:
    """Return what a stream of this content leads to."""
    boxes = Mp4BoxReader()
    for start in range(0, len(content), step):
        boxes.follow(content[start : start + step])
    return facts_of(boxes.description)


def as_ffmpeg_reads(path: Path) -> VideoFacts:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        frame = next(container.decode(video))
        size = (video.width, video.height)
        if frame.rotation % 180:
            size = (size[1], size[0])
        sounds = container.streams.audio
        return VideoFacts(
            seconds=container.duration / av.time_base,
            width=size[0],
            height=size[1],
            fps=float(video.average_rate),
            video_codec=video.codec_context.codec.canonical_name,
            has_audio=bool(sounds),
            audio_codec=sounds[0].codec_context.codec.canonical_name if sounds else None,
        )


def encode(
    path: Path,
    *,
    video: str = "libx264",
    audio: str | None = None,
    size: tuple[int, int] = (64, 48),
    rate: Fraction | int = 24,
    frames: int = 30,
    flags: str = "",
    times: Callable[[int], int] | None = None,
    reorder: bool = True,
    sample_rate: int = 48_000,
) -> Path:
    """Write a file with FFmpeg; skip the test where its build lacks an encoder."""
    options = {"movflags": flags} if flags else {}
    for codec in (video, audio):
        if codec and codec not in av.codecs_available:
            pytest.skip(f"FFmpeg was built without {codec}")
    with av.open(str(path), "w", options=options) as container:
        # FFmpeg's own length is off by the frames that an encoder holds back, where no edit list tells them.
        track = container.add_stream(video, rate=rate, options={} if reorder else {"bf": "0"})
        track.width, track.height, track.pix_fmt = *size, "yuvj420p" if video == "mjpeg" else "yuv420p"
        if times:
            track.time_base = track.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream(audio, rate=sample_rate, layout="mono") if audio else None
        for index in range(frames):
            picture = av.VideoFrame(*size, track.pix_fmt)
            for plane in picture.planes:
                plane.update(bytes([index * 7 % 256]) * plane.buffer_size)
            if times:
                picture.pts, picture.time_base = times(index), Fraction(1, 1000)
            else:
                picture.pts, picture.time_base = index, 1 / Fraction(rate)
            container.mux(track.encode(picture))
        container.mux(track.encode())
        if sound is not None:
            length = sound.codec_context.frame_size or 1024
            for start in range(0, int(sample_rate * frames / rate), length):
                piece = av.AudioFrame(sound.codec_context.format.name, "mono", length)
                for plane in piece.planes:
                    plane.update(bytes(plane.buffer_size))
                piece.sample_rate, piece.pts = sample_rate, start
                container.mux(sound.encode(piece))
            container.mux(sound.encode())
    return path


def assert_alike(own: VideoFacts, ffmpeg: VideoFacts) -> None:
    """Compare; lengths may differ by a frame, or by the silence with which an audio encoder begins."""
    assert own.fps is not None
    assert own._replace(seconds=None, fps=None) == ffmpeg._replace(seconds=None, fps=None)
    assert own.fps == pytest.approx(ffmpeg.fps, rel=0.005)
    assert own.seconds == pytest.approx(ffmpeg.seconds, abs=max(1 / own.fps, 0.03) + 0.001)


FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "h264": ("x.mp4", {}),
    "h264 and aac": ("x.mp4", {"audio": "aac"}),
    "hevc": ("x.mp4", {"video": "libx265"}),
    "mpeg4": ("x.mp4", {"video": "mpeg4"}),
    "mjpeg": ("x.mp4", {"video": "mjpeg"}),
    "av1": ("x.mp4", {"video": "libaom-av1", "frames": 6}),
    "av1 by svt": ("x.mp4", {"video": "libsvtav1", "size": (128, 96), "frames": 6}),
    "vp9": ("x.mp4", {"video": "libvpx-vp9"}),
    "mp3": ("x.mp4", {"audio": "libmp3lame"}),
    "mp3, low rate": ("x.mp4", {"audio": "libmp3lame", "sample_rate": 16_000}),
    "opus": ("x.mp4", {"audio": "libopus"}),
    "ac3": ("x.mp4", {"audio": "ac3"}),
    "eac3": ("x.mp4", {"audio": "eac3"}),
    "alac": ("x.mp4", {"audio": "alac"}),
    "flac": ("x.mp4", {"audio": "flac"}),
    "faststart": ("x.mp4", {"flags": "faststart", "audio": "aac"}),
    "fragmented": ("x.mp4", {"flags": "frag_keyframe+empty_moov", "audio": "aac"}),
    "fragmented by frame": ("x.mp4", {"flags": "frag_every_frame+empty_moov+default_base_moof", "audio": "aac"}),
    "fragmented behind samples": ("x.mp4", {"flags": "frag_keyframe", "frames": 60}),
    "dash": ("x.mp4", {"flags": "dash", "reorder": False}),
    "23.976": ("x.mp4", {"rate": Fraction(24000, 1001)}),
    "29.97 fragmented": ("x.mp4", {"rate": Fraction(30000, 1001), "flags": "frag_keyframe+empty_moov"}),
    "60": ("x.mp4", {"rate": 60}),
    "one frame": ("x.mp4", {"frames": 1}),
    "variable rate": ("x.mp4", {"times": lambda index: index * index * 3 + index, "reorder": False}),
    "upright": ("x.mp4", {"size": (48, 64)}),
    "quicktime": ("x.mov", {"audio": "aac"}),
    "quicktime, pcm": ("x.mov", {"audio": "pcm_s16le"}),
    "quicktime, pcm, big endian": ("x.mov", {"audio": "pcm_s16be"}),
    "quicktime, mpeg4": ("x.mov", {"video": "mpeg4"}),
    "quicktime, mjpeg": ("x.mov", {"video": "mjpeg"}),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_read_as_ffmpeg_reads_it(tmp_path: Path, kind: str) -> None:
    name, settings_of = FILES[kind]
    path = encode(tmp_path / name, **settings_of)
    assert_alike(read(path.read_bytes()), as_ffmpeg_reads(path))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_video_is_as_wide_as_it_is_displayed(tmp_path: Path, degrees: int) -> None:
    plain = encode(tmp_path / "x.mp4").read_bytes()
    turns = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (value << 16 for value in turns[degrees])
    at = plain.index(b"tkhd") + 4 + 40
    path = tmp_path / "turned.mp4"
    path.write_bytes(plain[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + plain[at + 36 :])
    ours = read(path.read_bytes())
    assert (ours.width, ours.height) == ((48, 64) if degrees % 180 else (64, 48))
    assert_alike(ours, as_ffmpeg_reads(path))


@pytest.mark.parametrize(
    ("ratio", "audio", "short_side"), [("16:9", True, 720), ("9:16", False, 720), ("1:1", True, 1080)]
)
def test_a_video_of_the_sandbox_is_read_as_ffmpeg_reads_it(
    tmp_path: Path, ratio: str, audio: bool, short_side: int
) -> None:
    from airflow_provider_kling.sandbox.render import render

    path = tmp_path / "x.mp4"
    request = VideoRequest("kling-v3", (Shot("A fox", 1.0),), 1, ratio, audio=audio, short_side=short_side)
    render(request, {}, path)
    ours = read(path.read_bytes())
    assert_alike(ours, as_ffmpeg_reads(path))
    assert ours.seconds == pytest.approx(1.0, abs=0.03)
    assert (ours.fps, ours.video_codec) == (24.0, "h264")
    assert (ours.has_audio, ours.audio_codec) == ((True, "aac") if audio else (False, None))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return encode(tmp_path_factory.mktemp("plain") / "x.mp4", audio="aac").read_bytes()


@pytest.fixture(scope="module")
def fragmented(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fragmented") / "x.mp4"
    return encode(path, audio="aac", flags="frag_every_frame+empty_moov").read_bytes()


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_the_size_of_the_chunks_changes_nothing(plain: bytes, fragmented: bytes, step: int) -> None:
    for file in (plain, fragmented):
        assert read(file, step) == read(file)


def test_a_matroska_file_tells_nothing(tmp_path: Path) -> None:
    assert read(encode(tmp_path / "x.mkv").read_bytes()) == UNKNOWN


def test_a_file_that_was_cut_tells_nothing(plain: bytes) -> None:
    assert read(plain[:-1]) == UNKNOWN


def test_a_description_that_is_too_long_tells_nothing(plain: bytes) -> None:
    at = plain.index(b"moov") - 4
    size = int.from_bytes(plain[at : at + 4])
    spare = MAX_DESCRIPTION_BYTES - size
    for more, is_known in ((spare, True), (spare + 8, False)):
        padded = (
            (size + more).to_bytes(4) + plain[at + 4 : at + size] + more.to_bytes(4) + b"free" + bytes(more - 8)
        )
        file = plain[:at] + padded + plain[at + size :]
        assert (read(file, 1 << 20) != UNKNOWN) == is_known


def test_a_length_that_the_header_does_not_tell_is_that_of_the_longest_track(plain: bytes) -> None:
    known = read(plain).seconds
    at = plain.index(b"mvhd") + 4 + 16
    for unknown in (b"\0" * 4, b"\xff" * 4):
        ours = read(plain[:at] + unknown + plain[at + 4 :])
        assert ours.seconds == pytest.approx(known, abs=0.05)


@given(content=st.binary(max_size=400))
def test_no_bytes_end_in_an_error(content: bytes) -> None:
    facts_of(content)
    facts_of((len(content) + 8).to_bytes(4) + b"moov" + content)


@settings(max_examples=300)
@given(data=st.data())
def test_no_change_of_a_real_file_ends_in_an_error(plain: bytes, fragmented: bytes, data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from([plain, fragmented])))
    begin = file.index(b"moov")
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(begin, len(file) - 4))
        change = data.draw(
            st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1"]) | st.binary(min_size=1, max_size=4)
        )
        file[at : at + len(change)] = change
    for value, kind in zip(read(bytes(file)), (float, int, int, float, str, bool, str), strict=True):
        assert value is None or isinstance(value, kind)


def boxes_of(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4) + kind + content


def hostile() -> Iterator[bytes]:
    """Yield descriptions that are as much work as possible."""
    room = MAX_DESCRIPTION_BYTES - 1000
    yield boxes_of(b"moov", boxes_of(b"free", b"") * (room // 8))
    yield boxes_of(b"moov", boxes_of(b"trak", b"") * (room // 8))
    table = boxes_of(b"stts", bytes(4) + (room // 8).to_bytes(4) + b"\xff" * room)
    track = boxes_of(b"mdia", boxes_of(b"minf", boxes_of(b"stbl", table)))
    yield boxes_of(b"moov", boxes_of(b"trak", track))
    track = boxes_of(b"trak", b"")
    traf = boxes_of(b"traf", boxes_of(b"trun", b"\0\0\1\0" + b"\0\0\0\1" + b"\xff" * 4))
    yield boxes_of(b"moov", track) + boxes_of(b"moof", traf * (room // len(traf)))
    yield boxes_of(b"moov", track) + boxes_of(b"moof", traf) * (room // (8 + len(traf)))
    yield boxes_of(b"moov", boxes_of(b"trak", boxes_of(b"mdia", boxes_of(b"hdlr", b"") * 40_000)) * 32)


@pytest.mark.parametrize("content", list(hostile()), ids=range(6))
def test_a_hostile_file_is_read_in_bounded_time(content: bytes) -> None:
    started = time.process_time()
    facts_of(content)
    assert time.process_time() - started < 3
