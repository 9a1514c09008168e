"""Numbers of things in sentences for people."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["listed", "noun", "plural"]


def plural(number: int, one: str, many: str = "") -> str:
    """`1 threshold`, `2 thresholds`, `1,204 entries`. `many` where it is not `one` with an s."""
    return f"{number:,} {noun(number, one, many)}"


def noun(number: int, one: str, many: str = "") -> str:
    """The word alone: `threshold` for 1, else `thresholds`."""
    return one if number == 1 else many or one + "s"


def listed(shown: Sequence[str], number: int) -> str:
    """The first of `number` things, and how many more there are: `a, b and 3 more`."""
    more = number - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")
