"""The identities that one partition has counted lately, as hashes by the time of their arrival.

Those of the newest days are exact: a few sorted arrays for each day, eight bytes per identity, one binary search per
array. Those of earlier days are in one compact table per week (compact.IdentityTable), which replaces the arrays of its
days as soon as it is built. What is not in memory (yet) is `missing`: any identity may have been counted then.

Every answer is a candidate with the span of time in which it is to be looked up. A hash that is no candidate was surely
not counted. `loaded_from` says where memory begins: whoever looks back further is a candidate, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from meterfold_processor.fold.compact import IdentityTable, Version
from meterfold_schemas.periods import DAY

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Span = tuple[int, int]
"""Broker stamps from the first, inclusive, to the second, exclusive; UTC microseconds."""

_FIRST_MONDAY = 4 * DAY

EVERYTHING = -(2**62)
"""`loaded_from` of a partition whose every identity is in memory."""

FOREVER = 2**62
"""The end of a span that has none."""


def week_of(stamp: int) -> int:
    """The start of the week, from Monday."""
    return stamp - (stamp - _FIRST_MONDAY) % (7 * DAY)


def end_of_week(week: int) -> int:
    return week + 7 * DAY


def day_of(stamp: int) -> int:
    """The start of the day."""
    return stamp - stamp % DAY


@dataclass(frozen=True, slots=True)
class Candidates:
    """The rows of a batch whose identities may have been counted in `span`; `version` names the table that says so."""

    span: Span
    rows: Bools
    version: Version | None = None


@dataclass(slots=True)
class Remembered:
    """Hashes of counted identities that arrived at `loaded_from` (UTC microseconds) or later, but for `missing`."""

    loaded_from: int = EVERYTHING
    missing: list[Span] = field(default_factory=list)
    tables: dict[int, tuple[Version, IdentityTable]] = field(default_factory=dict)
    _days: dict[int, list[UInt64s]] = field(default_factory=dict)
    _replaced: dict[int, list[tuple[int, UInt64s]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(map(len, self._arrays())) + sum(len(table) for _, table in self.tables.values())

    @property
    def nbytes(self) -> int:
        """Memory of the hashes, in bytes."""
        return sum(run.nbytes for run in self._arrays()) + sum(table.nbytes for _, table in self.tables.values())

    def add(self, hashes: UInt64s, stamps: Int64s) -> None:
        """Remember identities by their stamps (UTC microseconds)."""
        days = stamps // DAY
        for day in np.unique(days).tolist():
            self._add_to(day, np.sort(hashes[days == day]))

    def candidates(self, sorted_hashes: UInt64s, since: Int64s) -> list[Candidates]:
        """Which of the hashes, which rise, may have been counted, and when. `since` tells for each how far to look
        back: what was counted before does not matter."""
        if not len(sorted_hashes):
            return []
        first = int(since.min())
        found = [Candidates((start, end), np.ones(len(since), np.bool_)) for start, end in self.missing if end > first]
        before = since < self.loaded_from
        if before.any():
            found.append(Candidates((first, self.loaded_from), before))
        for version, table in self.tables.values():
            if version.until > first:
                found.append(Candidates((version.week, version.until), table.contains(sorted_hashes), version))
        for day, runs in self._runs_by_day().items():
            if (day + 1) * DAY > first:
                found.append(Candidates((day * DAY, (day + 1) * DAY), _in_any(runs, sorted_hashes)))
        return [one for one in found if one.rows.any()]

    def exact_in(self, week: int, until: int) -> int:
        """Identities of the week before `until` that no table has."""
        return sum(len(run) for day, runs in self._days.items() if week <= day * DAY < until for run in runs)

    def weeks(self) -> list[int]:
        """The weeks of which some identities are exact."""
        return sorted({week_of(day * DAY) for day in self._days})

    def is_set_aside(self, week: int) -> bool:
        return week in self._replaced

    def set_aside(self, week: int, until: int) -> None:
        """The arrays of these days are going to be replaced by a table: `install` drops them. What is added to these
        days from now on stays."""
        days = [day for day in self._days if week <= day * DAY < until]
        aside = self._replaced.setdefault(week, [])
        aside.extend((day, run) for day in days for run in self._days.pop(day))

    def install(self, version: Version, table: IdentityTable) -> None:
        """Use a table, in place of an earlier one of its week and of what was set aside for it."""
        self.tables[version.week] = (version, table)
        self._replaced.pop(version.week, None)

    def loaded(self, since: int, until: int) -> None:
        """All identities of this span are in memory."""
        self.missing = [part for span in self.missing for part in without(span, (since, until))]

    def forget_before(self, stamp: int) -> None:
        """Drop what ended at `stamp` or earlier; what arrived then is looked up from now on."""
        days = [day for day in self._days if (day + 1) * DAY <= stamp]
        weeks = [week for week, (version, _) in self.tables.items() if version.until <= stamp]
        for day in days:
            del self._days[day]
        ends = [(day + 1) * DAY for day in days]
        for week in weeks:
            ends.append(self.tables.pop(week)[0].until)
        if ends:
            self.loaded_from = max(self.loaded_from, *ends)
            self.missing = [part for span in self.missing for part in without(span, (EVERYTHING, self.loaded_from))]

    def _arrays(self) -> Iterable[UInt64s]:
        yield from (run for runs in self._days.values() for run in runs)
        yield from (run for runs in self._replaced.values() for _, run in runs)

    def _runs_by_day(self) -> dict[int, list[UInt64s]]:
        if not self._replaced:
            return self._days
        runs = {day: list(some) for day, some in self._days.items()}
        for some in self._replaced.values():
            for day, run in some:
                runs.setdefault(day, []).append(run)
        return runs

    def _add_to(self, day: int, run: UInt64s) -> None:
        runs = self._days.setdefault(day, [])
        while runs and len(runs[-1]) <= 2 * len(run):
            merged = np.concatenate((runs.pop(), run))
            merged.sort(kind="stable")  # two sorted runs: the stable sort merges them in one pass
            run = merged
        if len(run):
            runs.append(run)


def _in_any(runs: list[UInt64s], sorted_hashes: UInt64s) -> Bools:
    found = np.zeros(len(sorted_hashes), dtype=np.bool_)
    for run in runs:
        place = np.searchsorted(run, sorted_hashes)
        place[place == len(run)] = 0
        found |= run[place] == sorted_hashes
    return found


def without(span: Span, cut: Span) -> list[Span]:
    """What is left of a span, in up to two parts."""
    parts = [(span[0], min(span[1], cut[0])), (max(span[0], cut[1]), span[1])]
    return [(since, until) for since, until in parts if since < until]
