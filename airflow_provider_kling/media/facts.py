# SPDX-License-Identifier: Apache-2.0
"""What a video file says of itself."""

from __future__ import annotations

from typing import NamedTuple


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
