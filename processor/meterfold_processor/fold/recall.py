"""How the identities of a partition come into memory, step by step, while its events are folded already.

At an assignment all that was counted within the look-back is missing, and looked up for each batch that needs it. Then,
newest first:

- what arrived on the last day is read from `usage_records`, hour by hour;
- for each week before, the stored table of it is read piece by piece, and what was counted in its time after it was
  built;
- where there is no table, or one of its pieces is lost or damaged, it is built from `usage_records` and stored.

Later, when a day is over and everything of it is acknowledged, the table of its week is built again, now with that day.
A table that was lost costs time, and never a count: it only ever says which hashes need no look-up.

Every step is small and can be repeated after a Retryable; what a step has read or stored is taken over at its end.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from meterfold_processor.columns.distinct import distinct
from meterfold_processor.fold import compact
from meterfold_processor.fold.compact import IdentityTable, Version
from meterfold_processor.fold.remembered import Remembered, Span, day_of, end_of_week, week_of, without
from meterfold_processor.fold.store import IdentityHistory
from meterfold_schemas.periods import HOUR, from_micros

_LOG = logging.getLogger("meterfold.fold")

FEW = 65_536
"""So many identities of a week that is not over stay exact: half a megabyte."""

STEP_IDENTITIES = 2_000_000
"""What one step reads, roughly: a few tenths of a second."""


class Task(Protocol):
    def step(self) -> Task | None:
        """Do a part of it. Returns what is to be done next, None when it is done."""


@dataclass(frozen=True, slots=True)
class Now:
    """Where the fold of a partition is. Stamps in UTC microseconds, None before the first event.

    `acknowledged`: everything below this offset is in ClickHouse. `oldest_pending`: the smallest stamp of what was
    counted and is not.
    """

    last_stamp: int | None
    acknowledged: int
    oldest_pending: int | None
    slack: int


class Recall:
    """The tasks of one partition."""

    def __init__(self, remembered: Remembered, history: IdentityHistory, now: Callable[[], Now]) -> None:
        """Everything that `remembered` misses is going to be loaded."""
        self._remembered = remembered
        self._history = history
        self._now = now
        self._tasks: deque[Task] = deque()
        if remembered.missing:
            self._tasks.append(_Plan(self))

    @property
    def is_loading(self) -> bool:
        """Whether something that was counted earlier is not in memory yet."""
        return bool(self._remembered.missing)

    def step(self) -> bool:
        """Do one small part of what is to be done; False when there is nothing to do. Raises Retryable, and then the
        same part is tried again by the next call."""
        if not self._tasks and not self._tidy():
            return False
        following = self._tasks[0].step()
        if following is None:
            self._tasks.popleft()
        else:
            self._tasks[0] = following
        return True

    def _tidy(self) -> bool:
        """Begin a table where days are over that are still exact."""
        now = self._now()
        if now.last_stamp is None:
            return False
        for week in self._remembered.weeks():
            known = self._remembered.tables.get(week)
            until = min(end_of_week(week), day_of(now.last_stamp))
            if known is not None:
                until = max(until, known[0].until)
            if now.oldest_pending is not None and now.oldest_pending < until:
                continue  # not everything of that time can be read back yet
            exact = self._remembered.exact_in(week, until)
            over = end_of_week(week) <= now.last_stamp - now.slack
            if exact >= FEW or (exact and over and known is None):
                self._remembered.set_aside(week, until)
                self._tasks.append(_Build(self, week, until, now.acknowledged))
                return True
        return False


@dataclass(slots=True)
class _Plan:
    """Which tables there are, and what is to be read without one."""

    recall: Recall

    def step(self) -> None:
        recall = self.recall
        now = recall._now()
        assert now.last_stamp is not None
        stored = recall._history.table_versions()
        first, today = recall._remembered.loaded_from, day_of(now.last_stamp)
        tables: list[Task] = []
        exact = list(recall._remembered.missing)
        week = week_of(now.last_stamp)
        while end_of_week(week) > first:
            # A table that holds more of the log than was folded is of a time before ClickHouse was restored.
            usable = [v for v in stored if v.week == week and v.through <= now.acknowledged]
            best = max(usable, key=lambda version: (version.until, version.through), default=None)
            until = min(end_of_week(week), today)
            if best is not None and best.until > first:
                tables.append(_Load(recall, best))
                until = best.until
            elif until > max(week, first):
                tables.append(_Build(recall, week, until, now.acknowledged))
            if until > week:
                exact = [part for span in exact for part in without(span, (week, until))]
            week = week_of(week - 1)
        recall._tasks.extend(_Exact(recall, *span, whole_from=now.last_stamp + 1) for span in reversed(exact))
        recall._tasks.extend(tables)


@dataclass(slots=True)
class _Exact:
    """Read a span from `usage_records`, hour by hour or faster; from `whole_from` on, where hardly anything can be, at
    once."""

    recall: Recall
    since: int
    until: int
    whole_from: int
    width: int = HOUR

    def step(self) -> Task | None:
        end = self.until if self.since >= self.whole_from else min(self.until, self.since + self.width)
        hashes, stamps = self.recall._history.load_identities((self.since, end), 0)
        self.recall._remembered.add(hashes, stamps)
        self.recall._remembered.loaded(self.since, end)
        if len(hashes) < STEP_IDENTITIES // 2:
            self.width *= 2
        elif len(hashes) > STEP_IDENTITIES:
            self.width = max(1, self.width // 2)
        self.since = end
        return self if self.since < self.until else None


@dataclass(slots=True)
class _Load:
    """Take over a stored table, then what was counted in its time later: a stamp can step back."""

    recall: Recall
    version: Version
    table: IdentityTable | None = None
    at: int = 0
    counts: list[compact.UInt32s] = field(default_factory=list)
    remainders: list[compact.UInt16s] = field(default_factory=list)

    def step(self) -> Task | None:
        recall, version = self.recall, self.version
        if version.until <= recall._remembered.loaded_from:
            return None
        if self.table is None:
            return self._read(version)
        recall._remembered.add(*self._late())
        recall._remembered.install(version, self.table)
        recall._remembered.loaded(version.week, version.until)
        return None

    def _late(self) -> tuple[compact.UInt64s, npt.NDArray[np.int64]]:
        version = self.version
        return self.recall._history.load_identities((version.week, version.until), version.through)

    def _read(self, version: Version) -> Task:
        count = compact.piece_count(version.bits)
        end = min(count, self.at + _pieces_per_step())
        found = self.recall._history.load_pieces(version, self.at, end)
        whole = [piece.number for piece, _ in found] == list(range(self.at, end))
        if not whole or not all(piece.is_sound(version.bits, checksum) for piece, checksum in found):
            _LOG.warning(
                "the identity table of the week from %s is damaged: it is built again from usage_records",
                from_micros(version.week).date(),
            )
            return _Build(self.recall, version.week, version.until, self.recall._now().acknowledged)
        self.counts += [piece.counts for piece, _ in found]
        self.remainders += [piece.remainders for piece, _ in found]
        self.at = end
        if end == count:
            self.table = IdentityTable.of(version.bits, self.counts, self.remainders)
        return self


@dataclass(slots=True)
class _Build:
    """Build the table of a week from `usage_records`, up to `until`, store it, and use it. `through`: everything below
    this offset can be read there."""

    recall: Recall
    week: int
    until: int
    through: int
    version: Version | None = None
    at: int = 0
    counts: list[compact.UInt32s] = field(default_factory=list)
    remainders: list[compact.UInt16s] = field(default_factory=list)

    def step(self) -> Task | None:
        recall, span = self.recall, (self.week, self.until)
        if self.version is None:
            return self._begin(span)
        count = compact.piece_count(self.version.bits)
        if self.at < count:
            end = min(count, self.at + _pieces_per_step())
            hashes = distinct(recall._history.load_hashes(span, *compact.hash_range(self.version.bits, self.at, end)))
            pieces = compact.pieces_of(hashes, self.version.bits, self.at, end)
            recall._history.save_pieces(self.version, pieces)
            self.counts += [piece.counts for piece in pieces]
            self.remainders += [piece.remainders for piece in pieces]
            self.at = end
            return self
        table = IdentityTable.of(self.version.bits, self.counts, self.remainders)
        recall._remembered.install(self.version, table)
        recall._remembered.loaded(*span)
        return None

    def _begin(self, span: Span) -> Task | None:
        """A week without records needs no table, and one that is not over none for a few."""
        recall, now = self.recall, self.recall._now()
        assert now.last_stamp is not None
        count = recall._history.count_records(span)
        set_aside = recall._remembered.is_set_aside(self.week)
        over = end_of_week(self.week) <= now.last_stamp - now.slack
        if not set_aside and (count == 0 or (count < FEW and not over)):
            recall._remembered.add(*recall._history.load_identities(span, 0))
            recall._remembered.loaded(*span)
            return None
        self.version = Version(self.week, self.until, self.through, compact.bucket_bits(count))
        return self


def _pieces_per_step() -> int:
    return max(1, int(STEP_IDENTITIES / compact.SHAPE.load) >> compact.SHAPE.piece_bits)
