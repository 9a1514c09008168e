"""Options as changes of a mapping, or of none."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from meterfold_cli.exits import WrongInput
from meterfold_cli.importing import mapping as model
from meterfold_cli.importing.mapping_problems import first_problem
from meterfold_cli.importing.options import Options

__all__ = ["changed"]

_METADATA: Final = "metadata."


def changed(options: Options, pairs: Mapping[str, str]) -> model.Mapping:
    """`pairs` is column -> field. Raises WrongInput for what is no mapping together."""
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
    text = first_problem(error)
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
