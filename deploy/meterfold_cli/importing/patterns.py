"""Columns named by a pattern: `resourceTags/*` as `tag.*` gives the column resourceTags/env the name tag.env."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["is_pattern", "matches"]

_ANY: Final = "*"


def is_pattern(column: str, name: str) -> bool:
    """Whether both have the one `*` that stands for the same text."""
    return column.count(_ANY) == name.count(_ANY) == 1


def matches(columns: Sequence[str], column: str, name: str) -> list[tuple[str, str]]:
    """The (column, name) pairs of a pattern, in the order of the columns; the text for `*` is not empty."""
    before, after = column.split(_ANY)
    size = len(before) + len(after)
    return [
        (found, name.replace(_ANY, found[len(before) : len(found) - len(after)]))
        for found in columns
        if len(found) > size and found.startswith(before) and found.endswith(after)
    ]
