# SPDX-License-Identifier: Apache-2.0
"""What a job makes, whichever API ordered it."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

LOCAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


@dataclass(frozen=True)
class Shot:
    """One prompt and its duration in seconds."""

    prompt: str
    seconds: float


@dataclass(frozen=True)
class VideoRequest:
    """
    A valid request, with the vendor's defaults filled in.

    :param model: Name of the model.
    :param shots: The shots, in order.
    :param seconds: Duration of the video.
    :param aspect_ratio: Width and height, such as ``16:9``; an image overrides it.
    :param image: First frame: a URL, or a ``data:`` URL with the image itself.
    :param last_image: Last frame.
    :param audio: Whether the video has sound.
    :param short_side: Pixels of the shorter side.
    """

    model: str
    shots: tuple[Shot, ...]
    seconds: int
    aspect_ratio: str
    image: str | None = None
    last_image: str | None = None
    audio: bool = False
    short_side: int = 720

    @property
    def text(self) -> str:
        """All prompts in one string; scripted faults are matched against it."""
        return "\n".join(shot.prompt for shot in self.shots)


def drawable(text: str) -> str:
    """Replace lone surrogates, which JSON can contain but encoders reject."""
    return text.encode(errors="replace").decode()


def is_public_url(url: str) -> bool:
    """Return whether a server on the internet could fetch ``url``, judged without a DNS look-up."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or host.endswith(LOCAL_SUFFIXES):
        return False
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not _is_short_address(host)


def _is_short_address(host: str) -> bool:
    """Return whether a host is an address in a short form such as ``127.1``, which most clients accept."""
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return True
