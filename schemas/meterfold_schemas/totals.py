"""What the total of a window is: the aggregation types, the state that each needs, and their arithmetic.

Amounts are unscaled integers (value x 10^9). ClickHouse makes the same totals in the view usage_summaries and in
usage_sums.py and usage_records.py; a test compares them with these over many windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from meterfold_schemas.quantities import MAX_STORED, UNIT, exact_unscaled, to_decimal
from meterfold_schemas.vocabulary import AggregationType

__all__ = ["AMOUNTS", "STATE", "WindowValues", "average", "divided", "percentage", "percentage_used", "total_of"]

#: The amounts in the state of a window, in the order in which they are stored. The state also has the count of events.
AMOUNTS: Final = ("sum", "min", "max", "last")

#: What of a window's state makes the total of each aggregation type. All types together need all of the state.
STATE: Final = MappingProxyType(
    {
        AggregationType.COUNT: ("count",),
        AggregationType.SUM: ("sum",),
        AggregationType.AVG: ("sum", "count"),
        AggregationType.MAX: ("max",),
        AggregationType.MIN: ("min",),
        AggregationType.LAST: ("last",),
    }
)


@dataclass(frozen=True, slots=True)
class WindowValues:
    """The state of one window for every aggregation type. `count` is at least 1."""

    count: int
    sum: int
    min: int
    max: int
    last: int


def total_of(kind: AggregationType, window: WindowValues) -> int:
    """The total of one window."""
    match kind:
        case AggregationType.COUNT:
            return window.count * UNIT
        case AggregationType.AVG:
            return average(window.sum, window.count)
        case _:
            (name,) = STATE[kind]
            total: int = getattr(window, name)
            return total


def average(total: int, count: int) -> int:
    """total / count with 9 decimals, half away from zero. Python integers: decimal128 would wrap at 1e26 / 3."""
    return divided(total, count)


def percentage(value: int, threshold: int) -> int:
    """100 x value / threshold with 9 decimals, half away from zero, clamped to what decimal(38, 9) holds.

    A tiny threshold under a huge value would leave the range, and an alert must not fail over its decoration.
    """
    return max(-MAX_STORED, min(MAX_STORED, divided(100 * value * UNIT, threshold)))


def percentage_used(value: Decimal, threshold: Decimal) -> Decimal:
    """100 x value / threshold with 9 decimals, half away from zero, and clamped to what decimal(38, 9) holds."""
    return to_decimal(percentage(exact_unscaled(value), exact_unscaled(threshold)))


def divided(numerator: int, denominator: int) -> int:
    """The quotient rounded half away from zero. `denominator` is above 0."""
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude
