"""The whole mapping for the columns of a file: of columns named like fields, of options, and of a mapping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping as model
from meterfold_cli.importing.changes import changed
from meterfold_cli.importing.options import Options
from meterfold_cli.importing.patterns import is_pattern, matches
from meterfold_cli.importing.plan import REJECTED_LINE, REJECTED_REASON
from meterfold_schemas import usage_fields

__all__ = ["FIELDS", "resolve"]

#: The fields of one event that a column or --set may give.
FIELDS: Final = usage_fields.NAMES
_NEEDED: Final = ("metric_key", "subject_type", "subject_id", "timestamp")
_METADATA: Final = "metadata."


def resolve(columns: Sequence[str], options: Options) -> model.Mapping:
    """The whole mapping for a file with these columns. Raises WrongInput, naming the option."""
    options = _expanded(columns, options)
    _check_columns(columns, options)
    pairs = dict(options.mapping)
    if options.base is None:
        pairs = _pairs_by_name(columns, options)
        _check_complete(pairs.values(), options)
    return changed(options, pairs)


def _expanded(columns: Sequence[str], options: Options) -> Options:
    """The same with a pattern such as resourceTags/*=metadata.* replaced by the columns that match it. A column that is
    named itself keeps its own field."""
    mapping: dict[str, str] = {}
    for column, name in options.mapping.items():
        found = matches(columns, column, name) if column not in columns and _is_metadata_pattern(column, name) else []
        mapping |= {one: field for one, field in found if one not in options.mapping} or {column: name}
    return replace(options, mapping=mapping)


def _is_metadata_pattern(column: str, name: str) -> bool:
    return name.startswith(_METADATA) and is_pattern(column, name)


def _pairs_by_name(columns: Sequence[str], options: Options) -> dict[str, str]:
    """column -> field of the columns that give one, by --map or by their own names."""
    targets: dict[str, str] = {}
    pairs: dict[str, str] = {}
    others = []
    known = options.columns
    for column in columns:
        if column in (REJECTED_LINE, REJECTED_REASON):
            continue
        name = options.mapping.get(column, column)
        if name in FIELDS or name.startswith(_METADATA):
            if name in options.fixed:
                raise WrongInput(f"--set {name}: the column {column!r} already provides {name}")
            if name in targets and name != "metadata":
                raise WrongInput(f"the columns {targets[name]!r} and {column!r} both provide {name}")
            targets[name] = column
            pairs[column] = name
        elif column not in known and not any(other.startswith(f"{column}.") for other in known):
            others.append(column)
    if others and not options.ignore_others:
        raise WrongInput(_unknown(others))
    if options.id_from:
        pairs = {column: name for column, name in pairs.items() if name != "id"}
    return pairs


def _check_columns(columns: Sequence[str], options: Options) -> None:
    twice = sorted({column for column in columns if list(columns).count(column) > 1})
    if twice:
        raise WrongInput(f"the header contains {', '.join(map(repr, twice))} more than once")
    named: tuple[tuple[str, Iterable[str]], ...] = (
        ("--map", options.mapping),
        ("--id-from", options.id_from),
        ("--metric-from", options.metric_from),
        ("--measure", [column for _, column in options.measures]),
        ("--subject", [column for _, column in options.subjects]),
        ("--where", [model.condition(text).column for text in options.where]),
    )
    for option, names in named:
        for name in names:
            if name not in columns:
                raise WrongInput(
                    f"{option} {name}: the file has no column {name!r}; its columns are {', '.join(columns)}"
                )
    for column, name in options.mapping.items():
        if name not in FIELDS and not (name.startswith(_METADATA) and name != _METADATA):
            raise WrongInput(f"--map {column}={name}: {name!r} is not a field.{_near(name)}")
    for name in options.fixed:
        if (name not in FIELDS or name == "id") and not (name.startswith(_METADATA) and name != _METADATA):
            raise WrongInput(f"--set {name}=...: {name!r} is not a field that can be set.{_near(name)}")


def _check_complete(targets: Iterable[str], options: Options) -> None:
    given = {*targets, *options.fixed}
    if options.measures:
        if given & {"metric_key", "quantity"}:
            raise WrongInput(
                "--measure gives the metric and the quantity; no column and no --set can give them as well"
            )
        given.add("metric_key")
    if options.metric_from:
        given.add("metric_key")
    if options.subjects:
        given |= {"subject_type", "subject_id"}
    missing = [name for name in _NEEDED if name not in given]
    if missing:
        raise WrongInput(
            f"no column provides {', '.join(missing)}: name one with --map COLUMN={missing[0]}, or set one value for "
            f"all rows with --set {missing[0]}=VALUE"
        )
    if "id" not in given and not options.id_from:
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


def _near(name: str) -> str:
    close = get_close_matches(name, FIELDS, n=1)
    return f" Did you mean {close[0]}?" if close else f" Fields are: {', '.join(FIELDS)}, metadata.NAME"
