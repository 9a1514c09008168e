"""The options of the command as a mapping: of the columns that have the names of fields, or as changes of a file's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping as model
from meterfold_cli.importing.plan import REJECTED_LINE, REJECTED_REASON
from meterfold_schemas import usage_fields

__all__ = ["FIELDS", "Options", "resolve"]

#: The fields of one event that a column or --set may give.
FIELDS: Final = usage_fields.NAMES
_NEEDED: Final = ("metric_key", "subject_type", "subject_id", "timestamp")
_METADATA: Final = "metadata."


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said. `mapping` is column -> field, `fixed` field -> value; `strip` takes the spaces around
    every cell away. `measures` are (metric, column), `subjects` (type, column), `metric_from` the columns that make the
    metric by rule "key", `metric_table` text -> key. `base` is the mapping of --mapping or --preset that they change,
    `base_name` what messages call it."""

    mapping: Mapping[str, str]
    fixed: Mapping[str, Any]
    id_from: Sequence[str]
    ignore_others: bool
    strip: bool = False
    where: Sequence[str] = ()
    measures: Sequence[tuple[str, str]] = ()
    subjects: Sequence[tuple[str, str]] = ()
    metric_from: Sequence[str] = ()
    metric_table: Mapping[str, str] = field(default_factory=dict)
    scale: str | None = None
    rounding: str | None = None
    time_format: str | None = None
    timezone: str | None = None
    base: model.Mapping | None = None
    base_name: str = "options"

    @property
    def columns(self) -> frozenset[str]:
        """Every column that an option or the mapping names."""
        named = {*self.mapping, *self.id_from, *self.metric_from}
        named.update(column for _, column in (*self.measures, *self.subjects))
        named.update(model.condition(text).column for text in self.where)
        return frozenset(named) | (frozenset() if self.base is None else self.base.columns)


def resolve(columns: Sequence[str], options: Options) -> model.Mapping:
    """The whole mapping for a file with these columns. Raises WrongInput, naming the option."""
    _check_columns(columns, options)
    pairs = dict(options.mapping)
    if options.base is None:
        pairs = _pairs_by_name(columns, options)
        _check_complete(pairs.values(), options)
    draft = _Draft(options.base)
    for column, name in pairs.items():
        draft.put(name, column=column)
    for name, value in options.fixed.items():
        draft.put(name, value=value)
    return draft.finished(options)


class _Draft:
    """A mapping while it is being changed, as the values of its TOML."""

    def __init__(self, base: model.Mapping | None) -> None:
        self._values: dict[str, Any] = {} if base is None else base.plain()
        self._subject: dict[str, str] = {}

    def put(self, name: str, **source: str) -> None:
        """Read a field from `column`, or set it to `value`."""
        values = self._values
        match name:
            case "id":
                values.pop("id_from", None)
                values["id"] = source["column"]
            case "subject_id":
                self._subject.update(source)
            case "subject_type":
                self._subject["type_column" if "column" in source else "type"] = next(iter(source.values()))
            case "metric_key":
                values.pop("measures", None)
                values["metric"] = source
            case "quantity":
                values.pop("measures", None)
                kept = {key: value for key, value in values.get(name, {}).items() if key not in ("column", "value")}
                values[name] = {**kept, **source}
            case "timestamp":
                kept = {key: value for key, value in values.get(name, {}).items() if key in ("format", "timezone")}
                values[name] = {**kept, **source}
            case "metadata" if "column" in source:
                values["metadata_from"] = [*values.get("metadata_from", ()), source]
            case "metadata":
                values.setdefault("metadata", {}).update(_metadata_values(source["value"]))
            case _ if name.startswith(_METADATA):
                values.setdefault("metadata", {})[name.removeprefix(_METADATA)] = source
            case _:
                values.setdefault("fields", {})[name] = source

    def finished(self, options: Options) -> model.Mapping:
        values = self._values
        if options.id_from:
            values.pop("id", None)
            values["id_from"] = list(options.id_from)
        if options.strip:
            values["strip"] = True
        values["where"] = [*values.get("where", ()), *options.where]
        if options.measures:
            for name in ("metric", "quantity"):
                values.pop(name, None)
            values["measures"] = [{"metric": metric, "column": column} for metric, column in options.measures]
        if options.metric_from:
            values.pop("measures", None)
            values["metric"] = {"columns": list(options.metric_from), "rule": "key"}
        if options.metric_table:
            if not any(name in values.get("metric", {}) for name in ("column", "columns")):
                raise WrongInput(
                    "--metric-key needs a column of metrics: --map COLUMN=metric_key, or --metric-from COLUMN"
                )
            values["metric"] = {
                **values["metric"],
                "table": {**values["metric"].get("table", {}), **options.metric_table},
            }
        if options.subjects:
            values["subjects"] = [{"type": kind, "column": column} for kind, column in options.subjects]
        elif self._subject:
            values["subjects"] = [self._changed_subject(values.get("subjects", []))]
        self._quantities(options)
        self._times(options)
        try:
            return model.Mapping.model_validate(values)
        except ValidationError as error:
            raise WrongInput(_worded(error, options)) from None

    def _changed_subject(self, subjects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        changed: dict[str, Any] = dict(self._subject)
        given = {*changed}
        if given & {"type", "type_column"} and given & {"column", "value"}:
            return changed
        if len(subjects) != 1:
            raise WrongInput(
                f"the mapping has {len(subjects)} subjects, so one part of one cannot be replaced; use --subject "
                "TYPE=COLUMN, or give both subject_type and subject_id"
            )
        parts = ("type", "type_column") if given & {"column", "value"} else ("column", "value", "optional")
        return {**{name: value for name, value in subjects[0].items() if name in parts}, **changed}

    def _quantities(self, options: Options) -> None:
        given = {"scale": options.scale, "rounding": options.rounding}
        new: dict[str, str | None] = {name: value for name, value in given.items() if value is not None}
        if not new:
            return
        if new.get("rounding") == "refuse":
            new["rounding"] = None
        if "measures" in self._values:
            self._values["measures"] = [{**measure, **new} for measure in self._values["measures"]]
        else:
            self._values["quantity"] = {**self._values.get("quantity", {"value": "1"}), **new}

    def _times(self, options: Options) -> None:
        time = self._values.get("timestamp")
        if time is not None:
            changed = {"format": options.time_format, "timezone": options.timezone}
            time.update({name: value for name, value in changed.items() if value is not None})


_OPTION_OF: Final = {"measures": "--measure", "quantity": "--scale", "subjects": "--subject"}


def _worded(error: ValidationError, options: Options) -> str:
    """The first problem, with the option that it came from where there is no file that has it."""
    text = model.first_problem(error)
    if options.base is not None:
        return f"{options.base_name} with the options: {text}"
    first, _, message = text.partition(": ")
    name = first.partition(".")[0]
    if name == "metric":
        return f"{'--metric-key' if '.table' in first else '--set'}: {message}"
    return f"{_OPTION_OF.get(name, '--set')}: {message}"


def _metadata_values(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text) if isinstance(text, str) else text
    except ValueError:
        found = None
    if not isinstance(found, Mapping):
        raise WrongInput(
            f"--set metadata={text}: the value must be a JSON object; for one entry use --set metadata.NAME=VALUE"
        )
    return {
        name: {"value": value}
        if isinstance(value, str)
        else {"value": json.dumps(value, ensure_ascii=False), "json": True}
        for name, value in found.items()
    }


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
