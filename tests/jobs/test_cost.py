# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_kling.api.prices import Prices
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.exceptions import KlingValidationError
from airflow_provider_kling.jobs.cost import Cost, check_cost, estimate

PRICES = Prices("USD", {"kling-v3-std-silent": 0.084, "kling-v3-pro-silent": 0.0})


def request(**fields: Any) -> VideoRequest:
    return VideoRequest.build(**{"model": "kling-v3", "prompt": "A boat"} | fields)


def shots(*seconds: Any) -> dict[str, Any]:
    described = [{"prompt": "A boat"} | ({} if second is None else {"duration": second}) for second in seconds]
    return {"multi_prompt": described, "prompt": None}


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({"duration": 10}, 0.84),
        ({"duration": "10"}, 0.84),
        ({}, 0.42),
        (shots(3, "4"), 0.588),
        (shots(3, 4) | {"duration": 7}, 0.588),
        (shots(3, None), 0.42),
        ({"mode": "pro"}, 0.0),
    ],
    ids=str,
)
def test_the_seconds_of_a_video_have_a_price(fields: dict[str, Any], amount: float) -> None:
    assert estimate(request(**fields), PRICES) == Cost(amount, "USD")


def test_without_a_price_there_is_no_estimate() -> None:
    assert estimate(request(sound=True), PRICES) is None
    assert estimate(request(), None) is None


def test_it_reads_as_an_amount_of_money() -> None:
    assert str(Cost(0.42, "USD")) == "0.42 USD"
    assert str(Cost(12.0, "units")) == "12 units"


def test_a_limit_is_kept_to_the_cent() -> None:
    check_cost(estimate(request(), PRICES), 0.42, request(), conn_id="kling_default")
    with pytest.raises(
        KlingValidationError, match=r"estimated to cost 0\.42 USD, more than max_cost=0\.4199"
    ) as e:
        check_cost(estimate(request(), PRICES), 0.4199, request(), conn_id="kling_default")
    assert "Raise max_cost" in str(e.value)


def test_a_limit_needs_a_price() -> None:
    wanted = request(sound=True)
    with pytest.raises(KlingValidationError, match="max_cost=9 cannot be kept: the connection 'mine'") as e:
        check_cost(None, 9, wanted, conn_id="mine")
    assert "'kling-v3-std-audio' or 'kling-v3' to Prices (extra.prices) of the connection" in str(e.value)
