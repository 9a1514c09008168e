"""Which thresholds judge which subjects, as columns.

A *plan* is the tuple of thresholds that judge one subject on one period. Subjects share plans (one threshold for every
subject is one plan), so a batch of rows is judged by repeating each row once per threshold of its plan and comparing
columns; no Python object is touched for a row whose levels stay as they are. Nothing is kept per subject:
organizations, types and subjects matter only where a definition names them, and all others are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.judged import Terms
from meterfold_processor.checker.panes import Int64s
from meterfold_processor.checker.rows import WindowColumns
from meterfold_processor.checker.rules import CODES
from meterfold_processor.checker.values import TYPE_CODES, values_of
from meterfold_processor.columns.limbs import Limbs, from_ints, less
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import exact_unscaled
from meterfold_schemas.vocabulary import AggregationType

NO_PLAN = 0
"""The plan of a subject that no threshold judges."""
UNKNOWN = -1
"""The code of a row with more thresholds than fit into one number: Python looks at each of them."""

_MOST = 39  # 3^39 < 2^63
_OTHER: Final = "\0"
"""A text that no definition names."""
_SMALL: Final = 1 << 16


_Name = tuple[str, AggregationType]
"""A threshold's id, and by which type it judges: one of every organization judges in each by the type that the metric
has there."""


@dataclass(frozen=True, slots=True)
class WatchedThreshold:
    """One threshold as the judge needs it; `since` (created_at, UTC microseconds): it judges windows that end later."""

    threshold_id: str
    terms: Terms
    type_code: int
    since: int


class Plans:
    """The plans of one partition's subjects; found again after `forget`."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._numbers: dict[tuple[_Name, ...], int] = {(): NO_PLAN}
        self._plans: list[tuple[int, ...]] = [()]
        self._names: dict[_Name, int] = {}
        self._watches: list[WatchedThreshold] = []
        self._made_from: dict[_Name, UsageThreshold] = {}
        self._columns: _Columns | None = None
        self._named: _Named | None = None
        self._found: dict[int, tuple[int, ...]] = {}

    def of_rows(self, rows: WindowColumns) -> npt.NDArray[np.int32]:
        """The plan of each row."""
        named = self._named = self._named or _Named.of(self._definitions)
        if not len(rows) or not len(named.metrics):
            return np.zeros(len(rows), np.int32)
        kinds, inverse = named.kinds(rows)
        table = np.empty((len(kinds), max(CODES.values()) + 1), np.int32)
        for place, kind in enumerate(kinds.tolist()):
            found = self._found.get(kind)
            if found is None:
                found = self._found[kind] = self._make(named.subject(kind))
            table[place] = found
        plans: npt.NDArray[np.int32] = table[inverse, rows.periods]
        return plans

    def watches(self, plan: int) -> list[WatchedThreshold]:
        return [self._watches[number] for number in self._plans[plan]]

    def forget(self) -> None:
        """Definitions have changed."""
        self._named = None
        self._found = {}

    def codes(self, rows: WindowColumns, plans: npt.NDArray[np.int32], end: int) -> Int64s:
        """The levels of each row of windows with this end as one number: the sum of level x 3^k over the thresholds of
        its plan."""
        columns = self._columns = self._columns or _Columns.build(self._plans, self._watches)
        sizes = columns.sizes[plans]
        if len(sizes) and int(sizes.min()) == int(sizes.max()) == 1:
            return self._levels(columns, rows, columns.members[columns.firsts[plans]], end)
        row = np.repeat(np.arange(len(rows)), sizes)
        first = np.cumsum(sizes) - sizes
        place = np.arange(len(row)) - first[row]
        watch = columns.members[columns.firsts[plans][row] + place]
        levels = self._levels(columns, rows.take(row), watch, end)
        codes = np.zeros(len(rows), np.int64)
        many = sizes > _MOST
        levels[many[row]] = 0
        np.add.at(codes, row, levels * columns.powers[np.minimum(place, _MOST)])
        codes[many] = UNKNOWN
        return codes

    @staticmethod
    def _levels(columns: _Columns, rows: WindowColumns, watch: Int64s, end: int) -> Int64s:
        """The level of each row by one threshold."""
        values = values_of(columns.types[watch], rows.count, rows.sum, rows.min, rows.max, rows.last)
        levels = 2 - less(values, columns.warn.take(watch)).astype(np.int64) - less(values, columns.limit.take(watch))
        levels[columns.since[watch] >= end] = 0
        return levels

    def _make(self, subject: tuple[str, str, str, str]) -> tuple[int, ...]:
        """The plan numbers by period code."""
        by_period: dict[int, list[_Name]] = {code: [] for code in CODES.values()}
        kind = self._definitions.aggregation_type(subject[0], subject[1])
        for threshold in self._definitions.applicable(*subject):
            assert kind is not None  # a threshold of a metric that is not there does not apply
            name = (threshold.id, kind)
            if self._made_from.get(name) is not threshold:
                self._made_from[name] = threshold
                self._keep(name, _watch(threshold, kind))
            by_period[CODES[threshold.period_type]].append(name)
        return tuple(self._number(tuple(by_period.get(code, ()))) for code in range(max(CODES.values()) + 1))

    def _number(self, plan: tuple[_Name, ...]) -> int:
        number = self._numbers.get(plan)
        if number is None:
            number = self._numbers[plan] = len(self._plans)
            self._plans.append(tuple(self._names[name] for name in plan))
            self._columns = None
        return number

    def _keep(self, name: _Name, watch: WatchedThreshold) -> None:
        number = self._names.get(name)
        if number is None:
            self._names[name] = len(self._watches)
            self._watches.append(watch)
            self._columns = None
        elif self._watches[number] != watch:
            self._watches[number] = watch
            self._columns = None


def _watch(threshold: UsageThreshold, kind: AggregationType) -> WatchedThreshold:
    limit, warn = exact_unscaled(threshold.threshold), exact_unscaled(threshold.warn_threshold)
    terms = Terms(threshold.name, limit, warn, threshold.action)
    return WatchedThreshold(threshold.id, terms, TYPE_CODES[kind], micros(threshold.created_at))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Plans and thresholds as arrays: the members of plan p are members[firsts[p] : firsts[p] + sizes[p]]."""

    sizes: Int64s
    firsts: Int64s
    members: Int64s
    types: npt.NDArray[np.int8]
    since: Int64s
    limit: Limbs
    warn: Limbs
    powers: Int64s

    @classmethod
    def build(cls, plans: list[tuple[int, ...]], watches: list[WatchedThreshold]) -> _Columns:
        sizes = np.array([len(plan) for plan in plans], dtype=np.int64)
        return cls(
            sizes,
            np.cumsum(sizes) - sizes,
            np.array([member for plan in plans for member in plan], dtype=np.int64),
            np.array([watch.type_code for watch in watches], dtype=np.int8),
            np.array([watch.since for watch in watches], dtype=np.int64),
            from_ints([watch.terms.threshold for watch in watches]),
            from_ints([watch.terms.warn_threshold for watch in watches]),
            np.array([3**k for k in range(_MOST)] + [0], dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class _Named:
    """What definitions name, as value sets of pyarrow. Two subjects whose organization, metric, type and id are the
    same as far as they are named here have the same thresholds."""

    metrics: Any
    orgs: Any
    types: Any
    ids: Any

    @classmethod
    def of(cls, definitions: Definitions) -> _Named:
        watched = list(definitions.watched())
        metrics = {threshold.metric_key for threshold in watched}
        orgs = {threshold.org_id for threshold in watched}
        orgs |= {metric.org_id for metric in definitions.metrics() if metric.key in metrics}
        types = {threshold.subject_type for threshold in watched}
        ids = {threshold.subject_id for threshold in watched}
        sets = (sorted(name for name in names if name is not None) for names in (metrics, orgs, types, ids))
        return cls(*(pa.array(names, pa.large_string()) for names in sets))

    def kinds(self, rows: WindowColumns) -> tuple[Int64s, Int64s]:
        """The distinct kinds of subjects among rows, and which of them each row has."""
        combined = np.zeros(len(rows), np.int64)
        for name, values in self._columns():
            combined *= len(values) + 1
            if len(values):
                places: Any = pc.index_in(rows.names.column(name), values)
                combined += (places.fill_null(-1).to_numpy().astype(np.int64) + 1)[rows.at]
        if self._count <= _SMALL:
            present = np.flatnonzero(np.bincount(combined, minlength=1))
            place_of = np.zeros(self._count, np.int64)
            place_of[present] = np.arange(len(present))
            return present, place_of[combined]
        kinds, inverse = np.unique(combined, return_inverse=True)
        return kinds, inverse

    def subject(self, kind: int) -> tuple[str, str, str, str]:
        """A subject of this kind."""
        parts: dict[str, str] = {}
        for name, values in reversed(self._columns()):
            kind, place = divmod(kind, len(values) + 1)
            parts[name] = values[place - 1].as_py() if place else _OTHER
        return parts["org_id"], parts["metric_key"], parts["subject_type"], parts["subject_id"]

    def _columns(self) -> list[tuple[str, Any]]:
        return [
            ("metric_key", self.metrics),
            ("org_id", self.orgs),
            ("subject_type", self.types),
            ("subject_id", self.ids),
        ]

    @property
    def _count(self) -> int:
        """How many kinds there can be. With 64-bit numbers: two million thresholds may name one subject each."""
        count = 1
        for _, values in self._columns():
            count *= len(values) + 1
        return count
