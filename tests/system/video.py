# SPDX-License-Identifier: Apache-2.0
"""What is in a video file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from PIL import ImageChops, ImageStat


@dataclass(frozen=True)
class VideoFacts:
    """What a player would find in a file; ``seconds`` counts the frames that can be decoded."""

    codec: str
    width: int
    height: int
    seconds: float
    audio_codec: str | None

    def __str__(self) -> str:
        sound = f"{self.audio_codec} sound" if self.audio_codec else "silent"
        return f"{self.codec}, {self.width} x {self.height}, {self.seconds:.1f} s, {sound}"


def look_into(path: Path) -> VideoFacts:
    """Decode a video file from the first to the last frame.

    :raises av.error.FFmpegError: if it is no video, or damaged.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        audio = container.streams.audio
        return VideoFacts(
            codec=stream.codec_context.name,
            width=stream.codec_context.width,
            height=stream.codec_context.height,
            seconds=float(frames / stream.average_rate) if stream.average_rate else 0.0,
            audio_codec=audio[0].codec_context.name if audio else None,
        )


def picture_at(path: Path, seconds: float) -> Any:
    """Return what a player shows at a time, as an image of pillow; the last frame if that is after the end."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= seconds:
                break
        return frame.to_image()


def difference(one: Any, other: Any) -> float:
    """Return how far two images of one size are apart, 0 to 255 per channel."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return float(sum(means)) / len(means)
