# SPDX-License-Identifier: Apache-2.0
"""What a create request orders, whichever standard it uses, and the limits of each model."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.sandbox.errors import ApiError
from airflow_provider_kling.sandbox.video import Shot, VideoRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BAD_PARAMETER = 1201
SHORT_SIDES = {"720p": 720, "1080p": 1080, "4k": 2160}
ASPECT_RATIOS = ("16:9", "9:16", "1:1")
DEFAULT_SECONDS = 5


@dataclass(frozen=True)
class Model:
    """
    The limits of a model.

    :param seconds: The durations that it makes.
    :param silent: Units a second without sound, for each resolution; empty if it always has sound.
    :param sound: Units a second with sound, for each resolution with sound.
    :param last_frame: Resolutions with a last frame, sound or not.
    :param silent_last_frame: Whether a last frame excludes sound.
    :param multi_shot: Whether it makes several shots.
    :param elements: Whether it takes elements.
    :param resolutions: The resolutions that it makes.
    """

    seconds: Sequence[int]
    silent: Mapping[str, str]
    sound: Mapping[str, str]
    last_frame: Sequence[str] = ()
    silent_last_frame: bool = False
    multi_shot: bool = False
    elements: bool = False
    resolutions: Sequence[str] = ("720p", "1080p")


# The vendor's price list in units a second. It has no 4k, and no sound for 2.6: those numbers are guesses.
MODELS: Mapping[str, Model] = {
    "kling-3.0": Model(
        seconds=range(3, 16),
        silent={"720p": "0.6", "1080p": "0.8", "4k": "1.6"},
        sound={"720p": "0.9", "1080p": "1.2", "4k": "2.4"},
        last_frame=("720p", "1080p", "4k"),
        multi_shot=True,
        elements=True,
        resolutions=("720p", "1080p", "4k"),
    ),
    "kling-3.0-turbo": Model(
        seconds=range(3, 16), silent={}, sound={"720p": "0.8", "1080p": "1.0"}, multi_shot=True
    ),
    "kling-2.6": Model(
        seconds=(5, 10),
        silent={"720p": "0.3", "1080p": "0.5"},
        sound={"1080p": "1.0"},
        last_frame=("1080p",),
        silent_last_frame=True,
    ),
    "kling-2.5-turbo": Model(
        seconds=(5, 10), silent={"720p": "0.3", "1080p": "0.5"}, sound={}, last_frame=("1080p",)
    ),
}


@dataclass(frozen=True)
class Order:
    """
    A valid create request, with the vendor's defaults filled in.

    :param path: The create path, without a prefix.
    :param model: Name of the model, as the request has it.
    :param limits: The limits of the model.
    :param shots: The shots: one, or those of ``multi_prompt``.
    :param seconds: Duration of the video.
    :param resolution: ``720p``, ``1080p`` or ``4k``.
    :param audio: Whether the video has sound.
    :param multi_shot: Whether the platform may cut the video into several shots.
    :param aspect_ratio: Ratio of the sides; None for that of the image.
    :param image: First frame.
    :param last_image: Last frame.
    :param elements: Number of elements.
    :param external_id: The client's own id; empty if there is none.
    :param watermark: Whether a second file with a watermark is wanted.
    """

    path: str
    model: str
    limits: Model
    shots: tuple[Shot, ...]
    seconds: int
    resolution: str
    audio: bool
    multi_shot: bool
    aspect_ratio: str | None = None
    image: str | None = None
    last_image: str | None = None
    elements: int = 0
    external_id: str = ""
    watermark: bool = False

    @property
    def units(self) -> Decimal:
        """The price."""
        prices = self.limits.sound if self.audio else self.limits.silent
        return Decimal(prices[self.resolution]) * self.seconds

    @property
    def video(self) -> VideoRequest:
        return VideoRequest(
            model=self.model,
            shots=self.shots,
            seconds=self.seconds,
            aspect_ratio=self.aspect_ratio or ASPECT_RATIOS[0],
            image=self.image,
            last_image=self.last_image,
            audio=self.audio,
            short_side=SHORT_SIDES[self.resolution],
        )

    def effective(self) -> dict[str, Any]:
        """Return what is made and billed, for the ledger."""
        return {
            "path": self.path,
            "model": self.model,
            "resolution": self.resolution,
            "audio": self.audio,
            "seconds": self.seconds,
            "multi_shot": self.multi_shot,
            "aspect_ratio": self.aspect_ratio,
            "external_id": self.external_id,
            "watermark": self.watermark,
            "units": units_text(self.units),
        }

    def checked(self) -> Order:
        """
        Return the order if its model can make it.

        :raises ApiError: with 400 and 1201, if it cannot.
        """
        refuse_if(list(self._beyond_limits()))
        return self

    def _beyond_limits(self) -> Iterator[str]:
        limits = self.limits
        if self.seconds not in limits.seconds:
            allowed = ", ".join(map(str, limits.seconds))
            yield f"duration {self.seconds} is not supported by {self.model}, only {allowed}"
        if self.resolution not in limits.resolutions:
            yield f"{self.resolution} is not supported by {self.model}"
        elif self.audio and self.resolution not in limits.sound:
            yield f"sound is not supported by {self.model} in {self.resolution}"
        if self.last_image and self.resolution not in limits.last_frame:
            yield f"a last frame is not supported by {self.model} in {self.resolution}"
        if self.last_image and self.audio and limits.silent_last_frame:
            yield f"a last frame is not supported by {self.model} with sound"
        if self.multi_shot and not limits.multi_shot:
            yield f"multi_shot is not supported by {self.model}"
        if self.elements and not limits.elements:
            yield f"elements are not supported by {self.model}"


def refuse_if(problems: Sequence[str]) -> None:
    """
    Refuse a request for its problems.

    :raises ApiError: with 400 and 1201, if there is any.
    """
    if problems:
        raise ApiError(400, BAD_PARAMETER, "; ".join(problems))


def units_text(units: Decimal) -> str:
    """Return an amount of units without trailing zeros."""
    return f"{units.normalize():f}"
