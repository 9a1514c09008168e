"""Deliberately broken folds: each breaks the one rule that a history taught, so that a test can see itself turn red."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import polars_hash as plh

from meterfold_processor.columns import avro_blocks
from meterfold_processor.fold import decode, json_values, partition, subjects, windows
from meterfold_processor.fold.duplicates import COUNTED_SCHEMA, IDENTITY, UNIQUE, counted_within
from meterfold_processor.fold.flush import Operation, flush
from meterfold_processor.fold.grouping import Events, WindowRows, roll_up, share
from meterfold_processor.fold.ledger import Ledger, RowNumbers
from meterfold_processor.fold.partition import Folded, PartitionFold, _Pending
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import Decided, Step, Wait
from meterfold_processor.fold.store import Progress
from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.periods import KEPT, Period
from meterfold_sink.schema_decisions import POISON, SchemaFacts
from simulation.fold.logs import PARTITION
from simulation.fold.world import Parts, Steps, Worker, World, make_fold, next_schema_step, open_partition, seek

Int64s = Any


class AlwaysRollsUp(Ledger):
    """01: what is new to the hour is added to day, month and lifetime, whatever those have folded already."""

    def _merge_carefully(self, period: Period, events: Events, touched: WindowRows, rows: RowNumbers) -> None:
        if period is Period.HOURLY:
            table = self._tables[period]
            new = np.flatnonzero(events.offset > table.through(np.repeat(rows, touched.count)))
            self._fresh = share(period, events.take(new)) if len(new) else None
        elif self._fresh is not None:
            finer = KEPT[KEPT.index(period) - 1]
            self._fresh = roll_up(period, self._fresh, finer)
        if self._fresh is not None:
            table = self._tables[period]
            table.merge(table.find(self._fresh.slot, self._fresh.ordinal), self._fresh)


class PublishesChangedOnly(Ledger):
    """02: windows that had folded every event of the batch before are not published again."""

    def _rows(self, period: Period, shares: WindowRows, sequence: int) -> RowNumbers:
        rows = super()._rows(period, shares, sequence)
        self._before = {**getattr(self, "_before", {}), period: self._tables[period].through(rows).copy()}
        return rows

    def _describe(self, rows: dict[Period, RowNumbers]) -> Any:
        changed = {p: self._tables[p].through(rows[p]) != self._before[p] for p in KEPT}
        return super()._describe({p: rows[p][changed[p]] for p in KEPT})


def duplicates_after_progress(batch: list[Folded]) -> Iterator[Operation]:
    """03: `usage_duplicates` last."""
    operations = list(flush(batch))
    yield from sorted(operations, key=lambda operation: operation.step == "duplicates")


def windows_before_records(batch: list[Folded]) -> Iterator[Operation]:
    """The order of records and windows turned round."""
    yield from sorted(flush(batch), key=lambda operation: operation.step != "windows")


def publish_before_insert(batch: list[Folded]) -> Iterator[Operation]:
    """`usage.windows` hears of rows that are not stored yet."""
    yield from sorted(flush(batch), key=lambda operation: operation.step != "publish_windows")


def progress_before_publish(batch: list[Folded]) -> Iterator[Operation]:
    """The progress row before step 6."""
    yield from sorted(flush(batch), key=lambda operation: operation.step.startswith("publish"))


def within_upper_bound(candidates: pl.DataFrame, counted: pl.DataFrame, lookback: int) -> Int64s:
    """04: a look-back that also ends at the event's own stamp."""
    pairs = candidates.with_row_index("candidate").join(
        counted.select(*IDENTITY, pl.col("offset").alias("at"), pl.col("stamp").alias("counted_stamp")), on=IDENTITY
    )
    pairs = pairs.filter(
        pl.col("at") < pl.col("offset"),
        pl.col("counted_stamp").is_between(pl.col("stamp") - lookback, pl.col("stamp")),
    )
    best = pairs.group_by("candidate").agg(pl.col("at").min())
    offsets = np.full(candidates.height, UNIQUE, dtype=np.int64)
    offsets[best["candidate"].to_numpy()] = best["at"].to_numpy()
    return offsets


class ShortRules(Rules):
    """05: a look-back of the horizon alone."""

    @property
    def lookback(self) -> int:
        return self.horizon


class NeverRefuses(PartitionFold):
    """06: goes on although the records it compares with have expired."""

    def _refuse_expired(self, stamps: Int64s) -> None:
        pass


class TrustsFilters(PartitionFold):
    """A hash that no filter holds was never counted, whatever days are loaded."""

    def _suspects(self, hashes: Any, stamps: Int64s) -> Any:
        return super()._suspects(hashes, np.full_like(stamps, 2**62))


class LoadsFromNow(TrustsFilters):
    """06: filters are loaded relative to the wall clock."""

    def _needed_from(self) -> int:
        return self._clock() - self._rules.lookback


class ForgetsUnacknowledged(PartitionFold):
    """07: look-ups go to ClickHouse alone, also for records that are still on their way."""

    def _keep_pending(self, counted: pl.DataFrame, sequence: int) -> None:
        super()._keep_pending(counted, sequence)
        self._pending.clear()


class EvictsByHighestStamp(TrustsFilters):
    """08: a filter goes as soon as the highest stamp leaves it behind, without slack and without a look-up."""

    _highest = 0

    def fold(self, batch: pl.DataFrame, values: list[bytes], sequence: int) -> Folded | None:
        self._highest = max(self._highest, int(batch["stamp"].to_numpy().max()))
        return super().fold(batch, values, sequence)

    def acknowledge(self, sequence: int) -> None:
        super().acknowledge(sequence)
        self._remembered.forget_before(self._highest - self._rules.lookback)


def stood_before(candidates: pl.DataFrame, lookback: int) -> Int64s:
    """09: inside a batch it suffices that the identity stood before, counted or not."""
    offsets = counted_within(candidates, 2**61)
    stamps, places = candidates["stamp"].to_list(), candidates.select(IDENTITY).rows()
    for row, offset in enumerate(offsets):
        near = [s for s, place in zip(stamps[:row], places[:row], strict=True) if place == places[row]]
        if offset != UNIQUE and not any(s >= stamps[row] - lookback for s in near):
            offsets[row] = UNIQUE
    return offsets


class RemembersRejected(PartitionFold):
    """13: an identity that stands at a smaller offset, even a rejected one, makes a duplicate."""

    def fold(self, batch: pl.DataFrame, values: list[bytes], sequence: int) -> Folded | None:
        known = set(self._known) if hasattr(self, "_known") else set()
        folded = super().fold(batch, values, sequence)
        if folded is not None:
            self._known = known | set(folded.rejected["offset"].to_pylist())
            refused = batch.filter(pl.col("offset").is_in(list(self._known)), pl.col("reason").is_null())
            refused = refused.with_columns(
                hash=plh.concat_str(pl.col("key").cast(pl.String, strict=False), pl.col("id")).nchash.xxhash64()
            ).filter(pl.col("hash").is_not_null())
            if refused.height:
                stamps = refused["stamp"].to_numpy()
                self._remembered.add(refused["hash"].to_numpy(), stamps)
                self._pending.append(_Pending(10**9, int(stamps.min()), refused.select(COUNTED_SCHEMA.keys())))
        return folded


class CountsSkippedWindows(Ledger):
    """01: whole shares are merged into rows that have a part of them."""

    def _merge_carefully(self, period: Period, events: Events, touched: WindowRows, rows: RowNumbers) -> None:
        self._tables[period].merge(rows, touched)


class NeverMisrouted(subjects.Subjects):
    """18: no key is compared with its partition."""

    def _rightly_placed(self, fresh: pl.DataFrame) -> pl.DataFrame:
        return fresh.filter(pl.col("key").is_not_null())


def reads_without_nonce(schema: EventSchema, header: bytes, values: list[bytes]) -> pl.DataFrame | None:
    """17: what stands between two messages is read and not looked at; equal headers are the only proof."""
    gap = bytes(16)
    try:
        frame = pl.read_avro(
            io.BytesIO(avro_blocks._container(schema, len(header), len(values), gap.join(values) + gap))
        )
    except (pl.exceptions.PanicException, pl.exceptions.ComputeError, OSError):
        return None
    if frame.height != len(values) or not frame.select((pl.col("_header") == pl.lit(header)).all()).item():
        return None
    nothing = pl.lit(None, dtype=pl.String)
    return frame.select(*decode.FIELDS, nothing.alias("reason"), nothing.alias("detail"))


def reads_json_lines(values: list[bytes]) -> pl.DataFrame:
    """17: the values read as JSON lines, without a proof that each holds one object."""
    lines = b"\n".join(values).replace(b"}{", b"}\n{").split(b"\n")
    return json_values._read(lines[: len(values)])


def open_identities_first(world: World, worker: Worker) -> Steps:
    """15: the state, and only then the progress row."""
    yield
    before = world.store.now.progress
    early = before or Progress(PARTITION, world.log_start, world.log_start, 0, 0, 0, None)
    fold = make_fold(world, worker, early, stored=before is not None)
    fold.remember(*world.store.identities(fold.load_from))
    for _ in range(8):  # as long as loading takes
        yield
    fold.progress = world.store.now.progress or early
    worker.fold = fold
    seek(world, worker)


def open_at_commit(world: World, worker: Worker) -> Steps:
    """11: the group's offset decides where to start, whatever the progress row says."""
    yield from open_partition(world, worker)
    assert worker.fold is not None
    committed = world.log_start if world.store.committed is None else world.store.committed
    worker.fold.progress = replace(worker.fold.progress, next_offset=committed)
    seek(world, worker)


def open_at_minimum(world: World, worker: Worker) -> Steps:
    """11: the smaller of both offsets, with the counters of the progress row."""
    yield from open_partition(world, worker)
    assert worker.fold is not None
    committed = world.log_start if world.store.committed is None else world.store.committed
    at = min(committed, worker.fold.progress.next_offset)
    worker.fold.progress = replace(worker.fold.progress, next_offset=at)
    seek(world, worker)


def own_clock_decides(worker: Worker, facts: SchemaFacts | None) -> Step:
    """39: what this worker knows, and for how long it has waited, decide; nothing is stored."""
    assert worker.held is not None
    known = worker.knows.get(worker.held.fingerprint)
    if known is not None or worker.held_for >= worker.world.hold_ticks:
        return Decided(known)
    return Wait("", None)


def version_decides(worker: Worker, facts: SchemaFacts | None) -> Step:
    """39: what a version knows wins over what is stored."""
    assert worker.held is not None
    known = worker.knows.get(worker.held.fingerprint)
    return next_schema_step(worker, facts) if known is None else Decided(known)


def own_decision_obeyed(worker: Worker, facts: SchemaFacts | None) -> Step:
    """39: a worker writes its decision although there is one, and obeys its own without reading back what won."""
    assert worker.held is not None
    fingerprint = worker.held.fingerprint
    known = worker.knows.get(fingerprint)
    if known is None and worker.held_for < worker.world.hold_ticks:
        return Wait("", None)
    value = POISON if known is None else known.label
    worker.world.store.write_fact(fingerprint, "decision", value, worker.world.ticks, 0)
    return Decided(known)


@dataclass(frozen=True)
class Variant:
    """`parts` go into a World; `rules` changes its rules; `patched` replaces names in the modules of the fold."""

    parts: Parts = field(default_factory=Parts)
    rules: Callable[[Rules], Rules] = lambda rules: rules
    patched: tuple[tuple[Any, str, Any], ...] = ()
    expiring: bool = False
    """Only seen where records expire."""
    foreign: bool | None = False
    """Whether the log has fingerprints of other libraries; None leaves it to chance."""
    seeds: range = range(60)
    """One of these random histories turns it red."""

    @contextmanager
    def active(self) -> Iterator[None]:
        patches = [patch.object(*target) for target in self.patched]
        for one in patches:
            one.start()
        try:
            yield
        finally:
            for one in patches:
                one.stop()


def _short(rules: Rules) -> Rules:
    return ShortRules(rules.horizon, rules.future_tolerance, rules.slack, rules.record_retention, rules.partition_count)


VARIANTS = {
    "01_rolls_up_what_is_partly_folded": Variant(patched=((partition, "Ledger", AlwaysRollsUp),)),
    "01_merges_whole_shares": Variant(patched=((partition, "Ledger", CountsSkippedWindows),)),
    "02_publishes_changed_only": Variant(patched=((partition, "Ledger", PublishesChangedOnly),)),
    "03_duplicates_after_progress": Variant(Parts(flush=duplicates_after_progress)),
    "03_windows_before_records": Variant(Parts(flush=windows_before_records)),
    "03_progress_before_publish": Variant(Parts(flush=progress_before_publish)),
    "03_publish_before_insert": Variant(Parts(flush=publish_before_insert)),
    "04_lookback_with_upper_bound": Variant(patched=((partition, "counted_before", within_upper_bound),)),
    "05_lookback_of_the_horizon": Variant(rules=_short),
    "06_never_refuses_expired": Variant(Parts(fold=NeverRefuses), expiring=True, seeds=range(40, 100)),
    "06_loads_from_now": Variant(Parts(fold=LoadsFromNow)),
    "07_forgets_unacknowledged": Variant(Parts(fold=ForgetsUnacknowledged)),
    "08_evicts_by_highest_stamp": Variant(Parts(fold=EvictsByHighestStamp), seeds=range(20, 80)),
    "09_stood_before": Variant(patched=((partition, "counted_within", stood_before),)),
    "11_commit_decides": Variant(Parts(open=open_at_commit)),
    "11_minimum_decides": Variant(Parts(open=open_at_minimum)),
    "13_remembers_rejected": Variant(Parts(fold=RemembersRejected)),
    "14_nothing_is_zero": Variant(patched=((windows, "NOTHING", 0),)),
    "15_state_before_progress": Variant(Parts(open=open_identities_first)),
    "17_no_nonce": Variant(patched=((decode, "read_block", reads_without_nonce),)),
    "17_json_lines": Variant(patched=((json_values, "read", reads_json_lines),)),
    "18_never_misrouted": Variant(patched=((partition, "Subjects", NeverMisrouted),)),
    "39_own_clock_decides_a_schema": Variant(Parts(next_step=own_clock_decides), foreign=True),
    "39_version_decides_a_schema": Variant(Parts(next_step=version_decides), foreign=True),
    "39_own_decision_of_a_schema_obeyed": Variant(Parts(next_step=own_decision_obeyed), foreign=True),
}
