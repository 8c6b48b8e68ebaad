# SPDX-License-Identifier: Apache-2.0
"""Video files on demand: each distinct request is rendered once, at its first download."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from airflow_provider_kling.sandbox.video import VideoRequest

EXAMPLE_DOMAINS = ("example.com", "example.org", "example.net", "example")


class Studio:
    """
    Renders videos in a thread and keeps the files. Use it as a context manager, inside the event loop.

    :param media_dir: Folder with the files for images under the reserved example domains.
    :param cache_dir: Folder for the rendered files; None uses a temporary one.
    :param one_video: Serve the video of the first request for every request.
    """

    def __init__(self, media_dir: Path | None, cache_dir: Path | None, *, one_video: bool = False) -> None:
        self._media_dir = media_dir
        self._one_video = one_video
        self._only: VideoRequest | None = None
        self._cache_dir = cache_dir
        self._renderings: dict[Path, asyncio.Future[None]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._cache_dir is None:
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="kling-sandbox-")))
        else:
            self._folder = self._cache_dir
            self._folder.mkdir(parents=True, exist_ok=True)
        # One thread: the encoder uses several cores by itself.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="kling-render")
        return self

    def __exit__(self, *exc: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._stack.close()

    async def video_file(self, request: VideoRequest) -> Path:
        """Return the file for ``request``; render it if there is none yet."""
        if self._one_video:
            request = self._only = self._only or request
        images = {url: self.media_file(url) for url in (request.image, request.last_image) if url}
        path = self._folder / f"{_fingerprint(request, images)}.mp4"
        if path not in self._renderings:
            self._renderings[path] = asyncio.get_running_loop().run_in_executor(
                self._executor, _render, request, images, path
            )
        try:
            await self._renderings[path]
        except Exception:
            self._renderings.pop(path, None)
            raise
        return path

    def media_file(self, url: str) -> Path | None:
        """Return the file of the media folder for an image URL, None if there is none."""
        parts = urlsplit(url)
        name = PurePosixPath(unquote(parts.path)).name
        host = f".{parts.hostname or ''}"
        if (
            self._media_dir is None
            or not name
            or not host.endswith(tuple(f".{known}" for known in EXAMPLE_DOMAINS))
        ):
            return None
        path = self._media_dir / name
        return path if path.is_file() else None


def _fingerprint(request: VideoRequest, images: dict[str, Path | None]) -> str:
    parts: list[object] = [request]
    for url, path in images.items():
        stat = path.stat() if path is not None else None
        parts.append((url, path, stat and (stat.st_mtime_ns, stat.st_size)))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _render(request: VideoRequest, images: dict[str, Path | None], path: Path) -> None:
    if path.exists():
        return
    # Imported here: PyAV and pillow are an optional extra, slow to import, and needed for a download only.
    from airflow_provider_kling.sandbox.render import render

    render(request, images, path)
