# SPDX-License-Identifier: Apache-2.0
"""Fields of a request that both standards check in the same way."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_kling.sandbox.video import is_public_url

MOST_ELEMENTS = 3
LARGEST_IMAGE = 10 * 1024 * 1024
SHORTEST_SIDE = 300
WIDEST_RATIO = 2.5
#: Addresses that cannot be an image of a supported format.
OTHER_SUFFIXES = (".html", ".htm", ".php", ".gif", ".webp", ".bmp", ".svg", ".mp4", ".pdf")


class Fields:
    """
    One JSON object of a request, and what is wrong with it.

    A field that is null counts as missing.

    :param given: The object; anything else is a problem.
    :param where: The path of the object, for messages.
    :param problems: The list to which problems are added; None starts a new one.
    """

    def __init__(self, given: object, where: str = "", problems: list[str] | None = None) -> None:
        self.problems = [] if problems is None else problems
        self._where = f"{where}." if where else ""
        self._given: Mapping[str, Any] = {}
        if isinstance(given, Mapping):
            self._given = given
        elif given is not None:
            self.problems.append(f"{where or 'the request body'} must be an object")

    def get(self, name: str) -> Any:
        return self._given.get(name)

    def wrong(self, name: str, why: str) -> None:
        self.problems.append(f"{self._where}{name} {why}")

    def inner(self, name: str) -> Fields:
        """Return the object in a field."""
        return Fields(self.get(name), f"{self._where}{name}", self.problems)

    def text(self, name: str, longest: int | None = None) -> str:
        """Return a string, empty if it is missing."""
        value = self.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            self.wrong(name, "must be a string")
            return ""
        if longest is not None and len(value) > longest:
            self.wrong(name, f"must have at most {longest} characters")
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.wrong(name, "must be true or false")
            return default
        return value

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """Return one of the allowed words."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in allowed:
            self.wrong(name, f"must be one of {', '.join(allowed)}")
            return default
        return value

    def image(self, name: str) -> str | None:
        """Return an image as a URL; one that is sent itself as a ``data:`` URL. None if it is missing or wrong."""
        value = self.get(name)
        if value is None or value == "":
            return None
        problem = "must be a string" if not isinstance(value, str) else _image_problem(value)
        if problem:
            self.wrong(name, problem)
            return None
        return str(value) if _is_url(value) else f"data:image;base64,{value}"


def _is_url(value: str) -> bool:
    return "://" in value[:20]


def _image_problem(value: str) -> str:
    if value.startswith("data:"):
        return "must be raw base64: remove the data: prefix"
    if _is_url(value):
        if not is_public_url(value):
            return "must be a public http(s) URL"
        suffix = PurePosixPath(urlsplit(value).path).suffix.lower()
        return "is invalid: Image format is invalid, use jpg or png" if suffix in OTHER_SUFFIXES else ""
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return "is neither a URL nor base64"
    if len(data) > LARGEST_IMAGE:
        return "must have at most 10 MB"
    return _picture_problem(data)


def _picture_problem(data: bytes) -> str:
    # Imported here: pillow is an optional extra, and slow to import.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            kind, (across, down) = picture.format, picture.size
    except UnidentifiedImageError:
        kind, across, down = None, 0, 0
    if kind not in ("JPEG", "PNG"):
        return "is invalid: Image format is invalid, use jpg or png"
    if min(across, down) < SHORTEST_SIDE:
        return f"must have sides of at least {SHORTEST_SIDE} pixels"
    if max(across, down) > WIDEST_RATIO * min(across, down):
        return "must have a ratio of 1:2.5 to 2.5:1"
    return ""
