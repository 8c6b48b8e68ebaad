# SPDX-License-Identifier: Apache-2.0
"""The film that the example DAG joins, decoded and looked at."""

from __future__ import annotations

import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("av", reason="the extra `media` is not installed")
pytest.importorskip("PIL", reason="the extra `sandbox` is not installed")

import av
from PIL import Image, ImageChops, ImageStat

from airflow_provider_kling.sandbox.render import render
from airflow_provider_kling.sandbox.video import Shot, VideoRequest
from tests.fixtures.real_videos import Rgb, plain_frame, video

EXAMPLE = Path(__file__).parents[1] / "example_dags" / "example_kling_reel.py"
RATE, FADE = 24, 0.5
RED, GREEN, BLUE, BLACK = (200, 30, 30), (30, 160, 60), (40, 40, 200), (0, 0, 0)
Place = tuple[float, float]
MakeFilm = Callable[[list[Path], Path], float]


class Film(NamedTuple):
    """
    What a player finds in a film.

    :param frames: Its frames.
    :param levels: The highest level of the sound in each hundredth of a second, 1 being full scale.
    :param order: The time of each packet, in the order of the file.
    """

    size: tuple[int, int]
    seconds: float
    frames: list[Image.Image]
    levels: list[float]
    order: list[float]

    def at(self, seconds: float) -> Image.Image:
        return self.frames[round(seconds * RATE)]

    def colour(self, seconds: float, x: float = 0.5, y: float = 0.5) -> Rgb:
        """The colour of a place of the picture, from 0 to 1."""
        return colour(self.at(seconds), x, y)

    def level(self, start: float, end: float) -> float:
        return max(self.levels[round(start * 100) : round(end * 100)])


def watch(path: Path) -> Film:
    with av.open(str(path)) as container:
        order = [float(packet.pts * packet.time_base) for packet in container.demux() if packet.pts is not None]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_image() for frame in container.decode(stream)]
        seconds = float(stream.duration * stream.time_base)
        assert stream.average_rate == RATE
    levels: list[float] = []
    with av.open(str(path)) as container:
        if container.streams.audio:
            rate = container.streams.audio[0].rate
            samples: list[float] = []
            for frame in container.decode(audio=0):
                samples += memoryview(bytes(frame.planes[0])[: frame.samples * 4]).cast("f")
            step = rate // 100
            levels = [max(map(abs, samples[at : at + step])) for at in range(0, len(samples), step)]
    return Film(frames[0].size, seconds, frames, levels, order)


def colour(image: Image.Image, x: float, y: float) -> Rgb:
    return image.getpixel((round(x * (image.width - 1)), round(y * (image.height - 1))))  # type: ignore[return-value]


def is_near(one: Rgb, other: Rgb, within: int = 8) -> bool:
    return all(abs(a - b) <= within for a, b in zip(one, other, strict=True))


def mixture(one: Rgb, other: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a * (1 - share) + b * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def clip(
    path: Path, rgb: Rgb, size: tuple[int, int] = (640, 360), seconds: float = 2, *, tone: float | None = None,
    rate: int = RATE,
) -> Path:  # fmt: skip
    """A clip of one colour."""
    frames = [Image.new("RGB", size, rgb)] * round(seconds * rate)
    path.write_bytes(video(frames, rate=rate, tone_seconds=tone, tags={"colorspace": 5}))
    return path


@pytest.fixture(scope="module")
def make_film() -> MakeFilm:
    function: MakeFilm = runpy.run_path(str(EXAMPLE))["make_film"]
    return function


@pytest.fixture(scope="module")
def mixed(make_film: MakeFilm, tmp_path_factory: pytest.TempPathFactory) -> tuple[Film, Path, float]:
    """Three clips of other shapes, rates and sounds: seen from 0 to 1.5, 2 to 3.5 and 4 to 5 seconds."""
    folder = tmp_path_factory.mktemp("mixed")
    clips = [
        # Its sound is too long: it must not move that of the others.
        clip(folder / "wide.mp4", RED, (640, 360), tone=2.6),
        clip(folder / "high.mp4", GREEN, (360, 640), seconds=2.5, rate=30),
        clip(folder / "square.mp4", BLUE, (250, 250), seconds=1.5, rate=16, tone=1.0),
    ]
    seconds = make_film(clips, folder)
    return watch(folder / "reel.mp4"), folder, seconds


def test_it_lasts_as_long_as_its_clips_without_what_overlaps(mixed: tuple[Film, Path, float]) -> None:
    film, _, seconds = mixed
    assert film.size == (1280, 720)
    assert seconds == pytest.approx(2 + 2.5 + 1.5 - 2 * FADE, abs=0.001)
    assert film.seconds == pytest.approx(seconds, abs=1 / RATE)
    assert len(film.frames) == pytest.approx(seconds * RATE, abs=1)
    assert len(film.levels) / 100 == pytest.approx(seconds, abs=1 / RATE)


@pytest.mark.parametrize(("start", "end", "expected"), [(0.0, 1.45, RED), (2.05, 3.45, GREEN), (4.05, 4.95, BLUE)])
def test_each_clip_is_seen_in_its_time(
    mixed: tuple[Film, Path, float], start: float, end: float, expected: Rgb
) -> None:
    film = mixed[0]
    for seconds in (start, (start + end) / 2, end):
        assert is_near(film.colour(seconds), expected), seconds


@pytest.mark.parametrize(
    ("seconds", "inside", "outside"),
    [(1.0, (0.01, 0.01), None), (2.75, (0.37, 0.01), (0.33, 0.5)), (4.5, (0.24, 0.02), (0.2, 0.5))],
)
def test_a_clip_of_another_shape_is_whole_between_black_bars(
    mixed: tuple[Film, Path, float],
    seconds: float,
    inside: tuple[float, float],
    outside: tuple[float, float] | None,
) -> None:
    film = mixed[0]
    assert is_near(film.colour(seconds, *inside), film.colour(seconds))
    if outside:
        assert is_near(film.colour(seconds, *outside), BLACK)
        assert is_near(film.colour(seconds, 1 - outside[0], outside[1]), BLACK)


@pytest.mark.parametrize(("start", "one", "other"), [(1.5, RED, GREEN), (3.5, GREEN, BLUE)])
def test_a_cross_fade_mixes_both_clips(
    mixed: tuple[Film, Path, float], start: float, one: Rgb, other: Rgb
) -> None:
    film = mixed[0]
    for share in (0.25, 0.5, 0.75):
        found, expected = film.colour(start + share * FADE), mixture(one, other, share)
        assert is_near(found, expected, within=14), f"{found} instead of {expected} at {share}"
    assert is_near(film.colour(1.75, 0.05), mixture(RED, BLACK, 0.5), within=14)


def test_sound_stays_with_its_clip(mixed: tuple[Film, Path, float]) -> None:
    film = mixed[0]
    assert film.level(0.1, 1.4) > 0.05
    assert film.level(2.1, 3.4) < 0.005, "a clip without sound is silent"
    assert film.level(4.1, 4.4) > 0.05
    assert film.level(4.6, 4.9) < 0.005, "its sound is shorter than its picture"
    assert 0.01 < film.level(1.7, 1.8) < film.level(1.0, 1.1) * 0.9, "sound is faded too"


def test_pictures_and_sound_alternate_in_the_file(mixed: tuple[Film, Path, float]) -> None:
    film = mixed[0]
    assert max(abs(a - b) for a, b in zip(film.order, film.order[1:], strict=False)) < 1.5


def test_the_poster_shows_the_first_clip(mixed: tuple[Film, Path, float]) -> None:
    with Image.open(mixed[1] / "poster.jpg") as poster:
        assert poster.format == "JPEG"
        assert poster.size == (1280, 720)
        assert is_near(colour(poster.convert("RGB"), 0.5, 0.5), RED)


def test_the_contact_sheet_shows_every_clip(mixed: tuple[Film, Path, float]) -> None:
    with Image.open(mixed[1] / "contact_sheet.jpg") as sheet:
        assert sheet.format == "JPEG"
        assert sheet.size == (8 + 3 * 328, 8 + 180 + 8)
        for index, expected in enumerate((RED, GREEN, BLUE)):
            assert is_near(sheet.convert("RGB").getpixel((8 + 328 * index + 160, 98)), expected)  # type: ignore[arg-type]


def test_five_clips_make_two_rows(make_film: MakeFilm, tmp_path: Path) -> None:
    colours = [RED, GREEN, BLUE, RED, BLUE]
    clips = [clip(tmp_path / f"{index}.mp4", rgb, (160, 90), 1) for index, rgb in enumerate(colours)]
    make_film(clips, tmp_path)
    with Image.open(tmp_path / "contact_sheet.jpg") as sheet:
        assert sheet.size == (8 + 4 * 328, 8 + 2 * 188)
        assert is_near(sheet.convert("RGB").getpixel((168, 286)), BLUE)  # type: ignore[arg-type]
        assert is_near(sheet.convert("RGB").getpixel((500, 286)), BLACK)  # type: ignore[arg-type]
    film = watch(tmp_path / "reel.mp4")
    assert film.seconds == pytest.approx(5 - 4 * FADE, abs=1 / RATE)
    assert all(is_near(film.colour(0.5 + index / 2), rgb, within=20) for index, rgb in enumerate(colours))
    assert film.levels == []


def test_one_clip_is_a_film(make_film: MakeFilm, tmp_path: Path) -> None:
    assert make_film([clip(tmp_path / "a.mp4", RED, seconds=1, tone=1)], tmp_path) == pytest.approx(1)
    film = watch(tmp_path / "reel.mp4")
    assert film.seconds == pytest.approx(1, abs=1 / RATE)
    assert film.level(0.1, 0.9) > 0.05


def test_clips_shorter_than_two_fades(make_film: MakeFilm, tmp_path: Path) -> None:
    clips = [clip(tmp_path / f"{rgb[0]}.mp4", rgb, seconds=0.5) for rgb in (RED, BLUE)]
    assert make_film(clips, tmp_path) == pytest.approx(0.75, abs=0.001)
    assert watch(tmp_path / "reel.mp4").seconds == pytest.approx(0.75, abs=1 / RATE)


@pytest.mark.parametrize(
    ("matrix", "tags"), [("bt709", {}), ("bt709", {"colorspace": 1}), ("bt601", {"colorspace": 5})]
)
def test_colours_are_kept(make_film: MakeFilm, tmp_path: Path, matrix: str, tags: dict[str, int]) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(video([plain_frame(RED, (1280, 720), matrix)] * 12, tags=tags))
    make_film([path], tmp_path)
    assert is_near(watch(tmp_path / "reel.mp4").colour(0.2), RED, within=4)
    with Image.open(tmp_path / "poster.jpg") as poster:
        assert is_near(colour(poster.convert("RGB"), 0.5, 0.5), RED, within=4)


def test_clips_of_the_sandbox(make_film: MakeFilm, tmp_path: Path) -> None:
    shapes: Sequence[tuple[str, bool]] = [("16:9", True), ("9:16", False), ("1:1", True)]
    clips = []
    for index, (ratio, audio) in enumerate(shapes):
        clips.append(tmp_path / f"{index}.mp4")
        request = VideoRequest("kling-v3", (Shot(f"Shot {index}", 3),), 3, ratio, audio=audio)
        render(request, {}, clips[-1])
    assert make_film(clips, tmp_path) == pytest.approx(8)
    film = watch(tmp_path / "reel.mp4")
    assert (film.size, film.seconds) == ((1280, 720), pytest.approx(8, abs=1 / RATE))
    for index, path in enumerate(clips):
        original = watch(path).at(1.5)
        original.thumbnail((1280, 720))
        fitted = Image.new("RGB", (1280, 720))
        fitted.paste(original, ((1280 - original.width) // 2, (720 - original.height) // 2))
        difference = ImageStat.Stat(ImageChops.difference(film.at(1.5 + 2.5 * index), fitted)).mean
        assert sum(difference) / 3 < 3, index


def test_a_long_film_does_not_fill_the_memory(tmp_path: Path) -> None:
    """Its frames alone would take more than a gigabyte."""
    clips = [clip(tmp_path / f"{index}.mp4", RED, (320, 180), seconds=18) for index in range(2)]
    program = (
        "import resource, runpy, sys; from pathlib import Path\n"
        "make_film = runpy.run_path(sys.argv[1])['make_film']\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "make_film([Path(path) for path in sys.argv[3:]], Path(sys.argv[2]))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    command = [sys.executable, "-c", program, str(EXAMPLE), str(tmp_path), *map(str, clips)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) < 500
