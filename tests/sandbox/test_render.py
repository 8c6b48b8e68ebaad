# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from airflow_provider_kling.sandbox import studio
from airflow_provider_kling.sandbox.contract import parse_request
from airflow_provider_kling.sandbox.drawing import font_for, legible, picture, wrap, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LATIN = "The quick brown fox jumps over the lazy dog and asks for more"


class Film(NamedTuple):
    frames: dict[int, Image.Image]
    count: int
    codec: str
    pixel_format: str
    size: tuple[int, int]
    seconds: float
    rate: float
    sound: list[tuple[str, float]]
    metadata: dict[str, str]


def watch(data: bytes, *indices: int) -> Film:
    """Decode a whole file; keep the frames at ``indices``."""
    with av.open(io.BytesIO(data)) as container:
        (video,) = container.streams.video
        frames, count = {}, 0
        for frame in container.decode(video):
            if count in indices:
                frames[count] = frame.to_image()  # type: ignore[no-untyped-call]
            count += 1
        return Film(
            frames,
            count,
            video.codec_context.name,
            str(video.codec_context.pix_fmt),
            (video.width, video.height),
            (container.duration or 0) / av.time_base,
            float(video.average_rate or 0),
            [
                (stream.codec_context.name, float((stream.duration or 0) * (stream.time_base or 0)))
                for stream in container.streams.audio
            ],
            dict(container.metadata),
        )


def loudest(data: bytes) -> float:
    """Return the highest level of the sound, 1 being full scale."""
    with av.open(io.BytesIO(data)) as container:
        # A plane is padded beyond its samples, of four bytes each.
        samples = b"".join(bytes(frame.planes[0])[: frame.samples * 4] for frame in container.decode(audio=0))
    return max(abs(level) for level in memoryview(samples).cast("f"))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of two pictures per channel, 0 to 255."""
    means = ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean
    return sum(means) / len(means)


class TestFile:
    @pytest.mark.parametrize(
        ("model", "ratio", "size"),
        [
            ("kling-v3-std-silent", "16:9", (1280, 720)),
            ("kling-v3-std-audio", "9:16", (720, 1280)),
            ("kling-v3-std-silent", "1:1", (720, 720)),
            ("kling-v3-pro-audio", "16:9", (1920, 1080)),
            ("kling-v3-pro-silent", "9:16", (1080, 1920)),
        ],
    )
    def test_size_length_and_sound(self, caller: Any, model: str, ratio: str, size: tuple[int, int]) -> None:
        task_id = caller.task("a prompt", model=model, aspect_ratio=ratio, duration=3)
        data = caller.video(task_id).content
        film = watch(data)
        assert (film.codec, film.pixel_format, film.size) == ("h264", "yuv420p", size)
        assert (film.seconds, film.rate, film.count) == (3.0, 24.0, 72)
        assert film.metadata["comment"] == "a prompt"
        if model.endswith("audio"):
            assert film.sound == [("aac", 3.0)]
            assert 0.05 < loudest(data) < 0.5
        else:
            assert film.sound == []

    def test_five_seconds_unless_asked_otherwise(self, caller: Any) -> None:
        assert watch(caller.video(caller.task()).content).seconds == 5.0

    def test_players_can_start_before_the_end_arrives(self, caller: Any) -> None:
        data = caller.video(caller.task(duration=3)).content
        assert data[4:8] == b"ftyp"
        assert data.index(b"moov") < data.index(b"mdat")

    def test_it_moves(self, caller: Any) -> None:
        frames = watch(caller.video(caller.task(duration=3)).content, 0, 36, 71).frames
        assert difference(frames[0], frames[36]) > 0.5
        assert difference(frames[36], frames[71]) > 0.5


class TestPrompt:
    def test_it_is_in_the_picture(self, caller: Any) -> None:
        film = watch(caller.video(caller.task(LATIN, duration=3)).content, 0)
        text = film.frames[0].convert("L").point(lambda level: 255 if level > 230 else 0)
        left, _, right, _ = text.getbbox() or (0, 0, 0, 0)
        assert right - left > 600
        assert ImageStat.Stat(text).mean[0] > 3

    def test_a_long_prompt_is_there_to_its_end(self) -> None:
        card = Image.new("RGB", (1280, 720))
        write(card, "word " * 500, (0, 0, 1280, 720), 65)
        cut = card.copy()
        write(cut, "word " * 500 + "END", (0, 0, 1280, 720), 65)
        assert difference(card, cut) > 0

    def test_a_text_beyond_all_measure_is_cut(self) -> None:
        card = Image.new("RGB", (200, 100))
        write(card, "word " * 500, (0, 0, 200, 100), 30)
        assert card.getbbox() is not None

    def test_lines_break_between_words(self) -> None:
        font = font_for(LATIN, 20)
        lines = wrap(LATIN, font, 200)
        assert " ".join(lines) == LATIN
        assert all(font.getlength(line) <= 200 for line in lines)

    @pytest.mark.parametrize("text", ["x" * 100, "沙" * 30, "short " + "y" * 100 + " tail"])
    def test_lines_break_inside_what_has_no_spaces(self, text: str) -> None:
        font = font_for(LATIN, 20)
        lines = wrap(text, font, 200)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert len(lines) > 1
        assert all(font.getlength(line) <= 200 for line in lines)

    def test_paragraphs_stay(self) -> None:
        assert wrap("a\n\nb", font_for("a", 20), 200) == ["a", "", "b"]

    def test_letters_without_a_font_stay_distinct(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_kling.sandbox.drawing._wide", lambda _height: None)
        assert legible("desert 沙漠") == r"desert \u6c99\u6f20"

    def test_letters_with_a_font_of_the_system_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_kling.sandbox.drawing._wide", lambda _height: "wide")
        monkeypatch.setattr(
            "airflow_provider_kling.sandbox.drawing._has", lambda font, letter: font == "wide" or letter < "z"
        )
        assert legible("desert 沙漠") == "desert 沙漠"
        assert font_for("沙漠", 20) == "wide"


class TestShots:
    def test_each_shot_shows_in_its_turn(self, caller: Any) -> None:
        shots = [{"prompt": "the first shot", "duration": 1}, {"prompt": "the second shot", "duration": 2}]
        task_id = caller.task(None, duration=3, extra_body={"multi_prompt": shots})
        first, second = (
            watch(caller.video(caller.task(shot["prompt"], duration=3)).content, 0, 23, 24, 71).frames
            for shot in shots
        )
        frames = watch(caller.video(task_id).content, 0, 23, 24, 71).frames
        for index in (0, 23):
            assert difference(frames[index], first[index]) < 1 < difference(frames[index], second[index])
        for index in (24, 71):
            assert difference(frames[index], second[index]) < 1 < difference(frames[index], first[index])


class TestImages:
    @pytest.fixture
    def media(self, tmp_path: Path) -> Path:
        red, blue = Image.new("RGB", (1200, 800), "red"), Image.new("RGB", (600, 400), "blue")
        red.paste("yellow", (0, 0, 600, 400))
        red.save(tmp_path / "start.png")
        blue.save(tmp_path / "end frame.jpg")
        Image.new("L", (3000, 300), 200).save(tmp_path / "wide.png")
        (tmp_path / "text.png").write_text("not a picture")
        return tmp_path

    def test_first_and_last_frame_are_the_given_images(self, start: Callable[..., Any], media: Path) -> None:
        caller = start(media_dir=media)
        task_id = caller.task(
            "a turn",
            duration=3,
            aspect_ratio="9:16",
            image="https://example.com/some/start.png?size=1",
            last_image="https://www.example.org/end%20frame.jpg",
        )
        film = watch(caller.video(task_id).content, 0, 36, 71)
        assert film.size == (1080, 720)
        with Image.open(media / "start.png") as first, Image.open(media / "end frame.jpg") as last:
            assert difference(film.frames[0], first.resize(film.size)) < 4
            assert difference(film.frames[71], last.resize(film.size)) < 4
        upper_right = film.frames[36].crop((700, 0, 1080, 300))
        assert difference(upper_right, Image.new("RGB", (380, 300), (128, 0, 128))) < 8

    def test_one_image_stays_beneath_the_caption(self, start: Callable[..., Any], media: Path) -> None:
        caller = start(media_dir=media)
        task_id = caller.task(
            "a walk", duration=3, model="kling-v3-pro-silent", image="https://example.com/start.png"
        )
        film = watch(caller.video(task_id).content, 0, 71)
        assert film.size == (1620, 1080)
        with Image.open(media / "start.png") as image:
            first = image.resize(film.size)
        assert difference(film.frames[0], first) < 4
        top = (0, 0, film.size[0], film.size[1] // 2)
        assert difference(film.frames[71].crop(top), first.crop(top)) < 4
        assert difference(film.frames[71], first) > 20

    def test_an_extreme_image_keeps_within_the_platforms_limit(
        self, start: Callable[..., Any], media: Path
    ) -> None:
        caller = start(media_dir=media)
        film = watch(caller.video(caller.task(duration=3, image="https://cdn.example/wide.png")).content)
        assert film.size == (1800, 720)

    def test_a_name_without_a_file_gets_a_picture_of_its_own(self, caller: Any) -> None:
        url = "https://example.com/portrait.png"
        film = watch(caller.video(caller.task(duration=3, image=url)).content, 0)
        assert film.size == (1280, 720)
        assert difference(film.frames[0], picture(url, None)) < 4
        assert difference(picture(url, None), picture("https://example.com/other.png", None)) > 4

    @pytest.mark.parametrize(
        ("url", "found"),
        [
            ("https://example.com/start.png", True),
            ("https://a.b.example.net/x/start.png", True),
            ("https://shop.example/start.png", True),
            ("https://notexample.com/start.png", False),
            ("https://example.com.evil.org/start.png", False),
            ("https://example.com/none.png", False),
            ("https://example.com/", False),
            ("https://example.com/..", False),
            ("https://example.com/%2e%2e%2fstart.png", True),
        ],
    )
    def test_which_urls_stand_for_files(self, media: Path, url: str, found: bool) -> None:
        expected = media / "start.png" if found else None
        assert studio.Studio(media, None).media_file(url) == expected

    def test_a_file_that_is_no_picture(self, start: Callable[..., Any], media: Path) -> None:
        answer = (caller := start(media_dir=media)).video(caller.task(image="https://example.com/text.png"))
        assert answer.status_code == 500
        assert "cannot be rendered" in answer.json()["error"]["message"]

    def test_a_changed_file_makes_a_new_video(self, start: Callable[..., Any], media: Path) -> None:
        caller = start(media_dir=media)
        before = caller.video(caller.task(duration=3, image="https://example.com/start.png")).content
        Image.new("RGB", (300, 300)).save(media / "start.png")
        after = caller.video(caller.task(duration=3, image="https://example.com/start.png")).content
        assert watch(before).size != watch(after).size


class TestStudio:
    def test_a_request_is_rendered_once_and_only_when_asked_for(
        self, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        rendered = []
        monkeypatch.setattr(
            studio, "_render", lambda *given: (rendered.append(given), given[-1].write_bytes(b"x"))
        )
        caller = start(cache_dir=tmp_path / "new")
        tasks = [caller.task("same") for _ in range(3)] + [caller.task("other")]
        assert rendered == []
        for task_id in tasks:
            assert caller.video(task_id).content == b"x"
        assert len(rendered) == 2

    def test_the_server_answers_while_it_renders(
        self, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        rendering, go_on = threading.Event(), threading.Event()

        def render(*given: Any) -> None:
            rendering.set()
            assert go_on.wait(20)
            given[-1].write_bytes(b"x")

        monkeypatch.setattr(studio, "_render", render)
        caller = start(cache_dir=tmp_path)
        task_id = caller.task()
        download = threading.Thread(target=caller.video, args=(task_id,))
        download.start()
        assert rendering.wait(20)
        assert caller.status(task_id).json()["status"] == "completed"
        go_on.set()
        download.join()

    def test_a_failure_is_not_remembered(
        self, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        def fail(*_given: Any) -> None:
            raise OSError("disk full")

        caller = start(cache_dir=tmp_path)
        task_id = caller.task()
        with monkeypatch.context() as patch:
            patch.setattr(studio, "_render", fail)
            assert "disk full" in caller.video(task_id).text
        monkeypatch.setattr(studio, "_render", lambda *given: given[-1].write_bytes(b"x"))
        assert caller.video(task_id).content == b"x"

    def test_no_half_file_is_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow_provider_kling.sandbox import render

        def fail(*_given: Any) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(render, "_encode", fail)
        request = parse_request({"model": "kling-v3-std-silent", "prompt": "a"})
        with pytest.raises(RuntimeError, match="broken"):
            render.render(request, {}, tmp_path / "a.mp4")
        assert list(tmp_path.iterdir()) == []
