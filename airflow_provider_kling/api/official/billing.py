# SPDX-License-Identifier: Apache-2.0
"""What a job has cost, as its status reports it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.utils.coerce import parse_number
from airflow_provider_kling.utils.text import as_mapping, as_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNITS = "units"
#: The unit of an amount of money whose currency is not reported.
BALANCE = "balance"
#: Entries of a bill that are read.
_MAX_ENTRIES = 50


def billed(job: Mapping[str, Any]) -> dict[str, float] | None:
    """
    Return what was deducted, by unit.

    :param job: The object that describes the job, in either standard.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    for unit, amount in _amounts(job):
        if (number := parse_number(amount)) is not None:
            sums[unit] += number
    return {unit: round(amount, 6) for unit, amount in sums.items()} or None


def _amounts(job: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    bill = job.get("billing")
    if isinstance(bill, list):
        for entry in map(as_mapping, bill[:_MAX_ENTRIES]):
            is_money = entry.get("charge_type") == "cash"
            yield _currency(entry) if is_money else UNITS, entry.get("amount")
        return
    yield UNITS, job.get("final_unit_deduction")
    money = job.get("final_balance_deduction")
    if isinstance(money, dict):
        yield _currency(money), money.get("amount")
    else:
        yield _currency(job), money


def _currency(fields: Mapping[str, Any]) -> str:
    return as_text(fields.get("currency")) or BALANCE
