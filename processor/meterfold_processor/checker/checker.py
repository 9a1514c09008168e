"""The threshold checker apart from all I/O: which operations, in which order, and what is judged between them.

    open(partitions)   after they were assigned: committed offsets, then the ends of definitions and state, read both up
                       to there, then how far the fold is, then the stream. In this order, because
                         - offsets first: a transaction of the former owner that is in them is below the ends as well;
                         - definitions before judging: older ones would clear and exceed again;
                         - the fold's progress last: rows of the stream below it are stored, and judged from there.
    step()             1. rows and definitions that have arrived: judged, and committed with the offsets;
                       2. a piece of the stored windows that are to be judged (sweeps.py): judged and committed;
                       3. only when nothing of both is left: aggregates, in a transaction of their own

The stored windows of a partition are judged in pieces while its stream is judged already. Whenever an operation raises,
the outcome of the transaction is unknown and memory may be ahead of the log: call `drop` and open everything again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain

import pyarrow as pa

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.clock import Clock
from meterfold_processor.checker.definitions import Affected, Definitions
from meterfold_processor.checker.operations import Steps
from meterfold_processor.checker.pace import Pace, Rate, Sizes
from meterfold_processor.checker.partition import CheckPlan, MessageGroup, PartitionChecker
from meterfold_processor.checker.sweeps import Purpose
from meterfold_processor.checker.waiting import Room
from meterfold_processor.kafka.clients import Outgoing, OutgoingRun

__all__ = ["Checker"]

STAMPS_SECONDS = 2.0
"""How old the mark of a partition may be."""
OFFSETS_SECONDS = 1.0
"""Offsets of rows that changed nothing are committed this often."""
BEHIND_ROWS = 50_000
"""A step that judged more rows than this has more to judge: no aggregates."""
AGAIN_SECONDS = 1.0
"""The pause after ClickHouse did not answer."""
PIECE_SECONDS = 0.25
EVENTS_SECONDS = 0.1
"""How long stored windows and aggregates may hold up rows that arrive."""


class Checker:
    """The state of all assigned partitions. Not for several threads at once."""

    def __init__(self, plan: CheckPlan, clock: Clock, *, sizes: Sizes | None = None) -> None:
        self.definitions = Definitions()
        self.consumed = 0
        self.damaged = 0
        self.emitted: Counter[str] = Counter()
        self.transactions = 0
        self._plan = plan
        self._clock = clock
        self._sizes = sizes or Sizes()
        self._room = Room(self._sizes.waiting)
        self._pieces = Pace(self._sizes.smallest, self._sizes.pieces, PIECE_SECONDS)
        self._events = Pace(self._sizes.smallest, self._sizes.events, EVENTS_SECONDS)
        self._rate = Rate(plan.per_second, clock.monotonic())
        self._opening: dict[int, PartitionChecker] = {}
        self._ready: dict[int, PartitionChecker] = {}
        self._busy = False
        self._unavailable_until = 0.0
        self._stamps_at = clock.monotonic()
        self._offsets_at = clock.monotonic()
        self._committed: dict[int, int] = {}

    @property
    def ready(self) -> list[int]:
        """Partitions that are being judged."""
        return sorted(self._ready)

    @property
    def positions(self) -> dict[int, int]:
        """The next offset to read of each partition that is being judged."""
        return {partition: part.offset for partition, part in self._ready.items()}

    @property
    def waiting(self) -> int:
        """Windows in memory with an aggregate that is yet to be emitted."""
        return sum(part.waiting for part in self._ready.values())

    @property
    def sweeps(self) -> dict[str, int]:
        """How many ranges of stored windows are yet to be read, by purpose."""
        counted = Counter({purpose.name.lower(): 0 for purpose in Purpose})
        for part in self._ready.values():
            counted.update(part.sweeps.counted())
        return dict(counted)

    @property
    def windows(self) -> int:
        """Windows in memory."""
        return sum(part.windows for part in self._ready.values())

    @property
    def memory(self) -> int:
        return sum(part.memory for part in self._ready.values())

    def drop(self, partitions: Collection[int] | None = None) -> None:
        """Forget partitions that are not ours any more, or (None) all, after an operation that raised."""
        for partition in list(self._opening.keys() | self._ready.keys()) if partitions is None else partitions:
            for parts in (self._opening, self._ready):
                part = parts.pop(partition, None)
                if part is not None:
                    part.close()

    def open(self, partitions: Collection[int]) -> Steps[None]:
        """Begin with partitions that were just assigned."""
        wanted = tuple(sorted(partitions))
        committed = yield ops.FetchCommitted(wanted)
        self._opening = {
            p: PartitionChecker(p, _start(committed[p]), self.definitions, self._plan, self._room) for p in wanted
        }
        ends: ops.Ends = yield ops.FetchEnds(wanted)
        read = yield ops.ReadDefinitions(ends.metric, ends.threshold)
        self._judge_again(self.definitions.replace(read))
        found = yield ops.ReadStates(wanted, ends.states)
        folded = yield ops.ReadStamps(wanted, required=True)
        for partition, part in self._opening.items():
            part.tell_time(self._clock.wall(), folded[partition].stamp)
            part.restore(found[partition])
            part.start(folded[partition].offset, ends.aggregates[partition])
        offsets = {p: part.offset for p, part in chain(self._ready.items(), self._opening.items())}
        yield from self._transact({}, offsets, offsets)
        starting = dict(self._opening)
        self._ready.update(starting)
        self._opening = {}
        self._busy = True
        yield ops.StartReading({p: part.offset for p, part in starting.items()})

    def step(self) -> Steps[None]:
        """Judge what has arrived, then stored windows; emit what is due."""
        batches: dict[int, ops.Batch] = yield ops.PollRows(wait=not self._busy)
        read = yield ops.PollDefinitions()
        self._judge_again(self.definitions.apply(read))
        groups: dict[int, list[MessageGroup]] = {}
        before = {p: part.offset for p, part in self._ready.items()}
        for partition, batch in batches.items():
            part = self._ready.get(partition)
            if part is not None:
                groups[partition] = list(self._take_rows(part, batch))
        tombstones: dict[int, list[MessageGroup]] = {}
        if self._clock.monotonic() - self._stamps_at >= STAMPS_SECONDS:
            yield from self._tell_time()
            tombstones = {partition: list(part.time_passed()) for partition, part in self._ready.items()}
        yield from self._transact(groups, before, self._offsets())
        yield from self._judge_stored()
        self._busy = self._next(Purpose.JUDGE) is not None
        judged = not any(part.sweeps.next(Purpose.JUDGE) for part in self._ready.values())
        if judged and sum(_rows(batch) for batch in batches.values()) <= BEHIND_ROWS:
            yield from self._emit(tombstones)
        else:
            yield from self._transact(tombstones, self._offsets(), self._offsets())

    def _judge_again(self, affected: Affected) -> None:
        """Any change judges its open windows at once, from ClickHouse: a window is stored there before its row is
        published, so the stream cannot have been ahead of ClickHouse, and windows that no threshold watches yet need no
        memory."""
        if affected:
            for part in chain(self._ready.values(), self._opening.values()):
                part.definitions_changed(affected)

    def _take_rows(self, part: PartitionChecker, batch: ops.Batch) -> Iterator[MessageGroup]:
        self.damaged += batch.damaged
        if batch.damaged or batch.first_offset > part.offset:
            # Damaged messages, or a gap before the first one. Their windows are stored as well: judge the stored ones.
            part.judge_all()
        if batch.tables:
            self.consumed += _rows(batch)
            yield from part.take(batch.tables, self._clock.wall(), batch.traces)
        part.offset = batch.next_offset

    def _judge_stored(self) -> Steps[None]:
        """One piece of stored windows, if any are to be judged."""
        part = self._next(Purpose.JUDGE)
        if part is None:
            return
        begun = self._clock.monotonic()
        table = yield from self._piece(part, Purpose.JUDGE)
        found = [] if table is None else list(part.take_stored(table, self._clock.wall()))
        yield from self._transact({part.partition: found}, self._offsets(), self._offsets())
        self._pieces.took(self._clock.monotonic() - begun)

    def _emit(self, groups: dict[int, list[MessageGroup]]) -> Steps[None]:
        """Aggregates that are due, and tombstones."""
        begun = self._clock.monotonic()
        yield from self._feed(groups)
        now = self._clock.monotonic()
        most = min(self._events.rows, self._rate.allowed(now))
        runs: dict[int, OutgoingRun] = {}
        for partition, part in self._ready.items():
            due = part.due(now, most) if most > 0 else None
            if due is not None:
                runs[partition] = part.run(due, self._clock.wall())
                most -= len(due)
        count = sum(map(len, runs.values()))
        self._rate.used(count)
        yield from self._transact(groups, self._offsets(), self._offsets(), runs)
        if count == self._events.rows:
            self._events.took(self._clock.monotonic() - begun)
        self._busy |= any(part.is_ready for part in self._ready.values()) and self._rate.allowed(now) > 0

    def _feed(self, groups: dict[int, list[MessageGroup]]) -> Steps[None]:
        """Read a piece of what was emitted, or of the stored windows that may have something to say."""
        for partition, part in self._ready.items():
            if not part.is_restored:
                self._busy = True
                messages = yield ops.ReadEmitted(partition, part.emitted_until, self._sizes.emitted)
                if messages is None:
                    groups.setdefault(partition, []).extend(part.restored())
                else:
                    part.restore_emitted(messages)
                return
        # What is read must find room, or it would have to be read again.
        has_room = 2 * self._room.free >= min(self._pieces.rows, self._sizes.waiting)
        purposes = [Purpose.EMIT, Purpose.FORGET] if has_room else [Purpose.FORGET]
        found = self._next(*purposes)
        if found is not None:
            self._busy = True
            sweep = found.sweeps.next(*purposes)
            assert sweep is not None
            table = yield from self._piece(found, *purposes)
            if table is not None and sweep.purpose is Purpose.EMIT:
                found.emit_stored(table)
            elif table is not None and sweep.pane is not None:
                groups.setdefault(found.partition, []).extend(found.forget_stored(sweep.pane, table))

    def _piece(self, part: PartitionChecker, *purposes: Purpose) -> Steps[pa.Table | None]:
        """The next piece of the most urgent sweep of a partition; the sweep is done after its last one."""
        sweep = part.sweeps.next(*purposes)
        assert sweep is not None
        rows = self._pieces.rows if sweep.purpose is not Purpose.EMIT else min(self._pieces.rows, self._room.free)
        wanted = part.wanted(sweep, rows)
        piece: ops.Piece | None = (yield wanted) if wanted.periods else ops.Piece(None, None)
        if piece is None:
            self._unavailable_until = self._clock.monotonic() + AGAIN_SECONDS
            return None
        sweep.after = piece.last
        if piece.last is None:
            part.swept(sweep)
        return piece.table

    def _next(self, *purposes: Purpose) -> PartitionChecker | None:
        """A partition with a sweep for these purposes, if stored windows can be read."""
        if self._clock.monotonic() < self._unavailable_until:
            return None
        return next((part for part in self._ready.values() if part.sweeps.next(*purposes) is not None), None)

    def _tell_time(self) -> Steps[None]:
        folded = yield ops.ReadStamps(tuple(self._ready), required=False)
        self._stamps_at = self._clock.monotonic()
        if folded is not None:
            for partition, part in self._ready.items():
                part.tell_time(self._clock.wall(), folded[partition].stamp)

    def _offsets(self) -> dict[int, int]:
        return {p: part.offset for p, part in self._ready.items()}

    def _transact(
        self,
        groups: dict[int, list[MessageGroup]],
        before: dict[int, int],
        after: dict[int, int],
        runs: dict[int, OutgoingRun] | None = None,
    ) -> Steps[None]:
        """Transactions for the effects of partitions that are still ours; only the last one carries the new offsets."""
        ours = [group for partition, found in groups.items() if partition in after for group in found]
        chunks = list(_chunks(ours, self._sizes.transaction))
        kept = [run for partition, run in (runs or {}).items() if partition in after]
        late = self._clock.monotonic() - self._offsets_at >= OFFSETS_SECONDS
        if not chunks and not kept and not (late and after and after != self._committed):
            return
        for chunk in chunks[:-1]:
            yield from _transaction(chunk, (), before)
            self._count(chunk, ())
        last = chunks[-1] if chunks else []
        yield from _transaction(last, kept, after)
        self._count(last, kept)
        self._committed = after
        self._offsets_at = self._clock.monotonic()

    def _count(self, messages: list[Outgoing], runs: Sequence[OutgoingRun]) -> None:
        self.transactions += 1
        self.emitted.update(message.topic for message in messages)
        for run in runs:
            self.emitted[run.topic] += len(run)


def _start(committed: ops.Committed) -> int:
    """Where to read from: the log's beginning where nothing is committed, or what is lies outside of the log; the
    stored windows that are judged cover the gap."""
    if committed.offset is not None and committed.log_start <= committed.offset <= committed.log_end:
        return committed.offset
    return committed.log_start


def _rows(batch: ops.Batch) -> int:
    return sum(table.num_rows for table in batch.tables)


def _transaction(messages: list[Outgoing], runs: Sequence[OutgoingRun], offsets: dict[int, int]) -> Steps[None]:
    yield ops.Begin()
    if messages:
        yield ops.Produce(tuple(messages))
    for run in runs:
        yield ops.ProduceRun(run)
    yield ops.FlushMessages()
    yield ops.SendOffsets(offsets)
    yield ops.CommitTransaction()


def _chunks(groups: Iterable[MessageGroup], largest: int) -> Iterator[list[Outgoing]]:
    chunk: list[Outgoing] = []
    for group in groups:
        if chunk and len(chunk) + len(group) > largest:
            yield chunk
            chunk = []
        chunk.extend(group)
    if chunk:
        yield chunk
