"""Performs the checker's operations on the real Kafka and ClickHouse."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Message

from meterfold_processor.checker import operations as ops
from meterfold_processor.checker.definitions import DefinitionRecord, DefinitionsRead
from meterfold_processor.checker.group import CheckerGroup
from meterfold_processor.checker.rows import read_message
from meterfold_processor.checker.stored import CheckerStore
from meterfold_processor.checker.traces import NO_TRACES, Traces
from meterfold_processor.checker.transactions import Transactions
from meterfold_processor.kafka.admin import Admin, kept_admin
from meterfold_processor.kafka.offsets import Place, bounds
from meterfold_processor.kafka.reader import BULK, TopicReader
from meterfold_schemas.errors import MeterfoldError, Poison, Retryable
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

__all__ = ["Driver"]

POLL_SECONDS = 0.1
_CALL_SECONDS = 6.0


class Driver:
    """For the worker's own thread. `perform` raises Retryable or Fatal; afterwards the whole step is void.

    `pump` is called while something takes long. `step_seconds` is the time from the arrival of rows to their commit,
    the last of `judged` times. `unavailable`: why stored windows cannot be read now.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        group_id: str,
        group: CheckerGroup,
        transactions: Transactions,
        stored: CheckerStore,
        pump: Callable[[], None],
    ) -> None:
        self._topics = Topics(settings.topic_prefix)
        self._group = group
        self._transactions = transactions
        self._stored = stored
        self._pump = pump
        self._settings = settings
        self._admin = self._new_admin()
        self._definitions = TopicReader(settings, f"{group_id}-definitions")
        self._states = TopicReader(settings, f"{group_id}-state", BULK)
        self._emitted = _Emitted(settings, group_id)
        self._metric = Place(self._topics.metric_defined, 0)
        self._threshold = Place(self._topics.threshold_defined, 0)
        self._arrived = 0.0
        self._has_rows = False
        self.judged = 0
        self.step_seconds = 0.0
        self.unavailable: Retryable | None = None

    def perform(self, operation: ops.Operation) -> Any:
        match operation:
            case ops.PollRows(wait=wait):
                return self._poll_rows(POLL_SECONDS if wait else 0.0)
            case ops.PollDefinitions():
                return self._read(self._definitions.poll())
            case ops.Begin():
                self._transactions.begin()
            case ops.Produce(messages=messages):
                self._transactions.produce(messages)
            case ops.ProduceRun(run=run):
                self._transactions.produce_run(run)
            case ops.FlushMessages():
                self._transactions.flush()
            case ops.SendOffsets(offsets=offsets):
                self._transactions.send_offsets(self._topics.usage_windows, offsets, self._group.metadata())
            case ops.CommitTransaction():
                self._transactions.commit()
                if self._has_rows:
                    self._has_rows = False
                    self.judged += 1
                    self.step_seconds = time.monotonic() - self._arrived
            case _:
                return self._perform_opening(operation)
        return None

    def close(self) -> None:
        self._definitions.close()
        self._states.close()
        self._emitted.close()

    def _perform_opening(self, operation: ops.Operation) -> Any:
        match operation:
            case ops.FetchCommitted(partitions=partitions):
                self._arrived = time.monotonic()
                self._emitted.stop()
                return self._committed(partitions)
            case ops.FetchEnds(partitions=partitions):
                return self._ends(partitions)
            case ops.ReadDefinitions(metric=metric, threshold=threshold):
                return self._read(
                    self._definitions.read({self._metric: metric, self._threshold: threshold}, self._pump)
                )
            case ops.ReadStates(partitions=partitions, ends=ends):
                return self._read_states(partitions, ends)
            case ops.ReadStamps(partitions=partitions, required=required):
                return self._stored.folded(partitions, required=required)
            case ops.LoadWindows():
                return self._windows(operation)
            case ops.ReadEmitted():
                return self._emitted.read(operation)
            case ops.StartReading(offsets=offsets):
                return self._group.start(offsets)
            case _:
                raise TypeError(f"unknown operation of the checker: {operation!r}")

    def _poll_rows(self, seconds: float) -> dict[int, ops.Batch]:
        messages = self._group.poll(seconds)
        self._arrived = time.monotonic()
        self._has_rows = bool(messages)
        by_partition: dict[int, list[Message]] = defaultdict(list)
        for message in messages:
            by_partition[message.partition() or 0].append(message)
        return {partition: _batch(arrived) for partition, arrived in by_partition.items()}

    def _windows(self, wanted: ops.LoadWindows) -> ops.Piece | None:
        try:
            piece = self._stored.windows(wanted)
        except Retryable as error:
            self.unavailable = error
            return None
        self.unavailable = None
        return piece

    def _committed(self, partitions: tuple[int, ...]) -> dict[int, ops.Committed]:
        offsets = self._group.committed(partitions)
        found = self._bounds([Place(self._topics.usage_windows, partition) for partition in partitions])
        return {place.partition: ops.Committed(offsets[place.partition], *edges) for place, edges in found.items()}

    def _ends(self, partitions: tuple[int, ...]) -> ops.Ends:
        states = {p: Place(self._topics.threshold_state, p) for p in partitions}
        aggregates = {p: Place(self._topics.usage_aggregated, p) for p in partitions}
        found = self._bounds([self._metric, self._threshold, *states.values(), *aggregates.values()])
        ends = {place: end for place, (_, end) in found.items()}
        return ops.Ends(
            ends[self._metric],
            ends[self._threshold],
            {p: ends[place] for p, place in states.items()},
            {p: ends[place] for p, place in aggregates.items()},
        )

    def _bounds(self, places: list[Place]) -> dict[Place, tuple[int, int]]:
        """As a read_uncommitted reader sees them: a read_committed end stops before an open transaction, whose state
        would be missed."""
        try:
            with kept_admin(self._settings, self._admin):
                return bounds(self._settings, places)
        except MeterfoldError:
            # After a broker's restart a client may ask with an old leader epoch for ever: the next one is fresh.
            self._admin = self._new_admin()
            raise

    def _new_admin(self) -> Admin:
        return Admin(self._settings, _CALL_SECONDS)

    def _read(self, found: dict[Place, list[Message]]) -> DefinitionsRead:
        records = [
            DefinitionRecord(
                "metric" if place == self._metric else "threshold",
                message.key() or b"",
                message.value(),
                message.offset() or 0,
            )
            for place, messages in found.items()
            for message in messages
        ]
        positions = self._definitions.positions
        return DefinitionsRead(tuple(records), positions.get(self._metric, 0), positions.get(self._threshold, 0))

    def _read_states(self, partitions: tuple[int, ...], ends: Mapping[int, int]) -> dict[int, tuple[bytes, ...]]:
        places = {p: Place(self._topics.threshold_state, p) for p in partitions}
        found = self._states.read({place: ends[p] for p, place in places.items()}, self._pump)
        self._states.stop()
        return {p: _newest(found[place]) for p, place in places.items()}


class _Emitted:
    """Reads back `usage.aggregated`, one partition after the other."""

    def __init__(self, settings: KafkaSettings, group_id: str) -> None:
        self._topic = Topics(settings.topic_prefix).usage_aggregated
        self._reader = TopicReader(settings, f"{group_id}-emitted", BULK)
        self._reading: tuple[int, int] | None = None
        self._batches: Iterator[list[Message]] = iter(())

    def read(self, wanted: ops.ReadEmitted) -> list[tuple[bytes, bytes | None]] | None:
        """Waits for no transaction that is open: nothing, then."""
        if self._reading != (wanted.partition, wanted.end):
            self._reading = wanted.partition, wanted.end
            place = Place(self._topic, wanted.partition)
            self._batches = self._reader.scan({place: OFFSET_BEGINNING}, {place: wanted.end}, pauses=True)
        found: list[tuple[bytes, bytes | None]] = []
        for batch in self._batches:
            found += [(message.key() or b"", message.value()) for message in batch]
            if len(found) >= wanted.messages or not batch:
                return found
        if found:
            return found
        self.stop()
        return None

    def stop(self) -> None:
        """Begin again with the next read."""
        self._reading, self._batches = None, iter(())
        self._reader.stop()

    def close(self) -> None:
        self._reader.close()


def _newest(messages: list[Message]) -> tuple[bytes, ...]:
    newest = {message.key(): message.value() for message in messages}
    return tuple(value for value in newest.values() if value is not None)


def _batch(messages: list[Message]) -> ops.Batch:
    tables, traced, damaged = [], [], 0
    for message in messages:
        try:
            rows, traces = read_message(message.value())
        except Poison:
            damaged += 1
        else:
            tables.append(rows)
            if traces is not None:
                traced.append(traces)
    first, last = messages[0].offset() or 0, messages[-1].offset() or 0
    return ops.Batch(tuple(tables), first, last + 1, damaged, Traces(traced) if traced else NO_TRACES)
