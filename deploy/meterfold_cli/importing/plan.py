"""A mapping made ready for the columns of one file: from the values of a row to the events that it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Any, Final

from meterfold_cli.importing.text_files import CONVERT
from meterfold_schemas import usage_fields
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.ids import NAMESPACE
from meterfold_schemas.keys import compact_array

__all__ = [
    "OPTIONAL",
    "REJECTED_LINE",
    "REJECTED_REASON",
    "LeftOut",
    "MeasurePlan",
    "Plan",
    "Reader",
    "Row",
    "Step",
    "Tally",
    "cell_text",
    "row_id",
]

# An empty cell means "not given" for these; for the others it is an error of its row.
OPTIONAL: Final = frozenset({"org_id", *usage_fields.OPTIONAL})

#: Columns of a rejects file, so that a corrected one can be imported as it is.
REJECTED_LINE: Final = "rejected_line"
REJECTED_REASON: Final = "rejected_reason"

_NAMESPACE: Final = NAMESPACE.bytes

Row = Sequence[Any]
Reader = Callable[[Any], Any]
#: Adds fields to the event of a row. Raises InvalidUsage or LeftOut.
Step = Callable[[Row, dict[str, Any]], None]


class LeftOut(Exception):
    """The row is not to be imported, by its mapping."""


def _same(cell: Any) -> Any:
    return cell


@dataclass(slots=True)
class Tally:
    """What the mapping did to values. `rounded`: quantities that lost digits."""

    rounded: int = 0


@dataclass(frozen=True, slots=True)
class MeasurePlan:
    """One quantity of a row. `amount` reads it and raises InvalidUsage; None: the row has no such event."""

    metric_key: str
    amount: Callable[[Row], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Turns one row into the keyword arguments of its events.

    `columns` are the rows' columns; `fields` (field, index, reader) and `metadata` (name, index) say where values come
    from, `fixed` are values for every row, `id_from` the indexes that make the id (None: a column that the file lacks).
    `where` (index, values, negated) chooses rows. `sources`: field -> its columns, for messages.
    """

    columns: tuple[str, ...]
    fields: tuple[tuple[str, int, Reader | None], ...]
    metadata: tuple[tuple[str, int], ...]
    fixed: Mapping[str, Any]
    id_from: tuple[int | None, ...]
    strip: bool = False
    where: tuple[tuple[int, frozenset[str], bool], ...] = ()
    steps: tuple[Step, ...] = ()
    measures: tuple[MeasurePlan, ...] = ()
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    used: frozenset[str] = frozenset()
    """The columns that are read at all."""
    tally: Tally = field(default_factory=Tally)
    id_text: Callable[[Any], Any] = _same
    """What an id takes of a cell: of JSON the text that a CSV file would have."""

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that make the id; empty where the file has ids."""
        return tuple(self.columns[index] for index in self.id_from if index is not None)

    def events(self, row: Row) -> Sequence[dict[str, Any]]:
        """Empty for a row that the mapping leaves out. Raises InvalidUsage for a row that can't be imported."""
        if self.strip:
            row = [cell.strip() if type(cell) is str else cell for cell in row]
        for index, values, negated in self.where:
            cell = row[index]
            if ((cell if type(cell) is str else cell_text(cell)) in values) is negated:
                return ()
        if not self.steps and not self.measures:
            return (self.event(row),)
        try:
            event = self.event(row)
        except LeftOut:
            return ()
        return self._measured(row, event) if self.measures else (event,)

    def event(self, row: Row) -> dict[str, Any]:
        """The event without its measures. Raises InvalidUsage, and LeftOut where a step leaves the row out."""
        event = dict(self.fixed)
        for name, index, read in self.fields:
            value = row[index]
            if value is None or value == "":
                if name in OPTIONAL:
                    continue
                raise InvalidUsage(f"{name} is empty")
            event[name] = value if read is None else read(value)
        if self.metadata:
            values = {name: row[index] for name, index in self.metadata if row[index] not in (None, "")}
            if values:
                event["metadata"] = values
        for step in self.steps:
            step(row, event)
        if self.id_from:
            text = self.id_text
            event["id"] = row_id([None if index is None else text(row[index]) for index in self.id_from])
        return event

    def explained(self, reason: str, row: Row) -> str:
        """What is wrong with a row, with the column that it is about and what to do where that is known."""
        name = reason.partition(" ")[0].rstrip(":")
        columns = self.sources.get(name, ())
        if len(columns) != 1:
            return f"columns {', '.join(map(repr, columns))}: {reason}" if columns else reason
        column, value = columns[0], row[self.columns.index(columns[0])]
        named = reason if reason.startswith(f"{column} ") else f"column {column!r}: {reason}"
        hint = _hint(value, reason) if isinstance(value, str) else ""
        return f"{named}; {hint}" if hint else named

    def _measured(self, row: Row, event: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        for measure in self.measures:
            amount = measure.amount(row)
            if amount is not None:
                found.append({**event, "metric_key": measure.metric_key, "quantity": amount})
        return found


def cell_text(value: Any) -> str:
    """A cell as the text that a condition or a table compares."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def row_id(values: Sequence[Any]) -> str:
    """The id of a row by the values that make it unique, always the same for the same values.

    A UUIDv5 of their text; raises InvalidUsage when all of them are empty.
    """
    texts = [value if type(value) is str else "" if value is None else str(value) for value in values]
    if not any(texts):
        raise InvalidUsage("every column of --id-from is empty")
    try:
        name = compact_array("import", *texts)
    except InvalidUsage:
        raise InvalidUsage("a column of --id-from is not valid UTF-8") from None
    # uuid5 without its objects, which cost twice as much as the hash.
    raw = bytearray(sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x50
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _hint(value: str, reason: str) -> str:
    if any("\udc80" <= character <= "\udcff" for character in value):
        return f"the cell is not valid UTF-8: {CONVERT}"
    if value != value.strip() and "--strip" not in reason:
        return "the cell has surrounding spaces, which --strip removes"
    if reason.startswith("metric_key ") and "a table" not in reason:
        return "make a key of it with --metric-from COLUMN, or translate it with --metric-key TEXT=KEY"
    if reason.startswith("quantity ") and "," in value:
        return "use a decimal point and no thousands separators"
    return ""
