"""Pages of results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from meterfold_schemas.errors import InvalidUsage

__all__ = ["MAX_LIMIT", "Page", "check_page"]

T = TypeVar("T")

MAX_LIMIT: Final = 10_000
"""The most rows of one page."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`rows` are those of this page; `total` counts all rows of the answer."""

    total: int
    rows: tuple[T, ...]


def check_page(limit: int, offset: int = 0) -> None:
    """Raises InvalidUsage."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidUsage(f"limit must be from 1 to {MAX_LIMIT:,}, not {limit}")
    if offset < 0:
        raise InvalidUsage(f"offset must be 0 or more, not {offset}")
