"""The mapping of columns to fields of an event, from the header and the options of the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final
from uuid import uuid5

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing.text_files import CONVERT
from meterfold_schemas import usage_fields
from meterfold_schemas.errors import InvalidUsage
from meterfold_schemas.ids import NAMESPACE
from meterfold_schemas.keys import compact_array

#: The fields of one event that a column or --set may give.
FIELDS: Final = usage_fields.NAMES
_NEEDED: Final = ("metric_key", "subject_type", "subject_id", "timestamp")
# An empty cell means "not given" for these; for the others it is an error of its row.
_OPTIONAL: Final = frozenset({"org_id", *usage_fields.OPTIONAL})
_METADATA: Final = "metadata."

#: Columns of a rejects file, so that a corrected one can be imported as it is.
REJECTED_LINE: Final = "rejected_line"
REJECTED_REASON: Final = "rejected_reason"

Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said. `mapping` is column -> field, `fixed` field -> value; `strip` takes the spaces around
    every cell away."""

    mapping: Mapping[str, str]
    fixed: Mapping[str, Any]
    id_from: Sequence[str]
    ignore_others: bool
    strip: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Turns one row into the keyword arguments of an event.

    `columns` are the rows' columns; `fields` (field, index, reader) and `metadata` (name, index) say where values come
    from, `fixed` are values for every row, `id_from` the indexes that make the id.
    """

    columns: tuple[str, ...]
    fields: tuple[tuple[str, int, Reader | None], ...]
    metadata: tuple[tuple[str, int], ...]
    fixed: Mapping[str, Any]
    id_from: tuple[int, ...]
    strip: bool = False

    @property
    def used(self) -> frozenset[str]:
        """The columns that are read at all."""
        indexes = [index for _, index, _ in self.fields] + [index for _, index in self.metadata] + [*self.id_from]
        return frozenset(self.columns[index] for index in indexes)

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that make the id; empty where the file has ids."""
        return tuple(self.columns[index] for index in self.id_from)

    def event(self, row: Sequence[Any]) -> dict[str, Any]:
        """Raises InvalidUsage for a row that can't be one."""
        if self.strip:
            row = [cell.strip() if type(cell) is str else cell for cell in row]
        event = dict(self.fixed)
        for name, index, read in self.fields:
            value = row[index]
            if value is None or value == "":
                if name in _OPTIONAL:
                    continue
                raise InvalidUsage(f"{name} is empty")
            event[name] = value if read is None else read(value)
        if self.metadata:
            values = {name: row[index] for name, index in self.metadata if row[index] not in (None, "")}
            if values:
                event["metadata"] = values
        if self.id_from:
            event["id"] = row_id([row[index] for index in self.id_from])
        return event

    def explained(self, reason: str, row: Sequence[Any]) -> str:
        """What is wrong with a row, with the column that it is about and what to do where that is known."""
        index = next((index for name, index, _ in self.fields if reason.startswith(f"{name} ")), None)
        if index is None:
            return reason
        column, value = self.columns[index], row[index]
        named = reason if reason.startswith(f"{column} ") else f"column {column!r}: {reason}"
        hint = _hint(value, reason) if isinstance(value, str) else ""
        return f"{named}; {hint}" if hint else named


def row_id(values: Sequence[Any]) -> str:
    """The id of a row by the values that make it unique, always the same for the same values.

    A UUIDv5 of their text; raises InvalidUsage when all of them are empty.
    """
    texts = ["" if value is None else str(value) for value in values]
    if not any(texts):
        raise InvalidUsage("every column of --id-from is empty")
    try:
        return str(uuid5(NAMESPACE, compact_array("import", *texts).decode("utf-8")))
    except UnicodeEncodeError:
        raise InvalidUsage("a column of --id-from is not valid UTF-8") from None


def make_plan(columns: Sequence[str], options: Options, readers: Mapping[str, Callable[[str], Reader | None]]) -> Plan:
    """`readers` makes, for a field, the reader of one column (by its name). Raises WrongInput, naming the option."""
    _check_columns(columns, options)
    targets: dict[str, str] = {}
    others = []
    for column in columns:
        if column in (REJECTED_LINE, REJECTED_REASON):
            continue
        field = options.mapping.get(column, column)
        if field in FIELDS or field.startswith(_METADATA):
            if field in options.fixed:
                raise WrongInput(f"--set {field}: the column {column!r} already provides {field}")
            if field in targets:
                raise WrongInput(f"the columns {targets[field]!r} and {column!r} both provide {field}")
            targets[field] = column
        elif column not in options.id_from:
            others.append(column)
    if others and not options.ignore_others:
        raise WrongInput(_unknown(others))
    if "metadata" in targets and any(field.startswith(_METADATA) for field in targets):
        raise WrongInput("columns are mapped both to metadata and to metadata.NAME; use one of them")
    _check_complete(targets, options)
    index = {column: i for i, column in enumerate(columns)}
    return Plan(
        tuple(columns),
        tuple(
            (field, index[column], readers[field](column) if field in readers else None)
            for field, column in targets.items()
            if field in FIELDS and not (field == "id" and options.id_from)
        ),
        tuple((field[len(_METADATA) :], index[column]) for field, column in targets.items() if field not in FIELDS),
        dict(options.fixed),
        tuple(index[column] for column in options.id_from),
        options.strip,
    )


def _check_columns(columns: Sequence[str], options: Options) -> None:
    twice = sorted({column for column in columns if list(columns).count(column) > 1})
    if twice:
        raise WrongInput(f"the header contains {', '.join(map(repr, twice))} more than once")
    for option, names in (("--map", options.mapping), ("--id-from", options.id_from)):
        for name in names:
            if name not in columns:
                raise WrongInput(
                    f"{option} {name}: the file has no column {name!r}; its columns are {', '.join(columns)}"
                )
    for column, field in options.mapping.items():
        if field not in FIELDS and not (field.startswith(_METADATA) and field != _METADATA):
            raise WrongInput(f"--map {column}={field}: {field!r} is not a field.{_near(field)}")
    for field in options.fixed:
        if field not in FIELDS or field == "id":
            raise WrongInput(f"--set {field}=...: {field!r} is not a field that can be set.{_near(field)}")


def _check_complete(targets: Mapping[str, str], options: Options) -> None:
    missing = [field for field in _NEEDED if field not in targets and field not in options.fixed]
    if missing:
        raise WrongInput(
            f"no column provides {', '.join(missing)}: name one with --map COLUMN={missing[0]}, or set one value for "
            f"all rows with --set {missing[0]}=VALUE"
        )
    if "id" not in targets and not options.id_from:
        raise WrongInput(
            "no column provides the id of an event: name one with --map COLUMN=id, or name the columns that identify a "
            "row with --id-from COLUMN,COLUMN. Without ids, importing the file again would count it twice"
        )


def _unknown(columns: Sequence[str]) -> str:
    named = ", ".join(map(repr, columns))
    return (
        f"unknown column{'s' if len(columns) > 1 else ''} {named}: map each with --map COLUMN=FIELD (or "
        f"=metadata.NAME), or ignore all of them with --ignore-others.{_near(columns[0])}"
    )


def _hint(value: str, reason: str) -> str:
    if any("\udc80" <= character <= "\udcff" for character in value):
        return f"the cell is not valid UTF-8: {CONVERT}"
    if value != value.strip() and "--strip" not in reason:
        return "the cell has surrounding spaces, which --strip removes"
    if reason.startswith("quantity ") and "," in value:
        return "use a decimal point and no thousands separators"
    return ""


def _near(name: str) -> str:
    close = get_close_matches(name, FIELDS, n=1)
    return f" Did you mean {close[0]}?" if close else f" Fields are: {', '.join(FIELDS)}, metadata.NAME"
