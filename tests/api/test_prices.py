# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_kling.api.prices import Prices, price_names
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.client.connection import KlingConnection
from airflow_provider_kling.exceptions import KlingValidationError
from tests.fixtures.responses import KEY

TABLE: dict[str, Any] = {"currency": "USD", "kling-v3-std-silent": 0.084, "kling-v3": "0.2", "kling-9": 0}


def connection(prices: Any) -> KlingConnection:
    extra = {"prices": prices}
    return KlingConnection.parse(conn_id="kling_default", host="api.example.com", password=KEY, extra=extra)


@pytest.mark.parametrize("given", [TABLE, json.dumps(TABLE), str(TABLE)], ids=["object", "json", "python"])
def test_a_table_is_read_however_it_was_typed(given: Any) -> None:
    expected = {"kling-v3-std-silent": 0.084, "kling-v3": 0.2, "kling-9": 0.0}
    assert connection(given).prices == Prices("USD", expected)


@pytest.mark.parametrize("given", [None, "", {}])
def test_none_is_no_table(given: Any) -> None:
    assert connection(given).prices is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("0.084", "must be an object such as"),
        ("{'currency': 'USD'", "must be an object such as"),
        ([0.084], "must be an object such as"),
        ({"kling-v3": 0.1}, "needs a currency, such as USD"),
        ({"currency": " ", "kling-v3": 0.1}, "needs a currency"),
        ({"currency": 1, "kling-v3": 0.1}, "needs a currency"),
        ({"currency": "USD", "kling-v3": -0.1}, "a number of at least 0 as the price of a second of kling-v3"),
        ({"currency": "USD", "a": None, "b": "x", "c": 1}, "a second of a, b"),
        ({"currency": "USD", "kling-v3": True}, "of kling-v3"),
        ({"currency": "USD", "kling-v3": float("nan")}, "of kling-v3"),
        ({"currency": "USD", "kling-v3": {"std": 0.1}}, "of kling-v3"),
    ],
    ids=str,
)
def test_what_is_no_table_is_refused_by_its_name(given: Any, words: str) -> None:
    with pytest.raises(KlingValidationError, match=rf"extra\.prices\)=.*{words}"):
        connection(given)


def test_a_key_in_a_table_is_not_shown() -> None:
    with pytest.raises(KlingValidationError, match=r"extra\.prices") as caught:
        connection({"currency": "USD", KEY: "x"})
    assert KEY not in str(caught.value)


def test_other_prices_are_no_other_connection() -> None:
    """All triggers of a connection share one client, whatever its prices are."""
    assert connection(TABLE) == connection(None)
    assert hash(connection(TABLE)) == hash(connection(None))


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"model": "kling-v3-std-silent"}, ("kling-v3-std-silent", "kling-v3")),
        ({"model": "kling-v3", "mode": "pro", "sound": "off"}, ("kling-v3-pro-silent", "kling-v3")),
        ({"model": "kling-v3"}, ("kling-v3-std-silent", "kling-v3")),
        ({"model": "kling-2.6", "mode": "pro", "sound": True}, ("kling-2.6-pro-audio", "kling-2.6")),
        ({"model": "kling-3.0", "mode": "4k"}, ("kling-3.0-4k-silent", "kling-3.0")),
        ({"model": "kling-3.0-turbo"}, ("kling-3.0-turbo-std-audio", "kling-3.0-turbo")),
    ],
    ids=str,
)
def test_the_names_of_a_price(fields: dict[str, Any], names: tuple[str, str]) -> None:
    request = VideoRequest.build(prompt="A boat", **fields)
    assert price_names(request) == names
    exact, model = names
    assert Prices("USD", {exact: 1.0, model: 2.0}).of_second(request) == 1.0
    assert Prices("USD", {model: 2.0}).of_second(request) == 2.0
    assert Prices("USD", {"kling-9": 2.0}).of_second(request) is None
