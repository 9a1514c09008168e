"""Deliberately broken folds: each breaks the one rule that a history taught, so that a test can see itself turn red."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import polars_hash as plh
import pyarrow as pa

from meterfold_processor.columns import avro_blocks
from meterfold_processor.fold import compact, decode, json_values, ledger, partition, recall, subjects, windows
from meterfold_processor.fold.duplicates import COUNTED_SCHEMA, IDENTITY, UNIQUE, counted_within
from meterfold_processor.fold.flush import Operation, flush
from meterfold_processor.fold.grouping import Events, WindowRows, roll_up, share
from meterfold_processor.fold.ledger import Ledger
from meterfold_processor.fold.partition import Folded, PartitionFold, _Pending
from meterfold_processor.fold.period_windows import Evictable, PeriodWindows
from meterfold_processor.fold.remembered import EVERYTHING, Remembered
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import Decided, Step, Wait
from meterfold_processor.fold.store import FIRST_NAME, Progress
from meterfold_processor.fold.subjects import Placed
from meterfold_processor.fold.windows import merged
from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.errors import Retryable
from meterfold_schemas.periods import DAY, KEPT, Period
from meterfold_sink.schema_decisions import POISON, SchemaFacts
from simulation.fold.logs import PARTITION
from simulation.fold.world import Parts, Steps, Worker, World, make_fold, next_schema_step, open_partition, seek

Int64s = Any


class AlwaysRollsUp(Ledger):
    """01: what is new to the hour is added to day, month and lifetime, whatever those have folded already."""

    def _merged_carefully(self, period: Period, events: Events, touched: WindowRows, state: WindowRows) -> WindowRows:
        if period is Period.HOURLY:
            new = np.flatnonzero(events.offset > np.repeat(state.through, touched.count))
            self._fresh = share(period, events.take(new)) if len(new) else None
        elif self._fresh is not None:
            self._fresh = roll_up(period, self._fresh, KEPT[KEPT.index(period) - 1])
        if self._fresh is None:
            return state
        places = {place: row for row, place in enumerate(zip(touched.slot, touched.ordinal, strict=True))}
        rows = np.array([places[place] for place in zip(self._fresh.slot, self._fresh.ordinal, strict=True)])
        return state.replaced(rows, merged(state.take(rows), self._fresh))


class PublishesChangedOnly(Ledger):
    """02: windows that had folded every event of the batch before are not published again."""

    def enter(self, events: Events, placed: Placed, first_offset: int) -> Any:
        self._changed: list[Any] = []
        touched = super().enter(events, placed, first_offset)
        return touched.filter(pa.array(np.concatenate(self._changed))) if self._changed else touched

    def _merged_carefully(self, period: Period, events: Events, touched: WindowRows, state: WindowRows) -> WindowRows:
        after = super()._merged_carefully(period, events, touched, state)
        self._changed.append(after.through != state.through)
        return after


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

    def _claims(self, sorted_hashes: Any, since: Int64s) -> Any:
        with patch.object(self._remembered, "loaded_from", EVERYTHING):
            return super()._claims(sorted_hashes, since)


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

    def acknowledge(self, sequence: int, max_windows: int) -> None:
        super().acknowledge(sequence, max_windows)
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

    def _merged_carefully(self, period: Period, events: Events, touched: WindowRows, state: WindowRows) -> WindowRows:
        return merged(state, touched)


class EvictsUnacknowledged(PeriodWindows):
    """40: a window leaves memory while its row is still on its way to ClickHouse."""

    def evict(self, what: Evictable) -> None:
        super().evict(replace(what, acknowledged=2**62))


class OpensEvictedAsNew(PeriodWindows):
    """40: a window that is not in memory was never there."""

    def _fetch(self, touched: WindowRows, missing: Int64s, placed: Placed, room: int) -> None:
        if len(self.table) == 0 and not self._buckets:
            super()._fetch(touched, missing, placed, room)


class ForgetsWhatWasEvicted(PeriodWindows):
    """40: a bucket of which everything was in memory once is never looked up again."""

    def evict(self, what: Evictable) -> None:
        known = dict(self._buckets)
        super().evict(what)
        self._buckets = known


class KnowsTooMuch(PeriodWindows):
    """40: a bucket is taken for loaded when its first part is."""

    def _load_share(self, bucket: int, partial: Any, room: int) -> None:
        super()._load_share(bucket, partial, room)
        if partial.known_below != FIRST_NAME:
            self._buckets[bucket] = None


class NeverMisrouted(subjects.Subjects):
    """18: no key is compared with its partition."""

    def _belong_here(self, keys: pl.Series) -> Any:
        return np.ones(len(keys), dtype=np.bool_)


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


class TrustsHits(PartitionFold):
    """40: what a table claims is a duplicate; nothing is looked up."""

    def _counted_at(self, events: pl.DataFrame) -> Int64s:
        offsets = super()._counted_at(events)
        hashes = events["hash"].to_numpy()
        order = np.argsort(hashes)
        for _, table in self._remembered.tables.values():
            claimed = order[table.contains(hashes[order])]
            offsets[claimed] = np.where(offsets[claimed] == UNIQUE, self.progress.log_start, offsets[claimed])
        return offsets


class AsksTheWrongWeek(PartitionFold):
    """40: what a table claims is looked up in the week after it."""

    def _claims(self, sorted_hashes: Any, since: Int64s) -> Any:
        claims = super()._claims(sorted_hashes, since)
        return [
            claim if claim.version is None else replace(claim, span=(claim.span[1], claim.span[1] + 7 * DAY))
            for claim in claims
        ]


class ServesWithWhatIsLoaded(PartitionFold):
    """40: nothing is looked up for what is not in memory yet."""

    def _claims(self, sorted_hashes: Any, since: Int64s) -> Any:
        with patch.object(self._remembered, "missing", []):
            return super()._claims(sorted_hashes, since)


class BuildsBeforeTheFlush(PartitionFold):
    """40: a table is built while records of its days are still on their way."""

    def _now(self) -> recall.Now:
        return replace(super()._now(), acknowledged=self.progress.next_offset, oldest_pending=None)


class LoadsNothingLate(recall._Load):
    """40: what was counted in a table's time after it was built is not asked for."""

    def _late(self) -> Any:
        return np.empty(0, np.uint64), np.empty(0, np.int64)


class BuildsEmptyTables(compact.IdentityTable):
    """40: a table that has no hit for what it holds."""

    def contains(self, sorted_hashes: Any) -> Any:
        return np.zeros(len(sorted_hashes), dtype=np.bool_)


def replaces_at_once(self: Remembered, week: int, until: int) -> None:
    """40: the exact identities of a day are gone before its table is there."""
    set_aside(self, week, until)
    self._replaced[week].clear()


def open_identities_first(world: World, worker: Worker) -> Steps:
    """15: the state, and only then the progress row."""
    yield
    before = world.store.now.progress
    early = before or Progress(PARTITION, world.log_start, world.log_start, 0, 0, 0, None)
    fold = make_fold(world, worker, early, stored=before is not None)
    for _ in range(30):  # as long as loading takes
        with suppress(Retryable):
            if not fold.recall.step():
                break
    for _ in range(8):
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
    aging: bool | None = False
    """Whether the log is one of some weeks, with many retries; None leaves it to chance."""
    seeds: range = range(60)
    """One of these random histories turns it red, an early one to save time; none where only a history by hand does."""

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


set_aside = Remembered.set_aside

VARIANTS = {
    "01_rolls_up_what_is_partly_folded": Variant(patched=((partition, "Ledger", AlwaysRollsUp),), seeds=range(11, 71)),
    "01_merges_whole_shares": Variant(patched=((partition, "Ledger", CountsSkippedWindows),)),
    "02_publishes_changed_only": Variant(patched=((partition, "Ledger", PublishesChangedOnly),), seeds=range(14, 74)),
    "03_duplicates_after_progress": Variant(Parts(flush=duplicates_after_progress)),
    "03_windows_before_records": Variant(Parts(flush=windows_before_records)),
    "03_progress_before_publish": Variant(Parts(flush=progress_before_publish)),
    "03_publish_before_insert": Variant(Parts(flush=publish_before_insert)),
    "04_lookback_with_upper_bound": Variant(
        patched=((partition, "counted_before", within_upper_bound),), seeds=range(28, 88)
    ),
    "05_lookback_of_the_horizon": Variant(rules=_short),
    "06_never_refuses_expired": Variant(Parts(fold=NeverRefuses), expiring=True, seeds=range(51, 111)),
    "06_loads_from_now": Variant(Parts(fold=LoadsFromNow)),
    "07_forgets_unacknowledged": Variant(Parts(fold=ForgetsUnacknowledged)),
    "08_evicts_by_highest_stamp": Variant(Parts(fold=EvictsByHighestStamp), aging=True, seeds=range(69, 129)),
    "09_stood_before": Variant(patched=((partition, "counted_within", stood_before),), seeds=range(8, 68)),
    "11_commit_decides": Variant(Parts(open=open_at_commit)),
    "11_minimum_decides": Variant(Parts(open=open_at_minimum)),
    "13_remembers_rejected": Variant(Parts(fold=RemembersRejected)),
    "14_nothing_is_zero": Variant(patched=((windows, "NOTHING", 0),)),
    "15_state_before_progress": Variant(Parts(open=open_identities_first)),
    "40_evicts_unacknowledged": Variant(
        patched=((ledger, "PeriodWindows", EvictsUnacknowledged),), seeds=range(25, 85)
    ),
    "40_opens_evicted_as_new": Variant(patched=((ledger, "PeriodWindows", OpensEvictedAsNew),), seeds=range(17, 77)),
    "40_forgets_what_was_evicted": Variant(
        patched=((ledger, "PeriodWindows", ForgetsWhatWasEvicted),), seeds=range(17, 77)
    ),
    "40_knows_too_much": Variant(patched=((ledger, "PeriodWindows", KnowsTooMuch),)),
    "17_no_nonce": Variant(patched=((decode, "read_block", reads_without_nonce),), seeds=range(24, 84)),
    "17_json_lines": Variant(patched=((json_values, "read", reads_json_lines),)),
    "18_never_misrouted": Variant(patched=((partition, "Subjects", NeverMisrouted),), seeds=range(45, 105)),
    "41_trusts_a_hit": Variant(Parts(fold=TrustsHits), aging=True),
    "41_asks_the_wrong_week": Variant(Parts(fold=AsksTheWrongWeek), aging=True),
    "41_serves_with_what_is_loaded": Variant(Parts(fold=ServesWithWhatIsLoaded), aging=True),
    "41_builds_before_the_flush": Variant(Parts(fold=BuildsBeforeTheFlush), aging=True, seeds=range(45, 105)),
    "41_loads_nothing_late": Variant(patched=((recall, "_Load", LoadsNothingLate),), seeds=range(0)),
    "41_empty_tables": Variant(patched=((recall, "IdentityTable", BuildsEmptyTables),), aging=True),
    "41_trusts_damaged_tables": Variant(
        patched=((compact.Piece, "is_sound", lambda *_: True),), aging=True, seeds=range(360, 385)
    ),
    "41_replaces_at_once": Variant(patched=((Remembered, "set_aside", replaces_at_once),), aging=True),
    "39_own_clock_decides_a_schema": Variant(Parts(next_step=own_clock_decides), foreign=True),
    "39_version_decides_a_schema": Variant(Parts(next_step=version_decides), foreign=True, seeds=range(51, 111)),
    "39_own_decision_of_a_schema_obeyed": Variant(Parts(next_step=own_decision_obeyed), foreign=True),
}
