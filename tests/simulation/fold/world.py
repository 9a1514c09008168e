"""Several workers of one partition, interleaved by a seeded scheduler that does them every kind of harm.

The real decode, PartitionFold and flush run against the model store. A worker yields before every effect; between two
of its steps, and inside its look-ups, any other worker may take steps of its own, so a worker that lost its partition
and does not know it yet is one that simply goes on.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from meterfold_processor.fold.compact import Piece, Version
from meterfold_processor.fold.decode import Hold, decode
from meterfold_processor.fold.flush import Operation, flush, progress_rows
from meterfold_processor.fold.messages import columns
from meterfold_processor.fold.partition import Folded, PartitionFold
from meterfold_processor.fold.period_windows import Loading
from meterfold_processor.fold.remembered import Span
from meterfold_processor.fold.rules import Rules
from meterfold_processor.fold.schemas import Decided, Schemas, Step, Write, decided, next_step
from meterfold_processor.fold.store import Progress, Rests
from meterfold_schemas import catalog
from meterfold_schemas.catalog import EventSchema
from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.keys import Name
from meterfold_schemas.periods import Period
from meterfold_sink.schema_decisions import POISON, SchemaFacts
from simulation.fold import verdict
from simulation.fold.logs import ALIAS, FOREIGN, PARTITION, REGISTERED, RULES, Log
from simulation.fold.model_store import ModelStore, Tables
from simulation.fold.oracle import Outcome, fold

Steps = Iterator[None]

SETTLE = 6
"""Ticks after which a decision about a schema takes effect; it is seen within fewer."""


@dataclass(frozen=True)
class Parts:
    """What a worker is made of; a broken variant replaces one of them."""

    fold: type[PartitionFold] = PartitionFold
    flush: Callable[[list[Folded]], Iterator[Operation]] = flush
    open: Callable[[World, Worker], Iterator[None]] | None = None
    next_step: Callable[[Worker, SchemaFacts | None], Step] | None = None
    settle: int = SETTLE


@dataclass
class Worker:
    """One worker process; `fold` is there once the partition is loaded."""

    world: World
    fold: PartitionFold | None = None
    position: int = 0
    sequence: int = 0
    in_flight: deque[tuple[int, Iterator[Operation]]] = field(default_factory=deque)
    busy: bool = False
    knows: dict[bytes, EventSchema] = field(default_factory=dict)
    schemas: Schemas = field(default_factory=Schemas)
    held: Hold | None = None
    held_for: int = 0
    steps: Steps = field(init=False)

    def __post_init__(self) -> None:
        self.steps = self._run()

    def find_records(self, hashes: npt.NDArray[np.uint64], spans: list[Span]) -> pl.DataFrame:
        self.world.disturb()
        return self.world.store.find_records(hashes, spans)

    def count_records(self, span: Span) -> int:
        self.world.disturb()
        return self.world.store.count_records(span)

    def load_hashes(self, span: Span, lowest: int, highest: int) -> npt.NDArray[np.uint64]:
        self.world.disturb()
        return self.world.store.load_hashes(span, lowest, highest)

    def load_identities(self, span: Span, from_offset: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        self.world.disturb()
        return self.world.store.load_identities(span, from_offset)

    def table_versions(self) -> list[Version]:
        self.world.disturb()
        return self.world.store.table_versions()

    def load_pieces(self, version: Version, first: int, end: int) -> list[tuple[Piece, int]]:
        self.world.disturb()
        return self.world.store.load_pieces(version, first, end)

    def load_rests(self, wanted: list[tuple[Version, int]]) -> list[Rests]:
        self.world.disturb()
        return self.world.store.load_rests(wanted)

    def save_pieces(self, version: Version, pieces: list[Piece]) -> None:
        if not self.world.calm and self.world.memory_rng.random() < 0.2:
            some = [piece for piece in pieces if self.world.memory_rng.random() < 0.5]
            self.world.store.save_pieces(version, some)
            raise Retryable("ClickHouse is away in the middle of an insert")
        self.world.disturb()
        self.world.store.save_pieces(version, pieces)

    def load_windows(self, period: Period, starts: npt.NDArray[np.int64]) -> pl.DataFrame:
        self.world.disturb()
        return self.world.store.load_windows(period, starts)

    def count_windows(self, period: Period, starts: list[int]) -> dict[int, int]:
        self.world.disturb()
        return self.world.store.count_windows(period, starts)

    def find_windows(self, period: Period, wanted: pl.DataFrame, low: Name) -> pl.DataFrame:
        self.world.disturb()
        return self.world.store.find_windows(period, wanted, low)

    def names_apart(self, period: Period, start: int, size: int) -> list[Name]:
        self.world.disturb()
        return self.world.store.names_apart(period, start, size)

    def load_part(self, period: Period, start: int, low: Name, high: Name | None) -> Iterator[pl.DataFrame]:
        for found in self.world.store.load_part(period, start, low, high).iter_slices(1):
            self.world.disturb()
            yield found

    def step(self) -> bool:
        """Go on to the next effect; False when there is nothing left to do."""
        self.busy = True
        self.world.ticks += 1
        try:
            return next(self.steps, self) is None
        finally:
            self.busy = False

    def _run(self) -> Steps:
        facts = self.world.store.schema_facts(self.world.ticks)
        self.schemas = decided(facts, self.world.parts.settle, confluent=self.world.foreign)
        yield from (self.world.parts.open or open_partition)(self.world, self)
        rng = self.world.rng
        while True:
            if self.world.memory_rng.random() < self.world.recall_chance and self._recall():
                yield
            may_fold = len(self.in_flight) < 2 and self.position < self.world.available and self.held is None
            if may_fold and (not self.in_flight or rng.random() < 0.4):
                yield from self._fold_next()
            elif self.in_flight:
                yield from self._flush_step()
            elif self.held is not None:
                yield from self._look(self.held)
            elif self.world.calm:
                return
            else:
                yield

    def _recall(self) -> bool:
        """One step of loading, or of building a table; whether there was one."""
        assert self.fold is not None
        try:
            return self.fold.recall.step()
        except Retryable:
            return True

    def _fold_next(self) -> Steps:
        assert self.fold is not None
        size = self.world.batch_size()
        messages = self.world.log.messages[self.position : min(self.position + size, self.world.available)]
        self.position += len(messages)
        consumed = columns(messages)
        decoded = decode(consumed, self.schemas)
        for hold in decoded.holds:
            self.held, self.held_for = hold, 0
            self.position = next(n for n, m in enumerate(self.world.log.messages) if m.at_offset == hold.offset)
        self.sequence += 1
        if decoded.frame.is_empty():
            yield
            return
        while True:
            try:
                folded = self.fold.fold(decoded.frame, consumed.values, self.sequence)
                break
            except Retryable:
                yield
        if folded is not None:
            self.in_flight.append((self.sequence, self.world.parts.flush([folded])))
        yield

    def _look(self, hold: Hold) -> Steps:
        """What schemas.look does, with others between reading and writing."""
        world = self.world
        self.held_for += 1
        stored = world.store.schema_facts(world.ticks)
        step = (world.parts.next_step or next_schema_step)(self, stored.get(hold.fingerprint))
        if isinstance(step, Write):
            yield
            delay = 0 if world.calm else world.schema_rng.randrange(SETTLE)
            world.store.write_fact(hold.fingerprint, step.fact, step.value, world.ticks, delay)
        elif isinstance(step, Decided):
            self.obey(hold.fingerprint, step)
            self.held = None
        yield

    def obey(self, fingerprint: bytes, step: Decided) -> None:
        """Judge by a decision from now on."""
        read, poison = dict(self.schemas.read), set(self.schemas.poison)
        if step.schema is None:
            poison.add(fingerprint)
        else:
            read[fingerprint] = step.schema
        self.schemas = replace(self.schemas, read=read, poison=frozenset(poison))

    def _flush_step(self) -> Steps:
        """One operation of the oldest flush: in part and again, twice, or once."""
        assert self.fold is not None
        sequence, operations = self.in_flight[0]
        operation = next(operations, None)
        if operation is None:
            self.in_flight.popleft()
            self.fold.acknowledge(sequence, self.world.max_windows)
            return
        while self.world.effect_fails(operation):
            yield
        self.world.apply(operation)
        yield


def next_schema_step(worker: Worker, facts: SchemaFacts | None) -> Step:
    """The rule itself, with ticks for seconds."""
    assert worker.held is not None
    known = worker.knows.get(worker.held.fingerprint)
    if worker.held.fingerprint == REGISTERED and worker.world.schema_rng.random() < 0.5:
        known = None  # the registry does not answer
    return next_step(facts, known, worker.world.hold_ticks, "here", worker.world.parts.settle)


def open_partition(world: World, worker: Worker) -> Steps:
    """The progress row first; what was counted before is loaded step by step while the worker folds."""
    yield
    progress = world.store.now.progress
    stored = progress is not None
    if progress is None:
        progress = Progress(PARTITION, world.log_start, world.log_start, 0, 0, 0, None)
        yield
        world.apply(progress_rows([progress]))
    yield
    worker.fold = make_fold(world, worker, progress, stored=stored)
    seek(world, worker)


def make_fold(world: World, worker: Worker, progress: Progress, *, stored: bool) -> PartitionFold:
    fold = world.parts.fold(
        progress, worker, world.rules, lambda: world.clock, world.check_partition_count, stored=stored
    )
    for windows in fold._ledger._windows.values():
        windows._loading = world.loading
    return fold


def seek(world: World, worker: Worker, offset: int | None = None) -> None:
    """Read on at the fold's next offset: the first message that stands there or behind a gap."""
    assert worker.fold is not None
    at = worker.fold.progress.next_offset if offset is None else offset
    worker.position = sum(message.at_offset < at for message in world.log.messages)


class World:
    """One history. `run` raises AssertionError when a promise is broken; Fatal is an answer only where it may be."""

    def __init__(
        self,
        log: Log,
        rng: random.Random,
        parts: Parts | None = None,
        rules: Rules = RULES,
        *,
        gentle: bool = False,
        schema_rng: random.Random | None = None,
        memory_rng: random.Random | None = None,
    ) -> None:
        """`gentle`: no fault but those that the test asks for. `schema_rng`: the chance in what is done about foreign
        fingerprints, where the log has some. `memory_rng`: that in when identities are loaded, and in what becomes of
        their stored tables."""
        self.log = log
        self.rng = rng
        self.parts = parts or Parts()
        self.rules = rules
        self.gentle = gentle
        self.store = ModelStore()
        self.workers: list[Worker] = []
        self.log_start = log.messages[0].at_offset if log.messages else 0
        self.available = len(log.messages)
        self.calm = gentle
        self.expiring = False
        self.check_partition_count: Callable[[], None] = lambda: None
        self._snapshot: Tables | None = None
        self._depth = 0
        self.ticks = 0
        self.schema_rng = schema_rng or random.Random(0)
        self.foreign = schema_rng is not None
        self.memory_rng = memory_rng or random.Random(0)
        self.recall_chance = self.memory_rng.choice([0.02, 0.3, 0.6, 0.95])
        """How often a worker does a step of loading between two others."""
        self.hold_ticks = self.schema_rng.choice([2, 4, 12, 40])
        self.max_windows = 10**6 if gentle else rng.choice([1, 6, 10**6])
        # Chance of its own, so that every other history stays what it was.
        own = random.Random(b"".join(message.raw_value or b"" for message in log.messages))
        whole = 10**6 if gentle else own.choice([0, 0, 2, 10**6])
        self.loading = Loading(whole=whole, evidence=own.choice([0, 1, 3]), shares=own.choice([1, 3]), part=1)
        self.batch_sizes = rng.choice([[1], [1, 2], [1, 2, 3, 5], [4, 8], [50]])

    @property
    def clock(self) -> int:
        """The broker's: it has stamped all that is in the log by now."""
        return max((message.stamp for message in self.log.messages[: self.available]), default=0)

    @property
    def outcome(self) -> Outcome:
        return fold(self.log.events, self.rules.horizon, self.rules.future_tolerance, self.poison)

    @property
    def poison(self) -> frozenset[bytes]:
        """The fingerprints of which the first decision ever written says so."""
        stored = self.store.schema_facts(self.ticks + SETTLE)
        return frozenset(fingerprint for fingerprint, facts in stored.items() if facts.decision == POISON)

    def start(self) -> Worker:
        worker = Worker(self)
        if self.foreign and self.schema_rng.random() < 0.5:  # of a newer version
            worker.knows[ALIAS] = catalog.latest("usage_recorded")
        if self.foreign and self.schema_rng.random() < 0.5:  # has the setting of the registry
            worker.knows[REGISTERED] = catalog.latest("usage_recorded")
        self.workers.append(worker)
        return worker

    def batch_size(self) -> int:
        return self.rng.choice(self.batch_sizes)

    def apply(self, operation: Operation, keep: npt.NDArray[np.bool_] | None = None) -> None:
        before = self.store.now.progress
        self.store.apply(operation, keep)
        if self.store.now.progress is not before:
            verdict.check_progress(self.store, self.log)
        if operation.step == "windows":
            verdict.check_windows(self.store)

    def effect_fails(self, operation: Operation) -> bool:
        """Whether the worker must do it again: nothing, a part or all of it got through."""
        if self.calm or self.rng.random() > 0.25:
            return False
        size = self.store.size_of(operation)
        keep = np.array([self.rng.random() < self.rng.choice([0.0, 0.5, 1.0]) for _ in range(size)], dtype=np.bool_)
        self.apply(operation, keep)
        return True

    def disturb(self) -> None:
        """Inside a look-up: others go on meanwhile, and it may fail."""
        if self.calm or self._depth > 1:
            return
        if self.rng.random() < 0.3:
            self._depth += 1
            try:
                for _ in range(self.rng.randrange(12)):
                    self._step_one()
            finally:
                self._depth -= 1
        if self.rng.random() < 0.15:
            raise Retryable("ClickHouse is away")

    def run(self, steps: int) -> None:
        """So many steps of anything, then one last worker in peace, then the comparison."""
        self.available = self.rng.randrange(3 if self.expiring else len(self.log.messages) + 1)
        try:
            for _ in range(steps):
                self._harm()
                self._step_one()
            self.finish()
        except Fatal:
            if not self.expiring:
                raise
            verdict.check_so_far(self.store, self.outcome)

    def finish(self) -> None:
        """Whoever lives is gone; one worker reads to the end without a fault."""
        self.calm = True
        while self.expiring and self.available < len(self.log.messages):
            self._run_one_more()
            self.available += 1
            self.store.expire_before(self.clock - self.rules.record_retention)
        self.available = len(self.log.messages)
        self._run_one_more()
        verdict.check_end(self.store, self.log, self.outcome)

    def _append(self, size: int) -> None:
        progress = self.store.now.progress
        behind = sum(m.at_offset >= (progress.next_offset if progress else 0) for m in self.log.messages)
        if self.expiring and len(self.log.messages) - behind + 2 < self.available:
            return  # who lags too far behind can only stop
        self.available = min(len(self.log.messages), self.available + size)

    def restore(self, snapshot: Tables) -> None:
        """An older ClickHouse, brought back while no worker runs."""
        self.workers.clear()
        pieces = self.store.now.pieces
        self.store.now = snapshot.copy()
        if self.memory_rng.random() < 0.3:  # only the other tables are of that time
            self.store.now.pieces = pieces

    def _run_one_more(self) -> None:
        last = self.start()
        while last.step():
            pass

    def _step_one(self) -> None:
        idle = [worker for worker in self.workers if not worker.busy]
        if idle:
            self.rng.choice(idle[-2:] if self.rng.random() < 0.8 else idle).step()

    def _operator(self) -> None:
        """`meterfold schema` by somebody who looks now and then."""
        fingerprint = self.schema_rng.choice(FOREIGN)
        value = self.schema_rng.choice([POISON, "usage_recorded.v1"])
        facts = self.store.schema_facts(self.ticks).get(fingerprint)
        if facts is None or facts.decision is None:
            self.store.write_fact(fingerprint, "decision", value, self.ticks, self.schema_rng.randrange(SETTLE))

    def _harm(self) -> None:
        if self.foreign and self.schema_rng.random() < 0.2:
            self._operator()
        if self.memory_rng.random() < 0.05:
            self.store.damage_pieces(self.memory_rng)
        chance = self.rng.random()
        if not self.workers or (chance < 0.04 and len(self.workers) < 3):
            self.start()
        elif chance < 0.08:
            self.workers.remove(self.rng.choice(self.workers))  # kill -9
        elif chance < 0.12:
            self._append(self.rng.choice([1, 3, 10]))
        elif chance < 0.135:
            self._snapshot = self.store.now.copy()
        elif chance < 0.15 and self._snapshot is not None:
            self.restore(self._snapshot)
        elif chance < 0.3 and self.expiring:
            self.store.expire_before(self.clock - self.rules.record_retention)
