# SPDX-License-Identifier: Apache-2.0
"""The totals of several videos, and the filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_kling.videos_page.cards import Amount, Card, Group, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Totals:
    """
    The totals of several videos.

    :param counts: Number of videos by group.
    :param seconds: Seconds of all videos that were made.
    :param cost: What all submitted videos cost, by unit.
    :param is_estimate: Whether an estimate is part of it.
    :param unknown_cost: Number of submitted videos whose cost is not known.
    """

    counts: Mapping[Group, int]
    seconds: float
    cost: tuple[Amount, ...]
    is_estimate: bool
    unknown_cost: int

    @property
    def videos(self) -> int:
        return sum(self.counts.values())


def totals_of(cards: Iterable[Card]) -> Totals:
    """Return the totals of these videos."""
    counts = dict.fromkeys(Group, 0)
    cost: dict[str, float] = {}
    seconds, estimated, unknown = 0.0, False, 0
    for card in cards:
        counts[card.status.group] += 1
        if card.status is Status.MADE:
            seconds += card.seconds or 0.0
        # What is not proven unspent counts as spent.
        if card.kling_task_id is not None or card.uncertain is not None:
            unknown += not card.cost
            estimated = estimated or (card.is_estimate and bool(card.cost))
            for amount in card.cost:
                cost[amount.unit] = cost.get(amount.unit, 0.0) + amount.value
    amounts = tuple(Amount(round(value, 9), unit) for unit, value in sorted(cost.items()))
    return Totals(counts, seconds, amounts, estimated, unknown)


def matching(cards: Iterable[Card], *, group: str = "", model: str = "", text: str = "") -> list[Card]:
    """
    Return the cards that a filter selects.

    :param group: The value of a :class:`Group`; empty for all.
    :param model: The model; empty for all.
    :param text: Words that the prompt, the label or the id contains, in any case; empty for all.
    """
    words = text.casefold().split()
    return [
        card
        for card in cards
        if (not group or card.status.group == group)
        and (not model or card.model == model)
        and all(word in _searched(card) for word in words)
    ]


def _searched(card: Card) -> str:
    texts = (card.prompt, card.label, card.kling_task_id, card.task_id)
    return "\n".join(text for text in texts if text).casefold()
