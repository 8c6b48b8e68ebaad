# SPDX-License-Identifier: Apache-2.0
"""The last frame of a video as an image, for example as the first frame of the next one, with PyAV."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from airflow_provider_kling.exceptions import KlingDownloadError, KlingError, KlingValidationError

if TYPE_CHECKING:
    from av import VideoFrame, VideoStream
    from av.container import InputContainer

#: A video may name other files and URLs, as playlists do; none of them is opened.
_OPTIONS = {"protocol_whitelist": "none"}
#: From this width or height on, players take a video that does not name its colour matrix for BT.709, not BT.601.
_HD_WIDTH, _HD_HEIGHT = 1280, 577
#: No matrix is named, in the numbers of ITU-T H.273.
_UNSPECIFIED = 2
#: Filters that show a frame upright, by the signs of what its display matrix does with x and y.
_UPRIGHT: dict[tuple[int, ...], list[str]] = {
    (1, 0, 0, 1): [],
    (-1, 0, 0, 1): ["hflip"],
    (1, 0, 0, -1): ["vflip"],
    (-1, 0, 0, -1): ["hflip", "vflip"],
    (0, 1, -1, 0): ["transpose=clock"],
    (0, -1, 1, 0): ["transpose=cclock"],
    (0, 1, 1, 0): ["transpose=cclock_flip"],
    (0, -1, -1, 0): ["transpose=clock_flip"],
}


def require_av() -> None:
    """
    Check that PyAV is there, before anything is bought.

    :raises KlingValidationError: if it is not, with the command that installs it.
    """
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise KlingValidationError(
            f"The last frame of a video cannot be stored without PyAV ({error})",
            advice="Install it: pip install 'airflow-provider-kling[media]'. Nothing was submitted or billed.",
        ) from error


def last_frame_png(file: str | os.PathLike[str] | BinaryIO) -> bytes:
    """
    Return the last frame that a player shows, as a PNG with 8 bits per channel.

    Only what follows the last key frame is decoded; without an index the whole video is. Rotation, mirroring and
    pixels that are not square are applied, so that the image looks as the video does.

    :param file: Path of the video, or a seekable binary file.
    :raises KlingDownloadError: if it is no video, has no frame, or is damaged at its end.
    :raises KlingValidationError: if PyAV is not installed.
    """
    require_av()
    if isinstance(file, str | os.PathLike):
        # Opened here, since PyAV would take a path with a colon for a URL.
        with Path(file).open("rb") as opened:
            return _last_frame_png(opened)
    return _last_frame_png(file)


def _last_frame_png(file: BinaryIO) -> bytes:
    import av

    try:
        frame = _last_frame(file, near_end=True) or _last_frame(file, near_end=False)
        if frame is None:
            raise _broken("has no frame")
        if frame.is_corrupt:
            raise _broken("is damaged at its end")
        return _png(frame)
    except av.FFmpegError as error:
        raise _broken(f"cannot be decoded ({error})") from error


def _broken(finding: str) -> KlingError:
    return KlingDownloadError(
        f"The last frame cannot be taken: the video {finding}",
        advice="Play the file to see whether it is complete.",
    )


def _last_frame(file: BinaryIO, *, near_end: bool) -> VideoFrame | None:
    """
    Return the frame with the latest presentation time; None if there is none.

    :param near_end: Decode from the last key frame on only. Then None means that it was not found.
    """
    import av

    file.seek(0)
    last: VideoFrame | None = None
    with av.open(file, mode="r", options=_OPTIONS) as container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise _broken("has no picture")
        if near_end and not _seek_to_last_key_frame(container, stream):
            return None
        is_first = True
        for packet in container.demux(stream):
            if near_end and is_first and not packet.is_keyframe:
                return None
            is_first = False
            for frame in packet.decode():
                # Decoders output frames in the order of presentation, so this is one that has no time.
                if last is None or frame.pts is None or last.pts is None or frame.pts >= last.pts:
                    last = frame
        return last and _as_shown(last, stream.sample_aspect_ratio)


def _seek_to_last_key_frame(container: InputContainer, stream: VideoStream) -> bool:
    import av

    if stream.duration and stream.time_base:
        # Not the end of the file: its sound may be longer.
        end = (stream.start_time or 0) + stream.duration
    elif container.duration and stream.time_base:
        end = int(container.duration / (av.time_base * stream.time_base))
    else:
        return False
    try:
        container.seek(end, stream=stream)
    except av.FFmpegError:
        return False
    return True


def _as_shown(frame: VideoFrame, pixel_aspect: Fraction | None) -> VideoFrame:
    """Return a frame in RGB, with square pixels and upright."""
    import av

    graph = av.filter.Graph()
    filters = [
        graph.add(
            "buffer",
            _arguments(
                video_size=f"{frame.width}x{frame.height}",
                pix_fmt=frame.format.name,
                time_base="1",
                colorspace=frame.colorspace,
                range=frame.color_range,
            ),
        ),
        graph.add(
            "scale",
            _arguments(
                w=round(frame.width * (pixel_aspect or 1)),
                h=frame.height,
                in_color_matrix=_matrix(frame),
                flags="bicubic+accurate_rnd+full_chroma_int+full_chroma_inp",
            ),
        ),
        graph.add("format", "rgb24"),
        *(graph.add(*name.split("=")) for name in _UPRIGHT.get(_orientation(frame), ())),
        # Without them the PNG has the gamma of television, by which few programs show an image.
        graph.add("setparams", "color_primaries=unknown:color_trc=unknown"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*filters).configure()
    graph.push(frame)
    return graph.vpull()


def _arguments(**options: object) -> str:
    return ":".join(f"{name}={value}" for name, value in options.items())


def _matrix(frame: VideoFrame) -> str:
    is_hd = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
    return "bt709" if frame.colorspace == _UNSPECIFIED and is_hd and not frame.format.is_rgb else "auto"


def _orientation(frame: VideoFrame) -> tuple[int, ...]:
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return ()
    # Rows of three 32-bit numbers: what x and y become, and a shift.
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    return tuple((value > 0) - (value < 0) for value in (a, b, c, d))


def _png(frame: VideoFrame) -> bytes:
    import av

    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "rgb24"
    encoder.time_base = Fraction(1)
    return _upright_png(b"".join(bytes(packet) for picture in (frame, None) for packet in encoder.encode(picture)))


def _upright_png(png: bytes) -> bytes:
    """Return a PNG without its eXIf chunk: newer encoders write the rotation there that is applied already."""
    kept, at = [png[:8]], 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] != b"eXIf":
            kept.append(png[at:end])
        at = end
    return b"".join(kept)
