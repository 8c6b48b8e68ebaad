# SPDX-License-Identifier: Apache-2.0
"""The last frame of real videos, compared with the picture that was encoded."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

pytest.importorskip("av", reason="the extra `media` is not installed")
pytest.importorskip("PIL", reason="the extra `sandbox` is not installed")

import av
from PIL import Image, ImageChops

from airflow_provider_kling.exceptions import KlingDownloadError, KlingError, KlingValidationError
from airflow_provider_kling.media.last_frame import last_frame_png, require_av
from airflow_provider_kling.sandbox.render import render
from airflow_provider_kling.sandbox.video import Shot, VideoRequest
from tests.fixtures.real_videos import (
    CORNERS,
    RATE,
    SIZE,
    Rgb,
    add_tone,
    frame_colour,
    patched,
    picture,
    plain_frame,
    video,
)
from tests.media.conftest import Store
from tests.raw_server import RawServer, http_response

#: 51 frames are two groups of pictures and a rest; the last frame is a B-frame's neighbour.
COUNT = 51
GROUPS = {"g": "20", "bf": "3", "sc_threshold": "0"}


def last(data: bytes) -> Image.Image:
    png = last_frame_png(io.BytesIO(data))
    assert chunks(png) <= {"IHDR", "pHYs", "IDAT", "IEND"}, "a PNG with a gamma or a profile looks different"
    return Image.open(io.BytesIO(png))


def chunks(png: bytes) -> set[str]:
    found, at = set(), 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.add(png[at + 4 : at + 8].decode())
        at += 12 + length
    return found


def corners(image: Image.Image) -> list[Rgb]:
    """The colours of the four areas, from the upper left clockwise."""
    width, height = image.size
    at = [(1, 1), (3, 1), (3, 3), (1, 3)]
    return [image.getpixel((width * x // 4, height * y // 4)) for x, y in at]  # type: ignore[misc]


def assert_like(found: Sequence[Rgb], expected: Sequence[Rgb], within: int = 6) -> None:
    differences = [
        abs(a - b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    ]
    assert max(differences) <= within, f"{found} instead of {expected}"


def shown(index: int) -> list[Rgb]:
    return [frame_colour(index), *CORNERS]


def remuxed(data: bytes, path: Path, movflags: str) -> bytes:
    """The same packets in another MP4."""
    options = {"movflags": movflags}
    with av.open(io.BytesIO(data), "r") as source, av.open(str(path), "w", options=options) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return path.read_bytes()


class Counted(io.BytesIO):
    """A file that counts the bytes read."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


class TestFormats:
    @pytest.mark.parametrize(
        ("container", "codec", "pix_fmt", "options"),
        [
            ("mp4", "libx264", "yuv420p", GROUPS),
            ("mp4", "libx264", "yuv420p", {**GROUPS, "x264-params": "open-gop=1"}),
            ("mp4", "libx264", "yuv444p", GROUPS),
            ("mp4", "libx265", "yuv420p10le", {"x265-params": "keyint=20:bframes=3:log-level=none"}),
            ("mp4", "libsvtav1", "yuv420p", {"preset": "12", "g": "20"}),
            ("mp4", "mpeg4", "yuv420p", {"g": "20", "bf": "2", "qscale": "2"}),
            ("mov", "prores_ks", "yuv422p10le", {}),
            ("mov", "qtrle", "rgb24", {}),
            ("mov", "mjpeg", "yuvj420p", {"qscale": "2"}),
            ("webm", "libvpx-vp9", "yuv420p", {"g": "20", "deadline": "realtime"}),
            ("matroska", "ffv1", "yuv444p", {}),
            ("matroska", "libx264", "yuv420p", GROUPS),
            ("mpegts", "libx264", "yuv420p", GROUPS),
            ("avi", "mpeg4", "yuv420p", {"g": "20", "qscale": "2"}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_any_codec_in_any_container(
        self, container: str, codec: str, pix_fmt: str, options: dict[str, str]
    ) -> None:
        frames = (picture(index) for index in range(COUNT))
        image = last(video(frames, container=container, codec=codec, pix_fmt=pix_fmt, options=options))
        assert image.size == SIZE
        assert image.mode == "RGB"
        assert_like(corners(image), shown(COUNT - 1), within=10)

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 19, 20, 21, 22, 40, 41])
    def test_any_place_in_a_group_of_pictures(self, count: int) -> None:
        data = video((picture(index) for index in range(count)), options=GROUPS)
        assert_like(corners(last(data)), shown(count - 1), within=10)

    def test_a_lossless_video_loses_nothing(self) -> None:
        frames = [picture(index) for index in range(30)]
        data = video(frames, codec="libx264rgb", pix_fmt="rgb24", options={"qp": "0"})
        assert ImageChops.difference(last(data), frames[-1]).getbbox() is None

    @pytest.mark.parametrize("size", [(127, 95), (129, 96), (128, 97), (2, 2)])
    def test_odd_sizes(self, size: tuple[int, int]) -> None:
        frames = (picture(index, size) for index in range(3))
        image = last(video(frames, container="matroska", codec="ffv1"))
        assert image.size == size
        if size != (2, 2):
            assert_like(corners(image), shown(2), within=10)

    def test_a_path_or_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "data:clip?#[1].mp4"
        path.write_bytes(video([picture(0)]))
        with path.open("rb") as file:
            assert last_frame_png(path) == last_frame_png(str(path)) == last_frame_png(file)

    def test_an_object_of_a_store(self, store: Store) -> None:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        store.put("clip.mp4", video(picture(index) for index in range(COUNT)))
        with ObjectStoragePath(f"{store.url}/clip.mp4").open("rb") as file:
            png = last_frame_png(file)
        assert_like(corners(Image.open(io.BytesIO(png))), shown(COUNT - 1), within=10)


class TestTime:
    def test_frames_of_different_lengths(self) -> None:
        times = [0, 1, 2, 30, 31, 90, 91, 300]
        data = video((picture(index) for index in range(len(times))), options=GROUPS, times=times)
        assert_like(corners(last(data)), shown(len(times) - 1), within=10)

    @pytest.mark.parametrize("container", ["mp4", "matroska", "webm", "mpegts"])
    @pytest.mark.parametrize("seconds", [0.5, 8.0])
    def test_sound_of_another_length(self, container: str, seconds: float) -> None:
        codec, options = ("libvpx-vp9", {"g": "20"}) if container == "webm" else ("libx264", GROUPS)
        frames = (picture(index) for index in range(COUNT))
        data = video(frames, container=container, codec=codec, options=options, tone_seconds=seconds)
        assert_like(corners(last(data)), shown(COUNT - 1), within=10)

    @pytest.mark.parametrize("shown_frames", [1, 7, 20, 21, 33, 50])
    def test_an_edit_list_that_hides_the_end(self, shown_frames: int) -> None:
        data = video((picture(index) for index in range(COUNT)), options=GROUPS)
        # The movie's time scale is 1000 in a second; the entry begins with how much of the track is shown.
        entry = struct.pack(">I", shown_frames * 1000 // RATE)
        image = last(patched(data, b"elst", 8, entry))
        assert_like(corners(image), shown(shown_frames - 1), within=10)

    def test_only_the_end_of_a_long_video_is_read(self) -> None:
        size, count = (320, 240), 400
        noise = [Image.effect_noise(size, 90).convert("RGB") for _ in range(8)]
        pictures = (noise[index % 8] for index in range(count - 1))
        data = video([*pictures, picture(0, size)], options=GROUPS)
        file = Counted(data)
        png = last_frame_png(file)
        assert_like(corners(Image.open(io.BytesIO(png))), shown(0), within=10)
        assert file.bytes_read < len(data) / 5

    def test_a_stream_without_an_index_is_decoded_whole(self) -> None:
        data = video((picture(index) for index in range(COUNT)), container="h264", options=GROUPS)
        assert_like(corners(last(data)), shown(COUNT - 1), within=10)

    def test_a_fragmented_file(self, tmp_path: Path) -> None:
        source = video((picture(index) for index in range(COUNT)), options=GROUPS)
        data = remuxed(source, tmp_path / "clip.mp4", "frag_keyframe+empty_moov+default_base_moof")
        assert_like(corners(last(data)), shown(COUNT - 1), within=10)


class TestLook:
    HD, SD = (1280, 720), (640, 360)
    COLOUR = (200, 60, 30)

    @pytest.mark.parametrize(
        ("size", "matrix", "full_range", "tags"),
        [
            (SD, "bt601", False, {}),
            (SD, "bt601", False, {"colorspace": 6}),
            (SD, "bt709", False, {"colorspace": 1}),
            (HD, "bt709", False, {}),
            (HD, "bt709", False, {"colorspace": 1, "color_range": 1, "color_trc": 1, "color_primaries": 1}),
            (HD, "bt601", False, {"colorspace": 5}),
            (HD, "bt709", True, {"colorspace": 1, "color_range": 2}),
            (SD, "bt601", True, {"color_range": 2}),
            ((720, 1280), "bt709", False, {}),
        ],
    )
    def test_the_colours_are_those_that_a_player_shows(
        self, size: tuple[int, int], matrix: str, full_range: bool, tags: dict[str, int]
    ) -> None:
        frame = plain_frame(self.COLOUR, size, matrix, full_range=full_range)
        if full_range:
            frame.color_range = 2
        image = last(video([frame], options={"qp": "0"}, tags=tags))
        assert_like([image.getpixel((30, 30))], [self.COLOUR], within=2)  # type: ignore[list-item]

    @pytest.mark.parametrize(
        ("matrix", "operation"),
        [
            ((1, 0, 0, 1), None),
            ((0, 1, -1, 0), Image.Transpose.ROTATE_270),  # a quarter clockwise, as phones write it
            ((-1, 0, 0, -1), Image.Transpose.ROTATE_180),
            ((0, -1, 1, 0), Image.Transpose.ROTATE_90),
            ((-1, 0, 0, 1), Image.Transpose.FLIP_LEFT_RIGHT),
            ((1, 0, 0, -1), Image.Transpose.FLIP_TOP_BOTTOM),
            ((0, 1, 1, 0), Image.Transpose.TRANSPOSE),
            ((0, -1, -1, 0), Image.Transpose.TRANSVERSE),
        ],
    )
    def test_it_is_upright(self, matrix: tuple[int, ...], operation: Image.Transpose | None) -> None:
        a, b, c, d = (value * 65536 for value in matrix)
        rotation = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
        image = last(patched(video([picture(0), picture(1)]), b"tkhd", 40, rotation))
        expected = picture(1) if operation is None else picture(1).transpose(operation)
        assert image.size == expected.size
        assert_like(corners(image), corners(expected), within=10)

    def test_pixels_that_are_not_square(self) -> None:
        image = last(video([picture(0)], tags={"sample_aspect_ratio": Fraction(3, 2)}))
        assert image.size == (192, 96)
        assert_like(corners(image), shown(0), within=10)

    @pytest.mark.parametrize(("ratio", "short_side"), [("16:9", 720), ("9:16", 1080)])
    def test_a_video_of_the_sandbox_ends_with_its_last_image(
        self, tmp_path: Path, ratio: str, short_side: int
    ) -> None:
        across, down = map(int, ratio.split(":"))
        size = (short_side * 16 // 9, short_side) if across > down else (short_side, short_side * 16 // 9)
        picture(7, size).save(tmp_path / "last.png")
        request = VideoRequest(
            "kling-v3", (Shot("A turn", 3),), 3, ratio, "https://a.example/first", "https://a.example/last",
            audio=True, short_side=short_side,
        )  # fmt: skip
        images = {str(request.image): None, str(request.last_image): tmp_path / "last.png"}
        picture(3, size).save(tmp_path / "first.png")
        images[str(request.image)] = tmp_path / "first.png"
        render(request, images, tmp_path / "clip.mp4")
        image = last((tmp_path / "clip.mp4").read_bytes())
        assert image.size == size
        assert_like(corners(image), shown(7))


class TestBroken:
    @pytest.mark.parametrize(
        ("data", "finding"),
        [
            (b"", "cannot be decoded"),
            (b"<html>no such file</html>" * 50, "cannot be decoded"),
            (video([], codec="libx264"), "cannot be decoded|no picture|no frame"),
        ],
    )
    def test_no_video(self, data: bytes, finding: str) -> None:
        with pytest.raises(KlingDownloadError, match=finding):
            last(data)

    def test_sound_alone(self) -> None:
        file = io.BytesIO()
        with av.open(file, "w", format="mp4") as output:
            add_tone(output, 1)
        with pytest.raises(KlingDownloadError, match="no picture"):
            last(file.getvalue())

    @pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
    def test_a_cut_file_has_no_other_last_frame(self, tmp_path: Path, kept: float) -> None:
        """Its index comes first, so that it can be opened: the frames at its end are missing."""
        source = video((picture(index) for index in range(COUNT)), options=GROUPS)
        whole = remuxed(source, tmp_path / "clip.mp4", "faststart")
        media = whole.index(b"mdat")
        with pytest.raises(KlingError):
            last(whole[: media + round((len(whole) - media) * kept)])

    def test_a_playlist_opens_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that sends one in place of a video must not make this machine read files or send requests."""
        part = video([picture(0)], container="mpegts")
        (tmp_path / "part.ts").write_bytes(part)
        monkeypatch.chdir(tmp_path)
        with RawServer(http_response(part)) as server:
            url = f"{server.base_url}/part.ts"
            (tmp_path / "clip.m3u8").write_text(
                f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n"
            )
            (tmp_path / "clip.txt").write_text("ffconcat version 1.0\nfile part.ts\n")
            for name in ("clip.m3u8", "clip.txt"):
                with pytest.raises(KlingDownloadError, match="cannot be decoded"):
                    last_frame_png(tmp_path / name)
            assert server.requests == []

    def test_an_error_of_the_store_stays_one(self) -> None:
        class Gone(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise ConnectionResetError("the store has gone")

        with pytest.raises(ConnectionResetError, match="the store has gone"):
            last_frame_png(Gone(b"x"))


class TestWithoutPyAV:
    def test_the_error_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "av", None)
        for call in (require_av, lambda: last_frame_png(io.BytesIO())):
            with pytest.raises(KlingValidationError, match=r"pip install 'airflow-provider-kling\[media\]'"):
                call()

    def test_importing_the_module_does_not_import_it(self) -> None:
        program = "import sys, airflow_provider_kling.media.last_frame; print({'av', 'PIL'} & {*sys.modules})"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "set()"
