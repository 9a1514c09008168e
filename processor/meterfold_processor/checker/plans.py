"""Which thresholds judge which subjects, as columns.

A *plan* is the tuple of thresholds that judge one subject on one period. Subjects share plans (one threshold for every
subject is one plan), so a batch of rows is judged by repeating each row once per threshold of its plan and comparing
columns; no Python object is touched for a row whose levels stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from meterfold_processor.checker.definitions import Definitions
from meterfold_processor.checker.index import grown
from meterfold_processor.checker.judged import Terms
from meterfold_processor.checker.rows import WindowColumns
from meterfold_processor.checker.rules import CODES
from meterfold_processor.checker.subjects import SubjectSlots
from meterfold_processor.checker.values import TYPE_CODES, values_of
from meterfold_processor.columns.limbs import Limbs, from_ints, less
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.periods import micros
from meterfold_schemas.quantities import exact_unscaled
from meterfold_schemas.vocabulary import AggregationType

Int64s = npt.NDArray[np.int64]

NO_PLAN = 0
"""The plan of a subject that no threshold judges."""
UNKNOWN = -1
"""The code of a row with more thresholds than fit into one number: Python looks at each of them."""

_UNKNOWN_PLAN = -1
_MOST = 39  # 3^39 < 2^63


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
    """The plans of one partition's subjects; computed when a subject is seen, again when its metric is affected."""

    def __init__(self, definitions: Definitions, subjects: SubjectSlots) -> None:
        self._definitions = definitions
        self._subjects = subjects
        self._of_slot = {code: np.empty(0, np.int32) for code in CODES.values()}
        self._numbers: dict[tuple[_Name, ...], int] = {(): NO_PLAN}
        self._plans: list[tuple[int, ...]] = [()]
        self._names: dict[_Name, int] = {}
        self._watches: list[WatchedThreshold] = []
        self._made_from: dict[_Name, UsageThreshold] = {}
        self._columns: _Columns | None = None

    def of_rows(self, slots: Int64s, periods: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
        """The plan of each row."""
        plans = np.empty(len(slots), np.int32)
        for code in np.unique(periods).tolist():
            at = periods == code
            here = slots[at]
            column = self._of_slot[code] = grown(self._of_slot[code], len(self._subjects), _UNKNOWN_PLAN)
            found = column[here]
            if (found == _UNKNOWN_PLAN).any():
                for slot in np.unique(here[found == _UNKNOWN_PLAN]).tolist():
                    self._make(slot)
                found = self._of_slot[code][here]
            plans[at] = found
        return plans

    def watches(self, plan: int) -> list[WatchedThreshold]:
        return [self._watches[number] for number in self._plans[plan]]

    def forget(self, org_id: str | None, metric_key: str) -> None:
        """The definitions of this metric have changed."""
        slots = np.fromiter(self._subjects.of_metric(org_id, metric_key), np.int64)
        for code, column in self._of_slot.items():
            self._of_slot[code] = column = grown(column, len(self._subjects), _UNKNOWN_PLAN)
            column[slots] = _UNKNOWN_PLAN

    def codes(self, rows: WindowColumns, plans: npt.NDArray[np.int32], ends: Int64s) -> Int64s:
        """The levels of each row as one number: the sum of level x 3^k over the thresholds of its plan."""
        columns = self._columns = self._columns or _Columns.build(self._plans, self._watches)
        sizes = columns.sizes[plans]
        row = np.repeat(np.arange(len(rows)), sizes)
        first = np.cumsum(sizes) - sizes
        place = np.arange(len(row)) - first[row]
        watch = columns.members[columns.firsts[plans][row] + place]
        values = values_of(
            columns.types[watch],
            rows.count[row],
            rows.sum.take(row),
            rows.min.take(row),
            rows.max.take(row),
            rows.last.take(row),
        )
        levels = 2 - less(values, columns.warn.take(watch)).astype(np.int64) - less(values, columns.limit.take(watch))
        levels[ends[row] <= columns.since[watch]] = 0
        codes = np.zeros(len(rows), np.int64)
        many = sizes > _MOST
        levels[many[row]] = 0
        np.add.at(codes, row, levels * columns.powers[np.minimum(place, _MOST)])
        codes[many] = UNKNOWN
        return codes

    def _make(self, slot: int) -> None:
        subject = self._subjects[slot]
        by_period: dict[int, list[_Name]] = {code: [] for code in CODES.values()}
        kind = self._definitions.aggregation_type(subject[0], subject[1])
        for threshold in self._definitions.applicable(*subject):
            assert kind is not None  # a threshold of a metric that is not there does not apply
            name = (threshold.id, kind)
            if self._made_from.get(name) is not threshold:
                self._made_from[name] = threshold
                self._keep(name, _watch(threshold, kind))
            by_period[CODES[threshold.period_type]].append(name)
        for code, wanted in by_period.items():
            plan = tuple(wanted)
            number = self._numbers.get(plan)
            if number is None:
                number = self._numbers[plan] = len(self._plans)
                self._plans.append(tuple(self._names[name] for name in plan))
                self._columns = None
            column = self._of_slot[code] = grown(self._of_slot[code], len(self._subjects), _UNKNOWN_PLAN)
            column[slot] = number

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
