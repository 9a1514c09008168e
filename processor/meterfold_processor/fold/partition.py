"""The fold of one partition: its memory, and what one batch does to it.

Everything here is a function of the log and of what was stored before: no wall clock decides, nothing is random, no
definition is looked up. So a batch that is folded again, after a crash and with other batches around it, leaves the
same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from meterfold_processor.columns.distinct import distinct
from meterfold_processor.columns.limbs import from_arrow
from meterfold_processor.fold import tables
from meterfold_processor.fold.batch import judge
from meterfold_processor.fold.dismissal import dismiss
from meterfold_processor.fold.duplicates import (
    COUNTED_SCHEMA,
    IDENTITY,
    UNIQUE,
    counted_before,
    counted_within,
    identity_hash,
)
from meterfold_processor.fold.grouping import Events
from meterfold_processor.fold.ledger import Ledger
from meterfold_processor.fold.recall import Now, Recall
from meterfold_processor.fold.remembered import EVERYTHING, FOREVER, Candidates, Remembered, Span
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.store import History, Progress
from meterfold_processor.fold.subjects import Subjects
from meterfold_schemas.errors import Fatal
from meterfold_schemas.periods import from_micros, span_text

UInt64s = npt.NDArray[np.uint64]
Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Folded:
    """What one batch of one partition leaves behind; `sequence` numbers the batches of one worker. `traces` has one row
    for each of the windows, or is None where no event of the batch had a trace."""

    partition: int
    sequence: int
    records: pa.Table
    duplicates: pa.Table
    rejected: pa.Table
    originals: list[tables.Original]
    windows: pa.Table
    progress: Progress
    traces: pa.Table | None = None

    @property
    def published(self) -> pa.Table:
        """The touched windows as `usage.windows` has them."""
        if self.traces is None:
            return self.windows
        columns = [*self.windows.columns, *self.traces.columns]
        return pa.Table.from_arrays(columns, names=[*self.windows.column_names, *self.traces.column_names])


@dataclass(frozen=True, slots=True)
class _Pending:
    """Counted records that ClickHouse has not acknowledged yet: they take part in every look-up."""

    sequence: int
    oldest_stamp: int
    counted: pl.DataFrame


@dataclass(frozen=True, slots=True)
class _InFlight:
    """A batch that is not acknowledged: what is next after it, and the stamp of its last event."""

    sequence: int
    next_offset: int
    stamp: int


class PartitionFold:
    """One partition from its progress row on. Not for several threads at once.

    `clock` gives the wall clock in UTC microseconds. It never decides about an event; it only shows when a decision
    would rest on records that have expired, and then the worker stops.
    """

    def __init__(
        self,
        progress: Progress,
        history: History,
        rules: Rules,
        clock: Callable[[], int],
        check_partition_count: Callable[[], None],
        *,
        stored: bool,
    ) -> None:
        """`stored` tells whether anything of this partition may be in ClickHouse; a partition whose first progress row
        was just written has nothing there."""
        self.progress = progress
        self.flushed_to = progress.next_offset
        self.flushed_stamp = progress.last_stamp
        self.flushed_time: int | None = None
        self._unflushed: deque[tuple[Progress, int | None]] = deque()
        self._history = history
        self._rules = rules
        self._clock = clock
        self._check_partition_count = check_partition_count
        self._subjects = Subjects(progress.partition, rules.partition_count)
        self._ledger = Ledger(progress.partition, self._subjects, history, complete=not stored)
        self._pending: list[_Pending] = []
        self._in_flight: deque[_InFlight] = deque()
        self._acknowledged: _InFlight | None = None
        self._acknowledged_to = progress.next_offset
        self._remembered = Remembered()
        if stored and (first := self._needed_from()) != EVERYTHING:
            self._remembered = Remembered(first, [(first, FOREVER)])
        self.recall = Recall(self._remembered, history, self._now)
        """Brings the identities that were counted earlier into memory: `recall.step` is called between batches."""

    def fold(self, batch: pl.DataFrame, values: list[bytes], sequence: int) -> Folded | None:
        """Decide and fold decoded messages (decode.Decoded.frame of this partition alone; `values` are the originals).

        Returns None when every message was folded before. Raises Fatal when counting on would be a guess.
        """
        batch = batch.filter(pl.col("offset") >= self.progress.next_offset)
        if batch.is_empty():
            return None
        judged = judge(batch, self._subjects, self._rules, self._check_partition_count)
        accepted = judged.accepted.with_columns(hash=identity_hash())
        counted_at = self._counted_at(accepted)
        unique = pl.Series(counted_at == UNIQUE)
        counted = accepted.filter(unique)
        repeated = accepted.with_columns(counted_offset=pl.Series(counted_at)).filter(~unique)
        touched = self._ledger.enter(
            Events(
                slot=judged.subject[unique.to_numpy()],
                time=counted["time"].to_numpy(),
                offset=counted["offset"].to_numpy(),
                quantity=from_arrow(counted["quantity"].to_arrow()),
            ),
            judged.subjects,
            first_offset=int(batch["offset"][0]),
        )
        self._keep_pending(counted, sequence)
        self.progress = Progress(
            partition=self.progress.partition,
            next_offset=int(batch["offset"][-1]) + 1,
            log_start=self.progress.log_start,
            counted=self.progress.counted + counted.height,
            duplicates=self.progress.duplicates + repeated.height,
            rejected=self.progress.rejected + judged.rejected.height,
            last_stamp=int(batch["stamp"][-1]),
        )
        newest = counted["time"].max()
        self._unflushed.append((self.progress, None if newest is None else int(newest)))  # type: ignore[arg-type]
        self._in_flight.append(_InFlight(sequence, self.progress.next_offset, int(batch["stamp"][-1])))
        return Folded(
            partition=self.progress.partition,
            sequence=sequence,
            records=tables.records(counted),
            duplicates=tables.duplicates(repeated),
            rejected=tables.rejected(judged.rejected, values),
            originals=tables.originals(judged.rejected, values),
            windows=touched,
            progress=self.progress,
        )

    def flushed(self, next_offset: int) -> None:
        """Everything before this offset can be read in ClickHouse; `flushed_stamp` is the arrival of its last event,
        `flushed_time` the newest timestamp of an event that became readable now, None without one."""
        self.flushed_to, self.flushed_time = next_offset, None
        while self._unflushed and self._unflushed[0][0].next_offset <= next_offset:
            progress, newest = self._unflushed.popleft()
            self.flushed_stamp = progress.last_stamp
            if newest is not None:
                self.flushed_time = max(newest, self.flushed_time or newest)

    def acknowledge(self, sequence: int, max_windows: int) -> None:
        """Everything up to this batch is in ClickHouse: it may be forgotten, since it can be read back. The windows
        used longest ago are forgotten where there are more than `max_windows`."""
        self._pending = [pending for pending in self._pending if pending.sequence > sequence]
        newly = False
        while self._in_flight and self._in_flight[0].sequence <= sequence:
            self._acknowledged, newly = self._in_flight.popleft(), True
            self._acknowledged_to = self._acknowledged.next_offset
        last = self.progress.last_stamp
        if last is None:
            return
        floor = min([last, *(pending.oldest_stamp for pending in self._pending)])
        self._remembered.forget_before(floor - self._rules.lookback - self._rules.slack)
        if self._acknowledged is not None and (newly or len(self._ledger) > max_windows):
            self._ledger.evict(self._acknowledged.next_offset, self._acknowledged.stamp, max_windows)

    def sizes(self) -> dict[str, int]:
        """What is in memory: subjects, windows, remembered identities, pending records."""
        return {
            "subjects": len(self._subjects),
            "windows": len(self._ledger),
            "identities": len(self._remembered),
            "identity_bytes": self._remembered.nbytes,
            "partitions_loading": int(self.recall.is_loading),
            "pending": sum(pending.counted.height for pending in self._pending),
        }

    def _now(self) -> Now:
        oldest = min((pending.oldest_stamp for pending in self._pending), default=None)
        return Now(self.progress.last_stamp, self._acknowledged_to, oldest, self._rules.slack)

    def _needed_from(self) -> int:
        """Filters begin the look-back and a slack before the last stamp, unless the records of then have expired."""
        last = self.progress.last_stamp
        if last is None:
            return EVERYTHING
        return max(last - self._rules.lookback - self._rules.slack, self._clock() - self._rules.record_retention)

    def _counted_at(self, events: pl.DataFrame) -> Int64s:
        """For each event the offset at which its identity was counted before, or UNIQUE."""
        offsets = np.full(events.height, UNIQUE, dtype=np.int64)
        if events.is_empty():
            return offsets
        stamps = events["stamp"].to_numpy()
        self._refuse_expired(stamps)
        order = np.argsort(events["hash"].to_numpy())
        hashes = events["hash"].to_numpy()[order]
        claims = self._claims(hashes, stamps[order] - self._rules.lookback)
        suspect = np.zeros(events.height, dtype=np.bool_)
        for claim in claims:
            suspect |= claim.rows
        wanted = hashes[suspect]
        repeated = hashes[1:] == hashes[:-1]
        suspect[1:] |= repeated
        suspect[:-1] |= repeated
        suspects = np.sort(order[suspect])
        if not len(suspects):
            return offsets
        candidates = events.select(*IDENTITY, "offset", "stamp", "hash")[suspects]
        stored = self._find_counted(wanted, [claim.span for claim in claims])
        before = counted_before(candidates, stored, self._rules.lookback)
        new = before == UNIQUE
        before[new] = counted_within(candidates.filter(pl.Series(new)), self._rules.lookback)
        offsets[suspects] = before
        return offsets

    def _claims(self, sorted_hashes: UInt64s, since: Int64s) -> list[Candidates]:
        """Which of the hashes may have been counted, and when."""
        return dismiss(self._remembered.candidates(sorted_hashes, since), sorted_hashes, self._history)

    def _find_counted(self, hashes: UInt64s, spans: list[Span]) -> pl.DataFrame:
        """What was counted with these hashes, as far as it arrived in the spans."""
        if not len(hashes):
            return pl.DataFrame(schema=COUNTED_SCHEMA)
        wanted = distinct(hashes)
        given = pl.Series(wanted)
        pending = [p.counted.filter(pl.col("hash").is_in(given.implode())) for p in self._pending]
        stored = self._history.find_records(wanted, spans).select(COUNTED_SCHEMA.keys())
        return pl.concat([stored.cast(COUNTED_SCHEMA), *pending])  # type: ignore[arg-type]

    def _refuse_expired(self, stamps: Int64s) -> None:
        oldest = int(stamps.min())
        if oldest - self._rules.lookback < self._clock() - self._rules.record_retention:
            raise Fatal(
                f"partition {self.progress.partition}: the next event arrived at {from_micros(oldest).isoformat()}, "
                f"and usage_records keeps {span_text(self._rules.record_retention)}: the records that could show it as "
                "a duplicate have expired, and it could be counted twice. Raise the record retention and restore the "
                "records, or skip these events on purpose"
            )

    def _keep_pending(self, counted: pl.DataFrame, sequence: int) -> None:
        if counted.is_empty():
            return
        stamps = counted["stamp"].to_numpy()
        self._remembered.add(counted["hash"].to_numpy(), stamps)
        self._pending.append(_Pending(sequence, int(stamps.min()), counted.select(COUNTED_SCHEMA.keys())))
