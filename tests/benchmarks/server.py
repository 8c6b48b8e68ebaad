# SPDX-License-Identifier: Apache-2.0
"""The other end: a server in a process of its own, so that its work is not counted as the client's."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from aiohttp import web

from tests.tls import server_context

CHECKOUT = Path(__file__).parents[2]
_JOB = {
    "object": "video.generation.job",
    "model": "kling-v3-std-silent",
    "status": "in_progress",
    "progress": 30,
    "created_at": 1767225600,
}
_FIRST_BYTES = b"\x00\x00\x00\x18ftypisom"


class StatusServer:
    """Answers for any number of videos: all of them run for ever, until :meth:`finish` is called."""

    def __init__(self) -> None:
        self.polls = 0
        self.seen: set[str] = set()
        self.finished = False

    async def status(self, request: web.Request) -> web.Response:
        """Tell the status as the vendor does."""
        task_id = request.match_info["task_id"]
        self._count(task_id)
        job = {"id": task_id, "task_id": task_id, **_JOB}
        if self.finished:
            job |= {"status": "completed", "progress": 100, "video_url": f"https://example.com/{task_id}.mp4"}
        return web.json_response(job)

    async def missing(self, request: web.Request) -> web.Response:
        """Tell by a 404 that a video is not finished, the one answer on which ``HttpSensorTrigger`` waits."""
        self._count(request.match_info["task_id"])
        return web.json_response({"status": "in_progress"}, status=200 if self.finished else 404)

    async def counts(self, request: web.Request) -> web.Response:
        """Return how often, and for how many videos, somebody asked."""
        return web.json_response({"polls": self.polls, "videos": len(self.seen)})

    async def finish(self, request: web.Request) -> web.Response:
        """Let every video be finished from now on."""
        self.finished = True
        return web.Response()

    def _count(self, task_id: str) -> None:
        self.polls += 1
        self.seen.add(task_id)

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/v1/videos/{task_id}", self.status),
                web.get("/missing/{task_id}", self.missing),
                web.get("/counts", self.counts),
                web.post("/finish", self.finish),
                web.get("/files/{size}.mp4", video_file),
            ]
        )
        return app


async def video_file(request: web.Request) -> web.StreamResponse:
    """Send a file of so many bytes that begins as a video does; the kernel copies it (sendfile)."""
    path = Path(request.app[FOLDER]) / f"{request.match_info['size']}.mp4"
    if not path.exists():
        with path.open("wb") as file:
            file.write(_FIRST_BYTES)
            file.truncate(int(request.match_info["size"]))
    return web.FileResponse(path)


FOLDER = web.AppKey("folder", str)


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    """Run the server in another process; yield its base URL."""
    options = ["--certificate", str(certificate)] if certificate else []
    command = [sys.executable, "-m", "tests.benchmarks.server", str(folder), *options]
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def asked(base_url: str, certificate: Path | None = None) -> dict[str, int]:
    """Return the server's counts."""
    answer = requests.get(f"{base_url}/counts", verify=str(certificate or True), timeout=30)
    return dict(answer.json())


async def _serve(folder: str, certificate: str | None) -> None:
    server = StatusServer()
    app = server.app()
    app[FOLDER] = folder
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    context = server_context(Path(certificate)) if certificate else None
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096, ssl_context=context)
    await site.start()
    scheme = "https" if certificate else "http"
    print(f"{scheme}://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    # The caller's end of the pipe closes with the caller, however it ends.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--certificate")
    options = parser.parse_args()
    asyncio.run(_serve(options.folder, options.certificate))
