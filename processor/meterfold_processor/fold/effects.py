"""Performs the operations of a flush on the real ClickHouse and Kafka."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, get_args

import pyarrow as pa
from confluent_kafka import Producer

from meterfold_processor.durations import Durations
from meterfold_processor.fold.flush import CommitOffsets, InsertRows, Operation, PublishRejected, PublishWindows, Step
from meterfold_processor.fold.tables import Original
from meterfold_processor.kafka import clients
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

DELIVERY_SECONDS = 20.0
_LARGEST_MESSAGE = 2_200_000

Drive = Callable[[Iterator[Operation], Callable[[Operation], None]], None]
"""How the operations of one flush are performed: all of them, in order. Tests pass one that stops between two."""


class TableWriter(Protocol):
    """What a flush needs of meterfold_sink.writers.Writer."""

    def insert(self, table: str, rows: pa.Table) -> None: ...


def drive_all(operations: Iterator[Operation], perform: Callable[[Operation], None]) -> None:
    """Perform every operation, in order."""
    for operation in operations:
        perform(operation)


class Effects:
    """Performs single operations; each may raise Retryable and may then be performed again, even when done in part.

    `seconds` has the time that each step took when it was performed last, `durations` that of all.
    """

    def __init__(self, writer: TableWriter, settings: KafkaSettings, commit: Callable[[dict[int, int]], None]) -> None:
        self._writer = writer
        self._settings = settings
        self._topics = Topics(settings.topic_prefix)
        self._commit = commit
        self._producer: Producer | None = None
        self.seconds: dict[str, float] = {}
        self.durations: dict[str, Durations] = {step: Durations() for step in get_args(Step)}

    def perform(self, operation: Operation) -> None:
        begun = time.monotonic()
        match operation:
            case InsertRows(table=table, rows=rows):
                self._writer.insert(table, rows)
            case PublishWindows(messages=messages):
                topic = self._topics.usage_windows
                self._publish([clients.Outgoing(topic, value, partition=partition) for partition, value in messages])
            case PublishRejected(originals=originals):
                self._publish([self._rejected(original) for original in originals])
            case CommitOffsets(offsets=offsets):
                self._commit(offsets)
        took = self.seconds[operation.step] = time.monotonic() - begun
        self.durations[operation.step].observe(took)

    def _publish(self, messages: list[clients.Outgoing]) -> None:
        if self._producer is None:
            self._producer = clients.producer(
                self._settings,
                **{
                    "message.max.bytes": _LARGEST_MESSAGE,
                    "delivery.timeout.ms": int(DELIVERY_SECONDS * 1000),
                    "linger.ms": 0,
                },
            )
        try:
            clients.publish(self._producer, messages, DELIVERY_SECONDS + 5.0)
        except MeterfoldError:
            # A producer that gave up on messages cannot promise their order any more: the next try has its own.
            self._producer = None
            raise

    def _rejected(self, original: Original) -> clients.Outgoing:
        """The bytes as they came; the headers say where they came from and why they do not count."""
        headers = {
            "reason": original.reason,
            "detail": original.detail,
            "topic": self._topics.usage_recorded,
            "partition": str(original.partition),
            "offset": str(original.offset),
        }
        return clients.Outgoing(
            self._topics.usage_rejected,
            original.value,
            original.key,
            original.partition,
            tuple((name, text.encode()) for name, text in headers.items()),
        )
