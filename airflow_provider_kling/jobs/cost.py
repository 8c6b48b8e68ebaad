# SPDX-License-Identifier: Apache-2.0
"""What a video is likely to cost, by the price table of the connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kling.api.prices import price_names
from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.utils.coerce import parse_number

if TYPE_CHECKING:
    from airflow_provider_kling.api.prices import Prices
    from airflow_provider_kling.api.request import VideoRequest

#: Seconds of a video whose request does not say how long it is.
DEFAULT_SECONDS = 5


class Cost(NamedTuple):
    """
    An estimated cost.

    :param amount: The amount.
    :param currency: Its unit, as the price table has it.
    """

    amount: float
    currency: str

    def __str__(self) -> str:
        return f"{self.amount:.10g} {self.currency}"


def estimate(request: VideoRequest, prices: Prices | None) -> Cost | None:
    """Return the estimated cost of a request; None if there is no price for it."""
    price = prices.of_second(request) if prices else None
    if prices is None or price is None:
        return None
    # Rounded: 5 seconds at 0.084 are 0.42, not 0.42000000000000004, which would exceed a limit of 0.42.
    return Cost(round(price * _seconds(request), 9), prices.currency)


def check_cost(cost: Cost | None, max_cost: float, request: VideoRequest, *, conn_id: str) -> None:
    """
    Raise unless a request is known to cost at most ``max_cost``.

    :param cost: The estimate.
    :param max_cost: The limit, in the currency of the price table.
    :param request: The request.
    :param conn_id: The Airflow connection.
    :raises KlingValidationError: if it costs more, or has no price.
    """
    limit = f"max_cost={max_cost:.10g}"
    if cost is None:
        names = " or ".join(map(repr, dict.fromkeys(price_names(request))))
        raise KlingValidationError(
            f"{limit} cannot be kept: the connection {conn_id!r} has no price for this video",
            advice=f"This attempt submitted nothing. Add the price of a second under {names} to Prices "
            f"(extra.prices) of the connection {conn_id!r}, or remove max_cost.",
        )
    if cost.amount > max_cost:
        raise KlingValidationError(
            f"The video is estimated to cost {cost}, more than {limit}",
            advice="This attempt submitted nothing. Raise max_cost, or make a shorter video, or one of a cheaper "
            "model or mode.",
        )


def _seconds(request: VideoRequest) -> float:
    if request.duration is not None:
        return request.duration
    shots = [shot.get("duration") if isinstance(shot, Mapping) else None for shot in request.multi_prompt or ()]
    seconds = [parse_number(shot) for shot in shots]
    known = [second for second in seconds if second is not None]
    return sum(known) if seconds and len(known) == len(seconds) else DEFAULT_SECONDS
