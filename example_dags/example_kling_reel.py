# SPDX-License-Identifier: Apache-2.0
"""
A table of shots becomes one film, `reel.mp4`, with a poster and a contact sheet beside it.

Each shot is a mapped task that buys and stores its clip; whatever its size, it is fitted onto one canvas and
cross-faded into the next. A shot that is refused is left out, and the result names it. Needs the extra `media`.
"""

from __future__ import annotations

import heapq
import logging
import shutil
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow.providers.common.compat.sdk import AirflowFailException, ObjectStoragePath, Param, dag, task

from airflow_provider_kling.operators.kling import KlingGenerateOperator

log = logging.getLogger(__name__)

# A row may have any argument of KlingGenerateOperator that is not the same for all.
ROWS = [
    {"prompt": "Waves roll onto a black sand beach at dawn.", "aspect_ratio": "16:9"},
    {"prompt": "A paper boat drifts down a rainy street.", "aspect_ratio": "9:16", "model": "kling-v3-std-silent"},
    {"prompt": "Lanterns rise over a quiet mountain village.", "aspect_ratio": "1:1"},
]
ROW = {"type": "object", "required": ["prompt"]}
WIDTH, HEIGHT, RATE, FADE = 1280, 720, 24, 0.5
SAMPLE_RATE = 48_000
# Colour matrices by their numbers in ITU-T H.273.
BT_709, UNSPECIFIED = 1, 2


@dag(
    schedule=None,
    tags=["kling"],
    doc_md=__doc__,
    params={
        "rows": Param(ROWS, type="array", items=ROW, minItems=1, description="In order"),
        "folder": Param("file:///tmp/kling/reel/", type="string", pattern="/$", description="Where all files go"),
    },
)
def example_kling_reel():
    @task
    def shots(params: dict) -> list[dict]:
        return [{"model": "kling-v3-std-audio", "duration": 3, **row} for row in params["rows"]]

    # all_done: the film is made of the clips that there are.
    @task(trigger_rule="all_done")
    def join(rows: list[dict], params: dict, ti=None) -> dict:
        made = [ti.xcom_pull(task_ids="generate", map_indexes=index) for index in range(len(rows))]
        missing = [row["prompt"] for row, clip in zip(rows, made, strict=True) if not clip]
        for prompt in missing:
            log.warning("The film goes without this shot, which was not made: %s", prompt)
        if len(missing) == len(rows):
            raise AirflowFailException("No shot was made; the tasks named generate say why")
        folder = ObjectStoragePath(params["folder"])
        with TemporaryDirectory() as scratch:
            clips = [Path(scratch, f"{index}.mp4") for index, clip in enumerate(made) if clip]
            for path, clip in zip(clips, filter(None, made), strict=True):
                copy(ObjectStoragePath(clip["path"]), path)
            seconds = make_film(clips, Path(scratch))
            names = ("reel.mp4", "poster.jpg", "contact_sheet.jpg")
            for name in names:
                copy(Path(scratch, name), folder / name)
        return {"files": [str(folder / name) for name in names], "seconds": seconds, "missing": missing}

    rows = shots()
    generate = KlingGenerateOperator.partial(
        task_id="generate", save_to="{{ params.folder }}clips/{map_index}-{slug}.{ext}"
    ).expand_kwargs(rows)
    generate >> join(rows)


def copy(source, target) -> None:
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write)


def make_film(paths: list[Path], folder: Path) -> float:
    """Join clips into three files in a folder, and return the seconds of the film. Frames are streamed."""
    import av

    with ExitStack() as stack:
        # Opened twice, for pictures and sound are read apart.
        clips, again = ([stack.enter_context(av.open(str(path), "r")) for path in paths] for _ in range(2))
        lengths = [float(clip.streams.video[0].duration * clip.streams.video[0].time_base) for clip in clips]
        fade = min(FADE, min(lengths) / 2)
        starts = [sum(lengths[:index]) - index * fade for index in range(len(clips))]
        film = stack.enter_context(av.open(str(folder / "reel.mp4"), "w", options={"movflags": "+faststart"}))
        video = film.add_stream("libx264", rate=RATE, width=WIDTH, height=HEIGHT, pix_fmt="yuv420p")
        video.codec_context.colorspace = BT_709
        tracks = [pictures(clips, starts, fade)]
        if any(clip.streams.audio for clip in clips):
            audio = film.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
            tracks.append(sounds(again, lengths, fade))
        middles = [start + length / 2 for start, length in zip(starts, lengths, strict=True)]
        stills: list = []
        # In the order of time, so that the film can be played while it is read.
        for frame in heapq.merge(*tracks, key=lambda frame: frame.time):
            is_picture = isinstance(frame, av.VideoFrame)
            if is_picture and len(stills) < len(middles) and frame.time >= middles[len(stills)]:
                stills.append(frame)
            film.mux((video if is_picture else audio).encode(frame))
        for stream in film.streams:
            film.mux(stream.encode())
    save_jpeg(folder / "poster.jpg", stills[:1])
    columns = min(len(stills), 4)
    rows = -(-len(stills) // columns)
    save_jpeg(folder / "contact_sheet.jpg", stills, "scale=320:-2", f"tile={columns}x{rows}:margin=8:padding=8")
    return starts[-1] + lengths[-1]


def pictures(clips: list, starts: list[float], fade: float):
    """Yield the frames of the film: each clip on the canvas, cross-faded into the next."""
    import av

    graph, sources, joined = av.filter.Graph(), [], None
    for clip, start in zip(clips, starts, strict=True):
        stream = clip.streams.video[0]
        sources.append((stream, graph.add_buffer(template=stream)))
        # Players take BT.709 if a clip of this size does not name its colour matrix.
        matrix = "bt709" if stream.codec_context.colorspace == UNSPECIFIED else "auto"
        fitted = chain(
            sources[-1][1],
            f"fps={RATE}:start_time=0",
            f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=decrease:in_color_matrix={matrix}"
            ":out_color_matrix=bt709:out_range=limited",
            f"pad={WIDTH}:{HEIGHT}:-1:-1",
            "setsar=1",
            "format=yuv420p",
        )
        joined = cross(joined, fitted, f"xfade=duration={fade}:offset={start}") if joined else fitted
    for frame in run(graph, chain(joined, "buffersink"), decoded(sources)):
        frame.pict_type = 0  # the encoder decides
        yield frame


def sounds(clips: list, lengths: list[float], fade: float):
    """Yield the sound of the film; a clip that has none is silent."""
    import av

    graph, sources, joined = av.filter.Graph(), [], None
    for clip, length in zip(clips, lengths, strict=True):
        if clip.streams.audio:
            stream = clip.streams.audio[0]
            sources.append((stream, graph.add_abuffer(template=stream)))
            sound = chain(sources[-1][1], f"aresample={SAMPLE_RATE}:async=1:first_pts=0")
        else:
            sound = graph.add("anullsrc", f"sample_rate={SAMPLE_RATE}")
        sound = chain(sound, "aformat=fltp:channel_layouts=stereo", "apad", f"atrim=end={length}")
        joined = cross(joined, sound, f"acrossfade=duration={fade}") if joined else sound
    yield from run(graph, chain(joined, "abuffersink"), decoded(sources))


def chain(node, *filters: str):
    """Append filters, each written as for ffmpeg, and return the last one."""
    for text in filters:
        name, _, options = text.partition("=")
        node.link_to(following := node.graph.add(name, options or None))
        node = following
    return node


def cross(first, second, text: str):
    """Append a filter that takes two inputs."""
    second.link_to(both := chain(first, text), 0, 1)
    return both


def run(graph, sink, frames):
    """Push frames into the sources of a graph, and yield what leaves it meanwhile."""
    graph.configure()
    for source, frame in frames:
        # Nothing leaves it for now; or a source takes no more, for its sound is longer than its picture.
        with suppress(BlockingIOError, EOFError):
            source.push(frame)
            while True:
                yield sink.pull()


def decoded(sources: list):
    """Yield each frame of one clip after the other, with its source, which None closes."""
    for stream, source in sources:
        yield from ((source, frame) for frame in stream.container.decode(stream))
        yield source, None


def save_jpeg(path: Path, frames: list, *filters: str) -> None:
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(template=frames[0])
    sink = chain(source, *filters, "scale=out_color_matrix=bt601:out_range=full", "format=yuvj420p", "buffersink")
    [image] = run(graph, sink, ((source, frame) for frame in (*frames, None)))
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = image.width, image.height, "yuvj420p"
    encoder.time_base, encoder.options = Fraction(1, RATE), {"qmin": "2", "qmax": "2"}
    path.write_bytes(b"".join(bytes(packet) for frame in (image, None) for packet in encoder.encode(frame)))


example_kling_reel()
