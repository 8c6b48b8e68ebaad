# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown, for people and for the results file."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; the first column is text, all others stand right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| "
        + " | ".join(
            _aligned(cell, width, column) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in cells
    ]
    rule = (
        "|"
        + "|".join(
            "-" * (width + 2) if not column else "-" * (width + 1) + ":" for column, width in enumerate(widths)
        )
        + "|"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def verdict(what: str, value: float, limit: float, *, at_most: bool = True, unit: str = "") -> str:
    """Return a line that tells whether a figure reaches its target."""
    met = value <= limit if at_most else value >= limit
    bound = "at most" if at_most else "at least"
    return f"- {'met' if met else '**not met**'}: {what} {value:.3g}{unit}, wanted {bound} {limit:g}{unit}"


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)
