"""The options of the command that say how a file becomes events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meterfold_cli.importing import mapping as model

__all__ = ["Options"]


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
