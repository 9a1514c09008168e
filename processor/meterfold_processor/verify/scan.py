"""Reads parts of topics as a read_committed reader sees them, without a group.

An offset without a message is a transaction's marker, an aborted record, or one that compaction or retention removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message

from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.offsets import at
from meterfold_processor.kafka.reader import Place
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["Place", "Scanner"]

_CHUNK: Final = 10_000
_WAIT: Final = 0.2
#: A transaction that no one ends keeps readers waiting for its timeout, which is shorter.
_STUCK_SECONDS: Final = 60.0
_FETCH: Final[Mapping[str, Any]] = {
    "enable.partition.eof": True,
    "fetch.wait.max.ms": 20,
    "fetch.message.max.bytes": 4_000_000,
    "queued.min.messages": 100_000,
    "queued.max.messages.kbytes": 65_536,
}


class Scanner:
    """For one thread. `positions`: nothing below them was left out by the last `read`."""

    def __init__(self, settings: KafkaSettings) -> None:
        # The group exists in the configuration only.
        self._consumer: Consumer = clients.consumer(settings, "meterfold-verify", "classic", **_FETCH)
        self.positions: dict[Place, int] = {}

    def read(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], *, stop_at_open: bool = False
    ) -> Iterator[list[Message]]:
        """The messages of [starts[place], ends[place]) of each place; each place's in order.

        Where a transaction is still open it is waited for, or with `stop_at_open` reading ends there. Raises Retryable
        or Fatal.
        """
        self.positions = dict(starts)
        left = {place for place, end in ends.items() if self.positions[place] < end}
        if not left:
            return
        self._consumer.assign([at(place.topic, place.partition, self.positions[place]) for place in left])
        moved = time.monotonic()
        while left:
            batch: list[Message] = []
            for message in clients.arrived(self._consumer, _CHUNK, _WAIT):
                place = Place(message.topic() or "", message.partition() or 0)
                offset, error = message.offset(), message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    raise errors.as_error(error, f"reading {place.topic} partition {place.partition}")
                if place not in left or offset is None:
                    continue
                if error is None:
                    if offset < ends[place]:
                        batch.append(message)
                    offset += 1
                elif stop_at_open:
                    left.discard(place)
                if offset > self.positions[place]:
                    self.positions[place], moved = offset, time.monotonic()
                if offset >= ends[place]:
                    left.discard(place)
            if batch:
                yield batch
            if left and time.monotonic() - moved > _STUCK_SECONDS:
                place = min(left)
                raise Retryable(
                    f"Kafka, reading {place.topic} partition {place.partition}: nothing arrives from offset "
                    f"{self.positions[place]} on for {_STUCK_SECONDS:.0f} s"
                )

    def close(self) -> None:
        self._consumer.close()
