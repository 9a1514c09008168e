"""The checker's membership in its consumer group: its partitions and their messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.offsets import at
from meterfold_schemas.errors import Retryable
from meterfold_schemas.plurals import plural

__all__ = ["CheckerGroup"]

_LOG = logging.getLogger("meterfold.checker")

_MESSAGES = 200
_CALL_SECONDS = 6.0


class CheckerGroup:
    """For one thread. Assigned partitions are paused, in `to_open`; `lost` is called at once with revoked ones.

    Callbacks run inside of `poll` and `pump` only, so between two polls nothing changes.
    """

    def __init__(self, consumer: Consumer, topic: str, lost: Callable[[list[int]], None]) -> None:
        self._consumer = consumer
        self._topic = topic
        self._lost = lost
        self.assigned: set[int] = set()
        self.to_open: set[int] = set()
        self._held: list[Message] = []

    def join(self) -> None:
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def committed(self, partitions: tuple[int, ...]) -> dict[int, int | None]:
        """The group's offsets. A read_committed consumer asks for stable ones: a transaction that is not decided yet
        is waited for."""
        try:
            found = self._consumer.committed([at(self._topic, p) for p in partitions], _CALL_SECONDS)
        except KafkaException as error:
            raise errors.as_error(error.args[0], "reading committed offsets") from error
        for place in found:
            if place.error is not None:
                raise errors.as_error(place.error, "reading committed offsets")
        return {place.partition: place.offset if place.offset >= 0 else None for place in found}

    def start(self, offsets: Mapping[int, int]) -> None:
        """Read these partitions, if they are still ours, from these offsets."""
        for partition, offset in offsets.items():
            if partition in self.to_open:
                try:
                    self._consumer.seek(at(self._topic, partition, offset))
                    self._consumer.resume([at(self._topic, partition)])
                except KafkaException as error:  # the fetcher of a partition just assigned may not be up yet
                    raise Retryable(f"Kafka, seeking partition {partition}: {error.args[0].str()}") from error
                self._let_go({partition})
                self.to_open.discard(partition)
                _LOG.info("partition %d: judging from offset %d", partition, offset)

    def start_again(self) -> None:
        """Open all assigned partitions again."""
        self._consumer.pause([at(self._topic, partition) for partition in self.assigned])
        self.to_open = set(self.assigned)
        self._held = []

    def poll(self, seconds: float) -> list[Message]:
        """Messages that have arrived; waits for the first one only."""
        messages = self._consumer.consume(1, 0.0 if self._held else seconds)
        if messages:
            messages += self._consumer.consume(_MESSAGES, 0)
        # The callbacks have run by now: messages of revoked partitions are gone.
        held, self._held = self._held, []
        return held + [message for message in messages if self._is_message(message)]

    def pump(self, seconds: float = 0.0) -> None:
        """Stay a member during a long operation. Messages of partitions that are being judged are kept for the next
        poll."""
        messages = self._consumer.consume(1, seconds)
        self._held += [message for message in messages if self._is_message(message)]

    def metadata(self) -> Any:
        """The group metadata, which fences this process once it is no longer a member."""
        return self._consumer.consumer_group_metadata()

    def leave(self) -> None:
        self._consumer.close()

    def _is_message(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return message.partition() in self.assigned
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise Retryable(
                f"partition {message.partition()} of {self._topic}: the next offset was deleted from the log "
                f"({error.str()}); the stored windows are judged instead"
            )
        errors.warn_or_raise(error, _LOG)
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        clients.assign_paused(consumer, self._topic, numbers)
        self.assigned.update(numbers)
        self.to_open.update(numbers)

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(partitions)

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        _LOG.warning(
            "the group gave %s to another checker: this one was away too long", plural(len(partitions), "partition")
        )
        self._drop(partitions)

    def _drop(self, partitions: list[TopicPartition]) -> None:
        numbers = [partition.partition for partition in partitions]
        self.assigned.difference_update(numbers)
        self.to_open.difference_update(numbers)
        self._let_go(set(numbers))
        self._lost(numbers)

    def _let_go(self, partitions: set[int]) -> None:
        self._held = [message for message in self._held if message.partition() not in partitions]
