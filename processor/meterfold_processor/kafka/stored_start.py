"""A member of a group that begins its partitions where ClickHouse says, not at the offsets of the group.

The stored progress is restored together with the rows that it belongs to, which committed offsets are not. So the
partitions of an assignment are paused until the stored progress was read, and committing only shows the lag.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterfold_processor.backoff import Backoff
from meterfold_processor.kafka import errors
from meterfold_processor.kafka.offsets import at
from meterfold_schemas.errors import Retryable

__all__ = ["Position", "StoredStart", "next_offsets"]

Position = tuple[str, int]
"""(topic, partition)."""


class StoredStart:
    """The partitions of one consumer, for its own thread."""

    def __init__(
        self, consumer: Consumer, log: logging.Logger, on_revoked: Callable[[set[Position]], None] | None = None
    ) -> None:
        """`on_revoked` gets the partitions that this member loses."""
        self._consumer = consumer
        self._log = log
        self._on_revoked = on_revoked
        self._backoff = Backoff()
        self._open_at = 0.0
        self.waiting: set[Position] = set()
        """Assigned partitions that are not read yet."""

    def subscribe(self, topics: list[str]) -> None:
        self._consumer.subscribe(topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)

    def open(
        self,
        stored: Callable[[], Mapping[Position, int]],
        report: Callable[[Retryable | None], None],
        on_opened: Callable[[Position, int], None] = lambda position, offset: None,
    ) -> bool:
        """Read the partitions that wait from the `stored` offsets, or from the beginning where there is none; whether
        some waited and all are read now. `report` gets what is going to be tried again, and None. Raises Fatal."""
        if not self.waiting or time.monotonic() < self._open_at:
            return False
        try:
            offsets = stored()
            for position in sorted(self.waiting):
                offset = offsets.get(position, OFFSET_BEGINNING)
                self._consumer.seek(at(*position, offset))
                self._consumer.resume([at(*position)])
                self.waiting.discard(position)
                on_opened(position, offset)
        except (Retryable, KafkaException) as error:  # the fetcher of a partition just assigned may not be up yet
            trouble = error if isinstance(error, Retryable) else errors.as_error(error.args[0], "seeking")
            if not isinstance(trouble, Retryable):
                raise trouble from error
            report(trouble)
            pause = self._backoff.next()
            self._log.warning("%s; trying again in %.1f s", trouble, pause)
            self._open_at = time.monotonic() + pause
            return False
        report(None)
        self._backoff.reset()
        return True

    def messages(self, consumed: Iterable[Message]) -> list[Message]:
        """Those that are messages. Raises Fatal for an error that cannot pass."""
        return [message for message in consumed if self._is_message(message)]

    def wait(self, error: Retryable, pause: float) -> list[Message]:
        """Before a batch is tried again: poll, which keeps the membership, without reading on. Returns what came from a
        partition that was assigned meanwhile, which is not paused."""
        self._log.warning("%s; trying again in %.1f s", error, pause)
        self._consumer.pause(self._consumer.assignment())
        messages = self.messages(self._consumer.consume(1, pause))
        self._consumer.resume([p for p in self._consumer.assignment() if (p.topic, p.partition) not in self.waiting])
        return messages

    def commit(self, positions: Mapping[Position, int], failing: str) -> None:
        """Show how far the group is. A failed commit is not repeated, since the next one includes it; `failing` is
        logged."""
        try:
            self._consumer.commit(
                offsets=[at(*place, offset) for place, offset in positions.items()], asynchronous=False
            )
        except KafkaException as error:
            self._log.warning("%s: %s", failing, error)

    def _is_message(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            place = at(message.topic() or "", message.partition() or 0, OFFSET_BEGINNING)
            self._log.warning("%s: the offset is not in the log, reading from its start (%s)", place.topic, error.str())
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([place])
            return False
        errors.warn_or_raise(error, self._log)
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Paused, at the beginning. librdkafka looks that offset up later; if its answer undoes our seek, messages are
        only read again."""
        for place in partitions:
            place.offset = OFFSET_BEGINNING
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        self.waiting |= {(place.topic, place.partition) for place in partitions}
        self._open_at = 0.0

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {(place.topic, place.partition) for place in partitions}
        self.waiting -= gone
        if self._on_revoked is not None:
            self._on_revoked(gone)


def next_offsets(messages: list[Message]) -> dict[Position, int]:
    """The offset after the last message of each partition."""
    return {(message.topic() or "", message.partition() or 0): (message.offset() or 0) + 1 for message in messages}
