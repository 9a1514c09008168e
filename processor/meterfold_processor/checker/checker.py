"""The threshold checker apart from all I/O: which operations, in which order, and what is judged between them.

    open(partitions)   after they were assigned: committed offsets, then the ends of definitions and state, read both up
                       to there, then judge every open stored window, then the stream. In this order, because
                         - offsets first: a transaction of the former owner that is in them is below the ends as well;
                         - definitions before judging: older ones would clear and exceed again;
                         - stored windows last: they are at least as new as any row whose offset is committed.
    step()             rows, definitions, due aggregates, and one transaction for all of it, always with the offsets

Whenever an operation raises, the outcome of the transaction is unknown and memory may be ahead of the log: call
`drop` and open everything again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import chain

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.clock import Clock
from meterfold_processor.checker.definitions import Affected, Definitions
from meterfold_processor.checker.operations import Steps
from meterfold_processor.checker.partition import CheckPlan, MessageGroup, PartitionChecker
from meterfold_processor.kafka.clients import Outgoing

__all__ = ["Checker"]

STAMPS_SECONDS = 2.0
"""How old the mark of a partition may be."""
OFFSETS_SECONDS = 1.0
"""Offsets of rows that changed nothing are committed this often."""
BUDGET = 1_000
"""Aggregates per step: a burst of them must not hold up the next judgement."""
LARGEST_TRANSACTION = 20_000
"""Messages; more are split, so that none outlives the transaction timeout."""


class Checker:
    """The state of all assigned partitions. Not for several threads at once."""

    def __init__(self, plan: CheckPlan, clock: Clock, *, budget: int = BUDGET) -> None:
        self.definitions = Definitions()
        self.consumed = 0
        self.damaged = 0
        self.emitted: Counter[str] = Counter()
        self.transactions = 0
        self._plan = plan
        self._clock = clock
        self._budget = budget
        self._opening: dict[int, PartitionChecker] = {}
        self._ready: dict[int, PartitionChecker] = {}
        self._exhausted = False
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
    def backlog(self) -> bool:
        """Whether the budget of the last step was used up: more is due at once."""
        return self._exhausted

    @property
    def waiting(self) -> int:
        """Windows with an aggregate that is yet to be emitted."""
        return sum(part.waiting for part in self._ready.values())

    @property
    def memory(self) -> int:
        return sum(part.memory for part in self._ready.values())

    def drop(self, partitions: Collection[int] | None = None) -> None:
        """Forget partitions that are not ours any more, or (None) all, after an operation that raised."""
        for partition in list(self._opening.keys() | self._ready.keys()) if partitions is None else partitions:
            self._opening.pop(partition, None)
            self._ready.pop(partition, None)

    def open(self, partitions: Collection[int]) -> Steps[None]:
        """Begin with partitions that were just assigned."""
        wanted = tuple(sorted(partitions))
        committed = yield ops.FetchCommitted(wanted)
        self._opening = {p: PartitionChecker(p, _start(committed[p]), self.definitions, self._plan) for p in wanted}
        ends: ops.Ends = yield ops.FetchEnds(wanted)
        read = yield ops.ReadDefinitions(ends.metric, ends.threshold)
        found = yield ops.ReadStates(wanted, ends)
        stamps = yield ops.ReadStamps(wanted, required=True)
        groups: dict[int, list[MessageGroup]] = {}
        yield from self._judge_affected(self.definitions.replace(read), groups)
        for partition in wanted:
            part = self._opening.get(partition)
            if part is not None:
                part.tell_time(self._clock.wall(), stamps[partition])
                part.restore(found[partition])
                yield from self._judge_stored(part, None, groups)
        offsets = {p: part.offset for p, part in chain(self._ready.items(), self._opening.items())}
        yield from self._transact(groups, offsets, offsets)
        starting = dict(self._opening)
        self._ready.update(starting)
        self._opening = {}
        yield ops.StartReading({p: part.offset for p, part in starting.items()})

    def step(self) -> Steps[None]:
        """Judge what has arrived and emit what is due."""
        batches = yield ops.PollRows()
        read = yield ops.PollDefinitions()
        groups: dict[int, list[MessageGroup]] = {}
        yield from self._judge_affected(self.definitions.apply(read), groups)
        before = {p: part.offset for p, part in self._ready.items()}
        for partition, batch in batches.items():
            part = self._ready.get(partition)
            if part is not None:
                yield from self._take_rows(part, batch, groups)
        if self._clock.monotonic() - self._stamps_at >= STAMPS_SECONDS:
            yield from self._tell_time()
        left = self._budget
        for partition, part in self._ready.items():
            due = list(part.due(self._clock.wall(), self._clock.monotonic(), left))
            left = max(0, left - len(due))
            groups.setdefault(partition, []).extend(due)
        self._exhausted = left == 0
        yield from self._transact(groups, before, {p: part.offset for p, part in self._ready.items()})

    def _judge_affected(self, affected: Affected, groups: dict[int, list[MessageGroup]]) -> Steps[None]:
        """Any change judges its open windows at once, from ClickHouse: a window is stored there before its row is
        published, so the stream cannot have been ahead of ClickHouse, and windows that no threshold watches yet need no
        memory."""
        if not affected:
            return
        for part in chain(self._ready.values(), self._opening.values()):
            part.definitions_changed(affected)
        for part in list(self._ready.values()):
            yield from self._judge_stored(part, affected, groups)

    def _judge_stored(
        self, part: PartitionChecker, affected: Affected | None, groups: dict[int, list[MessageGroup]]
    ) -> Steps[None]:
        tables = yield part.stored(affected)
        for table in tables:
            groups.setdefault(part.partition, []).extend(part.take_stored(table, self._clock.wall()))

    def _take_rows(
        self, part: PartitionChecker, batch: ops.Batch, groups: dict[int, list[MessageGroup]]
    ) -> Steps[None]:
        self.damaged += batch.damaged
        if batch.damaged or batch.first_offset > part.offset:
            # Damaged messages, or a gap before the first one. Their windows are stored as well: judge the stored ones.
            yield from self._judge_stored(part, None, groups)
        if batch.tables:
            self.consumed += sum(table.num_rows for table in batch.tables)
            groups.setdefault(part.partition, []).extend(part.take(batch.tables, self._clock.wall()))
        part.offset = batch.next_offset

    def _tell_time(self) -> Steps[None]:
        stamps = yield ops.ReadStamps(tuple(self._ready), required=False)
        self._stamps_at = self._clock.monotonic()
        if stamps is not None:
            for partition, part in self._ready.items():
                part.tell_time(self._clock.wall(), stamps[partition])

    def _transact(
        self, groups: dict[int, list[MessageGroup]], before: dict[int, int], after: dict[int, int]
    ) -> Steps[None]:
        """Transactions for the effects of partitions that are still ours; only the last one carries the new offsets."""
        ours = [group for partition, found in groups.items() if partition in after for group in found]
        chunks = list(_chunks(ours))
        late = self._clock.monotonic() - self._offsets_at >= OFFSETS_SECONDS
        if not chunks and not (late and after and after != self._committed):
            return
        for chunk in chunks[:-1]:
            yield from _transaction(chunk, before)
            self._count(chunk)
        last = chunks[-1] if chunks else []
        yield from _transaction(last, after)
        self._count(last)
        self._committed = after
        self._offsets_at = self._clock.monotonic()

    def _count(self, messages: list[Outgoing]) -> None:
        self.transactions += 1
        self.emitted.update(message.topic for message in messages)


def _start(committed: ops.Committed) -> int:
    """Where to read from: the log's beginning where nothing is committed, or what is lies outside of the log; the
    stored windows that are judged first cover the gap."""
    if committed.offset is not None and committed.log_start <= committed.offset <= committed.log_end:
        return committed.offset
    return committed.log_start


def _transaction(messages: list[Outgoing], offsets: dict[int, int]) -> Steps[None]:
    yield ops.Begin()
    if messages:
        yield ops.Produce(tuple(messages))
    yield ops.FlushMessages()
    yield ops.SendOffsets(offsets)
    yield ops.CommitTransaction()


def _chunks(groups: Iterable[MessageGroup]) -> Iterable[list[Outgoing]]:
    chunk: list[Outgoing] = []
    for group in groups:
        if chunk and len(chunk) + len(group) > LARGEST_TRANSACTION:
            yield chunk
            chunk = []
        chunk.extend(group)
    if chunk:
        yield chunk
