# SPDX-License-Identifier: Apache-2.0
"""What is left in an account."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.api.base import AccountPack, HttpCall
from airflow_provider_kling.api.instants import parse_instant
from airflow_provider_kling.api.official.envelope import data_of
from airflow_provider_kling.api.reading.errors import error_of
from airflow_provider_kling.exceptions import KlingServerError
from airflow_provider_kling.utils.coerce import parse_number
from airflow_provider_kling.utils.text import as_mapping, as_text, excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_kling.api.response import Response

PATH = "/account/costs"
#: A pack lasts a year at most, and the request selects packs by the time of their purchase.
SECONDS = 366 * 86_400
#: Words for a pack that cannot be used.
_UNUSABLE = frozenset({"tobeonline", "expired", "runout"})
_CONCURRENT = re.compile(r"(?<![0-9A-Za-z])([1-9]\d{0,4})\s?con(?:c\w*)?(?![a-z])", re.IGNORECASE)
#: Packs that are read.
_MAX_PACKS = 200


def account_call(*, now: float) -> HttpCall:
    """
    Return the request for the packs of the last year.

    :param now: The time (epoch seconds).
    """
    return HttpCall("GET", f"{PATH}?start_time={int((now - SECONDS) * 1000)}&end_time={int(now * 1000)}")


def read_account(response: Response, *, now: float) -> list[AccountPack]:
    """
    Return the packs that can be used now.

    :param now: The time (epoch seconds).
    :raises KlingError: if the response is an error.
    """
    data = data_of(response)
    if data is None:
        raise error_of(response, "The request for the account was refused")
    fields = as_mapping(data)
    packs = fields.get("resource_pack_subscribe_infos")
    if fields.get("code") not in (None, 0, "0") or not isinstance(packs, list):
        raise KlingServerError(
            "The response about the account does not list its packs",
            http_status=response.http_status,
            code=as_text(fields.get("code")),
            server_message=as_text(fields.get("msg")) or excerpt(response.body),
            request_id=response.request_id,
        )
    return [_pack(pack) for pack in map(as_mapping, packs[:_MAX_PACKS]) if _is_usable(pack, now)]


def _is_usable(pack: Mapping[str, Any], now: float) -> bool:
    if not pack or (as_text(pack.get("status")) or "").lower() in _UNUSABLE:
        return False
    start, end = (parse_instant(pack.get(name)) for name in ("effective_time", "invalid_time"))
    return (start is None or start.timestamp() <= now) and (end is None or now < end.timestamp())


def _pack(pack: Mapping[str, Any]) -> AccountPack:
    name = (
        as_text(pack.get("resource_pack_name")) or as_text(pack.get("resource_pack_id")) or "a pack without a name"
    )
    found = _CONCURRENT.search(name)
    end = parse_instant(pack.get("invalid_time"))
    return AccountPack(
        name=name,
        total=parse_number(pack.get("total_quantity")),
        remaining=parse_number(pack.get("remaining_quantity")),
        max_concurrent_jobs=int(found[1]) if found else None,
        expires_at=end.isoformat(timespec="seconds") if end else None,
    )
