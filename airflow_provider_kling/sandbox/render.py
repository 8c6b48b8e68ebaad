# SPDX-License-Identifier: Apache-2.0
"""Render a real video, as fast as possible on one core: H.264 in MP4, with AAC sound for the audio models."""

from __future__ import annotations

import math
import os
from array import array
from typing import TYPE_CHECKING

import av
from PIL import Image, ImageDraw, ImageOps

from airflow_provider_kling.sandbox.drawing import backdrop, colour, font_for, picture, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from av.container import OutputContainer

    from airflow_provider_kling.sandbox.video import Shot, VideoRequest

FRAMES_PER_SECOND = 24
SAMPLES_PER_SECOND = 48_000
TONES_HZ = (240, 360)
#: Peak of one tone; 32,767 is full scale.
LOUDNESS = 2500
AUDIO_FRAME = 1024
#: The matrix that PyAV converts with, in the numbers of ITU-T H.273.
BT_601 = 5
#: The platform accepts images up to this ratio of the sides.
WIDEST_RATIO = 2.5


def render(request: VideoRequest, images: Mapping[str, Path | None], path: Path) -> None:
    """
    Write the video for ``request`` to ``path``; the file appears there only when it is complete.

    :param images: The file that replaces each image URL; None to draw a picture from the name.
    """
    pictures = [picture(url, images.get(url)) for url in (request.image, request.last_image) if url]
    size = _frame_size(request, pictures[0].size if pictures else None)
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    try:
        with av.open(str(unfinished), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            container.metadata.update({"title": request.model, "comment": request.text})
            _encode(container, request, [_fit(image, size) for image in pictures], size)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _frame_size(request: VideoRequest, image_size: tuple[int, int] | None) -> tuple[int, int]:
    """Return width and height: the short side of the tier, in the ratio of the image if there is one."""
    across, down = image_size or tuple(int(side) for side in request.aspect_ratio.split(":"))
    ratio = min(WIDEST_RATIO, max(across, down) / min(across, down))
    long_side = round(request.short_side * ratio / 2) * 2
    return (long_side, request.short_side) if across >= down else (request.short_side, long_side)


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return ImageOps.fit(image, size, Image.Resampling.BICUBIC)


def _encode(
    container: OutputContainer, request: VideoRequest, pictures: list[Image.Image], size: tuple[int, int]
) -> None:
    video = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"preset": "ultrafast", "crf": "23"})
    video.width, video.height = size
    video.pix_fmt = "yuv420p"
    # Named, since players would assume the other matrix, BT.709, for a picture of this size.
    video.codec_context.colorspace = BT_601
    if request.audio:
        _encode_tone(container, request.seconds)
    for frame in _frames(request, pictures, size):
        container.mux(video.encode(av.VideoFrame.from_image(frame)))  # type: ignore[no-untyped-call]
    container.mux(video.encode())


def _encode_tone(container: OutputContainer, seconds: int) -> None:
    audio = container.add_stream("aac", rate=SAMPLES_PER_SECOND, layout="mono")
    # All tones repeat after this period, so it is computed once.
    period = SAMPLES_PER_SECOND // math.gcd(*TONES_HZ)
    samples = array("h", [_sample(index) for index in range(period)]) * (seconds * SAMPLES_PER_SECOND // period)
    for start in range(0, len(samples), AUDIO_FRAME):
        piece = samples[start : start + AUDIO_FRAME]
        frame = av.AudioFrame("s16", "mono", len(piece))
        frame.planes[0].update(piece.tobytes())
        frame.sample_rate, frame.pts = SAMPLES_PER_SECOND, start
        container.mux(audio.encode(frame))
    container.mux(audio.encode())


def _sample(index: int) -> int:
    return round(sum(LOUDNESS * math.sin(2 * math.pi * tone * index / SAMPLES_PER_SECOND) for tone in TONES_HZ))


def _frames(request: VideoRequest, pictures: list[Image.Image], size: tuple[int, int]) -> Iterator[Image.Image]:
    """Yield the frames. In image mode the first frame is the image; with a last image, the last frame is that."""
    count = request.seconds * FRAMES_PER_SECOND
    shots = [_Scene(request, shot, size, over_image=bool(pictures)) for shot in request.shots]
    ends = [sum(shot.seconds for shot in request.shots[: index + 1]) for index in range(len(shots))]
    for index in range(count):
        done = index / (count - 1)
        still = _still(pictures, done)
        if still is not None and (index == 0 or (index == count - 1 and len(pictures) == 2)):
            yield still
            continue
        while len(shots) > 1 and index / FRAMES_PER_SECOND >= ends[0]:
            del shots[0], ends[0]
        yield shots[0].frame(still, done, index / FRAMES_PER_SECOND)


def _still(pictures: list[Image.Image], done: float) -> Image.Image | None:
    """Return the image below the caption: the first one, or its blend with the last one."""
    if len(pictures) == 2:
        return Image.blend(pictures[0], pictures[1], done)
    return pictures[0] if pictures else None


class _Scene:
    """One shot: the prompt is drawn once, moving parts are drawn for each frame."""

    def __init__(self, request: VideoRequest, shot: Shot, size: tuple[int, int], *, over_image: bool) -> None:
        self._width, self._height = size
        self._seconds = request.seconds
        self._accent = colour(shot.prompt, 0.65)
        unit = min(size)
        self._line = unit // 90
        self._radius = unit // 18
        # The caption leaves most of an image visible; a text-to-video card is only a caption.
        top = round(self._height * 0.66) if over_image else 0
        footer = unit // 12
        self._top = top
        self._card = backdrop(shot.prompt, size).crop((0, top, self._width, self._height))
        room = (0, footer, self._width, self._card.height - footer - 3 * self._radius)
        if over_image:
            room = (0, self._line, self._width, self._card.height - footer)
        write(self._card, shot.prompt, room, unit // 11)
        label = f"{request.model}  {self._width}x{self._height}"
        self._font = font_for(label, unit // 32)
        self._footer = self._card.height - round(footer * 0.8)
        border = unit // 24
        ImageDraw.Draw(self._card).text((border, self._footer), label, font=self._font, fill=self._accent)

    def frame(self, still: Image.Image | None, done: float, seconds: float) -> Image.Image:
        """Draw the frame at ``seconds``; ``done`` is the elapsed fraction of the video (0 to 1)."""
        card = self._card.copy()
        draw = ImageDraw.Draw(card)
        border = min(self._width, self._height) // 24
        clock = f"{seconds:.1f} / {self._seconds} s"
        draw.text(
            (self._width - border - self._font.getlength(clock), self._footer),
            clock,
            font=self._font,
            fill="white",
        )
        bottom = card.height
        draw.rectangle((0, bottom - self._line, round(self._width * done), bottom), fill=self._accent)
        if still is None:
            self._ball(draw, done, seconds, ground=self._footer - self._radius // 2)
            return card
        frame = still.copy()
        frame.paste(card, (0, self._top))
        self._ball(ImageDraw.Draw(frame), done, seconds, ground=self._top)
        return frame

    def _ball(self, draw: ImageDraw.ImageDraw, done: float, seconds: float, ground: int) -> None:
        """Draw a ball that bounces across the picture, once a second."""
        radius = self._radius
        x = radius + (self._width - 2 * radius) * done
        y = ground - radius - abs(math.sin(math.pi * seconds)) * radius
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=self._accent)
