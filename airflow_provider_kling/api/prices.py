# SPDX-License-Identifier: Apache-2.0
"""The price table of a connection. None is built in: prices differ by vendor, and change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_kling.api.models import resolve
from airflow_provider_kling.utils.coerce import parse_literal, parse_number

if TYPE_CHECKING:
    from airflow_provider_kling.api.request import VideoRequest

_SHAPE = 'must be an object such as {"currency": "USD", "kling-v3-std-silent": 0.084}'


class Prices(NamedTuple):
    """
    What a second of video costs.

    :param currency: Unit of all prices, such as ``USD``.
    :param per_second: Price of a second by name; see :func:`price_names`.
    """

    currency: str
    per_second: Mapping[str, float]

    @classmethod
    def parse(cls, value: Any) -> Prices:
        """
        Return the table from a dict, or from its text as JSON.

        :raises ValueError: with what is wrong.
        """
        table = parse_literal(value) if isinstance(value, str) else value
        if not isinstance(table, Mapping):
            raise ValueError(_SHAPE)  # noqa: TRY004 -- it is a wrong value of the connection
        currency = table.get("currency")
        if not isinstance(currency, str) or not currency.strip():
            raise ValueError(f"needs a currency, such as USD; it {_SHAPE}")
        per_second = {name: parse_number(price) for name, price in table.items() if name != "currency"}
        wrong = [name for name, price in per_second.items() if price is None or price < 0]
        if wrong:
            raise ValueError(
                f"needs a number of at least 0 as the price of a second of {', '.join(map(str, wrong))}"
            )
        return cls(currency.strip(), {name: price for name, price in per_second.items() if price is not None})

    def of_second(self, request: VideoRequest) -> float | None:
        """Return the price of a second of a request's video; None if the table has none."""
        return next((self.per_second[name] for name in price_names(request) if name in self.per_second), None)


def price_names(request: VideoRequest) -> tuple[str, str]:
    """
    Return the names under which a table may have the price of a request; the first one wins.

    They are the model with mode and sound as gateways spell it, such as ``kling-2.6-pro-audio``, and the model
    alone.
    """
    model, mode, sound = resolve(request.model, request.mode, request.sound)
    return f"{model}-{mode}-{'audio' if sound else 'silent'}", model
