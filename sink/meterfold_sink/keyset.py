"""Pages of a sorted list: the rows behind a position, so that a page costs the same wherever it begins, and rows that
arrive meanwhile neither repeat nor hide another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar

if TYPE_CHECKING:
    from meterfold_sink.client import Client

__all__ = [
    "Key",
    "Keys",
    "Position",
    "RowPage",
    "behind",
    "micros_of",
    "ordered",
    "read_page",
    "sorted_by",
]

R = TypeVar("R")
Position = tuple[str | int, ...]
"""The values of a row's keys; a decimal is text."""


@dataclass(frozen=True, slots=True)
class Key:
    """Something that rows are sorted by: SQL over a row, never NULL. `breaks_ties`: it keeps its direction when the
    list is reversed."""

    sql: str
    type: Literal["String", "Int64", "Decimal(38, 9)"] = "String"
    descending: bool = False
    breaks_ties: bool = False


Keys = tuple[Key, ...]
"""Together they name one row."""

_ALIAS: Final = "page_key_"
_TOTAL: Final = "rows_in_all"
_NAME: Final = "page_name"
_MOST_NAMES: Final = 200
"""Names of rows travel in a URL."""


@dataclass(frozen=True, slots=True)
class RowPage(Generic[R]):
    """`total` counts all rows of the list. `end` is the position of the last row; None where no row is behind it."""

    rows: list[R]
    total: int
    end: Position | None


def micros_of(column: str, *, descending: bool = False) -> Key:
    """A key of a DateTime64(6)."""
    return Key(f"toUnixTimestamp64Micro({column})", "Int64", descending)


def ordered(keys: Keys, *, descending: bool) -> Keys:
    """The same, or reversed."""
    return tuple(replace(key, descending=True) if descending and not key.breaks_ties else key for key in keys)


def sorted_by(keys: Keys) -> str:
    """For ORDER BY."""
    return ", ".join(f"{key.sql}{' DESC' if key.descending else ''}" for key in keys)


def behind(keys: Keys, after: Position | None) -> tuple[str, dict[str, Any]]:
    """The condition for the rows behind a position, and its parameters. None: every row."""
    if after is None:
        return "1", {}
    parts = []
    for number, key in enumerate(keys):
        same = [f"{before.sql} = {_bound(index, before)}" for index, before in enumerate(keys[:number])]
        comparison = "<" if key.descending else ">"
        parts.append(" AND ".join([*same, f"{key.sql} {comparison} {_bound(number, key)}"]))
    return (
        f"({' OR '.join(f'({part})' for part in parts)})",
        {f"after_{number}": value for number, value in enumerate(after)},
    )


def read_page(
    client: Client,
    select: str,
    keys: Keys,
    parameters: Mapping[str, Any],
    *,
    limit: int,
    offset: int = 0,
    after: Position | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> RowPage[dict[str, Any]]:
    """The rows of `select`, a statement without an order, that are behind `after`; `offset` of them are skipped.

    `name`: a column of text by which `select` finds rows cheaply, where a row takes long to make: then the page is
    chosen by the keys alone, and its rows are read in a second statement. Raises Retryable or Fatal."""
    named = tuple(replace(key, sql=f"{_ALIAS}{number}") for number, key in enumerate(keys))
    condition, more = behind(named, after)
    columns = ", ".join(f"{key.sql} AS {alias.sql}" for key, alias in zip(keys, named, strict=True))
    if limit > _MOST_NAMES:
        name = None
    # The total is of all rows: no condition is moved below a window function.
    total_of_all = f"toInt64(count() OVER ()) AS {_TOTAL}"
    if name is None:
        every = f"SELECT *, {columns} FROM (SELECT *, {total_of_all} FROM ({select}))"  # noqa: S608
    else:
        every = f"SELECT * FROM (SELECT {name} AS {_NAME}, {columns}, {total_of_all} FROM ({select}))"  # noqa: S608
    sql = f"{every} WHERE {condition} ORDER BY {sorted_by(named)} LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}"
    given = {**parameters, **more, "limit": limit + 1, "offset": offset}
    rows = client.rows(sql, given, settings)
    if rows:
        total = rows[0][_TOTAL]
    elif offset or after is not None:  # a page behind the last row also has a total
        total = client.value(f"SELECT toInt64(count()) FROM ({select})", parameters)  # noqa: S608
    else:
        total = 0
    positions = [tuple(_plain(row.pop(key.sql)) for key in named) for row in rows]
    end = positions[limit - 1] if len(rows) > limit else None
    for row in rows:
        del row[_TOTAL]
    if name is None or not rows:
        return RowPage(rows[:limit], total, end)
    texts = sorted({row[_NAME] for row in rows[:limit]})
    whole = f"SELECT *, {columns} FROM ({select}) WHERE {name} IN {{{_NAME}s:Array(String)}}"  # noqa: S608
    found = {
        tuple(_plain(row.pop(key.sql)) for key in named): row
        for row in client.rows(whole, {**parameters, f"{_NAME}s": texts}, settings)
    }
    # A row that has changed meanwhile may be in the list no more, or elsewhere.
    return RowPage([found[place] for place in positions[:limit] if place in found], total, end)


def _bound(number: int, key: Key) -> str:
    return f"{{after_{number}:{key.type}}}"


def _plain(value: Any) -> str | int:
    return f"{value:f}" if isinstance(value, Decimal) else value
