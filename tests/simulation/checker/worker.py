"""One checker process on the model: the real core and the real step protocol, one operation at a time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.checker import Checker
from meterfold_processor.checker.definitions import DefinitionRecord, DefinitionsRead, is_affected
from meterfold_processor.checker.traces import Traces
from meterfold_processor.kafka.clients import Outgoing
from meterfold_schemas.errors import Retryable
from meterfold_schemas.events import ThresholdState
from meterfold_schemas.topics import Topics
from meterfold_schemas.traces import TraceContext, traceparent
from simulation.checker.model_kafka import Entry, Fenced, NotAMember, Producer
from simulation.checker.model_store import Name, Row, key_of

if TYPE_CHECKING:
    from simulation.checker.world import World

WAIT = object()
STEP_ERRORS = (Fenced, NotAMember, Retryable)


def trace_of(offset: int) -> TraceContext:
    """The trace of the event at an offset."""
    return TraceContext(traceparent(offset + 1, 1, 1))


def traced(table: pa.Table) -> pa.Table:
    """The traces of published windows, as checker.traces.traces_in answers them."""
    through = table.column("folded_through").to_pylist()
    parents = [trace_of(offset).parent for offset in through]
    return pa.table({"folded_through": through, "traceparent": parents, "tracestate": [None] * len(through)})


class UnknownOutcome(Retryable):
    """The answer to a commit was lost."""


class Variant:
    """What a deliberately broken checker does differently; this one does nothing wrong."""

    def make(self, world: World) -> Checker:
        return Checker(world.plan, world, sizes=world.sizes)

    def steps(self, steps: ops.Steps[None]) -> ops.Steps[None]:
        """The operations of an opening or a step, perhaps others or in another order."""
        return steps

    def perform(self, worker: Worker, operation: ops.Operation) -> Any:
        return worker.perform(operation)

    def restored(self, worker: Worker) -> None:
        """Called when a step has failed."""
        worker.checker.drop()


class Worker:
    def __init__(self, world: World, slot: int, process: int) -> None:
        self.world = world
        self.process = process
        self.topics = Topics("")
        self.slot = slot
        self.new_producer()
        self.checker = world.variant.make(world)
        self.member = ""
        self.assigned: set[int] = set()
        self.to_open: set[int] = set()
        self.positions: dict[int, int] = {}
        self.definitions_read = {"metric": 0, "threshold": 0}
        self.steps: ops.Steps[None] | None = None
        self.operation: ops.Operation | None = None
        self.waits = 0
        self.quiet_steps = 0
        self.failed_steps = 0
        self.faults: dict[str, str] = {}
        self.emitted_read: dict[int, int] = {}
        self.sweep: tuple[int, list[tuple[Name, Row]]] | None = None
        self.emits = False

    def new_producer(self) -> None:
        self.producer = Producer(self.world.kafka, f"slot-{self.slot}", self.world.incarnations())

    def join(self) -> None:
        self.member = uuid.uuid4().hex
        self.world.kafka.members[self.member] = set()

    @property
    def idle(self) -> bool:
        """Its last steps changed nothing."""
        return self.steps is None and self.quiet_steps >= 2 and not self.to_open

    def turn(self) -> None:
        """Whole steps: at least one, and on until none is under way."""
        self.advance()
        for _ in range(60):
            if self.steps is None:
                return
            self.advance()

    def advance(self) -> None:
        """One operation."""
        if self.steps is None:
            opening = bool(self.to_open)
            self.producer.by += opening  # what memory knows of intervals ends with it
            steps = self.checker.open(sorted(self.to_open)) if opening else self.checker.step()
            self.steps = self.world.variant.steps(steps)
            self.operation = next(self.steps)
            self.quiet = True
            return
        assert self.operation is not None
        self.check_order(self.operation)
        try:
            answer = self.world.variant.perform(self, self.operation)
        except STEP_ERRORS as error:
            self.fail(error)
            return
        if answer is WAIT:
            self.waits += 1
            if self.waits > 5:
                self.time_passes()
            return
        self.waits = 0
        try:
            self.operation = self.steps.send(answer)
        except StopIteration:
            self.steps = self.operation = None
            self.quiet_steps = self.quiet_steps + 1 if self.quiet else 0

    def check_order(self, operation: ops.Operation) -> None:
        """Of a step, judging comes first: nothing of usage.aggregated while stored windows are to be judged, and no
        threshold event after it."""
        from simulation.checker.verdict import require

        if isinstance(operation, ops.PollRows):
            self.emits = False
        elif isinstance(operation, ops.ProduceRun):
            self.emits = True
            require(not self.checker.sweeps["judge"], "aggregates before stored windows were judged")
        elif isinstance(operation, ops.Produce):
            late = self.emits and any(m.topic.startswith("threshold.") and m.value for m in operation.messages)
            require(not late, "threshold events after aggregates")
            self.check_traces(operation.messages)

    def check_traces(self, messages: tuple[Outgoing, ...]) -> None:
        """An event has the trace of the event that its state was judged with, or, judged from stored windows, none."""
        from simulation.checker.verdict import require

        judged = 0
        for message in messages:
            if message.topic == self.topics.threshold_state:
                judged = 0 if message.value is None else ThresholdState.from_bytes(message.value).folded_through
            elif (trace := TraceContext.read(message.headers)) is not None:
                require(trace.trace_id == trace_of(judged).trace_id, "the trace of another event")

    def fail(self, error: Exception) -> None:
        """As the real loop: abort, drop everything, open all again."""
        if self.steps is not None:
            self.steps.close()
        self.steps = self.operation = None
        self.quiet_steps = 0
        self.failed_steps += 1
        try:
            self.producer.abort()
        except Fenced:
            self.new_producer()
        self.world.variant.restored(self)
        self.to_open = set(self.assigned) - set(self.checker.ready)
        if isinstance(error, NotAMember):
            self.callbacks()

    def callbacks(self) -> None:
        """What the group has decided reaches the process: only in a poll, as with librdkafka."""
        members = self.world.kafka.members
        if self.member not in members:
            self.checker.drop(list(self.assigned))
            self.assigned = set()
            self.to_open = set()
            self.join()
            self.world.hand_out()
        for partition in [p for p in members[self.member] if p in self.world.moving]:
            target = self.world.moving.pop(partition)
            if target in members:
                # The broker gives a partition away only after its owner has heard of it.
                members[self.member].discard(partition)
                members[target].add(partition)
        lost, won = self.assigned - members[self.member], members[self.member] - self.assigned
        self.checker.drop(lost)
        self.assigned = set(members[self.member])
        self.to_open = (self.to_open - lost) | won

    def time_passes(self) -> None:
        """It has waited long: transactions that no one ends are timed out, markers arrive."""
        self.world.kafka.finish_decided()
        for name in list(self.world.kafka.current):
            if (name, self.world.kafka.epochs[name]) != (self.producer.name, self.producer.epoch):
                self.world.kafka.time_out(name)

    def perform(self, operation: ops.Operation) -> Any:
        kafka, store, topics = self.world.kafka, self.world.store, self.topics
        match operation:
            case ops.FetchCommitted(partitions=partitions):
                if any(kafka.pending_offsets(p) for p in partitions):
                    return WAIT
                self.emitted_read = {}
                logs = {p: kafka.log(topics.usage_windows, p) for p in partitions}
                return {p: ops.Committed(kafka.offsets.get(p), log.start, log.end) for p, log in logs.items()}
            case ops.FetchEnds(partitions=partitions):
                return ops.Ends(
                    kafka.log(topics.metric_defined).end,
                    kafka.log(topics.threshold_defined).end,
                    {p: kafka.log(topics.threshold_state, p).end for p in partitions},
                    {p: kafka.log(topics.usage_aggregated, p).end for p in partitions},
                )
            case ops.ReadDefinitions():
                return self.read_definitions(everything=True)
            case ops.ReadStates(partitions=partitions, ends=ends):
                if self.faults.pop("rebalance", None):
                    self.callbacks()
                return self.read_states(partitions, ends)
            case ops.ReadStamps(required=required):
                if store.down:
                    if required:
                        raise Retryable("ClickHouse is down")
                    return None
                return {p: ops.Folded(store.stamps[p], store.folded[p]) for p in store.stamps}
            case ops.LoadWindows():
                if store.down:
                    return None
                self.quiet = False
                return self.load_windows(operation)
            case ops.ReadEmitted(partition=partition, end=end, messages=messages):
                self.quiet = False
                return self.read_emitted(partition, end, messages)
            case ops.StartReading(offsets=offsets):
                self.positions.update(offsets)
                self.to_open -= set(offsets)
                self.quiet = False
            case ops.PollRows():
                self.callbacks()
                return self.poll_rows()
            case ops.PollDefinitions():
                return self.read_definitions(everything=False)
            case ops.Begin():
                self.quiet = False
                self.producer.begin()
            case ops.Produce(messages=messages):
                for message in messages:
                    partition = message.partition
                    if partition < 0:
                        assert message.key is not None
                        partition = kafka.partition_for(message.key)
                    self.producer.queue.append((message.topic, partition, message.key, message.value))
                self.producer.deliver(self.world.random.randint(0, len(messages)))
            case ops.ProduceRun(run=run):
                topic, partition = run.topic, run.partition
                self.producer.queue += [(topic, partition, *pair) for pair in zip(run.keys, run.values, strict=True)]
                self.producer.deliver(self.world.random.randint(0, len(run)))
            case ops.FlushMessages():
                self.producer.deliver()
            case ops.SendOffsets(offsets=sent):
                self.producer.send_offsets(sent, self.member)
            case ops.CommitTransaction():
                self.commit()
        return None

    def commit(self) -> None:
        fault = self.faults.pop("commit", None)
        if fault == "aborted":
            raise Retryable("the broker refused the commit")
        self.producer.commit()
        if fault == "lost answer":
            raise UnknownOutcome("no answer to the commit")
        if fault != "late marker":
            self.world.kafka.finish_decided()

    def read_states(self, partitions: Iterable[int], ends: Mapping[int, int]) -> Any:
        found = {}
        for partition in partitions:
            log = self.world.kafka.log(self.topics.threshold_state, partition)
            if log.stable_end() < ends[partition]:
                return WAIT
            # A real reader may see more by then; it must not need to.
            found[partition] = self.newest([e for e in log.committed()[0] if e.offset < ends[partition]])
        return found

    def read_emitted(self, partition: int, end: int, most: int) -> list[tuple[bytes, bytes | None]] | None:
        """A piece of at most so many; nothing where a transaction is open."""
        log = self.world.kafka.log(self.topics.usage_aggregated, partition)
        begin = self.emitted_read.get(partition, 0)
        entries, position = log.committed(begin)
        entries = [e for e in entries if e.offset < end][:most]
        if entries:
            self.emitted_read[partition] = entries[-1].offset + 1
            return [(e.key or b"", e.value) for e in entries]
        if position < end:
            self.time_passes()
            return []
        return None

    def load_windows(self, wanted: ops.LoadWindows) -> ops.Piece:
        """From one moment, as a query that stays open between the pieces of a sweep; or from now, as a fresh one."""
        kept = self.sweep if self.sweep is not None and self.sweep[0] == wanted.sweep else None
        if kept is None or self.world.random.random() < 0.2:
            stored = self.world.store.stored[wanted.partition]
            kept = self.sweep = (wanted.sweep, sorted(stored.items(), key=lambda item: key_of(item[0])))
        rows = [
            row
            for name, row in kept[1]
            if name.end > wanted.ends_after
            and name.period in wanted.periods
            and wanted.start in (None, name.start)
            and (wanted.affected is None or is_affected(wanted.affected, name.subject[0], name.subject[1]))
            and (wanted.after is None or key_of(name) > wanted.after)
        ]
        piece = rows[: wanted.rows]
        table = self.world.store.table(wanted.partition, piece) if piece else None
        # A query whose last row is the last of a piece does not know yet that it is.
        return ops.Piece(table, key_of(piece[-1].name) if len(piece) == wanted.rows else None)

    @staticmethod
    def newest(entries: list[Entry]) -> tuple[bytes, ...]:
        values = {e.key: e.value for e in entries}
        return tuple(value for value in values.values() if value is not None)

    def read_definitions(self, *, everything: bool) -> DefinitionsRead:
        records = []
        for kind, topic in (("metric", self.topics.metric_defined), ("threshold", self.topics.threshold_defined)):
            position = 0 if everything else self.definitions_read[kind]
            entries, end = self.world.kafka.log(topic).committed(position)
            if not everything and entries:
                kept = self.world.random.randint(0, len(entries)) if "lag" in self.faults else len(entries)
                end = end if kept == len(entries) else entries[kept].offset
                entries = entries[:kept]
            records += [DefinitionRecord(kind, e.key or b"", e.value, e.offset) for e in entries]  # type: ignore[arg-type]
            self.definitions_read[kind] = end
        if records:
            self.quiet = False
        return DefinitionsRead(tuple(records), self.definitions_read["metric"], self.definitions_read["threshold"])

    def poll_rows(self) -> dict[int, ops.Batch]:
        batches = {}
        for partition in self.checker.ready:
            log = self.world.kafka.log(self.topics.usage_windows, partition)
            if self.positions[partition] < log.start:
                raise Retryable("the offset is not in the log any more (auto.offset.reset=error)")
            entries, _ = log.committed(self.positions[partition])
            if not entries:
                continue
            if "lag" in self.faults:
                entries = entries[: self.world.random.randint(0, len(entries))]
            if entries:
                self.quiet = False
                if self.faults.pop("skip", None):
                    entries = entries[self.world.random.randrange(len(entries)) :]
                tables = tuple(self.world.store.table(partition, e.value) for e in entries)  # type: ignore[arg-type]
                self.positions[partition] = entries[-1].offset + 1
                traces = Traces([traced(table) for table in tables])
                batches[partition] = ops.Batch(tables, entries[0].offset, entries[-1].offset + 1, traces=traces)
        return batches
