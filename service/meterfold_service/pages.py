"""Pages of results, the order of their rows, and cursors, which ask for the next page."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Generic, TypeVar

from meterfold_schemas.errors import InvalidUsage, shown
from meterfold_sink.keyset import Key, Keys, Position, ordered

__all__ = [
    "MAX_LIMIT",
    "Page",
    "RowOrder",
    "check_page",
    "cursor_of",
    "next_offset",
    "offset_of",
    "position_of",
    "sliced",
]

T = TypeVar("T")

MAX_LIMIT: Final = 10_000
"""The most rows of one page."""
_INT64: Final = 2**63
_OFFSET: Final = (Key("offset", "Int64"),)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`rows` are those of this page; `total` counts all rows of the answer. `cursor` asks for the next page; None after
    the last one."""

    total: int
    rows: tuple[T, ...]
    cursor: str | None = field(default=None, kw_only=True)


def check_page(limit: int, offset: int = 0) -> None:
    """Raises InvalidUsage."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidUsage(f"limit must be from 1 to {MAX_LIMIT:,}, not {limit}")
    if offset < 0:
        raise InvalidUsage(f"offset must be 0 or more, not {offset}")


@dataclass(frozen=True, slots=True)
class RowOrder:
    """How the list `name` may be sorted: by a name of `sorts`, with a minus sign in reverse."""

    name: str
    sorts: Mapping[str, Keys]
    default: str

    @property
    def choices(self) -> list[str]:
        return [f"{sign}{name}" for name in self.sorts for sign in ("", "-")]

    def start(self, sort: str | None, cursor: str | None) -> tuple[Keys, Position | None]:
        """The keys to sort by, and the position of the last row before. Raises InvalidUsage."""
        sort = sort or self.default
        if sort not in self.choices:
            raise InvalidUsage(f"sort {shown(sort)} must be one of {', '.join(self.choices)}")
        keys = ordered(self.sorts[sort.removeprefix("-")], descending=sort.startswith("-"))
        return keys, None if cursor is None else position_of(cursor, self._kind(sort), keys)

    def cursor(self, sort: str | None, end: Position | None) -> str | None:
        """The cursor behind a row."""
        return None if end is None else cursor_of(self._kind(sort or self.default), end)

    def _kind(self, sort: str) -> str:
        return f"{self.name} {sort}"


def cursor_of(kind: str, position: Position) -> str:
    """Text that stands for a position in a list of one kind."""
    text = json.dumps([kind, *position], ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode("ascii").rstrip("=")


def position_of(cursor: str, kind: str, keys: Keys) -> Position:
    """The position of a cursor, one value for each key. Raises InvalidUsage."""
    try:
        text = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        found: Any = json.loads(text)
        if isinstance(found, list) and found[:1] == [kind] and len(found) == len(keys) + 1:
            position = tuple(found[1:])
            if all(_fits(value, key) for value, key in zip(position, keys, strict=True)):
                return position
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise InvalidUsage(
        f"cursor {shown(cursor)} does not come from an earlier page of the same list; leave it out to start"
    )


def sliced(name: str, rows: Sequence[T], limit: int, cursor: str | None) -> Page[T]:
    """A page of a short list that is in memory. Raises InvalidUsage."""
    check_page(limit)
    offset = offset_of(name, cursor)
    return Page(len(rows), tuple(rows[offset : offset + limit]), cursor=next_offset(name, offset, limit, len(rows)))


def offset_of(name: str, cursor: str | None) -> int:
    """How many rows are before the page of this cursor, in a list that is computed as a whole. Raises InvalidUsage."""
    if cursor is None:
        return 0
    (offset,) = position_of(cursor, name, _OFFSET)
    assert isinstance(offset, int)
    return max(0, offset)


def next_offset(name: str, offset: int, limit: int, total: int) -> str | None:
    """The cursor of the next page of such a list."""
    return cursor_of(name, (offset + limit,)) if offset + limit < total else None


def _fits(value: Any, key: Key) -> bool:
    if key.type == "Int64":
        return type(value) is int and -_INT64 <= value < _INT64
    if not isinstance(value, str):
        return False
    value.encode()  # no lone surrogates, which are a ValueError
    if key.type == "String":
        return True
    try:
        number = Decimal(value)
    except InvalidOperation:
        return False
    return number.is_finite() and number.adjusted() < 29 and "e" not in value.lower()
