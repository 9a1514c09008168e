"""Numbers of things in sentences for people."""

from __future__ import annotations

__all__ = ["plural"]


def plural(number: int, noun: str, many: str = "") -> str:
    """`1 threshold`, `2 thresholds`, `1,204 entries`. `many` where it is not `noun` with an s."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
